//! Every parser of bytes from the hub reads everything in `tests/data/hostile`.

use std::path::Path;

use chrono::DateTime;

use super::methods::{self, Method};
use super::twin::{Answer, Change, Conversation, Request};
use super::{inbox, json, wire};
use crate::config::Config;
use crate::identity::Identity;
use crate::settings::{Overlay, Property, Settings};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/hostile");

fn corpus() -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(Path::new(FOLDER))
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
        .collect();
    files.push((
        "large".into(),
        format!("{{\"pad\":\"{}\",\"$version\":9}}", "x".repeat(1 << 20)).into_bytes(),
    ));
    assert!(files.len() > 30, "the corpus is there");
    files
}

/// Files that are JSON after all, as strange as they are.
const READABLE: [&str; 19] = [
    "array.json",
    "deep-but-allowed.json",
    "desired-array.json",
    "fractions.json",
    "illegal-names.json",
    "many-unknown-names.json",
    "negative-zero.json",
    "null.json",
    "out-of-range.json",
    "reported-text.json",
    "since-before-time.json",
    "since-leap.json",
    "since-strange.json",
    "text.json",
    "version-huge.json",
    "version-missing.json",
    "version-negative.json",
    "version-text.json",
    "wrong-types.json",
];

#[test]
fn what_is_no_json_is_refused_and_what_is_strange_is_read() {
    for (name, bytes) in corpus() {
        let read = json::parse(&bytes, 256 << 10);
        assert_eq!(read.is_ok(), READABLE.contains(&&*name), "{name}: {read:?}");
        if let Err(error) = read {
            assert!(error.to_string().len() < 120, "{name}: {error}");
        }
    }
}

#[test]
fn no_body_of_a_twin_or_of_a_change_leaves_a_setting_out_of_its_range() {
    let file = Settings::from_file(&Config::default());
    let identity = Identity { host: "hub.example".into(), device_id: "roof".into() };
    for (name, bytes) in corpus() {
        let now = tokio::time::Instant::now();
        let mut conversation = Conversation::new(std::time::Duration::from_secs(60), 1, now);
        let mut overlay = Overlay::of(&identity);
        let answer = |body| Answer { status: 200, version: Some(1), body };
        let (id, _) = conversation.next(now, &serde_json::Map::new(), &[]).unwrap();
        conversation.answered(now, id, answer(b""));
        let (id, request) = conversation.next(now, &serde_json::Map::new(), &[]).unwrap();
        assert_eq!(request, Request::Get);
        let mut changes = conversation.pushed(now, &bytes, Some(2));
        changes.extend(conversation.answered(now, id, answer(&bytes)));
        changes.extend(conversation.pushed(now, &bytes, None));
        for change in changes {
            match change {
                Change::Whole(twin) => drop(overlay.take_whole(&twin.desired, twin.version, &file)),
                Change::Patch(push) => drop(overlay.take_patch(&push.patch, push.version, &file)),
            }
        }
        let settings = overlay.settings(&file);
        for property in Property::ALL {
            let value = property.in_force(&settings);
            let mut trial = file.clone();
            assert!(value.is_null() || property.apply(&value, &file, &mut trial).is_ok(), "{name}: {value}");
        }
        let answers = serde_json::to_vec(&overlay.acknowledgements(&file, None)).unwrap();
        assert!(answers.len() < 8 << 10, "{name}: {} bytes of answers", answers.len());
    }
}

#[tokio::test(start_paused = true)]
async fn no_payload_of_a_method_is_worse_than_a_refusal() {
    let bench = methods::bench();
    for (name, bytes) in corpus() {
        for method in Method::ALL {
            let answer = methods::call(method.name(), &bytes, &bench.desk).await;
            // 500 and 504: nobody is at the other end of the channels of this bench.
            let nothing = ["empty.json", "space.json", "null.json"].contains(&&*name);
            assert!(answer.status == 400 || nothing || method == Method::GetReport, "{name}: {answer:?}");
            assert!(answer.body.to_string().len() < 8 << 10, "{name}: {answer:?}");
        }
    }
}

#[test]
fn a_message_is_shown_as_text_or_rejected() {
    for (name, body) in corpus() {
        let is_text = std::str::from_utf8(&body).is_ok();
        let message = wire::ToDevice { body, ..wire::ToDevice::default() };
        let entry = inbox::entry(&message, DateTime::UNIX_EPOCH);
        assert_eq!(entry.is_some(), is_text, "{name}");
        assert!(entry.is_none_or(|entry| entry.to_string().len() < 20 << 10), "{name}");
    }
}
