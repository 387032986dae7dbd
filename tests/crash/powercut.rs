//! The power is cut, which a kill is not: what was written and not synced may be there, or not, or in part. The real
//! binary is recorded; after every step of the record the disk is put together as a cut would leave it, and a station is
//! started on it: whatever the recorded one had said was on disk is there, with its number and its values.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use hub_emulator::{Emulator, Options};
use weather_station::store::export::{Format, Selection, export};

use crate::record::{self, Cut, Disk, Done};
use crate::running::{Running, Scene, command, spawn};
use crate::store::Place;
use crate::support::station::{free_port, get, request, wait_for};

/// Readings in each of the two recorded lives.
const READINGS: usize = 110;

/// At this length of the record the station had said that so many are on disk.
type Promises = Vec<(usize, u64)>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_was_synced_survives_a_power_cut_at_any_moment() {
    let steps = power_cuts("", 70).await;
    let count = |how: fn(&Done) -> Option<&String>| {
        let files = steps.iter().filter_map(|(_, done)| how(done));
        files.filter(|path| path.ends_with("-wal")).count()
    };
    let whole = count(|done| if let Done::Synced(path) = done { Some(path) } else { None });
    let data = count(|done| if let Done::DataSynced(path) = done { Some(path) } else { None });
    // Readings that came together are synced together.
    assert!(whole == 0 && data >= READINGS, "the journal: {whole} times fsync, {data} times fdatasync");
}

/// Readings that wait to be synced together are promised when they were.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_was_synced_together_survives_a_power_cut_at_any_moment() {
    power_cuts("max_loss = \"50ms\"", 15).await;
}

/// At so many moments, or all. Returns the record.
async fn power_cuts(settings: &str, moments: usize) -> Vec<(usize, Done)> {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("store");
    fs::create_dir(&folder).unwrap();
    let hub = Emulator::start(Options::default()).unwrap();
    hub.add_device("roof");
    let (record, promises) = recorded(dir.path(), &folder, &hub, settings).await;
    let truth = readings(&folder.join("readings.db"));
    // What was not synced at the kill is gone: the last one, or as many as may wait.
    let least = if settings.is_empty() { 2 * READINGS - 1 } else { READINGS };
    assert!(truth.len() >= least, "{} readings", truth.len());

    let steps = record::read(&record);
    let stride = if crate::store::slow() { 1 } else { steps.len() / moments + 1 };
    let mut random = fastrand::Rng::with_seed(5);
    let mut disk = Disk::default();
    let (mut checks, mut dropped_something) = (0, false);
    for (index, (end, done)) in steps.iter().enumerate() {
        disk.apply(done, folder.to_str().unwrap());
        if index % stride != 0 {
            continue;
        }
        let promised =
            promises.iter().filter(|(length, _)| length <= end).map(|promise| promise.1).max().unwrap_or(0);
        for cut in [Cut::Dropped, Cut::Kept, Cut::Torn] {
            let what = format!("{cut:?} after step {index} of {} ({done:.40?})", steps.len());
            let files = disk.cut(cut, &mut random);
            let found = after_the_cut(&folder, &files, promised, &what).await;
            for sequence in 1..=promised {
                assert_eq!(
                    found.get(&sequence),
                    truth.get(&sequence),
                    "{what}: {sequence} of {promised} promised"
                );
            }
            for (sequence, reading) in &found {
                assert_eq!(Some(reading), truth.get(sequence), "{what}: {sequence} is not what was taken");
            }
            dropped_something |= cut == Cut::Dropped && (found.len() as u64) < promised + 1 && promised > 0;
            checks += 1;
        }
    }
    assert!(checks > moments, "only {checks} cuts");
    assert!(dropped_something, "no cut lost anything: the disk does not forget, the test tests nothing");
    steps
}

/// Two lives: one that is killed, one that ends in order.
async fn recorded(dir: &Path, folder: &Path, hub: &Emulator, settings: &str) -> (Vec<u8>, Promises) {
    let library = record::recorder(dir);
    let record = dir.join("record");
    let page = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
    let config = dir.join("station.toml");
    fs::write(&config, format!("{}\n{settings}\n[showcase]\nlisten = \"{page}\"\n", crate::config(dir, hub)))
        .unwrap();
    let mut promises = Vec::new();
    for life in 0..2 {
        let station = spawn(dir, &config, &library, folder, None);
        wait_for("the station's page", Duration::from_secs(30), || get(page, "/api/status")).await;
        for _ in 0..READINGS {
            request(page, "POST", "/api/read").await.unwrap();
            let status: serde_json::Value =
                serde_json::from_str(&get(page, "/api/status").await.unwrap()).unwrap();
            let synced = status["store"]["lastSequence"].as_u64().unwrap();
            promises.push((usize::try_from(fs::metadata(&record).unwrap().len()).unwrap(), synced));
        }
        if life == 0 {
            station.kill();
        } else {
            station.end_in_order();
        }
    }
    (fs::read(&record).unwrap(), promises)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_that_fails_costs_no_reading() {
    nothing_lost_and_nothing_twice("20").await;
}

/// The journal that could not be synced cannot be copied into the database either: it is there when the store is opened
/// again, and shows the commit that failed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn syncs_that_go_on_failing_cost_no_reading_and_store_none_twice() {
    nothing_lost_and_nothing_twice("20-25").await;
}

async fn nothing_lost_and_nothing_twice(fail_sync: &str) {
    let Scene { dir, folder, hub: _hub, page, config, library } = Scene::new();
    let station = spawn(dir.path(), &config, &library, &folder, Some(fail_sync));
    wait_for("the station's page", Duration::from_secs(30), || get(page, "/api/status")).await;
    for _ in 0..40 {
        request(page, "POST", "/api/read").await.unwrap();
    }
    let all = || async {
        let status: serde_json::Value = serde_json::from_str(&get(page, "/api/status").await?).ok()?;
        (status["store"]["lastSequence"].as_u64() >= Some(40) && status["store"]["state"] == "ok")
            .then_some(())
    };
    wait_for("the store to work again", Duration::from_secs(30), all).await;
    station.end_in_order();
    let log = fs::read_to_string(dir.path().join("log")).unwrap();
    let found = readings(&folder.join("readings.db"));
    assert_eq!(
        found.keys().copied().collect::<Vec<_>>(),
        (1..=found.len() as u64).collect::<Vec<_>>(),
        "{log}"
    );
    let times: std::collections::BTreeSet<&str> =
        found.values().map(|body| body.split("\"time\":").nth(1).unwrap()).collect();
    assert_eq!(times.len(), found.len(), "a reading was stored twice");
    assert_eq!(
        fs::read_dir(&folder).unwrap().filter(|entry| is_set_aside(entry.as_ref().unwrap())).count(),
        0
    );
}

/// The first sector of the database is gone: the card answers with an error, again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_whose_beginning_cannot_be_read_is_set_aside_and_salvaged() {
    let Scene { dir, folder, hub: _hub, page, config, library } = Scene::new();
    let status =
        || async { serde_json::from_str::<serde_json::Value>(&get(page, "/api/status").await?).ok() };
    let mut stores = Vec::new();
    for life in 0..2 {
        let mut command = command(dir.path(), &config, &library, &folder);
        if life == 1 {
            command.env("UNREADABLE", folder.join("readings.db"));
        }
        let station = Running(command.spawn().unwrap());
        wait_for("the station's page", Duration::from_secs(30), || get(page, "/api/status")).await;
        for _ in 0..5 {
            request(page, "POST", "/api/read").await.unwrap();
        }
        let works = || async {
            let status = status().await?;
            (status["store"]["state"] == "ok" && status["store"]["lastSequence"].as_u64() >= Some(5))
                .then(|| status["station"]["storeId"].as_str().unwrap().to_owned())
        };
        stores.push(wait_for("the store to work", Duration::from_secs(30), works).await);
        let salvaged = || async {
            let entries = fs::read_dir(&folder).unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            (names.filter(|name| name.contains("set-aside")).count() == life).then_some(())
        };
        wait_for("the salvage", Duration::from_secs(30), salvaged).await;
        station.end_in_order();
    }
    let log = fs::read_to_string(dir.path().join("log")).unwrap();
    assert_ne!(stores[0], stores[1], "{log}");
    let selection =
        Selection { since: None, until: None, format: Format::Json, device_id: "", altitude: None };
    let mut out = Vec::new();
    export(&folder.join("readings.db"), selection, &mut out).unwrap();
    let kept = String::from_utf8(out).unwrap().lines().filter(|line| line.contains(&stores[0])).count();
    assert!(kept >= 5, "only {kept} were salvaged: {log}");
    let named = log.split("kept=").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap();
    assert!(Path::new(named).exists(), "{named} is not there: {log}");
}

fn is_set_aside(entry: &fs::DirEntry) -> bool {
    let name = entry.file_name();
    name.to_string_lossy().contains("set-aside") || name.to_string_lossy().contains("salvage")
}

/// A station on what the cut has left: everything that it has.
async fn after_the_cut(
    folder: &Path,
    files: &BTreeMap<String, Vec<u8>>,
    promised: u64,
    what: &str,
) -> BTreeMap<u64, String> {
    let place = Place::new();
    for (name, contents) in files {
        let name = Path::new(name).strip_prefix(folder).unwrap();
        // The ballast holds nothing and the lock is not needed; the index of the journal is rebuilt.
        if name.to_str().is_some_and(|name| name == "readings.db" || name.ends_with("-wal")) {
            fs::write(place.folder.path().join(name), contents).unwrap();
        }
    }
    let mut store = place.start_as("after").unwrap();
    let status = store.status(|status| !status.store_id.is_empty()).await;
    let before = readings(place.path());
    let events = store.handle.pending_events(10).await.unwrap();
    // A file that was cut off while it was made may be set aside: nothing was in it.
    assert!(events.is_empty() || promised == 0, "{what}: {events:?}");
    // Of readings that were not synced any may be there: no number of theirs is used again.
    assert!(before.keys().next_back().is_none_or(|last| *last <= status.last_sequence), "{what}");
    store.append(1).await;
    store.stop().await;
    before
}

/// Time and values by sequence.
fn readings(database: &Path) -> BTreeMap<u64, String> {
    let selection =
        Selection { since: None, until: None, format: Format::Json, device_id: "", altitude: None };
    let mut out = Vec::new();
    let exported = export(database, selection, &mut out).unwrap();
    assert_eq!(exported.damaged, 0);
    String::from_utf8(out)
        .unwrap()
        .lines()
        .map(|line| {
            let mut body: serde_json::Value = serde_json::from_str(line).unwrap();
            // Before the first sync the store has no name that lasts.
            body.as_object_mut().unwrap().remove("storeId");
            (body["sequence"].as_u64().unwrap(), body.to_string())
        })
        .collect()
}
