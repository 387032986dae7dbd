//! How a change gets to the disk: all of it or nothing. Knows no tables.

use rusqlite::Connection;

use super::StoreError;
use super::database::Database;

impl Database {
    /// All or nothing, synced when it returns.
    pub(super) fn transaction<T>(
        &mut self,
        doing: &'static str,
        work: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let connection = &self.connection;
        // Prepared once: SQLite would otherwise translate the same words anew for each reading.
        let run = |sql| {
            let done = connection.prepare_cached(sql).and_then(|mut statement| statement.execute([]));
            done.map(drop).map_err(StoreError::doing(doing))
        };
        run("BEGIN IMMEDIATE")?;
        let done = work(connection).and_then(|done| run("COMMIT").map(|()| done));
        // SQLite has ended some of those that failed by itself.
        if done.is_err() && !connection.is_autocommit() {
            run("ROLLBACK")
                .unwrap_or_else(|error| tracing::error!(%error, "a change could not be taken back"));
        }
        done
    }

    /// For what may be lost without harm: written, not synced; the next synced transaction carries it along.
    pub(super) fn unsynced<T>(
        &mut self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let sync = |connection: &Connection, level: &str| {
            connection
                .execute_batch(&format!("PRAGMA synchronous = {level}"))
                .map_err(StoreError::doing("set how to sync"))
        };
        sync(&self.connection, "NORMAL")?;
        let done = self.transaction("write without a sync", work);
        sync(&self.connection, "FULL")?;
        done
    }
}
