//! Readings that were taken before the clock could be trusted get their time once it can: by the boot they are of
//! and the time since it. Once, and never after they were handed out. Those of an earlier boot stay unknown.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::database::Database;
use super::dating::dated;
use super::pending::{Found, live};
use super::progress::Progress;
use super::row::Row;
use super::{StoreError, rollups, salvaged, values};
use crate::reading::TimeQuality;

/// Rows in one transaction.
const STEP: usize = 500;
/// Among the kept values.
const FOUND_WRONG: &str = "clockFoundWrong";

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

    /// It is raised anew afterwards.
    pub(super) fn take_back_floor(&self) {
        if let Some(newest) = DateTime::from_timestamp_millis(self.progress.newest_synchronised) {
            self.timekeeper.take_back_floor(newest);
        }
    }

    /// The time of the newest reading that the store before this one took synchronised, milliseconds since 1970. This
    /// one has taken none yet.
    pub fn take_on_newest_synchronised(&mut self, time: i64) -> Result<(), StoreError> {
        let progress = Progress { newest_synchronised: time, ..self.progress.clone() };
        self.transaction("keep what is known of the clock", |connection| progress.write(connection))?;
        self.progress = progress;
        self.raise_floor(self.timekeeper.since_boot());
        Ok(())
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

    /// The same of the store before this one, which is salvaged: at `since_boot` a right clock of this boot did not show
    /// less than `time`. Kept, for that store will be looked at no more.
    pub fn take_on_found_wrong(
        &mut self,
        since_boot: Duration,
        time: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        self.timekeeper.raise_floor(time, since_boot);
        let value = format!("{:032x} {} {}", self.boot.0, since_boot.as_millis(), time.timestamp_millis());
        if values::read(&self.connection, FOUND_WRONG)?.as_ref() == Some(&value) {
            return Ok(());
        }
        self.transaction("keep what is known of the clock", |connection| {
            values::write(connection, FOUND_WRONG, Some(&value))
        })
    }

    /// What was kept so: the time since boot, and the time then. It stays true for as long as the boot lasts, but where
    /// the kernel has taken that time back.
    pub(super) fn found_wrong_before(&self) -> Result<Option<(Duration, DateTime<Utc>)>, StoreError> {
        let kept = values::read(&self.connection, FOUND_WRONG)?.unwrap_or_default();
        let mut words = kept.split(' ');
        if words.next() != Some(format!("{:032x}", self.boot.0).as_str()) {
            return Ok(None);
        }
        let since_boot = words.next().and_then(|word| word.parse().ok()).map(Duration::from_millis);
        let time = words.next().and_then(|word| word.parse().ok());
        let time = time.filter(|time| *time <= self.progress.newest_synchronised);
        Ok(since_boot.zip(time.and_then(DateTime::from_timestamp_millis)))
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
            .filter(|row| row.is_undated(self.boot))
            .map(|row| dated(row, &now))
            .collect();
        let progress = Progress { undated_from: next, ..self.progress.clone() };
        self.give_times("re-date readings", &rows, &[], progress)?;
        // The clock may still be only plausible: then these times are provisional too.
        self.remember_provisional(&rows);
        tracing::info!(count = rows.len(), "readings taken before the clock was right have their time now");
        Ok(more)
    }

    /// The same for rows of older stores that are to be handed out now: the damage was found in the boot in which they
    /// were taken. Where the clock cannot be trusted yet, the first one that waits and all behind it are left out;
    /// false then.
    pub(super) fn date_salvaged(&mut self, rows: &mut Vec<(u64, Option<Row>)>) -> Result<bool, StoreError> {
        let boot = self.boot;
        let undated = |row: &Option<Row>| row.as_ref().is_some_and(|row| row.is_undated(boot));
        let Some(first) = rows.iter().position(|(_, row)| undated(row)) else { return Ok(true) };
        let now = self.timekeeper.stamp();
        self.salvaged_waits = now.time_quality == TimeQuality::Unknown;
        if self.salvaged_waits {
            rows.truncate(first);
            return Ok(false);
        }
        let mut new = Vec::new();
        for (number, row) in rows.iter_mut().filter(|(_, row)| undated(row)) {
            *row = row.take().map(|row| dated(row, &now));
            new.extend(row.clone().map(|row| (*number, row)));
        }
        // In the charts they are of no sequence of this store.
        let charted: Vec<Row> = new.iter().map(|(_, row)| Row { sequence: 0, ..row.clone() }).collect();
        self.transaction("date salvaged readings", |connection| {
            new.iter().try_for_each(|(number, row)| salvaged::give_time(connection, *number, row))?;
            rollups::add_late(connection, &charted)
        })?;
        tracing::info!(count = new.len(), "salvaged readings have their time now");
        Ok(true)
    }

    /// Those that waited may be asked for again, once the clock can be trusted.
    pub fn release_salvaged(&mut self) {
        self.salvaged_waits &= self.timekeeper.stamp().time_quality == TimeQuality::Unknown;
    }

    /// Readings wait for the clock, or for the end of a salvage, before they are handed out.
    pub fn holds_back(&self) -> bool {
        self.salvaging || self.salvaged_waits || self.undated_from().is_some()
    }
}
