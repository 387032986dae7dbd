//! Export beside the running station.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use weather_station::status::StoreState;
use weather_station::store::export::{Exported, Format, Selection, export};

use crate::support::{Place, date};

const ALL: Selection<'static> =
    Selection { since: None, until: None, format: Format::Json, device_id: "roof", altitude: None };

fn sequence(line: &str) -> u64 {
    serde_json::from_str::<serde_json::Value>(line).unwrap()["sequence"].as_u64().unwrap()
}

#[tokio::test]
async fn the_export_is_what_was_stored_while_the_station_runs() {
    let place = Place::new();
    let mut store = place.start();
    store.append(1_234).await;
    let mut out = Vec::new();
    let exported = export(place.path(), ALL, &mut out).unwrap();
    assert_eq!(exported, Exported { readings: 1_234, damaged: 0 });
    let text = String::from_utf8(out).unwrap();
    let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(
        (
            &first["deviceId"],
            &first["sequence"],
            &first["time"],
            &first["currentTemperature"],
            &first["currentPressure"]
        ),
        (&"roof".into(), &1.into(), &"2026-06-01T12:00:00.000Z".into(), &10.01.into(), &100.01.into())
    );
    let sequences: Vec<u64> = text.lines().map(sequence).collect();
    assert_eq!(sequences, (1..=1_234).collect::<Vec<_>>());
    store.stop().await;
    // And after it has stopped.
    assert_eq!(export(place.path(), ALL, std::io::sink()).unwrap().readings, 1_234);
}

#[tokio::test]
async fn a_table_has_a_header_and_only_the_times_that_were_asked_for() {
    let place = Place::new();
    let mut store = place.start();
    for _ in 0..5 {
        store.append(1).await;
        place.clock.advance(std::time::Duration::from_secs(60));
    }
    store.stop().await;
    let selection = Selection {
        since: Some(date("2026-06-01T12:01:00Z")),
        until: Some(date("2026-06-01T12:03:00Z")),
        format: Format::Csv,
        altitude: Some(120.0),
        ..ALL
    };
    let mut out = Vec::new();
    export(place.path(), Selection { device_id: "roof,1", ..selection }, &mut out).unwrap();
    assert!(String::from_utf8(out).unwrap().lines().nth(1).unwrap().starts_with("\"roof,1\",2026-"));
    let mut out = Vec::new();
    export(place.path(), selection, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3);
    assert!(
        lines[0]
            .starts_with("deviceId,time,currentTemperature,currentHumidity,currentPressure,seaLevelPressure")
    );
    assert!(lines[1].starts_with("roof,2026-06-01T12:01:00.000Z,10.02,40.04,100.02,101."), "{}", lines[1]);
    assert!(lines[1].ends_with(",2"), "{}", lines[1]);
}

#[test]
fn an_export_of_nothing_says_what_it_could_not_open() {
    let place = Place::new();
    let error = export(place.path(), ALL, std::io::sink()).unwrap_err();
    assert_eq!(error.to_string(), format!("could not read {}", place.path().display()));
}

/// What is read of a database while it is written is of two times at once: a page of the one and a page of the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_a_station_that_writes_in_bursts_every_reading_is_exported_once() {
    let mut place = Place::new();
    // The oldest go and the journal starts over again and again, which changes the tables from end to end.
    place.config.max_size = 1 << 20;
    let mut store = place.start();
    store.append(3_000).await;
    let path = place.path().to_owned();
    let exports = tokio::task::spawn_blocking(move || {
        let export = || {
            let mut out = Vec::new();
            (export(&path, ALL, &mut out).unwrap(), out)
        };
        (0..5).map(|_| export()).collect::<Vec<_>>()
    });
    while !exports.is_finished() {
        for _ in 0..20 {
            store.append(10).await;
        }
        // Where the disk is memory a page takes longer to read than lies between two writes.
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    let exports = exports.await.unwrap();
    for (exported, out) in exports {
        let sequences: Vec<u64> = String::from_utf8(out).unwrap().lines().map(sequence).collect();
        assert_eq!((exported.readings, exported.damaged), (sequences.len() as u64, 0));
        // Only what is let go meanwhile is missing, between two pages.
        let steps = sequences.windows(2).filter(|pair| pair[1] != pair[0] + 1).count();
        assert!(steps <= sequences.len() / 500 && sequences.is_sorted(), "{steps} of {}", sequences.len());
    }
    store.stop().await;
}

/// What its index would cost the card is in the README, "The station has the database to itself".
#[tokio::test]
async fn nobody_else_opens_the_database_of_a_running_station_and_no_index_is_written_to_the_card() {
    let place = Place::new();
    let mut store = place.start();
    store.append(3).await;
    assert!(asked(&place).contains("database is locked"), "{}", asked(&place));
    assert!(!place.beside("-shm").exists());
    store.stop().await;
    assert_eq!(asked(&place), "3");
}

/// The station waits for it, with its readings in memory.
#[tokio::test]
async fn a_program_that_has_the_database_open_holds_the_readings_up_and_is_named() {
    let place = Place::new();
    let mut store = place.start();
    store.append(3).await;
    store.stop().await;
    let mut other = Command::new("python3")
        .args(["-c", "import sqlite3,sys; c=sqlite3.connect(sys.argv[1]); c.execute('SELECT * FROM reading'); print('open',flush=True); sys.stdin.read()"])
        .arg(place.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut open = String::new();
    BufReader::new(other.stdout.as_mut().unwrap()).read_line(&mut open).unwrap();
    let mut store = place.start_as("second").unwrap();
    store.send(2).await;
    let status = store.status(|status| status.in_memory == 2).await;
    let expected = format!("another program has {} open: it has to be closed", place.path().display());
    assert_eq!(status.reason, Some(expected));
    drop(other.stdin.take());
    assert!(other.wait().unwrap().success());
    let status = store.status(|status| status.in_memory == 0).await;
    assert_eq!((status.state, status.last_sequence), (StoreState::Ok, 5));
    store.stop().await;
}

/// The number of readings, or why not, as somebody else's SQLite has it.
fn asked(place: &Place) -> String {
    let program = "import sqlite3,sys\ntry: print(sqlite3.connect(sys.argv[1],0).execute('SELECT count(*) FROM reading').fetchone()[0])\nexcept Exception as e: print(e)";
    let output = Command::new("python3").args(["-c", program]).arg(place.path()).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
