//! The queue: append, hand out, acknowledge, over restarts.

use crate::support::{Place, sequences};
use weather_station::store::{Position, StoreError};

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
