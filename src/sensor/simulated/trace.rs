//! Recorded weather for the simulated chip: a CSV file, or a synthetic day. Which row applies follows from the time
//! alone, so anyone who knows the time of a reading can work out what it should have said.

use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use thiserror::Error;

use crate::reading::{Celsius, Hectopascal, Measurement, Percent};

const HEADER: &str = "time,temperature_celsius,relative_humidity_percent,pressure_hectopascal";

/// Weather as a function of time, without an end: after the last row it runs into the first.
///
/// # Which row applies
/// At the wall time `t` the trace stands at `(t * speed) modulo period` seconds after its first row, `t` in
/// seconds since 1970-01-01 00:00 UTC. The rule needs no start time, so it survives a restart. Between rows
/// it interpolates linearly. The period is the time from the first row to the last plus one mean step,
/// in which the last row runs into the first.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    /// Seconds since the first row, ascending.
    rows: Vec<(f64, Measurement)>,
    /// Seconds of weather until it repeats.
    period: f64,
}

/// What is wrong with a trace.
#[derive(Debug, Error)]
pub enum TraceError {
    #[error("cannot read the file")]
    Read(#[from] std::io::Error),
    /// What is there instead is not repeated: it may be a key file.
    #[error("line 1 is no header of a trace, expected `{HEADER}`")]
    Header,
    #[error("line {line}: {expected}, found `{found}`")]
    Line { line: usize, expected: &'static str, found: String },
    #[error("no rows")]
    Empty,
}

impl Trace {
    /// Reads a CSV file: `time,temperature_celsius,relative_humidity_percent,pressure_hectopascal`, times in
    /// RFC 3339 and ascending. Rows outside the sensor's range are taken as they are: the chip will say so.
    pub fn load(path: &Path) -> Result<Self, super::super::SensorError> {
        std::fs::read_to_string(path)
            .map_err(TraceError::Read)
            .and_then(|text| Self::parse(&text))
            .map_err(|source| super::super::SensorError::Trace { path: PathBuf::from(path), source })
    }

    /// The same from the text of such a file.
    pub fn parse(text: &str) -> Result<Self, TraceError> {
        let mut lines = text.lines().map(str::trim_end).enumerate();
        let header = lines.next().map_or("", |(_, line)| line);
        if header != HEADER {
            return Err(TraceError::Header);
        }
        let mut rows: Vec<(f64, Measurement)> = Vec::new();
        let mut first = None;
        for (index, line) in lines.filter(|(_, line)| !line.is_empty()) {
            let wrong = |expected| TraceError::Line { line: index + 1, expected, found: line.into() };
            let (time, measurement) = row(line).ok_or_else(|| wrong("expected a time and three numbers"))?;
            let since_first = seconds(time) - *first.get_or_insert(seconds(time));
            if rows.last().is_some_and(|(last, _)| *last >= since_first) {
                return Err(wrong("expected a later time than in the line before"));
            }
            rows.push((since_first, measurement));
        }
        Self::from_rows(rows)
    }

    /// A mild day: cool and damp at four in the morning, warm and dry twelve hours later.
    pub fn synthetic_day() -> Self {
        const STEPS: u32 = 96;
        let rows = (0..STEPS).map(|step| {
            let day = f64::from(step) / f64::from(STEPS);
            let warmth = -(std::f64::consts::TAU * (day - 4.0 / 24.0)).cos();
            let tide = (2.0 * std::f64::consts::TAU * (day - 10.0 / 24.0)).cos();
            (day * 86_400.0, measurement(13.0 + 6.0 * warmth, 68.0 - 20.0 * warmth, 1013.2 + 1.5 * tide))
        });
        Self::from_rows(rows.collect()).expect("there are 96 rows")
    }

    /// The weather `elapsed` seconds after the first row; any number, also a negative one.
    pub fn at(&self, elapsed: f64) -> Measurement {
        let elapsed = elapsed.rem_euclid(self.period);
        let next = self.rows.partition_point(|(since_first, _)| *since_first <= elapsed);
        let (from, before) = self.rows[next - 1];
        let (until, after) = self.rows.get(next).copied().unwrap_or((self.period, self.rows[0].1));
        let share = (elapsed - from) / (until - from);
        let between = |before: f64, after: f64| before + share * (after - before);
        measurement(
            between(before.air_temperature.0, after.air_temperature.0),
            between(before.relative_humidity.0, after.relative_humidity.0),
            between(before.station_pressure.0, after.station_pressure.0),
        )
    }

    /// What a reading taken at this time says, at this `speed`: see the rule above.
    pub fn at_time(&self, time: DateTime<Utc>, speed: f64) -> Measurement {
        self.at(seconds(time) * speed)
    }

    fn from_rows(rows: Vec<(f64, Measurement)>) -> Result<Self, TraceError> {
        let steps = rows.len().saturating_sub(1);
        let (last, _) = rows.last().ok_or(TraceError::Empty)?;
        let mean_step = if steps == 0 { 3600.0 } else { last / steps as f64 };
        let period = last + mean_step;
        Ok(Self { rows, period })
    }
}

fn row(line: &str) -> Option<(DateTime<Utc>, Measurement)> {
    let mut cells = line.split(',').map(str::trim);
    let time = DateTime::parse_from_rfc3339(cells.next()?).ok()?.to_utc();
    let mut number = || cells.next()?.parse::<f64>().ok().filter(|number| number.is_finite());
    let measurement = measurement(number()?, number()?, number()?);
    cells.next().is_none().then_some((time, measurement))
}

fn measurement(temperature: f64, humidity: f64, pressure: f64) -> Measurement {
    Measurement {
        air_temperature: Celsius(temperature),
        relative_humidity: Percent(humidity),
        station_pressure: Hectopascal(pressure),
    }
}

fn seconds(time: DateTime<Utc>) -> f64 {
    time.timestamp_millis() as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO_ROWS: &str = "time,temperature_celsius,relative_humidity_percent,pressure_hectopascal\n\
        2013-01-01T06:00:00Z,4.00,60.00,1012.0\n2013-01-01T07:00:00Z,6.00,50.00,1010.0\n";

    #[test]
    fn between_rows_it_interpolates_and_at_the_end_it_runs_into_the_first_row() {
        let trace = Trace::parse(TWO_ROWS).unwrap();
        assert_eq!(trace.period, 7200.0);
        assert_eq!(trace.at(0.0), measurement(4.0, 60.0, 1012.0));
        assert_eq!(trace.at(900.0), measurement(4.5, 57.5, 1011.5));
        assert_eq!(trace.at(3600.0), measurement(6.0, 50.0, 1010.0));
        assert_eq!(trace.at(5400.0), measurement(5.0, 55.0, 1011.0));
        assert_eq!(trace.at(7200.0 + 900.0), trace.at(900.0));
        assert_eq!(trace.at(-6300.0), trace.at(900.0));
    }

    #[test]
    fn the_row_follows_from_the_time_alone() {
        let trace = Trace::parse(TWO_ROWS).unwrap();
        let time = DateTime::from_timestamp(1_700_000_000, 500_000_000).unwrap();
        // 1,700,000,000.5 s at 60 times the speed: 102,000,000,030 s, which is 2,430 s into the two hours.
        assert_eq!(trace.at_time(time, 60.0), trace.at(102_000_000_030.0 % 7200.0));
    }

    #[test]
    fn a_wrong_line_is_named() {
        let message = |text: &str| Trace::parse(text).unwrap_err().to_string();
        assert!(
            message("time,t\n")
                .starts_with("line 1 is no header of a trace, expected `time,temperature_celsius,")
        );
        let bad = format!("{TWO_ROWS}2013-01-01T08:00:00Z,warm,50.00,1010.0\n");
        assert_eq!(
            message(&bad),
            "line 4: expected a time and three numbers, found `2013-01-01T08:00:00Z,warm,50.00,1010.0`"
        );
        let back = format!("{TWO_ROWS}2013-01-01T07:00:00Z,6.0,50.00,1010.0\n");
        assert!(message(&back).starts_with("line 4: expected a later time than in the line before"));
        assert_eq!(message(HEADER), "no rows");
    }
}
