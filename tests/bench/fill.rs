//! A store with many readings in it, as the station itself would have written them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use weather_station::clock::{SystemClock, Timekeeper};
use weather_station::config::{self, Config};
use weather_station::reading::{
    Celsius, FromSensor, Hectopascal, Measurement, Percent, Quality, Sample, TimeQuality,
};
use weather_station::settings::Settings;
use weather_station::status::Board;
use weather_station::store;

/// `count` readings, `every` apart, ending now.
pub async fn fill(path: &Path, count: u64, every: Duration) {
    let config = config::Store { path: path.to_owned(), ..Default::default() };
    let timekeeper = Timekeeper::new(Arc::new(SystemClock::new()), chrono::DateTime::UNIX_EPOCH);
    let (task, handle) = store::open(&config, &timekeeper, "bench".into()).unwrap();
    let (samples_tx, samples) = mpsc::channel(1024);
    let (_settings, settings) = watch::channel(Settings::from_file(&Config::default()));
    let turns = Arc::new(AtomicU64::new(0));
    let board = Arc::new(Board::default());
    let running = tokio::spawn(task.run(samples, board, settings, turns));
    let now = timekeeper.stamp();
    for index in 0..count {
        let back = every.saturating_mul(u32::try_from(count - index).unwrap());
        let phase = index as f64 / 500.0;
        let sample = Sample {
            stamp: weather_station::reading::Stamp {
                time: now.time - chrono::TimeDelta::from_std(back).unwrap(),
                since_boot: now.since_boot.saturating_sub(back),
                time_quality: TimeQuality::Synchronised,
                ..now
            },
            measurement: Measurement {
                air_temperature: Celsius(15.0 + 8.0 * phase.sin()),
                relative_humidity: Percent(60.0 + 20.0 * phase.cos()),
                station_pressure: Hectopascal(1013.0 + 9.0 * (phase / 3.0).sin()),
            },
            quality: Quality::Good,
        };
        samples_tx.send(FromSensor::Sample(sample)).await.unwrap();
    }
    drop(samples_tx);
    handle.close().await.unwrap();
    running.await.unwrap().unwrap();
}
