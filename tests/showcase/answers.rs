//! What each address answers.

use std::net::SocketAddr;
use std::time::Duration;

use chrono::{DateTime, DurationRound as _, TimeDelta, Utc};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use weather_station::reading::Sample;

use crate::http::{get, send};
use crate::rig;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_station_with_a_year_behind_it_answers_everything() {
    let dir = tempfile::tempdir().unwrap();
    let recorded = rig::record(dir.path(), rig::YEAR, 60.0).await;
    let station = rig::alone(dir.path(), 60.0).await;
    let page = station.page;

    every_answer_has_its_headers_and_no_get_changes_anything(page).await;
    buckets_are_folds_of_what_was_recorded(page, &recorded).await;
    what_cannot_be_asked_is_refused_with_a_reason(page).await;
    the_stream_tells_each_new_reading(page).await;
    a_program_beside_the_station_gets_a_reading(page).await;
    metrics_have_units_and_the_station_s_values(page).await;

    let health = get(page, "/healthz").await;
    assert_eq!((health.status, health.json()["healthy"].as_bool()), (200, Some(true)), "{}", health.text());
}

async fn every_answer_has_its_headers_and_no_get_changes_anything(page: SocketAddr) {
    for path in [
        "/",
        "/app.js",
        "/style.css",
        "/api/status",
        "/api/readings",
        "/metrics",
        "/healthz",
        "/nowhere",
        "/configuration",
    ] {
        let answer = get(page, path).await;
        let policy = answer.header("content-security-policy").unwrap_or_default();
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{path}: {policy}");
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "deny"),
            ("referrer-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{path}");
        }
        assert!(answer.header("cache-control").is_some(), "{path}");
        let text = answer.text();
        assert!(!text.contains("http://1") && !text.contains("https://"), "{path} names an absolute address");
    }
    assert_eq!(get(page, "/nowhere").await.status, 404);
    assert_eq!(get(page, "/api/read").await.status, 405);
    let tag = get(page, "/app.js").await.header("etag").unwrap().to_owned();
    let again =
        format!("GET /app.js HTTP/1.1\r\nhost: {page}\r\nif-none-match: {tag}\r\nconnection: close\r\n\r\n");
    assert_eq!(send(page, &again).await.status, 304);
}

async fn buckets_are_folds_of_what_was_recorded(page: SocketAddr, recorded: &[Sample]) {
    // A stretch in the middle of the two days by five minutes: an hour holds twelve readings.
    let until = recorded.last().unwrap().stamp.time.duration_trunc(TimeDelta::hours(1)).unwrap()
        - TimeDelta::hours(5);
    let since = until - TimeDelta::hours(20);
    let query = format!("/api/readings?since={}&until={}&step=1h", zulu(since), zulu(until));
    let answer = get(page, &query).await;
    let rows = answer.json()["readings"].as_array().cloned().unwrap_or_else(|| panic!("{}", answer.text()));
    assert_eq!(rows.len(), 20);
    for row in rows {
        let begin: DateTime<Utc> = row["time"].as_str().unwrap().parse().unwrap();
        let within: Vec<f64> = recorded
            .iter()
            .filter(|sample| (begin..begin + TimeDelta::hours(1)).contains(&sample.stamp.time))
            .map(|sample| sample.measurement.air_temperature.0)
            .collect();
        let mean = within.iter().sum::<f64>() / within.len() as f64;
        let (low, high) = within
            .iter()
            .fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(*value), high.max(*value)));
        assert_eq!(row["count"].as_u64(), Some(within.len() as u64), "{row}");
        for (key, value) in [("currentTemperature", mean), ("minTemperature", low), ("maxTemperature", high)]
        {
            assert!((row[key].as_f64().unwrap() - value).abs() < 0.011, "{key} of {row} is not {value}");
        }
    }
    // The year as the page asks for it. How fast is the bench's to say; here, in a debug build beside other tests, only
    // that it does not take for ever.
    let year = format!("/api/readings?since={}&step=86400", zulu(until - TimeDelta::days(365)));
    let begin = tokio::time::Instant::now();
    let days = get(page, &year).await.json()["readings"].as_array().map_or(0, Vec::len);
    assert!((364..=367).contains(&days), "{days} days");
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}

async fn what_cannot_be_asked_is_refused_with_a_reason(page: SocketAddr) {
    for (query, reason) in [
        ("since=2020-01-01T00:00:00Z&step=1s", "at most 1500 are given"),
        ("since=tomorrow", "since has to be a time like"),
        ("step=1w", "step has to be a length of time"),
        ("since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z", "has to be before until"),
    ] {
        let answer = get(page, &format!("/api/readings?{query}")).await;
        assert_eq!(answer.status, 400, "{query}");
        assert!(answer.text().contains(reason), "{query}: {}", answer.text());
    }
}

async fn the_stream_tells_each_new_reading(page: SocketAddr) {
    let mut stream = TcpStream::connect(page).await.unwrap();
    stream.write_all(format!("GET /api/stream HTTP/1.1\r\nhost: {page}\r\n\r\n").as_bytes()).await.unwrap();
    let mut lines = BufReader::new(stream).lines();
    let mut seen = Vec::new();
    let listen = async {
        while seen.len() < 3 {
            let line = lines.next_line().await.unwrap().expect("the stream goes on");
            let Some(data) = line.strip_prefix("data: ") else { continue };
            let document: Value = serde_json::from_str(data).unwrap();
            let taken = document["sensor"]["taken"].as_u64().unwrap();
            if seen.last() != Some(&taken) {
                seen.push(taken);
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), listen).await.expect("three readings in 20 s");
    assert!(seen.is_sorted(), "{seen:?}");
}

async fn a_program_beside_the_station_gets_a_reading(page: SocketAddr) {
    let ask = |host: &str, origin: &str| {
        format!(
            "POST /api/read HTTP/1.1\r\nhost: {host}\r\n{origin}content-length: 0\r\nconnection: close\r\n\r\n"
        )
    };
    let reading = send(page, &ask(&page.to_string(), "")).await;
    assert_eq!(reading.status, 200, "{}", reading.text());
    for key in ["currentTemperature", "currentHumidity", "currentPressure", "seaLevelPressure", "dewPoint"] {
        assert!(reading.json()[key].is_number(), "{key} in {}", reading.text());
    }
    for refused in [ask("rebound.example", ""), ask(&page.to_string(), "origin: http://evil.example\r\n")] {
        assert_eq!(send(page, &refused).await.status, 403);
    }
}

async fn metrics_have_units_and_the_station_s_values(page: SocketAddr) {
    let metrics = get(page, "/metrics").await;
    assert!(metrics.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    let text = metrics.text();
    let value = |name: &str| -> f64 {
        let line = text.lines().find(|line| line.starts_with(&format!("weather_station_{name} ")));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
            .unwrap_or_else(|| panic!("{name} in\n{text}"))
    };
    assert!((-40.0..85.0).contains(&value("air_temperature_celsius")));
    assert!((0.0..=1.0).contains(&value("relative_humidity_ratios")));
    assert!((90_000.0..110_000.0).contains(&value("station_pressure_pascals")));
    assert!(value("sea_level_pressure_pascals") > value("station_pressure_pascals"));
    assert!(value("readings_taken_total") >= 1.0 && value("store_size_bytes") > 100_000.0);
    assert!(value("last_reading_timestamp_seconds") > 1.7e9);
    assert_eq!((value("sensor_up"), value("store_up"), value("cloud_online")), (1.0, 1.0, 0.0));
    assert!(
        text.ends_with("# EOF\n") && text.contains("# UNIT weather_station_air_temperature_celsius celsius")
    );
}

fn zulu(time: DateTime<Utc>) -> String {
    time.format("%FT%TZ").to_string()
}
