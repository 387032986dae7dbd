//! How much waits, and since when: the store's part of the status document. Reads only.

use chrono::{DateTime, Utc};
use rusqlite::OptionalExtension;

use super::database::Database;
use crate::status::StoreStatus;

impl Database {
    /// Readings that are on disk, were not accepted and were not set aside.
    pub fn pending_count(&self) -> u64 {
        let acknowledged = self.watermark.acknowledged;
        let above = self.last_sequence.saturating_sub(acknowledged);
        let missing = self.known.count(acknowledged, self.last_sequence);
        (above + self.salvaged_pending).saturating_sub(missing).saturating_sub(self.dead.len() as u64)
    }

    fn oldest_pending(&self) -> Option<DateTime<Utc>> {
        let oldest = |sql: &str, after: u64| {
            self.connection
                .prepare_cached(sql)
                .and_then(|mut statement| {
                    statement.query_row([after.cast_signed()], |row| row.get::<_, i64>(0)).optional()
                })
                .ok()
                .flatten()
        };
        let salvaged = || {
            oldest("SELECT time FROM salvaged WHERE row > ?1 ORDER BY row LIMIT 1", self.watermark.salvaged)
        };
        let own = || {
            let after = self.watermark.acknowledged;
            if let Some(time) = self.remembered_time(after + 1) {
                return Some(time);
            }
            if after == self.last_sequence {
                return None;
            }
            oldest("SELECT time FROM reading WHERE sequence > ?1 ORDER BY sequence LIMIT 1", after)
        };
        let time = if self.salvaged_pending > 0 { salvaged() } else { own() };
        time.and_then(DateTime::from_timestamp_millis)
    }

    /// Completes what the keeper knows.
    pub fn status(&self, base: StoreStatus) -> StoreStatus {
        StoreStatus {
            store_id: self.store_id.to_string(),
            last_sequence: self.last_sequence,
            pending: self.pending_count(),
            oldest_pending_time: self.oldest_pending(),
            dead_letters: self.dead_letters,
            ..base
        }
    }
}
