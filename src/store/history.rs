//! Answers for charts: readings of a stretch of time, folded into buckets. Reads only.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::database::Database;
use super::pending::{Found, live};
use super::row::Row;
use super::{Bucket, Spread, StoreError};
use crate::reading::{Celsius, Hectopascal, Percent, Reading};

/// Rows read at a time.
const STEP: usize = 1_000;

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

impl Database {
    /// See [`super::StoreHandle::history`].
    pub fn history(
        &mut self,
        since: DateTime<Utc>,
        until: DateTime<Utc>,
        step: Duration,
    ) -> Result<Vec<Bucket>, StoreError> {
        let length = i64::try_from(step.as_millis()).unwrap_or(i64::MAX).max(1_000);
        let (since, until) = (since.timestamp_millis(), until.timestamp_millis());
        let mut folds = BTreeMap::<i64, Fold>::new();
        let mut after = 0;
        loop {
            let rows = live(&self.connection, after, STEP, &self.run)?;
            for found in &rows {
                match found {
                    Found::Damaged { sequence } => after = *sequence,
                    Found::Good(row) => {
                        after = row.sequence;
                        if (since..until).contains(&row.time) {
                            let fold = Fold::of(row);
                            let start = row.time.div_euclid(length) * length;
                            folds.entry(start).and_modify(|old| old.add(&fold)).or_insert(fold);
                        }
                    }
                }
            }
            if rows.len() < STEP {
                break;
            }
        }
        Ok(folds.into_iter().filter_map(|(start, fold)| fold.bucket(start, step)).collect())
    }

    /// The newest reading whose checksum holds.
    pub fn latest(&mut self) -> Result<Option<Reading>, StoreError> {
        let rows = live(&self.connection, self.last_sequence.saturating_sub(10), 10, &self.run)?;
        Ok(rows.iter().rev().find_map(|found| match found {
            Found::Good(row) => row.reading(&self.store_id),
            Found::Damaged { .. } => None,
        }))
    }
}
