//! Whether the station does its work, not only lives: readings taken and stored within the last intervals.
//! Measured on the monotonic clock, so that a clock that is set proves nothing and spoils nothing.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::routes::Shared;
use crate::status::{SensorStatus, StoreState, StoreStatus};

/// Intervals without a reading, or without a stored one, that are still healthy.
const INTERVALS: u32 = 3;
/// A slow card or one retried sample is no illness.
const AT_LEAST: Duration = Duration::from_secs(10);

/// When something last moved.
pub struct Pulse {
    // Held to note or to compare; nobody waits while holding it.
    seen: Mutex<Seen>,
}

struct Seen {
    taken: u64,
    taken_at: Instant,
    stored: u64,
    stored_at: Instant,
}

impl Default for Pulse {
    fn default() -> Self {
        let now = Instant::now();
        Self { seen: Mutex::new(Seen { taken: 0, taken_at: now, stored: 0, stored_at: now }) }
    }
}

impl Pulse {
    /// Notes what the parts say now.
    pub fn note(&self, sensor: &SensorStatus, store: &StoreStatus) {
        let now = Instant::now();
        let mut seen = self.seen();
        if seen.taken != sensor.taken {
            (seen.taken, seen.taken_at) = (sensor.taken, now);
        }
        if seen.stored != store.last_sequence {
            (seen.stored, seen.stored_at) = (store.last_sequence, now);
        }
    }

    /// What is wrong, in sentences; empty for a healthy station. `max_loss`: how long a reading may wait
    /// for the disk by configuration.
    fn complaints(&self, interval: Duration, max_loss: Duration, store: &StoreStatus) -> Vec<String> {
        let allowed = (interval * INTERVALS).max(AT_LEAST);
        let seen = self.seen();
        let mut complaints = Vec::new();
        let silent = seen.taken_at.elapsed();
        if silent > allowed {
            complaints.push(format!("no reading for {} s", silent.as_secs()));
        }
        let unwritten = seen.stored_at.elapsed();
        if unwritten > allowed + max_loss {
            complaints.push(format!("nothing written to the store for {} s", unwritten.as_secs()));
        }
        if store.state == StoreState::Failing {
            complaints.push(store.reason.clone().unwrap_or_else(|| "the store fails".into()));
        }
        complaints
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// 200 for a station that samples and stores; 503 with the complaints.
pub async fn healthz(State(shared): State<Arc<Shared>>) -> (StatusCode, Json<Value>) {
    let store = shared.board.store.borrow().clone();
    shared.pulse.note(&shared.board.sensor.borrow(), &store);
    let interval = shared.settings.borrow().sample_interval;
    let complaints = shared.pulse.complaints(interval, shared.max_loss, &store);
    let status = if complaints.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "healthy": complaints.is_empty(), "complaints": complaints })))
}
