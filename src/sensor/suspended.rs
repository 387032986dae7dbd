//! How many due times a suspend of the machine has cost: the monotonic clock stands still meanwhile, the boot clock does
//! not. Pure: both are parameters.

use std::time::Duration;

use tokio::time::Instant;

/// Both clocks at one moment, and what was counted since. From one moment on, and not from turn to turn: what passes
/// between the readings of two clocks would add up.
#[derive(Debug)]
pub struct Suspended {
    begun: Instant,
    since_boot: Duration,
    counted: u128,
}

impl Suspended {
    pub fn begin(now: Instant, since_boot: Duration) -> Self {
        Self { begun: now, since_boot, counted: 0 }
    }

    /// Whole intervals slept through that were not told before. `interval` is the same until it is begun anew.
    pub fn slept_through(&mut self, interval: Duration, now: Instant, since_boot: Duration) -> u64 {
        let passed = since_boot.saturating_sub(self.since_boot);
        let asleep = passed.saturating_sub(now - self.begun);
        let slept_through = asleep.as_nanos() / interval.as_nanos().max(1);
        let more = slept_through.saturating_sub(self.counted);
        self.counted += more;
        u64::try_from(more).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn what_passes_between_two_clocks_never_becomes_a_suspend() {
        let begun = Instant::now();
        let mut suspended = Suspended::begin(begun, SECOND);
        let mut random = fastrand::Rng::with_seed(1);
        for turn in 1..100_000 {
            let late = Duration::from_micros(random.u64(..2_000));
            assert_eq!(suspended.slept_through(SECOND, begun + turn * SECOND, (turn + 1) * SECOND + late), 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_interval_is_told_once_and_short_suspends_add_up() {
        let begun = Instant::now();
        let mut suspended = Suspended::begin(begun, Duration::ZERO);
        assert_eq!(suspended.slept_through(60 * SECOND, begun + SECOND, 40 * SECOND), 0);
        assert_eq!(suspended.slept_through(60 * SECOND, begun + 2 * SECOND, 80 * SECOND), 1);
        assert_eq!(suspended.slept_through(60 * SECOND, begun + 3 * SECOND, 80 * SECOND), 0);
        assert_eq!(suspended.slept_through(60 * SECOND, begun + 3 * SECOND, 3_683 * SECOND), 60);
    }
}
