//! `read`: whose reading it is, beside a station and without one.

use std::time::Duration;

use serde_json::Value;

use super::support::station::Station;
use super::{command_of, lonely, text};

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
