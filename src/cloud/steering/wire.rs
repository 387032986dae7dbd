//! The forms of the messages on the twin, method and device-bound links: what stands in which section and of which
//! AMQP type. Reads leniently, for the hub's answers come in several forms; knows no link and no meaning.

use std::borrow::Cow;

use fe2o3_amqp::Sendable;
use fe2o3_amqp_types::messaging::annotations::OwnedKey;
use fe2o3_amqp_types::messaging::{
    ApplicationProperties, Body, Data, Message, MessageAnnotations, MessageId, Properties,
};
use fe2o3_amqp_types::primitives::{Binary, SimpleValue};
use serde_amqp::Value;
use serde_json::Map;
use uuid::Uuid;

use super::{methods, twin};

/// A message from the hub on one of these links.
pub type Incoming = Message<Body<Value>>;

/// No message on these links is larger: a twin of 64 KB, a payload of 128 KB, a message of 64 KB, and room.
pub const LARGEST: u64 = 512 << 10;

/// What the twin link carries to the device.
#[derive(Debug, PartialEq)]
pub enum FromTwin {
    Answer { id: Option<Uuid>, status: i64, version: Option<u64>, body: Vec<u8> },
    Push { version: Option<u64>, body: Vec<u8> },
}

/// A direct method call.
#[derive(Debug, PartialEq)]
pub struct Call {
    /// Comes back in the answer as it came, type included.
    pub id: MessageId,
    pub name: String,
    pub payload: Vec<u8>,
}

/// A message to the device.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ToDevice {
    pub message_id: Option<String>,
    /// Annotation `x-opt-sequence-number`: the same when the hub delivers it again.
    pub sequence: Option<u64>,
    pub body: Vec<u8>,
    /// The sender's own properties, texts only.
    pub properties: Map<String, serde_json::Value>,
}

/// A request about the twin. GET and PUT carry one space, as Microsoft's Node and C SDKs send it.
pub fn twin_request(id: Uuid, request: &twin::Request) -> Sendable<Data> {
    let (operation, resource, body) = match request {
        twin::Request::Get => ("GET", None, b" ".to_vec()),
        twin::Request::Subscribe => ("PUT", Some("/notifications/twin/properties/desired"), b" ".to_vec()),
        twin::Request::Report(patch) => {
            let body = serde_json::to_vec(patch).unwrap_or_default();
            ("PATCH", Some("/properties/reported"), body)
        }
    };
    let mut annotations = MessageAnnotations::builder().insert("operation", Value::String(operation.into()));
    if let Some(resource) = resource {
        annotations = annotations.insert("resource", Value::String(resource.into()));
    }
    let message = Message::builder()
        .message_annotations(annotations.build())
        .properties(Properties::builder().correlation_id(id.to_string()).build())
        .data(Binary::from(body))
        .build();
    Sendable::builder().message(message).settled(true).build()
}

/// The answer to a method call.
pub fn method_answer(id: MessageId, answer: &methods::Answer) -> Sendable<Data> {
    let application = ApplicationProperties::builder().insert("IoThub-status", answer.status).build();
    let message = Message::builder()
        .properties(Properties::builder().correlation_id(id).build())
        .application_properties(application)
        .data(Binary::from(answer.body.to_string().into_bytes()))
        .build();
    Sendable::builder().message(message).settled(true).build()
}

/// An answer has a correlation id, a push has none.
pub fn from_twin(message: Incoming) -> FromTwin {
    let version = annotation(&message, "version").and_then(whole).and_then(|v| u64::try_from(v).ok());
    let status = annotation(&message, "status").and_then(whole);
    let id = message.properties.as_ref().and_then(|properties| properties.correlation_id.as_ref());
    match id {
        None => FromTwin::Push { version, body: bytes(message.body) },
        Some(id) => FromTwin::Answer {
            id: as_uuid(id),
            status: status.unwrap_or(200),
            version,
            body: bytes(message.body),
        },
    }
}

/// A call without a correlation id cannot be answered: it is none.
pub fn call(message: Incoming) -> Option<Call> {
    let properties = message.properties?;
    let id = properties.correlation_id.or(properties.message_id)?;
    let name = match message.application_properties?.0.get("IoThub-methodname")? {
        SimpleValue::String(name) => name.clone(),
        SimpleValue::Symbol(name) => name.as_str().to_owned(),
        _ => return None,
    };
    Some(Call { id, name, payload: bytes(message.body) })
}

/// Everything of it that is shown.
pub fn to_device(message: Incoming) -> ToDevice {
    let sequence =
        annotation(&message, "x-opt-sequence-number").and_then(whole).and_then(|n| u64::try_from(n).ok());
    let message_id = message.properties.as_ref().and_then(|p| p.message_id.as_ref()).map(id_text);
    let properties = message.application_properties.iter().flat_map(|application| application.0.iter());
    let properties = properties
        .filter_map(|(name, value)| match value {
            SimpleValue::String(text) => Some((name.clone(), text.clone().into())),
            _ => None,
        })
        .collect();
    ToDevice { message_id, sequence, properties, body: bytes(message.body) }
}

fn annotation<'a>(message: &'a Incoming, name: &str) -> Option<&'a Value> {
    let annotations = message.message_annotations.as_ref()?;
    annotations.0.iter().find_map(|(key, value)| match key {
        OwnedKey::Symbol(symbol) if symbol.as_str() == name => Some(value),
        _ => None,
    })
}

/// Whatever width it came in.
fn whole(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some((*number).into()),
        Value::Long(number) => Some(*number),
        Value::Short(number) => Some((*number).into()),
        Value::Byte(number) => Some((*number).into()),
        Value::Uint(number) => Some((*number).into()),
        Value::Ulong(number) => i64::try_from(*number).ok(),
        Value::Ushort(number) => Some((*number).into()),
        Value::Ubyte(number) => Some((*number).into()),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// We sent the text of a uuid; it may come back as that, as a uuid or as its bytes.
fn as_uuid(id: &MessageId) -> Option<Uuid> {
    match id {
        MessageId::String(text) => Uuid::try_parse(text).ok(),
        MessageId::Uuid(uuid) => Uuid::from_slice(uuid.as_ref()).ok(),
        MessageId::Binary(bytes) => {
            let bytes: &[u8] = bytes.as_ref();
            Uuid::from_slice(bytes).or_else(|_| Uuid::try_parse_ascii(bytes)).ok()
        }
        MessageId::Ulong(_) => None,
    }
}

fn id_text(id: &MessageId) -> String {
    match id {
        MessageId::String(text) => text.clone(),
        MessageId::Ulong(number) => number.to_string(),
        MessageId::Uuid(uuid) => Uuid::from_slice(uuid.as_ref()).unwrap_or_default().to_string(),
        MessageId::Binary(bytes) => String::from_utf8_lossy(bytes.as_ref()).into_owned(),
    }
}

/// Data sections joined, or a text or bytes as a value.
fn bytes(body: Body<Value>) -> Vec<u8> {
    match body {
        Body::Data(sections) => sections
            .into_iter()
            .flat_map(|section: Data| Cow::from(section.0.into_vec()).into_owned())
            .collect(),
        Body::Value(value) => match value.0 {
            Value::String(text) => text.into_bytes(),
            Value::Binary(bytes) => bytes.into_vec(),
            _ => Vec::new(),
        },
        Body::Sequence(_) | Body::Empty => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
