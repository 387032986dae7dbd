//! A whole station in this process, beside the hub's emulator: the simulated sensor, a real store, a key file, the
//! cloud task with its limits scaled down.

mod plan;
mod waits;

use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::DateTime;
use hub_emulator::Emulator;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use weather_station::clock::Timekeeper;
use weather_station::cloud;
use weather_station::reading::{Celsius, FromSensor, Hectopascal, Measurement, Percent, Quality, Sample};
use weather_station::sensor;
use weather_station::settings::{Overlay, Settings};
use weather_station::status::{Board, CloudStatus};
use weather_station::store::{self, StoreHandle};

use self::plan::Dial;
pub use self::plan::{Hands, Plan};

/// A running station.
pub struct Rig {
    pub store: StoreHandle,
    pub board: Arc<Board>,
    pub settings: watch::Sender<Settings>,
    pub flush: Arc<Notify>,
    pub turns: Arc<AtomicU64>,
    pub timekeeper: Timekeeper,
    pub clock: Arc<Mutex<Hands>>,
    pub key_file: std::path::PathBuf,
    samples: Option<mpsc::Sender<FromSensor>>,
    stop_sensor: watch::Sender<bool>,
    stop: watch::Sender<bool>,
    cloud: JoinHandle<()>,
    folder: tempfile::TempDir,
    device: String,
    synthetic: u64,
}

impl Rig {
    /// Starts it; the device is known to the hub already, or not.
    pub fn start(hub: &Emulator, mut plan: Plan) -> Self {
        if std::env::var_os("FAULT_LOG").is_some() {
            // The second station of a process finds it set already.
            drop(tracing_subscriber::fmt().with_writer(std::io::stderr).try_init());
        }
        let folder = plan.folder.unwrap_or_else(|| tempfile::tempdir().unwrap());
        let key_file = folder.path().join("device.connection");
        write_key(&key_file, &hub.connection_string(&plan.device).unwrap_or_else(|| stranger(&plan.device)));
        plan.config.identity.key_file = key_file.clone();
        plan.config.store.path = folder.path().join("readings.db");
        let floor = DateTime::from_timestamp(1_760_000_000, 0).unwrap();
        let clock = Arc::new(Mutex::new(plan.clock));
        let timekeeper = Timekeeper::new(Arc::new(Dial(clock.clone())), floor);
        let board = Arc::new(Board::default());
        plan.config.sensor.interval = plan.every.unwrap_or(plan.config.sensor.interval);
        let (settings, settings_rx) = watch::channel(Settings::from_file(&plan.config));
        let (store_task, store) = store::open(&plan.config.store, &timekeeper, Arc::from("run1")).unwrap();
        let (samples, samples_rx) = mpsc::channel(64);
        let counter = || Arc::new(AtomicU64::new(0));
        tokio::spawn(store_task.run(samples_rx, board.clone(), settings_rx.clone(), counter()));
        let (stop_sensor, sensor_halt) = watch::channel(false);
        let (requests_tx, requests) = mpsc::channel(1);
        if plan.every.is_some() {
            let task = sensor::Task {
                source: sensor::Source::new(&plan.config, &timekeeper).unwrap(),
                address: None,
                settings: settings_rx.clone(),
                timekeeper: timekeeper.clone(),
                board: board.clone(),
                samples: samples.clone(),
                requests,
                stop: sensor_halt,
                turns: counter(),
            };
            tokio::spawn(task.run());
        }
        let (stop, halt) = watch::channel(false);
        let (flush, turns) = (Arc::new(Notify::new()), counter());
        let steering = cloud::Steering::new(cloud::Parts {
            config: Arc::new(plan.config.clone()),
            overlay: Some(Overlay::default()),
            settings: settings.clone(),
            board: board.clone(),
            timekeeper: timekeeper.clone(),
            store: store.clone(),
            sensor: requests_tx,
            flush: flush.clone(),
            answer: plan.limits.twin,
            seed: plan.seed,
        });
        let task = cloud::Task {
            provisioning: plan.config.provisioning.clone(),
            identity: plan.config.identity.clone(),
            hub: plan.config.hub.clone(),
            proxy: plan.proxy,
            telemetry: plan.config.telemetry.clone(),
            store: store.clone(),
            settings: settings_rx,
            timekeeper: timekeeper.clone(),
            board: board.clone(),
            flush: flush.clone(),
            steering: Some(steering),
            stop: halt,
            last_call: Duration::from_secs(5),
            turns: turns.clone(),
            limits: plan.limits,
            seed: plan.seed,
        };
        let cloud = tokio::spawn(task.run());
        Self {
            store,
            board,
            settings,
            flush,
            turns,
            timekeeper,
            clock,
            key_file,
            samples: Some(samples),
            stop_sensor,
            stop,
            cloud,
            folder,
            device: plan.device,
            synthetic: 0,
        }
    }

    /// Puts so many readings on disk, besides those of the sensor.
    pub async fn append(&mut self, count: u64) {
        let samples = self.samples.as_ref().unwrap();
        for _ in 0..count {
            self.synthetic += 1;
            let sample = Sample {
                stamp: self.timekeeper.stamp(),
                measurement: Measurement {
                    air_temperature: Celsius(15.0 + (self.synthetic % 100) as f64 / 10.0),
                    relative_humidity: Percent(50.0),
                    station_pressure: Hectopascal(1000.0),
                },
                quality: Quality::Good,
            };
            samples.send(FromSensor::Sample(sample)).await.unwrap();
        }
    }

    pub fn store_path(&self) -> std::path::PathBuf {
        self.folder.path().join("readings.db")
    }

    pub fn cloud(&self) -> CloudStatus {
        self.board.cloud.borrow().clone()
    }

    /// The newest sequence that is on disk.
    pub fn stored(&self) -> u64 {
        self.board.store.borrow().last_sequence
    }

    /// The cloud task ends in the middle of what it does; what the store holds stays.
    pub async fn cut_off(mut self) -> tempfile::TempDir {
        self.cloud.abort();
        self.quiet().await;
        self.store.close().await.unwrap();
        self.folder
    }

    pub async fn stop_cloud(&mut self) {
        self.stop.send_replace(true);
        timeout(Duration::from_secs(8), &mut self.cloud).await.expect("the cloud task ends").unwrap();
    }
}

pub fn write_key(path: &std::path::Path, text: &str) {
    use std::io::Write as _;
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// A device, or a key, that no hub knows.
pub fn stranger(device: &str) -> String {
    format!(
        "HostName=localhost;DeviceId={device};SharedAccessKey=c3RyYW5nZXItc3RyYW5nZXItc3RyYW5nZXItMTIzNA=="
    )
}

/// What a run measured, for whoever looks (`--nocapture`).
pub fn say(line: std::fmt::Arguments<'_>) {
    use std::io::Write as _;
    let mut stderr = std::io::stderr();
    writeln!(stderr, "{line}").unwrap();
}
