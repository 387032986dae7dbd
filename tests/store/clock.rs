//! What the clock is taken for: its states, its jumps, and what is pruned by it.

use std::time::Duration;

use chrono::TimeDelta;
use weather_station::clock::ClockState;
use weather_station::store::Position;

use crate::support::{Place, date, sequences, times};

const MINUTE: Duration = Duration::from_secs(60);

/// A reading, a power cut, and a clock that starts so far before it.
async fn power_cut(place: &Place, before: TimeDelta) {
    let mut store = place.start();
    store.append(1).await;
    store.stop().await;
    place.clock.set(|hands| {
        hands.wall -= before;
        hands.since_boot = Duration::from_secs(10);
        hands.boot = 2;
        hands.synchronised = false;
    });
}

#[tokio::test(start_paused = true)]
async fn a_clock_before_the_newest_synchronised_reading_is_wrong() {
    let place = Place::new();
    power_cut(&place, TimeDelta::days(31)).await;
    assert_eq!(place.clock.timekeeper().state(), ClockState::Plausible);
    let store = place.start_as("second").unwrap();
    assert_eq!(store.timekeeper.state(), ClockState::Wrong);
    store.stop().await;
}

/// The power cut has damaged the store as well: what it knew of the clock is not lost with it.
#[tokio::test(start_paused = true)]
async fn a_store_that_takes_the_place_of_a_damaged_one_knows_what_that_knew_of_the_clock() {
    let place = Place::new();
    power_cut(&place, TimeDelta::minutes(5)).await;
    place.be_of_a_later_version();
    for run in ["second", "third"] {
        let mut store = place.start_as(run).unwrap();
        assert_eq!(store.timekeeper.state(), ClockState::Wrong, "in the {run} run");
        store.status(|status| status.pending > 0).await;
        store.append(1).await;
        assert_eq!(sequences(&store.page().await), [1], "a reading of unknown time went out");
        store.stop().await;
    }
}

/// The run that finds the damage begins when the wrong clock has passed the newest reading already.
#[tokio::test(start_paused = true)]
async fn that_the_clock_of_this_boot_was_found_wrong_is_known_after_a_damage_too() {
    let place = Place::new();
    power_cut(&place, TimeDelta::minutes(5)).await;
    let mut store = place.start_as("second").unwrap();
    for _ in 0..3 {
        store.append(1).await;
        place.clock.advance(5 * MINUTE);
    }
    store.stop().await;
    place.be_of_a_later_version();
    let store = place.start_as("third").unwrap();
    assert_eq!(store.timekeeper.state(), ClockState::Wrong, "{:?}", store.timekeeper.status());
    store.status(|status| status.pending == 4).await;
    assert_eq!(sequences(&store.page().await), [1], "a reading of unknown time went out");
    store.stop().await;
    // All is salvaged: the file that knew it is looked at no more.
    place.clock.advance(5 * MINUTE);
    let mut store = place.start_as("fourth").unwrap();
    assert_eq!(store.timekeeper.state(), ClockState::Wrong, "{:?}", store.timekeeper.status());
    place.clock.synchronise("2026-06-01T14:00:00Z");
    store.append(1).await;
    store.stop().await;
    // It was wrong then, which says nothing against it now.
    place.clock.lose_synchronisation();
    let store = place.start_as("fifth").unwrap();
    assert_eq!(store.timekeeper.state(), ClockState::Plausible, "{:?}", store.timekeeper.status());
    store.stop().await;
}

/// Power and network are away; the clock starts where it was last saved, a few minutes before the newest reading.
#[tokio::test(start_paused = true)]
async fn a_wrong_clock_does_not_become_right_by_running_on() {
    let place = Place::new();
    power_cut(&place, TimeDelta::minutes(5)).await;
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
    place.clock.synchronise("2026-06-01T15:40:00Z");
    tokio::time::sleep(MINUTE).await;
    let page = store.page().await;
    let expected =
        ["2026-06-01T12:00:00Z", "2026-06-01T15:00:00Z", "2026-06-01T15:20:00Z", "2026-06-01T15:40:00Z"];
    assert_eq!(times(&page), expected.map(date));
    store.stop().await;
}

/// Somebody sets it by hand, or a real-time clock is read late: nobody says that it is synchronised.
#[tokio::test(start_paused = true)]
async fn a_wrong_clock_that_is_set_is_plausible() {
    let place = Place::new();
    power_cut(&place, TimeDelta::minutes(5)).await;
    let store = place.start_as("second").unwrap();
    assert_eq!(store.timekeeper.state(), ClockState::Wrong);
    place.clock.advance(20 * MINUTE);
    place.clock.set(|hands| hands.wall += TimeDelta::minutes(5));
    assert_eq!(store.timekeeper.state(), ClockState::Plausible, "{:?}", store.timekeeper.status());
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

/// A time server that is ten years ahead for a minute, and then right.
#[tokio::test(start_paused = true)]
async fn a_time_that_the_kernel_takes_back_is_not_held_against_a_right_clock() {
    let place = Place::new();
    let mut store = place.start();
    place.clock.synchronise("2036-06-01T12:00:00Z");
    store.append(1).await;
    place.clock.synchronise("2026-06-01T12:01:00Z");
    store.append(1).await;
    place.clock.lose_synchronisation();
    assert_eq!(store.timekeeper.state(), ClockState::Plausible, "{:?}", store.timekeeper.status());
    assert_eq!(store.timekeeper.least_answer(), date("2026-06-01T12:01:00Z"));
    store.stop().await;
    // Another boot, without a network; and then in a store that was damaged.
    for boot in [2, 3, 4] {
        place.clock.set(|hands| {
            hands.wall += TimeDelta::minutes(5);
            hands.since_boot = Duration::from_secs(10);
            hands.boot = boot;
        });
        let store = place.start_as("later").unwrap();
        assert_eq!(store.timekeeper.state(), ClockState::Plausible, "{:?}", store.timekeeper.status());
        store.status(|status| status.pending == 2).await;
        // What it was right about stands.
        place.clock.set(|hands| hands.wall -= TimeDelta::hours(1));
        assert_eq!(store.timekeeper.state(), ClockState::Wrong, "{:?}", store.timekeeper.status());
        place.clock.set(|hands| hands.wall += TimeDelta::hours(1));
        store.stop().await;
        if boot == 2 {
            place.be_of_a_later_version();
        }
    }
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
    place.clock.boot_without_a_clock();
    let mut store = place.start();
    store.append(1_100).await;
    store.stop().await;
    place.clock.boot_with_a_clock();
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
