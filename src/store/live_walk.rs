//! A walk over the rows of this store that are to be sent next: which can go, which are damaged, which are missing, and
//! where it has to wait. Pure: knows rows and numbers, no table.

use super::StoreError;
use super::gaps::{Gap, Known};
use super::pending::Found;
use super::row::Row;

/// See the module.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    known: &'a Known,
    /// What cannot be found up to here is gone; above it, it may be there all the same.
    sound_upto: u64,
    /// The last sequence that was looked at.
    pub end: u64,
    /// The last time that is known.
    before: Option<i64>,
    pub rows: Vec<Row>,
    pub missing: Vec<Gap>,
    pub damaged: Vec<Gap>,
    /// A row above `sound_upto` cannot be found.
    pub doubts: bool,
}

impl<'a> Walk<'a> {
    pub fn after(start: u64, known: &'a Known, sound_upto: u64) -> Self {
        let (rows, missing, damaged) = (Vec::new(), Vec::new(), Vec::new());
        Self { known, sound_upto, end: start, before: None, rows, missing, damaged, doubts: false }
    }

    /// Up to the first one that waits, or before which one cannot be found and is not known to be gone: false then.
    pub fn over(&mut self, rows: Vec<Found>, waits: impl Fn(&Row) -> bool) -> Result<bool, StoreError> {
        for found in rows {
            let sequence = found.sequence();
            if sequence <= self.end {
                return Err(StoreError::Damaged { what: "readings come out of order".into() });
            }
            let time = if let Found::Good(row) = &found { row.known_time() } else { None };
            if !self.pass_over(sequence - 1, time) {
                return Ok(false);
            }
            match found {
                Found::Good(row) if waits(&row) => return Ok(false),
                Found::Good(row) => {
                    self.before = time.or(self.before);
                    self.rows.push(row);
                }
                Found::Damaged { .. } => self.damaged.push(Gap::only(sequence, self.before)),
            }
            self.end = sequence;
        }
        Ok(true)
    }

    /// There are no more, though the newest one was this.
    pub fn to(&mut self, newest: u64) {
        self.pass_over(newest, None);
    }

    /// Up to `last`, where there is nothing: it is missing, and told, unless that is known. False: it may be there.
    fn pass_over(&mut self, last: u64, until: Option<i64>) -> bool {
        let unknown = self.known.unknown_in(self.end + 1, last);
        if unknown.last().is_some_and(|(_, last)| *last > self.sound_upto) {
            self.doubts = true;
            return false;
        }
        let from = self.before;
        self.missing.extend(unknown.into_iter().map(|(first, last)| Gap { first, last, from, until }));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(sequences: &[u64]) -> Vec<Found> {
        sequences.iter().map(|sequence| Found::Good(Row::example(*sequence))).collect()
    }

    fn stretches(gaps: &[Gap]) -> Vec<(u64, u64)> {
        gaps.iter().map(|gap| (gap.first, gap.last)).collect()
    }

    #[test]
    fn what_is_missing_is_told_where_the_file_is_sound_and_waits_for_its_check_above() {
        let mut known = Known::default();
        known.add(4, 5);
        let mut walk = Walk::after(2, &known, 8);
        let mut found = rows(&[6, 9]);
        found.insert(1, Found::Damaged { sequence: 7 });
        assert!(walk.over(found, |_| false).unwrap());
        assert_eq!(
            (stretches(&walk.missing), stretches(&walk.damaged)),
            (vec![(3, 3), (8, 8)], vec![(7, 7)])
        );
        assert!(!walk.over(rows(&[11]), |_| false).unwrap());
        assert_eq!((walk.end, walk.doubts, walk.rows.len()), (9, true, 2));
    }

    #[test]
    fn nothing_goes_before_one_that_waits_and_none_goes_twice() {
        let known = Known::default();
        let mut walk = Walk::after(0, &known, 0);
        assert!(!walk.over(rows(&[1, 2, 3]), |row| row.sequence == 2).unwrap());
        assert_eq!((walk.end, walk.rows.len(), walk.doubts), (1, 1, false));
        walk.to(1);
        assert!(!walk.doubts, "nothing is missing");
        assert!(walk.over(rows(&[1]), |_| false).is_err());
    }
}
