//! A station process against a hub in this process: started, watched, ended.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hub_emulator::{Emulator, Options};
use serde_json::Value;
use tokio::time::Instant;

pub use crate::support::station::{free_port, get};

/// The station as a process.
pub struct Process {
    child: Child,
    pub page: SocketAddr,
}

/// A hub that counts and does not record.
pub fn hub(port: u16) -> Emulator {
    let mut options = Options { port, ..Options::default() };
    options.behaviour.recording = false;
    let hub = Emulator::start(options).unwrap();
    hub.add_device("roof");
    hub
}

/// Waits until the hub has taken `count` messages in all, looking every `every`; when, or the end of the measurement.
pub async fn taken(hub: &Emulator, count: u64, limit: Duration, every: Duration) -> Instant {
    let end = Instant::now() + limit;
    while hub.count() < count {
        assert!(Instant::now() < end, "the hub has {} of {count} messages after {limit:?}", hub.count());
        tokio::time::sleep(every).await;
    }
    Instant::now()
}

/// A configuration that signs with a key file; `port` may be a proxy's.
pub fn config(dir: &Path, hub: &Emulator, port: u16, interval: &str, more: &str) -> String {
    config_of("roof", dir, hub, port, interval, more)
}

/// The same for any device that the hub knows.
pub fn config_of(device: &str, dir: &Path, hub: &Emulator, port: u16, interval: &str, more: &str) -> String {
    let key_file = dir.join("identity");
    std::fs::write(&key_file, hub.connection_string(device).unwrap()).unwrap();
    std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(0o600)).unwrap();
    format!(
        "[sensor]\nsource = \"simulated\"\ninterval = \"{interval}\"\n[identity]\nsource = \"key-file\"\n\
         key_file = \"{}\"\n[hub]\ntransport = \"amqp\"\nport = {port}\nca_file = \"{}\"\n[store]\npath = \"{}\"\n{more}\n",
        key_file.display(),
        hub.ca_file().display(),
        dir.join("readings.db").display()
    )
}

impl Process {
    pub fn start(program: &Path, dir: &Path, config: &str) -> Self {
        let page = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let file = dir.join("station.toml");
        std::fs::write(&file, format!("{config}[showcase]\nlisten = \"{page}\"\n")).unwrap();
        let log = std::fs::File::create(dir.join("station.log")).unwrap();
        let child = Command::new(program)
            .arg("--config")
            .arg(&file)
            .arg("run")
            .env("TSS2_LOG", "all+NONE")
            .env("RUNTIME_DIRECTORY", dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { child, page }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Polls the status document every `every`.
    pub async fn until(
        &self,
        what: &str,
        limit: Duration,
        every: Duration,
        condition: impl Fn(&Value) -> bool,
    ) -> Value {
        until(self.page, what, limit, every, condition).await
    }
}

/// Polls the status document of the station with this page every `every`.
pub async fn until(
    page: SocketAddr,
    what: &str,
    limit: Duration,
    every: Duration,
    condition: impl Fn(&Value) -> bool,
) -> Value {
    let end = Instant::now() + limit;
    loop {
        let answer = get(page, "/api/status").await;
        let status: Option<Value> = answer.and_then(|body| serde_json::from_str(&body).ok());
        if let Some(status) = status.as_ref().filter(|status| condition(status)) {
            return status.clone();
        }
        assert!(Instant::now() < end, "{what} did not happen within {limit:?}: {status:?}");
        tokio::time::sleep(every).await;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}
