//! Closed buckets of the charts: five minutes, an hour, a day, each written when the station leaves it. Knows how
//! they are made and kept; what is asked of them is `history`'s.
//!
//! The bucket in which the station is lives in memory. It is written in the transaction of the reading that opens
//! the next one, together with `progress.rolled_up`; after a crash the readings above that are fed in again, so
//! none is missing and none is counted twice. A clock that steps back reopens a bucket: it is added to.

use rusqlite::{Connection, OptionalExtension, params};

use super::StoreError;
use super::fold::{Fold, Range};
use super::progress::Progress;
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

/// Takes one away; what is made of it is the caller's.
pub(super) fn remove(connection: &Connection, id: i64) -> Result<(), StoreError> {
    connection
        .prepare_cached("DELETE FROM rollup WHERE id = ?1")
        .and_then(|mut statement| statement.execute([id]))
        .map_err(StoreError::doing("take out a chart's bucket"))?;
    Ok(())
}

/// Those of a level that start in `[from, to)`, oldest first. One with a wrong checksum is left out.
pub(crate) fn between(
    connection: &Connection,
    level: Level,
    from: i64,
    to: i64,
) -> Result<Vec<Rollup>, StoreError> {
    if to <= from {
        return Ok(Vec::new());
    }
    let read = || {
        let mut statement =
            connection.prepare_cached("SELECT * FROM rollup WHERE id >= ?1 AND id < ?2 ORDER BY id")?;
        // The first bucket that starts at or after `from`: ids count whole seconds.
        let first = level.id(from.saturating_add(999));
        let rows = statement.query_map(params![first, level.id(to.saturating_add(999))], stored)?;
        rows.collect::<rusqlite::Result<Vec<_>>>()
    };
    let rows = read().map_err(StoreError::doing("read the charts"))?;
    Ok(rows.into_iter().flatten().collect())
}

fn merge(connection: &Connection, level: Level, rollup: &Rollup) -> Result<(), StoreError> {
    let old = stored_at(connection, level.id(rollup.start))?;
    let mut sum = *rollup;
    if let Some(old) = old {
        sum.add(&old);
    }
    write(connection, level.id(sum.start), &sum)
}

pub(super) fn stored_at(connection: &Connection, id: i64) -> Result<Option<Rollup>, StoreError> {
    let found = connection
        .prepare_cached("SELECT * FROM rollup WHERE id = ?1")
        .and_then(|mut statement| statement.query_row([id], stored).optional())
        .map_err(StoreError::doing("read a chart's bucket"))?;
    Ok(found.flatten())
}

/// From the level below; nothing there writes nothing.
pub(super) fn remake(connection: &Connection, level: Level, start: i64) -> Result<(), StoreError> {
    let Some(below) = level.below() else { return Ok(()) };
    let mut parts = between(connection, below, start, start + level.length())?.into_iter();
    let Some(mut sum) = parts.next() else { return Ok(()) };
    parts.for_each(|part| sum.add(&part));
    sum.start = start;
    write(connection, level.id(start), &sum)
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

/// Under its id, in the place of what was there.
pub(super) fn write(connection: &Connection, id: i64, rollup: &Rollup) -> Result<(), StoreError> {
    let Fold { count, temperature, humidity, pressure } = rollup.fold;
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO rollup VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14)",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                id,
                rollup.first.cast_signed(),
                rollup.last.cast_signed(),
                count,
                temperature.min,
                temperature.max,
                temperature.sum,
                humidity.min,
                humidity.max,
                humidity.sum,
                pressure.min,
                pressure.max,
                pressure.sum,
                rollup.checksum(id),
            ])
        })
        .map_err(StoreError::doing("write a chart's bucket"))?;
    Ok(())
}

fn stored(row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<Rollup>> {
    let id: i64 = row.get(0)?;
    let range = |column: usize| -> rusqlite::Result<Range> {
        Ok(Range { min: row.get(column)?, max: row.get(column + 1)?, sum: row.get(column + 2)? })
    };
    let fold = Fold { count: row.get(3)?, temperature: range(4)?, humidity: range(7)?, pressure: range(10)? };
    let rollup = Rollup {
        start: Level::start_of_id(id),
        first: row.get::<_, i64>(1)?.cast_unsigned(),
        last: row.get::<_, i64>(2)?.cast_unsigned(),
        fold,
    };
    Ok((rollup.checksum(id) == row.get::<_, i32>(13)?).then_some(rollup))
}
