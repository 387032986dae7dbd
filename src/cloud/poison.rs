//! What to do with a transfer that the hub rejects for what is in it: halve it until one reading is left, set that
//! one aside, and stop doing so when it looks as if the hub rejects everything. Pure.

use crate::store::Position;

/// This many single rejections in a row with one condition are no accident of three readings.
const MOST_IN_A_ROW: u32 = 3;

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Send the same again in smaller parts.
    Split,
    /// One reading (or event) is left: set it aside.
    SetAside,
    /// Too many in a row: keep everything and try again slowly.
    Stop,
}

/// The memory of rejections, over reconnections too.
#[derive(Debug, Default)]
pub struct Suspicion {
    /// Items in a transfer at most, while a rejected one is being taken apart.
    size: Option<usize>,
    condition: String,
    in_a_row: u32,
    /// The reading that was rejected last.
    at: Option<Position>,
}

impl Suspicion {
    /// How many items the next transfer may carry: all, unless a rejected one is being taken apart.
    pub fn limit(&self, usual: usize) -> usize {
        self.size.map_or(usual, |size| size.min(usual))
    }

    /// While a rejected transfer is being taken apart, one goes at a time.
    pub fn is_careful(&self) -> bool {
        self.size.is_some()
    }

    /// A transfer was accepted: the size doubles again until it is the usual one.
    pub fn accepted(&mut self, items: usize, usual: usize) {
        // Whatever it was, the hub does not reject everything.
        (self.in_a_row, self.at) = (0, None);
        if self.size.is_some_and(|size| items > size) {
            // It was on its way before the rejection, or goes together whatever its size: it says nothing of what was
            // rejected.
            return;
        }
        if let Some(size) = self.size {
            let grown = size.saturating_mul(2);
            self.size = (grown < usual).then_some(grown);
        }
    }

    /// One of several transfers on their way cannot be taken, and nobody says which: from now on they go one by one.
    pub fn one_by_one(&mut self) {
        self.size = Some(1);
    }

    /// A transfer of `items` that ends with the reading `at` was rejected.
    pub fn rejected(&mut self, items: usize, condition: &str, at: Position) -> Verdict {
        if items > 1 {
            self.size = Some(items.div_ceil(2));
            return Verdict::Split;
        }
        self.size = Some(1);
        if self.condition != condition {
            condition.clone_into(&mut self.condition);
            (self.in_a_row, self.at) = (0, None);
        }
        // The same one again could not be set aside yet: it counts once.
        if self.at.replace(at) != Some(at) {
            self.in_a_row = self.in_a_row.saturating_add(1);
        }
        if self.in_a_row >= MOST_IN_A_ROW { Verdict::Stop } else { Verdict::SetAside }
    }
}

/// The same for events. There are few of them, so a single one is dropped only when the hub takes readings meanwhile:
/// then it is the event that is wrong, and not the hub.
#[derive(Debug, Default)]
pub struct EventSuspicion {
    size: Option<usize>,
    doubt: Doubt,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Doubt {
    #[default]
    None,
    /// A single event was rejected: no event goes before a reading was accepted.
    Raised,
    /// A reading was accepted after that.
    Founded,
}

impl EventSuspicion {
    pub fn limit(&self, usual: usize) -> usize {
        self.size.map_or(usual, |size| size.min(usual))
    }

    pub fn waits_for_readings(&self) -> bool {
        self.doubt == Doubt::Raised
    }

    /// The hub has accepted readings.
    pub fn readings_pass(&mut self) {
        if self.doubt == Doubt::Raised {
            self.doubt = Doubt::Founded;
        }
    }

    /// A transfer of so many events was rejected.
    pub fn rejected(&mut self, events: usize) -> Verdict {
        if events > 1 {
            self.size = Some(events.div_ceil(2));
            return Verdict::Split;
        }
        self.size = Some(1);
        if self.doubt == Doubt::Founded {
            *self = Self::default();
            return Verdict::SetAside;
        }
        self.doubt = Doubt::Raised;
        Verdict::Split
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(row: u32) -> Position {
        Position { generation: 1, row: row.into() }
    }

    /// Plays a hub that refuses the readings for which `bad` says so; returns what was set aside, and how many
    /// transfers it took.
    fn play(readings: u32, bad: impl Fn(u32) -> bool) -> (Vec<u32>, usize) {
        let mut suspicion = Suspicion::default();
        let (mut from, mut aside, mut transfers) = (0, Vec::new(), 0);
        while from < readings && transfers < 10_000 {
            transfers += 1;
            let items = suspicion.limit(500).min((readings - from) as usize);
            let until = from + u32::try_from(items).unwrap();
            if (from..until).any(&bad) {
                match suspicion.rejected(items, "amqp:decode-error", at(from)) {
                    Verdict::Split => {}
                    Verdict::SetAside => {
                        aside.push(from);
                        from += 1;
                    }
                    Verdict::Stop => break,
                }
            } else {
                suspicion.accepted(items, 500);
                from = until;
            }
        }
        (aside, transfers)
    }

    #[test]
    fn one_poisonous_reading_is_found_in_a_few_transfers() {
        for poison in [0, 1, 137, 250, 499, 733, 1999] {
            let (aside, transfers) = play(2000, |n| n == poison);
            assert_eq!(aside, [poison]);
            assert!(transfers < 40, "{transfers} transfers for {poison}");
        }
    }

    #[test]
    fn several_poisonous_readings_are_each_set_aside() {
        let bad = |n| n % 600 == 77;
        assert_eq!(play(3000, bad).0, [77, 677, 1277, 1877, 2477]);
    }

    #[test]
    fn a_hub_that_rejects_everything_gets_two_readings_and_no_more() {
        assert_eq!(play(2000, |_| true).0, [0, 1]);
    }

    #[test]
    fn an_event_is_dropped_only_when_readings_are_taken_meanwhile() {
        let mut suspicion = EventSuspicion::default();
        assert_eq!(suspicion.rejected(4), Verdict::Split);
        assert_eq!((suspicion.limit(50), suspicion.waits_for_readings()), (2, false));
        assert_eq!(suspicion.rejected(1), Verdict::Split);
        assert!(suspicion.waits_for_readings());
        assert_eq!(suspicion.rejected(1), Verdict::Split);
        suspicion.readings_pass();
        assert!(!suspicion.waits_for_readings());
        assert_eq!(suspicion.rejected(1), Verdict::SetAside);
        assert_eq!(suspicion.limit(50), 50);
    }

    #[test]
    fn another_condition_starts_the_count_anew() {
        let mut suspicion = Suspicion::default();
        assert_eq!(suspicion.rejected(1, "a", at(1)), Verdict::SetAside);
        assert_eq!(suspicion.rejected(1, "a", at(2)), Verdict::SetAside);
        assert_eq!(suspicion.rejected(1, "b", at(3)), Verdict::SetAside);
        assert_eq!(suspicion.rejected(1, "b", at(4)), Verdict::SetAside);
        assert_eq!(suspicion.rejected(1, "b", at(5)), Verdict::Stop);
        suspicion.accepted(1, 500);
        assert_eq!(suspicion.rejected(1, "b", at(6)), Verdict::SetAside);
    }

    #[test]
    fn a_message_that_went_together_before_shows_that_the_hub_takes_some() {
        let mut suspicion = Suspicion::default();
        for row in [1, 12, 23, 34] {
            assert_eq!(suspicion.rejected(1, "a", at(row)), Verdict::SetAside);
            suspicion.accepted(10, 500);
            assert_eq!(suspicion.limit(500), 1);
        }
    }

    #[test]
    fn a_reading_that_cannot_be_set_aside_yet_counts_once() {
        let mut suspicion = Suspicion::default();
        for _ in 0..10 {
            assert_eq!(suspicion.rejected(1, "a", at(7)), Verdict::SetAside);
        }
        assert_eq!(suspicion.rejected(1, "a", at(8)), Verdict::SetAside);
        assert_eq!(suspicion.rejected(1, "a", at(9)), Verdict::Stop);
        assert_eq!(suspicion.rejected(1, "a", at(9)), Verdict::Stop);
    }
}
