//! The `$cbs` node: put-token requests, checked and answered. The request is settled before it is answered: Microsoft's
//! C SDK refuses its second token otherwise. Knows tokens and the two links of the node.

use std::collections::BTreeMap;
use std::time::Duration;

use fe2o3_amqp_types::messaging::{AmqpValue, ApplicationProperties, Body, MessageId};
use fe2o3_amqp_types::primitives::{SimpleValue, Value};
use serde_json::json;

use crate::fault::{Fault, TokenAnswer, millis};
use crate::hub::{Conn, Hub, Outgoing, lock};
use crate::links::{self, Incoming};
use crate::session::Link;
use crate::token;
use crate::values;

/// Checks the request and answers it.
pub(crate) fn on_request(link: &Link, message: Incoming) {
    let (hub, conn) = (&link.hub, &link.conn);
    let id = message.properties.and_then(|properties| properties.message_id);
    let properties: BTreeMap<_, _> = message
        .application_properties
        .map(|properties| properties.0.into_iter().collect())
        .unwrap_or_default();
    let text = |key: &str| match properties.get(key) {
        Some(SimpleValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let token = match &message.body {
        Body::Value(AmqpValue(Value::String(token))) => Some(token.as_str()),
        _ => None,
    };
    let known_type =
        matches!(text("type"), Some("servicebus.windows.net:sastoken" | "azure-devices.net:sastoken"));
    let (status, description) = match (text("operation"), token, text("name")) {
        (Some("put-token"), Some(token), Some(audience)) if known_type => {
            put_token(hub, conn, token, audience)
        }
        _ => (400, "operation, type, name or the token is missing or unknown".to_owned()),
    };
    let device = text("name").map(device_of);
    let device = device.as_deref();
    let wait = hub.faults.strike(device, |fault| match fault {
        Fault::PutToken { answer: TokenAnswer::Never } => Some(None),
        Fault::PutTokenLate { millis: late } => Some(Some(millis(*late))),
        _ => None,
    });
    let other = hub.faults.strike(device, |fault| {
        matches!(fault, Fault::PutToken { answer: TokenAnswer::OtherId })
            .then(|| uuid::Uuid::new_v4().into_bytes())
    });
    let wait = wait.unwrap_or(Some(Duration::ZERO));
    let detail = json!({
        "status": status,
        "description": description,
        "audience": text("name"),
        "idType": id.as_ref().map(|id| values::id_text(id).1),
        "answered": wait.is_some(),
    });
    hub.event(Some(conn), device, "put-token", detail);
    let id = other.map(|other| MessageId::Uuid(other.into())).or(id);
    let Some(answer) = answer(id, status, description) else { return };
    let queues = lock(&conn.cbs);
    let queue = queues.get(&link.session).or_else(|| queues.values().next_back()).cloned();
    drop(queues);
    if let (Some(queue), Some(wait)) = (queue, wait) {
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            // The link may have gone meanwhile.
            drop(queue.send(answer).await);
        });
    }
}

/// The device that an audience names, for the faults and the events.
fn device_of(audience: &str) -> String {
    let decoded = percent_encoding::percent_decode_str(audience).decode_utf8_lossy().into_owned();
    decoded.rsplit('/').next().unwrap_or_default().to_owned()
}

fn put_token(hub: &Hub, conn: &Conn, token: &str, audience: &str) -> (i32, String) {
    let checked = token::check(token, Some(audience), &hub.names, &hub.registry, hub.wall.now(), hub.skew());
    let device = checked.as_ref().ok().map(|grant| grant.device.clone());
    let fault = hub.faults.strike(device.as_deref(), |fault| match fault {
        Fault::PutToken { answer: TokenAnswer::Never | TokenAnswer::OtherId } => None,
        Fault::PutToken { answer } => Some(answer.clone()),
        _ => None,
    });
    match (fault, checked) {
        (Some(TokenAnswer::Unauthorized), _) => (401, "invalid signature: it matches neither key".into()),
        (Some(TokenAnswer::Expired), _) => (401, "the SAS token is expired".into()),
        (Some(TokenAnswer::ServerError), _) => (500, "Internal Server Error".into()),
        (Some(TokenAnswer::TooMany), _) => (500, "403005: maximum number of tokens per connection".into()),
        (Some(TokenAnswer::Never | TokenAnswer::OtherId) | None, Ok(grant)) => {
            conn.grant(grant);
            let status = hub.behaviour().put_token_status;
            (status, if status == 202 { "Accepted".into() } else { "OK".into() })
        }
        (Some(TokenAnswer::Never | TokenAnswer::OtherId) | None, Err(refusal)) => {
            (refusal.status(), refusal.to_string())
        }
    }
}

fn answer(id: Option<MessageId>, status: i32, description: String) -> Option<Outgoing> {
    let application = ApplicationProperties::builder()
        .insert("status-code", status)
        .insert("status-description", description)
        .build();
    let body = Body::Value(AmqpValue(Value::Null));
    Some(links::message(Some(id?), None, Some(application), body))
}
