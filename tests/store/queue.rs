//! The queue: append, hand out, acknowledge, over restarts.

use std::time::Duration;

use chrono::TimeDelta;
use weather_station::store::{Position, StoreError};

use crate::support::{Place, sequences};

#[tokio::test]
async fn readings_come_out_in_order_until_they_are_acknowledged() {
    let place = Place::new();
    let mut store = place.start();
    store.append(5).await;
    let page = store.handle.pending(None, 3).await.unwrap();
    assert_eq!(sequences(&page), [1, 2, 3]);
    let next = store.handle.pending(Some(page.end), 3).await.unwrap();
    assert_eq!(sequences(&next), [4, 5]);
    store.handle.acknowledge(page.end).await.unwrap();
    assert_eq!(sequences(&store.page().await), [4, 5]);
    store.handle.acknowledge(Position { generation: 1, row: 1 }).await.unwrap();
    assert_eq!(sequences(&store.page().await), [4, 5], "the watermark never moves back");
    store.stop().await;
}

/// The card is spared: what is lost of the watermark costs duplicates only.
#[tokio::test(start_paused = true)]
async fn the_watermark_is_written_now_and_then() {
    let place = Place::new();
    let mut store = place.start();
    let journal = || std::fs::read(place.beside("-wal")).unwrap();
    for row in 1..100 {
        store.append(1).await;
        let before = journal();
        store.handle.acknowledge(Position { generation: 1, row }).await.unwrap();
        assert!(store.page().await.readings.is_empty());
        assert!(journal() == before, "accepting {row} was written at once");
    }
    assert_eq!(store.status(|status| status.pending == 0).await.oldest_pending_time, None);
    store.append(1).await;
    let before = journal();
    store.handle.acknowledge(Position { generation: 1, row: 100 }).await.unwrap();
    assert!(journal() != before, "a hundred readings would be sent again");
    store.append(1).await;
    store.handle.acknowledge(Position { generation: 1, row: 101 }).await.unwrap();
    let before = journal();
    place.clock.advance(Duration::from_secs(299));
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(journal() == before, "five minutes have not passed");
    place.clock.advance(Duration::from_secs(1));
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(journal() != before, "five minutes have passed");
    store.stop().await;
}

#[tokio::test]
async fn a_kill_costs_duplicates_only() {
    let place = Place::new();
    let mut store = place.start();
    store.append(60).await;
    store.handle.acknowledge(Position { generation: 1, row: 50 }).await.unwrap();
    store.handle.value("nothing").await.unwrap();
    let killed = place.copy();
    let again = killed.start();
    assert_eq!(
        sequences(&again.page().await),
        (1..=60).collect::<Vec<_>>(),
        "all of them, under the same numbers"
    );
    again.stop().await;
    // An event that was accepted is written down at once, and the watermark with it.
    store.handle.record_event("missedSamples", serde_json::Map::new()).await.unwrap();
    store.handle.acknowledge_events(1).await.unwrap();
    store.handle.value("nothing").await.unwrap();
    let killed = place.copy();
    let again = killed.start();
    assert_eq!(sequences(&again.page().await), (51..=60).collect::<Vec<_>>());
    again.stop().await;
    store.stop().await;
}

/// Which readings go together in a message, for one: it is noted for what is not accepted yet.
#[tokio::test]
async fn with_what_is_kept_the_watermark_that_it_fits_is_written_down() {
    let place = Place::new();
    let mut store = place.start();
    store.append(60).await;
    store.handle.acknowledge(Position { generation: 1, row: 50 }).await.unwrap();
    store.handle.set_value("note", Some("51 to 53".into())).await.unwrap();
    let killed = place.copy();
    let again = killed.start();
    assert_eq!(again.handle.value("note").await.unwrap().as_deref(), Some("51 to 53"));
    assert_eq!(sequences(&again.page().await), (51..=60).collect::<Vec<_>>());
    again.stop().await;
    store.stop().await;
}

/// Readings that are gone must be known as accepted on disk too.
#[tokio::test(start_paused = true)]
async fn what_was_let_go_is_no_gap_after_a_kill() {
    let mut place = Place::new();
    place.config.keep = Duration::from_secs(86_400);
    let mut store = place.start();
    store.append(60).await;
    store.handle.acknowledge(Position { generation: 1, row: 60 }).await.unwrap();
    // A clock that was set: no time has passed in which the watermark would have been written anyway.
    place.clock.set(|hands| hands.wall += TimeDelta::days(2));
    store.append(1).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(store.handle.newest(100).await.unwrap().len(), 1, "two days are too old");
    let killed = place.copy();
    let again = killed.start();
    assert_eq!(sequences(&again.page().await), [61]);
    assert!(again.handle.pending_events(10).await.unwrap().is_empty(), "a gap that is none");
    again.stop().await;
    store.stop().await;
}

#[tokio::test]
async fn a_restart_keeps_readings_watermark_and_store_id() {
    let place = Place::new();
    let mut store = place.start();
    store.append(4).await;
    let id = store.status(|status| status.last_sequence == 4).await.store_id;
    store.handle.acknowledge(Position { generation: 1, row: 4 }).await.unwrap();
    store.stop().await;
    let mut store = place.start_as("second").unwrap();
    assert!(store.page().await.readings.is_empty());
    store.append(1).await;
    let page = store.page().await;
    assert_eq!(sequences(&page), [5]);
    let reading = &page.readings[0].1;
    assert_eq!((&*reading.run, &*reading.store_id), ("second", id.as_str()));
    store.stop().await;
}

#[tokio::test]
async fn the_folder_may_be_a_link() {
    let mut place = Place::new();
    std::fs::create_dir(place.folder.path().join("disk")).unwrap();
    std::os::unix::fs::symlink("disk", place.folder.path().join("link")).unwrap();
    place.config.path = place.folder.path().join("link/readings.db");
    let mut store = place.start();
    store.append(1).await;
    store.stop().await;
    assert!(place.folder.path().join("disk/readings.db").exists());
}

#[tokio::test]
async fn a_second_station_is_refused() {
    let place = Place::new();
    let store = place.start();
    let error = place.start_as("second").err().unwrap();
    assert!(matches!(error, StoreError::Locked { .. }));
    assert_eq!(
        error.to_string(),
        format!(
            "another weather-station is running on {}: stop it first, or set another [store] path",
            place.path().display()
        )
    );
    store.stop().await;
    place.start_as("third").unwrap().stop().await;
}

#[tokio::test]
async fn events_wait_with_numbers_of_their_own() {
    let place = Place::new();
    let store = place.start();
    let fields = serde_json::json!({"count": 3}).as_object().cloned().unwrap();
    store.handle.record_event("missedSamples", fields.clone()).await.unwrap();
    store.handle.record_event("missedSamples", fields.clone()).await.unwrap();
    let events = store.handle.pending_events(10).await.unwrap();
    assert_eq!(events.iter().map(|event| event.event_sequence).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(events[0].fields, fields);
    store.handle.acknowledge_events(2).await.unwrap();
    store.handle.record_event("missedSamples", fields).await.unwrap();
    let events = store.handle.pending_events(10).await.unwrap();
    assert_eq!(events.iter().map(|event| event.event_sequence).collect::<Vec<_>>(), [3]);
    store.stop().await;
}

#[tokio::test]
async fn a_kept_value_outlives_a_restart() {
    let place = Place::new();
    let store = place.start();
    assert_eq!(store.handle.value("twin").await.unwrap(), None);
    store.handle.set_value("twin", Some("{}".into())).await.unwrap();
    store.stop().await;
    let store = place.start();
    assert_eq!(store.handle.value("twin").await.unwrap().as_deref(), Some("{}"));
    store.handle.set_value("twin", None).await.unwrap();
    assert_eq!(store.handle.value("twin").await.unwrap(), None);
    store.stop().await;
}

#[tokio::test]
async fn what_the_hub_refuses_is_set_aside_and_named() {
    let place = Place::new();
    let mut store = place.start();
    store.append(5).await;
    let positions = vec![Position { generation: 1, row: 2 }, Position { generation: 1, row: 3 }];
    store.handle.dead_letter(positions, "amqp:not-allowed".into()).await.unwrap();
    assert_eq!(sequences(&store.page().await), [1, 4, 5]);
    let events = store.handle.pending_events(10).await.unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!(
        serde_json::Value::Object(events[0].fields.clone()),
        serde_json::json!({"first": 2, "last": 3, "condition": "amqp:not-allowed"})
    );
    store.stop().await;
    let store = place.start();
    assert_eq!(sequences(&store.page().await), [1, 4, 5]);
    store.stop().await;
}

/// What names it has no checksum: a flipped bit in it must not name one that is still to come.
#[tokio::test]
async fn a_refused_reading_whose_number_has_jumped_keeps_no_later_one_back() {
    let place = Place::new();
    let mut store = place.start();
    store.append(5).await;
    store
        .handle
        .dead_letter(vec![Position { generation: 1, row: 2 }], "amqp:not-allowed".into())
        .await
        .unwrap();
    store.handle.acknowledge(Position { generation: 1, row: 5 }).await.unwrap();
    store.stop().await;
    let connection = rusqlite::Connection::open(place.path()).unwrap();
    assert_eq!(connection.execute("UPDATE dead_letter SET row = row + 4", []).unwrap(), 1);
    drop(connection);
    let mut store = place.start();
    store.append(3).await;
    assert_eq!(sequences(&store.page().await), [6, 7, 8]);
    assert_eq!(store.status(|status| status.last_sequence == 8).await.pending, 3);
    store.stop().await;
}
