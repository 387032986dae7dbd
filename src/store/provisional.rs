//! Readings of this run that were dated by a clock nobody had synchronised, and that nobody was handed yet: where the
//! clock is then set to another time, they follow it. What was handed out keeps its time, and so do the readings of
//! another run: it may have handed them out.

use super::StoreError;
use super::database::Database;
use super::dating::dated;
use super::pending::{Found, live};
use super::row::{Row, since_boot};
use crate::reading::{Stamp, TimeQuality};

/// Rows in one transaction.
const STEP: usize = 500;
/// A clock that is set by less than this, in milliseconds, is right enough for weather...
const NEAR: i64 = 2_000;
/// ...and one that nobody synchronised drifts by up to 200 ppm (a bad crystal in the cold). Readings from before the
/// drift would only be moved away from their time.
const DRIFT: i64 = 5_000;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Provisional {
    from: u64,
    /// The rows before this one are done, where the clock was set.
    next: u64,
    /// Least and greatest difference between the time of a row and its time since boot, in milliseconds.
    differences: (i64, i64),
}

impl Provisional {
    /// Takes in a row that was just appended or dated.
    fn with(before: Option<Self>, row: &Row) -> Self {
        let difference = row.time.saturating_sub(row.since_boot);
        let mut all = before.unwrap_or(Self {
            from: row.sequence,
            next: row.sequence,
            differences: (difference, difference),
        });
        (all.from, all.next) = (all.from.min(row.sequence), all.next.min(row.sequence));
        let (least, greatest) = all.differences;
        all.differences = (least.min(difference), greatest.max(difference));
        all
    }

    /// Another time is trusted now than the one that dated them.
    fn is_off(&self, now: &Stamp) -> bool {
        let present = difference(now);
        let (least, greatest) = self.differences;
        now.time_quality != TimeQuality::Unknown
            && (present.saturating_sub(least) > NEAR || greatest.saturating_sub(present) > NEAR)
    }
}

impl Database {
    /// Rows that were just appended, or dated.
    pub(super) fn remember_provisional(&mut self, rows: &[Row]) {
        let rows = rows.iter().filter(|row| self.is_provisional(row));
        self.provisional = rows.fold(self.provisional, |all, row| Some(Provisional::with(all, row)));
    }

    fn is_provisional(&self, row: &Row) -> bool {
        row.time_quality == TimeQuality::Unsynchronised.code()
            && row.boot == self.boot.0
            && row.run == self.run
            && row.time >= 0
    }

    /// Somebody has the rows up to this one: their times are final.
    pub(super) fn handed_out(&mut self, upto: u64) {
        let last = self.last_sequence;
        self.provisional = self.provisional.filter(|_| upto < last).map(|provisional| Provisional {
            from: provisional.from.max(upto + 1),
            next: provisional.next.max(upto + 1),
            ..provisional
        });
    }

    /// Rows up to this one wait for [`Database::correct_step`].
    pub(super) fn is_to_be_corrected(&self, upto: u64) -> bool {
        self.to_be_corrected().is_some_and(|first| first <= upto)
    }

    /// The first row that waits for [`Database::correct_step`].
    pub(super) fn to_be_corrected(&self) -> Option<u64> {
        self.provisional.filter(|rows| rows.is_off(&self.timekeeper.stamp())).map(|rows| rows.next)
    }

    /// One step, if the clock was set. Returns true while there is more to do.
    pub fn correct_step(&mut self) -> Result<bool, StoreError> {
        let Some(provisional) = self.provisional else { return Ok(false) };
        let now = self.timekeeper.stamp();
        if !provisional.is_off(&now) {
            return Ok(false);
        }
        let found = live(&self.connection, provisional.next - 1, STEP, &self.run)?;
        let last = found.last().map(Found::sequence);
        let (old, new): (Vec<Row>, Vec<Row>) = found
            .into_iter()
            .filter_map(Found::good)
            .filter(|row| self.is_provisional(row))
            .map(|row| (row.clone(), dated(row, &now)))
            .filter(|(old, new)| (old.time - new.time).abs() > NEAR + age(old, &now) / DRIFT)
            .unzip();
        if !new.is_empty() {
            self.give_times("correct the time of readings", &new, &old, self.progress.clone())?;
            self.newest_rows.clear();
            tracing::info!(
                count = new.len(),
                seconds = new.iter().zip(&old).map(|(new, old)| (new.time - old.time) / 1_000).next(),
                "the clock was set: readings that were not sent yet have their right time now"
            );
        }
        let next = last.filter(|last| *last < self.last_sequence).map(|last| last + 1);
        self.provisional = match next {
            Some(next) => Some(Provisional { next, ..provisional }),
            None if now.time_quality == TimeQuality::Synchronised => None,
            // The hub's time, or a time set by hand: the kernel's may still come.
            None => Some(Provisional {
                next: provisional.from,
                differences: (difference(&now), difference(&now)),
                ..provisional
            }),
        };
        Ok(next.is_some())
    }
}

fn difference(stamp: &Stamp) -> i64 {
    stamp.time.timestamp_millis().saturating_sub(since_boot(stamp))
}

fn age(row: &Row, now: &Stamp) -> i64 {
    since_boot(now).saturating_sub(row.since_boot).max(0)
}
