//! A station with a key file and a simulated sensor beside a hub.

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hub_emulator::{Emulator, MethodAnswer, Options};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use weather_station::clock::{SystemClock, Timekeeper};
use weather_station::config::Config;
use weather_station::reading::FromSensor;
use weather_station::settings::Settings;
use weather_station::store::{self, StoreHandle};

use crate::support::station::{Station, wait_for};

pub const DEVICE: &str = "roof";
/// More than anything takes on a busy machine.
pub const SOON: Duration = Duration::from_secs(20);

pub struct Bench {
    pub hub: Emulator,
    pub station: Station,
    pub dir: tempfile::TempDir,
}

impl Bench {
    /// Starts both and waits until the twin was read and answered.
    pub async fn start(extra: &str) -> Self {
        let bench = Self::start_offline(extra, |_| {});
        bench.until_steered().await;
        bench
    }

    /// Waits until the twin was read and answered: the links of the methods are there then, too.
    pub async fn until_steered(&self) {
        self.until_reported("the first report", |reported| reported.get("softwareVersion").is_some()).await;
    }

    /// Starts both, the hub as `prepare` makes it.
    pub fn start_offline(extra: &str, prepare: impl FnOnce(&Emulator)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let hub = Emulator::start(Options::default()).unwrap();
        hub.add_device(DEVICE);
        prepare(&hub);
        identify(dir.path(), &hub, DEVICE);
        let config = config(dir.path(), &hub, extra);
        let station = Station::start(dir.path(), &config);
        Self { hub, station, dir }
    }

    /// The same, with more of the store's section and a store that `seed` has made.
    pub async fn start_seeded(
        sections: &str,
        store: &str,
        seed: impl FnOnce(&Path) + Send + 'static,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("readings.db");
        tokio::task::spawn_blocking(move || seed(&path)).await.unwrap();
        let hub = Emulator::start(Options::default()).unwrap();
        hub.add_device(DEVICE);
        identify(dir.path(), &hub, DEVICE);
        let config = format!("{}{store}\n", config(dir.path(), &hub, sections));
        let station = Station::start(dir.path(), &config);
        Self { hub, station, dir }
    }

    /// The reported properties, once they are as wanted.
    pub async fn until_reported(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let reported = || async {
            let reported = self.hub.twin(DEVICE)["reported"].clone();
            wanted(&reported).then_some(reported)
        };
        let found = tokio::time::timeout(SOON, wait_for(what, 2 * SOON, reported)).await;
        match found {
            Ok(reported) => reported,
            Err(_) => panic!("{what}: {}\n{}", self.hub.twin(DEVICE), self.station.log_text()),
        }
    }

    /// Sets desired properties and waits for the answer of the named one.
    pub async fn desire(&self, patch: &Value, answered: &str) -> Value {
        let version = self.hub.set_desired(DEVICE, patch).unwrap();
        let is_answered = |reported: &Value| reported[answered]["av"].as_i64() == Some(version);
        self.until_reported(answered, is_answered).await[answered].clone()
    }

    pub async fn call(&self, method: &str, payload: &Value) -> MethodAnswer {
        match self.hub.invoke(DEVICE, method, payload, SOON).await {
            Ok(answer) => answer,
            Err(error) => panic!("{method}: {error}\n{}", self.station.log_text()),
        }
    }

    /// Sends a message to the device, and waits until it is shown; all that are shown then.
    pub async fn message(&self, device: &str, text: &str) -> Vec<Value> {
        self.hub.send_c2d(device, text.as_bytes(), []).unwrap();
        let shown = |status: &Value| status["cloud"]["messages"][0]["text"] == text;
        let status = self.station.until("the message is shown", SOON, shown).await;
        status["cloud"]["messages"].as_array().unwrap().clone()
    }

    /// A key of the status document's `configuration`.
    pub async fn in_force(&self, key: &str) -> (Value, Value) {
        let status = self.station.status().await.unwrap();
        let entry = &status["configuration"][key];
        (entry["value"].clone(), entry["from"].clone())
    }
}

/// Makes a store before a station runs: `fill` is its sensor and whoever asks it.
pub fn make_store(
    path: &Path,
    max_size: u64,
    fill: impl AsyncFnOnce(mpsc::Sender<FromSensor>, &StoreHandle, &Timekeeper),
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut config = Config::default();
        config.store.path = path.to_owned();
        config.store.max_size = max_size;
        let timekeeper = Timekeeper::new(Arc::new(SystemClock::new()), chrono::DateTime::UNIX_EPOCH);
        let (task, store) = store::open(&config.store, &timekeeper, "seed".into()).unwrap();
        let (samples_tx, samples_rx) = mpsc::channel(64);
        let (_settings_tx, settings) = watch::channel(Settings::from_file(&config));
        let running = task.run(samples_rx, Arc::default(), settings, Arc::default());
        let filling = async {
            fill(samples_tx, &store, &timekeeper).await;
            store.close().await.unwrap();
        };
        let (ended, ()) = tokio::join!(running, filling);
        ended.unwrap();
    });
}

/// Waits until so many readings are on disk.
pub async fn on_disk(store: &StoreHandle, count: u64) {
    store.synced().wait_for(|last| *last >= count).await.unwrap();
}

/// The key file of the station, for this device of the hub.
pub fn identify(dir: &Path, hub: &Emulator, device: &str) {
    use std::io::Write as _;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(dir.join("key")).unwrap();
    file.write_all(hub.connection_string(device).unwrap().as_bytes()).unwrap();
}

fn config(dir: &Path, hub: &Emulator, extra: &str) -> String {
    format!(
        r#"
        {extra}
        [identity]
        source = "key-file"
        key_file = "{dir}/key"
        [hub]
        transport = "amqp"
        port = {port}
        ca_file = "{ca}"
        [store]
        path = "{dir}/readings.db"
        "#,
        dir = dir.display(),
        port = hub.port(),
        ca = hub.ca_file().display(),
    )
}
