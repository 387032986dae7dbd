//! Readings that were taken before the clock could be trusted get their time once it can: by the boot they are of
//! and the time since it. Once, and never after they were handed out. Those of an earlier boot stay unknown.

use std::time::Duration;

use chrono::DateTime;
use rusqlite::{Connection, params};

use super::StoreError;
use super::database::Database;
use super::pending::{Found, live};
use super::rollups;
use super::row::Row;
use crate::reading::{Stamp, TimeQuality};

/// Rows in one transaction.
const STEP: usize = 500;

impl Database {
    /// The first sequence whose time may still be found.
    pub fn undated_from(&self) -> Option<u64> {
        (self.progress.undated_from > 0 && self.progress.undated_boot == self.boot.0)
            .then_some(self.progress.undated_from)
    }

    /// A right clock does not show less than the newest reading that was taken with one.
    pub(super) fn raise_floor(&self, since_boot: Duration) {
        if let Some(newest) = DateTime::from_timestamp_millis(self.progress.newest_synchronised) {
            self.timekeeper.raise_floor(newest, since_boot);
        }
    }

    /// Since boot: when the clock was first seen to be behind the newest reading, in this run or one before it.
    pub(super) fn found_wrong(&self) -> Result<Option<Duration>, StoreError> {
        let Some(from) = self.undated_from() else { return Ok(None) };
        let first = live(&self.connection, from - 1, 1, &self.run)?.into_iter().next();
        Ok(match first {
            Some(Found::Good(row)) if row.boot == self.boot.0 => {
                Some(Duration::from_millis(u64::try_from(row.since_boot).unwrap_or(0)))
            }
            _ => None,
        })
    }

    /// One step, if the clock can be trusted now. Returns true while there is more to do.
    pub fn redate_step(&mut self) -> Result<bool, StoreError> {
        let now = self.timekeeper.stamp();
        let Some(from) = self.undated_from().filter(|_| now.time_quality != TimeQuality::Unknown) else {
            return Ok(false);
        };
        let found = live(&self.connection, from - 1, STEP, &self.run)?;
        let more = found.len() == STEP;
        let next = match found.last() {
            Some(Found::Good(Row { sequence, .. }) | Found::Damaged { sequence }) if more => sequence + 1,
            _ => 0,
        };
        let rows: Vec<Row> = found
            .into_iter()
            .filter_map(|found| match found {
                Found::Good(row) => Some(row),
                Found::Damaged { .. } => None,
            })
            .filter(|row| row.boot == self.boot.0 && row.time_quality == TimeQuality::Unknown.code())
            .map(|row| dated(row, &now))
            .collect();
        let mut progress = self.progress.clone();
        let mut current = self.current;
        progress.undated_from = next;
        if !rows.is_empty() {
            progress.rolled_up = self.last_sequence;
        }
        self.transaction("re-date readings", |connection| {
            write_times(connection, &rows)?;
            if !rows.is_empty() {
                rollups::flush(connection, &mut current)?;
                rollups::add_late(connection, &rows)?;
            }
            progress.write(connection)
        })?;
        tracing::info!(count = rows.len(), "readings taken before the clock was right have their time now");
        self.progress = progress;
        self.current = current;
        Ok(more)
    }
}

/// Under their sequences, with the checksums that belong to them.
pub(super) fn write_times(connection: &Connection, rows: &[Row]) -> Result<(), StoreError> {
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

/// The same moment on a clock that can be trusted.
pub(super) fn dated(row: Row, now: &Stamp) -> Row {
    let since_boot = i64::try_from(now.since_boot.as_millis()).unwrap_or(i64::MAX);
    let ago = since_boot.saturating_sub(row.since_boot);
    Row {
        time: now.time.timestamp_millis().saturating_sub(ago),
        time_quality: now.time_quality.code(),
        ..row
    }
}
