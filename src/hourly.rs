//! A line of the log for the same trouble once an hour: in weeks of it the same comes thousands of times a day, and the
//! log is on the card as well. Knows what was told when, not what it is about.

use std::time::Duration;

use tokio::time::Instant;

/// WARN the first time within an hour, DEBUG after that.
macro_rules! warn_hourly {
    ($first:expr, $($line:tt)*) => {
        if $first { tracing::warn!($($line)*) } else { tracing::debug!($($line)*) }
    };
}
pub(crate) use warn_hourly;

/// The same is told again after this: whoever looks at today's log sees it.
const AGAIN: Duration = Duration::from_secs(3_600);
/// Different lines remembered: a few causes may take turns.
const REMEMBERED: usize = 8;

/// What has been told within the last hour.
#[derive(Debug, Default)]
pub(crate) struct Hourly {
    told: Vec<(String, Instant)>,
}

impl Hourly {
    /// Whether this has not been told within the last hour. It counts as told from now on.
    pub fn first_this_hour(&mut self, what: String) -> bool {
        let now = Instant::now();
        self.told.retain(|(_, at)| now - *at < AGAIN);
        if self.told.iter().any(|(told, _)| *told == what) {
            return false;
        }
        if self.told.len() == REMEMBERED {
            self.told.remove(0);
        }
        self.told.push((what, now));
        true
    }

    /// It is over: what comes after this is another trouble.
    pub fn end(&mut self) {
        self.told.clear();
    }
}
