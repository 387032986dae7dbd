//! What a station of the fault tests is started with: its configuration, its clock, its limits scaled down.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::DateTime;
use hub_emulator::Emulator;
use weather_station::clock::{Clock, SystemClock};
use weather_station::cloud::{Limits, Proxy};
use weather_station::config::{self, Config};
use weather_station::reading::BootId;

/// The limits of the field, divided so that a table of faults takes seconds. What they are in the field is asserted
/// by `the_limits_of_the_field`.
fn quick() -> Limits {
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

/// A clock whose hands a test may move while the station runs.
#[derive(Debug, Clone)]
pub struct Dial(pub Arc<Mutex<Hands>>);

impl Clock for Dial {
    fn wall(&self) -> DateTime<chrono::Utc> {
        let hands = self.0.lock().unwrap();
        hands.inner.wall() + hands.off
    }
    fn since_boot(&self) -> Duration {
        self.0.lock().unwrap().inner.since_boot()
    }
    fn boot(&self) -> BootId {
        self.0.lock().unwrap().inner.boot()
    }
    fn synchronised(&self) -> bool {
        self.0.lock().unwrap().synchronised
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
