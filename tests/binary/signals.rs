//! What ends the station in order, and what does not end it: a log that nobody takes.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::support::station::{binary, free_port, get, wait_for};
use super::{command, lonely, text};

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
