//! AMQP values as JSON and text, for the record and the events. Knows types only.

use fe2o3_amqp_types::messaging::MessageId;
use fe2o3_amqp_types::primitives::{SimpleValue, Value};
use serde_json::{Value as Json, json};

/// Strings and symbols as they are, anything else as JSON would write it.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Symbol(text) => text.to_string(),
        other => json_of(other).to_string(),
    }
}

/// The closest JSON; types that JSON has not are `{"type": .., "value": ..}`.
pub(crate) fn json_of(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(flag) => json!(flag),
        Value::Ubyte(n) => json!(n),
        Value::Ushort(n) => json!(n),
        Value::Uint(n) => json!(n),
        Value::Ulong(n) => json!(n),
        Value::Byte(n) => json!(n),
        Value::Short(n) => json!(n),
        Value::Int(n) => json!(n),
        Value::Long(n) => json!(n),
        Value::Float(n) => json!(n.0),
        Value::Double(n) => json!(n.0),
        Value::String(text) => json!(text),
        Value::Symbol(text) => json!(text.as_str()),
        Value::Timestamp(time) => json!({ "type": "timestamp", "value": time.milliseconds() }),
        Value::Uuid(uuid) => json!({ "type": "uuid", "value": uuid_text(uuid.as_inner()) }),
        other => json!({ "type": "other", "value": format!("{other:?}") }),
    }
}

/// The same for what application properties may hold.
pub(crate) fn json_of_simple(value: SimpleValue) -> Json {
    match value {
        SimpleValue::String(text) => Json::String(text),
        other => json_of(&Value::from(other)),
    }
}

/// A message id as text, and the name of its type.
pub(crate) fn id_text(id: &MessageId) -> (String, &'static str) {
    match id {
        MessageId::String(text) => (text.clone(), "string"),
        MessageId::Ulong(n) => (n.to_string(), "ulong"),
        MessageId::Uuid(uuid) => (uuid_text(uuid.as_inner()), "uuid"),
        MessageId::Binary(bytes) => {
            use base64::Engine as _;
            (base64::engine::general_purpose::STANDARD.encode(bytes), "binary")
        }
    }
}

fn uuid_text(bytes: &[u8; 16]) -> String {
    uuid::Uuid::from_bytes(*bytes).to_string()
}

/// An annotation's key.
pub(crate) fn key_text(key: &fe2o3_amqp_types::messaging::annotations::OwnedKey) -> String {
    use fe2o3_amqp_types::messaging::annotations::OwnedKey;
    match key {
        OwnedKey::Symbol(symbol) => symbol.0.clone(),
        OwnedKey::Ulong(number) => number.to_string(),
    }
}
