//! What ends the station in order, and what does not end it: a log that nobody takes, a terminal that is closed, with
//! and without `nohup`.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hub_emulator::{Emulator, Fault, Options};
use serde_json::Value;

use super::support::apart;
use super::support::station::{Station, binary, free_port, get, wait_for};
use super::{command, lonely, text, with_key_file};

fn hang_up(pid: u32) {
    assert!(Command::new("kill").args(["-HUP", &pid.to_string()]).status().unwrap().success());
}

/// The sequences in the store, by `export`.
fn stored(dir: &Path, config: &str) -> Vec<u64> {
    let exported = command(dir, config, &["export", "--format", "json"]);
    let sequence = |line: &str| serde_json::from_str::<Value>(line).unwrap()["sequence"].as_u64().unwrap();
    text(&exported.stdout).lines().map(sequence).collect()
}

/// Readings stay in memory for a minute.
fn forgetful(dir: &Path) -> String {
    lonely(dir) + "max_loss = \"60s\"\n"
}

#[tokio::test]
async fn a_terminal_that_is_closed_costs_no_reading() {
    let dir = tempfile::tempdir().unwrap();
    let config = forgetful(dir.path());
    let mut station = Station::start(dir.path(), &config);
    let in_memory = |status: &Value| status["store"]["inMemory"].as_u64() >= Some(2);
    station.until("two readings are only in memory", Duration::from_secs(15), in_memory).await;
    hang_up(station.pid());
    assert_eq!(station.wait(Duration::from_secs(10)).await.code(), Some(0), "{}", station.log_text());
    let stored = stored(dir.path(), &config);
    assert!(stored.len() >= 2 && stored.iter().copied().eq(1..=stored.len() as u64), "{stored:?}");
}

/// The shell tells it, and then the kernel: the second one is not somebody who cannot wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_that_is_closed_tells_it_twice_and_hurries_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Emulator::start(Options::default()).unwrap();
    let mut station = Station::start(dir.path(), &with_key_file(dir.path(), &hub));
    let online = |status: &Value| status["cloud"]["state"] == "online";
    station.until("it is online", Duration::from_secs(20), online).await;
    hub.fault(Fault::DispositionNever);
    let have = hub.count();
    wait_for("a delivery in flight", Duration::from_secs(10), || {
        let more = hub.count() > have;
        async move { more.then_some(()) }
    })
    .await;
    hang_up(station.pid());
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(station.runs(), "it does not wait for the hub: there is nothing to hurry");
    hang_up(station.pid());
    assert_eq!(station.wait(Duration::from_secs(12)).await.code(), Some(0), "{}", station.log_text());
    assert!(station.log_text().contains("ended in order"), "{}", station.log_text());
}

/// Killed when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _gone = self.0.kill();
        let _status = self.0.wait();
    }
}

/// A station that `program` starts, once it has two readings in memory; nobody takes what it writes to its log.
async fn unheard(dir: &Path, config: &str, mut program: Command) -> Process {
    let page = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let file = dir.join("station.toml");
    std::fs::write(&file, format!("{config}[showcase]\nlisten = \"{page}\"\n")).unwrap();
    program.arg("--config").arg(&file).arg("run").env("WEATHER_STATION_LOG", "debug");
    program.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut station = Process(program.spawn().unwrap());
    drop(station.0.stderr.take());
    wait_for("two readings are only in memory", Duration::from_secs(15), || async move {
        let status: Value = serde_json::from_str(&get(page, "/api/status").await?).unwrap();
        (status["store"]["inMemory"].as_u64() >= Some(2)).then_some(())
    })
    .await;
    station
}

fn terminate(station: &Process) {
    assert!(Command::new("kill").arg(station.0.id().to_string()).status().unwrap().success());
}

async fn ended(station: &mut Process) -> Option<i32> {
    let status = wait_for("the station to end", Duration::from_secs(10), || {
        let ended = station.0.try_wait().unwrap();
        async move { ended }
    });
    status.await.code()
}

/// On a terminal that was closed each line fails.
#[tokio::test]
async fn a_log_that_nobody_takes_costs_no_reading() {
    let dir = tempfile::tempdir().unwrap();
    let config = forgetful(dir.path());
    let mut station = unheard(dir.path(), &config, binary()).await;
    terminate(&station);
    assert_eq!(ended(&mut station).await, Some(0));
    assert!(stored(dir.path(), &config).len() >= 2);
}

#[tokio::test]
async fn a_station_under_nohup_outlives_the_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let mut nohup = apart::command("nohup");
    nohup.arg(env!("CARGO_BIN_EXE_weather-station"));
    let mut station = unheard(dir.path(), &forgetful(dir.path()), nohup).await;
    hang_up(station.0.id());
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(station.0.try_wait().unwrap().is_none(), "it ended");
    terminate(&station);
    assert_eq!(ended(&mut station).await, Some(0));
}
