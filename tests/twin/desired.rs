//! Desired properties: applied live, answered, kept, and dropped with the identity.

use std::time::Duration;

use serde_json::{Value, json};

use crate::bench::{Bench, DEVICE, SOON, identify};

const SENSOR: &str = r#"
    [sensor]
    source = "simulated"
    interval = "1h"
    offset = { temperature = 1.5 }
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_interval_takes_effect_at_once_and_holds_after_a_restart_without_a_hub() {
    let mut bench = Bench::start(SENSOR).await;
    let patch =
        json!({"sampleInterval": 1, "temperatureOffset": -2.5, "altitude": "high", "wind": 7, "sensor": "x"});
    let answer = bench.desire(&patch, "sampleInterval").await;
    assert_eq!(answer, json!({"value": 1, "ac": 200, "av": 2, "ad": "applied"}));
    bench.hub.wait_for(4, SOON).await.unwrap();

    let reported = bench.hub.twin(DEVICE)["reported"].clone();
    assert_eq!(
        reported["sensor"], "BME280 at 0x76 on the simulated bus",
        "what the station says of itself is not asked for"
    );
    assert_eq!(reported["temperatureOffset"]["value"], -2.5, "it replaces the file's value");
    assert_eq!(reported["altitude"]["ac"], 400);
    assert_eq!(
        reported["altitude"]["ad"],
        "altitude is \"high\", expected a number of metres above sea level, -500 to 9000"
    );
    assert_eq!((&reported["wind"]["ac"], &reported["wind"]["av"]), (&json!(400), &json!(2)));
    assert_eq!(bench.in_force("sensor.interval").await, (json!("1s"), json!("twin")));
    assert_eq!(bench.in_force("station.altitude").await, (Value::Null, json!("default")));
    for command in ["status", "check"] {
        let mut asking = tokio::process::Command::from(crate::support::station::binary());
        asking.arg("--config").arg(&bench.station.config).arg(command);
        let output = asking.output().await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("sensor.interval = \"1s\""), "{command}: {text}");
    }

    bench.hub.stop();
    bench.station.terminate();
    bench.station.wait(SOON).await;
    let before = bench.hub.messages_of(DEVICE).len() as u64;
    bench.station.start_again();
    bench
        .station
        .until("samples at the twin's interval without a hub", SOON, |status| {
            status["store"]["pending"].as_u64() >= Some(3)
                && status["store"]["lastSequence"].as_u64() >= Some(before + 3)
        })
        .await;
    assert_eq!(bench.in_force("sensor.interval").await, (json!("1s"), json!("twin")));
    assert_eq!(bench.in_force("sensor.offset").await.1, json!("twin"));
}

/// What a command of this station prints as JSON: its last line.
async fn last_line(bench: &Bench, arguments: &[&str]) -> Value {
    let mut asking = tokio::process::Command::from(crate::support::station::binary());
    asking.arg("--config").arg(&bench.station.config).args(arguments);
    let output = asking.output().await.unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

/// Desires these two, and waits until they are on the station's disk.
async fn keep(bench: &mut Bench, desired: Value, names: [&str; 2]) {
    bench.desire(&desired, names[0]).await;
    let on_disk = |reported: &Value| names.iter().all(|name| reported[name]["ac"] == 200);
    bench.until_reported("they are on disk", on_disk).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_that_need_no_station_go_by_the_twins_values() {
    let mut bench = Bench::start(SENSOR).await;
    keep(&mut bench, json!({"altitude": 120.5, "humidityOffset": -50}), ["altitude", "humidityOffset"]).await;
    let count = bench.hub.messages_of(DEVICE).len() as u64;
    assert_eq!(bench.call("readNow", &Value::Null).await.status, Some(200));
    bench.hub.wait_for(count + 1, SOON).await.unwrap();
    let sent = bench.hub.messages_of(DEVICE).last().unwrap().json();
    assert!(sent["seaLevelPressure"].is_number(), "{sent}");
    let export = ["export", "--format", "json"];
    assert_eq!(last_line(&bench, &export).await, sent);
    bench.station.terminate();
    bench.station.wait(SOON).await;
    assert_eq!(last_line(&bench, &export).await, sent);
    let read = last_line(&bench, &["read", "--json"]).await;
    assert!(read["seaLevelPressure"].is_number(), "{read}");
    let humidity = |reading: &Value| reading["currentHumidity"].as_f64().unwrap();
    let apart = (humidity(&read) - humidity(&sent)).abs();
    assert!(apart < 25.0, "the offset is another one: {read} after {sent}");

    // Another device has not got them.
    bench.hub.add_device("cellar");
    identify(bench.dir.path(), &bench.hub, "cellar");
    let read = last_line(&bench, &["read", "--json"]).await;
    assert_eq!((&read["deviceId"], &read["seaLevelPressure"]), (&json!("cellar"), &Value::Null));
}

/// What `check` finds: of the configuration, and of the sensor.
async fn found(bench: &Bench) -> [String; 2] {
    let mut asking = tokio::process::Command::from(crate::support::station::binary());
    asking.arg("--config").arg(&bench.station.config).args(["check", "--json"]);
    let output = asking.output().await.unwrap();
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    ["configuration", "sensor"].map(|name| {
        let mut checks = document["checks"].as_array().unwrap().iter();
        checks.find(|finding| finding["name"] == name).unwrap()["detail"].as_str().unwrap().to_owned()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_without_a_station_goes_by_the_twins_values_and_names_them() {
    let mut bench = Bench::start(SENSOR).await;
    let names = ["sampleInterval", "humidityOffset"];
    keep(&mut bench, json!({"sampleInterval": 20, "humidityOffset": -50}), names).await;
    let [beside, _] = found(&bench).await;
    let twins = "; 4320 metered messages a day, the free tier takes them; the twin sets sensor.interval = \"20s\", \
                 sensor.offset = {\"humidity\":-50.0,\"pressure\":0.0,\"temperature\":1.5}";
    assert!(beside.ends_with(twins), "{beside}");
    bench.station.terminate();
    bench.station.wait(SOON).await;
    let [configuration, sensor] = found(&bench).await;
    assert_eq!(configuration, beside);
    let humidity: f64 =
        sensor.split(&[' ', ':']).rev().skip_while(|word| *word != "%RH,").nth(1).unwrap().parse().unwrap();
    let read = last_line(&bench, &["read", "--json"]).await["currentHumidity"].as_f64().unwrap();
    assert!((humidity - read).abs() < 25.0, "the offset is another one: {sensor}, {read}");

    // Another device has not got them.
    bench.hub.add_device("cellar");
    identify(bench.dir.path(), &bench.hub, "cellar");
    let [configuration, _] = found(&bench).await;
    assert!(!configuration.contains("twin"), "{configuration}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn null_goes_back_to_the_file_and_so_does_what_vanishes_while_offline() {
    let bench = Bench::start(SENSOR).await;
    bench.desire(&json!({"keepDays": 9, "oversampling": {"pressure": 4}}), "keepDays").await;
    assert_eq!(bench.in_force("store.keep").await, (json!("9d"), json!("twin")));
    let answer = bench.desire(&json!({"keepDays": null}), "keepDays").await;
    assert_eq!((&answer["value"], &answer["ac"]), (&json!(400), &json!(200)));
    assert_eq!(bench.in_force("store.keep").await, (json!("400d"), json!("default")));
    let oversampling = json!({"temperature": 1, "pressure": 4, "humidity": 1});
    assert_eq!(bench.in_force("sensor.oversampling").await, (oversampling, json!("twin")));

    // While the hub is away the service replaces everything; the push is lost, GET brings it.
    bench.hub.stop();
    bench.station.until("offline", SOON, |status| status["cloud"]["state"] == "offline").await;
    let version = bench.hub.replace_desired(DEVICE, &json!({"humidityOffset": 3})).unwrap();
    bench.hub.start_again().unwrap();
    bench.until_reported("the answer", |reported| reported["humidityOffset"]["av"] == version).await;
    assert_eq!(bench.in_force("sensor.oversampling").await.1, json!("default"));
    let offset = json!({"temperature": 1.5, "pressure": 0.0, "humidity": 3.0});
    assert_eq!(bench.in_force("sensor.offset").await, (offset, json!("twin")));
    let gone = bench.hub.twin(DEVICE)["reported"]["oversampling"].clone();
    assert_eq!((&gone["ac"], &gone["av"]), (&json!(200), &json!(version)));

    // One GET a connection.
    let gets = bench.hub.events_of("twin").iter().filter(|event| event.detail["operation"] == "GET").count();
    assert_eq!(gets, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_identity_drops_the_twins_values_and_the_messages_before_it_reaches_the_hub() {
    let mut bench = Bench::start(SENSOR).await;
    bench.desire(&json!({"keepDays": 9}), "keepDays").await;
    bench.message(DEVICE, "for the roof").await;
    bench.hub.stop();
    bench.hub.add_device("cellar");
    bench.station.terminate();
    bench.station.wait(SOON).await;
    identify(bench.dir.path(), &bench.hub, "cellar");
    bench.station.start_again();
    bench
        .station
        .until("the file's value", SOON, |status| {
            status["identity"]["deviceId"] == "cellar"
                && status["configuration"]["store.keep"]["from"] == "default"
                && status["cloud"]["messages"] == json!([])
        })
        .await;

    // Nor is the other one told at its hub what was meant for the first.
    bench.hub.start_again().unwrap();
    let messages = bench.message("cellar", "for the cellar").await;
    assert_eq!(messages.len(), 1, "{messages:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_message_waits_for_its_readings_and_flush_sends_what_is_there() {
    let bench = Bench::start("[sensor]\nsource = \"simulated\"\ninterval = \"1h\"").await;
    bench.hub.wait_for(1, SOON).await.unwrap();
    bench.desire(&json!({"readingsPerMessage": 100}), "readingsPerMessage").await;
    for _ in 0..3 {
        assert_eq!(bench.call("readNow", &Value::Null).await.status, Some(200));
    }
    bench.station.until("three wait", SOON, |status| status["store"]["pending"] == 3).await;
    // Nothing goes out while nobody asks: a state that has to hold for a while, not one to wait for.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(bench.hub.messages_of(DEVICE).len(), 1);
    let answer = bench.call("flush", &json!({})).await;
    assert_eq!((answer.status, &answer.payload), (Some(200), &json!({"pending": 3})));
    bench.hub.wait_for(2, SOON).await.unwrap();
    let body = bench.hub.messages_of(DEVICE)[1].json();
    assert_eq!(body.as_array().map(Vec::len), Some(3));
}
