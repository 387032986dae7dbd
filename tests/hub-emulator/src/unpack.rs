//! Takes a transfer apart: one message, or the messages inside a batch (format 0x80013700), each as the record wants
//! it, and the size the hub counts. Knows AMQP's message format; not links.

use fe2o3_amqp::link::delivery::Delivery;
use fe2o3_amqp_types::messaging::message::__private::Serializable;
use fe2o3_amqp_types::messaging::message::DecodeIntoMessage as _;
use fe2o3_amqp_types::messaging::{Body, Message as AmqpMessage};
use fe2o3_amqp_types::primitives::Value;
use serde_amqp::read::SliceReader;

use crate::record::Message;
use crate::values;

/// `message-format` of a batch.
pub(crate) const BATCH: u32 = 0x8001_3700;

/// What a transfer held.
pub(crate) struct Transfer {
    /// Encoded bytes with every section's overhead.
    pub(crate) size: usize,
    pub(crate) count: u32,
    /// The size of each message, as it is billed.
    pub(crate) sizes: Vec<usize>,
    /// Empty if only the count was wanted.
    pub(crate) messages: Vec<Message>,
}

/// Decodes every message; keeps them if `keep`.
pub(crate) fn unpack(delivery: Delivery<Body<Value>>, keep: bool) -> Result<Transfer, &'static str> {
    let batch = *delivery.message_format() == Some(BATCH);
    let message = delivery.into_message();
    if !batch {
        let size = serde_amqp::serialized_size(&Serializable(&message)).unwrap_or_default();
        let messages = if keep { vec![Message { of: 1, ..recorded(message)? }] } else { Vec::new() };
        return Ok(Transfer { size, count: 1, sizes: vec![size], messages });
    }
    let Body::Data(sections) = message.body else { return Err("the batch has no data sections") };
    let mut size = 0;
    let mut sizes = Vec::with_capacity(sections.len());
    let mut messages = Vec::new();
    let of = u32::try_from(sections.len()).unwrap_or(u32::MAX);
    for (position, section) in (0..).zip(sections) {
        let bytes = section.0;
        // Three bytes of descriptor, then a binary of one or four bytes of length.
        size += bytes.len() + if bytes.len() > 255 { 8 } else { 5 };
        sizes.push(bytes.len());
        let inner = Body::<Value>::decode_message_from_reader(SliceReader::new(&bytes))
            .map_err(|_| "a message of the batch cannot be decoded")?;
        if keep {
            messages.push(Message { position, of, batch, ..recorded(inner)? });
        }
    }
    Ok(Transfer { size, count: of, sizes, messages })
}

fn recorded(message: AmqpMessage<Body<Value>>) -> Result<Message, &'static str> {
    let mut record = Message::default();
    if let Some(properties) = message.properties {
        if let Some(id) = &properties.message_id {
            let (text, kind) = values::id_text(id);
            record.message_id = Some(text);
            record.message_id_type = Some(kind.to_owned());
        }
        record.correlation_id = properties.correlation_id.map(|id| values::id_text(&id).0);
        record.to = properties.to;
        record.content_type = properties.content_type.map(|symbol| symbol.0);
        record.content_encoding = properties.content_encoding.map(|symbol| symbol.0);
    }
    if let Some(properties) = message.application_properties {
        let entries = properties.0.into_iter();
        record.properties = entries.map(|(key, value)| (key, values::json_of_simple(value))).collect();
    }
    if let Some(annotations) = message.message_annotations {
        let entries = annotations.0.iter();
        record.annotations =
            entries.map(|(key, value)| (values::key_text(key), values::json_of(value))).collect();
    }
    record.body = match message.body {
        Body::Data(sections) => {
            let mut sections = sections.into_iter();
            match (sections.next(), sections.next()) {
                (None, _) => Vec::new(),
                (Some(only), None) => only.0.into_vec(),
                (Some(_), Some(_)) => return Err("the message has more than one data section"),
            }
        }
        Body::Value(value) => values::text(&value.0).into_bytes(),
        Body::Sequence(_) => return Err("the message's body is a sequence"),
        Body::Empty => Vec::new(),
    };
    Ok(record)
}
