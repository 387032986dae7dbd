//! Readings of this run that were dated by a clock nobody had synchronised, and that nobody was handed yet: where the
//! clock is then set to another time, they follow it. What was handed out keeps its time, and so do the readings of
//! another run: it may have handed them out.

use std::collections::BTreeSet;
use std::sync::Arc;

use rusqlite::Connection;

use super::StoreError;
use super::database::Database;
use super::pending::{Found, live};
use super::redate::{dated, write_times};
use super::rollups::{self, Level, Rollup};
use super::row::Row;
use crate::reading::{Stamp, TimeQuality};

/// Rows in one transaction.
const STEP: usize = 500;
/// Sequences between which a bucket is read to be made anew, at most.
const FAR: u64 = 20_000;
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
    /// Takes in a row that was just appended.
    pub fn with(before: Option<Self>, row: &Row) -> Self {
        let difference = row.time.saturating_sub(row.since_boot);
        let begun = Self { from: row.sequence, next: row.sequence, differences: (difference, difference) };
        let Self { differences: (least, greatest), .. } = before.unwrap_or(begun);
        let differences = (least.min(difference), greatest.max(difference));
        Self { differences, ..before.unwrap_or(begun) }
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
    /// Rows that were just appended.
    pub(super) fn remember_provisional(&mut self, rows: &[Row]) {
        let is_provisional = |row: &&Row| {
            row.time_quality == TimeQuality::Unsynchronised.code()
                && row.boot == self.boot.0
                && row.run == self.run
                && row.time >= 0
        };
        self.provisional = rows
            .iter()
            .filter(is_provisional)
            .fold(self.provisional, |all, row| Some(Provisional::with(all, row)));
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
        self.provisional.is_some_and(|rows| rows.next <= upto && rows.is_off(&self.timekeeper.stamp()))
    }

    /// One step, if the clock was set. Returns true while there is more to do.
    pub fn correct_step(&mut self) -> Result<bool, StoreError> {
        let now = self.timekeeper.stamp();
        let Some(provisional) = self.provisional.filter(|rows| rows.is_off(&now)) else { return Ok(false) };
        let found = live(&self.connection, provisional.next - 1, STEP, &self.run)?;
        let last =
            found.last().map(|(Found::Good(Row { sequence, .. }) | Found::Damaged { sequence })| *sequence);
        let (old, new): (Vec<Row>, Vec<Row>) = found
            .into_iter()
            .filter_map(|found| match found {
                Found::Good(row) => Some(row),
                Found::Damaged { .. } => None,
            })
            .filter(|row| row.boot == self.boot.0 && row.run == self.run)
            .filter(|row| row.time_quality == TimeQuality::Unsynchronised.code())
            .map(|row| (row.clone(), dated(row, &now)))
            .filter(|(old, new)| (old.time - new.time).abs() > NEAR + age(old, &now) / DRIFT)
            .unzip();
        let mut progress = self.progress.clone();
        let mut current = self.current;
        if !new.is_empty() {
            let run = self.run.clone();
            progress.rolled_up = self.last_sequence;
            self.transaction("correct the time of readings", |connection| {
                rollups::flush(connection, &mut current)?;
                write_times(connection, &new)?;
                take_out(connection, &old, &run)?;
                rollups::add_late(connection, &new)?;
                progress.write(connection)
            })?;
            self.newest_rows.clear();
            self.progress = progress;
            self.current = current;
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

fn since_boot(stamp: &Stamp) -> i64 {
    i64::try_from(stamp.since_boot.as_millis()).unwrap_or(i64::MAX)
}

/// Makes the buckets anew that these rows were in. One in which readings of an older store are, or whose readings lie
/// far apart, cannot be taken apart: it stays as it is.
fn take_out(connection: &Connection, rows: &[Row], run: &Arc<str>) -> Result<(), StoreError> {
    let starts: BTreeSet<i64> = rows.iter().map(|row| Level::FiveMinutes.start(row.time)).collect();
    for start in &starts {
        let id = Level::FiveMinutes.id(*start);
        let Some(old) = rollups::stored_at(connection, id)? else { continue };
        if old.first == 0 || old.last - old.first > FAR {
            continue;
        }
        match stayed(connection, &old, run)? {
            Some(bucket) => rollups::write(connection, id, &bucket)?,
            None => rollups::remove(connection, id)?,
        }
    }
    for level in [Level::Hour, Level::Day] {
        for unit in starts.iter().map(|start| level.start(*start)).collect::<BTreeSet<i64>>() {
            rollups::remove(connection, level.id(unit))?;
            rollups::remake(connection, level, unit)?;
        }
    }
    Ok(())
}

/// The bucket without those that have another time now; none when it is empty.
fn stayed(connection: &Connection, old: &Rollup, run: &Arc<str>) -> Result<Option<Rollup>, StoreError> {
    let mut bucket: Option<Rollup> = None;
    let mut after = old.first.saturating_sub(1);
    while after < old.last {
        let found = live(connection, after, STEP, run)?;
        if found.is_empty() {
            break;
        }
        for found in found {
            let (Found::Good(Row { sequence, .. }) | Found::Damaged { sequence }) = &found;
            after = *sequence;
            let Found::Good(row) = found else { continue };
            let known = row.time_quality != TimeQuality::Unknown.code();
            if row.sequence <= old.last && known && Level::FiveMinutes.start(row.time) == old.start {
                let part = Rollup::of(old.start, &row);
                bucket = Some(bucket.map_or(part, |mut bucket| {
                    bucket.add(&part);
                    bucket
                }));
            }
        }
    }
    Ok(bucket)
}
