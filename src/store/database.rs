//! The open database and what is remembered of it, so that no question needs a scan. Knows one connection.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, TransactionBehavior};
use serde_json::{Map, Value};

use super::watermark::Watermark;
use super::{Event, Position, StoreError, events, schema};
use crate::clock::Timekeeper;

/// See the module.
#[derive(Debug)]
pub(crate) struct Database {
    pub(super) connection: Connection,
    pub(super) path: PathBuf,
    /// Word of this process run.
    pub(super) run: Arc<str>,
    pub(super) store_id: Arc<str>,
    pub(super) watermark: Watermark,
    /// The newest sequence that is on disk or was ever accepted.
    pub(super) last_sequence: u64,
    pub(super) last_event: u64,
    /// Set aside, and above the watermark.
    pub(super) dead: BTreeSet<Position>,
}

/// `readings.db` and `.lock` make `readings.db.lock`.
pub(crate) fn beside(database: &Path, ending: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

impl Database {
    /// Opens or makes it. The caller holds the lock.
    pub fn open(path: &Path, timekeeper: &Timekeeper, run: &Arc<str>) -> Result<Self, StoreError> {
        let (connection, _) = schema::open(path)?;
        let empty: bool = connection
            .query_row("SELECT NOT EXISTS (SELECT 1 FROM state)", [], |row| row.get(0))
            .map_err(StoreError::doing("read the watermark"))?;
        if empty {
            let watermark = Watermark {
                store_id: uuid::Uuid::new_v4().to_string(),
                generation: 1,
                acknowledged: 0,
                salvaged: 0,
                events: 0,
            };
            watermark.write(&connection)?;
        }
        let watermark = Watermark::read(&connection)?;
        let mut database = Self {
            store_id: Arc::from(watermark.store_id.as_str()),
            last_sequence: watermark.acknowledged.max(greatest(&connection, "reading", "sequence")?),
            last_event: watermark.events.max(greatest(&connection, "event", "event_sequence")?),
            connection,
            path: path.to_owned(),
            run: run.clone(),
            watermark,
            dead: BTreeSet::new(),
        };
        database.dead = database.dead_above_watermark()?;
        let _ = timekeeper;
        Ok(database)
    }

    /// All or nothing, synced when it returns.
    pub(super) fn transaction<T>(
        &mut self,
        doing: &'static str,
        work: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(StoreError::doing(doing))?;
        let done = work(&transaction)?;
        transaction.commit().map_err(StoreError::doing(doing))?;
        Ok(done)
    }

    /// For what may be lost without harm: written, not synced; the next synced transaction carries it along.
    pub(super) fn unsynced<T>(
        &mut self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let relax = |level: &str| {
            self.connection
                .execute_batch(&format!("PRAGMA synchronous = {level}"))
                .map_err(StoreError::doing("set how to sync"))
        };
        relax("NORMAL")?;
        let done = work(&self.connection);
        relax("FULL")?;
        done
    }

    /// Moves the watermark, unsynced.
    pub fn acknowledge(&mut self, upto: Position) -> Result<(), StoreError> {
        if self.watermark.covers(upto) {
            return Ok(());
        }
        let mut moved = self.watermark.clone();
        moved.advance(upto);
        self.unsynced(|connection| moved.write(connection))?;
        self.watermark = moved;
        self.last_sequence = self.last_sequence.max(self.watermark.acknowledged);
        let watermark = &self.watermark;
        self.dead.retain(|position| !watermark.covers(*position));
        Ok(())
    }

    /// Records an event under the next number.
    pub fn record_event(
        &mut self,
        kind: &str,
        fields: Map<String, Value>,
        time: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let event = Event {
            event_sequence: self.last_event + 1,
            run: self.run.clone(),
            store_id: self.store_id.clone(),
            time,
            kind: kind.to_owned(),
            fields,
        };
        self.transaction("record an event", |connection| events::write(connection, &event))?;
        self.last_event = event.event_sequence;
        Ok(())
    }

    pub fn pending_events(&mut self, limit: usize) -> Result<Vec<Event>, StoreError> {
        events::after(&self.connection, self.watermark.events, limit)
    }

    /// Accepted events are deleted; like the watermark, unsynced.
    pub fn acknowledge_events(&mut self, upto: u64) -> Result<(), StoreError> {
        if upto <= self.watermark.events {
            return Ok(());
        }
        let mut moved = self.watermark.clone();
        moved.events = upto;
        self.unsynced(|connection| {
            moved.write(connection)?;
            events::forget(connection, upto)
        })?;
        self.watermark = moved;
        self.last_event = self.last_event.max(upto);
        Ok(())
    }
}

/// 0 for an empty table. The names are this module's own.
fn greatest(connection: &Connection, table: &str, column: &str) -> Result<u64, StoreError> {
    connection
        .query_row(&format!("SELECT max({column}) FROM {table}"), [], |row| row.get::<_, Option<i64>>(0))
        .map(|greatest| greatest.unwrap_or(0).cast_unsigned())
        .map_err(StoreError::doing("find the newest row"))
}
