//! Telemetry: batches, single readings, several readings in a message, events.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::past::{READINGS, RUN, SUSPECT};
use crate::peer::Peer;
use crate::{DEVICE, is};

const BATCH_FORMAT: u32 = 0x8001_3700;
const ALWAYS: [&str; 7] =
    ["deviceId", "time", "currentTemperature", "currentHumidity", "currentPressure", "storeId", "sequence"];
/// With an altitude, and outside of dry cold.
const DERIVED: [&str; 2] = ["seaLevelPressure", "dewPoint"];

/// A message of a transfer, its form checked.
#[derive(Debug)]
struct Inner {
    id: String,
    created: String,
    body: Value,
}

impl Inner {
    /// The parts of its id behind the store's, which is a uuid.
    fn tail<'a>(&'a self, store_id: &str) -> Vec<&'a str> {
        let tail = self.id.strip_prefix(store_id).and_then(|tail| tail.strip_prefix('-'));
        tail.expect("the id begins with the store's").split('-').collect()
    }
}

/// What waited: several messages in one transfer that was split over several frames. Returns the store's id.
pub async fn backlog(peer: &Peer) -> String {
    let first = format!("-{RUN}-1");
    let transfer = until(peer, "the backlog", |messages| messages[0].id.ends_with(&first)).await;
    assert!(
        transfer["frames"].as_u64() > Some(1),
        "the peer takes small frames only: {}",
        transfer["frames"]
    );
    let messages = messages(&transfer);
    assert!(messages.len() as u64 >= READINGS, "{} messages", messages.len());
    let store_id = messages[0].id.strip_suffix(&first).unwrap().to_owned();
    assert!(uuid::Uuid::try_parse(&store_id).is_ok(), "{store_id}");
    for (message, sequence) in messages.iter().zip(1..=READINGS) {
        assert_eq!(message.id, format!("{store_id}-{RUN}-{sequence}"));
        let more: &[&str] = if sequence == SUSPECT { &["timeQuality", "quality"] } else { &[] };
        reading(&message.body, &store_id, sequence, more);
        assert_eq!(message.created, message.body["time"]);
        assert_eq!(message.body["currentTemperature"], json!(15.0 + sequence as f64 / 4.0));
        assert_eq!(message.body["currentHumidity"], json!(60.0));
        assert_eq!(message.body["currentPressure"], json!(100.125));
    }
    let suspect = &messages[usize::try_from(SUSPECT).unwrap() - 1].body;
    assert_eq!((&suspect["timeQuality"], &suspect["quality"]), (&json!("unknown"), &json!("suspect:jump")));
    store_id
}

pub async fn event(peer: &Peer, store_id: &str) {
    let id = format!("{store_id}-{RUN}-e1");
    let transfer = until(peer, "the event", |messages| messages.iter().any(|message| message.id == id)).await;
    let message = messages(&transfer).into_iter().find(|message| message.id == id).unwrap();
    let keys = ["deviceId", "time", "event", "storeId", "eventSequence", "count", "from", "until", "reason"];
    has(&message.body, &keys);
    assert_eq!(message.body["event"], "missedSamples");
    assert_eq!(message.body["storeId"], store_id);
    assert_eq!((&message.body["eventSequence"], &message.body["count"]), (&json!(1), &json!(3)));
    assert_eq!(message.created, message.body["time"]);
    for time in ["time", "from", "until"] {
        is_time(&message.body[time]);
    }
}

/// A reading of this run, alone in its transfer: the same form as in a batch.
pub async fn single(peer: &Peer, store_id: &str) {
    let transfer = until(peer, "a single reading", |messages| {
        messages.len() == 1
            && !messages[0].id.contains(&format!("-{RUN}-"))
            && messages[0].body["sequence"].is_u64()
    })
    .await;
    let message = messages(&transfer).remove(0);
    let sequence = message.body["sequence"].as_u64().unwrap();
    assert!(sequence > READINGS);
    let tail = message.tail(store_id);
    assert_eq!((tail.len(), tail[1]), (2, sequence.to_string().as_str()), "{}", message.id);
    live(&message.body, store_id, sequence);
    assert_eq!(message.created, message.body["time"]);
}

/// Once the cloud has asked for three readings in a message.
pub async fn packed(peer: &Peer, store_id: &str) {
    let transfer = until(peer, "three readings in a message", |messages| {
        messages.iter().any(|message| message.body.as_array().is_some_and(|readings| readings.len() == 3))
    })
    .await;
    let message = messages(&transfer).into_iter().find(|message| message.body.is_array()).unwrap();
    let readings = message.body.as_array().unwrap();
    let sequence = |reading: &Value| reading["sequence"].as_u64().unwrap();
    let (first, last) = (sequence(&readings[0]), sequence(readings.last().unwrap()));
    assert_eq!(message.tail(store_id)[1..], [first.to_string(), last.to_string()], "{}", message.id);
    assert_eq!(message.created, readings.last().unwrap()["time"]);
    for (reading, sequence) in readings.iter().zip(first..) {
        live(reading, store_id, sequence);
    }
}

/// The first transfer on the telemetry link with messages as wanted; each transfer there is checked on the way.
async fn until(peer: &Peer, what: &str, wanted: impl Fn(&[Inner]) -> bool) -> Value {
    let address = format!("/devices/{DEVICE}/messages/events");
    peer.until(what, |line| is(line, "transfer", &address) && wanted(&messages(line))).await
}

/// The messages of a transfer: every one has the same three sections, with the same types, and nothing else.
fn messages(transfer: &Value) -> Vec<Inner> {
    let fields = &transfer["fields"];
    assert_eq!(fields["message_format"], json!({ "uint": BATCH_FORMAT }), "{transfer}");
    assert!(fields["delivery_tag"]["binary"].is_string(), "{transfer}");
    assert_ne!(fields["settled"], json!({ "boolean": true }), "only the hub settles: {transfer}");
    let outer = transfer["sections"].as_array().unwrap();
    assert!(!outer.is_empty());
    outer.iter().map(inner).collect()
}

fn inner(section: &Value) -> Inner {
    let sections = section["data"].as_array().expect("the outer message has data sections only").as_slice();
    let [properties, application, data] = sections else { panic!("three sections: {section}") };
    let id = &properties["properties"]["message_id"]["string"];
    let expected = json!({
        "message_id": { "string": id },
        "content_type": { "symbol": "application/json" },
        "content_encoding": { "symbol": "utf-8" },
    });
    assert_eq!(properties["properties"], expected);
    let created = &application["application_properties"]["map"]["string iothub-creation-time-utc"]["string"];
    let expected = json!({ "string iothub-creation-time-utc": { "string": created } });
    assert_eq!(application["application_properties"]["map"], expected);
    is_time(created);
    let body = serde_json::from_str(data["data"]["binary"].as_str().unwrap()).unwrap();
    Inner { id: id.as_str().unwrap().into(), created: created.as_str().unwrap().into(), body }
}

/// One of this run: whether the clock is synchronised is the machine's affair, and simulated weather may jump.
fn live(body: &Value, store_id: &str, sequence: u64) {
    let may = ["timeQuality", "quality"];
    let more: Vec<_> = may.into_iter().filter(|key| body.get(key).is_some()).collect();
    reading(body, store_id, sequence, &more);
}

fn reading(body: &Value, store_id: &str, sequence: u64, more: &[&str]) {
    has(body, &[&ALWAYS[..], &DERIVED, more].concat());
    assert_eq!(body["deviceId"], DEVICE);
    assert_eq!(body["storeId"], store_id);
    assert_eq!(body["sequence"], sequence);
    is_time(&body["time"]);
    for number in ["currentTemperature", "currentHumidity", "currentPressure", "seaLevelPressure", "dewPoint"]
    {
        assert!(body[number].is_f64(), "{number}: {body}");
    }
}

/// Exactly these members.
fn has(body: &Value, keys: &[&str]) {
    let found: BTreeSet<_> = body.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(found, keys.iter().copied().collect(), "{body}");
}

/// RFC 3339, UTC, milliseconds.
fn is_time(value: &Value) {
    let text = value.as_str().expect("a time is a text");
    let parsed = chrono::DateTime::parse_from_rfc3339(text).expect(text).to_utc();
    assert_eq!(parsed.to_rfc3339_opts(chrono::SecondsFormat::Millis, true), text);
}
