//! What is worth a line of its own in the log: in a trouble of weeks the same comes thousands of times a day, and the log
//! is on the card as well. Knows what was told when, not what it is about.

use std::time::Duration;

use tokio::time::Instant;

/// A line of the log; where it is no news, one that nobody reads.
macro_rules! tell {
    ($news:expr, $($line:tt)*) => {
        if $news { tracing::warn!($($line)*) } else { tracing::debug!($($line)*) }
    };
}
pub(crate) use tell;

/// The same is told again after this: whoever looks at today's log sees it.
const AGAIN: Duration = Duration::from_secs(3_600);
/// So many different ones are remembered: some that come and go, or take turns.
const REMEMBERED: usize = 8;

/// What has been told within the last hour.
#[derive(Debug, Default)]
pub(crate) struct News {
    told: Vec<(String, Instant)>,
}

impl News {
    /// Whether this has not been told within the last hour. It counts as told from now on.
    pub fn is_news(&mut self, what: String) -> bool {
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
