//! Readings that were taken before the clock could be trusted get their time once it can: by the boot they are of
//! and the time since it. Once, and never after they were handed out. Those of an earlier boot stay unknown.

use std::time::Duration;

use chrono::DateTime;

use super::StoreError;
use super::database::Database;
use super::dating::dated;
use super::pending::{Found, live};
use super::progress::Progress;
use super::row::Row;
use crate::reading::TimeQuality;

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
        let Some(from) = self.undated_from() else { return Ok(false) };
        let now = self.timekeeper.stamp();
        if now.time_quality == TimeQuality::Unknown {
            return Ok(false);
        }
        let found = live(&self.connection, from - 1, STEP, &self.run)?;
        let more = found.len() == STEP;
        let next = found.last().filter(|_| more).map_or(0, |last| last.sequence() + 1);
        let rows: Vec<Row> = found
            .into_iter()
            .filter_map(Found::good)
            .filter(|row| row.boot == self.boot.0 && row.time_quality == TimeQuality::Unknown.code())
            .map(|row| dated(row, &now))
            .collect();
        let progress = Progress { undated_from: next, ..self.progress.clone() };
        self.give_times("re-date readings", &rows, &[], progress)?;
        // By a clock that nobody has synchronised either, as may be.
        self.remember_provisional(&rows);
        tracing::info!(count = rows.len(), "readings taken before the clock was right have their time now");
        Ok(more)
    }
}
