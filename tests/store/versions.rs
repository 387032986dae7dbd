//! Stores of each released version open for ever: one file per version, with what it holds. The files are frozen: if a
//! test here fails, change the code, not the file.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use weather_station::observation::Observation;

use crate::support::Place;

fn data(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/data", name].iter().collect()
}

/// Everything that a store holds, as the hub and the page would see it, and the checksums as they lie on the card.
async fn contents(place: &Place) -> Value {
    let mut place_rows = Vec::new();
    for (table, column) in [
        ("reading", "sequence"),
        ("event", "event_sequence"),
        ("rollup", "id"),
        ("value", "id"),
        ("state", "id"),
    ] {
        let connection = rusqlite::Connection::open(place.path()).unwrap();
        let mut statement =
            connection.prepare(&format!("SELECT {column}, checksum FROM {table} ORDER BY 1")).unwrap();
        let rows = statement
            .query_map([], |row| Ok(json!([table, row.get::<_, i64>(0)?, row.get::<_, i64>(1)?])))
            .unwrap();
        place_rows.extend(rows.map(Result::unwrap));
    }
    let store = place.start_as("reader").unwrap();
    let page = store.page().await;
    let readings: Vec<Value> = page
        .readings
        .iter()
        .map(|(_, reading)| {
            let mut body = serde_json::to_value(Observation::of(reading, "roof", Some(120.0))).unwrap();
            body["run"] = (&*reading.run).into();
            body
        })
        .collect();
    let events: Vec<Value> = store
        .handle
        .pending_events(100)
        .await
        .unwrap()
        .into_iter()
        .map(|event| {
            json!({"eventSequence": event.event_sequence, "run": &*event.run, "storeId": &*event.store_id,
            "time": event.time, "event": event.kind, "fields": event.fields})
        })
        .collect();
    let twin = store.handle.value("twin").await.unwrap();
    store.stop().await;
    json!({"readings": readings, "events": events, "twin": twin, "checksums": place_rows})
}

#[tokio::test(start_paused = true)]
async fn a_store_of_version_1_opens_with_all_that_is_in_it() {
    let place = Place::new();
    fs::copy(data("store-v1.db"), place.path()).unwrap();
    let expected: Value = serde_json::from_str(&fs::read_to_string(data("store-v1.json")).unwrap()).unwrap();
    assert_eq!(contents(&place).await, expected);
}

#[tokio::test(start_paused = true)]
async fn a_store_of_a_later_version_is_kept_and_salvaged_not_overwritten() {
    let place = Place::new();
    fs::copy(data("store-v1.db"), place.path()).unwrap();
    place.be_of_a_later_version();
    let store = place.start_as("older").unwrap();
    // They wait for the end of the salvage: what it finds has lower numbers than what happens meanwhile.
    let events = store.events().await;
    // The file brings one of its own along.
    assert_eq!(events.iter().filter(|event| event.kind == "storeReplaced").count(), 2);
    let reason = events.last().unwrap().fields["reason"].as_str().unwrap();
    assert!(reason.contains("has schema version 99; this program knows up to 1"), "{reason}");
    // The one that the hub had refused is offered once more: why it was set aside is not salvaged.
    assert_eq!(store.page().await.readings.len(), 9);
    store.stop().await;
}

/// Made once, when the version was released.
#[tokio::test(start_paused = true)]
#[ignore = "makes the files that the tests above read"]
async fn make_the_files_of_version_1() {
    let place = Place::new();
    let mut store = place.start_as("golden").unwrap();
    for _ in 0..10 {
        store.append(1).await;
        place.clock.advance(std::time::Duration::from_secs(90));
    }
    place.clock.lose_synchronisation();
    store.append(1).await;
    let page = store.page().await;
    store.handle.acknowledge(page.readings[1].0).await.unwrap();
    store.handle.dead_letter(vec![page.readings[4].0], "amqp:not-allowed".into()).await.unwrap();
    let fields = |value: Value| value.as_object().cloned().unwrap();
    let times = json!({"from": "2026-06-01T12:00:00.000Z", "until": "2026-06-01T12:05:00.000Z"});
    for (kind, mut more) in [
        ("missedSamples", json!({"count": 5, "reason": "no answer at 0x76 on /dev/i2c-1 (ENXIO)"})),
        (
            "gap",
            json!({"first": 1, "last": 9, "count": 9, "reason": "the store was full: max_size, or the disk"}),
        ),
        (
            "storeReplaced",
            json!({"previousStoreId": "0b0e", "salvaged": 7, "reason": "file is not a database"}),
        ),
    ] {
        if kind != "storeReplaced" {
            more["from"] = times["from"].clone();
            more["until"] = times["until"].clone();
        }
        store.handle.record_event(kind, fields(more)).await.unwrap();
    }
    store.handle.set_value("twin", Some("{\"sampleInterval\":30}".into())).await.unwrap();
    store.stop().await;
    fs::copy(place.path(), data("store-v1.db")).unwrap();
    let contents = serde_json::to_string_pretty(&contents(&place).await).unwrap();
    fs::write(data("store-v1.json"), contents + "\n").unwrap();
}
