//! When the next sample is due, on the monotonic clock: multiples of the interval from the start, so nothing adds up
//! and nothing drifts. A due time that has passed is passed over and counted, never made up for: no burst.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// The due times of samples.
#[derive(Debug)]
pub struct Schedule {
    interval: Duration,
    due: Instant,
}

impl Schedule {
    /// The first sample is due now.
    pub fn new(interval: Duration, now: Instant) -> Self {
        Self { interval, due: now }
    }

    /// The next sample is due then.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// The due sample has been dealt with. Returns how many more fell due meanwhile and are passed over.
    pub fn advance(&mut self, now: Instant) -> u64 {
        self.due += self.interval;
        let behind = now.saturating_duration_since(self.due);
        if behind.is_zero() {
            return 0;
        }
        let passed = behind.as_nanos().div_ceil(self.interval.as_nanos());
        self.due += self.interval * u32::try_from(passed).unwrap_or(u32::MAX);
        passed as u64
    }

    /// The next sample comes one new interval after the last one, or at once if that has passed.
    pub fn set_interval(&mut self, interval: Duration, now: Instant) {
        let last = self.due.checked_sub(self.interval).unwrap_or(now);
        self.due = (last + interval).max(now);
        self.interval = interval;
    }
}

/// How late the last samples began.
#[derive(Debug, Default)]
pub struct Jitter {
    last: VecDeque<Duration>,
}

impl Jitter {
    const KEPT: usize = 120;

    pub fn add(&mut self, late: Duration) {
        if self.last.len() == Self::KEPT {
            self.last.pop_front();
        }
        self.last.push_back(late);
    }

    /// Median and worst of the last samples, in milliseconds.
    pub fn milliseconds(&self) -> (f64, f64) {
        let mut late: Vec<Duration> = self.last.iter().copied().collect();
        if late.is_empty() {
            return (0.0, 0.0);
        }
        let middle = late.len() / 2;
        let (_, median, later) = late.select_nth_unstable(middle);
        let worst = later.iter().max().unwrap_or(median).as_secs_f64();
        (rounded(median.as_secs_f64()), rounded(worst))
    }
}

fn rounded(seconds: f64) -> f64 {
    (seconds * 1e5).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn due_times_are_multiples_of_the_interval_however_late_the_samples_are() {
        let start = Instant::now();
        let mut schedule = Schedule::new(60 * SECOND, start);
        for sample in 1..=1440 {
            let late = Duration::from_millis(sample * 7 % 900);
            assert_eq!(schedule.advance(schedule.due() + late), 0);
            assert_eq!(schedule.due(), start + 60 * SECOND * sample as u32);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn due_times_that_have_passed_are_counted_and_not_made_up_for() {
        let start = Instant::now();
        let mut schedule = Schedule::new(10 * SECOND, start);
        assert_eq!(schedule.advance(start + 35 * SECOND), 3);
        assert_eq!(schedule.due(), start + 40 * SECOND);
        assert_eq!(schedule.advance(start + 50 * SECOND), 0, "due just now, so not passed");
        assert_eq!(schedule.due(), start + 50 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn another_interval_counts_from_the_last_sample() {
        let start = Instant::now();
        let mut schedule = Schedule::new(60 * SECOND, start);
        schedule.advance(start);
        schedule.set_interval(10 * SECOND, start + 5 * SECOND);
        assert_eq!(schedule.due(), start + 10 * SECOND);
        schedule.set_interval(60 * SECOND, start + 5 * SECOND);
        assert_eq!(schedule.due(), start + 60 * SECOND);
        schedule.set_interval(SECOND, start + 30 * SECOND);
        assert_eq!(schedule.due(), start + 30 * SECOND);
    }

    #[test]
    fn jitter_is_the_median_and_the_worst_of_the_last_samples() {
        let mut jitter = Jitter::default();
        assert_eq!(jitter.milliseconds(), (0.0, 0.0));
        jitter.add(Duration::from_secs(9));
        for late in 1..=Jitter::KEPT as u64 {
            jitter.add(Duration::from_millis(late));
        }
        assert_eq!(jitter.milliseconds(), (61.0, 120.0));
    }
}
