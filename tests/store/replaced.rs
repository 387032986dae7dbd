//! When a store is set aside for a new one, and when it is not.

use std::fs;
use std::time::Duration;

use weather_station::status::StoreState;

use crate::support::Place;

#[tokio::test(start_paused = true)]
async fn a_file_that_is_no_database_is_set_aside_under_its_date() {
    let place = Place::new();
    fs::write(place.path(), "not a database, and longer than the header of one".repeat(50)).unwrap();
    let mut store = place.start();
    store.append(3).await;
    let events = store.events().await;
    assert_eq!(events[0].kind, "storeReplaced");
    assert_eq!(events[0].fields["salvaged"], 0);
    let reason = events[0].fields["reason"].as_str().unwrap();
    assert!(reason.contains("file is not a database"), "{reason}");
    assert_eq!(crate::support::sequences(&store.page().await), [1, 2, 3]);
    store.stop().await;
    let names: Vec<String> = fs::read_dir(place.folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("set-aside"))
        .collect();
    assert_eq!(names, ["readings.db.set-aside-20260601T120000000Z"]);
}

/// The name of the folder is somebody else's.
#[tokio::test(start_paused = true)]
async fn a_store_in_a_folder_that_is_called_like_a_salvage_is_replaced_once() {
    let mut place = Place::new();
    let folder = place.folder.path().join("weather.salvage-test");
    fs::create_dir(&folder).unwrap();
    place.config.path = folder.join("readings.db");
    let mut store = place.start();
    store.append(3).await;
    store.stop().await;
    place.be_of_a_later_version();
    let store = place.start_as("second").unwrap();
    tokio::time::timeout(Duration::from_secs(3_600), store.events()).await.expect("the salvage does not end");
    tokio::time::sleep(Duration::from_secs(60)).await;
    let events = store.handle.pending_events(10).await.unwrap();
    assert_eq!(events.iter().map(|event| &*event.kind).collect::<Vec<_>>(), ["storeReplaced"]);
    assert_eq!(crate::support::sequences(&store.page().await), [1, 2, 3]);
    store.stop().await;
}

/// The file is checked in the background first: what is missing in a sound one is gone.
#[tokio::test(start_paused = true)]
async fn a_reading_that_is_gone_is_told_once_the_file_was_checked() {
    let place = Place::new();
    let mut store = place.start();
    store.append(20).await;
    store.stop().await;
    let connection = rusqlite::Connection::open(place.path()).unwrap();
    assert_eq!(connection.execute("DELETE FROM reading WHERE sequence BETWEEN 5 AND 7", []).unwrap(), 3);
    drop(connection);
    let mut store = place.start_as("second").unwrap();
    let page = store.page().await;
    assert_eq!(crate::support::sequences(&page), [1, 2, 3, 4]);
    assert_eq!(store.handle.pending_events(10).await.unwrap(), [], "told before the check");
    store.handle.changed().await.unwrap();
    let next = store.handle.pending(Some(page.end), 500).await.unwrap();
    assert_eq!(crate::support::sequences(&next), (8..=20).collect::<Vec<_>>());
    let events = store.handle.pending_events(10).await.unwrap();
    assert_eq!(
        (events.len(), &events[0].fields["first"], &events[0].fields["last"]),
        (1, &5.into(), &7.into())
    );
    store.append(1).await;
    store.stop().await;
}

/// What heals nothing within a day may well be needed again after one.
#[tokio::test(start_paused = true)]
async fn a_card_that_damages_the_store_again_and_again_is_written_to_no_more_that_day() {
    let place = Place::new();
    let store = place.start();
    let mut id = store.status(|status| !status.store_id.is_empty()).await.store_id;
    let spoil = || {
        let rubbish = place.beside(".rubbish");
        fs::write(&rubbish, "not a database ".repeat(500)).unwrap();
        fs::rename(rubbish, place.path()).unwrap();
        // The journal alone holds all of so small a store.
        fs::remove_file(place.beside("-wal")).unwrap();
    };
    for round in 0..7 {
        if round < 5 {
            place.clock.advance(Duration::from_secs(12 * 3_600));
        }
        spoil();
        if round < 6 {
            id =
                store.status(|status| status.store_id != id && status.state == StoreState::Ok).await.store_id;
        }
    }
    let status = store.status(|status| status.state == StoreState::Failing).await;
    let reason = status.reason.unwrap();
    assert!(reason.starts_with("it was replaced 3 times within a day and is damaged again: "), "{reason}");
    place.clock.advance(Duration::from_secs(86_400));
    store.status(|status| status.store_id != id && status.state == StoreState::Ok).await;
    store.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_database_of_another_program_is_set_aside_as_it_is() {
    let place = Place::new();
    let connection = rusqlite::Connection::open(place.path()).unwrap();
    connection.execute_batch("CREATE TABLE note (text TEXT); INSERT INTO note VALUES ('mine')").unwrap();
    drop(connection);
    let before = fs::read(place.path()).unwrap();
    let mut store = place.start();
    store.append(1).await;
    let events = store.events().await;
    assert_eq!(events[0].fields["reason"], "the store is damaged: this is a database of another program");
    store.stop().await;
    let aside = place.beside(".set-aside-20260601T120000000Z");
    assert_eq!(fs::read(aside).unwrap(), before, "somebody else's file was changed");
}

/// A gap has no checksum; a flipped bit in it must not make the numbers jump.
#[tokio::test(start_paused = true)]
async fn a_gap_that_ends_far_above_every_reading_is_damage() {
    let place = Place::new();
    let mut store = place.start();
    store.append(5).await;
    store.stop().await;
    let connection = rusqlite::Connection::open(place.path()).unwrap();
    connection.execute("INSERT INTO gap (first, last) VALUES (2, 1099511627776)", []).unwrap();
    drop(connection);
    let mut store = place.start_as("second").unwrap();
    let events = store.events().await;
    let reason = events[0].fields["reason"].as_str().unwrap();
    assert!(reason.contains("a gap ends at 1099511627776"), "{reason}");
    store.append(1).await;
    assert_eq!(crate::support::sequences(&store.page().await), [1, 2, 3, 4, 5, 1]);
    store.stop().await;
}

/// Nor must a flipped bit in the number of the newest reading.
#[tokio::test(start_paused = true)]
async fn a_newest_reading_whose_number_has_jumped_is_damage() {
    let place = Place::new();
    let mut store = place.start();
    store.append(5).await;
    store.stop().await;
    let connection = rusqlite::Connection::open(place.path()).unwrap();
    let jump = "UPDATE reading SET sequence = sequence + 1048576 WHERE sequence = 5";
    assert_eq!(connection.execute(jump, []).unwrap(), 1);
    drop(connection);
    let mut store = place.start_as("second").unwrap();
    store.append(1).await;
    // A check of the whole file finds nothing in it.
    tokio::time::sleep(Duration::from_secs(60)).await;
    let page = store.page().await;
    let gaps = store.handle.pending_events(10).await.unwrap();
    let told: Vec<_> = gaps.iter().filter(|event| event.kind == "gap").collect();
    assert_eq!(told.len(), 0, "readings that never were: {told:?}");
    assert_eq!(crate::support::sequences(&page), [1, 2, 3, 4, 1]);
    let reason = gaps[0].fields["reason"].as_str().unwrap();
    assert!(reason.contains("the newest reading is 1048581, far above"), "{reason}");
    store.stop().await;
}

/// The store was full, and the hub away: the gap that waits to be told is no damage besides.
#[tokio::test(start_paused = true)]
async fn a_gap_that_waits_to_be_told_is_not_told_as_damage_too() {
    let mut place = Place::new();
    place.config.max_size = 1 << 20;
    let mut store = place.start();
    while store.page().await.readings.first().is_none_or(|(_, first)| first.sequence == 1) {
        store.append(500).await;
    }
    let gaps = store.events().await;
    store.stop().await;
    place.be_of_a_later_version();
    place.config.max_size = 4 << 20;
    let store = place.start_as("second").unwrap();
    let events = store.events().await;
    assert_eq!(events.iter().map(|event| &*event.kind).collect::<Vec<_>>(), ["gap", "storeReplaced"]);
    assert_eq!(events[0], gaps[0]);
    store.stop().await;
}

/// What it finds comes before what happens meanwhile: an acknowledgement of that would forget the other.
#[tokio::test(start_paused = true)]
async fn events_and_kept_values_wait_for_the_end_of_the_salvage() {
    let place = Place::new();
    let mut store = place.start();
    store.append(3_000).await;
    store.handle.record_event("missedSamples", serde_json::Map::new()).await.unwrap();
    store.handle.set_value("twin", Some("kept".into())).await.unwrap();
    store.stop().await;
    place.be_of_a_later_version();
    let store = place.start_as("second").unwrap();
    // All three before the first step.
    let (told, events, value) = tokio::join!(
        store.handle.record_event("missedSamples", serde_json::Map::new()),
        store.handle.pending_events(10),
        store.handle.value("twin"),
    );
    told.unwrap();
    assert_eq!(events.unwrap(), [], "before the older ones");
    // Not found yet is not "nothing was kept".
    match value {
        Ok(value) => assert_eq!(value.as_deref(), Some("kept")),
        Err(error) => assert!(error.to_string().contains("still being salvaged"), "{error}"),
    }
    let events = store.events().await;
    let kinds: Vec<_> = events.iter().map(|event| &*event.kind).collect();
    assert_eq!(kinds, ["missedSamples", "missedSamples", "storeReplaced"]);
    assert_eq!(store.handle.value("twin").await.unwrap().as_deref(), Some("kept"));
    store.stop().await;
}

/// A bit of the card, in a row that has a checksum: that row is lost, and nothing else.
#[tokio::test(start_paused = true)]
async fn a_text_that_is_none_any_more_costs_its_row_and_not_the_store() {
    let place = Place::new();
    let mut store = place.start();
    store.append(3).await;
    store.handle.set_value("twin", Some("kept".into())).await.unwrap();
    for _ in 0..2 {
        store.handle.record_event("missedSamples", serde_json::Map::new()).await.unwrap();
    }
    let before = store.status(|status| status.last_sequence == 3).await.store_id;
    store.stop().await;
    let connection = rusqlite::Connection::open(place.path()).unwrap();
    connection
        .execute_batch(
            "UPDATE event SET fields = CAST(x'fb' AS TEXT) WHERE event_sequence = 1;
             UPDATE value SET value = CAST(x'fb' AS TEXT);",
        )
        .unwrap();
    drop(connection);
    let store = place.start_as("second").unwrap();
    let events = store.handle.pending_events(10).await.unwrap();
    assert_eq!(events.iter().map(|event| event.event_sequence).collect::<Vec<_>>(), [2]);
    assert_eq!(store.handle.value("twin").await.unwrap(), None);
    assert_eq!(store.page().await.readings.len(), 3);
    assert_eq!(store.board.store.borrow().store_id, before);
    store.stop().await;
}
