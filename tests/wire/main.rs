//! What the station puts on the wire, read by an AMQP implementation that is not the station's (npm rhea): the real
//! binary signs in, sends, reports and answers, and every frame is checked for its sections and the type of each
//! value. `tests/run.sh` runs it: it needs Node, npm and openssl.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod past;
mod peer;
mod sign_in;
mod steering;
#[path = "../support/mod.rs"]
mod support;
mod telemetry;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use peer::{Peer, script};
use support::station::Station;

/// An id with everything that has to be escaped somewhere, and nothing that IoT Hub does not allow.
pub const DEVICE: &str = "roof+1";

/// Whether the line is a frame of this name on the link of this address.
pub fn is(line: &Value, frame: &str, link: &str) -> bool {
    line["frame"] == frame && line["link"] == link
}

fn config(dir: &Path, peer: &Peer) -> String {
    let key_file = dir.join("identity");
    let secret = format!("HostName=localhost;DeviceId={DEVICE};SharedAccessKey=c2VjcmV0IHNlY3JldCBzZWNyZXQ=");
    std::fs::write(&key_file, secret).unwrap();
    std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(0o600)).unwrap();
    format!(
        "[station]\naltitude = 120.0\n[sensor]\nsource = \"simulated\"\ninterval = \"1s\"\n[identity]\nsource = \"key-file\"\n\
         key_file = \"{}\"\n[hub]\ntransport = \"amqp\"\nport = {}\nca_file = \"{}\"\n[store]\npath = \"{}\"\n",
        key_file.display(),
        peer.port,
        peer.ca_file.display(),
        dir.join("readings.db").display()
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Node and npm: tests/run.sh runs it"]
async fn another_amqp_implementation_reads_what_the_station_writes() {
    let dir = tempfile::tempdir().unwrap();
    past::record(&dir.path().join("readings.db")).await;
    let mut peer = Peer::start(dir.path()).await;
    let mut station = Station::start(dir.path(), &config(dir.path(), &peer));

    sign_in::connection(&peer).await;
    sign_in::token(&peer).await;
    let store_id = telemetry::backlog(&peer).await;
    telemetry::event(&peer, &store_id).await;
    telemetry::single(&peer, &store_id).await;
    steering::twin(&peer).await;
    steering::methods(&mut peer).await;
    steering::message(&mut peer).await;
    steering::desired(&mut peer).await;
    telemetry::packed(&peer, &store_id).await;
    sign_in::links(&peer.told());

    station.terminate();
    assert_eq!(station.wait(Duration::from_secs(10)).await.code(), Some(0), "{}", station.log_text());
    sign_in::goodbye(&peer).await;
}

#[test]
#[ignore = "needs Node and npm: tests/run.sh runs it"]
fn another_amqp_implementation_reads_the_golden_messages() {
    let output = script("golden.js").output().expect("node is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
