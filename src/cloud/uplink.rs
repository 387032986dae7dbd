//! How much goes at a time over a slow uplink. While a full transfer takes long only one is in flight, because everything
//! else waits behind it. No answer in time halves the size; a quick answer doubles it. Pure.

use std::time::Duration;

/// What was learnt of the uplink, over reconnections too.
#[derive(Debug, Default)]
pub struct Uplink {
    /// Items in a transfer at most, while the usual number is too much.
    items: Option<usize>,
    /// A full transfer takes long, although it is answered in time.
    busy: bool,
}

/// A transfer takes long from this part of the time that one may wait: 7.5 s in the field.
const LONG: u32 = 8;

impl Uplink {
    /// How many items the next transfer may carry.
    pub fn limit(&self, usual: usize) -> usize {
        self.items.map_or(usual, |items| items.min(usual))
    }

    /// Whether one transfer goes at a time.
    pub fn is_slow(&self) -> bool {
        self.items.is_some() || self.busy
    }

    /// A transfer of so many items had no answer in time.
    pub fn too_slow(&mut self, items: usize) {
        self.items = Some((items / 2).max(1));
        self.busy = true;
    }

    /// A transfer of so many items was accepted after it had waited so long; `limit` is how long one may.
    pub fn accepted(&mut self, items: usize, waited: Duration, limit: Duration, usual: usize) {
        #[expect(clippy::cast_precision_loss, reason = "at most a few thousand")]
        let expected = |number: usize| waited.mul_f64(number as f64 / items.max(1) as f64);
        // One that is not full and is answered soon says little of a full one.
        if waited > limit / LONG {
            self.busy = true;
        } else if expected(usual) <= limit / LONG {
            self.busy = false;
        }
        let Some(most) = self.items else { return };
        let grown = most.saturating_mul(2);
        if expected(grown) <= limit * 2 / 3 {
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
            assert_eq!(uplink.limit(USUAL) < USUAL, failures > 0, "{milliseconds} ms a reading");
            assert_eq!(uplink.is_slow(), milliseconds > 1, "{milliseconds} ms a reading");
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
    fn one_transfer_goes_at_a_time_while_a_full_one_takes_long() {
        let mut uplink = Uplink::default();
        let mut is_slow_after = |items, milliseconds| {
            uplink.accepted(items, Duration::from_millis(milliseconds), LIMIT, USUAL);
            assert_eq!(uplink.limit(USUAL), USUAL, "of the same size");
            uplink.is_slow()
        };
        assert!(!is_slow_after(500, 7_500));
        assert!(is_slow_after(500, 7_600));
        // A reading that goes out alone after the backlog.
        assert!(is_slow_after(1, 100));
        assert!(is_slow_after(500, 59_000));
        assert!(!is_slow_after(500, 7_500));
        assert!(!is_slow_after(1, 100), "nor does it make a fast one slow");
        assert!(is_slow_after(1, 8_000));
        assert!(!is_slow_after(100, 1_500));
    }

    #[test]
    fn a_single_reading_says_little_of_hundreds() {
        let mut uplink = Uplink::default();
        uplink.too_slow(500);
        uplink.accepted(1, Duration::from_millis(500), LIMIT, USUAL);
        assert_eq!(uplink.limit(USUAL), 250);
    }
}
