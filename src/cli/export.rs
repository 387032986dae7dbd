//! `export`: readings from the store, oldest first, as CSV or JSON lines; also while the station runs.

use std::io::BufWriter;
use std::time::Duration;

use anyhow::Context as _;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use clap::{Args, ValueEnum};

use super::DONE;
use super::output;
use crate::config::{Config, units};
use crate::store::export::{self, Selection};
use crate::{identity, settings, station};

/// Which readings, and how.
#[derive(Debug, Args)]
pub struct Arguments {
    /// From this moment on: a time, a day, or how long ago (7d)
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Moment>,
    /// Before this moment
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Moment>,
    #[arg(long, value_enum, default_value_t = Format::Csv)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A header and a line per reading
    Csv,
    /// A JSON object per line, with the keys of telemetry
    Json,
}

pub fn run(config: &Config, arguments: Arguments) -> anyhow::Result<u8> {
    let timekeeper = station::timekeeper();
    let now = timekeeper.now();
    // Readings belong to the store; where there is an identity, they are published under its name.
    let name = identity::open(&config.identity).and_then(|mut signer| signer.identity());
    let path = &config.store.path;
    let failed = || format!("could not export the readings of {}", path.display());
    let (settings, unread) = settings::beside_the_station(config, name.as_ref().ok());
    let selection = Selection {
        since: arguments.since.map(|moment| moment.resolve(now)),
        until: arguments.until.map(|moment| moment.resolve(now)),
        format: match arguments.format {
            Format::Csv => export::Format::Csv,
            Format::Json => export::Format::Json,
        },
        device_id: name.as_ref().map_or("", |name| &name.device_id),
        altitude: settings.altitude,
    };
    let out = BufWriter::with_capacity(64 << 10, std::io::stdout().lock());
    let exported = export::export(path, selection, out).with_context(failed)?;
    if let Some(error) = unread {
        output::error(&anyhow::Error::new(error).context(settings::UNREAD));
    }
    if let Err(error) = name {
        output::error(&anyhow::Error::new(error).context("the readings are written without a device id"));
    }
    if exported.damaged > 0 {
        anyhow::bail!(
            "{} rows of {} are damaged and were left out; {} were written: the station salvages what it can when it starts",
            exported.damaged,
            path.display(),
            exported.readings
        );
    }
    Ok(DONE)
}

/// For clap: RFC 3339, a day, or how long ago.
fn moment(text: &str) -> Result<Moment, String> {
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
enum Moment {
    At(DateTime<Utc>),
    Ago(Duration),
}

impl Moment {
    fn resolve(self, now: DateTime<Utc>) -> DateTime<Utc> {
        match self {
            Self::At(time) => time,
            Self::Ago(duration) => TimeDelta::from_std(duration)
                .ok()
                .and_then(|delta| now.checked_sub_signed(delta))
                .unwrap_or(DateTime::UNIX_EPOCH),
        }
    }
}
