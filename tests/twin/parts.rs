//! The store and the cloud task of a station put together by hand, without a sensor: with what no configuration says.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use weather_station::clock::{SystemClock, Timekeeper};
use weather_station::cloud::{self, Limits, Parts, Proxy, Steering};
use weather_station::config::Config;
use weather_station::settings::{Overlay, Settings};
use weather_station::status::Board;
use weather_station::store;

/// What the parts would take for their end if it were dropped.
pub struct Ends {
    pub settings: watch::Receiver<Settings>,
    _stop: watch::Sender<bool>,
    _samples: mpsc::Sender<weather_station::reading::FromSensor>,
}

/// `kept`: what the twin last asked for, where that could be read. `hurry`: by how much waits are shorter.
pub fn start(config: Config, kept: Option<Overlay>, hurry: u32) -> Ends {
    let timekeeper = Timekeeper::new(Arc::new(SystemClock::new()), chrono::DateTime::UNIX_EPOCH);
    let board = Arc::new(Board::default());
    let (settings_tx, settings) = watch::channel(Settings::from_file(&config));
    let (store_task, store) = store::open(&config.store, &timekeeper, "run".into()).unwrap();
    let (_samples, samples) = mpsc::channel(1);
    tokio::spawn(store_task.run(samples, board.clone(), settings.clone(), Arc::default()));
    let (sensor, _) = mpsc::channel(1);
    let (_stop, stop) = watch::channel(false);
    let limits = Limits { clock: Duration::ZERO, hurry, ..Limits::default() };
    let steering = Steering::new(Parts {
        config: Arc::new(config.clone()),
        overlay: kept,
        settings: settings_tx,
        board: board.clone(),
        timekeeper: timekeeper.clone(),
        store: store.clone(),
        sensor,
        flush: Arc::default(),
        answer: limits.twin,
        seed: 1,
    });
    let task = cloud::Task {
        provisioning: config.provisioning,
        identity: config.identity,
        hub: config.hub,
        proxy: Proxy::default(),
        telemetry: config.telemetry,
        store,
        settings: settings.clone(),
        timekeeper,
        board,
        flush: Arc::new(Notify::new()),
        steering: Some(steering),
        stop,
        last_call: Duration::from_secs(1),
        turns: Arc::default(),
        limits,
        seed: 1,
    };
    tokio::spawn(task.run());
    Ends { settings, _stop, _samples }
}
