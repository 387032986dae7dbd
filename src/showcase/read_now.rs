//! `POST /api/read`: one reading now, for `weather-station read` beside a running station, which holds the bus.
//! For this machine only.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use tokio::sync::oneshot;

use super::connection::Connection;
use super::origin;
use super::routes::Shared;
use crate::observation::Observation;
use crate::reading::SensorRequest;

/// The reading in telemetry's keys; it is stored and sent like any other.
pub async fn read(
    State(shared): State<Arc<Shared>>,
    Extension(connection): Extension<Connection>,
    headers: HeaderMap,
) -> Response {
    if let Err(refusal) = origin::check(&connection, &headers, origin::Sender::Program) {
        return (StatusCode::FORBIDDEN, error(refusal)).into_response();
    }
    let (reply, answer) = oneshot::channel();
    if shared.sensor.try_send(SensorRequest::ReadNow(reply)).is_err() {
        let busy = error("the sensor task is busy with other requests: try again");
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], busy).into_response();
    }
    match answer.await {
        Ok(Ok(sample)) => {
            let altitude = shared.settings.borrow().altitude;
            Json(Observation::of_sample(&sample, &shared.board.device_id(), altitude)).into_response()
        }
        Ok(Err(reason)) => (StatusCode::BAD_GATEWAY, error(reason)).into_response(),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, error("the sensor task has ended")).into_response(),
    }
}

/// `read` prints it.
fn error(reason: impl ToString) -> Json<serde_json::Value> {
    Json(serde_json::json!({ "error": reason.to_string() }))
}
