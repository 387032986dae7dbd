//! Each method against fakes at the other ends of its channels, and payloads that are not what it takes.

use proptest::prelude::*;

use super::*;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::identity::Identity;
use crate::reading::{Celsius, Hectopascal, Measurement, Percent, Quality, Sample};

pub struct Bench {
    pub desk: Desk,
    sensor: mpsc::Receiver<SensorRequest>,
    _settings: watch::Sender<Settings>,
    // Keeps the folder while the store lives.
    _dir: tempfile::TempDir,
}

pub fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.store.path = dir.path().join("readings.db");
    let timekeeper = Timekeeper::new(Arc::new(SystemClock::new()), chrono::DateTime::UNIX_EPOCH);
    // The task is dropped: whoever asks the store is told that it has gone.
    let (_, store) = crate::store::open(&config.store, &timekeeper, "run".into()).unwrap();
    let (sensor_tx, sensor) = mpsc::channel(1);
    let (_settings, settings) = watch::channel(Settings::from_file(&config));
    let board = Arc::new(Board::default());
    board.identity.send_modify(|status| {
        status.identity = Some(Identity { host: "hub.example".into(), device_id: "roof".into() });
    });
    let desk = Desk { board, timekeeper, store, sensor: sensor_tx, settings, flush: Arc::default() };
    Bench { desk, sensor, _settings, _dir: dir }
}

fn sample(desk: &Desk) -> Sample {
    Sample {
        stamp: desk.timekeeper.stamp(),
        measurement: Measurement {
            air_temperature: Celsius(21.5),
            relative_humidity: Percent(40.0),
            station_pressure: Hectopascal(1_000.0),
        },
        quality: Quality::Good,
    }
}

fn error(answer: &Answer) -> (i32, &str) {
    (answer.status, answer.body["error"].as_str().unwrap_or_default())
}

#[tokio::test(start_paused = true)]
async fn read_now_answers_with_the_reading_in_telemetrys_words() {
    let mut bench = bench();
    let taken = sample(&bench.desk);
    let sensor = async {
        match bench.sensor.recv().await {
            Some(SensorRequest::ReadNow(reply)) => reply.send(Ok(taken)).unwrap(),
            other => panic!("{other:?}"),
        }
    };
    let (answer, ()) = tokio::join!(call("readNow", b"", &bench.desk), sensor);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body["currentPressure"], 100.0);
    assert_eq!(answer.body["deviceId"], "roof");
}

#[tokio::test(start_paused = true)]
async fn a_sensor_that_fails_is_busy_or_hangs_is_an_answer_within_four_seconds() {
    let mut bench = bench();
    let sensor = async {
        match bench.sensor.recv().await {
            Some(SensorRequest::Restart(reply)) => reply.send(Err("no answer at 0x76".into())).unwrap(),
            other => panic!("{other:?}"),
        }
    };
    let (answer, ()) = tokio::join!(call("restartSensor", b"null", &bench.desk), sensor);
    assert_eq!(error(&answer), (500, "no answer at 0x76"));

    let begin = tokio::time::Instant::now();
    let answer = call("readNow", b"{}", &bench.desk).await;
    assert_eq!(error(&answer), (504, "readNow was not done within 4 s"));
    assert_eq!(begin.elapsed(), LIMIT);
    // The request that hung still fills the channel.
    let answer = call("readNow", b"{}", &bench.desk).await;
    assert_eq!(error(&answer).0, 503);
    let answer = call("getReport", b"\"2026-01-01T00:00:00Z\"", &bench.desk).await;
    assert_eq!(error(&answer), (500, "could not read the history: the store task has ended"));
}

#[tokio::test(start_paused = true)]
async fn status_and_flush_answer_at_once() {
    let bench = bench();
    bench.desk.board.store.send_modify(|status| status.pending = 7);
    let answer = call("getStatus", b"{}", &bench.desk).await;
    assert_eq!((answer.status, &answer.body["store"]["pending"]), (200, &json!(7)));
    let answer = call("flush", b"", &bench.desk).await;
    assert_eq!(answer, Answer { status: 200, body: json!({"pending": 7}) });
    bench.desk.flush.notified().await;
}

#[tokio::test(start_paused = true)]
async fn unknown_methods_and_bad_payloads_are_refused_with_the_reason() {
    let bench = bench();
    let answer = call("reboot", b"", &bench.desk).await;
    let names = "readNow, getStatus, getReport, flush, restartSensor";
    assert_eq!(error(&answer), (404, &*format!("there is no method \"reboot\"; there are {names}")));
    let long = "x".repeat(10_000);
    assert!(error(&call(&long, b"", &bench.desk).await).1.len() < 200);
    for method in Method::ALL {
        for payload in
            [&b"{"[..], b"{\"a\":1,\"a\":1}", b"\xff", &[b' '; LARGEST + 1], &[b'['; 10_000], b"[1]", b"7"]
        {
            if payload.trim_ascii().is_empty() {
                continue;
            }
            let answer = call(method.name(), payload, &bench.desk).await;
            assert_eq!(answer.status, 400, "{} {:?}", method.name(), answer.body);
        }
    }
    let answer = call("flush", b"[1]", &bench.desk).await;
    assert_eq!(error(&answer), (400, "flush takes no payload and got an array, expected null or {}"));
    let large = format!("\"{}\"", "x".repeat(LARGEST));
    let answer = call("flush", large.as_bytes(), &bench.desk).await;
    assert_eq!(
        error(&answer),
        (400, "the payload of flush is wrong: 131074 bytes are more than the 131072 that are read")
    );
}

#[test]
fn no_name_and_no_payload_makes_it_panic() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let mut bench = bench();
    bench.sensor.close();
    let names = prop_oneof!["readNow|getReport|flush|restartSensor", ".{0,30}"];
    let payloads = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..100),
        "\\{\"since\":\"[0-9TZ:+-]{0,40}\"\\}".prop_map(String::into_bytes),
        "\"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z\"".prop_map(String::into_bytes),
    ];
    proptest!(|(name in names, payload in payloads)| {
        let answer = runtime.block_on(call(&name, &payload, &bench.desk));
        prop_assert!([200, 400, 404, 500, 503, 504].contains(&answer.status), "{:?}", answer);
    });
}
