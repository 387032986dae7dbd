//! How the rest of the station asks the store task. Knows the questions, not the answers.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use tokio::sync::{mpsc, oneshot, watch};

use super::{Bucket, Event, Page, Position, StoreError};
use crate::reading::Reading;

/// Asks the store task. Cheap to clone; every request is answered or fails with [`StoreError::Gone`].
#[derive(Clone, Debug)]
pub struct StoreHandle {
    pub(crate) requests: mpsc::Sender<Request>,
    pub(crate) synced: watch::Receiver<u64>,
}

pub(crate) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

#[derive(Debug)]
pub(crate) enum Request {
    Pending { after: Option<Position>, limit: usize, reply: Reply<Page> },
    Acknowledge { upto: Position, reply: Reply<()> },
    DeadLetter { positions: Vec<Position>, condition: String, reply: Reply<()> },
    RecordEvent { kind: String, fields: Map<String, Value>, reply: Reply<()> },
    PendingEvents { limit: usize, reply: Reply<Vec<Event>> },
    AcknowledgeEvents { upto: u64, reply: Reply<()> },
    GetValue { key: String, reply: Reply<Option<String>> },
    SetValue { key: String, value: Option<String>, reply: Reply<()> },
    History { since: DateTime<Utc>, until: DateTime<Utc>, step: Duration, reply: Reply<Vec<Bucket>> },
    Newest { count: usize, reply: Reply<Vec<Reading>> },
    Report { since: DateTime<Utc>, reply: Reply<Option<Bucket>> },
    Close { reply: Reply<()> },
}

impl Request {
    /// It reads much, and changes nothing: somebody looks at charts or at a report.
    pub(crate) fn is_for_a_look(&self) -> bool {
        matches!(self, Self::History { .. } | Self::Newest { .. } | Self::Report { .. })
    }

    /// Such a one whose asker has gone: nobody looks at the answer.
    pub(crate) fn is_moot(&self) -> bool {
        match self {
            Self::History { reply, .. } => reply.is_closed(),
            Self::Newest { reply, .. } => reply.is_closed(),
            Self::Report { reply, .. } => reply.is_closed(),
            _ => false,
        }
    }
}

impl StoreHandle {
    /// The oldest readings after `after` (None: after the watermark), at most `limit`. An empty page means that
    /// nothing may be sent now: wait for [`StoreHandle::changed`].
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
    pub async fn record_event(&self, kind: &str, fields: Map<String, Value>) -> Result<(), StoreError> {
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
    /// The caller bounds `(until - since) / step`. A step is rounded up to whole five minutes, hours or days, whichever
    /// is the longest that fits into it; where a part of the stretch is told by longer ones alone, to those; and one
    /// below five minutes for which too many readings would have to be read, to five minutes. The buckets say their
    /// length. Never read with an SQL `GROUP BY` or `ORDER BY` that writes a temporary file.
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
        Ok(self.newest(1).await?.pop())
    }

    /// The newest stored readings, oldest first, at most `count` (1 to 10,000).
    pub async fn newest(&self, count: usize) -> Result<Vec<Reading>, StoreError> {
        self.ask(|reply| Request::Newest { count, reply }).await
    }

    /// Least, mean and greatest of each quantity from `since` until now; none without a reading. The bucket
    /// starts at `since`, which need be no round time.
    pub async fn report(&self, since: DateTime<Utc>) -> Result<Option<Bucket>, StoreError> {
        self.ask(|reply| Request::Report { since, reply }).await
    }

    /// The sequence of the newest synced reading. It is also marked as changed when an event was recorded or when
    /// readings that were held back (their time was unknown) may be sent.
    pub fn synced(&self) -> watch::Receiver<u64> {
        self.synced.clone()
    }

    /// Waits until there may be something new to send since the last call on this handle.
    pub async fn changed(&mut self) -> Result<(), StoreError> {
        self.synced.changed().await.map_err(|_| StoreError::Gone)
    }

    /// Ends the store task after the samples that are on their way have been synced, though other handles remain.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.ask(|reply| Request::Close { reply }).await
    }

    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.map_err(|_| StoreError::Gone)?;
        answer.await.map_err(|_| StoreError::Gone)?
    }
}
