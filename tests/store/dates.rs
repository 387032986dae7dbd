//! What time readings and events get: once, before the first offer, and by the best clock there is until then.

use std::time::Duration;

use chrono::TimeDelta;
use weather_station::reading::TimeQuality;

use crate::support::{Place, date, stamps, times};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn readings_without_a_time_are_held_back_and_dated_once_the_clock_is_right() {
    let place = Place::new();
    place.clock.boot_without_a_clock();
    let mut store = place.start();
    for _ in 0..3 {
        store.append(1).await;
        place.clock.advance(MINUTE);
    }
    assert!(store.page().await.readings.is_empty(), "a reading of unknown time went out");
    let mut changed = store.handle.clone();
    // The time comes three minutes after the first reading.
    place.clock.synchronise("2026-06-01T12:00:00Z");
    changed.changed().await.unwrap();
    store.append(1).await;
    let page = store.page().await;
    assert_eq!(
        times(&page),
        [
            date("2026-06-01T11:57:00Z"),
            date("2026-06-01T11:58:00Z"),
            date("2026-06-01T11:59:00Z"),
            date("2026-06-01T12:00:00Z"),
        ]
    );
    assert!(stamps(&page).all(|stamp| stamp.time_quality == TimeQuality::Synchronised));
    // The clock steps: what was handed out keeps its time.
    place.clock.set(|hands| hands.wall += TimeDelta::hours(2));
    let again = store.page().await;
    assert_eq!(again.readings, page.readings);
    drop(changed);
    store.stop().await;
}

#[tokio::test(start_paused = true)]
async fn events_without_a_time_are_held_back_and_dated_once_the_clock_is_right() {
    let place = Place::new();
    place.clock.boot_without_a_clock();
    let store = place.start();
    let fields = serde_json::json!({
        "count": 3, "from": "1970-01-01T00:00:05.000Z", "until": "1970-01-01T00:00:08.000Z", "reason": "no answer",
    });
    store.handle.record_event("missedSamples", fields.as_object().unwrap().clone()).await.unwrap();
    assert_eq!(store.handle.pending_events(10).await.unwrap(), []);
    store.stop().await;
    // A minute later, in the same boot but in another run, the time comes.
    place.clock.advance(MINUTE);
    let store = place.start_as("second").unwrap();
    assert_eq!(store.handle.pending_events(10).await.unwrap(), []);
    place.clock.synchronise("2026-06-01T12:00:00Z");
    for _ in 0..2 {
        let events = store.handle.pending_events(10).await.unwrap();
        assert_eq!((events.len(), events[0].time), (1, date("2026-06-01T11:59:00Z")));
        let fields = &events[0].fields;
        assert_eq!(
            (&fields["from"], &fields["until"], fields.len()),
            (&"2026-06-01T11:58:55.000Z".into(), &"2026-06-01T11:58:58.000Z".into(), 4)
        );
        // The clock steps: what was handed out keeps its time.
        place.clock.set(|hands| hands.wall += TimeDelta::hours(2));
    }
    store.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_event_of_an_earlier_boot_without_a_time_says_so() {
    let place = Place::new();
    place.clock.boot_without_a_clock();
    let store = place.start();
    store.handle.record_event("missedSamples", serde_json::Map::new()).await.unwrap();
    store.stop().await;
    place.clock.boot_with_a_clock();
    let store = place.start_as("second").unwrap();
    let events = store.handle.pending_events(10).await.unwrap();
    assert_eq!(events[0].fields["timeQuality"], "unknown");
    assert_eq!((events[0].fields.len(), events[0].time), (1, date("1970-01-01T00:00:10Z")));
    store.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_plausible_clock_is_trust_enough_and_says_so() {
    let place = Place::new();
    place.clock.boot_without_a_clock();
    let mut store = place.start();
    store.append(1).await;
    place.clock.advance(MINUTE);
    store.timekeeper.take_hub_time(date("2026-06-01T12:00:00Z"));
    let page = store.page().await;
    let stamp = page.readings[0].1.sample.stamp;
    assert_eq!(stamp.time, date("2026-06-01T11:59:00Z"));
    assert_eq!(stamp.time_quality, TimeQuality::Unsynchronised);
    store.stop().await;
}

#[tokio::test(start_paused = true)]
async fn readings_of_an_earlier_boot_without_a_time_go_out_as_unknown() {
    let place = Place::new();
    place.clock.boot_without_a_clock();
    let mut store = place.start();
    store.append(2).await;
    store.stop().await;
    place.clock.boot_with_a_clock();
    let mut store = place.start_as("second").unwrap();
    store.append(1).await;
    let page = store.page().await;
    let qualities: Vec<_> = stamps(&page).map(|stamp| stamp.time_quality).collect();
    assert_eq!(qualities, [TimeQuality::Unknown, TimeQuality::Unknown, TimeQuality::Synchronised]);
    store.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_in_the_same_boot_still_dates_the_readings_before_it() {
    let place = Place::new();
    place.clock.boot_without_a_clock();
    let mut store = place.start();
    store.append(2).await;
    store.stop().await;
    place.clock.advance(MINUTE);
    place.clock.synchronise("2026-06-01T12:00:00Z");
    let store = place.start_as("second").unwrap();
    let page = store.page().await;
    assert_eq!(page.readings[0].1.sample.stamp.time, date("2026-06-01T11:59:00Z"));
    store.stop().await;
}

/// The clock goes on where it was saved, and no network is there to say better.
#[tokio::test(start_paused = true)]
async fn readings_that_nobody_was_handed_follow_a_clock_that_is_set() {
    let place = Place::new();
    place.clock.lose_synchronisation();
    let mut store = place.start();
    store.append(2).await;
    // Somebody has these two.
    assert_eq!(times(&store.page().await), [date("2026-06-01T12:00:00Z"); 2]);
    place.clock.advance(MINUTE);
    store.append(1).await;
    place.clock.advance(MINUTE);
    store.append(1).await;
    // The hub says that it is three hours later.
    store.timekeeper.take_hub_time(date("2026-06-01T15:02:00Z"));
    store.append(1).await;
    // The kernel says that the hub was ten seconds ahead.
    place.clock.synchronise("2026-06-01T15:01:50Z");
    let page = store.page().await;
    let expected = [
        "2026-06-01T12:00:00Z",
        "2026-06-01T12:00:00Z",
        "2026-06-01T15:00:50Z",
        "2026-06-01T15:01:50Z",
        "2026-06-01T15:01:50Z",
    ];
    assert_eq!(times(&page), expected.map(date));
    let qualities: Vec<_> = stamps(&page).map(|stamp| stamp.time_quality).collect();
    assert_eq!(qualities[..2], [TimeQuality::Unsynchronised; 2]);
    assert_eq!(qualities[2..], [TimeQuality::Synchronised; 3]);
    // They are final now.
    place.clock.set(|hands| {
        hands.wall += TimeDelta::hours(2);
        hands.synchronised = false;
    });
    tokio::time::sleep(MINUTE).await;
    assert_eq!(store.page().await.readings, page.readings);
    store.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_hubs_time_dates_what_was_taken_before_it_and_the_kernels_corrects_it_once_more() {
    let place = Place::new();
    place.clock.lose_synchronisation();
    let mut store = place.start();
    store.append(600).await;
    store.timekeeper.take_hub_time(date("2026-06-01T15:00:00Z"));
    tokio::time::sleep(MINUTE).await;
    let newest = store.handle.latest().await.unwrap().unwrap().sample.stamp;
    assert_eq!(
        (newest.time, newest.time_quality),
        (date("2026-06-01T15:00:00Z"), TimeQuality::Unsynchronised)
    );
    place.clock.synchronise("2026-06-01T15:00:30Z");
    // Asked for the first ten, before the house is kept.
    let page = store.handle.pending(None, 10).await.unwrap();
    assert_eq!(times(&page), [date("2026-06-01T15:00:30Z"); 10]);
    tokio::time::sleep(MINUTE).await;
    let newest = store.handle.latest().await.unwrap().unwrap().sample.stamp;
    assert_eq!((newest.time, newest.time_quality), (date("2026-06-01T15:00:30Z"), TimeQuality::Synchronised));
    store.stop().await;
}

/// Five days without a network, and a crystal that gains a second and a half each day.
#[tokio::test(start_paused = true)]
async fn a_clock_that_has_drifted_moves_only_what_it_dated_last() {
    let place = Place::new();
    place.clock.lose_synchronisation();
    let mut store = place.start();
    store.append(1).await;
    place.clock.advance(5 * 24 * 60 * MINUTE);
    store.append(1).await;
    place.clock.set(|hands| {
        hands.wall -= TimeDelta::milliseconds(7_500);
        hands.synchronised = true;
    });
    let expected = ["2026-06-01T12:00:00Z", "2026-06-06T11:59:52.500Z"];
    assert_eq!(times(&store.page().await), expected.map(date));
    store.stop().await;
}

/// It may have handed them out.
#[tokio::test(start_paused = true)]
async fn readings_of_another_run_keep_the_time_they_have() {
    let place = Place::new();
    place.clock.lose_synchronisation();
    let mut store = place.start();
    store.append(2).await;
    store.stop().await;
    let mut store = place.start_as("second").unwrap();
    store.append(1).await;
    place.clock.set(|hands| {
        hands.wall += TimeDelta::hours(3);
        hands.synchronised = true;
    });
    let expected = ["2026-06-01T12:00:00Z", "2026-06-01T12:00:00Z", "2026-06-01T15:00:00Z"];
    assert_eq!(times(&store.page().await), expected.map(date));
    store.stop().await;
}
