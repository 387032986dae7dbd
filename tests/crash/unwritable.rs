//! A card that takes the journal and everything else, and one file no more: the database. SQLite keeps that to itself.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use tokio::time::Instant;
use weather_station::store::export::{Format, Selection, export};

use crate::running::{Running, Scene, command};
use crate::support::station::{get, request, wait_for};

/// A quarter of the `max_size` below.
const JOURNAL: u64 = 256 << 10;
/// The store looks at its journal every five seconds: faster readings would bring more than `JOURNAL` within that.
const PACE: Duration = Duration::from_millis(30);
/// Longer than a store is replaced on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_cannot_be_written_is_set_aside_before_its_journal_has_grown() {
    let Scene { dir, folder, hub: _hub, page, config, library } = Scene::new();
    let settings = fs::read_to_string(&config).unwrap();
    fs::write(&config, settings.replace("[store]", "[store]\nmax_size = \"1MiB\"")).unwrap();
    let database = folder.join("readings.db");
    let journal = folder.join("readings.db-wal");
    let set_aside = || {
        let names =
            fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.contains("set-aside") && !name.ends_with("-wal")).count()
    };
    let mut longest = 0;
    let mut taken = 0;
    for life in 0..2 {
        let mut command = command(dir.path(), &config, &library, &folder);
        if life == 1 {
            command.env("UNWRITABLE", &database);
        }
        let station = Running(command.spawn().unwrap());
        wait_for("the station's page", Duration::from_secs(30), || get(page, "/api/status")).await;
        let mut answered = Instant::now();
        while taken < 5 || life == 1 && set_aside() == 0 {
            // None is answered while the store is replaced.
            if request(page, "POST", "/api/read").await.is_some() {
                taken += 1;
                answered = Instant::now();
                if longest > JOURNAL {
                    tokio::time::sleep(PACE).await;
                }
            }
            longest = longest.max(fs::metadata(&journal).map_or(0, |file| file.len()));
            let log = || fs::read_to_string(dir.path().join("log")).unwrap();
            assert!(taken < 4_000, "it is written to for ever: {}", log());
            assert!(answered.elapsed() < PATIENCE, "the page does not answer any more: {}", log());
        }
        let works = || async {
            let status: serde_json::Value = serde_json::from_str(&get(page, "/api/status").await?).ok()?;
            (status["store"]["state"] == "ok" && status["store"]["inMemory"] == 0).then_some(())
        };
        wait_for("the store to work", Duration::from_secs(60), works).await;
        station.end_in_order();
    }
    let log = fs::read_to_string(dir.path().join("log")).unwrap();
    assert!(longest < 3 * JOURNAL, "the journal has grown to {longest} bytes: {log}");
    assert_eq!(set_aside(), 1, "{log}");
    let selection =
        Selection { since: None, until: None, format: Format::Json, device_id: "", altitude: None };
    let mut out = Vec::new();
    export(&database, selection, &mut out).unwrap();
    let mut stores: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for line in String::from_utf8(out).unwrap().lines() {
        let body: serde_json::Value = serde_json::from_str(line).unwrap();
        let store = body["storeId"].as_str().unwrap().to_owned();
        stores.entry(store).or_default().push(body["sequence"].as_u64().unwrap());
    }
    let stored: usize = stores.values().map(Vec::len).sum();
    assert!(stored >= taken, "{stored} of {taken} are stored: {log}");
    for sequences in stores.values() {
        assert_eq!(*sequences, (1..=sequences.len() as u64).collect::<Vec<_>>(), "{log}");
    }
}
