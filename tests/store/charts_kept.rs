//! What is kept of the charts, and for how long: whatever is let go, the longer buckets say what there was.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use weather_station::store::Position;

use crate::charts::{assert_same, expected, record};
use crate::support::{Place, Running, date, sequences};

const MINUTE: Duration = Duration::from_secs(60);

/// Five minutes are kept for a month, hours for 400 days, days for ever: what is asked is told by what there is.
#[tokio::test]
async fn a_step_of_any_length_leaves_no_year_out() {
    let mut place = Place::new();
    place.config.keep = Duration::from_secs(30 * 86_400);
    let store = place.start();
    let mut model = Vec::new();
    record(&place, &store, 0, 3_300, Duration::from_secs(8 * 3_600), &mut model).await;
    let now = place.clock.timekeeper().now();
    let days = |days: i64| now - TimeDelta::days(days);
    for (since, until, step, length) in [
        // 26.4 days, as for 1,100 days in 400 buckets.
        (days(1_101), now, 2_280_960, 27 * 86_400),
        (days(600), now, 12 * 3_600, 86_400),
        (days(395), now, 23 * 3_600 + 300, 86_400),
        (days(395), now, 7 * 3_600, 7 * 3_600),
        (days(390), now, 8 * 3_600 + 1, 9 * 3_600),
        (days(60), now, 3_000, 3_600),
        (days(20), now, 3_000, 3_000),
        (days(600), days(599), 60, 86_400),
        (days(300), days(299), 60, 3_600),
    ] {
        let found = store.handle.history(since, until, Duration::from_secs(step)).await.unwrap();
        assert_eq!(found[0].length, Duration::from_secs(length), "step {step}");
        // The first and the last bucket are whole.
        let whole = |time: DateTime<Utc>, more: i64| {
            let length = i64::try_from(length).unwrap();
            DateTime::from_timestamp((time.timestamp() + more).div_euclid(length) * length, 0).unwrap()
        };
        let until = whole(until, i64::try_from(length).unwrap() - 1);
        let expected = expected(&model, whole(since, 0), until, length);
        assert_same(&found, &expected, &format!("since {since}, step {step}"));
    }
    store.stop().await;
}

/// An hour is made of its five minutes and a day of its hours: they are kept until it is.
#[tokio::test(start_paused = true)]
async fn hours_and_days_are_whole_however_short_the_readings_are_kept() {
    let mut place = Place::new();
    place.config.keep = MINUTE * 10;
    let store = place.start();
    let mut model = Vec::new();
    record(&place, &store, 0, 130, MINUTE, &mut model).await;
    assert_eq!(counts(&store, 3_600).await, [60, 60, 10]);
    // The station stands still for longer than anything is kept, and goes on in another day.
    store.stop().await;
    place.clock.advance(MINUTE * 60 * 24 * 500);
    let store = place.start_as("second").unwrap();
    tokio::time::sleep(MINUTE).await;
    record(&place, &store, 130, 70, MINUTE, &mut model).await;
    assert_eq!(counts(&store, 86_400).await, [130, 70]);
    store.stop().await;
}

async fn counts(store: &Running, step: u64) -> Vec<u32> {
    let (since, until) = (date("2026-06-01T00:00:00Z"), date("2029-01-01T00:00:00Z"));
    let found = store.handle.history(since, until, Duration::from_secs(step)).await.unwrap();
    found.iter().map(|bucket| bucket.count).collect()
}

/// In a small store the charts of a year would take all the room there is.
#[tokio::test]
async fn charts_leave_room_for_readings() {
    let mut place = Place::new();
    place.config.max_size = 1 << 20;
    place.config.keep = Duration::from_secs(3_650 * 86_400);
    let mut store = place.start();
    for round in 1..=120 {
        for _ in 0..100 {
            store.send(1).await;
            place.clock.advance(Duration::from_secs(3_600));
        }
        store.synced(round * 100).await;
        store.handle.acknowledge(Position { generation: 1, row: round * 100 }).await.unwrap();
    }
    for _ in 0..500 {
        store.send(1).await;
        place.clock.advance(Duration::from_secs(60));
    }
    store.synced(12_500).await;
    assert_eq!(sequences(&store.page().await), (12_001..=12_500).collect::<Vec<_>>());
    assert_eq!(store.handle.pending_events(10).await.unwrap(), []);
    // Hours go before days do.
    let (since, until) = (date("2026-06-01T00:00:00Z"), place.clock.timekeeper().now());
    let days = store.handle.history(since, until, Duration::from_secs(86_400)).await.unwrap();
    assert_eq!(days.iter().map(|day| day.count).sum::<u32>(), 12_500);
    store.stop().await;
}

/// Those of a damaged store too: what they take is not taken from readings that nobody has.
#[tokio::test(start_paused = true)]
async fn charts_leave_room_for_readings_that_are_salvaged() {
    let mut place = Place::new();
    place.config.keep = Duration::from_secs(86_400);
    let mut store = place.start();
    for round in 1..=60 {
        for _ in 0..100 {
            store.send(1).await;
            place.clock.advance(Duration::from_secs(3_600));
        }
        store.synced(round * 100).await;
    }
    store.handle.acknowledge(Position { generation: 1, row: 6_000 }).await.unwrap();
    store.append(6_000).await;
    // What was sent goes by its age, and the five minutes with it.
    tokio::time::sleep(MINUTE).await;
    let left = store.handle.newest(10_000).await.unwrap().len();
    assert!(left < 6_100, "{left} are there");
    store.stop().await;
    place.be_of_a_later_version();
    // What SQLite has freed keeps the five minutes that went.
    rusqlite::Connection::open(place.path()).unwrap().execute_batch("VACUUM").unwrap();
    place.config.max_size = 1 << 20;

    let mut store = place.start_as("second").unwrap();
    store.append(1).await;
    let events = store.events().await;
    let kinds: Vec<_> = events.iter().map(|event| &*event.kind).collect();
    assert_eq!(kinds, ["storeReplaced"], "{events:?}");
    let page = store.handle.pending(None, 10_000).await.unwrap();
    assert_eq!(sequences(&page), (6_001..=12_000).chain([1]).collect::<Vec<_>>());
    store.stop().await;
}
