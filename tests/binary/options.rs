//! What is said behind a command: each option does what its name says, not what its neighbour's does.

use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, TimeDelta};
use hub_emulator::{Emulator, Options};
use serde_json::Value;
use weather_station::clock::{Clock as _, SystemClock};

use super::support::station::Station;
use super::{command, command_of, lonely, text, with_key_file};

/// `export` with these arguments: when each reading was taken.
fn exported(station: &Station, arguments: &[&str]) -> Vec<String> {
    let output = command_of(station, &[&["export", "--format", "json"], arguments].concat());
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
    let time = |line: &str| serde_json::from_str::<Value>(line).unwrap()["time"].as_str().unwrap().to_owned();
    text(&output.stdout).lines().map(time).collect()
}

#[tokio::test]
async fn export_begins_at_since_and_ends_before_until() {
    let dir = tempfile::tempdir().unwrap();
    let mut station = Station::start(dir.path(), &lonely(dir.path()));
    station
        .until("four readings", Duration::from_secs(20), |status| {
            status["store"]["lastSequence"].as_u64() >= Some(4)
        })
        .await;
    station.terminate();
    station.wait(Duration::from_secs(10)).await;
    let all = exported(&station, &[]);
    let third = all[2].as_str();
    assert_eq!(exported(&station, &["--since", third]), all[2..]);
    assert_eq!(exported(&station, &["--until", third]), all[..2]);
    assert_eq!(exported(&station, &["--since", &all[1], "--until", third]), all[1..2]);
    assert_eq!(exported(&station, &["--since", "1h"]), all, "how long ago");
    assert!(exported(&station, &["--until", "1h"]).is_empty());
    let tomorrow = (SystemClock::new().wall() + TimeDelta::days(1)).format("%Y-%m-%d").to_string();
    assert_eq!(exported(&station, &["--until", &tomorrow]), all, "a day");
    assert!(exported(&station, &["--since", &tomorrow]).is_empty());
}

/// Only the page by which the twin's values are found is damaged.
#[tokio::test]
async fn export_gives_the_readings_of_a_store_whose_kept_values_cannot_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut station = Station::start(dir.path(), &lonely(dir.path()));
    let stored =
        |status: &Value| status["store"]["lastSequence"].as_u64().is_some_and(|sequence| sequence >= 2);
    station.until("two readings", Duration::from_secs(20), stored).await;
    station.terminate();
    station.wait(Duration::from_secs(10)).await;
    let all = exported(&station, &[]);
    let path = dir.path().join("readings.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    let number =
        |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap().cast_unsigned();
    let page = number("SELECT rootpage FROM sqlite_schema WHERE tbl_name = 'value' AND type = 'index'");
    let size = number("PRAGMA page_size");
    drop(connection);
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(
        &file,
        &vec![0xff; usize::try_from(size).unwrap()],
        (page - 1) * size,
    )
    .unwrap();
    assert_eq!(exported(&station, &[]), all);
    let said = command_of(&station, &["export"]);
    assert!(text(&said.stderr).contains("the file's values hold"), "{}", text(&said.stderr));
}

/// `token`: how long the token lives from now on.
fn life(dir: &Path, config: &str, arguments: &[&str]) -> TimeDelta {
    let output = command(dir, config, &[&["token"], arguments].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let token = text(&output.stdout);
    let expiry = token.trim().split('&').find_map(|part| part.strip_prefix("se=")).unwrap();
    DateTime::from_timestamp(expiry.parse().unwrap(), 0).unwrap() - SystemClock::new().wall()
}

#[test]
fn a_token_holds_for_an_hour_or_as_long_as_it_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Emulator::start(Options::default()).unwrap();
    let config = with_key_file(dir.path(), &hub);
    for (arguments, minutes) in
        [(&[][..], 60), (&["--lifetime", "15m"], 15), (&["--lifetime", "24h"], 24 * 60)]
    {
        let life = life(dir.path(), &config, arguments);
        let about = TimeDelta::minutes(minutes) - TimeDelta::minutes(1)..=TimeDelta::minutes(minutes);
        assert!(about.contains(&life), "{arguments:?}: {life}");
    }
    let refused = command(dir.path(), &config, &["token", "--lifetime", "25h"]);
    assert_eq!(refused.status.code(), Some(64), "{}", text(&refused.stderr));
}

#[test]
fn show_tells_which_device_a_key_file_holds_and_not_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Emulator::start(Options::default()).unwrap();
    let config = with_key_file(dir.path(), &hub);
    let shown = command(dir.path(), &config, &["provision", "--show"]);
    let words = text(&shown.stdout);
    assert_eq!(shown.status.code(), Some(0), "{}", text(&shown.stderr));
    let file = dir.path().join("identity");
    let lines: Vec<_> = words.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
    let wanted =
        [&["host", "localhost"][..], &["device", "id", "roof"], &["key", "file", file.to_str().unwrap()]];
    assert!(wanted.iter().all(|line| lines.iter().any(|found| found == line)), "{words}");
    let string = std::fs::read_to_string(&file).unwrap();
    let key = string.split("SharedAccessKey=").nth(1).unwrap().trim();
    assert!(!words.contains(key), "{words}");

    std::fs::remove_file(&file).unwrap();
    for arguments in [&["provision", "--show"][..], &["check"]] {
        let output = command(dir.path(), &config, arguments);
        let said = text(&output.stderr) + &text(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains(&format!("reading the key file {}", file.display())), "{arguments:?}: {said}");
        assert!(!said.contains("provision --show") && !said.contains("TPM holds"), "{arguments:?}: {said}");
    }
}
