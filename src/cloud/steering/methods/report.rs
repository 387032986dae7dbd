//! `getReport`: least, greatest and mean value of each quantity since a time, from the store's history. Knows no SQL.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::super::json;
use super::{Answer, Desk};
use crate::observation::rfc3339;
use crate::store::{Bucket, Spread};

/// Buckets that the store is asked for at most.
const MOST: i64 = 1_500;
/// Steps (in seconds) that divide each other, so that closed buckets can be used.
const STEPS: [i64; 8] = [1, 10, 60, 600, 3_600, 21_600, 86_400, 604_800];

/// `payload`: the time as RFC 3339, or an object `{"since": time}`.
pub(super) async fn get(payload: &Value, desk: &Desk) -> Answer {
    let now = desk.timekeeper.now();
    let since = match since(payload, now) {
        Ok(since) => since,
        Err(reason) => return Answer::error(400, reason),
    };
    match desk.store.history(since, now, step(since, now)).await {
        Ok(buckets) => Answer { status: 200, body: body(since, now, &buckets) },
        Err(error) => Answer::error(500, format!("could not read the history: {error}")),
    }
}

fn since(payload: &Value, now: DateTime<Utc>) -> Result<DateTime<Utc>, String> {
    const EXPECTED: &str = "expected a time such as \"2026-01-31T00:00:00Z\"";
    let time = match payload {
        Value::Object(members) if members.len() == 1 => members.get("since"),
        Value::Object(_) => None,
        other => Some(other),
    };
    let Some(time) = time else {
        return Err(format!("the payload has to be {{\"since\": time}}, {EXPECTED}"));
    };
    let Some(text) = time.as_str() else {
        return Err(format!("`since` is {}, {EXPECTED}", json::kind(time)));
    };
    let since = DateTime::parse_from_rfc3339(text)
        .map_err(|error| format!("`since` is no time ({error}), {EXPECTED}"))?
        .to_utc();
    if since >= now {
        return Err(format!("`since` is in the future: the station's time is {}", rfc3339(now)));
    }
    // Before that there were no stations, and the number of buckets is bounded.
    Ok(since.max(DateTime::UNIX_EPOCH))
}

fn step(since: DateTime<Utc>, until: DateTime<Utc>) -> Duration {
    let span = (until - since).num_seconds();
    let step = STEPS.into_iter().find(|step| span / step < MOST).unwrap_or(604_800);
    TimeDelta::seconds(step).to_std().unwrap_or(Duration::from_secs(1))
}

/// Units as in telemetry.
fn body(since: DateTime<Utc>, until: DateTime<Utc>, buckets: &[Bucket]) -> Value {
    let count: u64 = buckets.iter().map(|bucket| u64::from(bucket.count)).sum();
    let mut body = json!({ "startTime": rfc3339(since), "endTime": rfc3339(until), "count": count });
    if count == 0 {
        return body;
    }
    let quantities = [
        ("temperature", fold(buckets, |b| spread(b.air_temperature, |v| v.0)), 100.0),
        ("humidity", fold(buckets, |b| spread(b.relative_humidity, |v| v.0)), 100.0),
        ("pressure", fold(buckets, |b| spread(b.station_pressure, |v| v.kilopascal())), 1_000.0),
    ];
    for (name, (min, mean, max), steps) in quantities {
        let round = |value: f64| (value * steps).round() / steps;
        body[name] = json!({ "min": round(min), "max": round(max), "mean": round(mean) });
    }
    body
}

fn spread<T: Copy>(spread: Spread<T>, number: impl Fn(T) -> f64) -> (f64, f64, f64) {
    (number(spread.min), number(spread.mean), number(spread.max))
}

/// The mean weighs each bucket by its readings.
fn fold(buckets: &[Bucket], of: impl Fn(&Bucket) -> (f64, f64, f64)) -> (f64, f64, f64) {
    let (mut min, mut max, mut sum, mut count) = (f64::INFINITY, f64::NEG_INFINITY, 0.0, 0.0);
    for bucket in buckets {
        let (least, mean, most) = of(bucket);
        min = min.min(least);
        max = max.max(most);
        sum += mean * f64::from(bucket.count);
        count += f64::from(bucket.count);
    }
    (min, sum / count, max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::{Celsius, Hectopascal, Percent};

    fn time(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn bucket(count: u32, temperature: (f64, f64, f64)) -> Bucket {
        let (min, mean, max) = temperature;
        let all = |value: f64| Spread { min: value, mean: value, max: value };
        Bucket {
            start: DateTime::UNIX_EPOCH,
            length: Duration::from_secs(60),
            count,
            air_temperature: Spread { min: Celsius(min), mean: Celsius(mean), max: Celsius(max) },
            relative_humidity: Spread { min: Percent(50.0), mean: Percent(50.0), max: Percent(50.0) },
            station_pressure: {
                let Spread { min, mean, max } = all(1_013.25);
                Spread { min: Hectopascal(min), mean: Hectopascal(mean), max: Hectopascal(max) }
            },
        }
    }

    #[test]
    fn the_mean_is_that_of_the_readings_not_of_the_buckets() {
        let (since, until) = (time("2026-01-01T00:00:00Z"), time("2026-01-02T00:00:00Z"));
        let report = body(since, until, &[bucket(3, (9.0, 10.0, 11.0)), bucket(1, (-5.0, 2.0, 2.0))]);
        assert_eq!(
            report,
            json!({
                "startTime": "2026-01-01T00:00:00.000Z", "endTime": "2026-01-02T00:00:00.000Z", "count": 4,
                "temperature": {"min": -5.0, "max": 11.0, "mean": 8.0},
                "humidity": {"min": 50.0, "max": 50.0, "mean": 50.0},
                "pressure": {"min": 101.325, "max": 101.325, "mean": 101.325},
            })
        );
        assert_eq!(body(since, until, &[])["count"], 0);
        assert!(body(since, until, &[]).get("temperature").is_none());
    }

    #[test]
    fn the_history_is_asked_for_a_bounded_number_of_buckets() {
        let now = time("2026-01-01T00:00:00Z");
        for since in
            ["2025-12-31T23:59:59Z", "2025-12-01T00:00:00Z", "2020-01-01T00:00:00Z", "1970-01-01T00:00:00Z"]
        {
            let since = time(since);
            let step = step(since, now);
            let buckets = (now - since).num_seconds() / i64::try_from(step.as_secs()).unwrap();
            assert!(buckets <= 3_000, "{since}: {buckets}");
        }
    }

    #[test]
    fn since_is_a_time_in_the_past_bare_or_in_an_object() {
        let now = time("2026-01-01T00:00:00Z");
        let good = Ok(time("2025-12-31T22:00:00Z"));
        assert_eq!(since(&json!("2025-12-31T23:00:00+01:00"), now), good);
        assert_eq!(since(&json!({"since": "2025-12-31T22:00:00Z"}), now), good);
        for (bad, reason) in [
            (json!(null), "`since` is null, expected a time such as"),
            (json!({}), "the payload has to be {\"since\": time}"),
            (json!({"since": "2025-01-01T00:00:00Z", "x": 1}), "the payload has to be {\"since\": time}"),
            (json!({"since": 5}), "`since` is a number, expected a time"),
            (json!("yesterday"), "`since` is no time"),
            (json!("2026-01-01T00:00:01Z"), "`since` is in the future"),
        ] {
            let error = since(&bad, now).unwrap_err();
            assert!(error.starts_with(reason), "{error}");
        }
    }
}
