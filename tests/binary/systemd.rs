//! What systemd is told, by a socket of the test in its place: a unit that waits for the station finds its store open.

use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use super::lonely;
use super::support::station::{Station, free_port};

/// A station with the store of `config` that tells this socket what it would tell systemd.
fn notifying(dir: &Path, config: &str) -> (UnixDatagram, Station) {
    let path = dir.join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    let page = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let environment = [("NOTIFY_SOCKET", path.to_str().unwrap())];
    (socket, Station::start_with(dir, config, page, &environment))
}

fn said(systemd: &UnixDatagram) -> String {
    let mut datagram = [0; 256];
    let length = systemd.recv(&mut datagram).unwrap();
    String::from_utf8_lossy(&datagram[..length]).trim().to_owned()
}

#[tokio::test]
async fn ready_is_said_once_the_store_is_open() {
    let dir = tempfile::tempdir().unwrap();
    let (systemd, mut station) = notifying(dir.path(), &lonely(dir.path()));
    assert_eq!(said(&systemd), "READY=1");
    assert!(dir.path().join("readings.db").exists(), "there is no store yet");
    station.terminate();
    assert_eq!(said(&systemd), "STOPPING=1");
    assert_eq!(station.wait(Duration::from_secs(10)).await.code(), Some(0));
}

#[tokio::test]
async fn a_station_that_cannot_have_its_store_is_never_ready() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = lonely(dir.path());
    let holder = Station::start(dir.path(), &config);
    holder.until("it runs", Duration::from_secs(15), |status| status["store"]["state"] == "ok").await;
    let (systemd, mut second) = notifying(other.path(), &config);
    assert_eq!(second.wait(Duration::from_secs(10)).await.code(), Some(1), "{}", second.log_text());
    systemd.set_nonblocking(true).unwrap();
    let told = systemd.recv(&mut [0; 256]);
    assert!(told.is_err(), "systemd was told something");
}
