//! When a station whose hub no longer knows it asks the provisioning service again. A pure state machine:
//! the time is handed in, nothing is done here.
//!
//! The service is shared by a fleet, a refusal may be a passing fault of the hub, and the present assignment
//! is the only one a station has. So: only after ten refusals in a row over ten minutes, on a clock that is
//! not wrong (a wrong clock makes tokens that any hub refuses), then at most hourly, doubling to a day.

use std::time::Duration;

use tokio::time::Instant;

/// So many refusals in a row.
const REFUSALS: u32 = 10;
/// Over at least so long.
const OVER: Duration = Duration::from_secs(600);
/// Between two visits to the service; doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(3_600);
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 3_600);

/// Counts refusals of one identity.
#[derive(Debug, Default)]
pub struct ReturnPolicy {
    row: Option<Row>,
    /// When the service was asked last, and how long to leave it alone from then on.
    visit: Option<(Instant, Duration)>,
}

#[derive(Debug)]
struct Row {
    first: Instant,
    refusals: u32,
}

impl ReturnPolicy {
    /// The hub took the identity: all is well, and the next trouble begins from zero.
    pub fn accepted(&mut self) {
        *self = Self::default();
    }

    /// The hub does not know the identity, or does not take its key, or there is no hub of that name any
    /// more. `clock_is_wrong`: the refusal may be the clock's fault and does not count.
    pub fn refused(&mut self, now: Instant, clock_is_wrong: bool) {
        if clock_is_wrong {
            self.row = None;
            return;
        }
        let row = self.row.get_or_insert(Row { first: now, refusals: 0 });
        row.refusals = row.refusals.saturating_add(1);
    }

    /// Something else happened in between: the identity is known but disabled, or the hub answered in
    /// another way. The row is broken.
    pub fn not_unknown(&mut self) {
        self.row = None;
    }

    /// Whether to ask the service now. Asking is noted with [`ReturnPolicy::asked`].
    pub fn is_due(&self, now: Instant) -> bool {
        let refused_enough = self
            .row
            .as_ref()
            .is_some_and(|row| row.refusals >= REFUSALS && now.duration_since(row.first) >= OVER);
        refused_enough && self.visit.is_none_or(|(last, pause)| now.duration_since(last) >= pause)
    }

    /// The service was asked, whatever it said.
    pub fn asked(&mut self, now: Instant) {
        let pause = self.visit.map_or(FIRST_PAUSE, |(_, pause)| (pause * 2).min(LONGEST_PAUSE));
        self.visit = Some((now, pause));
        self.row = None;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// Refuses once every `every` until the service is due; gives the time that took.
    async fn until_due(policy: &mut ReturnPolicy, every: Duration, limit: Duration) -> Option<Duration> {
        let begin = Instant::now();
        while begin.elapsed() < limit {
            policy.refused(Instant::now(), false);
            if policy.is_due(Instant::now()) {
                return Some(begin.elapsed());
            }
            advance(every).await;
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn ten_refusals_over_ten_minutes_are_needed_both() {
        let mut policy = ReturnPolicy::default();
        // Many, but in nine minutes.
        assert_eq!(until_due(&mut policy, Duration::from_secs(1), 9 * MINUTE).await, None);
        assert_eq!(until_due(&mut policy, Duration::from_secs(1), 2 * MINUTE).await, Some(MINUTE));
        // Few, over hours.
        let mut policy = ReturnPolicy::default();
        assert_eq!(until_due(&mut policy, 20 * MINUTE, 24 * 60 * MINUTE).await, Some(9 * 20 * MINUTE));
    }

    #[tokio::test(start_paused = true)]
    async fn success_disabled_and_a_wrong_clock_break_the_row() {
        let breaks: [fn(&mut ReturnPolicy); 3] =
            [ReturnPolicy::accepted, ReturnPolicy::not_unknown, |policy| {
                policy.refused(Instant::now(), true)
            }];
        for broken in breaks {
            let mut policy = ReturnPolicy::default();
            for _ in 0..30 {
                assert_eq!(until_due(&mut policy, MINUTE, 9 * MINUTE).await, None);
                broken(&mut policy);
                assert!(!policy.is_due(Instant::now()));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_service_is_asked_at_most_hourly_doubling_to_a_day() {
        let mut policy = ReturnPolicy::default();
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let waited = until_due(&mut policy, MINUTE, 48 * 60 * MINUTE).await.unwrap();
            policy.asked(Instant::now());
            pauses.push(waited.as_secs() / 60);
        }
        assert_eq!(pauses, [10, 60, 120, 240, 480, 960, 1440, 1440]);
        // A healthy time in between, and the next trouble begins with ten minutes again.
        policy.accepted();
        assert_eq!(until_due(&mut policy, MINUTE, 60 * MINUTE).await, Some(10 * MINUTE));
    }
}
