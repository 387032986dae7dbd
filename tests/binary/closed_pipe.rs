//! `check | head -1` and `verify | grep -q`: whoever asks stops reading, and goes by the exit status all the same.

use std::path::Path;
use std::process::Stdio;

use super::lonely;
use super::support::station::binary;
use super::verify::record;

/// The exit status with a standard output that nobody reads.
fn unread(arguments: &[&str]) -> Option<i32> {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = binary();
    command.args(arguments).stdout(writer).stderr(Stdio::null());
    command.status().unwrap().code()
}

#[test]
fn a_check_that_nobody_reads_to_its_end_says_by_its_status_what_it_found() {
    let dir = tempfile::tempdir().unwrap();
    let without_tpm = dir.path().join("without-tpm.toml");
    std::fs::write(&without_tpm, lonely(dir.path()) + "[showcase]\nlisten = \"\"\n").unwrap();
    let wrong = dir.path().join("wrong.toml");
    std::fs::write(&wrong, "[sensor]\ninterval = \"0s\"\n").unwrap();
    for more in [&["check"][..], &["check", "--json"]] {
        let ended = |file: &Path| unread(&[&["--config", file.to_str().unwrap()], more].concat());
        assert_eq!(ended(&without_tpm), Some(1), "{more:?}: it has no TPM");
        assert_eq!(ended(&wrong), Some(78), "{more:?}: a wrong configuration");
    }
}

#[test]
fn a_verification_that_nobody_reads_to_its_end_says_by_its_status_what_it_found() {
    let dir = tempfile::tempdir().unwrap();
    for (sequences, status) in [([1, 2, 3], 0), ([1, 2, 4], 1)] {
        let file = record(dir.path(), &sequences);
        assert_eq!(unread(&["verify", file.to_str().unwrap()]), Some(status), "{sequences:?}");
    }
}
