//! Starts, supervises and stops the tasks; the only place that spawns. Stop the source first, let the channels
//! drain, finish the disk, give the cloud what is left of the deadline.

mod watchdog;

use std::sync::Arc;
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
use crate::sensor;
use crate::settings::{self, Settings};
use crate::showcase;
use crate::status::Board;
use crate::store::{self, StoreError};

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

type Ended = (&'static str, anyhow::Result<()>);

/// Runs until `stop` becomes true, then ends in order: what was sampled is on disk. A task that ends by itself or
/// panics ends the station with an error, so that systemd starts it anew.
pub async fn run(config: Config, mut stop: watch::Receiver<bool>) -> anyhow::Result<()> {
    let config = Arc::new(config);
    let timekeeper = self::timekeeper();
    let source = sensor::Source::new(&config, &timekeeper)?;
    let proxy = cloud::Proxy::from_environment();
    let run_word: Arc<str> = run_word()?.into();
    let board = Arc::new(Board::default());
    board.configuration.send_replace(config::in_force(&config));
    board.identity.send_modify(|status| status.source = config::identity_source(config.identity.source));
    tracing::info!(version = env!("CARGO_PKG_VERSION"), run = &*run_word, "weather-station starts");
    if let Some(trouble) = proxy.trouble() {
        tracing::error!("{trouble}");
    }

    let (halt_tx, halt) = watch::channel(false);
    let (samples_tx, samples) = mpsc::channel(SAMPLES);
    let (sensor_tx, sensor_requests) = mpsc::channel(REQUESTS);
    let loops: Vec<Loop> =
        ["sensor", "store", "cloud"].into_iter().map(|name| Loop { name, turns: Arc::default() }).collect();
    let [sensor_turns, store_turns, cloud_turns] = [0, 1, 2].map(|index: usize| loops[index].turns.clone());

    let (store_config, store_clock) = (config.store.clone(), timekeeper.clone());
    let (store_task, store) =
        tokio::task::spawn_blocking(move || store::open(&store_config, &store_clock, run_word))
            .await
            .context("the store's opening was ended")??;
    let (settings_tx, settings) = watch::channel(Settings::from_file(&config));
    let mut disk = tokio::spawn(store_task.run(samples, board.clone(), settings.clone(), store_turns));
    // What the twin last asked for holds before the first sample, network or not.
    let overlay = settings::load(&store).await;
    if let Some(overlay) = &overlay {
        settings_tx.send_modify(|settings| {
            *settings = Settings { keep_is_known: true, ..overlay.settings(settings) };
        });
    }
    let mut tasks: JoinSet<Ended> = JoinSet::new();
    let sensor = sensor::Task {
        source,
        address: config.sensor.address,
        settings: settings.clone(),
        timekeeper: timekeeper.clone(),
        board: board.clone(),
        samples: samples_tx,
        requests: sensor_requests,
        stop: halt.clone(),
        turns: sensor_turns,
    };
    tasks.spawn(async move {
        sensor.run().await;
        ("sensor", Ok(()))
    });
    let page = showcase::Task {
        config: config.clone(),
        board: board.clone(),
        timekeeper: timekeeper.clone(),
        store: store.clone(),
        sensor: sensor_tx.clone(),
        settings: settings.clone(),
        runtime_directory: showcase::setup_code::runtime_directory(),
        stop: halt.clone(),
    };
    if config.showcase.listen.is_some() {
        tasks.spawn(async move {
            page.run().await;
            ("page", Ok(()))
        });
    }
    let flush = Arc::new(Notify::new());
    let limits = cloud::Limits::default();
    let seed = random_seed()?;
    let steering = cloud::Steering::new(cloud::Parts {
        config: config.clone(),
        overlay,
        settings: settings_tx,
        board: board.clone(),
        timekeeper: timekeeper.clone(),
        store: store.clone(),
        sensor: sensor_tx.clone(),
        flush: flush.clone(),
        answer: limits.twin,
        seed,
    });
    let cloud = cloud::Task {
        identity: config.identity.clone(),
        provisioning: config.provisioning.clone(),
        hub: config.hub.clone(),
        proxy,
        telemetry: config.telemetry.clone(),
        store: store.clone(),
        settings: settings.clone(),
        timekeeper: timekeeper.clone(),
        board: board.clone(),
        flush,
        steering: Some(steering),
        stop: halt.clone(),
        last_call: LAST_CALL,
        turns: cloud_turns,
        limits,
        seed,
    };
    tasks.spawn(async move {
        cloud.run().await;
        ("cloud", Ok(()))
    });
    ready();
    if let Some(every) = sd_notify::watchdog_enabled() {
        let mut halt = halt.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = watchdog::run(every, loops, || notify(sd_notify::NotifyState::Watchdog)) => {}
                _ = halt.wait_for(|halt| *halt) => {}
            }
            ("watchdog", Ok(()))
        });
    }

    let cause = tokio::select! {
        _ = stop.wait_for(|stop| *stop) => None,
        Some(ended) = tasks.join_next() => Some(unexpected(ended)),
        ended = &mut disk => return Err(disk_ended(ended)),
    };
    let begin = Instant::now();
    notify(sd_notify::NotifyState::Stopping);
    halt_tx.send_replace(true);
    drop(sensor_tx);
    drain(&mut tasks, begin + DEADLINE - FOR_THE_DISK).await;
    finish_disk(&store, disk, begin + DEADLINE).await?;
    tracing::info!(seconds = begin.elapsed().as_secs_f32(), "ended in order");
    cause.map_or(Ok(()), Err)
}

/// Waits for the tasks that were told to stop; what overruns is dropped: the disk has the data.
async fn drain(tasks: &mut JoinSet<Ended>, limit: Instant) {
    let all = async {
        while let Some(ended) = tasks.join_next().await {
            match ended {
                Ok((name, Err(error))) => tracing::warn!(task = name, "ended with an error: {error:#}"),
                Ok((name, Ok(()))) => tracing::debug!(task = name, "ended"),
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
    store: &store::StoreHandle,
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
        Ok((name, Ok(()))) => anyhow!("the {name} task ended by itself"),
        Ok((name, Err(error))) => error.context(format!("the {name} task ended")),
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

fn ready() {
    notify(sd_notify::NotifyState::Ready);
}

/// Without systemd there is nobody to tell.
fn notify(state: sd_notify::NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!(%error, "could not notify systemd");
    }
}
