//! The watchdog is fed while the store's loop turns: it does, whatever the disk is like.

use std::sync::atomic::Ordering;
use std::time::Duration;

use weather_station::status::StoreState;

use crate::disk::{fill_up, in_a_namespace, mount};
use crate::support::{Place, Running};

/// The unit allows a minute without a turn (WatchdogSec).
async fn turns_all_the_time(store: &Running) {
    for third in 0..30 {
        let before = store.turns.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_ne!(store.turns.load(Ordering::Relaxed), before, "no turn in third {third} of a minute");
    }
}

#[tokio::test(start_paused = true)]
async fn the_store_s_loop_turns_while_there_is_nothing_to_do() {
    let place = Place::new();
    let mut store = place.start();
    turns_all_the_time(&store).await;
    store.append(1).await;
    turns_all_the_time(&store).await;
    store.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_store_s_loop_turns_while_there_is_no_disk() {
    let mut place = Place::new();
    place.config.path = place.folder.path().join("absent/readings.db");
    let mut store = place.start();
    store.send(3).await;
    store.status(|status| status.in_memory == 3).await;
    turns_all_the_time(&store).await;
    std::fs::create_dir(place.folder.path().join("absent")).unwrap();
    store.status(|status| status.last_sequence == 3).await;
    store.stop().await;
}

#[test]
fn the_store_s_loop_turns_while_the_disk_is_full() {
    in_a_namespace("turns::inside_the_store_s_loop_turns_while_the_disk_is_full");
}

#[tokio::test(start_paused = true)]
#[ignore = "runs in a mount namespace that the test above makes"]
async fn inside_the_store_s_loop_turns_while_the_disk_is_full() {
    let place = Place::new();
    mount("size=8m", place.folder.path());
    let mut store = place.start();
    store.append(500).await;
    let fill = fill_up(&place);
    let mut sent = 500;
    while store.board.store.borrow().in_memory == 0 {
        store.send(500).await;
        sent += 500;
        assert!(sent < 9_500, "the disk is never full");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    store.status(|status| status.state == StoreState::Failing).await;
    turns_all_the_time(&store).await;
    assert_eq!(store.board.store.borrow().state, StoreState::Failing, "it stayed full");
    std::fs::remove_file(&fill).unwrap();
    store.status(|status| status.last_sequence == sent && status.in_memory == 0).await;
    store.stop().await;
}
