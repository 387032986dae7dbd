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

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// What the parts say after so many readings.
    fn parts(taken: u64, stored: u64) -> (SensorStatus, StoreStatus) {
        let sensor = SensorStatus { taken, ..SensorStatus::default() };
        (sensor, StoreStatus { last_sequence: stored, state: StoreState::Ok, ..StoreStatus::default() })
    }

    /// Notes both, and says what is wrong after so long.
    async fn after(
        pulse: &Pulse,
        noted: (u64, u64),
        time: Duration,
        setting: (Duration, Duration),
    ) -> Vec<String> {
        let (sensor, store) = parts(noted.0, noted.1);
        pulse.note(&sensor, &store);
        tokio::time::advance(time).await;
        pulse.note(&sensor, &store);
        pulse.complaints(setting.0, setting.1, &store)
    }

    #[tokio::test(start_paused = true)]
    async fn three_intervals_without_a_reading_are_healthy_and_more_are_not() {
        let pulse = Pulse::default();
        let setting = (60 * SECOND, Duration::ZERO);
        assert!(after(&pulse, (1, 1), 180 * SECOND, setting).await.is_empty());
        let silent = ["no reading for 181 s", "nothing written to the store for 181 s"];
        assert_eq!(after(&pulse, (1, 1), SECOND, setting).await, silent);
        assert!(after(&pulse, (2, 2), SECOND, setting).await.is_empty(), "and it is well again");
    }

    #[tokio::test(start_paused = true)]
    async fn ten_seconds_are_granted_whatever_the_interval() {
        let pulse = Pulse::default();
        let setting = (SECOND, Duration::ZERO);
        assert!(after(&pulse, (1, 1), 10 * SECOND, setting).await.is_empty());
        assert_eq!(after(&pulse, (1, 1), SECOND, setting).await.len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn readings_that_are_taken_and_not_stored_are_told_once_they_may_wait_no_longer() {
        let pulse = Pulse::default();
        let setting = (10 * SECOND, 60 * SECOND);
        for taken in 1..=9 {
            assert!(after(&pulse, (taken, 0), 10 * SECOND, setting).await.is_empty(), "{taken}");
        }
        assert_eq!(after(&pulse, (10, 0), SECOND, setting).await, ["nothing written to the store for 91 s"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_fails_is_told_at_once_with_its_reason() {
        let pulse = Pulse::default();
        let (_, mut store) = parts(1, 1);
        store.state = StoreState::Failing;
        assert_eq!(pulse.complaints(SECOND, SECOND, &store), ["the store fails"]);
        store.reason = Some("the disk is full".into());
        assert_eq!(pulse.complaints(SECOND, SECOND, &store), ["the disk is full"]);
    }
}
