//! How long to wait before the next attempt: full jitter between a floor and a ceiling that doubles, reset by a success,
//! or by a connection that lived a minute. Pure: time comes in as durations, randomness from a seed.

use std::time::Duration;

/// Never more than one attempt a second, whatever happened.
pub const LEAST: Duration = Duration::from_secs(1);

/// How long a connection must have lived before its loss counts as the first failure again.
pub const HEALTHY: Duration = Duration::from_secs(60);

/// Bounds of one kind of waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// No wait is shorter.
    pub floor: Duration,
    /// The ceiling of the first wait; it doubles with each failure in a row.
    pub first: Duration,
    /// The ceiling stops here.
    pub cap: Duration,
}

impl Range {
    /// Seconds.
    pub const fn seconds(floor: u64, first: u64, cap: u64) -> Self {
        Self {
            floor: Duration::from_secs(floor),
            first: Duration::from_secs(first),
            cap: Duration::from_secs(cap),
        }
    }
}

/// Counts failures in a row and says how long to wait.
#[derive(Debug)]
pub struct Backoff {
    failures: u32,
    random: fastrand::Rng,
}

impl Backoff {
    /// A thousand stations with a thousand seeds come back spread over the range.
    pub fn new(seed: u64) -> Self {
        Self { failures: 0, random: fastrand::Rng::with_seed(seed) }
    }

    /// The wait after one more failure: uniform between the floor and the ceiling of this step.
    pub fn after_failure(&mut self, range: Range) -> Duration {
        let ceiling = range.first.saturating_mul(1 << self.failures.min(16)).min(range.cap);
        self.failures = self.failures.saturating_add(1);
        let floor = range.floor.max(LEAST);
        floor + ceiling.saturating_sub(floor).mul_f64(self.random.f64())
    }

    /// A connection that was up for `lived` has ended. A short life does not forgive the failures before it:
    /// a hub that accepts and drops at once is asked less and less often.
    pub fn after_connection(&mut self, lived: Duration) {
        if lived >= HEALTHY {
            self.reset();
        }
    }

    /// It worked: the next failure counts as the first again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETWORK: Range = Range::seconds(1, 2, 60);

    #[test]
    fn every_wait_lies_between_one_second_and_the_cap() {
        for seed in 0..200 {
            let mut backoff = Backoff::new(seed);
            for failure in 0..40 {
                let wait = backoff.after_failure(NETWORK);
                let ceiling = Duration::from_secs(2).saturating_mul(1 << failure.min(16)).min(NETWORK.cap);
                assert!(wait >= LEAST && wait <= ceiling.max(LEAST), "failure {failure}: {wait:?}");
            }
        }
    }

    #[test]
    fn the_jitter_is_full() {
        let mut backoff = Backoff::new(7);
        (0..10).for_each(|_| _ = backoff.after_failure(NETWORK));
        let waits: Vec<_> = (0..1000).map(|_| backoff.after_failure(NETWORK).as_secs_f64()).collect();
        let (low, high) = waits.iter().fold((60.0_f64, 0.0_f64), |(l, h), w| (l.min(*w), h.max(*w)));
        assert!(low < 2.0 && high > 59.0, "from {low} to {high}");
        let mean = waits.iter().sum::<f64>() / 1000.0;
        assert!((28.0..33.0).contains(&mean), "mean {mean}");
    }

    #[test]
    fn only_a_healthy_minute_resets_it() {
        let mut backoff = Backoff::new(1);
        (0..8).for_each(|_| _ = backoff.after_failure(NETWORK));
        backoff.after_connection(Duration::from_secs(59));
        assert_eq!(backoff.failures(), 8);
        backoff.after_connection(HEALTHY);
        assert_eq!(backoff.failures(), 0);
        assert!(backoff.after_failure(NETWORK) <= Duration::from_secs(2));
    }
}
