//! A clock to turn, samples to store, and a store task to talk to.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use weather_station::clock::{Clock, Timekeeper};
use weather_station::config::{self, Config};
use weather_station::reading::{
    BootId, Celsius, FromSensor, Hectopascal, Measurement, Percent, Quality, Sample, Stamp,
};
use weather_station::settings::Settings;
use weather_station::status::{Board, StoreStatus};
use weather_station::store::{self, Event, Page, StoreError, StoreHandle};

/// The clocks of a machine that exists only here.
#[derive(Debug, Clone)]
pub struct TestClock(Arc<Mutex<Hands>>);

#[derive(Debug, Clone)]
pub struct Hands {
    pub wall: DateTime<Utc>,
    pub since_boot: Duration,
    pub boot: u128,
    pub synchronised: bool,
}

impl TestClock {
    /// Synchronised, 2026-06-01 12:00, ten minutes after boot 1.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Hands {
            wall: date("2026-06-01T12:00:00Z"),
            since_boot: Duration::from_secs(600),
            boot: 1,
            synchronised: true,
        })))
    }

    pub fn set(&self, change: impl FnOnce(&mut Hands)) {
        change(&mut self.0.lock().unwrap());
    }

    pub fn advance(&self, by: Duration) {
        self.set(|hands| {
            hands.wall += TimeDelta::from_std(by).unwrap();
            hands.since_boot += by;
        });
    }

    /// The kernel says that this is the time.
    pub fn synchronise(&self, wall: &str) {
        self.set(|hands| {
            hands.wall = date(wall);
            hands.synchronised = true;
        });
    }

    pub fn lose_synchronisation(&self) {
        self.set(|hands| hands.synchronised = false);
    }

    /// 1970, boot 2.
    pub fn boot_without_a_clock(&self) {
        self.set(|hands| {
            hands.wall = date("1970-01-01T00:00:10Z");
            hands.since_boot = Duration::from_secs(10);
            hands.boot = 2;
            hands.synchronised = false;
        });
    }

    /// Boot 3, with a clock that is right.
    pub fn boot_with_a_clock(&self) {
        self.set(|hands| hands.boot = 3);
        self.synchronise("2026-06-01T12:00:00Z");
    }

    pub fn timekeeper(&self) -> Timekeeper {
        Timekeeper::new(Arc::new(self.clone()), date("2026-01-01T00:00:00Z"))
    }
}

impl Clock for TestClock {
    fn wall(&self) -> DateTime<Utc> {
        self.0.lock().unwrap().wall
    }
    fn since_boot(&self) -> Duration {
        self.0.lock().unwrap().since_boot
    }
    fn boot(&self) -> BootId {
        BootId(self.0.lock().unwrap().boot)
    }
    fn synchronised(&self) -> bool {
        self.0.lock().unwrap().synchronised
    }
}

pub fn date(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// A folder, a clock, and a configuration for a store in it.
pub struct Place {
    pub folder: tempfile::TempDir,
    pub clock: TestClock,
    pub config: config::Store,
}

impl Place {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = config::Store { path: folder.path().join("readings.db"), ..config::Store::default() };
        Self { folder, clock: TestClock::new(), config }
    }

    pub fn path(&self) -> &Path {
        &self.config.path
    }

    pub fn beside(&self, ending: &str) -> PathBuf {
        format!("{}{ending}", self.config.path.display()).into()
    }

    /// The files as a kill would leave them now, as another place at the same time. Nothing may be under way.
    pub fn copy(&self) -> Self {
        let copy = Self { clock: self.clock.clone(), ..Self::new() };
        for ending in ["", "-wal", ".label"] {
            std::fs::copy(self.beside(ending), copy.beside(ending)).unwrap();
        }
        Self { config: config::Store { path: copy.config.path.clone(), ..self.config.clone() }, ..copy }
    }

    /// A later version has written it, as far as this one can tell: it is set aside, and all of it can be salvaged.
    pub fn be_of_a_later_version(&self) {
        let connection = rusqlite::Connection::open(self.path()).unwrap();
        connection.execute_batch("PRAGMA user_version = 99").unwrap();
    }

    pub fn start(&self) -> Running {
        self.start_as("first").unwrap()
    }

    /// After a task was cut off: it may hold the store for a moment longer.
    pub async fn start_again(&self, run: &str) -> Running {
        for _ in 0..1_000 {
            match self.start_as(run) {
                Err(StoreError::Locked { .. }) => tokio::time::sleep(Duration::from_millis(5)).await,
                other => return other.unwrap(),
            }
        }
        panic!("the store stays locked");
    }

    pub fn start_as(&self, run: &str) -> Result<Running, StoreError> {
        self.start_knowing(true, run)
    }

    /// `keep_is_known`: a station begins without, and then reads what the twin asked for.
    pub fn start_knowing(&self, keep_is_known: bool, run: &str) -> Result<Running, StoreError> {
        let timekeeper = self.clock.timekeeper();
        let (task, handle) = store::open(&self.config, &timekeeper, Arc::from(run))?;
        let (samples, samples_rx) = mpsc::channel(16);
        let board = Arc::new(Board::default());
        let file = Settings::from_file(&Config { store: self.config.clone(), ..Config::default() });
        let (settings, settings_rx) = watch::channel(Settings { keep_is_known, ..file });
        let turns = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(task.run(samples_rx, board.clone(), settings_rx, turns.clone()));
        Ok(Running { samples, handle, board, turns, settings, timekeeper, task, taken: 0 })
    }
}

/// A store task and everything to talk to it.
pub struct Running {
    pub samples: mpsc::Sender<FromSensor>,
    pub handle: StoreHandle,
    pub board: Arc<Board>,
    /// What the watchdog goes by.
    pub turns: Arc<AtomicU64>,
    /// Settings end with their sender: it is kept while the store runs.
    pub settings: watch::Sender<Settings>,
    pub timekeeper: Timekeeper,
    pub task: JoinHandle<Result<(), StoreError>>,
    taken: u64,
}

impl Running {
    /// A sample of the present moment, different from its neighbours.
    pub fn sample(&mut self) -> Sample {
        self.taken += 1;
        sample(self.timekeeper.stamp(), self.taken)
    }

    pub async fn send(&mut self, count: u64) {
        for _ in 0..count {
            let sample = self.sample();
            self.samples.send(FromSensor::Sample(sample)).await.unwrap();
        }
    }

    /// Sends so many and waits until they are on disk.
    pub async fn append(&mut self, count: u64) {
        let want = *self.handle.synced().borrow() + count;
        self.send(count).await;
        self.synced(want).await;
    }

    pub async fn synced(&self, sequence: u64) {
        let mut synced = self.handle.synced();
        tokio::time::timeout(Duration::from_secs(30), synced.wait_for(|now| *now >= sequence))
            .await
            .unwrap()
            .unwrap();
    }

    /// Waits until the status says so.
    pub async fn status(&self, wanted: impl FnMut(&StoreStatus) -> bool) -> StoreStatus {
        let mut status = self.board.store.subscribe();
        let found = tokio::time::timeout(Duration::from_secs(30), status.wait_for(wanted))
            .await
            .map(|found| found.unwrap().clone());
        match found {
            Ok(found) => found,
            Err(_) => panic!("the store never came to that state: {:?}", self.board.store.borrow()),
        }
    }

    /// What happened, once there is something to send.
    pub async fn events(&self) -> Vec<Event> {
        loop {
            let events = self.handle.pending_events(100).await.unwrap();
            if !events.is_empty() {
                return events;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    pub async fn page(&self) -> Page {
        self.handle.pending(None, 500).await.unwrap()
    }

    /// The sequences of all that wait, page after page.
    pub async fn all_pending(&self) -> Vec<u64> {
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let page = self.handle.pending(after, 1_000).await.unwrap();
            if page.readings.is_empty() {
                return found;
            }
            after = Some(page.end);
            found.extend(sequences(&page));
        }
    }

    /// As the station stops it.
    pub async fn stop(self) {
        drop(self.samples);
        drop(self.handle);
        self.task.await.unwrap().unwrap();
    }
}

/// Weather that depends on `number` alone.
pub fn sample(stamp: Stamp, number: u64) -> Sample {
    let wave = u32::try_from(number % 1000).unwrap();
    // Whole thousandths: what is stored is what was taken, to the last bit.
    let value = |thousandths: u32| f64::from(thousandths) / 1000.0;
    Sample {
        stamp,
        measurement: Measurement {
            air_temperature: Celsius(value(10_000 + wave * 10)),
            relative_humidity: Percent(value(40_000 + wave * 20)),
            station_pressure: Hectopascal(value(1_000_000 + wave * 100)),
        },
        quality: Quality::Good,
    }
}

pub fn stamps(page: &Page) -> impl Iterator<Item = Stamp> + '_ {
    page.readings.iter().map(|(_, reading)| reading.sample.stamp)
}

pub fn times(page: &Page) -> Vec<DateTime<Utc>> {
    stamps(page).map(|stamp| stamp.time).collect()
}

pub fn sequences(page: &Page) -> Vec<u64> {
    page.readings.iter().map(|(_, reading)| reading.sequence).collect()
}

/// `WEATHER_STATION_SLOW=1`: every page, a million readings, all kills.
pub fn slow() -> bool {
    std::env::var_os("WEATHER_STATION_SLOW").is_some()
}
