//! A whole station in this process, beside the hub's emulator: the simulated sensor, a real store, a key file, the
//! cloud task with its limits scaled down.

use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use crate::account::{Account, account};
use chrono::DateTime;
use hub_emulator::Emulator;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use weather_station::clock::{Clock, SystemClock, Timekeeper};
use weather_station::cloud::{self, Limits, Proxy};
use weather_station::config::{self, Config};
use weather_station::reading::{
    BootId, Celsius, FromSensor, Hectopascal, Measurement, Percent, Quality, Sample,
};
use weather_station::sensor;
use weather_station::settings::{Overlay, Settings};
use weather_station::status::{Board, CloudState, CloudStatus};
use weather_station::store::{self, StoreHandle};

/// The limits of the field, divided so that a table of faults takes seconds. What they are in the field is asserted
/// by `the_limits_of_the_field`.
pub fn quick() -> Limits {
    Limits {
        connect: Duration::from_secs(2),
        handshake: Duration::from_secs(2),
        open: Duration::from_secs(2),
        attach: Duration::from_secs(2),
        put_token: Duration::from_secs(2),
        send: Duration::from_secs(4),
        outcome: Duration::from_secs(4),
        twin: Duration::from_secs(2),
        close: Duration::from_millis(500),
        write: Duration::from_secs(2),
        idle: Duration::from_secs(4),
        keep_alive: Duration::from_secs(4),
        turn: Duration::from_millis(500),
        sign: Duration::from_secs(5),
        look: Duration::from_millis(500),
        clock: Duration::ZERO,
        hurry: 20,
    }
}

/// The machine's clock as far as a test wants it: whether it counts as synchronised, and how far off it is.
#[derive(Debug)]
pub struct Hands {
    inner: SystemClock,
    pub off: chrono::TimeDelta,
    pub synchronised: bool,
}

impl Hands {
    pub fn right() -> Self {
        Self { inner: SystemClock::new(), off: chrono::TimeDelta::zero(), synchronised: true }
    }

    pub fn wrong_by(off: chrono::TimeDelta) -> Self {
        Self { off, synchronised: false, ..Self::right() }
    }
}

impl Clock for Hands {
    fn wall(&self) -> DateTime<chrono::Utc> {
        self.inner.wall() + self.off
    }
    fn since_boot(&self) -> Duration {
        self.inner.since_boot()
    }
    fn boot(&self) -> BootId {
        self.inner.boot()
    }
    fn synchronised(&self) -> bool {
        self.synchronised
    }
}

/// What a test may change before the station starts.
pub struct Plan {
    pub device: String,
    pub config: Config,
    pub limits: Limits,
    pub proxy: Proxy,
    pub clock: Hands,
    /// Time between two samples; none: no sensor runs.
    pub every: Option<Duration>,
    pub seed: u64,
    /// With the store that another station has left there.
    pub folder: Option<tempfile::TempDir>,
}

impl Plan {
    /// Device `roof` of this hub, a sample each 20 ms.
    pub fn new(hub: &Emulator) -> Self {
        let mut config = Config::default();
        config.hub.port = hub.port();
        config.hub.websocket_port = hub.https_port();
        config.hub.ca_file = Some(hub.ca_file().to_owned());
        config.hub.transport = config::Transport::Amqp;
        config.identity.source = config::IdentitySource::KeyFile;
        config.sensor.source = config::SensorSource::Simulated;
        config.sensor.speed = 60.0;
        config.telemetry.batch = 50;
        Self {
            device: "roof".into(),
            config,
            limits: quick(),
            proxy: Proxy::default(),
            clock: Hands::right(),
            every: Some(Duration::from_millis(20)),
            seed: 1,
            folder: None,
        }
    }
}

/// A running station.
pub struct Rig {
    pub store: StoreHandle,
    pub board: Arc<Board>,
    pub settings: watch::Sender<Settings>,
    pub flush: Arc<Notify>,
    pub turns: Arc<AtomicU64>,
    pub timekeeper: Timekeeper,
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
        let timekeeper = Timekeeper::new(Arc::new(plan.clock), floor);
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

    /// Waits until the cloud's status satisfies `wanted`; returns how long that took.
    pub async fn until(
        &self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&CloudStatus) -> bool,
    ) -> Duration {
        let started = Instant::now();
        let limit = stretched(limit);
        let mut status = self.board.cloud.subscribe();
        let reached = timeout(limit, status.wait_for(|status| wanted(status))).await.map(|_| ());
        assert!(reached.is_ok(), "{what}: not within {limit:?}; the cloud's status is {:?}", self.cloud());
        started.elapsed()
    }

    pub async fn online(&self, limit: Duration) -> Duration {
        self.until("online", limit, |status| status.state == CloudState::Online).await
    }

    /// Waits until nothing is pending: every reading on disk is accepted (or set aside).
    pub async fn all_accepted(&self, limit: Duration) -> Duration {
        let started = Instant::now();
        let limit = stretched(limit);
        let mut status = self.board.store.subscribe();
        let reached = timeout(limit, status.wait_for(|s| s.pending == 0 && s.last_sequence > 0)).await;
        let reached = reached.map(|_| ());
        assert!(
            reached.is_ok(),
            "not all accepted within {limit:?}; store {:?}, cloud {:?}",
            self.board.store.borrow(),
            self.cloud()
        );
        started.elapsed()
    }

    /// Waits until so many readings are on disk.
    pub async fn until_stored(&self, count: u64, limit: Duration) {
        let mut status = self.board.store.subscribe();
        let reached = timeout(limit, status.wait_for(|s| s.last_sequence >= count)).await.map(|_| ());
        assert!(reached.is_ok(), "{count} stored: {:?}", self.board.store.borrow());
    }

    /// Waits until so many readings are set aside.
    pub async fn until_aside(&self, count: u64, limit: Duration) {
        let mut status = self.board.store.subscribe();
        let reached = timeout(limit, status.wait_for(|s| s.dead_letters >= count)).await.map(|_| ());
        assert!(reached.is_ok(), "{count} set aside: {:?}, {:?}", self.board.store.borrow(), self.cloud());
    }

    /// Waits until the store holds no event that is to be sent.
    async fn events_sent(&self, limit: Duration) {
        let until = Instant::now() + stretched(limit);
        while !self.store.pending_events(1).await.unwrap().is_empty() {
            assert!(Instant::now() < until, "an event was not sent; {:?}", self.cloud());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the events are sent, without a reading.
    pub async fn finish_events(mut self, hub: &Emulator, limit: Duration) -> Account {
        self.events_sent(limit).await;
        self.stop_cloud().await;
        account(hub, &self.device, 0)
    }

    /// Stops the sensor, waits until all is accepted, and compares the disk with the hub's record.
    pub async fn finish(mut self, hub: &Emulator, limit: Duration) -> Account {
        // While readings still come: an event that the hub once refused waits for a reading to be taken.
        self.events_sent(limit.max(Duration::from_secs(2))).await;
        self.quiet().await;
        self.all_accepted(limit).await;
        let last = self.board.store.borrow().last_sequence;
        let dead_letters = self.board.store.borrow().dead_letters;
        let account = account(hub, &self.device, last);
        // A reading that was set aside may have arrived before, with its acknowledgement lost. One that did not arrive
        // was set aside: its own event says so.
        let aside = |missing: &u64| {
            account.events.iter().filter(|event| event["event"] == "deadLetter").any(|event| {
                let number = |key: &str| event[key].as_u64().unwrap();
                (number("first")..=number("last")).contains(missing)
            })
        };
        let lost: Vec<_> = account.missing.iter().filter(|missing| !aside(missing)).collect();
        assert!(lost.is_empty(), "missing: {lost:?}, {dead_letters} set aside");
        self.stop_cloud().await;
        self.store.close().await.unwrap();
        drop(self.folder);
        account
    }

    /// No more samples.
    pub async fn quiet(&mut self) {
        self.stop_sensor.send_replace(true);
        self.samples = None;
        // The sensor hands over what it holds and ends; the store then has the last sequence.
        let mut last = self.store.synced();
        loop {
            let before = *last.borrow_and_update();
            if timeout(Duration::from_millis(300), last.changed()).await.is_err() && *last.borrow() == before
            {
                break;
            }
        }
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

/// A device that no hub knows.
fn stranger(device: &str) -> String {
    format!(
        "HostName=localhost;DeviceId={device};SharedAccessKey=c3RyYW5nZXItc3RyYW5nZXItc3RyYW5nZXItMTIzNA=="
    )
}

/// The times of the tables are those of a machine that is not overloaded: where more wants to run than it has
/// processors, a wait takes accordingly longer.
fn stretched(limit: Duration) -> Duration {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: f64 = load.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0);
    let processors = std::thread::available_parallelism().map_or(1.0, |count| count.get() as f64);
    limit.mul_f64((load / processors).clamp(1.0, 3.0))
}

/// What a run measured, for whoever looks (`--nocapture`).
pub fn say(line: std::fmt::Arguments<'_>) {
    use std::io::Write as _;
    let mut stderr = std::io::stderr();
    writeln!(stderr, "{line}").unwrap();
}
