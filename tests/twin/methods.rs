//! Direct methods and messages to the device.

use std::time::Duration;

use hub_emulator::{Behaviour, C2dState, Correlation};
use serde_json::{Value, json};

use chrono::{DateTime, TimeDelta, Utc};
use weather_station::clock::{Clock, SystemClock};
use weather_station::reading::{
    Celsius, FromSensor, Hectopascal, Measurement, Percent, Quality, Sample, Stamp, TimeQuality,
};

use crate::bench::{Bench, DEVICE, SOON, make_store, on_disk};

const SENSOR: &str = "[sensor]\nsource = \"simulated\"\ninterval = \"1h\"";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_method_answers_and_what_is_wrong_is_refused_with_the_reason() {
    let bench = Bench::start(SENSOR).await;
    let reading = bench.call("readNow", &Value::Null).await;
    assert_eq!(reading.status, Some(200));
    assert_eq!(reading.payload["deviceId"], DEVICE);
    bench.hub.wait_for(2, SOON).await.unwrap();
    let sent = bench.hub.messages_of(DEVICE)[1].json();
    assert_eq!(reading.payload["time"], sent["time"], "it is stored and sent like any other");
    for key in ["currentTemperature", "currentHumidity", "currentPressure"] {
        // The store keeps thousandths, so the last digit may be rounded the other way.
        let difference = reading.payload[key].as_f64().unwrap() - sent[key].as_f64().unwrap();
        assert!(difference.abs() < 0.0101, "{key}: {} and {sent}", reading.payload);
    }

    let status = bench.call("getStatus", &Value::Null).await;
    assert_eq!((status.status, &status.payload["cloud"]["state"]), (Some(200), &json!("online")));

    let report = bench.call("getReport", &json!("2020-01-01T00:00:00Z")).await;
    assert_eq!((report.status, &report.payload["count"]), (Some(200), &json!(2)));
    let temperatures = bench.hub.messages_of(DEVICE);
    let mean =
        temperatures.iter().map(|m| m.json()["currentTemperature"].as_f64().unwrap()).sum::<f64>() / 2.0;
    assert!((report.payload["temperature"]["mean"].as_f64().unwrap() - mean).abs() < 0.011);
    assert!(report.payload["pressure"]["max"].as_f64().unwrap() < 110.0, "kilopascal");
    let same = bench.call("getReport", &json!({"since": "2020-01-01T00:00:00Z"})).await;
    assert_eq!(same.payload["count"], 2);

    assert_eq!(bench.call("restartSensor", &Value::Null).await.status, Some(200));

    let unknown = bench.call("reboot", &Value::Null).await;
    assert_eq!(unknown.status, Some(404));
    assert!(unknown.payload["error"].as_str().unwrap().starts_with("there is no method \"reboot\""));
    for (method, payload) in [("getReport", json!("yesterday")), ("flush", json!([1])), ("readNow", json!(5))]
    {
        let refused = bench.call(method, &payload).await;
        assert_eq!(refused.status, Some(400), "{method}");
        assert!(refused.payload["error"].as_str().unwrap().contains("expected"), "{}", refused.payload);
    }
}

/// A stretch of more than a day is answered from folded readings, and those begin on round times.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_has_no_reading_from_before_its_time() {
    let five_minutes = |time: DateTime<Utc>| time.timestamp() / 300 * 300;
    let now = SystemClock::new().wall();
    let since = DateTime::from_timestamp(five_minutes(now - TimeDelta::hours(30)) + 120, 0).unwrap();
    let readings =
        [(since - TimeDelta::seconds(1), 60.0), (since, 20.0), (since + TimeDelta::seconds(1), 22.0)];
    let bench = Bench::start_seeded(SENSOR, "", move |path| {
        make_store(path, 1 << 20, async |samples, store, timekeeper| {
            for (time, temperature) in readings {
                let sample = Sample {
                    stamp: Stamp { time, time_quality: TimeQuality::Synchronised, ..timekeeper.stamp() },
                    measurement: Measurement {
                        air_temperature: Celsius(temperature),
                        relative_humidity: Percent(50.0),
                        station_pressure: Hectopascal(1_000.0),
                    },
                    quality: Quality::Good,
                };
                samples.send(FromSensor::Sample(sample)).await.unwrap();
            }
            drop(samples);
            on_disk(store, 3).await;
        });
    })
    .await;
    bench.until_steered().await;
    // The station's own sensor takes one more.
    bench.hub.wait_for(4, SOON).await.unwrap();
    let all = bench.call("getReport", &json!(since - TimeDelta::seconds(1))).await.payload;
    assert_eq!((&all["count"], &all["temperature"]["max"]), (&json!(4), &json!(60.0)));
    let report = bench.call("getReport", &json!(since)).await.payload;
    assert_eq!(report["count"], 3, "{report}");
    assert!(report["temperature"]["max"].as_f64().unwrap() < 40.0, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn correlation_ids_come_back_in_the_type_they_came_in() {
    let bench = Bench::start(SENSOR).await;
    for (correlation, id_type) in [
        (Correlation::Uuid, "uuid"),
        (Correlation::String, "string"),
        (Correlation::Binary, "binary"),
        (Correlation::Ulong, "ulong"),
    ] {
        bench.hub.set_behaviour(|behaviour: &mut Behaviour| behaviour.correlation = correlation);
        assert_eq!(bench.call("flush", &Value::Null).await.id_type, id_type);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_to_the_device_are_completed_and_shown_also_after_a_restart() {
    let mut bench = Bench::start(SENSOR).await;
    let property = [("from".to_owned(), "the office".to_owned())];
    let shown = bench.hub.send_c2d(DEVICE, "Grüße".as_bytes(), property).unwrap();
    let refused = bench.hub.send_c2d(DEVICE, &[0xff, 0xfe], []).unwrap();
    assert_eq!(bench.hub.wait_for_c2d(shown, SOON).await.unwrap().state, C2dState::Completed);
    let refused = bench.hub.wait_for_c2d(refused, SOON).await.unwrap().state;
    assert!(matches!(refused, C2dState::Rejected { .. }), "{refused:?}");
    for round in 0..2 {
        let status = bench
            .station
            .until("the message is shown", SOON, |status| !status["cloud"]["messages"][0].is_null())
            .await;
        let messages = status["cloud"]["messages"].as_array().unwrap();
        assert_eq!((messages.len(), &messages[0]["text"]), (1, &json!("Grüße")), "round {round}");
        assert_eq!(messages[0]["properties"], json!({"from": "the office"}));
        if round == 0 {
            bench.station.terminate();
            bench.station.wait(Duration::from_secs(12)).await;
            bench.station.start_again();
        }
    }
}
