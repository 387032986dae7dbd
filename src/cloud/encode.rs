//! Readings and events as AMQP messages, byte for byte: the inner messages of a batch. Written by hand into a
//! buffer that is used again, because this is what a station spends its processor on while it catches up.
//! Knows the contract's message form; knows no link and no batch.
//!
//! An inner message is three sections (AMQP 1.0 part 3, section 3.2):
//! properties (`message-id`, `content-type`, `content-encoding`), application properties
//! (`iothub-creation-time-utc`) and one data section with the JSON.

use std::io::Write as _;

use chrono::{DateTime, Utc};

use super::amqp_bytes::{list_head, section, sized, sized_len};
use super::json_bytes::{TIME_LENGTH, number, string, time, unsigned, wrote};
use crate::derived;
use crate::reading::Reading;
use crate::store::Event;

const PROPERTIES: u8 = 0x73;
const APPLICATION_PROPERTIES: u8 = 0x74;
const DATA: u8 = 0x75;

/// Writes messages of one device.
#[derive(Debug)]
pub struct Encoder {
    /// `{"deviceId":"...","time":"`, escaped once.
    opening: String,
    /// Metres; adds sea-level pressure.
    altitude: Option<f64>,
    id: Vec<u8>,
    body: Vec<u8>,
    message: Vec<u8>,
}

impl Encoder {
    pub fn new(device_id: &str, altitude: Option<f64>) -> Self {
        let device = serde_json::Value::from(device_id);
        Self {
            opening: format!("{{\"deviceId\":{device},\"time\":\""),
            altitude,
            id: Vec::new(),
            body: Vec::new(),
            message: Vec::new(),
        }
    }

    /// The cloud may change it.
    pub fn set_altitude(&mut self, altitude: Option<f64>) {
        self.altitude = altitude;
    }

    /// One reading: a JSON object, id `{storeId}-{run}-{sequence}`.
    pub fn reading(&mut self, reading: &Reading) -> &[u8] {
        self.body.clear();
        self.object(reading);
        self.id.clear();
        wrote(write!(self.id, "{}-{}-{}", reading.store_id, reading.run, reading.sequence));
        self.finish(reading.sample.stamp.time)
    }

    /// Several readings of one store and run: a JSON array, id `{storeId}-{run}-{first}-{last}`.
    pub fn array<'a>(&mut self, readings: impl IntoIterator<Item = &'a Reading>) -> &[u8] {
        self.body.clear();
        let mut first: Option<&Reading> = None;
        let mut last = None;
        for reading in readings {
            self.body.push(if first.is_none() { b'[' } else { b',' });
            first = first.or(Some(reading));
            last = Some(reading);
            self.object(reading);
        }
        self.body.push(b']');
        self.id.clear();
        let (Some(first), Some(last)) = (first, last) else { return &[] };
        wrote(write!(self.id, "{}-{}-{}-{}", first.store_id, first.run, first.sequence, last.sequence));
        self.finish(last.sample.stamp.time)
    }

    /// One event: a JSON object, id `{storeId}-{run}-e{eventSequence}`.
    pub fn event(&mut self, event: &Event) -> &[u8] {
        self.body.clear();
        self.body.extend_from_slice(self.opening.as_bytes());
        time(&mut self.body, event.time);
        let kind = serde_json::Value::from(event.kind.as_str());
        wrote(write!(self.body, "\",\"event\":{kind},\"storeId\":"));
        string(&mut self.body, &event.store_id);
        wrote(write!(self.body, ",\"eventSequence\":{}", event.event_sequence));
        for (key, value) in &event.fields {
            let key = serde_json::Value::from(key.as_str());
            wrote(write!(self.body, ",{key}:{value}"));
        }
        self.body.push(b'}');
        self.id.clear();
        wrote(write!(self.id, "{}-{}-e{}", event.store_id, event.run, event.event_sequence));
        self.finish(event.time)
    }

    /// The JSON of [`crate::observation::Observation`], without its allocations; a test holds the two together.
    fn object(&mut self, reading: &Reading) {
        let out = &mut self.body;
        let measured = &reading.sample.measurement;
        let (air, humidity) = (measured.air_temperature, measured.relative_humidity);
        out.extend_from_slice(self.opening.as_bytes());
        time(out, reading.sample.stamp.time);
        out.extend_from_slice(b"\",\"currentTemperature\":");
        number(out, air.0, 2);
        out.extend_from_slice(b",\"currentHumidity\":");
        number(out, humidity.0, 2);
        out.extend_from_slice(b",\"currentPressure\":");
        number(out, measured.station_pressure.kilopascal(), 3);
        if let Some(altitude) = self.altitude {
            let pressure = derived::sea_level_pressure(measured.station_pressure, air, humidity, altitude);
            out.extend_from_slice(b",\"seaLevelPressure\":");
            number(out, pressure.kilopascal(), 3);
        }
        if let Some(dew_point) = derived::dew_point(air, humidity) {
            out.extend_from_slice(b",\"dewPoint\":");
            number(out, dew_point.0, 2);
        }
        if let Some(quality) = reading.sample.stamp.time_quality.telemetry() {
            wrote(write!(out, ",\"timeQuality\":\"{quality}\""));
        }
        if let Some(quality) = reading.sample.quality.telemetry() {
            wrote(write!(out, ",\"quality\":\"{quality}\""));
        }
        out.extend_from_slice(b",\"storeId\":");
        string(out, &reading.store_id);
        out.extend_from_slice(b",\"sequence\":");
        unsigned(out, reading.sequence);
        out.push(b'}');
    }

    /// Puts the sections around `id` and `body`.
    fn finish(&mut self, created: DateTime<Utc>) -> &[u8] {
        let out = &mut self.message;
        out.clear();
        // Eight fields: message-id, five nulls (user-id, to, subject, reply-to, correlation-id), content-type
        // and content-encoding.
        let fields = sized_len(self.id.len()) + 5 + 2 + CONTENT_TYPE.len() + 2 + CONTENT_ENCODING.len();
        section(out, PROPERTIES);
        list_head(out, fields, 8);
        sized(out, 0xa1, &self.id);
        out.extend_from_slice(&[0x40; 5]);
        sized(out, 0xa3, CONTENT_TYPE);
        sized(out, 0xa3, CONTENT_ENCODING);
        section(out, APPLICATION_PROPERTIES);
        let size = 1 + 2 + CREATION_TIME.len() + 2 + TIME_LENGTH;
        out.extend_from_slice(&[0xc1, u8::try_from(size).expect("a map of two short strings"), 2]);
        sized(out, 0xa1, CREATION_TIME);
        out.extend_from_slice(&[0xa1, u8::try_from(TIME_LENGTH).expect("24")]);
        time(out, created);
        section(out, DATA);
        sized(out, 0xa0, &self.body);
        &self.message
    }
}

const CONTENT_TYPE: &[u8] = b"application/json";
const CONTENT_ENCODING: &[u8] = b"utf-8";
const CREATION_TIME: &[u8] = b"iothub-creation-time-utc";

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use fe2o3_amqp_types::messaging::message::DecodeIntoMessage;
    use fe2o3_amqp_types::messaging::{Body, Data, MessageId};
    use fe2o3_amqp_types::primitives::SimpleValue;
    use serde_amqp::Value;
    use serde_amqp::read::SliceReader;

    use super::*;
    use crate::observation::Observation;
    use crate::reading::{
        BootId, Celsius, Hectopascal, Measurement, Percent, Quality, Sample, Stamp, TimeQuality,
    };

    fn reading(sequence: u64, temperature: f64, humidity: f64, pressure: f64) -> Reading {
        let time =
            DateTime::from_timestamp_millis(1_790_000_000_007 + 61_001 * i64::try_from(sequence).unwrap());
        let stamp = Stamp {
            boot: BootId(1),
            since_boot: Duration::ZERO,
            time: time.unwrap(),
            time_quality: if sequence.is_multiple_of(3) {
                TimeQuality::Synchronised
            } else {
                TimeQuality::Unknown
            },
        };
        let measurement = Measurement {
            air_temperature: Celsius(temperature),
            relative_humidity: Percent(humidity),
            station_pressure: Hectopascal(pressure),
        };
        let quality = if sequence.is_multiple_of(5) { Quality::Jump } else { Quality::Good };
        Reading {
            store_id: Arc::from("5f1c2a"),
            run: Arc::from("kq7z"),
            sequence,
            sample: Sample { stamp, measurement, quality },
        }
    }

    fn decoded(bytes: &[u8]) -> (String, String, String, serde_json::Value) {
        let message = Body::<Value>::decode_message_from_reader(SliceReader::new(bytes)).unwrap();
        let properties = message.properties.unwrap();
        let Some(MessageId::String(id)) = properties.message_id else { panic!("no string id") };
        assert_eq!(properties.content_type.unwrap().as_str(), "application/json");
        assert_eq!(properties.content_encoding.unwrap().as_str(), "utf-8");
        let application = message.application_properties.unwrap();
        let Some(SimpleValue::String(created)) = application.0.get("iothub-creation-time-utc") else {
            panic!("no creation time")
        };
        let Body::Data(data) = message.body else { panic!("no data section") };
        let parts: Vec<Data> = data.into_inner();
        assert_eq!(parts.len(), 1);
        let text = String::from_utf8(parts[0].0.to_vec()).unwrap();
        (id, created.clone(), text.clone(), serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn a_message_decodes_to_the_contracts_form() {
        let mut encoder = Encoder::new("roof", Some(120.0));
        let reading = reading(41, 21.5, 48.25, 1001.37);
        let (id, created, text, json) = decoded(encoder.reading(&reading));
        assert_eq!(id, "5f1c2a-kq7z-41");
        assert_eq!(created, json["time"]);
        assert_eq!(text, serde_json::to_string(&Observation::of(&reading, "roof", Some(120.0))).unwrap());
    }

    #[test]
    fn the_json_is_that_of_the_observation_over_the_whole_range() {
        let mut random = fastrand::Rng::with_seed(3);
        for device in ["roof", "a \"quoted\" \\ name", "gr\u{fc}n"] {
            let mut encoder = Encoder::new(device, None);
            for sequence in 1..3000 {
                let reading = reading(
                    sequence,
                    random.f64() * 125.0 - 40.0,
                    random.f64() * 100.0,
                    300.0 + random.f64() * 800.0,
                );
                let expected = serde_json::to_string(&Observation::of(&reading, device, None)).unwrap();
                let (_, _, text, _) = decoded(encoder.reading(&reading));
                assert_eq!(text, expected.replace("-0.0,", "0.0,"));
            }
        }
    }

    #[test]
    fn several_readings_are_an_array_named_by_its_first_and_last() {
        let mut encoder = Encoder::new("roof", None);
        let readings: Vec<_> = (7..12).map(|n| reading(n, 1.0, 2.0, 900.0)).collect();
        let (id, created, _, json) = decoded(encoder.array(&readings));
        assert_eq!(id, "5f1c2a-kq7z-7-11");
        assert_eq!(json.as_array().unwrap().len(), 5);
        assert_eq!(created, json[4]["time"]);
        assert_eq!(json[0]["sequence"], 7);
    }

    #[test]
    fn an_event_carries_its_own_number_and_fields() {
        let mut encoder = Encoder::new("roof", None);
        let fields = serde_json::json!({"first": 3, "last": 9, "count": 7, "reason": "full"});
        let event = Event {
            event_sequence: 2,
            run: Arc::from("kq7z"),
            store_id: Arc::from("5f1c2a"),
            time: DateTime::from_timestamp(1_790_000_000, 0).unwrap(),
            kind: "gap".into(),
            fields: fields.as_object().unwrap().clone(),
        };
        let (id, _, _, json) = decoded(encoder.event(&event));
        assert_eq!(id, "5f1c2a-kq7z-e2");
        assert_eq!(json["event"], "gap");
        assert_eq!(json["eventSequence"], 2);
        assert_eq!(json["count"], 7);
        assert_eq!(json.get("sequence"), None);
    }

    #[test]
    fn the_bytes_of_a_message_do_not_change() {
        let mut encoder = Encoder::new("d", None);
        let bytes = encoder.reading(&reading(3, -0.004, 0.0, 1013.25)).to_vec();
        let expected = b"\x00Ss\xc0\x2e\x08\xa1\x0d5f1c2a-kq7z-3\x40\x40\x40\x40\x40\
            \xa3\x10application/json\xa3\x05utf-8\
            \x00St\xc1\x35\x02\xa1\x18iothub-creation-time-utc\xa1\x182026-09-21T14:16:23.010Z\
            \x00Su\xa0";
        assert_eq!(bytes[..expected.len()], expected[..], "{:?}", String::from_utf8_lossy(&bytes));
        let body = &bytes[expected.len() + 1..];
        assert_eq!(
            String::from_utf8_lossy(body),
            "{\"deviceId\":\"d\",\"time\":\"2026-09-21T14:16:23.010Z\",\"currentTemperature\":0.0,\
             \"currentHumidity\":0.0,\"currentPressure\":101.325,\"storeId\":\"5f1c2a\",\"sequence\":3}"
        );
    }
}
