//! The forms in which messages come out of a hub: bare bodies, the JSON of message routing to storage, of Event Hubs
//! capture (also where `avro-tools tojson` made it of Avro), of `az iot hub monitor-events`, and of this project's own hub
//! emulator. Knows wrappings, not readings.
//!
//! Sources: Microsoft Learn, "Use message routing: storage" (`Body` is base64 unless the message says that it is
//! UTF-8 JSON), "IoT Hub message format" (system properties), Azure CLI reference, "az iot hub monitor-events"; Apache
//! Avro specification, "JSON Encoding".

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

/// One body and what is known of it.
#[derive(Debug)]
pub(crate) struct Message {
    pub body: Value,
    pub id: Option<String>,
    pub device: Option<String>,
}

/// Where a body lies in its wrapping.
const BODIES: [&str; 4] = ["body", "Body", "payload", "data"];
/// Objects in which system properties lie.
const SYSTEM: [&str; 5] = ["systemProperties", "SystemProperties", "system", "annotations", "properties"];
const IDS: [&str; 4] = ["message-id", "messageId", "message_id", "iothub-message-id"];
const DEVICES: [&str; 4] = ["iothub-connection-device-id", "connectionDeviceId", "origin", "deviceId"];

/// All messages of one JSON value: an array is a packed message, or a file that is one array.
pub(crate) fn unwrap(value: Value) -> Vec<Message> {
    let mut messages = Vec::new();
    open(value, None, None, 0, &mut messages);
    messages
}

fn open(value: Value, id: Option<String>, device: Option<String>, depth: u8, into: &mut Vec<Message>) {
    // A wrapping in a wrapping in a wrapping is nothing that a hub makes.
    if depth > 5 {
        return;
    }
    match value {
        Value::Array(values) => {
            for value in values {
                open(value, id.clone(), device.clone(), depth + 1, into);
            }
        }
        Value::String(text) => {
            if let Some(inner) = decoded(&text) {
                open(inner, id, device, depth + 1, into);
            }
        }
        Value::Object(mut object) => {
            let id = id.or_else(|| find(&object, &IDS));
            let device = device.or_else(|| find(&object, &DEVICES));
            if let Some(text) = avro_bytes(&object) {
                open(Value::String(text), id, device, depth + 1, into);
                return;
            }
            if object.contains_key("storeId") {
                into.push(Message { body: Value::Object(object), id, device });
                return;
            }
            // `az iot hub monitor-events` puts it one deeper.
            let inner = BODIES
                .iter()
                .find_map(|key| object.remove(*key))
                .or_else(|| object.remove("event").filter(Value::is_object));
            match inner {
                Some(inner) => open(inner, id, device, depth + 1, into),
                // Somebody else's message on the same hub.
                None => into.push(Message { body: Value::Object(object), id, device }),
            }
        }
        _ => {}
    }
}

/// A body as text: JSON, or base64 of JSON.
fn decoded(text: &str) -> Option<Value> {
    if let Ok(value) = serde_json::from_str::<Value>(text)
        && (value.is_object() || value.is_array())
    {
        return Some(value);
    }
    let bytes = STANDARD.decode(text.trim()).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Avro names the branch of a union, `{"bytes": "..."}`, and writes bytes as a text with a letter for each.
fn avro_bytes(object: &Map<String, Value>) -> Option<String> {
    let text = object.get("bytes").filter(|_| object.len() == 1)?.as_str()?;
    let bytes: Option<Vec<u8>> = text.chars().map(|letter| u8::try_from(letter).ok()).collect();
    String::from_utf8(bytes?).ok()
}

/// As it is, or as Avro's `{"string": "..."}`.
fn text(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("string")?.as_str())
}

/// In the wrapping itself, or in one of the objects for properties.
fn find(object: &Map<String, Value>, names: &[&str]) -> Option<String> {
    let here = |object: &Map<String, Value>| {
        names.iter().find_map(|name| object.get(*name).and_then(text).map(str::to_owned))
    };
    here(object).or_else(|| {
        SYSTEM.iter().find_map(|name| {
            let inner = object.get(*name)?.as_object()?;
            here(inner).or_else(|| inner.get("system").and_then(Value::as_object).and_then(here))
        })
    })
}
