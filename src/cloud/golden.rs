//! The golden messages: the bytes that the station has put on the wire for fixed readings since they were last looked
//! at. `tests/golden/messages.json` keeps them with what npm rhea reads in them (`tests/wire`); here they are made
//! again. A difference is a change of the wire: consumers and duplicates (the id is in these bytes) are at stake.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use fe2o3_amqp_types::messaging::Message;
use fe2o3_amqp_types::messaging::message::__private::Serializable;
use serde_json::{Value, json};

use super::batch::{Bounds, MOST_BYTES, pack, pack_events};
use super::encode::Encoder;
use super::groups::Groups;
use crate::reading::{
    BootId, Celsius, Hectopascal, Measurement, Percent, Quality, Reading, Sample, Stamp, TimeQuality,
};
use crate::store::{Event, Position};

/// Five samples a minute apart: frost, fog, heat, a clock that is not right, a jump.
fn readings() -> Vec<Reading> {
    let samples = [
        (-11.3, 84.02, 1031.76, TimeQuality::Synchronised, Quality::Good),
        (0.0, 100.0, 1013.25, TimeQuality::Synchronised, Quality::Good),
        (38.456, 17.3, 994.004, TimeQuality::Synchronised, Quality::Good),
        (21.5, 48.25, 1001.37, TimeQuality::Unsynchronised, Quality::Good),
        (29.75, 31.0, 1001.4, TimeQuality::Unknown, Quality::Jump),
    ];
    let reading = |(index, (temperature, humidity, pressure, time_quality, quality))| {
        let sequence: u64 = 41 + index;
        let milliseconds = 1_790_000_000_007 + 60_000 * i64::try_from(index).unwrap();
        let stamp = Stamp {
            boot: BootId(1),
            since_boot: Duration::from_secs(60 * index),
            time: DateTime::from_timestamp_millis(milliseconds).unwrap(),
            time_quality,
        };
        let measurement = Measurement {
            air_temperature: Celsius(temperature),
            relative_humidity: Percent(humidity),
            station_pressure: Hectopascal(pressure),
        };
        let sample = Sample { stamp, measurement, quality };
        Reading {
            store_id: Arc::from("0b6c1e52-7d14-4c6e-9a3b-5f2d8e7a9c10"),
            run: Arc::from("kq7z"),
            sequence,
            sample,
        }
    };
    (0_u64..).zip(samples).map(reading).collect()
}

fn event() -> Event {
    let fields = json!({"first": 3, "last": 9, "count": 7, "reason": "the store is full"});
    Event {
        event_sequence: 2,
        run: Arc::from("kq7z"),
        store_id: Arc::from("0b6c1e52-7d14-4c6e-9a3b-5f2d8e7a9c10"),
        time: DateTime::from_timestamp(1_790_000_000, 0).unwrap(),
        kind: "gap".into(),
        fields: fields.as_object().unwrap().clone(),
    }
}

/// The payload of a transfer, as the sending loop makes it.
fn transfer(readings: Vec<Reading>, per_message: usize, altitude: Option<f64>) -> Vec<u8> {
    let place = |reading: Reading| (Position { generation: 1, row: reading.sequence }, reading);
    let mut queue: VecDeque<_> = readings.into_iter().map(place).collect();
    let bounds = Bounds { messages: 500, items: 500, bytes: MOST_BYTES, per_message, flush: true };
    let mut encoder = Encoder::new("roof", altitude);
    let packed = pack(&mut queue, &mut encoder, bounds, &mut Groups::default()).unwrap();
    assert!(queue.is_empty());
    serde_amqp::to_vec(&Serializable(Message::builder().data_batch(packed.parts).build())).unwrap()
}

fn event_transfer() -> Vec<u8> {
    let packed = pack_events(&[event()], &mut Encoder::new("roof", None), 10, MOST_BYTES).unwrap();
    serde_amqp::to_vec(&Serializable(Message::builder().data_batch(packed.parts).build())).unwrap()
}

#[test]
fn the_golden_messages_are_made_to_the_byte() {
    let made = [
        ("a message", false, Encoder::new("roof", None).reading(&readings()[0]).to_vec()),
        ("a transfer of one reading", true, transfer(readings().split_off(4), 1, None)),
        ("a transfer of five readings", true, transfer(readings(), 1, Some(120.0))),
        ("a transfer of five readings in one message", true, transfer(readings(), 5, None)),
        ("a transfer of one event", true, event_transfer()),
    ];
    let made: Vec<Value> =
        made.map(|(name, batch, bytes)| json!({ "name": name, "batch": batch, "hex": hex(&bytes) })).into();
    let mut kept: Vec<Value> =
        serde_json::from_str(include_str!("../../tests/golden/messages.json")).unwrap();
    for entry in &mut kept {
        // What rhea reads in it is for tests/wire.
        entry.as_object_mut().unwrap().remove("sections");
    }
    assert!(made == kept, "the wire has changed; now it is\n{}", Value::from(made));
}

/// In lines, for people.
fn hex(bytes: &[u8]) -> Vec<String> {
    bytes.chunks(48).map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect()).collect()
}
