//! A sensor task around a simulated chip, in paused time: what a test needs to run it and to look at it.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use weather_station::clock::{Clock, Timekeeper};
use weather_station::config::Config;
use weather_station::reading::{BootId, FromSensor, Sample, SensorRequest};
use weather_station::sensor::simulated::{SimulatedSensor, Trace};
use weather_station::sensor::{Source, Task};
use weather_station::settings::Settings;
use weather_station::status::{Board, SensorStatus};

/// Wall time and boot time that follow tokio's clock, plus what the machine slept.
pub struct TestClock {
    start: Instant,
    slept: std::sync::Mutex<Duration>,
}

impl TestClock {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { start: Instant::now(), slept: Duration::ZERO.into() })
    }

    /// The machine was suspended: tokio's clock stood still.
    pub fn sleep(&self, duration: Duration) {
        *self.slept.lock().unwrap() += duration;
    }
}

impl Clock for TestClock {
    fn wall(&self) -> DateTime<Utc> {
        let epoch = DateTime::from_timestamp(1_790_000_000, 0).unwrap();
        epoch + TimeDelta::from_std(self.since_boot()).unwrap()
    }

    fn since_boot(&self) -> Duration {
        self.start.elapsed() + *self.slept.lock().unwrap()
    }

    fn boot(&self) -> BootId {
        BootId(7)
    }

    fn synchronised(&self) -> bool {
        true
    }
}

/// Dropped: the task is told to stop.
pub struct Rig {
    pub chip: SimulatedSensor,
    pub clock: Arc<TestClock>,
    pub trace: Trace,
    pub samples: mpsc::Receiver<FromSensor>,
    pub requests: mpsc::Sender<SensorRequest>,
    pub settings: watch::Sender<Settings>,
    pub board: Arc<Board>,
    pub stop: watch::Sender<bool>,
    pub turns: Arc<AtomicU64>,
    pub task: JoinHandle<()>,
}

pub const TRACE: &str = include_str!("../data/jfk-2013-11.csv");

impl Rig {
    /// A task with this interval; `fate` is what happens to the chip before it starts.
    pub fn start(interval: Duration, fate: impl FnOnce(&SimulatedSensor)) -> Self {
        let clock = TestClock::new();
        let timekeeper = Timekeeper::new(clock.clone(), DateTime::UNIX_EPOCH);
        let trace = Trace::parse(TRACE).unwrap();
        let chip = SimulatedSensor::new(trace.clone(), 1.0, timekeeper.clone());
        fate(&chip);
        let on_the_bus = chip.clone();
        let mut config = Config::default();
        config.sensor.interval = interval;
        let (settings, follow) = watch::channel(Settings::from_file(&config));
        let (to_store, samples) = mpsc::channel(16);
        let (requests, asked) = mpsc::channel(4);
        let (stop, stopped) = watch::channel(false);
        let board = Arc::new(Board::default());
        let turns = Arc::new(AtomicU64::new(0));
        let task = Task {
            source: Source::of(move || on_the_bus.open()),
            address: None,
            settings: follow,
            timekeeper,
            board: board.clone(),
            samples: to_store,
            requests: asked,
            stop: stopped,
            turns: turns.clone(),
        };
        let task = tokio::spawn(task.run());
        Self { chip, clock, trace, samples, requests, settings, board, stop, turns, task }
    }

    pub async fn next(&mut self) -> FromSensor {
        tokio::time::timeout(Duration::from_secs(7 * 86_400), self.samples.recv())
            .await
            .expect("something within a week")
            .expect("the task runs")
    }

    /// The next message, which has to be a sample.
    pub async fn sample(&mut self) -> Sample {
        match self.next().await {
            FromSensor::Sample(sample) => sample,
            missed => panic!("expected a sample, got {missed:?}"),
        }
    }

    pub fn status(&self) -> SensorStatus {
        self.board.sensor.borrow().clone()
    }

    /// As the twin changes the settings of a running station.
    pub fn set(&self, change: impl FnOnce(&mut Settings)) {
        self.settings.send_modify(change);
    }

    /// A reading says what the trace says at its time, within what the owner was promised.
    #[track_caller]
    pub fn assert_true(&self, sample: &Sample) {
        let expected = self.trace.at_time(sample.stamp.time, 1.0);
        let got = sample.measurement;
        let close = (got.air_temperature.0 - expected.air_temperature.0).abs() < 0.05
            && (got.relative_humidity.0 - expected.relative_humidity.0).abs() < 0.2
            && (got.station_pressure.kilopascal() - expected.station_pressure.kilopascal()).abs() < 0.01;
        assert!(close, "at {} the trace says {expected:?}, the station {got:?}", sample.stamp.time);
    }
}
