//! A store with a past: readings of each kind and an episode without any, as the station itself would have written
//! them. What waits when the station first meets the peer.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use weather_station::clock::{SystemClock, Timekeeper};
use weather_station::config::{self, Config};
use weather_station::reading::{
    BootId, Celsius, FromSensor, Hectopascal, Measurement, Percent, Quality, Sample, Stamp, TimeQuality,
};
use weather_station::settings::Settings;
use weather_station::status::Board;
use weather_station::store;

/// The process run that took them.
pub const RUN: &str = "past";
/// Enough for a batch that needs several small frames.
pub const READINGS: u64 = 12;
/// The one with every member that comes only when it applies.
pub const SUSPECT: u64 = 5;

pub async fn record(path: &Path) {
    let config = config::Store { path: path.to_owned(), ..Default::default() };
    let timekeeper = Timekeeper::new(Arc::new(SystemClock::new()), chrono::DateTime::UNIX_EPOCH);
    let (task, handle) = store::open(&config, &timekeeper, RUN.into()).unwrap();
    let (samples_tx, samples) = mpsc::channel(64);
    let (_settings, settings) = watch::channel(Settings::from_file(&Config::default()));
    let board = Arc::new(Board::default());
    let running = tokio::spawn(task.run(samples, board, settings, Arc::new(AtomicU64::new(0))));
    let now = timekeeper.stamp();
    for sequence in 1..=READINGS {
        let back = Duration::from_secs(60 * (READINGS + 1 - sequence));
        let suspect = sequence == SUSPECT;
        let stamp = Stamp {
            time: now.time - chrono::TimeDelta::from_std(back).unwrap(),
            since_boot: now.since_boot.saturating_sub(back),
            // Another boot: no later moment puts it right.
            boot: if suspect { BootId(1) } else { now.boot },
            time_quality: if suspect { TimeQuality::Unknown } else { TimeQuality::Synchronised },
        };
        let measurement = Measurement {
            air_temperature: Celsius(15.0 + sequence as f64 / 4.0),
            relative_humidity: Percent(60.0),
            station_pressure: Hectopascal(1001.25),
        };
        let quality = if suspect { Quality::Jump } else { Quality::Good };
        samples_tx.send(FromSensor::Sample(Sample { stamp, measurement, quality })).await.unwrap();
    }
    let missed = FromSensor::Missed { count: 3, from: now, until: now, reason: "no answer at 0x76".into() };
    samples_tx.send(missed).await.unwrap();
    drop(samples_tx);
    handle.close().await.unwrap();
    running.await.unwrap().unwrap();
}
