//! `getReport`: least, greatest and mean value of each quantity since a time, from the store's history. Knows no SQL.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::super::json;
use super::{Answer, Desk};
use crate::observation::rfc3339;
use crate::store::{Bucket, Spread};

/// `payload`: the time as RFC 3339, or an object `{"since": time}`.
pub(super) async fn get(payload: &Value, desk: &Desk) -> Answer {
    let now = desk.timekeeper.now();
    let since = match since(payload, now) {
        Ok(since) => since,
        Err(reason) => return Answer::error(400, reason),
    };
    match desk.store.report(since).await {
        Ok(readings) => Answer { status: 200, body: body(since, now, readings.as_ref()) },
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
    // Before that there were no stations.
    Ok(since.max(DateTime::UNIX_EPOCH))
}

/// Units as in telemetry. `readings`: all of the time, folded; none where there is none.
fn body(since: DateTime<Utc>, until: DateTime<Utc>, readings: Option<&Bucket>) -> Value {
    let count = readings.map_or(0, |readings| readings.count);
    let mut body = json!({ "startTime": rfc3339(since), "endTime": rfc3339(until), "count": count });
    let Some(readings) = readings else { return body };
    body["temperature"] = spread(readings.air_temperature, |value| value.0, 100.0);
    body["humidity"] = spread(readings.relative_humidity, |value| value.0, 100.0);
    body["pressure"] = spread(readings.station_pressure, |value| value.kilopascal(), 1_000.0);
    body
}

/// Rounded to `steps` of a unit.
fn spread<T: Copy>(spread: Spread<T>, number: impl Fn(T) -> f64, steps: f64) -> Value {
    let round = |value: T| (number(value) * steps).round() / steps;
    json!({ "min": round(spread.min), "max": round(spread.max), "mean": round(spread.mean) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::{Celsius, Hectopascal, Percent};

    fn time(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn a_report_is_rounded_in_telemetrys_units_and_names_no_quantity_without_a_reading() {
        let (since, until) = (time("2026-01-01T00:00:00Z"), time("2026-01-02T00:00:00Z"));
        let readings = Bucket {
            start: since,
            length: std::time::Duration::from_secs(86_400),
            count: 4,
            air_temperature: Spread { min: Celsius(-5.004), mean: Celsius(7.996), max: Celsius(11.0) },
            relative_humidity: Spread { min: Percent(49.996), mean: Percent(50.0), max: Percent(50.004) },
            station_pressure: Spread {
                min: Hectopascal(1_013.25),
                mean: Hectopascal(1_013.254),
                max: Hectopascal(1_013.256),
            },
        };
        let (start, end) = ("2026-01-01T00:00:00.000Z", "2026-01-02T00:00:00.000Z");
        assert_eq!(
            body(since, until, Some(&readings)),
            json!({
                "startTime": start, "endTime": end, "count": 4,
                "temperature": {"min": -5.0, "max": 11.0, "mean": 8.0},
                "humidity": {"min": 50.0, "max": 50.0, "mean": 50.0},
                "pressure": {"min": 101.325, "max": 101.326, "mean": 101.325},
            })
        );
        let none = body(since, until, None);
        assert_eq!(none, json!({"startTime": start, "endTime": end, "count": 0}));
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
