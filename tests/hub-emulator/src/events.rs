//! What happened on the hub: connections, tokens, attaches, refusals, with their times. The newest 20,000 are kept.
//! Knows nothing of AMQP.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};

use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;

/// One thing that happened.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Counted from 0.
    pub index: u64,
    /// Milliseconds since the hub was started, by a clock that only goes forward.
    pub millis: u64,
    /// The same moment by the hub's wall clock, RFC 3339.
    pub time: String,
    pub connection: Option<u64>,
    pub device: Option<String>,
    /// `connect`, `tls-failed`, `http`, `open`, `open-failed`, `sasl-plain`, `put-token`, `expired`, `attach`,
    /// `attach-held` (late), `attach-refused`, `detach`, `stolen`, `session-end`, `close`, `rejected`, `given-back`,
    /// `undecodable`, `twin`, `method-answer`, `c2d`, `fault`. `first-credit` comes after the `attach` of a telemetry
    /// link.
    pub kind: &'static str,
    pub detail: serde_json::Value,
}

const KEPT: usize = 20_000;

pub(crate) struct Events {
    start: Instant,
    kept: Mutex<(u64, VecDeque<Event>)>,
    changed: watch::Sender<u64>,
}

impl Events {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), kept: Mutex::default(), changed: watch::Sender::new(0) }
    }

    pub(crate) fn add(
        &self,
        time: chrono::DateTime<chrono::Utc>,
        connection: Option<u64>,
        device: Option<&str>,
        kind: &'static str,
        detail: serde_json::Value,
    ) {
        let millis = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut kept = self.lock();
        let event = Event {
            index: kept.0,
            millis,
            time: time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
            connection,
            device: device.map(str::to_owned),
            kind,
            detail,
        };
        tracing::debug!(?connection, ?device, kind, detail = %event.detail, "event");
        kept.0 += 1;
        if kept.1.len() == KEPT {
            kept.1.pop_front();
        }
        kept.1.push_back(event);
        drop(kept);
        self.changed.send_modify(|n| *n += 1);
    }

    pub(crate) fn since(&self, index: u64) -> Vec<Event> {
        self.lock().1.iter().filter(|event| event.index >= index).cloned().collect()
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, (u64, VecDeque<Event>)> {
        self.kept.lock().expect("no code panics while it holds the events")
    }
}
