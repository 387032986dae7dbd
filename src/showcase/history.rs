//! `GET /api/readings?since=&until=&step=`: what was measured, in buckets, bounded in number whatever is asked.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::routes::Shared;
use crate::derived;
use crate::observation::rfc3339;
use crate::store::Bucket;

/// Buckets in one answer at most: about 300 KB of JSON.
const MOST: i64 = 1_500;
/// Without `step` the answer has at most this many, enough for a wide screen.
const COMFORTABLE: i64 = 400;
/// Without `step`: the shortest of these (in seconds) that is comfortable; else whole days.
const STEPS: [i64; 12] = [10, 30, 60, 300, 900, 1_800, 3_600, 7_200, 14_400, 43_200, 86_400, 604_800];

/// The query, as text: errors are ours to word.
#[derive(Deserialize)]
pub struct Asked {
    /// RFC 3339; default: a day before `until`.
    since: Option<String>,
    /// RFC 3339, not included; default: now.
    until: Option<String>,
    /// Whole seconds, minutes, hours or days: `300`, `5m`, `1h`, `1d`.
    step: Option<String>,
}

/// A checked query.
#[derive(Debug, PartialEq)]
struct Range {
    since: DateTime<Utc>,
    until: DateTime<Utc>,
    step: Duration,
}

#[derive(Serialize)]
struct Answer {
    since: String,
    until: String,
    /// Seconds.
    step: u64,
    readings: Vec<Row>,
}

/// One bucket. The keys are telemetry's and hold means; degrees Celsius, percent, kilopascal.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    /// Where the bucket begins.
    time: String,
    /// Readings in it.
    count: u32,
    current_temperature: f64,
    current_humidity: f64,
    current_pressure: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    sea_level_pressure: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dew_point: Option<f64>,
    min_temperature: f64,
    max_temperature: f64,
    min_humidity: f64,
    max_humidity: f64,
    min_pressure: f64,
    max_pressure: f64,
}

/// Buckets of the asked range, oldest first; an empty stretch has none.
pub async fn readings(State(shared): State<Arc<Shared>>, asked: Query<Asked>) -> Response {
    let range = match Range::of(&asked, shared.timekeeper.now()) {
        Ok(range) => range,
        Err(complaint) => return (StatusCode::BAD_REQUEST, format!("{complaint}\n")).into_response(),
    };
    let Ok(_turn) = shared.store_questions.acquire().await else {
        return (StatusCode::SERVICE_UNAVAILABLE, "the station ends\n").into_response();
    };
    let altitude = shared.settings.borrow().altitude;
    match shared.store.history(range.since, range.until, range.step).await {
        Ok(buckets) => Json(Answer {
            since: rfc3339(range.since),
            until: rfc3339(range.until),
            step: buckets.first().map_or(range.step, |bucket| bucket.length).as_secs(),
            readings: buckets.iter().map(|bucket| Row::of(bucket, altitude)).collect(),
        })
        .into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}

impl Range {
    fn of(asked: &Asked, now: DateTime<Utc>) -> Result<Self, String> {
        let until = time("until", asked.until.as_deref())?.unwrap_or(now);
        let since = match time("since", asked.since.as_deref())? {
            Some(since) => since,
            None => until - TimeDelta::days(1),
        };
        if since >= until {
            return Err(format!("since ({}) has to be before until ({})", rfc3339(since), rfc3339(until)));
        }
        let span = (until - since).num_seconds();
        let step = match asked.step.as_deref() {
            Some(text) => step(text)?,
            None => comfortable(span),
        };
        if span / step > MOST {
            return Err(format!(
                "this would be {} buckets of {step} s; at most {MOST} are given: ask for a step of {} s or more, \
                 or for less time",
                span / step,
                span / MOST + 1
            ));
        }
        Ok(Self { since, until, step: Duration::from_secs(step.unsigned_abs()) })
    }
}

fn comfortable(span: i64) -> i64 {
    let days = span / COMFORTABLE / 86_400 + 1;
    STEPS.into_iter().find(|step| span / step <= COMFORTABLE).unwrap_or(days * 86_400)
}

fn time(name: &str, text: Option<&str>) -> Result<Option<DateTime<Utc>>, String> {
    let Some(text) = text else { return Ok(None) };
    // Years that the arithmetic below can bear.
    let sane = |time: &DateTime<Utc>| (0..=253_402_300_799).contains(&time.timestamp());
    DateTime::parse_from_rfc3339(text)
        .ok()
        .map(|time| time.to_utc())
        .filter(sane)
        .map(Some)
        .ok_or_else(|| format!("{name} has to be a time like 2026-11-24T08:00:00Z"))
}

fn step(text: &str) -> Result<i64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3_600),
        "d" => Some(86_400),
        _ => None,
    };
    unit.zip(digits.parse::<u32>().ok())
        .and_then(|(unit, number)| i64::from(number).checked_mul(unit))
        .filter(|step| (1..=366 * 86_400).contains(step))
        .ok_or_else(|| "step has to be a length of time like 300, 5m, 1h or 1d; 1s to 366d".into())
}

impl Row {
    fn of(bucket: &Bucket, altitude: Option<f64>) -> Self {
        let Bucket { air_temperature: air, relative_humidity: humidity, station_pressure: pressure, .. } =
            bucket;
        let hundredth = |value: f64| (value * 100.0).round() / 100.0;
        let thousandth = |value: f64| (value * 1_000.0).round() / 1_000.0;
        Self {
            time: rfc3339(bucket.start),
            count: bucket.count,
            current_temperature: hundredth(air.mean.0),
            current_humidity: hundredth(humidity.mean.0),
            current_pressure: thousandth(pressure.mean.kilopascal()),
            sea_level_pressure: altitude.map(|altitude| {
                thousandth(
                    derived::sea_level_pressure(pressure.mean, air.mean, humidity.mean, altitude)
                        .kilopascal(),
                )
            }),
            dew_point: derived::dew_point(air.mean, humidity.mean).map(|dew_point| hundredth(dew_point.0)),
            min_temperature: hundredth(air.min.0),
            max_temperature: hundredth(air.max.0),
            min_humidity: hundredth(humidity.min.0),
            max_humidity: hundredth(humidity.max.0),
            min_pressure: thousandth(pressure.min.kilopascal()),
            max_pressure: thousandth(pressure.max.kilopascal()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_is_a_bounded_range_or_a_complaint(
            since in "[-+:.TZ0-9]{0,30}|\\PC{0,20}",
            until in proptest::option::of("[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:00:00Z"),
            step in proptest::option::of("-?[0-9]{0,12}[smhd]?|\\PC{0,10}"),
        ) {
            let asked = Asked { since: Some(since), until, step };
            if let Ok(range) = Range::of(&asked, "2026-11-24T12:00:00Z".parse().unwrap()) {
                let span = (range.until - range.since).num_seconds().unsigned_abs();
                prop_assert!(span / range.step.as_secs() <= MOST.unsigned_abs());
            }
        }
    }

    fn asked(since: &str, until: &str, step: &str) -> Result<Range, String> {
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let asked = Asked { since: given(since), until: given(until), step: given(step) };
        Range::of(&asked, "2026-11-24T12:00:00Z".parse().unwrap())
    }

    #[test]
    fn without_anything_it_is_the_last_day() {
        let range = asked("", "", "").unwrap();
        assert_eq!(rfc3339(range.since), "2026-11-23T12:00:00.000Z");
        assert_eq!(range.step, Duration::from_secs(300));
    }

    #[test]
    fn whatever_is_asked_the_answer_is_bounded() {
        for (since, until) in [
            ("1970-01-01T00:00:00Z", "9999-12-31T00:00:00Z"),
            ("2026-11-24T11:59:59Z", "2026-11-24T12:00:00Z"),
            ("2025-11-24T12:00:00Z", ""),
        ] {
            let range = asked(since, until, "").unwrap();
            let span = (range.until - range.since).num_seconds().unsigned_abs();
            assert!(span / range.step.as_secs() <= 400, "{since}");
            assert!(
                span < 1_000_000_000 || range.step.as_secs().is_multiple_of(86_400),
                "{since}: {:?}",
                range.step
            );
        }
        let complaint = asked("2025-11-24T12:00:00Z", "", "1s").unwrap_err();
        assert!(complaint.contains("ask for a step of 21025 s or more"), "{complaint}");
    }

    #[test]
    fn nonsense_is_refused_with_what_was_expected() {
        assert!(asked("yesterday", "", "").unwrap_err().starts_with("since has to be a time like"));
        assert!(asked("", "2026-13-01T00:00:00Z", "").unwrap_err().starts_with("until has to be a time"));
        for step in ["0", "-5", "5w", "h", "99999999999", "1.5", "367d", "4294967295d"] {
            let complaint = asked("", "", step).unwrap_err();
            assert!(complaint.starts_with("step has to be a length of time"), "{step}: {complaint}");
        }
        assert!(asked("2026-11-24T12:00:01Z", "", "").unwrap_err().contains("has to be before until"));
    }
}
