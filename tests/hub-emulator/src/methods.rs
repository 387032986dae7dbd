//! Direct methods: calls from the service side, over a device's method links, matched with the answers by correlation
//! id. Knows the form of the messages; not what a method does.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use fe2o3_amqp_types::messaging::{ApplicationProperties, MessageId};
use fe2o3_amqp_types::primitives::{Binary, SimpleValue, Uuid};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::behaviour::Correlation;
use crate::hub::{Hub, lock};
use crate::links::{self, Incoming};
use crate::node::LinkKind;
use crate::session::Link;
use crate::values;

/// A call, as the service makes it.
#[derive(Debug, Clone)]
pub struct Call {
    pub name: String,
    /// The bytes of the data section: JSON, unless a test means otherwise.
    pub payload: Vec<u8>,
    /// How long the answer may take.
    pub response_time_out: Duration,
    /// How long to wait for the device to come online.
    pub connect_time_out: Duration,
}

/// What the device answered.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MethodAnswer {
    /// Null if the answer carried none, or not an int.
    pub status: Option<i32>,
    /// JSON, or the raw text as a string.
    pub payload: Value,
    /// The type in which the correlation id came back: `uuid`, `string`, `ulong`, `binary`.
    pub id_type: &'static str,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MethodError {
    /// HTTP 404, 404103.
    #[error("404103: the device has no method links open")]
    NotOnline,
    /// HTTP 504, 504101.
    #[error("504101: the device did not answer in time")]
    TimedOut,
}

/// Calls that wait for an answer, by correlation id.
#[derive(Default)]
pub(crate) struct Calls {
    waiting: Mutex<BTreeMap<String, oneshot::Sender<MethodAnswer>>>,
}

/// Calls a method and waits for the answer.
pub(crate) async fn invoke(hub: &Hub, device: &str, call: Call) -> Result<MethodAnswer, MethodError> {
    let online_by = Instant::now() + call.connect_time_out;
    let conn = loop {
        if let Some(conn) = hub.connection_with(device, LinkKind::Methods) {
            break conn;
        }
        if Instant::now() >= online_by {
            return Err(MethodError::NotOnline);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let number = hub.next_id();
    let unique = uuid::Uuid::new_v4();
    let id = match hub.behaviour().correlation {
        Correlation::Uuid => MessageId::Uuid(Uuid::from(unique.into_bytes())),
        Correlation::String => MessageId::String(unique.to_string()),
        Correlation::Binary => MessageId::Binary(Binary::from(unique.as_bytes().to_vec())),
        Correlation::Ulong => MessageId::Ulong(number),
    };
    let key = key(&id);
    let (answer, answered) = oneshot::channel();
    lock(&hub.calls.waiting).insert(key.clone(), answer);
    let application = ApplicationProperties::builder().insert("IoThub-methodname", call.name).build();
    let message = links::message(Some(id), None, Some(application), links::body(Some(&call.payload)));
    let result = if conn.send(LinkKind::Methods, device, message) {
        let deadline = Instant::now() + call.response_time_out;
        timeout_at(deadline, answered).await.ok().and_then(Result::ok).ok_or(MethodError::TimedOut)
    } else {
        Err(MethodError::NotOnline)
    };
    lock(&hub.calls.waiting).remove(&key);
    result
}

/// An answer of the device. Nobody waiting for it any more: it is dropped.
pub(crate) fn on_answer(link: &Link, message: Incoming) {
    let hub = &link.hub;
    let id = message.properties.as_ref().and_then(|properties| properties.correlation_id.as_ref());
    let status = match links::property(&message, "IoThub-status") {
        Some(SimpleValue::Int(status)) => Some(*status),
        _ => None,
    };
    let (key, id_type) = id.map_or((String::new(), "none"), |id| (key(id), values::id_text(id).1));
    let bytes = links::bytes_of(message.body);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let payload = serde_json::from_str(&text).unwrap_or(Value::String(text));
    let waiting = lock(&hub.calls.waiting).remove(&key);
    let detail =
        json!({ "status": status, "payload": payload, "idType": id_type, "expected": waiting.is_some() });
    hub.event(Some(&link.conn), Some(link.device()), "method-answer", detail);
    if let Some(waiting) = waiting {
        // The caller may have given up in this moment.
        drop(waiting.send(MethodAnswer { status, payload, id_type }));
    }
}

/// The same for a uuid, its text, and its 16 bytes: SDKs give it back in any of these forms.
fn key(id: &MessageId) -> String {
    match id {
        MessageId::Binary(bytes) => uuid::Uuid::from_slice(bytes).unwrap_or_default().to_string(),
        other => values::id_text(other).0.to_ascii_lowercase(),
    }
}
