//! A reading onto the disk, synced, beside the least that a durable append can be: one page and one flush.

use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use weather_station::clock::{SystemClock, Timekeeper};
use weather_station::config::{self, Config};
use weather_station::reading::{Celsius, FromSensor, Hectopascal, Measurement, Percent, Quality, Sample};
use weather_station::settings::Settings;
use weather_station::status::Board;
use weather_station::store;

use crate::machine::median;
use crate::table::Table;

const APPENDS: u64 = 1000;
const ROUNDS: usize = 5;

pub async fn measure(table: &mut Table) {
    let (mut bare_rates, mut store_rates) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bare_rates.push(bare());
        // On one thread of its own, as in the station.
        let round = tokio::task::spawn_blocking(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            // As a task: to wake the future that is blocked on costs a system call more.
            runtime.block_on(async { tokio::spawn(stored()).await.unwrap() })
        });
        store_rates.push(round.await.unwrap());
    }
    let (bare, store) = (median(bare_rates), median(store_rates));
    let ratio = store / bare;
    table.judge(
        "synced appends",
        format!("{store:.0} readings/s"),
        format!("bare 4 KiB write + fdatasync: {bare:.0}/s: {ratio:.2}x"),
        "0.5x",
        ratio >= 0.5,
        Some(ratio >= 0.2),
    );
}

/// Beside the build, which is on a disk: `/tmp` may be memory, where a flush costs nothing.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// Into the same folder as the stores.
fn bare() -> f64 {
    let dir = folder();
    let file = std::fs::File::create(dir.path().join("bare")).unwrap();
    let page = [7_u8; 4096];
    file.write_all_at(&vec![0; 4096 * APPENDS as usize], 0).unwrap();
    file.sync_all().unwrap();
    let begin = Instant::now();
    for index in 0..APPENDS {
        file.write_all_at(&page, index * 4096).unwrap();
        file.sync_data().unwrap();
    }
    APPENDS as f64 / begin.elapsed().as_secs_f64()
}

/// Through the store task, each waited for.
async fn stored() -> f64 {
    let dir = folder();
    let config = config::Store { path: dir.path().join("readings.db"), ..Default::default() };
    let timekeeper = Timekeeper::new(Arc::new(SystemClock::new()), chrono::DateTime::UNIX_EPOCH);
    let (task, handle) = store::open(&config, &timekeeper, "bench".into()).unwrap();
    let (samples_tx, samples) = mpsc::channel(1);
    // The store keeps house once in five seconds, with a sample: the interval tells it that another one comes soon.
    let settings =
        Settings { sample_interval: Duration::from_secs(1), ..Settings::from_file(&Config::default()) };
    let (_settings, settings) = watch::channel(settings);
    let turns = Arc::new(AtomicU64::new(0));
    let running = tokio::spawn(task.run(samples, Arc::new(Board::default()), settings, turns));
    let sample = || {
        FromSensor::Sample(Sample {
            stamp: timekeeper.stamp(),
            measurement: Measurement {
                air_temperature: Celsius(15.0),
                relative_humidity: Percent(60.0),
                station_pressure: Hectopascal(1013.0),
            },
            quality: Quality::Good,
        })
    };
    let mut synced = handle.synced();
    let mut append = async |sequence: u64| {
        samples_tx.send(sample()).await.unwrap();
        synced.wait_for(|last| *last >= sequence).await.unwrap();
    };
    // The journal has its full size after this: the station's everyday state.
    for sequence in 1..=APPENDS {
        append(sequence).await;
    }
    let begin = Instant::now();
    for sequence in APPENDS + 1..=2 * APPENDS {
        append(sequence).await;
    }
    let rate = APPENDS as f64 / begin.elapsed().as_secs_f64();
    drop(samples_tx);
    handle.close().await.unwrap();
    running.await.unwrap().unwrap();
    rate
}
