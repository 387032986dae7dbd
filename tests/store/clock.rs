//! Clock states: re-dating once, before the first offer; jumps; pruning by age only while synchronised.

use std::time::Duration;

use chrono::TimeDelta;
use weather_station::clock::ClockState;
use weather_station::reading::TimeQuality;
use weather_station::store::Position;

use crate::support::{Place, date, sequences};

const MINUTE: Duration = Duration::from_secs(60);

/// As after a boot without a clock: 1970, boot 2.
fn without_clock(place: &Place) {
    place.clock.set(|hands| {
        hands.wall = date("1970-01-01T00:00:10Z");
        hands.since_boot = Duration::from_secs(10);
        hands.boot = 2;
        hands.synchronised = false;
    });
}

/// Boot 3, with a clock that is right.
fn booted_again(place: &Place) {
    place.clock.set(|hands| {
        hands.wall = date("2026-06-01T12:00:00Z");
        hands.boot = 3;
        hands.synchronised = true;
    });
}

#[tokio::test(start_paused = true)]
async fn readings_without_a_time_are_held_back_and_dated_once_the_clock_is_right() {
    let place = Place::new();
    without_clock(&place);
    let mut store = place.start();
    for _ in 0..3 {
        store.append(1).await;
        place.clock.advance(MINUTE);
    }
    assert!(store.page().await.readings.is_empty(), "a reading of unknown time went out");
    let mut changed = store.handle.clone();
    // The time comes three minutes after the first reading.
    place.clock.set(|hands| {
        hands.wall = date("2026-06-01T12:00:00Z");
        hands.synchronised = true;
    });
    changed.changed().await.unwrap();
    store.append(1).await;
    let page = store.page().await;
    let times: Vec<_> = page.readings.iter().map(|(_, reading)| reading.sample.stamp.time).collect();
    assert_eq!(
        times,
        [
            date("2026-06-01T11:57:00Z"),
            date("2026-06-01T11:58:00Z"),
            date("2026-06-01T11:59:00Z"),
            date("2026-06-01T12:00:00Z"),
        ]
    );
    assert!(
        page.readings
            .iter()
            .all(|(_, reading)| reading.sample.stamp.time_quality == TimeQuality::Synchronised)
    );
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
    without_clock(&place);
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
    place.clock.set(|hands| {
        hands.wall = date("2026-06-01T12:00:00Z");
        hands.synchronised = true;
    });
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
    without_clock(&place);
    let store = place.start();
    store.handle.record_event("missedSamples", serde_json::Map::new()).await.unwrap();
    store.stop().await;
    booted_again(&place);
    let store = place.start_as("second").unwrap();
    let events = store.handle.pending_events(10).await.unwrap();
    assert_eq!(events[0].fields["timeQuality"], "unknown");
    assert_eq!((events[0].fields.len(), events[0].time), (1, date("1970-01-01T00:00:10Z")));
    store.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_plausible_clock_is_trust_enough_and_says_so() {
    let place = Place::new();
    without_clock(&place);
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
    without_clock(&place);
    let mut store = place.start();
    store.append(2).await;
    store.stop().await;
    booted_again(&place);
    let mut store = place.start_as("second").unwrap();
    store.append(1).await;
    let page = store.page().await;
    let qualities: Vec<_> =
        page.readings.iter().map(|(_, reading)| reading.sample.stamp.time_quality).collect();
    assert_eq!(qualities, [TimeQuality::Unknown, TimeQuality::Unknown, TimeQuality::Synchronised]);
    store.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_in_the_same_boot_still_dates_the_readings_before_it() {
    let place = Place::new();
    without_clock(&place);
    let mut store = place.start();
    store.append(2).await;
    store.stop().await;
    place.clock.advance(MINUTE);
    place.clock.set(|hands| {
        hands.wall = date("2026-06-01T12:00:00Z");
        hands.synchronised = true;
    });
    let store = place.start_as("second").unwrap();
    let page = store.page().await;
    assert_eq!(page.readings[0].1.sample.stamp.time, date("2026-06-01T11:59:00Z"));
    store.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_before_the_newest_synchronised_reading_is_wrong() {
    let place = Place::new();
    let mut store = place.start();
    store.append(1).await;
    store.stop().await;
    place.clock.set(|hands| {
        hands.wall = date("2026-05-01T12:00:00Z");
        hands.boot = 2;
        hands.synchronised = false;
    });
    assert_eq!(place.clock.timekeeper().state(), ClockState::Plausible);
    let store = place.start_as("second").unwrap();
    assert_eq!(store.timekeeper.state(), ClockState::Wrong);
    store.stop().await;
}

/// Power and network are away; the clock starts where it was last saved, a few minutes before the newest reading.
#[tokio::test(start_paused = true)]
async fn a_wrong_clock_does_not_become_right_by_running_on() {
    let place = Place::new();
    let mut store = place.start();
    store.append(1).await;
    store.stop().await;
    place.clock.set(|hands| {
        hands.wall -= TimeDelta::minutes(5);
        hands.since_boot = Duration::from_secs(10);
        hands.boot = 2;
        hands.synchronised = false;
    });
    let mut store = place.start_as("second").unwrap();
    store.append(1).await;
    place.clock.advance(20 * MINUTE);
    assert_eq!(store.timekeeper.state(), ClockState::Wrong, "{:?}", store.timekeeper.status());
    store.append(1).await;
    store.stop().await;
    // Another run in the same boot knows it as well.
    let mut store = place.start_as("third").unwrap();
    place.clock.advance(20 * MINUTE);
    store.append(1).await;
    assert_eq!(store.timekeeper.state(), ClockState::Wrong, "{:?}", store.timekeeper.status());
    assert_eq!(sequences(&store.page().await), [1], "a reading of unknown time went out");
    // Three hours have passed in truth, and now the network is back.
    place.clock.set(|hands| {
        hands.wall = date("2026-06-01T15:40:00Z");
        hands.synchronised = true;
    });
    tokio::time::sleep(MINUTE).await;
    let page = store.page().await;
    let times: Vec<_> = page.readings.iter().map(|(_, reading)| reading.sample.stamp.time).collect();
    let expected =
        ["2026-06-01T12:00:00Z", "2026-06-01T15:00:00Z", "2026-06-01T15:20:00Z", "2026-06-01T15:40:00Z"];
    assert_eq!(times, expected.map(date));
    store.stop().await;
}

/// Somebody sets it by hand, or a real-time clock is read late: nobody says that it is synchronised.
#[tokio::test(start_paused = true)]
async fn a_wrong_clock_that_is_set_is_plausible() {
    let place = Place::new();
    let mut store = place.start();
    store.append(1).await;
    store.stop().await;
    place.clock.set(|hands| {
        hands.wall -= TimeDelta::minutes(5);
        (hands.boot, hands.synchronised) = (2, false);
    });
    let store = place.start_as("second").unwrap();
    assert_eq!(store.timekeeper.state(), ClockState::Wrong);
    place.clock.advance(20 * MINUTE);
    place.clock.set(|hands| hands.wall += TimeDelta::minutes(5));
    assert_eq!(store.timekeeper.state(), ClockState::Plausible, "{:?}", store.timekeeper.status());
    store.stop().await;
}

fn times(page: &weather_station::store::Page) -> Vec<chrono::DateTime<chrono::Utc>> {
    page.readings.iter().map(|(_, reading)| reading.sample.stamp.time).collect()
}

/// The clock goes on where it was saved, and no network is there to say better.
#[tokio::test(start_paused = true)]
async fn readings_that_nobody_was_handed_follow_a_clock_that_is_set() {
    let place = Place::new();
    place.clock.set(|hands| hands.synchronised = false);
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
    place.clock.set(|hands| {
        hands.wall = date("2026-06-01T15:01:50Z");
        hands.synchronised = true;
    });
    let page = store.page().await;
    let expected = [
        "2026-06-01T12:00:00Z",
        "2026-06-01T12:00:00Z",
        "2026-06-01T15:00:50Z",
        "2026-06-01T15:01:50Z",
        "2026-06-01T15:01:50Z",
    ];
    assert_eq!(times(&page), expected.map(date));
    let qualities: Vec<_> =
        page.readings.iter().map(|(_, reading)| reading.sample.stamp.time_quality).collect();
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
    place.clock.set(|hands| hands.synchronised = false);
    let mut store = place.start();
    store.append(600).await;
    store.timekeeper.take_hub_time(date("2026-06-01T15:00:00Z"));
    tokio::time::sleep(MINUTE).await;
    let newest = store.handle.latest().await.unwrap().unwrap().sample.stamp;
    assert_eq!(
        (newest.time, newest.time_quality),
        (date("2026-06-01T15:00:00Z"), TimeQuality::Unsynchronised)
    );
    place.clock.set(|hands| {
        hands.wall = date("2026-06-01T15:00:30Z");
        hands.synchronised = true;
    });
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
    place.clock.set(|hands| hands.synchronised = false);
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
    place.clock.set(|hands| hands.synchronised = false);
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

#[tokio::test(start_paused = true)]
async fn a_clock_that_steps_back_unsynchronised_is_wrong_in_the_same_run() {
    let place = Place::new();
    let mut store = place.start();
    store.append(1).await;
    place.clock.set(|hands| {
        hands.wall -= TimeDelta::hours(1);
        hands.synchronised = false;
    });
    assert_eq!(store.timekeeper.state(), ClockState::Wrong);
    store.append(1).await;
    assert_eq!(sequences(&store.page().await), [1], "a reading of unknown time went out");
    store.stop().await;
}

#[tokio::test(start_paused = true)]
async fn jumps_of_the_clock_change_neither_order_nor_sequence() {
    let place = Place::new();
    let mut store = place.start();
    for hours in [0, 5, -9, 4, -1] {
        place.clock.set(|hands| hands.wall += TimeDelta::hours(hours));
        store.append(3).await;
    }
    let page = store.page().await;
    assert_eq!(sequences(&page), (1..=15).collect::<Vec<_>>());
    store.stop().await;
}

#[tokio::test(start_paused = true)]
async fn age_prunes_what_was_sent_and_only_while_the_clock_is_synchronised() {
    let mut place = Place::new();
    place.config.keep = 10 * 24 * 60 * MINUTE;
    let mut store = place.start();
    store.append(1200).await;
    store.handle.acknowledge(Position { generation: 1, row: 1000 }).await.unwrap();
    // A year passes, and nobody knows whether that is true.
    place.clock.set(|hands| {
        hands.wall += TimeDelta::days(365);
        hands.synchronised = false;
    });
    tokio::time::sleep(MINUTE).await;
    assert_eq!(store.handle.newest(2000).await.unwrap().len(), 1200);
    place.clock.set(|hands| hands.synchronised = true);
    tokio::time::sleep(MINUTE).await;
    let left = store.handle.newest(2000).await.unwrap();
    assert_eq!((left.len(), left[0].sequence), (200, 1001), "sent ones go, pending ones stay");
    assert_eq!(sequences(&store.page().await).len(), 200);
    assert_eq!(store.handle.pending_events(10).await.unwrap(), []);
    store.append(1).await;
    assert_eq!(store.handle.latest().await.unwrap().unwrap().sequence, 1201);
    store.stop().await;
}

/// More of them than one step of pruning looks at.
#[tokio::test(start_paused = true)]
async fn readings_of_unknown_time_do_not_keep_the_old_ones_behind_them() {
    let mut place = Place::new();
    place.config.keep = 10 * 24 * 60 * MINUTE;
    without_clock(&place);
    let mut store = place.start();
    store.append(1_100).await;
    store.stop().await;
    booted_again(&place);
    let mut store = place.start_as("second").unwrap();
    store.append(100).await;
    place.clock.advance(20 * 24 * 60 * MINUTE);
    store.append(100).await;
    store.handle.acknowledge(Position { generation: 1, row: 1_300 }).await.unwrap();
    tokio::time::sleep(MINUTE).await;
    let left = store.handle.newest(2_000).await.unwrap();
    assert_eq!((left.len(), left[0].sequence), (100, 1_201));
    store.stop().await;
}
