//! `verify`: its exit status is what a script goes by, so it has to tell a record that is whole from one that is not.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::support::station::binary;
use super::text;

/// A file as a hub exports it: a body a line.
pub fn record(dir: &Path, sequences: &[u64]) -> PathBuf {
    let mut lines = String::new();
    for sequence in sequences {
        let reading = serde_json::json!({
            "deviceId": "roof", "time": format!("2026-07-01T00:00:{sequence:02}.000Z"),
            "currentTemperature": 15.5, "currentHumidity": 50.1, "currentPressure": 101.325,
            "storeId": "st0re", "sequence": sequence,
        });
        writeln!(lines, "{reading}").unwrap();
    }
    let file = dir.join("record.jsonl");
    std::fs::write(&file, lines).unwrap();
    file
}

/// `verify`: the exit status, and what it says.
fn verify(file: &Path) -> (Option<i32>, String) {
    let output = binary().arg("verify").arg(file).output().unwrap();
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

#[test]
fn the_exit_status_says_whether_the_record_is_complete() {
    let dir = tempfile::tempdir().unwrap();
    let (ended, said) = verify(&record(dir.path(), &[1, 2, 3, 4]));
    assert_eq!(ended, Some(0), "{said}");
    assert!(said.contains("complete"), "{said}");

    let (ended, said) = verify(&record(dir.path(), &[1, 2, 4]));
    assert_eq!(ended, Some(1), "one is missing: {said}");
    assert!(said.contains("missing: 3\n"), "it is named: {said}");

    let (ended, said) = verify(&record(dir.path(), &[2, 3]));
    assert_eq!(ended, Some(1), "a store begins at 1: {said}");

    let (ended, said) = verify(&record(dir.path(), &[]));
    assert_eq!(ended, Some(1), "nothing proves nothing: {said}");
}

#[test]
fn a_file_that_is_not_there_is_a_failure_and_named() {
    let (ended, said) = verify(Path::new("/no/such/record.jsonl"));
    assert_eq!(ended, Some(1));
    assert!(said.contains("/no/such/record.jsonl"), "{said}");
}
