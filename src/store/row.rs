//! One reading as it lies on the card, and its checksum. Knows numbers, bytes and the order of the columns, and no
//! statement.
//!
//! The quantities are whole thousandths (0.001 degC, 0.001 %RH, 0.001 hPa): finer than the chip resolves, shorter
//! than a float, and without rounding surprises in a checksum.
//!
//! # The checksum (frozen)
//! CRC-32 (IEEE) over, in this order and little-endian: a domain byte, sequence (u64), length of the run word (u8)
//! and its bytes, boot id (16 bytes, big-endian as it is printed), time since boot in ms (i64), time in ms since
//! 1970 (i64), time quality (u8), temperature, humidity, pressure (i32 each), quality (u8). The domain is `r` for a
//! row of this store; `s` for a salvaged one, followed by the generation of the store it came from (u64).
//! SQLite pages carry no checksum: a flipped bit would otherwise become weather.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, Statement, params};

use super::StoreError;
use super::scan::Value;
use crate::reading::{
    BootId, Celsius, Hectopascal, Measurement, Percent, Quality, Reading, Sample, Stamp, TimeQuality,
};

/// What a row holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub sequence: u64,
    pub run: Arc<str>,
    pub boot: u128,
    /// Milliseconds.
    pub since_boot: i64,
    /// Milliseconds since 1970.
    pub time: i64,
    pub time_quality: u8,
    pub temperature: i32,
    pub humidity: i32,
    pub pressure: i32,
    pub quality: u8,
}

/// A table of such rows, and the column that they are numbered by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Table {
    pub name: &'static str,
    pub number: &'static str,
}

pub(crate) const READINGS: Table = Table { name: "reading", number: "sequence" };
pub(crate) const SALVAGED: Table = Table { name: "salvaged", number: "row" };

impl Table {
    /// The first numbers in `(after, upto]`, so many of them, with their times where these are known
    /// ([`Row::known_time`] in SQL).
    pub fn stretch(
        self,
        connection: &Connection,
        after: u64,
        upto: u64,
        limit: i64,
    ) -> rusqlite::Result<Vec<(u64, Option<i64>)>> {
        let Self { name, number } = self;
        let mut statement = connection.prepare_cached(&format!(
            "SELECT {number}, CASE WHEN time_quality < 2 THEN time END FROM {name} \
             WHERE {number} > ?1 AND {number} <= ?2 ORDER BY {number} LIMIT ?3"
        ))?;
        let rows = statement.query_map(params![after.cast_signed(), upto.cast_signed(), limit], |row| {
            Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get(1)?))
        })?;
        rows.collect()
    }
}

impl Row {
    /// Refuses what is no number.
    pub fn new(sequence: u64, run: &Arc<str>, sample: &Sample) -> Result<Self, StoreError> {
        let measured = sample.measurement;
        Ok(Self {
            sequence,
            run: run.clone(),
            boot: sample.stamp.boot.0,
            since_boot: since_boot(&sample.stamp),
            time: sample.stamp.time.timestamp_millis(),
            time_quality: sample.stamp.time_quality.code(),
            temperature: thousandths(measured.air_temperature.0)?,
            humidity: thousandths(measured.relative_humidity.0)?,
            pressure: thousandths(measured.station_pressure.0)?,
            quality: sample.quality.code(),
        })
    }

    /// A row of this store, where its checksum holds.
    pub fn from_cell(sequence: u64, columns: &[Value<'_>]) -> Option<Self> {
        let (row, sum) = Self::columns(sequence, columns)?;
        (i64::from(row.checksum()) == sum).then_some(row)
    }

    /// Believed or not, and the checksum beside it.
    pub fn columns(sequence: u64, columns: &[Value<'_>]) -> Option<(Self, i64)> {
        use Value::{Blob, Integer, Text};
        let &[
            Text(run),
            Blob(boot),
            Integer(since_boot),
            Integer(time),
            Integer(time_quality),
            Integer(temperature),
            Integer(humidity),
            Integer(pressure),
            Integer(quality),
            Integer(sum),
        ] = columns
        else {
            return None;
        };
        let row = Self {
            sequence,
            run: Arc::from(run),
            boot: u128::from_be_bytes(boot.try_into().ok()?),
            since_boot,
            time,
            time_quality: u8::try_from(time_quality).ok()?,
            temperature: i32::try_from(temperature).ok()?,
            humidity: i32::try_from(humidity).ok()?,
            pressure: i32::try_from(pressure).ok()?,
            quality: u8::try_from(quality).ok()?,
        };
        Some((row, sum))
    }

    /// The checksum of a row of this store.
    pub fn checksum(&self) -> i32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(b"r");
        self.summed(hasher)
    }

    /// The checksum of a row that was salvaged from the store of that generation.
    pub fn salvaged_checksum(&self, generation: u64) -> i32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(b"s");
        hasher.update(&generation.to_le_bytes());
        self.summed(hasher)
    }

    fn summed(&self, mut hasher: crc32fast::Hasher) -> i32 {
        hasher.update(&self.sequence.to_le_bytes());
        text(&mut hasher, &self.run);
        hasher.update(&self.boot.to_be_bytes());
        hasher.update(&self.since_boot.to_le_bytes());
        hasher.update(&self.time.to_le_bytes());
        hasher.update(&[self.time_quality]);
        hasher.update(&self.temperature.to_le_bytes());
        hasher.update(&self.humidity.to_le_bytes());
        hasher.update(&self.pressure.to_le_bytes());
        hasher.update(&[self.quality]);
        hasher.finalize().cast_signed()
    }

    /// Milliseconds since 1970, unless the clock was wrong.
    pub fn known_time(&self) -> Option<i64> {
        (self.time_quality != TimeQuality::Unknown.code()).then_some(self.time)
    }

    /// It was taken in this boot, and before the clock could be trusted.
    pub fn is_undated(&self, boot: BootId) -> bool {
        self.boot == boot.0 && self.time_quality == TimeQuality::Unknown.code()
    }

    /// Runs an `INSERT` that takes the row's number, its columns in this order, and its checksum.
    pub fn insert(
        &self,
        statement: &mut Statement<'_>,
        number: u64,
        checksum: i32,
    ) -> rusqlite::Result<usize> {
        statement.execute(params![
            number.cast_signed(),
            self.run.as_ref(),
            self.boot.to_be_bytes(),
            self.since_boot,
            self.time,
            self.time_quality,
            self.temperature,
            self.humidity,
            self.pressure,
            self.quality,
            checksum,
        ])
    }

    /// The reading; none where a number means nothing (a checksum that held by chance).
    pub fn reading(&self, store_id: &Arc<str>) -> Option<Reading> {
        let stamp = Stamp {
            boot: BootId(self.boot),
            since_boot: Duration::from_millis(u64::try_from(self.since_boot).ok()?),
            time: DateTime::<Utc>::from_timestamp_millis(self.time)?,
            time_quality: TimeQuality::from_code(self.time_quality)?,
        };
        let measurement = Measurement {
            air_temperature: Celsius(f64::from(self.temperature) / 1000.0),
            relative_humidity: Percent(f64::from(self.humidity) / 1000.0),
            station_pressure: Hectopascal(f64::from(self.pressure) / 1000.0),
        };
        Some(Reading {
            store_id: store_id.clone(),
            run: self.run.clone(),
            sequence: self.sequence,
            sample: Sample { stamp, measurement, quality: Quality::from_code(self.quality)? },
        })
    }
}

/// Milliseconds.
pub(super) fn since_boot(stamp: &Stamp) -> i64 {
    i64::try_from(stamp.since_boot.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
impl Row {
    /// Synchronised, of the first moment there is.
    pub fn example(sequence: u64) -> Self {
        Self {
            sequence,
            run: Arc::from("run"),
            boot: 1,
            since_boot: 0,
            time: 0,
            time_quality: TimeQuality::Synchronised.code(),
            temperature: 20_000,
            humidity: 50_000,
            pressure: 1_000_000,
            quality: 0,
        }
    }
}

/// Length and bytes: two texts side by side cannot be taken for two others.
pub(crate) fn text(hasher: &mut crc32fast::Hasher, text: &str) {
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    hasher.update(&[length.to_le_bytes()[0]]);
    hasher.update(text.as_bytes());
}

#[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
fn thousandths(value: f64) -> Result<i32, StoreError> {
    let scaled = (value * 1000.0).round();
    if scaled.is_finite() && scaled.abs() < f64::from(i32::MAX) {
        Ok(scaled as i32)
    } else {
        Err(StoreError::NotANumber)
    }
}
