//! What the log is told of the store's trouble: each kind once an hour, and its end. The log may be on the card that is
//! full or failing.

use std::time::Duration;

use tokio::time::Instant;

use crate::hourly::Hourly;

/// A store that has worked this long is well: the next failure is a new one.
const WELL: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Told {
    reasons: Hourly,
    /// The log says that the store does not work.
    open: bool,
    well_since: Option<Instant>,
}

impl Told {
    /// Whether the log is told that the store does not work for this reason.
    pub fn fails(&mut self, reason: &str) -> bool {
        let first = self.first_this_hour(reason);
        self.open |= first;
        first
    }

    /// Whether the log is told of something that was put right.
    pub fn first_this_hour(&mut self, what: &str) -> bool {
        if self.well_since.take().is_some_and(|since| since.elapsed() >= WELL) {
            self.reasons.end();
        }
        self.reasons.first_this_hour(what.to_owned())
    }

    /// The trouble is over. Whether the log is told.
    pub fn works(&mut self) -> bool {
        self.well_since = Some(Instant::now());
        std::mem::take(&mut self.open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn pass(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn reasons_that_take_turns_are_told_once_an_hour() {
        let mut told = Told::default();
        let mut lines = 0;
        // A day of a full disk: append and prune fail in turn.
        for _ in 0..86_400 / 5 {
            lines += u32::from(told.fails("could not append: full"));
            lines += u32::from(told.fails("could not prune: full"));
            pass(5).await;
        }
        assert_eq!(lines, 48);
        assert!(told.works());
        assert!(!told.works(), "once");
    }

    #[tokio::test(start_paused = true)]
    async fn what_works_for_a_moment_is_not_well_and_a_trouble_after_a_good_time_is_another_one() {
        let mut told = Told::default();
        assert!(told.fails("full"));
        assert!(told.works());
        pass(5).await;
        assert!(!told.fails("full"));
        assert!(!told.works(), "of what was not told no end is told");
        pass(61).await;
        assert!(told.fails("full"));
        assert!(told.works());
    }
}
