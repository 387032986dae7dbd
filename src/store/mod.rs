//! The readings on disk: the queue *is* this table plus a watermark. The store task alone owns the database;
//! everybody else holds a [`StoreHandle`]. Knows nothing of AMQP; sending never deletes.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::{mpsc, oneshot};

use crate::reading::{Celsius, Hectopascal, Percent, Reading};

/// Asks the store task. Cheap to clone; every request is answered or fails with [`StoreError::Gone`].
#[derive(Clone, Debug)]
pub struct StoreHandle {
    requests: mpsc::Sender<Request>,
}

/// A place in the order in which readings are sent: salvaged ones of older stores first, then by sequence.
/// The least position is before everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Position {
    /// 0: a salvaged row (by its own order); 1: a row of this store.
    pub generation: u8,
    /// Row number of a salvaged row; sequence of one of this store.
    pub row: u64,
}

/// One page of what is to be sent, oldest first: only synced rows whose checksum held.
#[derive(Debug, Clone, Default)]
pub struct Page {
    pub readings: Vec<(Position, Reading)>,
    /// Pass it to the next [`StoreHandle::pending`] to read on without acknowledging.
    pub end: Position,
}

/// A thing that happened to the station, kept and sent like a reading but with its own numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub event_sequence: u64,
    pub run: Arc<str>,
    pub store_id: Arc<str>,
    pub time: DateTime<Utc>,
    /// `gap`, `missedSamples`, `storeReplaced` or `deadLetter`.
    pub kind: String,
    /// The event's own fields (`first`, `last`, `reason` ...), a JSON object.
    pub fields: serde_json::Map<String, serde_json::Value>,
}

/// Readings of one stretch of time, folded: what a chart draws.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    /// Aligned to a whole number of `length` since 1970-01-01T00:00Z.
    pub start: DateTime<Utc>,
    pub length: Duration,
    /// Readings in it, at least 1: an empty stretch has no bucket.
    pub count: u32,
    pub air_temperature: Spread<Celsius>,
    pub relative_humidity: Spread<Percent>,
    pub station_pressure: Spread<Hectopascal>,
}

/// Least, mean and greatest value of a quantity in a [`Bucket`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread<T> {
    pub min: T,
    pub mean: T,
    pub max: T,
}

#[derive(Debug)]
pub(crate) enum Request {
    History {
        since: DateTime<Utc>,
        until: DateTime<Utc>,
        step: Duration,
        reply: oneshot::Sender<Result<Vec<Bucket>, StoreError>>,
    },
    Latest {
        reply: oneshot::Sender<Result<Option<Reading>, StoreError>>,
    },
    Pending {
        after: Option<Position>,
        limit: usize,
        reply: oneshot::Sender<Result<Page, StoreError>>,
    },
    Acknowledge {
        upto: Position,
        reply: oneshot::Sender<Result<(), StoreError>>,
    },
    DeadLetter {
        positions: Vec<Position>,
        condition: String,
        reply: oneshot::Sender<Result<(), StoreError>>,
    },
    RecordEvent {
        kind: String,
        fields: serde_json::Map<String, serde_json::Value>,
        reply: oneshot::Sender<Result<(), StoreError>>,
    },
    PendingEvents {
        limit: usize,
        reply: oneshot::Sender<Result<Vec<Event>, StoreError>>,
    },
    AcknowledgeEvents {
        upto: u64,
        reply: oneshot::Sender<Result<(), StoreError>>,
    },
    GetValue {
        key: String,
        reply: oneshot::Sender<Result<Option<String>, StoreError>>,
    },
    SetValue {
        key: String,
        value: Option<String>,
        reply: oneshot::Sender<Result<(), StoreError>>,
    },
}

impl StoreHandle {
    /// The oldest readings after `after` (None: after the watermark), at most `limit`.
    pub async fn pending(&self, after: Option<Position>, limit: usize) -> Result<Page, StoreError> {
        self.ask(|reply| Request::Pending { after, limit, reply }).await
    }

    /// Moves the watermark: the hub has accepted everything up to `upto`. Never moves it back.
    pub async fn acknowledge(&self, upto: Position) -> Result<(), StoreError> {
        self.ask(|reply| Request::Acknowledge { upto, reply }).await
    }

    /// Sets readings that the hub refuses aside with the reason, and records a `deadLetter` event.
    pub async fn dead_letter(&self, positions: Vec<Position>, condition: String) -> Result<(), StoreError> {
        self.ask(|reply| Request::DeadLetter { positions, condition, reply }).await
    }

    /// Keeps an event until the hub has accepted it.
    pub async fn record_event(
        &self,
        kind: &str,
        fields: serde_json::Map<String, serde_json::Value>,
    ) -> Result<(), StoreError> {
        let kind = kind.to_owned();
        self.ask(|reply| Request::RecordEvent { kind, fields, reply }).await
    }

    /// The oldest events that the hub has not accepted.
    pub async fn pending_events(&self, limit: usize) -> Result<Vec<Event>, StoreError> {
        self.ask(|reply| Request::PendingEvents { limit, reply }).await
    }

    /// The hub has accepted all events up to this number.
    pub async fn acknowledge_events(&self, upto: u64) -> Result<(), StoreError> {
        self.ask(|reply| Request::AcknowledgeEvents { upto, reply }).await
    }

    /// A small value that outlives a restart (the twin's settings).
    pub async fn value(&self, key: &str) -> Result<Option<String>, StoreError> {
        let key = key.to_owned();
        self.ask(|reply| Request::GetValue { key, reply }).await
    }

    /// Keeps a small value, synced; `None` removes it.
    pub async fn set_value(&self, key: &str, value: Option<String>) -> Result<(), StoreError> {
        let key = key.to_owned();
        self.ask(|reply| Request::SetValue { key, value, reply }).await
    }

    /// What was measured in `[since, until)`, in buckets of `step` (whole seconds, at least 1 s), oldest first.
    /// The caller bounds `(until - since) / step`. Read from closed rollups where `step` is a whole number of
    /// them, and never with an SQL `GROUP BY` or `ORDER BY` that writes a temporary file.
    pub async fn history(
        &self,
        since: DateTime<Utc>,
        until: DateTime<Utc>,
        step: Duration,
    ) -> Result<Vec<Bucket>, StoreError> {
        self.ask(|reply| Request::History { since, until, step, reply }).await
    }

    /// The newest stored reading.
    pub async fn latest(&self) -> Result<Option<Reading>, StoreError> {
        self.ask(|reply| Request::Latest { reply }).await
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Request,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.map_err(|_| StoreError::Gone)?;
        answer.await.map_err(|_| StoreError::Gone)?
    }
}

/// Why the store could not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The station is ending.
    #[error("the store task has ended")]
    Gone,
    /// SQLite said no.
    #[error("could not {doing}")]
    Database {
        doing: &'static str,
        #[source]
        source: rusqlite::Error,
    },
}
