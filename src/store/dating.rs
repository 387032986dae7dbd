//! Gives stored readings another time, in the table and in the charts. Which ones, and when, is `redate`'s and
//! `provisional`'s.

use std::collections::BTreeSet;
use std::sync::Arc;

use rusqlite::{Connection, params};

use super::database::Database;
use super::pending::{Found, live};
use super::progress::Progress;
use super::rollups::{self, Level, Rollup};
use super::row::{Row, since_boot};
use super::{StoreError, rollup_rows};
use crate::reading::{Stamp, TimeQuality};

/// Rows read at a time.
const STEP: usize = 500;
/// Sequences between which a bucket is read to be made anew, at most.
const FAR: u64 = 20_000;

impl Database {
    /// `rows` with their new times, and `old` as the charts have them: none where these are in no chart yet. `progress`
    /// is written with them.
    pub(super) fn give_times(
        &mut self,
        doing: &'static str,
        rows: &[Row],
        old: &[Row],
        mut progress: Progress,
    ) -> Result<(), StoreError> {
        let run = self.run.clone();
        let mut current = self.current;
        if !rows.is_empty() {
            progress.rolled_up = self.last_sequence;
        }
        self.transaction(doing, |connection| {
            write_times(connection, rows)?;
            if !rows.is_empty() {
                rollups::flush(connection, &mut current)?;
                take_out(connection, old, &run)?;
                rollups::add_late(connection, rows)?;
            }
            progress.write(connection)
        })?;
        self.progress = progress;
        self.current = current;
        Ok(())
    }
}

/// The same moment on a clock that can be trusted.
pub(super) fn dated(row: Row, now: &Stamp) -> Row {
    let ago = since_boot(now).saturating_sub(row.since_boot);
    Row {
        time: now.time.timestamp_millis().saturating_sub(ago),
        time_quality: now.time_quality.code(),
        ..row
    }
}

/// Under their sequences, with the checksums that belong to them.
fn write_times(connection: &Connection, rows: &[Row]) -> Result<(), StoreError> {
    for row in rows {
        connection
            .prepare_cached(
                "UPDATE reading SET time = ?2, time_quality = ?3, checksum = ?4 WHERE sequence = ?1",
            )
            .and_then(|mut statement| {
                statement.execute(params![
                    row.sequence.cast_signed(),
                    row.time,
                    row.time_quality,
                    row.checksum()
                ])
            })
            .map_err(StoreError::doing("date readings"))?;
    }
    Ok(())
}

/// Makes the buckets anew that these rows were in. One in which readings of an older store are, or whose readings lie
/// far apart, cannot be taken apart: it stays as it is.
fn take_out(connection: &Connection, rows: &[Row], run: &Arc<str>) -> Result<(), StoreError> {
    let moved: BTreeSet<u64> = rows.iter().map(|row| row.sequence).collect();
    let starts: BTreeSet<i64> = rows.iter().map(|row| Level::FiveMinutes.start(row.time)).collect();
    for start in &starts {
        let id = Level::FiveMinutes.id(*start);
        let Some(old) = rollup_rows::stored_at(connection, id)? else { continue };
        if old.first == 0 || old.last - old.first > FAR {
            continue;
        }
        match stayed(connection, &old, &moved, run)? {
            Some(bucket) => rollup_rows::write(connection, id, &bucket)?,
            None => rollup_rows::remove(connection, id)?,
        }
    }
    for level in [Level::Hour, Level::Day] {
        for unit in starts.iter().map(|start| level.start(*start)).collect::<BTreeSet<i64>>() {
            rollup_rows::remove(connection, level.id(unit))?;
            rollups::remake(connection, level, unit)?;
        }
    }
    Ok(())
}

/// The bucket without those that were moved, by however little; none when it is empty.
fn stayed(
    connection: &Connection,
    old: &Rollup,
    moved: &BTreeSet<u64>,
    run: &Arc<str>,
) -> Result<Option<Rollup>, StoreError> {
    let mut bucket: Option<Rollup> = None;
    let mut after = old.first.saturating_sub(1);
    while after < old.last {
        let found = live(connection, after, STEP, run)?;
        if found.is_empty() {
            break;
        }
        for found in found {
            after = found.sequence();
            let Found::Good(row) = found else { continue };
            let counts = row.time_quality != TimeQuality::Unknown.code() && !moved.contains(&row.sequence);
            if row.sequence <= old.last && counts && Level::FiveMinutes.start(row.time) == old.start {
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
