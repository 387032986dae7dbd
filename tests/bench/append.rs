//! A reading onto the disk, synced, beside the least that a durable append can be: one page and one flush, to a file that
//! grows, to one that has its size already, and by another thread.

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
/// What a bare write writes.
const PAGE: [u8; 4096] = [7; 4096];

pub async fn measure(table: &mut Table) {
    let [mut grown, mut in_place, mut handed, mut stored] = [const { Vec::new() }; 4];
    for _ in 0..ROUNDS {
        grown.push(bare(Room::Grows));
        in_place.push(bare(Room::Ready));
        handed.push(on_one_thread(handed_over).await);
        stored.push(on_one_thread(through_the_store).await);
    }
    let [grown, in_place, handed, stored] = [grown, in_place, handed, stored].map(median);
    let measured = format!("{stored:.0} readings/s");
    let grown_ratio = stored / grown;
    table.judge(
        "synced appends",
        measured.clone(),
        format!("bare 4 KiB append + fdatasync: {grown:.0}/s: {grown_ratio:.2}x"),
        "0.5x",
        grown_ratio >= 0.5,
        Some(grown_ratio >= 0.2),
    );
    // The journal does not grow either: the harder peer.
    let ratio = stored / in_place;
    table.judge(
        "- beside a file that has its size already",
        measured.clone(),
        format!("bare 4 KiB write + fdatasync: {in_place:.0}/s: {ratio:.2}x"),
        "0.5x",
        ratio >= 0.5,
        Some(ratio >= 0.2),
    );
    // Whoever may not stand still while the disk does hands the flush to another thread: what that alone costs here.
    table.state("- and that handed to a thread and back", format!("{handed:.0}/s: {:.2}x", stored / handed));
}

/// As the station runs.
async fn on_one_thread<F: Future<Output = f64> + Send + 'static>(round: fn() -> F) -> f64 {
    tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        // As a task: to wake the future that is blocked on costs a system call more.
        runtime.block_on(async { tokio::spawn(round()).await.unwrap() })
    })
    .await
    .unwrap()
}

/// Beside the build, which is on a disk: `/tmp` may be memory, where a flush costs nothing.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// What a peer's file is like when its writes begin.
#[derive(PartialEq, Eq)]
enum Room {
    Grows,
    Ready,
}

/// Beside the stores.
fn file(dir: &tempfile::TempDir, room: Room) -> std::fs::File {
    let file = std::fs::File::create(dir.path().join("bare")).unwrap();
    if room == Room::Ready {
        file.write_all_at(&vec![0; PAGE.len() * APPENDS as usize], 0).unwrap();
    }
    file.sync_all().unwrap();
    file
}

fn write(file: &std::fs::File, index: u64) {
    file.write_all_at(&PAGE, index * PAGE.len() as u64).unwrap();
    file.sync_data().unwrap();
}

fn bare(room: Room) -> f64 {
    let dir = folder();
    let file = file(&dir, room);
    let begin = Instant::now();
    for index in 0..APPENDS {
        write(&file, index);
    }
    APPENDS as f64 / begin.elapsed().as_secs_f64()
}

/// The same by the pool of the run time, each waited for.
async fn handed_over() -> f64 {
    let dir = folder();
    let file = Arc::new(file(&dir, Room::Ready));
    let begin = Instant::now();
    for index in 0..APPENDS {
        let file = Arc::clone(&file);
        tokio::task::spawn_blocking(move || write(&file, index)).await.unwrap();
    }
    APPENDS as f64 / begin.elapsed().as_secs_f64()
}

/// Through the store task, each waited for.
async fn through_the_store() -> f64 {
    let dir = folder();
    let config = config::Store { path: dir.path().join("readings.db"), ..Default::default() };
    let timekeeper = Timekeeper::new(Arc::new(SystemClock::new()), chrono::DateTime::UNIX_EPOCH);
    let (task, handle) = store::open(&config, &timekeeper, "bench".into()).unwrap();
    let (samples_tx, samples) = mpsc::channel(1);
    // The store keeps house once in five seconds, with a sample: the interval tells it that another one comes soon.
    let file = Settings::from_file(&Config::default());
    let settings = Settings { sample_interval: Duration::from_secs(1), keep_is_known: true, ..file };
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
