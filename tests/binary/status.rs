//! `status --json`: the keys of the document are a contract with whoever reads it by a program.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use hub_emulator::{Emulator, Options};
use serde_json::Value;

use super::support::station::Station;
use super::{command_of, text, with_key_file};

/// Each key of the status document that others may rely on.
const KEYS: [&str; 29] = [
    "/version",
    "/station/storeId",
    "/sensor/state",
    "/sensor/lastReading/time",
    "/sensor/lastReading/currentTemperature",
    "/sensor/lastReading/currentHumidity",
    "/sensor/lastReading/currentPressure",
    "/sensor/missed",
    "/store/state",
    "/store/lastSequence",
    "/store/pending",
    "/store/oldestPendingTime",
    "/store/bytes",
    "/cloud/state",
    "/cloud/since",
    "/cloud/lastAccepted",
    "/cloud/tokenExpires",
    "/cloud/transport",
    "/cloud/eta",
    "/cloud/connections",
    "/identity/source",
    "/identity/host",
    "/identity/deviceId",
    "/clock/state",
    "/configuration/sensor.interval/value",
    "/configuration/sensor.interval/from",
    "/configuration/hub.transport/from",
    "/configuration/store.max_loss/value",
    "/outlook",
];

/// Those that say what is wrong, and are there with null where nothing is.
const REASONS: [&str; 4] = ["/cloud/reason", "/cloud/failure", "/clock/reason", "/store/reason"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_json_has_every_key_of_the_document_on_a_station_that_catches_up() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Emulator::start(Options::default()).unwrap();
    // A backlog first: nobody knows the key file's device yet.
    let config = with_key_file(dir.path(), &hub) + "[telemetry]\nbatch = 1\nmax_messages_per_second = 1\n";
    let key_file = dir.path().join("identity");
    let identity = std::fs::read_to_string(&key_file).unwrap();
    std::fs::remove_file(&key_file).unwrap();
    let mut station = Station::start(dir.path(), &config);
    station
        .until("a backlog", Duration::from_secs(60), |status| {
            status["store"]["lastSequence"].as_u64() >= Some(12)
        })
        .await;
    station.terminate();
    station.wait(Duration::from_secs(10)).await;
    std::fs::write(&key_file, identity).unwrap();
    std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(0o600)).unwrap();
    station.start_again();

    let known =
        |document: &Value, pointer: &str| document.pointer(pointer).is_some_and(|value| !value.is_null());
    station
        .until("it catches up", Duration::from_secs(30), |status| {
            known(status, "/cloud/eta") && known(status, "/cloud/lastAccepted") && known(status, "/outlook")
        })
        .await;
    let output = command_of(&station, &["status", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let absent: Vec<_> = KEYS.iter().filter(|pointer| !known(&document, pointer)).collect();
    assert!(absent.is_empty(), "{absent:?} are not in {document:#}");
    for pointer in REASONS {
        assert!(document.pointer(pointer).is_some(), "{pointer} is not in {document:#}");
    }
    assert_eq!(document["cloud"]["state"], "online");
    assert_eq!(document["cloud"]["failure"], Value::Null);
    assert_eq!(document["cloud"]["transport"], "amqp");
    assert_eq!(document["identity"]["source"], "key-file");
    assert_eq!(document["configuration"]["sensor.interval"]["from"], "file");
    assert_eq!(document["configuration"]["store.max_loss"]["from"], "default");
}
