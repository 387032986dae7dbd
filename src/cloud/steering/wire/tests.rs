//! The forms of messages, and bytes that are none.

use fe2o3_amqp_types::messaging::message::__private::Serializable;
use fe2o3_amqp_types::messaging::message::DecodeIntoMessage as _;
use fe2o3_amqp_types::messaging::{AmqpValue, Batch};
use fe2o3_amqp_types::primitives::{Symbol, Uuid as AmqpUuid};
use proptest::prelude::*;
use serde_amqp::read::SliceReader;
use serde_json::json;

use super::*;

fn decode(bytes: &[u8]) -> Result<Incoming, impl std::fmt::Debug + use<>> {
    Body::<Value>::decode_message_from_reader(SliceReader::new(bytes))
}

/// What the peer reads of what we send.
fn sent(message: Sendable<Data>) -> Incoming {
    assert_eq!(message.settled, Some(true));
    decode(&serde_amqp::to_vec(&Serializable(message.message)).unwrap()).unwrap()
}

fn text(message: &Incoming, name: &str) -> Option<String> {
    match annotation(message, name) {
        Some(Value::String(text)) => Some(text.clone()),
        None => None,
        other => panic!("{name} is {other:?}"),
    }
}

#[test]
fn requests_about_the_twin_have_the_form_of_the_sdks() {
    let id = Uuid::new_v4();
    let get = sent(twin_request(id, &twin::Request::Get));
    assert_eq!((text(&get, "operation").as_deref(), text(&get, "resource")), (Some("GET"), None));
    let correlation = get.properties.as_ref().unwrap().correlation_id.clone();
    assert_eq!(correlation, Some(MessageId::String(id.to_string())));
    assert_eq!(bytes(get.body), b" ");

    let put = sent(twin_request(id, &twin::Request::Subscribe));
    assert_eq!(text(&put, "operation").as_deref(), Some("PUT"));
    assert_eq!(text(&put, "resource").as_deref(), Some("/notifications/twin/properties/desired"));

    let patch = json!({"a": {"b": 1}, "c": null});
    let report = sent(twin_request(id, &twin::Request::Report(patch.as_object().cloned().unwrap())));
    assert_eq!(text(&report, "operation").as_deref(), Some("PATCH"));
    assert_eq!(text(&report, "resource").as_deref(), Some("/properties/reported"));
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&bytes(report.body)).unwrap(), patch);
}

fn ids() -> [MessageId; 4] {
    let uuid = Uuid::new_v4();
    [
        MessageId::Uuid(AmqpUuid::from(uuid.into_bytes())),
        MessageId::String(uuid.to_string()),
        MessageId::Binary(Binary::from(uuid.as_bytes().to_vec())),
        MessageId::Ulong(7),
    ]
}

fn incoming(id: Option<MessageId>, annotations: &[(&str, Value)], body: Body<Value>) -> Incoming {
    let properties = Properties { correlation_id: id, ..Properties::default() };
    let annotations = annotations.iter().fold(MessageAnnotations::builder(), |builder, (name, value)| {
        builder.insert(Symbol::from(*name), value.clone())
    });
    Message::builder().message_annotations(annotations.build()).properties(properties).body(body).build()
}

fn data(bytes: &[u8]) -> Body<Value> {
    Body::Data(Batch::new(vec![Data(Binary::from(bytes.to_vec()))]))
}

#[test]
fn the_answer_to_a_call_carries_its_id_in_the_type_it_came_in() {
    for id in ids() {
        let application = ApplicationProperties::builder().insert("IoThub-methodname", "flush").build();
        let mut message = incoming(Some(id.clone()), &[], data(b"{}"));
        message.application_properties = Some(application);
        let call = call(message).unwrap();
        assert_eq!(call, Call { id: id.clone(), name: "flush".into(), payload: b"{}".to_vec() });
        let answer = methods::Answer { status: 200, body: json!({"pending": 0}) };
        let answer = sent(method_answer(call.id, &answer));
        assert_eq!(answer.properties.unwrap().correlation_id, Some(id));
        let status = answer.application_properties.unwrap().0.get("IoThub-status").cloned();
        assert_eq!(status, Some(SimpleValue::Int(200)));
        assert_eq!(bytes(answer.body), br#"{"pending":0}"#);
    }
    let nameless = incoming(Some(MessageId::Ulong(1)), &[], data(b""));
    assert_eq!(call(nameless), None);
    let mut without_id = incoming(None, &[], data(b""));
    without_id.application_properties =
        Some(ApplicationProperties::builder().insert("IoThub-methodname", "flush").build());
    assert_eq!(call(without_id), None);
}

#[test]
fn an_answer_about_the_twin_is_known_in_every_form_it_may_come_in() {
    let forms = ids();
    let uuid = as_uuid(&forms[1]).unwrap();
    for (number, id) in forms.into_iter().enumerate() {
        let status = [Value::Int(204), Value::Long(204), Value::Ushort(204), Value::String("204".into())];
        let version = [Value::Long(9), Value::Int(9), Value::Ulong(9), Value::Ubyte(9)];
        let annotations = [("status", status[number].clone()), ("version", version[number].clone())];
        let id = if number < 3 { id } else { MessageId::Ulong(7) };
        let read = from_twin(incoming(Some(id), &annotations, Body::Empty));
        let expected = (number < 3).then_some(uuid);
        assert_eq!(read, FromTwin::Answer { id: expected, status: 204, version: Some(9), body: Vec::new() });
    }
    // Java's SDK takes a missing status for 200.
    let bare = from_twin(incoming(Some(MessageId::String(uuid.to_string())), &[], data(b"{}")));
    assert_eq!(bare, FromTwin::Answer { id: Some(uuid), status: 200, version: None, body: b"{}".to_vec() });
    let value = Body::Value(AmqpValue(Value::String("{}".into())));
    let push = from_twin(incoming(None, &[("version", Value::Long(-1))], value));
    assert_eq!(push, FromTwin::Push { version: None, body: b"{}".to_vec() });
}

#[test]
fn sections_of_a_body_are_joined_and_unknown_annotations_passed_over() {
    let body = Body::Data(Batch::new(vec![Data(Binary::from(vec![b'a'])), Data(Binary::from(vec![b'b']))]));
    let annotations = [("x-opt-sequence-number", Value::Long(3)), ("x-opt-strange", Value::Null)];
    let message = to_device(incoming(None, &annotations, body));
    assert_eq!((message.body, message.sequence), (b"ab".to_vec(), Some(3)));
}

fn read_all(message: Incoming) {
    drop(from_twin(message.clone()));
    drop(call(message.clone()));
    drop(to_device(message));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(message) = decode(&bytes) {
            read_all(message);
        }
    }

    #[test]
    fn no_flipped_byte_makes_it_panic(at in any::<prop::sample::Index>(), to in any::<u8>(), kind in 0_u8..3) {
        let message = match kind {
            0 => twin_request(Uuid::nil(), &twin::Request::Get),
            1 => twin_request(Uuid::nil(), &twin::Request::Subscribe),
            _ => method_answer(MessageId::Ulong(1), &methods::Answer { status: 200, body: json!({"a": [1]}) }),
        };
        let mut bytes = serde_amqp::to_vec(&Serializable(message.message)).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = to;
        if let Ok(message) = decode(&bytes) {
            read_all(message);
        }
    }
}

#[test]
fn an_array_that_claims_to_be_huge_is_refused() {
    // amqp-value (0x77) with an array32 or a list32 of values that take no room: a few bytes claim billions.
    for constructor in [0xf0_u8, 0xd0] {
        for code in [0x40_u8, 0x41, 0x43, 0x44, 0x45] {
            let mut bytes = vec![0x00, 0x53, 0x77, constructor, 0, 0, 0, 5];
            bytes.extend(u32::MAX.to_be_bytes());
            bytes.push(code);
            assert!(decode(&bytes).is_err(), "{constructor:x} {code:x}");
        }
    }
}
