//! Full, missing and read-only disks, and memory as the last resort.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use weather_station::reading::FromSensor;
use weather_station::status::StoreState;
use weather_station::store::Position;

use crate::support::{Place, Running, sequences};

#[tokio::test(start_paused = true)]
async fn a_missing_folder_is_visible_and_healed_when_it_comes() {
    let mut place = Place::new();
    place.config.path = place.folder.path().join("absent/readings.db");
    let mut store = place.start();
    store.send(20).await;
    let status = store.status(|status| status.in_memory == 20).await;
    assert_eq!(status.state, StoreState::Failing);
    assert!(status.reason.unwrap().starts_with("could not open the lock file "));
    assert!(store.handle.pending(None, 10).await.is_err());
    std::fs::create_dir(place.folder.path().join("absent")).unwrap();
    let status = store.status(|status| status.last_sequence == 20).await;
    assert_eq!((status.state, status.in_memory), (StoreState::Ok, 0));
    assert_eq!(sequences(&store.page().await), (1..=20).collect::<Vec<_>>());
    store.stop().await;
}

/// No reading waited, so there was no trouble to end: the event is put on disk with the next reading.
#[tokio::test(start_paused = true)]
async fn an_event_that_waited_for_the_disk_is_kept() {
    let mut place = Place::new();
    place.config.path = place.folder.path().join("absent/readings.db");
    let mut store = place.start();
    let stamp = store.timekeeper.stamp();
    let missed = FromSensor::Missed { count: 3, from: stamp, until: stamp, reason: "no answer".into() };
    store.samples.send(missed).await.unwrap();
    store.status(|status| status.state == StoreState::Failing).await;
    std::fs::create_dir(place.folder.path().join("absent")).unwrap();
    store.status(|status| status.state == StoreState::Ok).await;
    store.append(1).await;
    let events = store.handle.pending_events(10).await.unwrap();
    assert_eq!((events.len(), &events[0].fields["count"]), (1, &3.into()));
    store.stop().await;
}

/// Waits until all that was sent is in memory, or fell out of it.
async fn fill_memory(store: &Running) {
    while store.samples.capacity() < store.samples.max_capacity() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    // Answered after the last of them was taken.
    store.handle.pending_events(10).await.unwrap_err();
    store.status(|status| status.in_memory == 10_000).await;
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_into_memory_either_is_told() {
    let mut place = Place::new();
    place.config.path = place.folder.path().join("absent/readings.db");
    let mut store = place.start();
    store.send(10_050).await;
    fill_memory(&store).await;
    std::fs::create_dir(place.folder.path().join("absent")).unwrap();
    store.status(|status| status.last_sequence == 10_000).await;
    let events = store.events().await;
    assert_eq!((events[0].kind.as_str(), &events[0].fields["count"]), ("missedSamples", &50.into()));
    store.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_did_not_fit_into_memory_is_told_by_the_clock_that_is_right_by_then() {
    let mut place = Place::new();
    place.config.path = place.folder.path().join("absent/readings.db");
    place.clock.boot_without_a_clock();
    let mut store = place.start();
    store.send(10_020).await;
    fill_memory(&store).await;
    place.clock.synchronise("2026-06-01T12:00:00Z");
    std::fs::create_dir(place.folder.path().join("absent")).unwrap();
    store.status(|status| status.last_sequence == 10_000).await;
    let events = store.events().await;
    let fields = &events[0].fields;
    for moment in ["from", "until"] {
        assert_eq!(fields[moment], "2026-06-01T12:00:00.000Z", "{fields:?}");
    }
    store.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_database_that_was_taken_away_is_begun_anew() {
    let place = Place::new();
    let mut store = place.start();
    store.append(3).await;
    store.handle.record_event("missedSamples", serde_json::Map::new()).await.unwrap();
    let of_the_old = store.page().await.end;
    let old = store.board.store.borrow().store_id.clone();
    for ending in ["", "-wal"] {
        std::fs::remove_file(place.beside(ending)).unwrap();
    }
    store.status(|status| status.store_id != old && status.state == StoreState::Ok).await;
    store.append(2).await;
    assert_eq!(sequences(&store.page().await), [1, 2]);
    store.handle.record_event("missedSamples", serde_json::Map::new()).await.unwrap();
    // Whoever was sending goes on where it was, and what it sent is accepted only now.
    assert_eq!(sequences(&store.handle.pending(Some(of_the_old), 10).await.unwrap()), [1, 2]);
    store.handle.acknowledge(of_the_old).await.unwrap();
    store.handle.acknowledge_events(1).await.unwrap();
    assert_eq!(
        sequences(&store.page().await),
        [1, 2],
        "the old store's acknowledgement moved the new watermark"
    );
    assert_eq!(store.handle.pending_events(10).await.unwrap().len(), 1);
    store.stop().await;
}

#[tokio::test]
async fn a_grouped_reading_is_handed_out_only_when_it_is_on_disk() {
    let mut place = Place::new();
    place.config.max_loss = Duration::from_millis(300);
    let mut store = place.start();
    store.send(3).await;
    store.status(|status| status.in_memory == 3).await;
    assert!(store.page().await.readings.is_empty());
    store.synced(3).await;
    assert_eq!(sequences(&store.page().await), [1, 2, 3]);
    // What is in memory at the stop is synced.
    store.send(2).await;
    store.stop().await;
    let store = place.start_as("second").unwrap();
    assert_eq!(sequences(&store.page().await), [1, 2, 3, 4, 5]);
    store.stop().await;
}

/// Runs a test in a mount namespace of its own, where it may mount.
pub fn in_a_namespace(test: &str) {
    // Root needs no user namespace, and in a changed root the kernel gives none.
    let namespaces: &[&str] =
        if rustix::process::geteuid().is_root() { &["--mount"] } else { &["--map-root-user", "--mount"] };
    let output = Command::new("unshare")
        .args(namespaces)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

pub fn mount(options: &str, at: &Path) {
    let status = Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(at).status().unwrap();
    assert!(status.success(), "mounting needs a user namespace, or root");
}

/// Uses up what the disk of the place has left.
pub fn fill_up(place: &Place) -> std::path::PathBuf {
    let path = place.folder.path().join("others");
    let mut chunk = 1 << 20;
    let mut file = std::fs::File::create(&path).unwrap();
    while chunk > 0 {
        if std::io::Write::write_all(&mut file, &vec![1; chunk]).is_err() {
            chunk /= 2;
        }
    }
    path
}

#[test]
fn a_start_on_a_full_disk() {
    in_a_namespace("disk::inside_a_start_on_a_full_disk");
}

#[tokio::test]
#[ignore = "runs in a mount namespace that the test above makes"]
async fn inside_a_start_on_a_full_disk() {
    let place = Place::new();
    mount("size=8m", place.folder.path());
    let mut store = place.start();
    store.append(2_000).await;
    store.handle.acknowledge(Position { generation: 1, row: 1_000 }).await.unwrap();
    store.stop().await;
    assert!(place.beside(".ballast").exists());
    fill_up(&place);
    let mut store = place.start_as("second").unwrap();
    store.append(300).await;
    let status = store.status(|status| status.last_sequence == 2_300).await;
    assert_eq!((status.state, status.in_memory, status.pending), (StoreState::Ok, 0, 1_300));
    assert_eq!(sequences(&store.page().await)[0], 1_001);
    store.stop().await;
}

#[test]
fn a_disk_filled_by_others() {
    in_a_namespace("disk::inside_a_disk_filled_by_others");
}

#[tokio::test]
#[ignore = "runs in a mount namespace that the test above makes"]
async fn inside_a_disk_filled_by_others() {
    let place = Place::new();
    mount("size=8m", place.folder.path());
    let mut store = place.start();
    store.append(2_000).await;
    store.handle.acknowledge(Position { generation: 1, row: 1_000 }).await.unwrap();
    assert!(place.beside(".ballast").exists());
    // A copy of a store that was damaged once.
    let aside = place.beside(".set-aside-20260101T000000000Z");
    std::fs::write(&aside, vec![1; 100_000]).unwrap();
    let fill = fill_up(&place);
    let mut stored = 2_000;
    while aside.exists() {
        store.append(50).await;
        stored += 50;
        assert!(stored < 9_000, "the copy stays");
    }
    let kept = store.handle.newest(10_000).await.unwrap().len();
    assert_eq!(kept as u64, stored, "a reading went before the copy");
    store.send(11_000).await;
    let status = store.status(|status| status.state == StoreState::Failing && status.in_memory > 0).await;
    assert!(status.reason.unwrap().contains("full"), "the trouble is not named");
    assert!(status.last_sequence > 2_000, "the ballast and the sent readings gave no room");
    assert!(!place.beside(".ballast").exists());
    assert_eq!(
        sequences(&store.page().await)[0],
        1_001,
        "a pending reading was let go while there was memory"
    );
    std::fs::remove_file(&fill).unwrap();
    let status = store.status(|status| status.last_sequence == stored + 11_000).await;
    assert_eq!((status.state, status.in_memory, status.pending), (StoreState::Ok, 0, stored + 10_000));
    assert_eq!(store.handle.pending_events(10).await.unwrap(), []);
    // And new ballast is taken on.
    let taken_on = async {
        while !place.beside(".ballast").exists() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), taken_on).await.unwrap();
    store.stop().await;
}

#[test]
fn a_long_journal_on_a_full_disk() {
    in_a_namespace("disk::inside_a_long_journal_on_a_full_disk");
}

/// The check of the whole file has made it long. That it cannot be copied now costs no reading, for there is room in it,
/// and no writing.
#[tokio::test(start_paused = true)]
#[ignore = "runs in a mount namespace that the test above makes"]
async fn inside_a_long_journal_on_a_full_disk() {
    let mut place = Place::new();
    place.config.max_size = 2 << 20;
    mount("size=8m", place.folder.path());
    let mut store = place.start();
    store.append(3_000).await;
    store.handle.acknowledge(Position { generation: 1, row: 3_000 }).await.unwrap();
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let check = Connection::open_with_flags_and_vfs(place.path(), flags, "unix-excl").unwrap();
    check.execute_batch("BEGIN; SELECT count(*) FROM reading;").unwrap();
    let mut taken = 3_000;
    while std::fs::metadata(place.beside("-wal")).unwrap().len() <= 1 << 20 {
        store.append(1).await;
        taken += 1;
    }
    fill_up(&place);
    drop(check);
    let written = || std::fs::metadata(place.path()).unwrap().modified().unwrap();
    let before = written();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(written(), before, "pages are written that have to be written again");
    let kept = store.handle.newest(10_000).await.unwrap().len();
    assert_eq!(kept, taken, "sent readings went");
    assert!(place.beside(".ballast").exists());
    store.stop().await;
}

#[test]
fn a_file_system_that_cannot_be_written_to() {
    in_a_namespace("disk::inside_a_file_system_that_cannot_be_written_to");
}

#[tokio::test(start_paused = true)]
#[ignore = "runs in a mount namespace that the test above makes"]
async fn inside_a_file_system_that_cannot_be_written_to() {
    let place = Place::new();
    mount("size=8m", place.folder.path());
    let mut store = place.start();
    store.append(5).await;
    store.stop().await;
    mount("remount,ro", place.folder.path());
    let mut store = place.start_as("second").unwrap();
    store.send(5).await;
    let status = store.status(|status| status.in_memory == 5).await;
    assert_eq!(status.state, StoreState::Failing);
    mount("remount,rw", place.folder.path());
    store.status(|status| status.last_sequence == 10 && status.state == StoreState::Ok).await;
    assert_eq!(sequences(&store.page().await), (1..=10).collect::<Vec<_>>());
    store.stop().await;
}
