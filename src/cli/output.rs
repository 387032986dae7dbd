//! Printing, and reading what people type: the whole chain of an error once, times and durations.

use std::io::{self, Write as _};
use std::time::Duration;

use anyhow::Context as _;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

use crate::config::units;

/// Writes to standard output; a closed pipe is an error that [`is_broken_pipe`] knows.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("could not write to standard output")
}

/// Prints a line.
pub fn line(text: impl std::fmt::Display) -> anyhow::Result<()> {
    print(&format!("{text}\n"))
}

/// Prints a line that the exit status sums up: where nobody reads it (`check | head -1`), the status still tells.
pub fn verdict(text: impl std::fmt::Display) -> anyhow::Result<()> {
    match line(text) {
        Err(error) if is_broken_pipe(&error) => Ok(()),
        done => done,
    }
}

/// The whole chain on standard error, each cause on a line of its own.
pub fn error(error: &anyhow::Error) {
    let mut text = format!("weather-station: {error}\n");
    for cause in error.chain().skip(1) {
        text.push_str(&format!("  because: {cause}\n"));
    }
    // Nobody is left to tell when standard error is closed.
    drop(io::stderr().write_all(text.as_bytes()));
}

/// Tells on standard error what a command is waiting for.
pub fn note(text: impl std::fmt::Display) {
    // Nobody is left to tell when standard error is closed.
    drop(io::stderr().write_all(format!("weather-station: {text}\n").as_bytes()));
}

/// `export | head` is not a failure.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

/// For clap: RFC 3339, a day, or how long ago.
pub fn moment(text: &str) -> Result<Moment, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(Moment::At(time.to_utc()));
    }
    if let Ok(day) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return Ok(Moment::At(day.and_time(chrono::NaiveTime::MIN).and_utc()));
    }
    units::duration(text).map(Moment::Ago).ok_or_else(|| {
        "expected a time such as 2026-05-01T12:00:00Z, a day such as 2026-05-01 (UTC), or how long ago, such as 7d".into()
    })
}

/// A moment as it was typed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Moment {
    At(DateTime<Utc>),
    Ago(Duration),
}

impl Moment {
    pub fn resolve(self, now: DateTime<Utc>) -> DateTime<Utc> {
        match self {
            Self::At(time) => time,
            Self::Ago(duration) => TimeDelta::from_std(duration)
                .ok()
                .and_then(|delta| now.checked_sub_signed(delta))
                .unwrap_or(DateTime::UNIX_EPOCH),
        }
    }
}
