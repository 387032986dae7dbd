//! Readings as CSV or JSON lines, out of the store and into anything that can be written to. From beside the running
//! station, a page at a time: it is not held up, and memory does not grow.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use rusqlite::Connection;

use super::StoreError;
use super::pending::{Found, live};
use super::salvaged::{self, Origins};
use super::snapshot::Snapshot;
use super::watermark::Watermark;
use crate::observation::Observation;
use crate::reading::Reading;

/// Rows in one read: the shorter a read, the more rarely the station writes meanwhile.
const PAGE: usize = 500;

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A header and a line per reading; the columns are the telemetry's keys.
    Csv,
    /// A telemetry body per line.
    Json,
}

/// Which readings, and how they are published.
#[derive(Debug, Clone, Copy)]
pub struct Selection<'a> {
    /// Not before this time.
    pub since: Option<DateTime<Utc>>,
    /// Before this time.
    pub until: Option<DateTime<Utc>>,
    pub format: Format,
    /// Empty where there is no identity.
    pub device_id: &'a str,
    /// Metres; adds sea-level pressure.
    pub altitude: Option<f64>,
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Exported {
    pub readings: u64,
    /// Rows whose checksum is wrong: not written.
    pub damaged: u64,
}

/// The whole selection, oldest first: readings of older stores, then those of this one.
pub fn export(path: &Path, selection: Selection<'_>, mut out: impl Write) -> Result<Exported, StoreError> {
    let mut snapshot = Snapshot::new(path)?;
    let store_id: Arc<str> = snapshot.read(Watermark::read)?.store_id.into();
    let origins = snapshot.read(Origins::read)?;
    let mut exported = Exported::default();
    if selection.format == Format::Csv {
        writeln!(out, "{HEADER}").map_err(output)?;
    }
    let mut after = 0;
    loop {
        let (next, page) = snapshot.read(|connection| salvaged_page(connection, after, &origins))?;
        let full = page.len() == PAGE;
        write(&page, &selection, &mut exported, &mut out)?;
        after = next;
        if !full {
            break;
        }
    }
    let mut after = 0;
    loop {
        let (next, page) = snapshot.read(|connection| live_page(connection, after, &store_id))?;
        let full = page.len() == PAGE;
        write(&page, &selection, &mut exported, &mut out)?;
        after = next;
        if !full {
            break;
        }
    }
    out.flush().map_err(output)?;
    Ok(exported)
}

/// None stands for a row that is damaged.
type Rows = (u64, Vec<Option<Reading>>);

fn salvaged_page(connection: &Connection, after: u64, origins: &Origins) -> Result<Rows, StoreError> {
    let rows = salvaged::after(connection, after, PAGE, &Arc::from(""))?;
    let next = rows.last().map_or(after, |(number, _)| *number);
    let reading = |(number, row): (u64, Option<super::row::Row>)| {
        row.and_then(|row| row.reading(&origins.name(salvaged::parts(number).0)))
    };
    Ok((next, rows.into_iter().map(reading).collect()))
}

fn live_page(connection: &Connection, after: u64, store_id: &Arc<str>) -> Result<Rows, StoreError> {
    let mut next = after;
    let rows = live(connection, after, PAGE, &Arc::from(""))?;
    let reading = |found| match found {
        Found::Good(row) => {
            next = row.sequence;
            row.reading(store_id)
        }
        Found::Damaged { sequence } => {
            next = sequence;
            None
        }
    };
    let page = rows.into_iter().map(reading).collect();
    Ok((next, page))
}

const HEADER: &str = "deviceId,time,currentTemperature,currentHumidity,currentPressure,seaLevelPressure,dewPoint,\
                      timeQuality,quality,storeId,sequence";

fn write(
    page: &[Option<Reading>],
    selection: &Selection<'_>,
    exported: &mut Exported,
    out: &mut impl Write,
) -> Result<(), StoreError> {
    for reading in page {
        let Some(reading) = reading else {
            exported.damaged += 1;
            continue;
        };
        let time = reading.sample.stamp.time;
        if selection.since.is_some_and(|since| time < since)
            || selection.until.is_some_and(|until| time >= until)
        {
            continue;
        }
        exported.readings += 1;
        let observation = Observation::of(reading, selection.device_id, selection.altitude);
        match selection.format {
            Format::Json => {
                serde_json::to_writer(&mut *out, &observation)
                    .map_err(std::io::Error::from)
                    .and_then(|()| out.write_all(b"\n"))
                    .map_err(output)?;
            }
            Format::Csv => csv(&observation, out).map_err(output)?,
        }
    }
    Ok(())
}

/// Only the device id may need quotes: it may have a comma (IoT Hub, "identity registry": `- : . + % _ # * ? ! ( ) , = @
/// ; $ '`), and no quote or line end.
fn csv(observation: &Observation<'_>, out: &mut impl Write) -> std::io::Result<()> {
    let number = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
    writeln!(
        out,
        "{},{},{},{},{},{},{},{},{},{},{}",
        if observation.device_id.contains(',') {
            format!("\"{}\"", observation.device_id)
        } else {
            observation.device_id.to_owned()
        },
        observation.time,
        observation.current_temperature,
        observation.current_humidity,
        observation.current_pressure,
        number(observation.sea_level_pressure),
        number(observation.dew_point),
        observation.time_quality.unwrap_or_default(),
        observation.quality.unwrap_or_default(),
        observation.store_id.unwrap_or_default(),
        observation.sequence.unwrap_or_default(),
    )
}

fn output(source: std::io::Error) -> StoreError {
    StoreError::Output { source }
}
