//! How much goes at a time over an uplink that is slow: half of what had no answer in time, one transfer after the
//! other, and twice as much again where that would be answered in good time. Pure.

use std::time::Duration;

/// What was learnt of the uplink, over reconnections too.
#[derive(Debug, Default)]
pub struct Uplink {
    /// Items in a transfer at most, while the usual number is too much.
    items: Option<usize>,
}

impl Uplink {
    /// How many items the next transfer may carry.
    pub fn limit(&self, usual: usize) -> usize {
        self.items.map_or(usual, |items| items.min(usual))
    }

    /// While the usual number is too much, one transfer goes at a time.
    pub fn is_slow(&self) -> bool {
        self.items.is_some()
    }

    /// A transfer of so many items had no answer in time.
    pub fn too_slow(&mut self, items: usize) {
        self.items = Some((items / 2).max(1));
    }

    /// A transfer of so many items was accepted after it had waited so long; `limit` is how long one may.
    pub fn accepted(&mut self, items: usize, waited: Duration, limit: Duration, usual: usize) {
        let Some(most) = self.items else { return };
        let grown = most.saturating_mul(2);
        #[expect(clippy::cast_precision_loss, reason = "at most a few thousand")]
        let expected = waited.mul_f64(grown as f64 / items.max(1) as f64);
        if expected <= limit * 2 / 3 {
            self.items = (grown < usual).then_some(grown);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);
    const USUAL: usize = 500;

    /// Sends `readings` over an uplink that takes so long for one; returns how often none was answered in time.
    fn play(uplink: &mut Uplink, readings: usize, each: Duration) -> usize {
        let (mut left, mut failures) = (readings, 0);
        while left > 0 && failures < 100 {
            let items = uplink.limit(USUAL).min(left);
            let takes = each * u32::try_from(items).unwrap();
            if takes > LIMIT {
                uplink.too_slow(items);
                failures += 1;
            } else {
                uplink.accepted(items, takes, LIMIT, USUAL);
                left -= items;
            }
        }
        failures
    }

    #[test]
    fn whatever_moves_bytes_drains_a_backlog_after_a_few_failures() {
        for (milliseconds, failures) in [(1, 0), (119, 0), (121, 1), (300, 2), (3_000, 5), (59_000, 8)] {
            let mut uplink = Uplink::default();
            assert_eq!(play(&mut uplink, 10_000, Duration::from_millis(milliseconds)), failures);
            assert_eq!(uplink.is_slow(), failures > 0, "{milliseconds} ms a reading");
        }
    }

    #[test]
    fn an_uplink_that_is_fast_again_gets_all() {
        let mut uplink = Uplink::default();
        play(&mut uplink, 1_000, Duration::from_secs(30));
        assert!(uplink.limit(USUAL) <= 2);
        assert_eq!(play(&mut uplink, 1_000, Duration::from_millis(10)), 0);
        assert!(!uplink.is_slow());
    }

    #[test]
    fn a_single_reading_says_little_of_hundreds() {
        let mut uplink = Uplink::default();
        uplink.too_slow(500);
        uplink.accepted(1, Duration::from_millis(500), LIMIT, USUAL);
        assert_eq!(uplink.limit(USUAL), 250);
    }
}
