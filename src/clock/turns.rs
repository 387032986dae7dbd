//! When loops turn that have nothing to do: at the same instants, so that the process wakes once for all of them. What
//! a loop then does costs less than the waking. Knows no loop.

use std::time::Duration;

use tokio::time::Instant;

/// The common instants: whole turns since the station began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turns {
    begun: Instant,
}

impl Turns {
    pub fn begin() -> Self {
        Self { begun: Instant::now() }
    }

    /// The end of a loop's turn: what is `due` within `longest`, or else the next common instant.
    pub fn end(self, longest: Duration, due: Option<Instant>) -> Instant {
        let now = Instant::now();
        due.filter(|due| *due <= now + longest).unwrap_or_else(|| self.next(now, longest))
    }

    /// The first common instant later than `after`, at most one turn later.
    pub fn next(self, after: Instant, longest: Duration) -> Instant {
        let turn = longest.max(Duration::from_millis(1));
        let into_turn = after.saturating_duration_since(self.begun).as_nanos() % turn.as_nanos();
        after + turn - Duration::from_nanos(u64::try_from(into_turn).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TURN: Duration = Duration::from_secs(5);

    async fn pass(milliseconds: u64) {
        tokio::time::advance(Duration::from_millis(milliseconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn loops_that_begin_at_different_times_turn_at_the_same() {
        let turns = Turns::begin();
        let first = turns.end(TURN, None);
        pass(1_234).await;
        assert_eq!(turns.end(TURN, None), first);
        pass(3_766).await;
        // At the instant itself the next one is meant: a loop never spins.
        assert_eq!(turns.end(TURN, None), first + TURN);
        assert_eq!(turns.next(Instant::now() + TURN, TURN), first + 2 * TURN);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_due_within_a_turn_is_waited_for_and_what_is_later_does_not_make_the_turn_longer() {
        let turns = Turns::begin();
        let start = Instant::now();
        pass(4_000).await;
        let due = start + Duration::from_secs(9);
        assert_eq!(turns.end(TURN, Some(due)), due);
        let due = due + Duration::from_millis(1);
        assert_eq!(turns.end(TURN, Some(due)), start + TURN);
    }
}
