//! Which path is answered by whom, and what holds for every answer: its time, its size, its headers.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use tokio::sync::{Semaphore, mpsc, watch};

use super::configure::{self, Saving};
use super::desk::Desk;
use super::pulse::Pulse;
use super::{Task, assets, history, live, metrics, pulse, read_now};
use crate::clock::Timekeeper;
use crate::hourly::Hourly;
use crate::reading::SensorRequest;
use crate::settings::Settings;
use crate::status::{Board, Document};
use crate::store::StoreHandle;

/// An answer has to be ready within this time (a stream: its beginning).
const ANSWER: Duration = Duration::from_secs(15);
/// Of a request's body, in bytes: the form is the largest.
const BODY: usize = 8 * 1024;
/// Questions to the store at one time; more wait, at most [`ANSWER`].
const STORE_QUESTIONS: usize = 2;

/// Nothing but this station's own files; no inline script or style, no frame, no other site.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; \
    connect-src 'self'; manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// What the handlers share.
pub struct Shared {
    pub board: Arc<Board>,
    pub timekeeper: Timekeeper,
    pub store: StoreHandle,
    pub store_questions: Semaphore,
    pub sensor: mpsc::Sender<SensorRequest>,
    pub settings: watch::Receiver<Settings>,
    /// See `[store] max_loss`.
    pub max_loss: Duration,
    pub pulse: Arc<Pulse>,
    pub live: live::Feed,
    pub desk: Arc<Desk>,
    pub saving: Saving,
    /// Refusals of the form that were told. Locked to look; nobody waits while holding it.
    pub refused: Mutex<Hourly>,
}

/// The routes, and the task behind the live stream.
pub fn build(task: &Task, desk: Desk) -> (Router, live::Publisher) {
    let pulse = Arc::new(Pulse::default());
    let (feed, publisher) = live::channel(task.board.clone(), task.timekeeper.clone(), pulse.clone());
    let shared = Arc::new(Shared {
        board: task.board.clone(),
        timekeeper: task.timekeeper.clone(),
        store: task.store.clone(),
        store_questions: Semaphore::new(STORE_QUESTIONS),
        sensor: task.sensor.clone(),
        settings: task.settings.clone(),
        max_loss: task.config.store.max_loss,
        pulse,
        live: feed,
        desk: Arc::new(desk),
        saving: Saving::default(),
        refused: Mutex::default(),
    });
    let app = assets::routes()
        .route("/api/status", get(status))
        .route("/api/readings", get(history::readings))
        .route("/api/stream", get(live::stream))
        .route("/api/read", post(read_now::read))
        .route("/healthz", get(pulse::healthz))
        .route("/metrics", get(metrics::metrics))
        .layer(middleware::from_fn(in_time))
        // Has limits of its own: a TPM may take its time.
        .route("/configuration", get(configure::show).post(configure::save))
        .fallback(async || (StatusCode::NOT_FOUND, "there is nothing at this address\n"))
        .layer(DefaultBodyLimit::max(BODY))
        .layer(middleware::from_fn(with_headers))
        .with_state(shared);
    (app, publisher)
}

async fn status(State(shared): State<Arc<Shared>>) -> Json<Document> {
    Json(shared.board.document(&shared.timekeeper))
}

async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(ANSWER, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let text = format!("no answer within {} s: try again later\n", ANSWER.as_secs());
            (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "15")], text).into_response()
        }
    }
}

async fn with_headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        // Not `no-referrer`: with that a browser sends `Origin: null` with the form, which is refused.
        (header::REFERRER_POLICY, "same-origin"),
        (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (header::HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
