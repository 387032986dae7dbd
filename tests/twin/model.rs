//! The model in `deploy/model` against what the station really sends, reports and answers: nothing is sent that the
//! model does not have, and nothing is in the model that the station does not have.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use weather_station::clock::{SystemClock, Timekeeper};
use weather_station::cloud::{MODEL_ID, Method, REPORTED};
use weather_station::config::Config;
use weather_station::observation::Observation;
use weather_station::reading::{
    Celsius, FromSensor, Hectopascal, Measurement, Percent, Quality, Sample, Stamp, TimeQuality,
};
use weather_station::settings::{Property, Settings};

use crate::bench::{Bench, DEVICE, SOON, make_store, on_disk};

const MODEL: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/deploy/model/dtmi/weatherstation/weatherstation-1.json"
));

/// The properties of the published model that the component refers to.
const DEVICE_INFORMATION: [(&str, &str); 8] = [
    ("manufacturer", "string"),
    ("model", "string"),
    ("swVersion", "string"),
    ("osName", "string"),
    ("processorArchitecture", "string"),
    ("processorManufacturer", "string"),
    ("totalStorage", "double"),
    ("totalMemory", "double"),
];

struct Model(Value);

impl Model {
    fn read() -> Self {
        Self(serde_json::from_str(MODEL).unwrap())
    }

    /// The contents of one type, by name.
    fn of(&self, kind: &str) -> BTreeMap<&str, &Value> {
        let contents = self.0["contents"].as_array().unwrap();
        let is = |entry: &&Value| match &entry["@type"] {
            Value::Array(kinds) => kinds.contains(&json!(kind)),
            one => one == kind,
        };
        contents.iter().filter(is).map(|entry| (entry["name"].as_str().unwrap(), entry)).collect()
    }

    fn names(&self, kind: &str) -> BTreeSet<String> {
        self.of(kind).into_keys().map(str::to_owned).collect()
    }

    fn writable(&self, writable: bool) -> BTreeMap<&str, &Value> {
        let is = |entry: &Value| entry["writable"].as_bool().unwrap_or(false) == writable;
        self.of("Property").into_iter().filter(|(_, entry)| is(entry)).collect()
    }

    /// What is wrong with a value by a schema; members that the schema does not have are wrong unless `more`.
    fn faults(&self, schema: &Value, value: &Value, at: &str, more: bool) -> Vec<String> {
        let fault = |what: &str| vec![format!("{at} = {value}: expected {what}")];
        if let Some(name) = schema.as_str() {
            let fits = match name {
                "string" => value.is_string(),
                "double" => value.is_number(),
                "integer" => value.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
                "long" => value.is_i64() || value.is_u64(),
                "boolean" => value.is_boolean(),
                "dateTime" => {
                    value.as_str().is_some_and(|text| chrono::DateTime::parse_from_rfc3339(text).is_ok())
                }
                named => {
                    let schemas = self.0["schemas"].as_array().unwrap();
                    let found = schemas.iter().find(|schema| schema["@id"] == named).unwrap();
                    return self.faults(found, value, at, more);
                }
            };
            return if fits { Vec::new() } else { fault(name) };
        }
        match schema["@type"].as_str().unwrap() {
            "Enum" => {
                let values = schema["enumValues"].as_array().unwrap();
                let known = values.iter().any(|known| known["enumValue"] == *value);
                if known { Vec::new() } else { fault("one of the enumeration") }
            }
            "Object" => {
                let Some(members) = value.as_object() else { return fault("an object") };
                let fields = schema["fields"].as_array().unwrap();
                let field = |name: &str| fields.iter().find(|field| field["name"] == name);
                let faults = members.iter().flat_map(|(name, value)| {
                    let at = format!("{at}.{name}");
                    match field(name) {
                        _ if value.is_null() => Vec::new(),
                        Some(field) => self.faults(&field["schema"], value, &at, more),
                        None if more => Vec::new(),
                        None => vec![format!("{at} is not in the model")],
                    }
                });
                faults.collect()
            }
            other => panic!("a schema of type {other}"),
        }
    }

    fn check(&self, schema: &Value, value: &Value, at: &str) {
        assert_eq!(self.faults(schema, value, at, false), Vec::<String>::new());
    }

    /// Each member of a message is in the model, and right by it.
    fn check_message(&self, body: &Value) {
        let telemetry = self.of("Telemetry");
        for (name, value) in body.as_object().unwrap() {
            let modelled =
                telemetry.get(&**name).unwrap_or_else(|| panic!("{name} is not in the model: {body}"));
            self.check(&modelled["schema"], value, name);
        }
    }
}

fn keys(value: &Value) -> BTreeSet<String> {
    value.as_object().unwrap().keys().cloned().collect()
}

fn set(names: impl IntoIterator<Item = &'static str>) -> BTreeSet<String> {
    names.into_iter().map(str::to_owned).collect()
}

#[test]
fn the_model_names_what_the_program_names() {
    let model = Model::read();
    assert_eq!((&model.0["@context"], &model.0["@id"]), (&json!("dtmi:dtdl:context;2"), &json!(MODEL_ID)));
    assert_eq!(model.names("Command"), set(Method::ALL.map(Method::name)));
    let writable: BTreeSet<_> = model.writable(true).into_keys().map(str::to_owned).collect();
    assert_eq!(writable, set(Property::ALL.map(Property::name)));
    let own: BTreeSet<_> = model.writable(false).into_keys().map(str::to_owned).collect();
    let components = model.names("Component");
    assert_eq!(own.union(&components).cloned().collect::<BTreeSet<_>>(), set(REPORTED));
    // DTDL v2: names are unique within an interface, start with a letter, and have at most 64 characters.
    let contents = model.0["contents"].as_array().unwrap();
    let names: BTreeSet<_> = contents.iter().map(|entry| entry["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), contents.len());
    let legal = |name: &str| name.len() <= 64 && name.chars().all(|c| c.is_ascii_alphanumeric());
    assert!(names.iter().all(|name| legal(name)), "{names:?}");
}

#[test]
fn every_writable_property_takes_a_value_of_its_schema_and_no_other_type() {
    let model = Model::read();
    let file = Settings::from_file(&Config::default());
    for (name, entry) in model.writable(true) {
        let property = Property::from_name(name).unwrap();
        let mut settings = file.clone();
        let good = match &entry["schema"] {
            Value::String(_) => json!(8),
            _ => json!({"temperature": 8, "pressure": 8, "humidity": 8}),
        };
        model.check(&entry["schema"], &good, name);
        property.apply(&good, &file, &mut settings).unwrap();
        model.check(&entry["schema"], &property.in_force(&settings), name);
        property.apply(&json!("8"), &file, &mut settings).unwrap_err();
        let whole = entry["schema"] == "integer" || matches!(name, "sampleInterval" | "keepDays");
        assert_eq!(
            property.apply(&json!(8.5), &file, &mut settings).is_err(),
            whole || entry["schema"] != "double"
        );
        // What the twin does not take, the file may: it is reported as it is.
        settings.sample_interval = Duration::from_millis(1_500);
        settings.keep = Duration::from_secs(3_600);
        model.check(&entry["schema"], &property.in_force(&settings), name);
    }
}

/// Every quality there is.
#[test]
fn every_form_of_a_reading_is_in_the_model() {
    let model = Model::read();
    let timekeeper = Timekeeper::new(Arc::new(SystemClock::new()), chrono::DateTime::UNIX_EPOCH);
    for quality in (0..).map_while(Quality::from_code) {
        for time_quality in (0..).map_while(TimeQuality::from_code) {
            let stamp = Stamp { time_quality, ..timekeeper.stamp() };
            let sample = sample(stamp, quality);
            let observation = Observation::of_sample(&sample, DEVICE, Some(100.0));
            model.check_message(&serde_json::to_value(observation).unwrap());
        }
    }
}

fn sample(stamp: Stamp, quality: Quality) -> Sample {
    let measurement = Measurement {
        air_temperature: Celsius(21.5),
        relative_humidity: Percent(40.0),
        station_pressure: Hectopascal(1_000.0),
    };
    Sample { stamp, measurement, quality }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_is_sent_reported_and_answered_is_in_the_model_and_the_other_way_round() {
    let model = Model::read();
    let section = "[station]\naltitude = 100\n[sensor]\nsource = \"simulated\"\ninterval = \"1h\"";
    let bench = Bench::start(section).await;
    bench.hub.wait_for(1, SOON).await.unwrap();
    let own: BTreeSet<_> = set(REPORTED);
    // What there is only now and then.
    let sometimes = set(["oldestPendingTime", "lastError"]);
    let reported = bench.until_reported("the sensor", |reported| reported["sensor"].is_string()).await;
    let mut names = keys(&reported);
    names.remove("$version");
    let all = model.names("Property").union(&model.names("Component")).cloned().collect::<BTreeSet<_>>();
    assert_eq!(names.union(&sometimes).cloned().collect::<BTreeSet<_>>(), all);
    for (name, entry) in model.of("Property") {
        let value = &reported[name];
        let value = if own.contains(name) { value } else { &value["value"] };
        if !(value.is_null() && sometimes.contains(name)) {
            model.check(&entry["schema"], value, name);
        }
    }
    let mut component = reported["deviceInformation"].clone();
    assert_eq!(component.as_object_mut().unwrap().remove("__t"), Some(json!("c")));
    assert_eq!(keys(&component), set(DEVICE_INFORMATION.map(|(name, _)| name)));
    for (name, schema) in DEVICE_INFORMATION {
        model.check(&json!(schema), &component[name], name);
    }

    for (name, command) in model.of("Command") {
        let payload =
            if command.get("request").is_some() { json!("2020-01-01T00:00:00Z") } else { Value::Null };
        if let Some(request) = command.get("request") {
            model.check(&request["schema"], &payload, name);
        }
        let answer = bench.call(name, &payload).await;
        assert_eq!(answer.status, Some(200), "{name}: {}", answer.payload);
        // The status document grows; what is modelled of it has to be there.
        let more = name == "getStatus";
        let schema = &command["response"]["schema"];
        assert_eq!(model.faults(schema, &answer.payload, name, more), Vec::<String>::new());
        let schemas = model.0["schemas"].as_array().unwrap();
        let whole = schemas.iter().find(|named| named["@id"] == *schema).unwrap_or(schema);
        for field in whole["fields"].as_array().unwrap() {
            let field = field["name"].as_str().unwrap();
            let absent = answer.payload.get(field).is_none();
            assert!(
                !absent || field.ends_with("uality"),
                "{name} answers without {field}: {}",
                answer.payload
            );
        }
    }

    let links: Vec<_> = bench.hub.connections().into_iter().flat_map(|connection| connection.links).collect();
    let announcing: Vec<_> =
        links.iter().filter(|link| link.properties.contains_key("com.microsoft:model-id")).collect();
    assert!(announcing.iter().all(|link| link.properties["com.microsoft:model-id"] == MODEL_ID));
    assert_eq!(announcing.len(), 3, "telemetry, twin and methods send: {links:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_message_is_in_the_model_and_every_part_of_a_message_is_sent() {
    let model = Model::read();
    let section = "[station]\naltitude = 100\n[sensor]\nsource = \"simulated\"\ninterval = \"1h\"";
    let store = "max_size = \"1MiB\"";
    let mut bench = Bench::start_seeded(section, store, seed).await;
    let is_event = |body: &Value, kind: &str| body["event"] == kind;
    let seen = |kind: &'static str| {
        let hub = &bench.hub;
        move || {
            let found = hub.messages_of(DEVICE).iter().any(|message| is_event(&message.json(), kind));
            async move { found.then_some(()) }
        }
    };
    for kind in ["gap", "missedSamples", "deadLetter"] {
        crate::support::station::wait_for(kind, SOON, seen(kind)).await;
    }
    bench.station.terminate();
    bench.station.wait(SOON).await;
    let config = std::fs::read_to_string(&bench.station.config).unwrap();
    std::fs::write(&bench.station.config, config.replace(store, "")).unwrap();
    // Both: the journal may hold the whole first page.
    for file in ["readings.db", "readings.db-wal"] {
        let path = bench.dir.path().join(file);
        if let Ok(mut bytes) = std::fs::read(&path) {
            bytes.iter_mut().take(100).for_each(|byte| *byte = 0xa5);
            std::fs::write(&path, bytes).unwrap();
        }
    }
    bench.station.start_again();
    let seen = || {
        let messages = bench.hub.messages_of(DEVICE);
        let found = messages.iter().any(|message| is_event(&message.json(), "storeReplaced"));
        async move { found.then_some(()) }
    };
    let found =
        tokio::time::timeout(SOON, crate::support::station::wait_for("storeReplaced", 2 * SOON, seen)).await;
    assert!(
        found.is_ok(),
        "no storeReplaced: {:?}\n{}",
        bench.station.status().await,
        bench.station.log_text()
    );

    let mut names = BTreeSet::new();
    for message in bench.hub.messages_of(DEVICE) {
        let body = message.json();
        model.check_message(&body);
        names.extend(keys(&body));
    }
    // A healthy test has a good sensor and a clock that may or may not be synchronised.
    names.extend(set(["quality", "timeQuality"]));
    assert_eq!(names, model.names("Telemetry"));
}

/// A store that is too small for its readings, with a stretch that was missed and a reading that was set aside.
fn seed(path: &Path) {
    const READINGS: u32 = 12_000;
    make_store(path, 1 << 20, async |samples, store, timekeeper| {
        for _ in 0..READINGS {
            let sample = sample(timekeeper.stamp(), Quality::Good);
            samples.send(FromSensor::Sample(sample)).await.unwrap();
        }
        let (from, until) = (timekeeper.stamp(), timekeeper.stamp());
        let missed = FromSensor::Missed { count: 3, from, until, reason: "no answer at 0x76".into() };
        samples.send(missed).await.unwrap();
        drop(samples);
        on_disk(store, READINGS.into()).await;
        let page = store.pending(None, 1).await.unwrap();
        let first = page.readings.first().unwrap().0;
        store.dead_letter(vec![first], "com.microsoft:argument-error".into()).await.unwrap();
    });
}
