//! The twin node of a device: GET, PATCH, PUT and DELETE requests, their answers, and pushes of desired properties.
//! Knows the form of the messages; what a twin is stands in `twins`.

use std::sync::Arc;

use fe2o3_amqp_types::messaging::MessageAnnotations;
use fe2o3_amqp_types::primitives::Value;
use serde_json::json;

use crate::fault::Fault;
use crate::hub::{Hub, lock};
use crate::links::{self, Incoming};
use crate::node::LinkKind;
use crate::session::Link;
use crate::twins::TwinError;

/// What a request asks for.
struct Request {
    operation: String,
    resource: Option<String>,
    version: Option<i64>,
    body: Vec<u8>,
}

struct Answer {
    status: i32,
    version: Option<i64>,
    body: Option<String>,
}

/// Answers a request of the device.
pub(crate) fn on_request(link: &Link, mut message: Incoming) {
    let (hub, device) = (&link.hub, link.device());
    let correlation = message.properties.take().and_then(|properties| properties.correlation_id);
    let annotation = |key: &str| {
        let annotations = message.message_annotations.as_ref()?;
        annotations
            .0
            .iter()
            .find(|(name, _)| crate::values::key_text(name) == key)
            .map(|(_, value)| value.clone())
    };
    let text = |key: &str| annotation(key).map(|value| crate::values::text(&value));
    let version = match annotation("version") {
        Some(Value::Long(version)) => Some(version),
        Some(Value::Int(version)) => Some(version.into()),
        Some(Value::Ulong(version)) => i64::try_from(version).ok(),
        _ => None,
    };
    let request = Request {
        operation: text("operation").unwrap_or_default(),
        resource: text("resource"),
        version,
        body: links::bytes_of(message.body),
    };
    let silent = hub
        .faults
        .strike(Some(device), |fault| matches!(fault, Fault::TwinSilent | Fault::QuotaSpent).then_some(()));
    let detail = json!({
        "operation": request.operation,
        "resource": request.resource,
        "version": request.version,
        "idType": correlation.as_ref().map(|id| crate::values::id_text(id).1),
        "body": String::from_utf8_lossy(&request.body),
        "answered": silent.is_none(),
    });
    hub.event(Some(&link.conn), Some(device), "twin", detail);
    if silent.is_some() {
        return;
    }
    let Some(mut answer) = carry_out(link, &request) else { return };
    let replaced = hub.faults.strike(Some(device), |fault| match fault {
        Fault::TwinError { status, body } => Some((Some(*status), body.clone())),
        Fault::TwinBody { body } if request.operation == "GET" => Some((None, body.clone())),
        _ => None,
    });
    if let Some((status, body)) = replaced {
        answer.status = status.unwrap_or(answer.status);
        answer.body = Some(body);
    }
    // Only PATCH may come without a correlation id, and is then not answered.
    if correlation.is_some() {
        let behaviour = hub.behaviour();
        let mut annotations = MessageAnnotations::builder().insert("status", answer.status);
        if let Some(version) = answer.version.filter(|_| behaviour.twin_version) {
            annotations = annotations.insert("version", version);
        }
        if let Some(resource) = request.resource {
            annotations = annotations.insert("resource", resource);
        }
        let empty = behaviour.twin_empty_body.then_some(&b""[..]);
        let body = links::body(answer.body.as_deref().map(str::as_bytes).or(empty));
        let message = links::message(correlation, Some(annotations.build()), None, body);
        send(link, message);
    }
}

/// Pushes a change of desired properties to the device's newest connection, if it has subscribed.
pub(crate) fn push(hub: &Arc<Hub>, device: &str, body: &str, version: Option<i64>) -> bool {
    let subscribed = hub.connections().into_iter().rev().find(|conn| lock(&conn.subscribed).contains(device));
    let Some(conn) = subscribed else { return false };
    let mut annotations = MessageAnnotations::builder();
    if hub.behaviour().push_annotations {
        annotations = annotations.insert("resource", "/properties/desired".to_owned());
        if let Some(version) = version {
            annotations = annotations.insert("version", version);
        }
    }
    let message = links::message(None, Some(annotations.build()), None, links::body(Some(body.as_bytes())));
    conn.send(LinkKind::Twin, device, message)
}

fn carry_out(link: &Link, request: &Request) -> Option<Answer> {
    let (hub, device) = (&link.hub, link.device());
    let plain = |status| Answer { status, version: None, body: None };
    let subscription = request
        .resource
        .as_deref()
        .is_some_and(|resource| resource.eq_ignore_ascii_case("/notifications/twin/properties/desired"));
    let reported = request
        .resource
        .as_deref()
        .is_some_and(|resource| resource.eq_ignore_ascii_case("/properties/reported"));
    Some(match request.operation.to_ascii_uppercase().as_str() {
        "GET" => {
            let twin = hub.twins.get(device);
            let version = twin["desired"]["$version"].as_i64();
            Answer { status: 200, version, body: Some(twin.to_string()) }
        }
        "PATCH" if reported => match hub.twins.report(device, &request.body, request.version) {
            Ok(version) => {
                Answer { status: hub.behaviour().twin_patch_status, version: Some(version), body: None }
            }
            Err(refused) => {
                Answer { status: refused.status, version: None, body: Some(error_body(&refused)) }
            }
        },
        "PUT" if subscription => {
            lock(&link.conn.subscribed).insert(device.to_owned());
            plain(200)
        }
        "DELETE" if subscription => {
            lock(&link.conn.subscribed).remove(device);
            plain(200)
        }
        "PATCH" | "PUT" | "DELETE" => {
            let refused = TwinError { status: 404, message: "no such resource".into() };
            Answer { status: 404, version: None, body: Some(error_body(&refused)) }
        }
        // An unknown operation is not answered at all.
        _ => return None,
    })
}

fn error_body(refused: &TwinError) -> String {
    json!({ "errorCode": i64::from(refused.status) * 1000 + 4, "message": refused.message }).to_string()
}

fn send(link: &Link, message: crate::hub::Outgoing) {
    if !link.conn.send(LinkKind::Twin, link.device(), message) {
        tracing::debug!("a twin answer found no link to the device");
    }
}
