//! Tokens are renewed on the open connection, and nothing that belongs to the connection is done again: here with a
//! token of a few seconds, shorter than the configuration takes, and so with the parts put together by hand.

use std::sync::Arc;
use std::time::Duration;

use hub_emulator::{Emulator, Options};
use tokio::sync::{Notify, mpsc, watch};
use weather_station::clock::{SystemClock, Timekeeper};
use weather_station::cloud::{self, Limits, Parts, Proxy, Steering};
use weather_station::config::{Config, IdentitySource, Transport};
use weather_station::settings::{Overlay, Settings};
use weather_station::status::Board;
use weather_station::store;

use crate::bench::{DEVICE, SOON, identify};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_token_costs_no_get_of_the_twin() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Emulator::start(Options::default()).unwrap();
    hub.add_device(DEVICE);
    identify(dir.path(), &hub, DEVICE);
    let mut config = Config::default();
    config.store.path = dir.path().join("readings.db");
    config.identity.source = IdentitySource::KeyFile;
    config.identity.key_file = dir.path().join("key");
    config.hub.port = hub.port();
    config.hub.ca_file = Some(hub.ca_file().to_owned());
    config.hub.transport = Transport::Amqp;
    config.hub.token_lifetime = Duration::from_secs(3);
    let _parts = start(config);

    let taken = |event: &hub_emulator::Event| event.kind == "put-token";
    hub.wait_for_events(3, SOON, taken).await.unwrap();
    let gets = |event: &hub_emulator::Event| event.kind == "twin" && event.detail["operation"] == "GET";
    hub.wait_for_events(1, SOON, gets).await.unwrap();
    // One renewal later whatever the second one might have caused has been asked.
    hub.wait_for_events(4, SOON, taken).await.unwrap();
    assert_eq!(hub.events_of("connect").len(), 1, "reconnected");
    assert_eq!(hub.events().into_iter().filter(gets).count(), 1);
}

/// What the parts would take for their end if it were dropped.
struct Ends {
    _stop: watch::Sender<bool>,
    _samples: mpsc::Sender<weather_station::reading::FromSensor>,
}

/// The store and the cloud task, without a sensor.
fn start(config: Config) -> Ends {
    let timekeeper = Timekeeper::new(Arc::new(SystemClock::new()), chrono::DateTime::UNIX_EPOCH);
    let board = Arc::new(Board::default());
    let (settings_tx, settings) = watch::channel(Settings::from_file(&config));
    let (store_task, store) = store::open(&config.store, &timekeeper, "run".into()).unwrap();
    let (_samples, samples) = mpsc::channel(1);
    tokio::spawn(store_task.run(samples, board.clone(), settings.clone(), Arc::default()));
    let (sensor, _) = mpsc::channel(1);
    let (_stop, stop) = watch::channel(false);
    let limits = Limits { clock: Duration::ZERO, ..Limits::default() };
    let steering = Steering::new(Parts {
        config: Arc::new(config.clone()),
        overlay: Some(Overlay::default()),
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
        settings,
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
    Ends { _stop, _samples }
}
