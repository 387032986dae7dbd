//! What is kept over a restart, whose it is, and what is shown of the largest and the strangest message.

use proptest::prelude::*;
use tracing::Level;

use super::*;
use crate::clock::{SystemClock, Timekeeper};
use crate::config::Config;
use crate::log_lines;
use crate::settings::Settings;

fn message(sequence: u64, text: &str) -> ToDevice {
    ToDevice { sequence: Some(sequence), body: text.as_bytes().to_vec(), ..ToDevice::default() }
}

fn texts(board: &Board) -> Vec<String> {
    let status = board.cloud.borrow();
    status.messages.iter().map(|entry| entry["text"].as_str().unwrap().to_owned()).collect()
}

/// A store in this folder, until `asking` is done with it and has closed it.
async fn with_store(dir: &std::path::Path, asking: impl AsyncFnOnce(&StoreHandle)) {
    let mut config = Config::default();
    config.store.path = dir.join("readings.db");
    let timekeeper = Timekeeper::new(Arc::new(SystemClock::new()), DateTime::UNIX_EPOCH);
    let (task, store) = crate::store::open(&config.store, &timekeeper, "run".into()).unwrap();
    let (_, samples_rx) = tokio::sync::mpsc::channel(1);
    let (_settings_tx, settings_rx) = tokio::sync::watch::channel(Settings::from_file(&config));
    let running = task.run(samples_rx, Arc::default(), settings_rx, Arc::default());
    let (ended, ()) = tokio::join!(running, asking(&store));
    ended.unwrap();
}

#[tokio::test]
async fn the_newest_ten_are_kept_over_a_restart_and_a_second_delivery_is_not_shown_twice() {
    let dir = tempfile::tempdir().unwrap();
    let now = DateTime::UNIX_EPOCH;
    for round in 0..2 {
        with_store(dir.path(), async |store| {
            let board = Arc::new(Board::default());
            let inbox = Inbox::new(store.clone(), Arc::clone(&board));
            inbox.load().await;
            if round == 0 {
                for number in 1..=12 {
                    let message = message(number, &format!("hello {number}"));
                    assert_eq!(inbox.take(&message, now).await, Verdict::Accept);
                    assert_eq!(inbox.take(&message, now).await, Verdict::Accept);
                }
            }
            let shown = texts(&board);
            assert_eq!((shown.len(), &*shown[0], &*shown[9]), (10, "hello 12", "hello 3"));
            store.close().await.unwrap();
            // Nothing can be kept any more, so the hub has to keep it.
            if round == 1 {
                log_lines::take(Level::WARN);
                assert_eq!(inbox.take(&message(13, "late"), now).await, Verdict::Later);
                assert_eq!(log_lines::take(Level::WARN), [""; 0], "it is tried again and again");
                assert_eq!(texts(&board).len(), 10);
            }
        })
        .await;
    }
}

#[tokio::test]
async fn what_is_kept_is_shown_to_the_identity_it_was_sent_to_and_to_whoever_comes_first_where_none_is_noted()
{
    let dir = tempfile::tempdir().unwrap();
    let [roof, cellar] =
        ["roof", "cellar"].map(|id| Identity { host: "hub".into(), device_id: id.to_owned() });
    with_store(dir.path(), async |store| {
        let started = async |identity: &Identity| {
            let board = Arc::new(Board::default());
            let mut inbox = Inbox::new(store.clone(), Arc::clone(&board));
            inbox.belongs_to(identity);
            inbox.load().await;
            (inbox, board)
        };
        let now = DateTime::UNIX_EPOCH;
        let of_a_version_before = json!([{"text": "of old"}]).to_string();
        store.set_value(KEY, Some(of_a_version_before)).await.unwrap();
        let (mut inbox, board) = started(&roof).await;
        assert_eq!(inbox.take(&message(1, "for the roof"), now).await, Verdict::Accept);
        assert_eq!(texts(&board), ["for the roof", "of old"]);
        inbox.belongs_to(&cellar);
        assert_eq!(texts(&board), [""; 0]);
        assert_eq!(texts(&started(&roof).await.1), ["for the roof", "of old"]);
        assert_eq!(inbox.take(&message(1, "for the cellar"), now).await, Verdict::Accept);
        assert_eq!(texts(&board), ["for the cellar"]);
        assert_eq!(texts(&started(&cellar).await.1), ["for the cellar"]);
        assert_eq!(texts(&started(&roof).await.1), [""; 0]);
        store.close().await.unwrap();
    })
    .await;
}

#[test]
fn what_is_shown_is_bounded_and_text() {
    let now = DateTime::UNIX_EPOCH;
    let long = ToDevice {
        message_id: Some("i".repeat(1_000)),
        body: "ä".repeat(30_000).into_bytes(),
        properties: (0..100).map(|n| (format!("p{n}"), "v".repeat(5_000).into())).collect(),
        ..ToDevice::default()
    };
    let entry = entry(&long, now).unwrap();
    assert_eq!(entry["shortened"], true);
    assert!(entry.to_string().len() < 8_000);
    // Six bytes each in JSON, and each of three in UTF-8.
    for character in ["\u{1}", "€"] {
        let long = ToDevice {
            message_id: Some(character.repeat(1_000)),
            body: character.repeat(30_000).into_bytes(),
            properties: (0..100)
                .map(|n| (format!("{n}{}", character.repeat(300)), character.repeat(5_000).into()))
                .collect(),
            ..ToDevice::default()
        };
        let entry = super::entry(&long, now).unwrap();
        assert_eq!(entry["shortened"], true);
        assert!((6_000..8_500).contains(&entry.to_string().len()), "{}", entry.to_string().len());
    }
    assert_eq!(super::entry(&ToDevice { body: vec![0xff], ..ToDevice::default() }, now), None);
    let hubs = json!({"iothub-ack": "full", "from": "us"}).as_object().cloned().unwrap();
    let entry = super::entry(&ToDevice { properties: hubs, ..ToDevice::default() }, now).unwrap();
    assert_eq!(entry["properties"], json!({"from": "us"}));
}

proptest! {
    #[test]
    fn no_message_makes_it_panic(body in prop::collection::vec(any::<u8>(), 0..200), id in any::<Option<String>>()) {
        let message = ToDevice { message_id: id, body: body.clone(), ..ToDevice::default() };
        prop_assert_eq!(entry(&message, DateTime::UNIX_EPOCH).is_some(), std::str::from_utf8(&body).is_ok());
    }
}
