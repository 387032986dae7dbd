//! Room: `max_size`, and what goes when it is used up.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use weather_station::reading::{FromSensor, Stamp};
use weather_station::status::StoreState;
use weather_station::store::{Event, Position};

use crate::support::{Place, Running, date, sequences};

const MAX: u64 = 2 << 20;
const MINUTE: Duration = Duration::from_secs(60);

fn bytes(place: &Place) -> u64 {
    let length = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
    length(place.path()) + length(&place.beside("-wal"))
}

async fn fill(place: &Place, store: &mut Running, readings: u64) {
    for _ in 0..readings / 50 {
        store.append(50).await;
        let bytes = bytes(place);
        assert!(bytes <= place.config.max_size + 1024, "{bytes} bytes");
    }
}

const DAMAGED: &str = "the card lost or changed them";
const NO_ROOM: &str = "the store was full: max_size, or the disk";

/// Room for what was salvaged is short: the oldest go, and what went is told.
#[tokio::test(start_paused = true)]
async fn a_full_store_that_is_damaged_is_replaced_and_the_oldest_go() {
    for acknowledged in [0, 19_000] {
        let mut place = Place::new();
        place.config.max_size = 1 << 20;
        let mut store = place.start();
        fill(&place, &mut store, 20_000).await;
        let oldest = sequences(&store.page().await)[0];
        assert!((5_000..19_000).contains(&oldest), "full: {oldest}");
        if acknowledged > 0 {
            store.handle.acknowledge(Position { generation: 1, row: acknowledged }).await.unwrap();
        }
        let pending: Vec<_> = store.handle.pending_events(10).await.unwrap();
        store.handle.acknowledge_events(pending.last().unwrap().event_sequence).await.unwrap();
        store.stop().await;
        let mut file = std::fs::read(place.path()).unwrap();
        file[..100].fill(0x55);
        std::fs::write(place.path(), file).unwrap();

        let mut store = place.start_as("second").unwrap();
        let mut events = Vec::new();
        for _ in 0..600 {
            events = store.handle.pending_events(10).await.unwrap();
            if events.iter().any(|event| event.kind == "storeReplaced") {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(bytes(&place) <= place.config.max_size + 1024);
        }
        let told: Vec<_> = events
            .iter()
            .filter(|event| event.kind == "gap")
            .map(|gap| {
                let number = |name: &str| gap.fields[name].as_u64().unwrap();
                (number("first"), number("last"), gap.fields["reason"].as_str().unwrap())
            })
            .collect();
        store.append(1).await;
        let mut found = store.all_pending().await;
        assert_eq!(found.pop(), Some(1), "the new store's own");
        let first = *found.first().unwrap();
        assert_eq!(found, (first..=20_000).collect::<Vec<_>>(), "no hole");
        if acknowledged > 0 {
            assert_eq!(first, acknowledged + 1, "only what was sent went");
            assert_eq!(told, []);
        } else {
            assert!(first > oldest, "there was no need to let go");
            // What the full store had let go before, as far as nothing is left of it, and what went now.
            let [(1, lost, DAMAGED), (next, last, NO_ROOM)] = told[..] else { panic!("{told:?}") };
            assert_eq!((lost + 1, last), (next, first - 1));
        }
        let status = store.status(|status| status.in_memory == 0).await;
        assert_eq!(status.state, StoreState::Ok, "{status:?}");
        store.stop().await;
        let aside = std::fs::read_dir(place.folder.path()).unwrap().flatten();
        let done = aside.filter(|file| file.file_name().to_string_lossy().contains("set-aside")).count();
        assert_eq!(done, 1);
    }
}

/// What was salvaged goes first, and is told like any other gap.
#[tokio::test(start_paused = true)]
async fn salvaged_readings_that_are_let_go_make_one_event() {
    let mut place = Place::new();
    place.config.max_size = 1 << 20;
    let mut store = place.start();
    let old = store.status(|status| !status.store_id.is_empty()).await.store_id;
    fill(&place, &mut store, 5_000).await;
    store.stop().await;
    let mut file = std::fs::read(place.path()).unwrap();
    file[..100].fill(0x55);
    std::fs::write(place.path(), file).unwrap();
    let mut store = place.start_as("second").unwrap();
    let events = store.events().await;
    store.handle.acknowledge_events(events[0].event_sequence).await.unwrap();
    fill(&place, &mut store, 14_000).await;
    let events = store.handle.pending_events(10).await.unwrap();
    let told: Vec<_> = events
        .iter()
        .map(|event| (&*event.store_id, event.fields["first"].as_u64(), event.fields["last"].as_u64()))
        .collect();
    let page = store.page().await;
    let (_, oldest) = &page.readings[0];
    assert_eq!(
        told,
        [(&*old, Some(1), Some(5_000)), (&*oldest.store_id, Some(1), Some(oldest.sequence - 1))],
        "one for each store"
    );
    store.stop().await;
}

/// All of it was sent: what was salvaged stands in nobody's way.
#[tokio::test(start_paused = true)]
async fn a_salvage_of_sent_readings_does_not_keep_later_ones_from_making_room() {
    let mut place = Place::new();
    place.config.max_size = 1 << 20;
    let mut store = place.start();
    fill(&place, &mut store, 3_000).await;
    store.handle.acknowledge(Position { generation: 1, row: 3_000 }).await.unwrap();
    store.stop().await;
    let mut file = std::fs::read(place.path()).unwrap();
    file[..100].fill(0x55);
    std::fs::write(place.path(), file).unwrap();

    let mut store = place.start_as("second").unwrap();
    store.events().await;
    assert_eq!(store.board.store.borrow().pending, 0, "what was sent does not wait");
    fill(&place, &mut store, 20_000).await;
    let status = store.status(|status| status.last_sequence == 20_000).await;
    assert_eq!((status.state, status.in_memory), (StoreState::Ok, 0));
    let first = sequences(&store.page().await)[0];
    assert_eq!(status.pending, 20_000 - first + 1);
    store.stop().await;
}

/// What the hub refused counts as gone once, though it was let go too.
#[tokio::test]
async fn refused_readings_that_are_let_go_are_not_subtracted_twice() {
    let mut place = Place::new();
    place.config.max_size = 1 << 20;
    let mut store = place.start();
    fill(&place, &mut store, 1_000).await;
    let refused = (5..15).map(|row| Position { generation: 1, row }).collect();
    store.handle.dead_letter(refused, "amqp:not-allowed".into()).await.unwrap();
    fill(&place, &mut store, 19_000).await;
    let first = sequences(&store.page().await)[0];
    assert!(first > 15, "nothing was let go");
    store.status(|status| status.pending == 20_000 - first + 1).await;
    store.stop().await;
    let store = place.start_as("second").unwrap();
    store.status(|status| status.pending == 20_000 - first + 1).await;
    store.stop().await;
}

#[tokio::test]
async fn max_size_holds_and_the_oldest_pending_go_with_one_event() {
    let mut place = Place::new();
    place.config.max_size = MAX;
    let mut store = place.start();
    fill(&place, &mut store, 30_000).await;
    let page = store.page().await;
    let first = sequences(&page)[0];
    assert!(first > 1, "nothing was let go");
    let events = store.handle.pending_events(100).await.unwrap();
    assert_eq!(events.len(), 1, "adjacent gaps extend one: {events:?}");
    let fields = &events[0].fields;
    assert_eq!(
        (&fields["first"], &fields["last"], &fields["count"]),
        (&1.into(), &(first - 1).into(), &(first - 1).into())
    );
    assert_eq!(fields["reason"], "the store was full: max_size, or the disk");
    assert_eq!(fields["from"], "2026-06-01T12:00:00.000Z");
    let status = store.status(|status| status.last_sequence == 30_000).await;
    assert_eq!(status.pending, 30_000 - first + 1);
    // It was handed out: the next gap is another event.
    fill(&place, &mut store, 5_000).await;
    let events = store.handle.pending_events(100).await.unwrap();
    assert_eq!((events.len(), &events[1].fields["first"]), (2, &first.into()));
    store.stop().await;
}

#[tokio::test]
async fn sent_readings_go_first_and_without_an_event() {
    let mut place = Place::new();
    place.config.max_size = MAX;
    let mut store = place.start();
    for round in 1..=30 {
        fill(&place, &mut store, 1_000).await;
        store.handle.acknowledge(Position { generation: 1, row: round * 1_000 - 100 }).await.unwrap();
    }
    assert_eq!(store.handle.pending_events(10).await.unwrap(), []);
    assert_eq!(sequences(&store.page().await), (29_901..=30_000).collect::<Vec<_>>());
    store.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn max_size_holds_while_the_whole_file_is_checked() {
    let mut place = Place::new();
    place.config.max_size = MAX;
    let mut store = place.start();
    fill(&place, &mut store, 5_000).await;
    // As the station does it in the background, again and again: meanwhile the journal cannot start over.
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let beside = Connection::open_with_flags_and_vfs(place.path(), flags, "unix-excl").unwrap();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let checker = std::thread::spawn(move || {
        let mut checks = 0;
        while stopped.try_recv().is_err() {
            let said: String = beside.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).unwrap();
            assert_eq!(said, "ok");
            checks += 1;
        }
        checks
    });
    fill(&place, &mut store, 15_000).await;
    stop.send(()).unwrap();
    assert!(checker.join().unwrap() > 0);
    assert_eq!(store.board.store.borrow().state, StoreState::Ok);
    store.stop().await;
}

/// A loose cable, and no hub that takes what is told of it.
#[tokio::test]
async fn events_leave_room_for_readings() {
    let mut place = Place::new();
    place.config.max_size = 1 << 20;
    let mut store = place.start();
    let begin = store.timekeeper.stamp();
    let after = |minutes: u32| Stamp {
        since_boot: begin.since_boot + MINUTE * minutes,
        time: begin.time + MINUTE * minutes,
        ..begin
    };
    place.clock.advance(MINUTE * 5_000);
    for minute in 0..5_000 {
        let (from, until, reason) = (after(minute), after(minute + 1), "no answer at 0x76".to_owned());
        store.samples.send(FromSensor::Missed { count: 2, from, until, reason }).await.unwrap();
    }
    let end = after(5_000);
    store.append(100).await;
    assert_eq!(sequences(&store.page().await), (1..=100).collect::<Vec<_>>());
    let events = store.handle.pending_events(10_000).await.unwrap();
    let told: u64 = events.iter().map(|event| event.fields["count"].as_u64().unwrap()).sum();
    assert_eq!(told, 10_000);
    assert!(events.len() <= 1_001, "{} events", events.len());
    // Each goes on where the one before it has ended.
    let time = |event: &Event, key: &str| event.fields[key].as_str().map(date).unwrap();
    assert!(events.windows(2).all(|pair| time(&pair[0], "until") == time(&pair[1], "from")));
    let (first, last) = (&events[0], events.last().unwrap());
    assert_eq!((time(first, "from"), time(last, "until")), (begin.time, end.time));
    // They were handed out: the next one is another.
    let (from, until) = (end, end);
    let missed = FromSensor::Missed { count: 1, from, until, reason: "it was pulled out".into() };
    store.samples.send(missed).await.unwrap();
    store.append(1).await;
    let more = store.handle.pending_events(10_000).await.unwrap();
    assert_eq!((more.len(), &more[events.len()].fields["count"]), (events.len() + 1, &1.into()));
    store.stop().await;
}

#[tokio::test]
async fn a_smaller_max_size_shrinks_the_store() {
    let mut place = Place::new();
    let mut store = place.start();
    store.append(40_000).await;
    store.handle.acknowledge(Position { generation: 1, row: 39_000 }).await.unwrap();
    store.stop().await;
    assert!(bytes(&place) > MAX);
    place.config.max_size = MAX;
    let store = place.start_as("smaller").unwrap();
    store.status(|status| status.bytes <= MAX).await;
    assert_eq!(store.page().await.readings.len(), 500);
    assert_eq!(store.handle.pending_events(10).await.unwrap(), []);
    store.stop().await;
}
