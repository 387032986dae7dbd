//! `read`: whose reading it is, beside a station and without one.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::Duration;

use serde_json::Value;

use super::support::station::Station;
use super::{command, command_of, lonely, text};

#[tokio::test]
async fn read_beside_a_station_is_a_reading_of_that_station() {
    let dir = tempfile::tempdir().unwrap();
    let config = lonely(dir.path()).replace("interval = \"1s\"", "interval = \"1h\"");
    let station = Station::start(dir.path(), &config);
    let stored = async |count: u64| {
        station
            .until("it is stored", Duration::from_secs(15), |status| status["store"]["lastSequence"] == count)
            .await
    };
    stored(1).await;
    let read = command_of(&station, &["read", "--json"]);
    assert_eq!(read.status.code(), Some(0), "{}", text(&read.stderr));
    let reading: Value = serde_json::from_slice(&read.stdout).unwrap();
    let status = stored(2).await;
    let last = &status["sensor"]["lastReading"];
    for key in ["time", "currentTemperature", "currentHumidity", "currentPressure"] {
        assert_eq!(reading[key], last[key], "{key}");
    }
    let in_words = text(&command_of(&station, &["read"]).stdout);
    assert!(in_words.starts_with("time ") && in_words.contains(" kPa\n"), "{in_words}");
    stored(3).await;
}

/// Answers every request with this, for as long as the test runs.
pub fn another_program(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // One read takes the short request whole.
            let _request = stream.read(&mut [0; 4096]).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    address.to_string()
}

#[test]
fn without_a_station_what_another_program_answers_on_its_port_keeps_nobody_from_the_sensor() {
    let dir = tempfile::tempdir().unwrap();
    let read = |answer| {
        let config = format!("{}[showcase]\nlisten = \"{}\"\n", lonely(dir.path()), another_program(answer));
        command(dir.path(), &config, &["read", "--json"])
    };
    for answer in [
        "HTTP/1.1 501 Not Implemented\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\n\r\n<title>My printer</title>",
        "HTTP/1.1 404 Not Found\r\nconnection: close\r\n\r\n{\"error\": \"no such page\"}",
        "no HTTP at all\n",
    ] {
        let output = read(answer);
        assert_eq!(output.status.code(), Some(0), "{answer}: {}", text(&output.stderr));
        let reading: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(reading["currentTemperature"].is_number(), "{answer}: {reading}");
    }
    // Whether a station runs cannot always be told from its lock: what only a station says is believed.
    let output =
        read("HTTP/1.1 502 Bad Gateway\r\nconnection: close\r\n\r\n{\"error\": \"no answer at 0x76\"}");
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    assert!(text(&output.stderr).contains("no answer at 0x76"), "{}", text(&output.stderr));
}

#[test]
fn read_needs_no_store_and_says_when_it_cannot_ask_one() {
    let dir = tempfile::tempdir().unwrap();
    let config = format!("{}[showcase]\nlisten = \"\"\n", lonely(dir.path()));
    let read = || {
        let output = command(dir.path(), &config, &["read", "--json"]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let reading: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(reading["currentTemperature"].is_number(), "{reading}");
        text(&output.stderr)
    };
    assert_eq!(read(), "");
    let left = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(left, 1, "it made files of its own beside the configuration");
    std::fs::write(dir.path().join("readings.db"), "no database").unwrap();
    let said = read();
    assert!(said.contains("the file's values hold"), "{said}");
}
