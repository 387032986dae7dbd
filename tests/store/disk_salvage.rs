//! A salvage on a disk that has no room for a second copy of the store.

use std::time::Duration;

use weather_station::status::StoreState;
use weather_station::store::{Event, Position};

use crate::disk::{fill_up, in_a_namespace, mount};
use crate::support::Place;

const TAKEN: u64 = 30_000;

/// What is wrong with the store.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Damage {
    /// Nothing but its version.
    Version,
    /// Nobody knows whose it was: all of it has to be read again after a kill, and none of its room can be given back.
    Watermark,
}

/// Readings of which `acknowledged` were sent, a damaged store, and so many bytes left. Returns what is told in the end,
/// and the sequences that are to be sent.
async fn salvaged(acknowledged: u64, damage: Damage, left: u64) -> (Vec<Event>, Vec<u64>) {
    let place = Place::new();
    mount("size=8m", place.folder.path());
    let mut store = place.start();
    for _ in 0..TAKEN / 600 {
        store.append(600).await;
    }
    store.handle.acknowledge(Position { generation: 1, row: acknowledged }).await.unwrap();
    let id = store.status(|status| !status.store_id.is_empty()).await.store_id;
    store.stop().await;
    match damage {
        Damage::Version => place.be_of_a_later_version(),
        Damage::Watermark => lose_watermark(&place, &id),
    }
    let fill = fill_up(&place);
    let length = std::fs::metadata(&fill).unwrap().len();
    std::fs::File::options().write(true).open(&fill).unwrap().set_len(length - left).unwrap();
    let mut store = place.start_as("second").unwrap();
    store.send(10).await;
    let mut events = Vec::new();
    let mut waited = 0;
    while events.is_empty() {
        place.clock.advance(Duration::from_secs(1));
        tokio::time::sleep(Duration::from_secs(1)).await;
        events = store.handle.pending_events(10).await.unwrap_or_default();
        waited += 1;
        assert!(waited < 3_600, "the salvage does not end: {:?}", store.board.store.borrow());
    }
    store.status(|status| status.in_memory == 0 && status.state == StoreState::Ok).await;
    let found = store.all_pending().await;
    store.stop().await;
    (events, found)
}

fn lose_watermark(place: &Place, id: &str) {
    std::fs::remove_file(place.beside(".label")).unwrap();
    let mut file = std::fs::read(place.path()).unwrap();
    for page in file.chunks_mut(1024) {
        if page.windows(id.len()).any(|window| window == id.as_bytes()) {
            page.fill(0x55);
        }
    }
    std::fs::write(place.path(), file).unwrap();
}

#[test]
fn a_salvage_where_there_is_no_room_for_all_of_it() {
    in_a_namespace("disk_salvage::inside_a_salvage_where_there_is_no_room_for_all_of_it");
}

/// What was sent, or the room of what was copied already, makes the room.
#[tokio::test(start_paused = true)]
#[ignore = "runs in a mount namespace that the test above makes"]
async fn inside_a_salvage_where_there_is_no_room_for_all_of_it() {
    for (acknowledged, left) in [(29_000, 1 << 20), (0, 1 << 20), (0, 600 << 10)] {
        let (events, found) = salvaged(acknowledged, Damage::Version, left).await;
        assert_eq!(events.iter().map(|event| &*event.kind).collect::<Vec<_>>(), ["storeReplaced"]);
        assert_eq!(found, (acknowledged + 1..=TAKEN).chain(1..=10).collect::<Vec<_>>());
    }
}

#[test]
fn a_salvage_where_there_is_next_to_no_room() {
    in_a_namespace("disk_salvage::inside_a_salvage_where_there_is_next_to_no_room");
}

/// Nothing would be sent for as long as it waits: in the end the oldest go, and are named.
#[tokio::test(start_paused = true)]
#[ignore = "runs in a mount namespace that the test above makes"]
async fn inside_a_salvage_where_there_is_next_to_no_room() {
    let cases =
        [(Damage::Version, 200, 8_000), (Damage::Watermark, 1_024, 20_000), (Damage::Watermark, 200, 29_000)];
    for (damage, kilobytes, most) in cases {
        let (events, found) = salvaged(0, damage, kilobytes << 10).await;
        let [gap, replaced] = events.as_slice() else { panic!("{events:?}") };
        assert_eq!((&*gap.kind, &*replaced.kind), ("gap", "storeReplaced"));
        let (first, last) = (gap.fields["first"].as_u64(), gap.fields["last"].as_u64().unwrap());
        assert_eq!(first, Some(1));
        assert_eq!(found, (last + 1..=TAKEN).chain(1..=10).collect::<Vec<_>>());
        assert!(last < most, "{last} of {TAKEN} went, with {kilobytes} KiB left");
    }
}
