//! `/healthz` as whoever watches the station meets it; when it complains is tried beside it, by a clock that the test
//! sets.

use std::time::Duration;

use crate::http::get;
use crate::rig;
use crate::support::station::Station;

#[tokio::test]
async fn a_station_that_cannot_store_is_answered_with_503_and_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let config = rig::config(dir.path(), 60.0).replace("readings.db", "no-such-folder/readings.db")
        + "[identity]\ntcti = \"swtpm:host=127.0.0.1,port=1\"\n";
    let station = Station::start(dir.path(), &config);
    let failing = |status: &serde_json::Value| status["store"]["state"] == "failing";
    let status = station.until("the store fails", Duration::from_secs(20), failing).await;
    let answer = get(station.page, "/healthz").await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    let body = answer.json();
    assert_eq!(body["healthy"], false);
    let complaints = body["complaints"].as_array().unwrap();
    assert!(complaints.contains(&status["store"]["reason"]), "{body}");
}

#[tokio::test]
async fn a_station_that_samples_and_stores_is_answered_with_200() {
    let dir = tempfile::tempdir().unwrap();
    let station = rig::alone(dir.path(), 60.0).await;
    let answer = get(station.page, "/healthz").await;
    assert_eq!((answer.status, answer.json()["healthy"].as_bool()), (200, Some(true)), "{}", answer.text());
}
