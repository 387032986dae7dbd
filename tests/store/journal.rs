//! Damage to the journal that takes more than readings along: the database cannot be opened beside it, or its tables were
//! nowhere else yet.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::support::{Place, Running};

fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 1;
    fs::write(file, bytes).unwrap();
}

/// The names of all readings that are to be sent, once they are ready, and whether the store was replaced.
async fn ready(store: &Running, count: usize) -> (Vec<(String, u64)>, bool) {
    for _ in 0..100 {
        if let Ok(page) = store.handle.pending(None, 5_000).await
            && page.readings.len() >= count
        {
            let events = store.handle.pending_events(100).await.unwrap();
            let replaced = events.iter().any(|event| event.kind == "storeReplaced");
            let names =
                page.readings.iter().map(|(_, reading)| (reading.store_id.to_string(), reading.sequence));
            return (names.collect(), replaced);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    panic!("not all readings come back: {:?}", store.board.store.borrow());
}

#[tokio::test(start_paused = true)]
async fn what_the_journal_holds_is_salvaged_also_where_the_database_cannot_be_opened() {
    let place = Place::new();
    let mut store = place.start();
    store.append(500).await;
    store.stop().await;
    let mut store = place.start_as("second").unwrap();
    store.append(20).await;
    let store_id = store.status(|status| status.last_sequence == 520).await.store_id;
    let card = place.copy();
    flip(card.path(), 0);
    // In its first page: SQLite believes nothing of what follows.
    flip(&card.beside("-wal"), 500);
    let after = card.start_as("after").unwrap();
    let (names, replaced) = ready(&after, 520).await;
    assert!(replaced);
    assert_eq!(names, (1..=520).map(|sequence| (store_id.clone(), sequence)).collect::<Vec<_>>());
    after.stop().await;
    store.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_young_store_whose_tables_are_damaged_in_the_journal_keeps_its_name() {
    let place = Place::new();
    let mut store = place.start();
    store.append(20).await;
    let store_id = store.status(|status| status.last_sequence == 20).await.store_id;
    let card = place.copy();
    flip(&card.beside("-wal"), 500);
    let after = card.start_as("after").unwrap();
    let (names, replaced) = ready(&after, 20).await;
    assert!(replaced);
    assert_eq!(names, (1..=20).map(|sequence| (store_id.clone(), sequence)).collect::<Vec<_>>());
    after.stop().await;
    store.stop().await;
}
