//! The page that says whose store it is, and how far it was sent, is lost: the label beside the database says it too.

use std::fs;

use weather_station::store::{Event, Page, Position};

use crate::support::{Place, Running, sequences};

const PAGE: usize = 1024;

/// Every page that holds the id: the row of the watermark, and what is left of older ones.
fn lose_the_id(place: &Place, id: &str) {
    let mut database = fs::read(place.path()).unwrap();
    let mut random = fastrand::Rng::with_seed(3);
    let mut lost = 0;
    for page in database.chunks_mut(PAGE) {
        if page.windows(id.len()).any(|window| window == id.as_bytes()) {
            random.fill(page);
            lost += 1;
        }
    }
    assert!(lost > 0, "the id is on no page");
    fs::write(place.path(), database).unwrap();
}

/// So many readings, of which the hub has accepted so many. Returns the store id.
async fn store_of(place: &Place, run: &str, count: u64, accepted: u64) -> String {
    let mut store = place.start_as(run).unwrap();
    store.append(count).await;
    store.handle.acknowledge(Position { generation: 1, row: accepted }).await.unwrap();
    let id = store.status(|status| !status.store_id.is_empty()).await.store_id;
    store.stop().await;
    id
}

/// The last event is that of the replacement.
async fn replaced(store: &Running) -> Event {
    let event = store.events().await.pop().unwrap();
    assert_eq!(event.kind, "storeReplaced");
    event
}

fn names(page: &Page) -> Vec<(&str, &str)> {
    page.readings.iter().map(|(_, reading)| (&*reading.store_id, &*reading.run)).collect()
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_is_not_sent_again_where_the_page_of_the_watermark_is_lost() {
    let place = Place::new();
    let id = store_of(&place, "first", 26, 26).await;
    lose_the_id(&place, &id);
    let mut store = place.start_as("second").unwrap();
    let event = replaced(&store).await;
    assert_eq!((&event.fields["previousStoreId"], &event.fields["salvaged"]), (&id.into(), &26.into()));
    store.append(2).await;
    assert_eq!(sequences(&store.page().await), [1, 2]);
    store.stop().await;
}

#[tokio::test(start_paused = true)]
async fn readings_keep_their_message_ids_where_the_page_of_the_store_id_is_lost() {
    let place = Place::new();
    let id = store_of(&place, "first", 3_000, 2_600).await;
    lose_the_id(&place, &id);
    // Once more in the middle of the salvage.
    place.start_as("second").unwrap().stop().await;
    let store = place.start_as("third").unwrap();
    let event = replaced(&store).await;
    assert_eq!(event.fields["previousStoreId"], *id);
    let page = store.page().await;
    assert_eq!(sequences(&page), (2_601..=3_000).collect::<Vec<_>>());
    assert_eq!(names(&page), vec![(&*id, "first"); 400]);
    store.stop().await;
    assert!(!place.beside(".salvage-20260601T120000000Z.label").exists(), "its work is done");
}

/// Without an orderly stop before it, and in a store that is not the first.
#[tokio::test(start_paused = true)]
async fn a_journal_that_is_left_alone_is_salvaged_under_its_own_names() {
    let place = Place::new();
    store_of(&place, "first", 5, 5).await;
    place.be_of_a_later_version();
    let mut store = place.start_as("second").unwrap();
    replaced(&store).await;
    store.append(20).await;
    let id = store.board.store.borrow().store_id.clone();
    store.handle.acknowledge(Position { generation: 2, row: 20 }).await.unwrap();
    store.stop().await;
    let mut store = place.start_as("third").unwrap();
    store.append(3).await;
    let left = place.copy();
    store.stop().await;
    fs::remove_file(left.path()).unwrap();
    let store = left.start_as("fourth").unwrap();
    assert_eq!(replaced(&store).await.fields["previousStoreId"], *id);
    let page = store.page().await;
    assert_eq!((sequences(&page), names(&page)), (vec![21, 22, 23], vec![(&*id, "third"); 3]));
    store.stop().await;
}

/// Of a station that was not stopped, the label may be a day behind.
#[tokio::test(start_paused = true)]
async fn a_label_follows_the_watermark_once_a_day() {
    let place = Place::new();
    let mut store = place.start();
    let id = store.status(|status| !status.store_id.is_empty()).await.store_id;
    for day in 1..=2 {
        store.append(20).await;
        store.handle.acknowledge(Position { generation: 1, row: 20 * day }).await.unwrap();
        if day == 1 {
            place.clock.advance(std::time::Duration::from_secs(86_400));
            tokio::time::sleep(std::time::Duration::from_secs(10)).await;
        }
    }
    let left = place.copy();
    store.stop().await;
    let connection = rusqlite::Connection::open(left.path()).unwrap();
    connection.execute_batch("PRAGMA journal_mode = DELETE; DELETE FROM state; VACUUM").unwrap();
    drop(connection);
    let store = left.start_as("second").unwrap();
    assert_eq!(replaced(&store).await.fields["previousStoreId"], *id);
    assert_eq!(sequences(&store.page().await), (21..=40).collect::<Vec<_>>());
    store.stop().await;
}

/// Somebody has put it there: its readings were not sent, and are not those that the label speaks of.
#[tokio::test(start_paused = true)]
async fn the_label_of_another_store_is_not_believed() {
    let (place, other) = (Place::new(), Place::new());
    store_of(&place, "first", 30, 30).await;
    let id = store_of(&other, "elsewhere", 10, 10).await;
    fs::copy(other.path(), place.path()).unwrap();
    lose_the_id(&place, &id);
    let store = place.start_as("second").unwrap();
    assert_eq!(replaced(&store).await.fields["previousStoreId"], "lost-1");
    let page = store.page().await;
    assert_eq!(names(&page), [("lost-1", "elsewhere"); 10]);
    store.stop().await;
}

/// The label of a store that somebody has put there is made anew before anything else.
#[tokio::test(start_paused = true)]
async fn a_store_that_comes_without_its_label_gets_one() {
    let (place, other) = (Place::new(), Place::new());
    store_of(&place, "first", 30, 30).await;
    let id = store_of(&other, "elsewhere", 10, 4).await;
    fs::copy(other.path(), place.path()).unwrap();
    place.start_as("second").unwrap().stop().await;
    lose_the_id(&place, &id);
    let store = place.start_as("third").unwrap();
    assert_eq!(replaced(&store).await.fields["previousStoreId"], *id);
    let page = store.page().await;
    assert_eq!((sequences(&page), names(&page)), ((5..=10).collect(), vec![(&*id, "elsewhere"); 6]));
    store.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_database_that_has_become_empty_is_told() {
    let place = Place::new();
    let id = store_of(&place, "first", 5, 5).await;
    fs::write(place.path(), []).unwrap();
    let mut store = place.start_as("second").unwrap();
    let event = replaced(&store).await;
    assert_eq!((&event.fields["previousStoreId"], &event.fields["salvaged"]), (&(*id).into(), &0.into()));
    assert_eq!(event.fields["reason"], "the store is damaged: the database is empty, and was not before");
    store.append(1).await;
    assert_eq!(sequences(&store.page().await), [1]);
    store.stop().await;
}

/// Nothing else depends on it.
#[tokio::test(start_paused = true)]
async fn a_label_that_cannot_be_written_is_no_trouble() {
    let place = Place::new();
    fs::create_dir(place.beside(".label-new")).unwrap();
    assert!(!store_of(&place, "first", 5, 3).await.is_empty());
    assert!(!place.beside(".label").exists());
    // One that says more than the database would hide what was never sent.
    fs::remove_dir(place.beside(".label-new")).unwrap();
    let before = fs::read(place.path()).unwrap();
    store_of(&place, "second", 5, 10).await;
    fs::write(place.path(), before).unwrap();
    fs::create_dir(place.beside(".label-new")).unwrap();
    let store = place.start_as("third").unwrap();
    assert_eq!(sequences(&store.page().await), [4, 5]);
    assert!(!place.beside(".label").exists());
    store.stop().await;
}
