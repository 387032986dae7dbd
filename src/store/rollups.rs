//! Closed buckets of the charts: five minutes, an hour, a day, each written when the station leaves it. Knows how
//! they are made and kept; what is asked of them is `history`'s.
//!
//! The bucket in which the station is lives in memory. It is written in the transaction of the reading that opens
//! the next one, together with `progress.rolled_up`; after a crash the readings above that are fed in again, so
//! none is missing and none is counted twice. A clock that steps back reopens a bucket: it is added to.

use rusqlite::Connection;

use super::StoreError;
use super::fold::Fold;
use super::progress::Progress;
use super::rollup_rows::{each_between, stored_at, write};
use super::row::Row;
use crate::reading::TimeQuality;

/// A length of buckets; the number is part of a row's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    FiveMinutes = 1,
    Hour = 2,
    Day = 3,
}

impl Level {
    pub const ALL: [Self; 3] = [Self::FiveMinutes, Self::Hour, Self::Day];

    /// Milliseconds.
    pub fn length(self) -> i64 {
        match self {
            Self::FiveMinutes => 300_000,
            Self::Hour => 3_600_000,
            Self::Day => 86_400_000,
        }
    }

    /// The beginning of the bucket that `time` (milliseconds since 1970) is in.
    pub fn start(self, time: i64) -> i64 {
        time.div_euclid(self.length()) * self.length()
    }

    /// What this level is made of.
    pub fn below(self) -> Option<Self> {
        match self {
            Self::FiveMinutes => None,
            Self::Hour => Some(Self::FiveMinutes),
            Self::Day => Some(Self::Hour),
        }
    }

    /// Row id: the level above bit 40, the seconds since 1970 of the start below. Frozen.
    pub fn id(self, start: i64) -> i64 {
        ((self as i64) << 40) | (start / 1_000).clamp(0, (1 << 40) - 1)
    }

    pub fn start_of_id(id: i64) -> i64 {
        (id & ((1 << 40) - 1)) * 1_000
    }
}

/// One bucket as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rollup {
    /// Milliseconds since 1970.
    pub start: i64,
    /// The readings of a five-minute bucket are between these sequences; 0 where they are of an older store.
    pub first: u64,
    pub last: u64,
    pub fold: Fold,
}

impl Rollup {
    pub fn of(start: i64, row: &Row) -> Self {
        Self { start, first: row.sequence, last: row.sequence, fold: Fold::of(row) }
    }

    pub fn add(&mut self, other: &Self) {
        self.first = if self.first == 0 { other.first } else { self.first.min(other.first) };
        self.last = self.last.max(other.last);
        self.fold.add(&other.fold);
    }

    /// Frozen: the id and everything in the order of the columns.
    pub fn checksum(&self, id: i64) -> i32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(b"b");
        hasher.update(&id.to_le_bytes());
        hasher.update(&self.first.to_le_bytes());
        hasher.update(&self.last.to_le_bytes());
        hasher.update(&self.fold.count.to_le_bytes());
        for range in [self.fold.temperature, self.fold.humidity, self.fold.pressure] {
            for number in [range.min, range.max, range.sum] {
                hasher.update(&number.to_le_bytes());
            }
        }
        hasher.finalize().cast_signed()
    }
}

/// Where the station is: the bucket it has not left yet, empty after its readings were written early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Current {
    pub start: i64,
    pub open: Option<Rollup>,
}

/// Readings of unknown time in a row after which `rolled_up` moves over them: opening reads no more than these again.
const UNKNOWN: u64 = 1_000;

/// Takes a reading in, and writes the bucket that it leaves behind. A reading of unknown time is in no chart.
pub(crate) fn feed(
    connection: &Connection,
    current: &mut Option<Current>,
    progress: &mut Progress,
    row: &Row,
) -> Result<(), StoreError> {
    if row.time_quality == TimeQuality::Unknown.code() || row.time < 0 {
        if row.sequence >= progress.rolled_up + UNKNOWN {
            flush(connection, current)?;
            progress.rolled_up = row.sequence;
        }
        return Ok(());
    }
    let start = Level::FiveMinutes.start(row.time);
    let reading = Rollup::of(start, row);
    if let Some(current) = current
        && current.start == start
    {
        match &mut current.open {
            Some(open) => open.add(&reading),
            None => current.open = Some(reading),
        }
        return Ok(());
    }
    if let Some(left) = current.take() {
        if let Some(open) = &left.open {
            merge(connection, Level::FiveMinutes, open)?;
            progress.rolled_up = row.sequence - 1;
        }
        for level in [Level::Hour, Level::Day] {
            if level.start(left.start) != level.start(start) {
                remake(connection, level, level.start(left.start))?;
            }
        }
    }
    *current = Some(Current { start, open: Some(reading) });
    Ok(())
}

/// Writes what is open now, so that `rolled_up` may move over readings that are in no bucket, or not yet.
pub(crate) fn flush(connection: &Connection, current: &mut Option<Current>) -> Result<(), StoreError> {
    if let Some(current) = current
        && let Some(open) = current.open.take()
    {
        merge(connection, Level::FiveMinutes, &open)?;
        // After a restart nobody knows that the station was in them.
        for level in [Level::Hour, Level::Day] {
            remake(connection, level, level.start(open.start))?;
        }
    }
    Ok(())
}

/// Adds readings to buckets that were closed without them, and remakes the hours and days around them.
pub(crate) fn add_late(connection: &Connection, rows: &[Row]) -> Result<(), StoreError> {
    let mut starts = Vec::new();
    let rows = rows.iter().filter(|row| row.time >= 0);
    for row in rows {
        let start = Level::FiveMinutes.start(row.time);
        merge(connection, Level::FiveMinutes, &Rollup::of(start, row))?;
        starts.push(start);
    }
    for level in [Level::Hour, Level::Day] {
        let mut units: Vec<i64> = starts.iter().map(|start| level.start(*start)).collect();
        units.dedup();
        for unit in units {
            remake(connection, level, unit)?;
        }
    }
    Ok(())
}

fn merge(connection: &Connection, level: Level, rollup: &Rollup) -> Result<(), StoreError> {
    let old = stored_at(connection, level.id(rollup.start))?;
    let mut sum = *rollup;
    if let Some(old) = old {
        sum.add(&old);
    }
    write(connection, level.id(sum.start), &sum)
}

/// From the level below; nothing there writes nothing.
pub(super) fn remake(connection: &Connection, level: Level, start: i64) -> Result<(), StoreError> {
    let Some(below) = level.below() else { return Ok(()) };
    let mut sum: Option<Rollup> = None;
    each_between(connection, below, start, start + level.length(), &mut |part| match &mut sum {
        Some(sum) => sum.add(part),
        None => sum = Some(Rollup { start, ..*part }),
    })?;
    sum.map_or(Ok(()), |sum| write(connection, level.id(start), &sum))
}

/// Makes the hour and the day of the newest bucket that was salvaged: they were not over when the store was damaged.
pub(crate) fn end_salvaged(connection: &Connection) -> Result<(), StoreError> {
    let ids = [Level::FiveMinutes.id(0), Level::Hour.id(0)];
    let newest: Option<i64> = connection
        .query_row("SELECT max(id) FROM rollup WHERE id >= ?1 AND id < ?2 AND first = 0", ids, |row| {
            row.get(0)
        })
        .map_err(StoreError::doing("read the charts"))?;
    let Some(start) = newest.map(Level::start_of_id) else { return Ok(()) };
    [Level::Hour, Level::Day].into_iter().try_for_each(|level| remake(connection, level, level.start(start)))
}

/// Keeps a salvaged one, unless a fuller version of it is there.
pub(crate) fn keep_larger(connection: &Connection, level: Level, rollup: &Rollup) -> Result<(), StoreError> {
    match stored_at(connection, level.id(rollup.start))? {
        Some(old) if old.fold.count >= rollup.fold.count => Ok(()),
        _ => write(connection, level.id(rollup.start), rollup),
    }
}
