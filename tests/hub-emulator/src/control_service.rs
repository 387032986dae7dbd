//! The service side of the control port. Knows the handle's core; decides nothing itself.
//!
//! ```text
//! GET    /twins/{id}                    {"desired": {..}, "reported": {..}}
//! PATCH  /twins/{id}/desired            merge patch -> {version}
//! PUT    /twins/{id}/desired            replacement -> {version}
//! POST   /twins/{id}/push               any body, pushed as it is -> {pushed}
//! POST   /twins/{id}/methods            {methodName, payload?, responseTimeoutInSeconds?, connectTimeoutInSeconds?}
//!                                       -> {status, payload, idType}; 404 with 404103, 504 with 504101
//! POST   /c2d/{device}                  {body, properties?} -> {id}
//! GET    /c2d                           [{id, device, state, ..}]
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch, post};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::methods::{self, Call, MethodError};
use crate::running::Core;
use crate::twin;

type Shared = State<Arc<Core>>;

pub(crate) fn router() -> Router<Arc<Core>> {
    Router::new()
        .route("/twins/{id}", get(get_twin))
        .route("/twins/{id}/desired", patch(patch_desired).put(put_desired))
        .route("/twins/{id}/push", post(push))
        .route("/twins/{id}/methods", post(invoke))
        .route("/c2d/{device}", post(send))
        .route("/c2d", get(list))
}

async fn get_twin(State(core): Shared, Path(id): Path<String>) -> axum::Json<Value> {
    axum::Json(core.hub.twins.get(&id))
}

async fn patch_desired(State(core): Shared, Path(id): Path<String>, body: axum::Json<Value>) -> Response {
    desire(&core, &id, &body, false)
}

async fn put_desired(State(core): Shared, Path(id): Path<String>, body: axum::Json<Value>) -> Response {
    desire(&core, &id, &body, true)
}

fn desire(core: &Core, id: &str, body: &Value, replace: bool) -> Response {
    match core.desire(id, body, replace) {
        Ok(version) => axum::Json(json!({ "version": version })).into_response(),
        Err(refused) => {
            let status =
                u16::try_from(refused.status).ok().and_then(|status| StatusCode::from_u16(status).ok());
            (status.unwrap_or(StatusCode::BAD_REQUEST), refused.message).into_response()
        }
    }
}

async fn push(State(core): Shared, Path(id): Path<String>, body: String) -> axum::Json<Value> {
    axum::Json(json!({ "pushed": twin::push(&core.hub, &id, &body, None) }))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Invocation {
    method_name: String,
    #[serde(default)]
    payload: Value,
    response_timeout_in_seconds: Option<u64>,
    connect_timeout_in_seconds: Option<u64>,
}

async fn invoke(State(core): Shared, Path(id): Path<String>, body: axum::Json<Invocation>) -> Response {
    let body = body.0;
    let call = Call {
        name: body.method_name,
        payload: body.payload.to_string().into_bytes(),
        response_time_out: Duration::from_secs(body.response_timeout_in_seconds.unwrap_or(30)),
        connect_time_out: Duration::from_secs(body.connect_timeout_in_seconds.unwrap_or(0)),
    };
    let (status, code) = match methods::invoke(&core.hub, &id, call).await {
        Ok(answer) => return axum::Json(json!(answer)).into_response(),
        Err(MethodError::NotOnline) => (StatusCode::NOT_FOUND, 404_103),
        Err(MethodError::TimedOut) => (StatusCode::GATEWAY_TIMEOUT, 504_101),
    };
    (status, axum::Json(json!({ "errorCode": code }))).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    body: String,
    #[serde(default)]
    properties: BTreeMap<String, String>,
}

async fn send(State(core): Shared, Path(device): Path<String>, order: axum::Json<Order>) -> Response {
    match core.hub.queues.put(&device, order.body.as_bytes(), order.properties.clone()) {
        Ok(id) => axum::Json(json!({ "id": id })).into_response(),
        Err(full) => (StatusCode::FORBIDDEN, full.to_string()).into_response(),
    }
}

async fn list(State(core): Shared) -> axum::Json<Value> {
    axum::Json(json!(core.hub.queues.list()))
}
