//! Microsoft's Node SDK as the peer: single messages at several windows, because it has no batches over AMQP.

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::Extent;
use crate::rig::hub;

/// Its best figures.
pub struct Node {
    pub per_second: f64,
    pub window: u64,
    pub cpu_microseconds: f64,
    /// MB: connected, before the first message, and with 20,000 messages queued.
    pub connected: f64,
    pub resident: f64,
    /// Bytes out and in per message.
    pub wire: f64,
}

/// The SDK dials 5671 whatever it is told: this namespace's 5671 is ours.
pub async fn measure(extent: Extent) -> Node {
    let hub = hub(5671);
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("connection-string");
    std::fs::write(&secret, hub.connection_string("roof").unwrap()).unwrap();
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bench/node.js");
    let count = if extent == Extent::Short { "8000" } else { "20000" };
    let mut command = tokio::process::Command::new("node");
    command.arg(program).arg(&secret).arg(hub.ca_file()).arg(count).stdout(Stdio::piped()).kill_on_drop(true);
    let output = command.spawn().unwrap().wait_with_output().await.unwrap();
    assert!(output.status.success(), "the Node SDK failed");
    let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
    let number = |name: &str| figures[name].as_f64().unwrap();
    Node {
        per_second: number("perSecond"),
        window: figures["window"].as_u64().unwrap(),
        cpu_microseconds: number("cpuMicroseconds"),
        connected: number("connected"),
        resident: number("resident"),
        wire: number("wire"),
    }
}
