//! The loop beside a disk that stalls, and what it cannot read.

use std::sync::Arc;

use serde_json::json;
use tokio::sync::{mpsc, watch};
use tracing::Level;

use super::super::super::error::Refusal;
use super::super::Parts;
use super::super::twin::{Change, Request, Twin};
use super::*;
use crate::clock::{SystemClock, Timekeeper};
use crate::config::Config;
use crate::log_lines;
use crate::settings::{Overlay, Settings};
use crate::status::Board;
use crate::store::{self, StoreTask};

/// Steering whose store answers nothing as long as the task is only held.
fn asleep(dir: &std::path::Path) -> (Steering, StoreTask) {
    let mut config = Config::default();
    config.store.path = dir.join("readings.db");
    let timekeeper = Timekeeper::new(Arc::new(SystemClock::new()), chrono::DateTime::UNIX_EPOCH);
    let (task, store) = store::open(&config.store, &timekeeper, "run".into()).unwrap();
    let (settings, _) = watch::channel(Settings::from_file(&config));
    let steering = Steering::new(Parts {
        config: Arc::new(config),
        overlay: Some(Overlay::of(&roof())),
        settings,
        board: Arc::new(Board::default()),
        timekeeper,
        store,
        sensor: mpsc::channel(1).0,
        flush: Arc::default(),
        answer: Duration::from_secs(60),
        seed: 1,
    });
    (steering, task)
}

fn roof() -> Identity {
    Identity { host: "hub.example".into(), device_id: "roof".into() }
}

fn change() -> Change {
    let desired = json!({"sampleInterval": 5}).as_object().cloned().unwrap();
    Change::Whole(Twin { desired, version: 2, ..Twin::default() })
}

#[tokio::test(start_paused = true)]
async fn a_method_is_answered_within_four_seconds_while_the_disk_stalls() {
    let dir = tempfile::tempdir().unwrap();
    let (mut steering, _task) = asleep(dir.path());
    let identity = roof();
    let mut companion = Companion::new(&mut steering, &identity);
    companion.steering.desired.take(change());
    for round in 0..20 {
        let desk = companion.steering.desk.clone();
        let begin = Instant::now();
        companion.running.push(Box::pin(async move {
            let answer = methods::call("getStatus", b"", &desk).await;
            assert_eq!(answer.status, 200);
            (MessageId::Ulong(1), answer)
        }));
        while !companion.running.is_empty() {
            companion.step().await.unwrap();
        }
        assert!(begin.elapsed() < Duration::from_secs(4), "round {round}: {:?}", begin.elapsed());
        // Somewhere else in the write, the time-out and the pause.
        tokio::time::advance(Duration::from_millis(700)).await;
    }
    let answer = &companion.steering.desired.acknowledgements()["sampleInterval"];
    assert_eq!(answer.ac, 202, "in force, and not kept");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_work_for_a_day_is_told_of_each_hour_and_asked_each_minute() {
    let dir = tempfile::tempdir().unwrap();
    let (mut steering, task) = asleep(dir.path());
    drop(task);
    let identity = roof();
    let mut companion = Companion::new(&mut steering, &identity);
    companion.steering.desired.take(change());
    log_lines::take(Level::WARN);
    let begin = Instant::now();
    // An attempt begins and ends, in one step or in two.
    let mut changes = 0;
    while begin.elapsed() < Duration::from_secs(86_400) {
        let before = companion.disk.is_keeping();
        companion.step().await.unwrap();
        changes += u32::from(companion.disk.is_keeping() != before);
    }
    let lines = log_lines::take(Level::WARN);
    assert!(lines.iter().all(|line| line.contains("the twin's values could not be kept")), "{lines:?}");
    assert!((23..=25).contains(&lines.len()), "{}", lines.len());
    assert!(changes > 0 && changes < 3_000, "{changes}");
}

#[tokio::test(start_paused = true)]
async fn links_that_come_and_go_are_told_of_each_hour_and_those_that_a_hub_has_not_got_once() {
    for (condition, lines) in [("amqp:link:detach-forced", 10), ("amqp:not-allowed", 1)] {
        log_lines::take(Level::WARN);
        let mut group = Group::new(Kind::Messages, 1);
        for _ in 0..600 {
            group.lost(&told(condition));
            tokio::time::advance(Duration::from_secs(60)).await;
        }
        assert_eq!(log_lines::take(Level::WARN).len(), lines, "{condition}");
    }
}

fn told(condition: &str) -> CloudError {
    let refusal = Refusal { condition: condition.into(), description: String::new(), retry_after: None };
    CloudError::new("attach the links", Cause::Refused(refusal))
}

#[tokio::test(start_paused = true)]
async fn a_change_of_the_twin_that_cannot_be_decoded_leads_to_another_get() {
    let dir = tempfile::tempdir().unwrap();
    let (mut steering, _task) = asleep(dir.path());
    let identity = roof();
    let mut companion = Companion::new(&mut steering, &identity);
    let nothing = serde_json::Map::new();
    let conversation = &mut companion.conversation;
    let now = Instant::now();
    for body in [&b""[..], br#"{"desired": {"$version": 4}, "reported": {"$version": 1}}"#] {
        let (id, _) = conversation.next(now, &nothing, &[]).unwrap();
        conversation.answered(now, id, Answer { status: 200, version: None, body });
    }
    assert_eq!(conversation.next(now, &nothing, &[]), None, "the twin was read");
    companion.twin(Err(Missed::Unreadable));
    let due = companion.conversation.due(now).expect("it is read again after a while");
    let asked = companion.conversation.next(due, &nothing, &[]);
    assert!(matches!(asked, Some((_, Request::Get))), "{asked:?}");
}
