//! What time readings and events get: once, before the first offer, and by the best clock there is until then.

use std::time::Duration;

use chrono::TimeDelta;
use weather_station::reading::{FromSensor, TimeQuality};

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

/// The damage is found in the boot in which they were taken.
#[tokio::test(start_paused = true)]
async fn salvaged_readings_without_a_time_are_held_back_and_dated_once_the_clock_is_right() {
    let place = Place::new();
    let mut store = place.start();
    store.append(1).await;
    place.clock.boot_without_a_clock();
    for _ in 0..2 {
        store.stop().await;
        store = place.start_as("second").unwrap();
        store.append(1).await;
        place.clock.advance(MINUTE);
    }
    store.stop().await;
    place.be_of_a_later_version();
    let mut store = place.start_as("third").unwrap();
    let replaced = store.status(|status| status.last_sequence == 0 && status.pending == 3).await;
    assert_eq!(times(&store.page().await), [date("2026-06-01T12:00:00Z")], "{replaced:?}");
    let mut changed = store.handle.synced();
    changed.borrow_and_update();
    place.clock.synchronise("2026-06-01T15:02:00Z");
    tokio::time::timeout(MINUTE, changed.changed()).await.expect("nobody says that they may go").unwrap();
    store.append(1).await;
    // A clock that steps afterwards changes nothing: they are final.
    for _ in 0..2 {
        let page = store.page().await;
        let expected =
            ["2026-06-01T12:00:00Z", "2026-06-01T15:00:00Z", "2026-06-01T15:01:00Z", "2026-06-01T15:02:00Z"];
        assert_eq!(times(&page), expected.map(date));
        assert!(stamps(&page).all(|stamp| stamp.time_quality == TimeQuality::Synchronised));
        place.clock.set(|hands| hands.wall += TimeDelta::hours(2));
    }
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

/// What the hub said once, and the crystal since, is worth less than a clock that was right yesterday.
#[tokio::test(start_paused = true)]
async fn the_hubs_time_is_given_up_for_good_once_the_clock_was_synchronised() {
    let place = Place::new();
    place.clock.boot_without_a_clock();
    let mut store = place.start();
    store.timekeeper.take_hub_time(date("2026-06-01T12:00:00Z"));
    place.clock.advance(MINUTE);
    assert_eq!(store.timekeeper.now(), date("2026-06-01T12:01:00Z"));
    place.clock.synchronise("2026-06-01T12:05:00Z");
    store.append(1).await;
    place.clock.lose_synchronisation();
    place.clock.advance(MINUTE);
    assert_eq!(store.timekeeper.now(), date("2026-06-01T12:06:00Z"), "{:?}", store.timekeeper.status());
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

/// An image that is older than the program, on a mast without a network: in the third week the clock has passed the day
/// of the build.
#[tokio::test(start_paused = true)]
async fn a_clock_behind_the_build_does_not_become_right_by_running_past_it() {
    let place = Place::new();
    place.clock.set(|hands| {
        hands.wall = date("2025-12-18T00:00:00Z");
        hands.synchronised = false;
    });
    let mut store = place.start();
    store.append(2).await;
    for run in ["second", "third"] {
        place.clock.advance(24 * 60 * 10 * MINUTE);
        store.append(1).await;
        assert!(store.page().await.readings.is_empty(), "a reading went out with the time of a wrong clock");
        store.stop().await;
        store = place.start_as(run).unwrap();
    }
    place.clock.synchronise("2026-06-21T12:00:00Z");
    let expected =
        ["2026-06-01T12:00:00Z", "2026-06-01T12:00:00Z", "2026-06-11T12:00:00Z", "2026-06-21T12:00:00Z"];
    assert_eq!(times(&store.page().await), expected.map(date));
    store.stop().await;
}

/// Set by hand at first, and badly; nobody was handed a reading meanwhile.
#[tokio::test(start_paused = true)]
async fn readings_that_were_dated_by_a_plausible_clock_follow_one_that_is_set_later() {
    let place = Place::new();
    place.clock.boot_without_a_clock();
    let mut store = place.start();
    store.append(700).await;
    place.clock.set(|hands| hands.wall = date("2026-06-01T10:00:00Z"));
    tokio::time::sleep(MINUTE).await;
    let newest = store.handle.latest().await.unwrap().unwrap().sample.stamp;
    assert_eq!(newest.time, date("2026-06-01T10:00:00Z"));
    place.clock.synchronise("2026-06-01T12:00:00Z");
    let page = store.handle.pending(None, 700).await.unwrap();
    assert_eq!(times(&page), [date("2026-06-01T12:00:00Z"); 700]);
    store.stop().await;
}

/// The rows behind a gap lie further on than a page is long.
#[tokio::test(start_paused = true)]
async fn behind_a_gap_too_nothing_is_handed_out_before_it_is_corrected() {
    let mut place = Place::new();
    place.config.max_size = 1 << 20;
    place.clock.lose_synchronisation();
    let mut store = place.start();
    for _ in 0..60 {
        store.append(500).await;
    }
    let first = store.handle.newest(40_000).await.unwrap()[0].sequence;
    assert!(first > 2_000, "nothing was evicted: the test tests nothing");
    place.clock.synchronise("2026-06-01T15:00:00Z");
    let (mut readings, mut after) = (0, None);
    while readings < 5_000 {
        let page = store.handle.pending(after, 1_000).await.unwrap();
        assert!(times(&page).into_iter().all(|time| time == date("2026-06-01T15:00:00Z")));
        readings += page.readings.len();
        after = Some(page.end);
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    store.stop().await;
}

/// The sensor is away from the start on, and the time comes before it is back.
#[tokio::test(start_paused = true)]
async fn both_ends_of_an_episode_without_readings_are_told_by_one_clock() {
    let place = Place::new();
    place.clock.boot_without_a_clock();
    let store = place.start();
    let from = store.timekeeper.stamp();
    place.clock.advance(MINUTE);
    place.clock.synchronise("2026-06-01T12:00:00Z");
    let until = store.timekeeper.stamp();
    let missed = FromSensor::Missed { count: 60, from, until, reason: "no answer".into() };
    store.samples.send(missed).await.unwrap();
    let events = store.events().await;
    let fields = &events[0].fields;
    assert_eq!(fields["from"], "2026-06-01T11:59:00.000Z");
    assert_eq!(fields["until"], "2026-06-01T12:00:00.000Z");
    store.stop().await;
}

/// Offline, without a clock, and full.
#[tokio::test(start_paused = true)]
async fn a_gap_that_was_made_without_a_clock_gets_its_time_once_there_is_one() {
    let mut place = Place::new();
    place.config.max_size = 1 << 20;
    place.clock.boot_without_a_clock();
    let mut store = place.start();
    for _ in 0..60 {
        store.append(500).await;
    }
    assert_eq!(store.handle.pending_events(10).await.unwrap(), []);
    place.clock.advance(MINUTE);
    place.clock.synchronise("2026-06-01T12:00:00Z");
    let events = store.handle.pending_events(10).await.unwrap();
    assert_eq!((&*events[0].kind, events[0].time), ("gap", date("2026-06-01T11:59:00Z")));
    // When the readings were taken that are gone, nobody knows.
    assert_eq!(
        (&events[0].fields["from"], events[0].fields.get("undated")),
        (&serde_json::Value::Null, None)
    );
    store.stop().await;
}
