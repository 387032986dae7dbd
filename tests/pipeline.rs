//! The whole station: the real binary, a real TPM 2.0, a hub over TLS, a chip at register level; from the first
//! reading to the hub's record of the last one.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod support;

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use chrono::{DateTime, Utc};
use hub_emulator::{Emulator, Options};
use support::station::{self, Station, binary, request};
use support::swtpm::Swtpm;
use weather_station::sensor::simulated::Trace;

const TRACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/jfk-2013-11.csv");
const SPEED: f64 = 600.0;
const READINGS: usize = 200;

/// Everything but the showcase section.
fn config(dir: &Path, tpm: &Swtpm, hub: &Emulator) -> String {
    station::config(dir, &tpm.tcti(), hub.port(), hub.ca_file())
        + &format!("trace = \"{TRACE}\"\nspeed = {SPEED}\n[station]\naltitude = 4.0\n")
}

/// The key goes in over standard input: the station never has it in a file.
fn provision(dir: &Path, config: &str, key: &str) {
    let file = dir.join("provision.toml");
    std::fs::write(&file, config).unwrap();
    let mut child = binary()
        .arg("--config")
        .arg(&file)
        .args(["provision", "--host", "localhost", "--device-id", "roof", "--key-file", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(key.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readings_reach_the_hub_complete_in_order_and_true_and_the_key_stays_in_the_tpm() {
    let dir = tempfile::tempdir().unwrap();
    let tpm = Swtpm::new();
    let hub = Emulator::start(Options::default()).unwrap();
    let key = hub.add_device("roof");
    let config = config(dir.path(), &tpm, &hub);
    provision(dir.path(), &config, &key);

    let mut station = Station::start(dir.path(), &config);
    station
        .until("the station is online", Duration::from_secs(20), |status| {
            status["cloud"]["state"] == "online"
        })
        .await;
    for _ in 0..READINGS {
        assert!(request(station.page, "POST", "/api/read").await.is_some(), "{}", station.log_text());
    }
    let status = station
        .until("everything is accepted", Duration::from_secs(20), |status| {
            status["store"]["lastSequence"].as_u64() >= Some(READINGS as u64)
                && status["store"]["pending"] == 0
        })
        .await;
    let process = format!("/proc/{}", station.pid());
    let surroundings =
        [format!("{process}/cmdline"), format!("{process}/environ")].map(|file| std::fs::read(file).unwrap());

    station.terminate();
    let ended = station.wait(Duration::from_secs(10)).await;
    assert_eq!(ended.code(), Some(0), "{}", station.log_text());

    check_messages(&hub, status["station"]["storeId"].as_str().unwrap());
    assert_key_is_nowhere(dir.path(), &surroundings, &key);
}

fn check_messages(hub: &Emulator, store_id: &str) {
    let trace = Trace::load(Path::new(TRACE)).unwrap();
    let messages = hub.messages_of("roof");
    assert!(messages.len() >= READINGS, "{} messages", messages.len());
    for (index, message) in messages.iter().enumerate() {
        let body = message.json();
        assert_eq!(body["sequence"], index as u64 + 1, "a hole or a disorder at {index}");
        assert_eq!((body["deviceId"].as_str(), body["storeId"].as_str()), (Some("roof"), Some(store_id)));
        let id = message.message_id.as_deref().unwrap();
        let run = id
            .strip_prefix(&format!("{store_id}-"))
            .and_then(|rest| rest.strip_suffix(&format!("-{}", index + 1)));
        assert!(run.is_some_and(|run| !run.is_empty()), "message-id {id}");
        assert_eq!(message.content_type.as_deref(), Some("application/json"));
        assert_eq!(message.content_encoding.as_deref(), Some("utf-8"));
        assert_eq!(message.properties["iothub-creation-time-utc"], body["time"]);
        assert!(message.batch, "telemetry goes out in message-format 0x80013700");

        let time: DateTime<Utc> = body["time"].as_str().unwrap().parse().unwrap();
        let expected = trace.at_time(time, SPEED);
        for (name, value, tolerance) in [
            ("currentTemperature", expected.air_temperature.0, 0.05),
            ("currentHumidity", expected.relative_humidity.0, 0.2),
            ("currentPressure", expected.station_pressure.kilopascal(), 0.01),
        ] {
            let sent = body[name].as_f64().unwrap();
            assert!(
                (sent - value).abs() <= tolerance,
                "{name} of sequence {index}: sent {sent}, the trace says {value}"
            );
        }
        assert!(body["seaLevelPressure"].as_f64() > body["currentPressure"].as_f64());
        assert!(body["dewPoint"].as_f64() < body["currentTemperature"].as_f64());
    }
    let times: Vec<_> =
        messages.iter().map(|message| message.json()["time"].as_str().unwrap().to_owned()).collect();
    assert!(times.is_sorted(), "times run backwards");
}

/// Neither as text nor as bytes.
fn assert_key_is_nowhere(dir: &Path, surroundings: &[Vec<u8>], key: &str) {
    use base64::Engine as _;
    let raw = base64::engine::general_purpose::STANDARD.decode(key).unwrap();
    let holds = |bytes: &[u8]| {
        [key.as_bytes(), &raw]
            .iter()
            .any(|needle| bytes.windows(needle.len()).any(|window| window == *needle))
    };
    let mut looked_at = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        assert!(!holds(&std::fs::read(&path).unwrap()), "the key is in {}", path.display());
        looked_at += 1;
    }
    assert!(looked_at >= 4, "configuration, log, database, setup code");
    assert!(
        !surroundings.iter().any(|bytes| holds(bytes)),
        "the key is in an argument or in the environment"
    );
}
