//! Starts, supervises and stops the tasks; the only place that spawns. Stop the source first, let the channels
//! drain, finish the disk, give the cloud what is left of the deadline.

mod watchdog;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use chrono::{DateTime, Utc};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio::time::{Instant, timeout_at};

use self::watchdog::Loop;
use crate::clock::{SystemClock, Timekeeper};
use crate::cloud;
use crate::config::{self, Config};
use crate::reading::{FromSensor, SensorRequest};
use crate::sensor;
use crate::settings::{self, Overlay, Settings};
use crate::showcase;
use crate::status::Board;
use crate::store::{self, StoreError, StoreHandle};

/// The day this program was built: no right clock shows less.
pub fn build_date() -> DateTime<Utc> {
    let days: i64 = env!("WEATHER_STATION_BUILD_DAY").parse().unwrap_or_default();
    DateTime::from_timestamp(days * 86_400, 0).unwrap_or_default()
}

/// The machine's clock, judged by the day of the build.
pub fn timekeeper() -> Timekeeper {
    Timekeeper::new(Arc::new(SystemClock::new()), build_date())
}

/// From the signal to the end of the process.
const DEADLINE: Duration = Duration::from_secs(10);
/// What the disk keeps of it for itself, however long the others take.
const FOR_THE_DISK: Duration = Duration::from_secs(2);
/// What the hub gets to answer what is in flight.
const LAST_CALL: Duration = Duration::from_secs(5);
/// Samples on their way to the disk. When it is full the sensor waits: the store keeps thousands in memory, so
/// that takes a disk that hangs for minutes.
const SAMPLES: usize = 64;
/// Requests to the sensor that wait; those who ask wait with them.
const REQUESTS: usize = 8;

/// The name of a task that ended by itself.
type Ended = &'static str;

/// Runs until `stop` becomes true, then ends in order: what was sampled is on disk. A task that ends by itself or
/// panics ends the station with an error, so that systemd starts it anew.
pub async fn run(config: Config, stop: watch::Receiver<bool>) -> anyhow::Result<()> {
    let station = Station::start(config).await?;
    notify(sd_notify::NotifyState::Ready);
    station.supervise(stop).await
}

/// The tasks, and what ends them.
struct Station {
    store: StoreHandle,
    disk: JoinHandle<Result<(), StoreError>>,
    tasks: JoinSet<Ended>,
    sensor: mpsc::Sender<SensorRequest>,
    halt: watch::Sender<bool>,
}

/// What every task is given.
struct Common {
    config: Arc<Config>,
    timekeeper: Timekeeper,
    board: Arc<Board>,
    store: StoreHandle,
    settings: watch::Receiver<Settings>,
    sensor: mpsc::Sender<SensorRequest>,
    stop: watch::Receiver<bool>,
}

impl Station {
    async fn start(config: Config) -> anyhow::Result<Self> {
        let config = Arc::new(config);
        let timekeeper = timekeeper();
        let source = sensor::Source::new(&config, &timekeeper)?;
        let proxy = cloud::Proxy::from_environment();
        let run_word: Arc<str> = run_word()?.into();
        let seed = random_seed()?;
        let board = Arc::new(Board::default());
        board.configuration.send_replace(config::in_force(&config));
        board.identity.send_modify(|status| status.source = config.identity.source);
        tracing::info!(version = env!("CARGO_PKG_VERSION"), run = &*run_word, "weather-station starts");
        if let Some(trouble) = proxy.trouble() {
            tracing::error!("{trouble}");
        }

        let loops = ["sensor", "store", "cloud"].map(|name| Loop { name, turns: Arc::default() });
        let [sensor_turns, store_turns, cloud_turns] = loops.each_ref().map(|task| task.turns.clone());
        let (samples_tx, samples) = mpsc::channel(SAMPLES);
        let (store_config, store_clock) = (config.store.clone(), timekeeper.clone());
        let (store_task, store) =
            tokio::task::spawn_blocking(move || store::open(&store_config, &store_clock, run_word))
                .await
                .context("the store's opening was ended")??;
        let (settings_tx, settings) = watch::channel(Settings::from_file(&config));
        let disk = tokio::spawn(store_task.run(samples, board.clone(), settings.clone(), store_turns));
        // What the twin last asked for holds before the first sample, network or not.
        let overlay = settings::load(&store).await;
        if let Some(overlay) = &overlay {
            settings_tx.send_modify(|settings| {
                *settings = Settings { keep_is_known: true, ..overlay.settings(settings) };
            });
        }

        let (sensor_tx, requests) = mpsc::channel(REQUESTS);
        let (halt, stop) = watch::channel(false);
        let common = Common { config, timekeeper, board, store, settings, sensor: sensor_tx, stop };
        let mut tasks = JoinSet::new();
        let sensor = common.sensor_task(source, samples_tx, requests, sensor_turns);
        tasks.spawn(named("sensor", sensor.run()));
        if common.config.showcase.listen.is_some() {
            tasks.spawn(named("page", common.page_task().run()));
        }
        let cloud = common.cloud_task(settings_tx, overlay, proxy, seed, cloud_turns);
        tasks.spawn(named("cloud", cloud.run()));
        if let Some(every) = sd_notify::watchdog_enabled() {
            let mut stop = common.stop.clone();
            tasks.spawn(named("watchdog", async move {
                tokio::select! {
                    () = watchdog::run(every, loops.into(), || notify(sd_notify::NotifyState::Watchdog)) => {}
                    _ = stop.wait_for(|stop| *stop) => {}
                }
            }));
        }
        Ok(Self { store: common.store, disk, tasks, sensor: common.sensor, halt })
    }

    async fn supervise(mut self, mut stop: watch::Receiver<bool>) -> anyhow::Result<()> {
        let cause = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => None,
            Some(ended) = self.tasks.join_next() => Some(unexpected(ended)),
            ended = &mut self.disk => return Err(disk_ended(ended)),
        };
        let begin = Instant::now();
        notify(sd_notify::NotifyState::Stopping);
        self.halt.send_replace(true);
        drop(self.sensor);
        drain(&mut self.tasks, begin + DEADLINE - FOR_THE_DISK).await;
        finish_disk(&self.store, self.disk, begin + DEADLINE).await?;
        tracing::info!(seconds = begin.elapsed().as_secs_f32(), "ended in order");
        cause.map_or(Ok(()), Err)
    }
}

impl Common {
    fn sensor_task(
        &self,
        source: sensor::Source,
        samples: mpsc::Sender<FromSensor>,
        requests: mpsc::Receiver<SensorRequest>,
        turns: Arc<AtomicU64>,
    ) -> sensor::Task {
        sensor::Task {
            source,
            address: self.config.sensor.address,
            settings: self.settings.clone(),
            timekeeper: self.timekeeper.clone(),
            board: self.board.clone(),
            samples,
            requests,
            stop: self.stop.clone(),
            turns,
        }
    }

    fn page_task(&self) -> showcase::Task {
        showcase::Task {
            config: self.config.clone(),
            board: self.board.clone(),
            timekeeper: self.timekeeper.clone(),
            store: self.store.clone(),
            sensor: self.sensor.clone(),
            settings: self.settings.clone(),
            runtime_directory: showcase::setup_code::runtime_directory(),
            stop: self.stop.clone(),
        }
    }

    fn cloud_task(
        &self,
        settings: watch::Sender<Settings>,
        overlay: Option<Overlay>,
        proxy: cloud::Proxy,
        seed: u64,
        turns: Arc<AtomicU64>,
    ) -> cloud::Task {
        let flush = Arc::new(Notify::new());
        let limits = cloud::Limits::default();
        let steering = cloud::Steering::new(cloud::Parts {
            config: self.config.clone(),
            overlay,
            settings,
            board: self.board.clone(),
            timekeeper: self.timekeeper.clone(),
            store: self.store.clone(),
            sensor: self.sensor.clone(),
            flush: flush.clone(),
            answer: limits.twin,
            seed,
        });
        cloud::Task {
            identity: self.config.identity.clone(),
            provisioning: self.config.provisioning.clone(),
            hub: self.config.hub.clone(),
            proxy,
            telemetry: self.config.telemetry.clone(),
            store: self.store.clone(),
            settings: self.settings.clone(),
            timekeeper: self.timekeeper.clone(),
            board: self.board.clone(),
            flush,
            steering: Some(steering),
            stop: self.stop.clone(),
            last_call: LAST_CALL,
            turns,
            limits,
            seed,
        }
    }
}

/// Ends with its name.
async fn named(name: Ended, task: impl Future<Output = ()>) -> Ended {
    task.await;
    name
}

/// Waits for the tasks that were told to stop; what overruns is dropped: the disk has the data.
async fn drain(tasks: &mut JoinSet<Ended>, limit: Instant) {
    let all = async {
        while let Some(ended) = tasks.join_next().await {
            match ended {
                Ok(name) => tracing::debug!(task = name, "ended"),
                Err(error) => tracing::error!(%error, "a task was ended"),
            }
        }
    };
    if timeout_at(limit, all).await.is_err() {
        tracing::warn!("not all tasks ended in time; what they had not sent is on disk");
        tasks.abort_all();
    }
}

async fn finish_disk(
    store: &StoreHandle,
    disk: JoinHandle<Result<(), StoreError>>,
    limit: Instant,
) -> anyhow::Result<()> {
    let finish = async {
        // It fails only when the task has ended by itself, which its own result tells better.
        let closed = store.close().await;
        let ended = disk.await.context("the store task was ended")?;
        ended.and(closed).context("not everything could be written to the store")
    };
    timeout_at(limit, finish).await.map_err(|_| anyhow!("the disk did not finish within {DEADLINE:?}"))?
}

fn unexpected(ended: Result<Ended, JoinError>) -> anyhow::Error {
    match ended {
        Ok(name) => anyhow!("the {name} task ended by itself"),
        Err(error) => anyhow::Error::new(error).context("a task was ended"),
    }
}

fn disk_ended(ended: Result<Result<(), StoreError>, JoinError>) -> anyhow::Error {
    match ended {
        Ok(Ok(())) => anyhow!("the store task ended by itself"),
        Ok(Err(error)) => anyhow::Error::new(error).context("the store task ended"),
        Err(error) => anyhow::Error::new(error).context("the store task was ended"),
    }
}

/// Six letters and digits that tell the readings of this process run from those of another one.
fn run_word() -> anyhow::Result<String> {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut bytes = [0_u8; 6];
    getrandom::fill(&mut bytes).context("the kernel gave no random bytes")?;
    Ok(bytes.iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect())
}

/// Different on each station, so that a thousand of them do not come back in the same moment.
fn random_seed() -> anyhow::Result<u64> {
    getrandom::u64().context("the kernel gave no random bytes")
}

/// Without systemd there is nobody to tell.
fn notify(state: sd_notify::NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!(%error, "could not notify systemd");
    }
}
