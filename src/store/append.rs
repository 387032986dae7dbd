//! Puts samples on disk: numbered, checksummed and synced when it returns. Knows nothing of who will read them.

use rusqlite::Connection;

use super::StoreError;
use super::database::Database;
use super::rollups;
use super::row::Row;
use crate::reading::{Sample, TimeQuality};

impl Database {
    /// One transaction for all of them: all are on disk afterwards, or none is. Samples that are no numbers are
    /// refused (and logged), the others are kept.
    pub fn append(&mut self, samples: &[Sample]) -> Result<(), StoreError> {
        let mut sequence = self.last_sequence;
        let mut rows = Vec::with_capacity(samples.len());
        for sample in samples {
            match Row::new(sequence + 1, &self.run, sample) {
                Ok(row) => {
                    sequence += 1;
                    rows.push(row);
                }
                Err(error) => tracing::error!(%error, ?sample, "a reading is lost"),
            }
        }
        self.insert(&rows)
    }

    /// Rows that have their numbers already, above all that are stored.
    pub fn insert(&mut self, rows: &[Row]) -> Result<(), StoreError> {
        let Some(last) = rows.last() else { return Ok(()) };
        let mut progress = self.progress.clone();
        let mut current = self.current;
        for row in rows {
            progress.note_time(row);
            if row.is_undated(self.boot)
                && (progress.undated_from == 0 || progress.undated_boot != self.boot.0)
            {
                progress.undated_boot = self.boot.0;
                progress.undated_from = row.sequence;
            }
        }
        // The newest time alone is not worth a page: it is found again when the store is opened.
        let mut written = self.progress.clone();
        self.transaction("append a reading", |connection| {
            for row in rows {
                insert(connection, row)?;
                rollups::feed(connection, &mut current, &mut progress, row)?;
            }
            written.newest_synchronised = progress.newest_synchronised;
            if progress != written {
                progress.write(connection)?;
            }
            Ok(())
        })?;
        self.progress = progress;
        self.current = current;
        self.last_sequence = last.sequence;
        self.remember(rows);
        self.remember_provisional(rows);
        if rows.iter().any(|row| row.time_quality == TimeQuality::Synchronised.code()) {
            self.take_back_floor();
        }
        self.raise_floor(self.timekeeper.since_boot());
        Ok(())
    }
}

/// As it is, under its own sequence.
fn insert(connection: &Connection, row: &Row) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO reading (sequence, run, boot, since_boot, time, time_quality, temperature, humidity, \
             pressure, quality, checksum) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )
        .and_then(|mut statement| row.insert(&mut statement, row.sequence, row.checksum()))
        .map_err(StoreError::doing("append a reading"))?;
    Ok(())
}
