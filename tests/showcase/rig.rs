//! A station with a past: the real binary on a store that was filled through the store's own task.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::{mpsc, watch};
use weather_station::clock::{Clock as _, SystemClock, Timekeeper};
use weather_station::config::{self, Config};
use weather_station::reading::{FromSensor, Quality, Sample, Stamp, TimeQuality};
use weather_station::sensor::simulated::Trace;
use weather_station::settings::Settings;
use weather_station::status::Board;
use weather_station::store;

use crate::support::station::Station;

pub const TRACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/jfk-2013-11.csv");

/// What is recorded already, as (how long before now it begins, time between two readings), in that order.
pub type Past = [(TimeDelta, TimeDelta)];

/// A year by the hour, then two days by five minutes, then an hour by the minute.
pub const YEAR: &Past = &[
    (TimeDelta::days(365), TimeDelta::hours(1)),
    (TimeDelta::days(2), TimeDelta::minutes(5)),
    (TimeDelta::hours(1), TimeDelta::minutes(1)),
];

/// The configuration but for identity, hub and showcase; the weather goes at `speed`, one reading a second.
pub fn config(dir: &Path, speed: f64) -> String {
    format!(
        "[station]\naltitude = 4.0\n[sensor]\nsource = \"simulated\"\ninterval = \"1s\"\ntrace = \"{TRACE}\"\n\
         speed = {speed}\n[store]\npath = \"{}\"\n",
        dir.join("readings.db").display()
    )
}

/// Records the weather of the past at this speed; returns the samples.
pub async fn record(dir: &Path, past: &Past, speed: f64) -> Vec<Sample> {
    let samples = samples(past, speed);
    let clock = Arc::new(SystemClock::new());
    let timekeeper = Timekeeper::new(clock, DateTime::UNIX_EPOCH);
    let config = config::Store {
        path: dir.join("readings.db"),
        max_loss: Duration::from_secs(600),
        ..config::Store::default()
    };
    let (task, handle) = store::open(&config, &timekeeper, "past".into()).unwrap();
    drop(handle);
    let (sender, receiver) = mpsc::channel(256);
    let feed = async {
        for sample in &samples {
            sender.send(FromSensor::Sample(*sample)).await.unwrap();
        }
        drop(sender);
    };
    let settings = watch::Sender::new(Settings::from_file(&Config::default()));
    let turns = Arc::new(AtomicU64::new(0));
    let run = task.run(receiver, Arc::new(Board::default()), settings.subscribe(), turns);
    let ((), ended) = tokio::join!(feed, run);
    ended.unwrap();
    samples
}

fn samples(past: &Past, speed: f64) -> Vec<Sample> {
    let clock = SystemClock::new();
    let (now, since_boot) = (clock.wall(), clock.since_boot());
    let trace = Trace::load(Path::new(TRACE)).unwrap();
    let mut samples = Vec::new();
    for (index, (before, step)) in past.iter().enumerate() {
        let until = now - past.get(index + 1).map_or(TimeDelta::zero(), |(before, _)| *before);
        let mut time = now - *before;
        while time < until {
            samples.push(sample(&trace, time, speed, since_boot, &clock));
            time += *step;
        }
    }
    samples
}

fn sample(
    trace: &Trace,
    time: DateTime<Utc>,
    speed: f64,
    since_boot: Duration,
    clock: &SystemClock,
) -> Sample {
    let stamp = Stamp { boot: clock.boot(), since_boot, time, time_quality: TimeQuality::Synchronised };
    Sample { stamp, measurement: trace.at_time(time, speed), quality: Quality::Good }
}

/// A station without hub and TPM that samples once a second.
pub async fn alone(dir: &Path, speed: f64) -> Station {
    let config = config(dir, speed) + "[identity]\ntcti = \"swtpm:host=127.0.0.1,port=1\"\n";
    let station = Station::start(dir, &config);
    station
        .until("a reading", Duration::from_secs(20), |status| !status["sensor"]["lastReading"].is_null())
        .await;
    station
}
