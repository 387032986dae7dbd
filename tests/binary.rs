//! The program as people and systemd meet it: exit statuses, texts, signals; and what goes on when a part is missing.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[path = "binary/check.rs"]
mod check;
#[path = "binary/closed_pipe.rs"]
mod closed_pipe;
#[path = "binary/options.rs"]
mod options;
#[path = "binary/read.rs"]
mod read;
#[path = "binary/refusals.rs"]
mod refusals;
#[path = "binary/signals.rs"]
mod signals;
#[path = "binary/status.rs"]
mod status;
mod support;
#[path = "binary/systemd.rs"]
mod systemd;
#[path = "binary/verify.rs"]
mod verify;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use hub_emulator::{Emulator, Fault, Options};
use support::station::{Station, binary, free_port};

/// Runs one command with this configuration.
fn command(dir: &Path, config: &str, arguments: &[&str]) -> Output {
    let file = dir.join("command.toml");
    std::fs::write(&file, config).unwrap();
    binary().arg("--config").arg(&file).args(arguments).output().unwrap()
}

/// Runs one command beside this station, with its configuration.
fn command_of(station: &Station, arguments: &[&str]) -> Output {
    binary().arg("--config").arg(&station.config).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// No TPM there, no page, weather from a table.
fn lonely(dir: &Path) -> String {
    format!(
        "[sensor]\nsource = \"simulated\"\ninterval = \"1s\"\n[identity]\ntcti = \"device:/dev/no-tpm\"\n[store]\npath = \"{}\"\n",
        dir.join("readings.db").display()
    )
}

/// Signs with a key file, for tests that are not about the TPM.
fn with_key_file(dir: &Path, hub: &Emulator) -> String {
    hub.add_device("roof");
    let key_file = dir.join("identity");
    std::fs::write(&key_file, hub.connection_string("roof").unwrap()).unwrap();
    std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(0o600)).unwrap();
    format!(
        "[sensor]\nsource = \"simulated\"\ninterval = \"1s\"\n[identity]\nsource = \"key-file\"\nkey_file = \"{}\"\n\
         [hub]\ntransport = \"amqp\"\nport = {}\nca_file = \"{}\"\n[store]\npath = \"{}\"\n",
        key_file.display(),
        hub.port(),
        hub.ca_file().display(),
        dir.join("readings.db").display()
    )
}

#[tokio::test]
async fn without_tpm_network_and_identity_the_station_records_and_says_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let mut station = Station::start(dir.path(), &lonely(dir.path()));
    let status = station
        .until("two readings are stored", Duration::from_secs(15), |status| {
            status["store"]["lastSequence"].as_u64() >= Some(2) && status["identity"]["reason"].is_string()
        })
        .await;
    assert!(status["identity"]["reason"].as_str().unwrap().contains("/dev/no-tpm"), "{status}");
    assert_eq!(status["cloud"]["state"], "offline");
    assert_eq!(status["sensor"]["state"], "ok");
    station.terminate();
    assert_eq!(station.wait(Duration::from_secs(10)).await.code(), Some(0), "{}", station.log_text());
}

#[tokio::test]
async fn the_readings_are_exported_beside_the_station_that_holds_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let station = Station::start(dir.path(), &lonely(dir.path()));
    let taken = |status: &serde_json::Value| status["store"]["lastSequence"].as_u64() >= Some(2);
    station.until("two readings are stored", Duration::from_secs(15), taken).await;
    let exported = command_of(&station, &["export", "--format", "json"]);
    assert_eq!(exported.status.code(), Some(0), "{}", text(&exported.stderr));
    let said = text(&exported.stderr);
    assert!(said.contains("without a device id") && said.contains("/dev/no-tpm"), "{said}");
    let readings = text(&exported.stdout);
    let sequences = readings
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["sequence"].as_u64().unwrap());
    assert!(
        sequences.clone().count() >= 2 && sequences.eq(1..=readings.lines().count() as u64),
        "{readings}"
    );
    // Whoever exports, root perhaps, leaves no file that the station could not open.
    let left: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().ends_with("-shm")), "{left:?}");
}

#[tokio::test]
async fn a_proxy_that_is_not_understood_costs_no_reading_and_is_told_without_its_password() {
    let dir = tempfile::tempdir().unwrap();
    let page = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
    let environment = [("https_proxy", "http://user:secret")];
    let station = Station::start_with(dir.path(), &lonely(dir.path()), page, &environment);
    let status = station
        .until("two readings are stored", Duration::from_secs(15), |status| {
            status["store"]["lastSequence"].as_u64() >= Some(2) && status["cloud"]["reason"].is_string()
        })
        .await;
    let trouble = "https_proxy has no number from 1 to 65535 as its port, expected \
                   http://[user:password@]host:port; until that is put right no proxy is used";
    assert!(status["cloud"]["reason"].as_str().unwrap().ends_with(trouble), "{status}");
    let log = station.log_text();
    assert!(log.lines().any(|line| line.contains("ERROR") && line.contains(trouble)), "{log}");
    assert!(!log.contains("secret") && !status.to_string().contains("secret"), "{log}");
}

#[tokio::test]
async fn without_a_sensor_the_station_runs_and_names_the_bus() {
    let dir = tempfile::tempdir().unwrap();
    let config =
        lonely(dir.path()).replace("source = \"simulated\"", "source = \"bme280\"\nbus = \"/dev/no-bus\"");
    let mut station = Station::start(dir.path(), &config);
    let status = station
        .until("the sensor is absent", Duration::from_secs(15), |status| {
            status["sensor"]["reason"].is_string()
        })
        .await;
    assert!(status["sensor"]["reason"].as_str().unwrap().contains("/dev/no-bus"), "{status}");
    let beside = command_of(&station, &["read"]);
    let said = text(&beside.stderr);
    assert_eq!(beside.status.code(), Some(1), "{said}");
    assert!(
        said.contains("the running station could not take a reading") && said.contains("/dev/no-bus"),
        "{said}"
    );
    station.terminate();
    assert_eq!(station.wait(Duration::from_secs(10)).await.code(), Some(0));
    let read = command(dir.path(), &config, &["read"]);
    assert_eq!(read.status.code(), Some(1));
    assert!(
        text(&read.stderr).contains("/dev/no-bus") && text(&read.stderr).contains("No such file"),
        "{}",
        text(&read.stderr)
    );
}

#[tokio::test]
async fn a_second_station_on_the_same_store_is_refused_and_the_first_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let station = Station::start(dir.path(), &lonely(dir.path()));
    station.until("it runs", Duration::from_secs(15), |status| status["store"]["state"] == "ok").await;
    let config = format!("{}[showcase]\nlisten = \"\"\n", lonely(dir.path()));
    let second = command(dir.path(), &config, &["run"]);
    assert_eq!(second.status.code(), Some(1));
    assert!(text(&second.stderr).contains("another weather-station is running"), "{}", text(&second.stderr));
    assert!(station.status().await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_it_at_once_though_the_hub_is_silent() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Emulator::start(Options::default()).unwrap();
    let mut station = Station::start(dir.path(), &with_key_file(dir.path(), &hub));
    station
        .until("it is online", Duration::from_secs(20), |status| status["cloud"]["state"] == "online")
        .await;
    hub.fault(Fault::DispositionNever);
    let have = hub.count();
    support::station::wait_for("a delivery in flight", Duration::from_secs(10), || {
        let more = hub.count() > have;
        async move { more.then_some(()) }
    })
    .await;
    station.terminate();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(station.runs(), "the first signal ended it: there is nothing left to hurry");
    let begin = tokio::time::Instant::now();
    station.terminate();
    station.wait(Duration::from_secs(5)).await;
    assert!(begin.elapsed() < Duration::from_secs(2), "it took {:?}", begin.elapsed());
}

/// The test programs run side by side, and their connections take ports as well.
#[test]
fn no_station_of_a_test_listens_where_the_kernel_takes_ports_for_connections() {
    let ports: Vec<u16> = (0..100).map(|_| free_port()).collect();
    assert!(ports.iter().all(|port| *port < 32_768), "{ports:?}");
}
