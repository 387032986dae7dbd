//! The control port: the handle's methods over plain HTTP on loopback, for the demo and for tests in other languages.
//! Knows the handle's core; decides nothing itself. Answers are JSON.
//!
//! ```text
//! GET    /status                        {port, httpsPort, metered, total, perDevice, connections, faults, behaviour}
//! GET    /devices                       [{device, enabled}]
//! PUT    /devices/{id}                  {primaryKey?, secondaryKey?} or nothing: random keys -> {primaryKey}
//! DELETE /devices/{id}
//! POST   /devices/{id}/enabled          true | false
//! GET    /messages?since=0&limit=1000   [message]   (see record::Message)
//! DELETE /messages                      forgets the record in memory
//! GET    /export                        the record as Azure's routing writes it, JSON lines
//! GET    /counts                        {total, perDevice}
//! GET    /connections
//! GET    /events?since=0&kind=attach
//! GET    /faults                        [[id, {fault, ..}]]
//! POST   /faults                        {"fault": "ack-lost", "how": "rst", "device"?, "times"?} -> {id}
//! DELETE /faults, /faults/{id}
//! PATCH  /behaviour                     {"credit": 1, ..} -> the whole
//! POST   /clock                         {"ahead": seconds}
//! POST   /stop, /start                  close and open the ports
//! (twins, methods, cloud-to-device: see control_service)
//! ```

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, patch, post, put};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::behaviour::Behaviour;
use crate::fault::Arming;
use crate::running::{Core, StartError};

type Shared = State<Arc<Core>>;
type Json = axum::Json<Value>;

/// Serves the control port; returns its number.
pub(crate) fn serve(core: &Arc<Core>, port: u16) -> Result<u16, StartError> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let failed = |source| StartError::Listen { address, source };
    let socket = std::net::TcpListener::bind(address).map_err(failed)?;
    socket.set_nonblocking(true).map_err(failed)?;
    let port = socket.local_addr().map_err(failed)?.port();
    let app = router().with_state(core.clone());
    core.spawn(async move {
        let served = async { axum::serve(tokio::net::TcpListener::from_std(socket)?, app).await };
        if let Err(error) = served.await {
            tracing::error!(%error, "the control port ended");
        }
    });
    Ok(port)
}

fn router() -> Router<Arc<Core>> {
    Router::new()
        .route("/status", get(status))
        .route("/devices", get(devices))
        .route("/devices/{id}", put(add_device).delete(remove_device))
        .route("/devices/{id}/enabled", post(enable))
        .route("/messages", get(messages).delete(clear_messages))
        .route("/export", get(export))
        .route("/counts", get(counts))
        .route("/connections", get(connections))
        .route("/events", get(events))
        .route("/faults", get(faults).post(arm).delete(clear_all))
        .route("/faults/{id}", delete(clear))
        .route("/behaviour", patch(behave))
        .route("/clock", post(clock))
        .route("/stop", post(stop))
        .route("/start", post(start))
        .merge(crate::control_service::router())
}

async fn status(State(core): Shared) -> Json {
    axum::Json(json!({
        "port": core.port(),
        "httpsPort": core.https.address().port(),
        "total": *core.hub.record.total().borrow(),
        "perDevice": core.hub.record.per_device(),
        "metered": core.hub.meter.metered(),
        "connections": core.connections(),
        "faults": core.hub.faults.list(),
        "behaviour": *core.hub.behaviour(),
    }))
}

async fn devices(State(core): Shared) -> Json {
    let registry = &core.hub.registry;
    let entries = registry.ids().into_iter().filter_map(|id| Some((registry.get(&id)?, id)));
    axum::Json(entries.map(|(entry, id)| json!({ "device": id, "enabled": entry.enabled })).collect())
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct Keys {
    primary_key: Option<String>,
    secondary_key: Option<String>,
}

async fn add_device(State(core): Shared, Path(id): Path<String>, body: String) -> Response {
    let keys: Keys = match if body.is_empty() { Ok(Keys::default()) } else { serde_json::from_str(&body) } {
        Ok(keys) => keys,
        Err(error) => return bad(&error),
    };
    let registry = &core.hub.registry;
    match keys.primary_key {
        None => axum::Json(json!({ "primaryKey": registry.add(&id) })).into_response(),
        Some(primary) => match registry.add_with_keys(&id, &primary, keys.secondary_key.as_deref()) {
            Ok(()) => axum::Json(json!({ "primaryKey": primary })).into_response(),
            Err(error) => bad(&error),
        },
    }
}

async fn remove_device(State(core): Shared, Path(id): Path<String>) -> Response {
    found(core.remove_device(&id))
}

async fn enable(State(core): Shared, Path(id): Path<String>, enabled: axum::Json<bool>) -> Response {
    found(core.set_enabled(&id, enabled.0))
}

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    since: u64,
    limit: Option<usize>,
    kind: Option<String>,
}

async fn messages(State(core): Shared, Query(page): Query<Page>) -> Json {
    axum::Json(json!(
        core.hub
            .record
            .since(page.since, page.limit.unwrap_or(1000))
            .iter()
            .map(|m| &**m)
            .collect::<Vec<_>>()
    ))
}

async fn clear_messages(State(core): Shared) {
    core.hub.record.clear();
}

async fn export(State(core): Shared) -> String {
    let lines = core.hub.record.since(0, usize::MAX).into_iter();
    lines.map(|message| message.azure_export().to_string() + "\n").collect()
}

async fn counts(State(core): Shared) -> Json {
    let total = *core.hub.record.total().borrow();
    axum::Json(json!({ "total": total, "perDevice": core.hub.record.per_device() }))
}

async fn connections(State(core): Shared) -> Json {
    axum::Json(json!(core.connections()))
}

async fn events(State(core): Shared, Query(page): Query<Page>) -> Json {
    let mut events = core.hub.events.since(page.since);
    events.retain(|event| page.kind.as_deref().is_none_or(|kind| event.kind == kind));
    events.truncate(page.limit.unwrap_or(usize::MAX));
    axum::Json(json!(events))
}

async fn faults(State(core): Shared) -> Json {
    axum::Json(json!(core.hub.faults.list()))
}

async fn arm(State(core): Shared, body: String) -> Response {
    match serde_json::from_str::<Arming>(&body) {
        Ok(arming) => {
            let id = aside(core, |core| core.fault(arming)).await;
            axum::Json(json!({ "id": id })).into_response()
        }
        Err(error) => bad(&error),
    }
}

async fn clear(State(core): Shared, Path(id): Path<u64>) {
    aside(core, move |core| core.clear_faults(Some(id))).await;
}

async fn clear_all(State(core): Shared) {
    aside(core, |core| core.clear_faults(None)).await;
}

/// Runs what may close a port: that waits for the port's task, and would wait for ever on the hub's own thread.
async fn aside<T: Send + 'static>(
    core: Arc<Core>,
    run: impl FnOnce(&Core) -> T + Send + 'static,
) -> Option<T> {
    tokio::task::spawn_blocking(move || run(&core)).await.ok()
}

async fn behave(State(core): Shared, changes: Json) -> Response {
    let mut whole = json!(*core.hub.behaviour());
    if let (Some(whole), Value::Object(changes)) = (whole.as_object_mut(), changes.0) {
        whole.extend(changes);
    }
    match serde_json::from_value::<Behaviour>(whole.clone()) {
        Ok(behaviour) => {
            core.hub.set_behaviour(behaviour);
            axum::Json(whole).into_response()
        }
        Err(error) => bad(&error),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Clock {
    ahead: i64,
}

async fn clock(State(core): Shared, body: axum::Json<Clock>) {
    core.hub.wall.set_ahead(body.ahead);
}

async fn stop(State(core): Shared) {
    aside(core, Core::stop).await;
}

async fn start(State(core): Shared) -> Response {
    match aside(core, |core| core.listen(None)).await {
        None | Some(Ok(())) => StatusCode::OK.into_response(),
        Some(Err(error)) => {
            let chain = format!("{:#}", anyhow::Error::from(error));
            (StatusCode::INTERNAL_SERVER_ERROR, chain).into_response()
        }
    }
}

fn found(known: bool) -> Response {
    if known { StatusCode::OK } else { StatusCode::NOT_FOUND }.into_response()
}

fn bad(error: &dyn std::error::Error) -> Response {
    (StatusCode::BAD_REQUEST, error.to_string()).into_response()
}
