//! Readings folded together: count, least, greatest and sum of each quantity. Pure; knows no SQL.

use std::time::Duration;

use chrono::DateTime;

use super::row::Row;
use super::{Bucket, Spread};
use crate::reading::{Celsius, Hectopascal, Percent};

/// Sums of whole thousandths: exact, and the same in whatever order they are added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fold {
    pub count: i64,
    pub temperature: Range,
    pub humidity: Range,
    pub pressure: Range,
}

/// One quantity in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub min: i64,
    pub max: i64,
    pub sum: i64,
}

impl Range {
    fn of(value: i32) -> Self {
        let value = i64::from(value);
        Self { min: value, max: value, sum: value }
    }

    fn add(&mut self, other: Self) {
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.sum = self.sum.saturating_add(other.sum);
    }

    #[expect(clippy::cast_precision_loss, reason = "far below 2^53 thousandths")]
    fn spread<T>(self, count: i64, unit: impl Fn(f64) -> T) -> Spread<T> {
        let of = |value: i64, count: i64| unit(value as f64 / 1000.0 / count as f64);
        Spread { min: of(self.min, 1), mean: of(self.sum, count), max: of(self.max, 1) }
    }
}

impl Fold {
    pub fn of(row: &Row) -> Self {
        Self {
            count: 1,
            temperature: Range::of(row.temperature),
            humidity: Range::of(row.humidity),
            pressure: Range::of(row.pressure),
        }
    }

    pub fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.temperature.add(other.temperature);
        self.humidity.add(other.humidity);
        self.pressure.add(other.pressure);
    }

    /// The sum of two, either of which may be missing.
    pub fn joined(one: Option<Self>, other: &Self) -> Self {
        let mut sum = *other;
        if let Some(one) = one {
            sum.add(&one);
        }
        sum
    }

    /// `start` in milliseconds since 1970.
    pub fn bucket(&self, start: i64, length: Duration) -> Option<Bucket> {
        Some(Bucket {
            start: DateTime::from_timestamp_millis(start)?,
            length,
            count: u32::try_from(self.count).ok()?,
            air_temperature: self.temperature.spread(self.count, Celsius),
            relative_humidity: self.humidity.spread(self.count, Percent),
            station_pressure: self.pressure.spread(self.count, Hectopascal),
        })
    }
}
