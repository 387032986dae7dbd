//! Answers for charts and reports: the readings of a stretch of time, folded. Reads only, and never sorts in SQL:
//! a sort writes a temporary file to the card for every chart.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::database::Database;
use super::fold::Fold;
use super::pending::{Found, live};
use super::rollups::{self, Level, Rollup};
use super::{Bucket, StoreError};
use crate::reading::{Reading, TimeQuality};

/// Rows read at a time.
const STEP: usize = 1_000;
/// Single readings that one chart may read: three days at one in five seconds.
const MOST: i64 = 50_000;

impl Database {
    /// See [`super::StoreHandle::history`].
    pub fn history(
        &mut self,
        since: DateTime<Utc>,
        until: DateTime<Utc>,
        step: Duration,
    ) -> Result<Vec<Bucket>, StoreError> {
        let length = i64::try_from(step.as_millis()).unwrap_or(i64::MAX).max(1_000);
        let (since, until) = (since.timestamp_millis().max(0), until.timestamp_millis());
        let length = self.in_whole_buckets(length, since, until)?;
        let mut folds = BTreeMap::<i64, Fold>::new();
        let mut add = |time: i64, fold: &Fold| {
            let start = time.div_euclid(length) * length;
            folds.entry(start).and_modify(|old| old.add(fold)).or_insert(*fold);
        };
        let level = Level::ALL.into_iter().rev().find(|level| length % level.length() == 0);
        match level {
            Some(level) => self.closed(level, level.start(since), until, &mut add)?,
            None => self.each(since, until, &mut add)?,
        }
        let length = Duration::from_millis(length.unsigned_abs());
        Ok(folds.into_iter().filter_map(|(start, fold)| fold.bucket(start, length)).collect())
    }

    /// Rounds a step up to five-minute buckets where it is longer than one, or where it would take too many single
    /// readings to make it.
    fn in_whole_buckets(&self, length: i64, since: i64, until: i64) -> Result<i64, StoreError> {
        let five = Level::FiveMinutes;
        let mut long = length > five.length();
        if length < five.length() {
            let mut readings = 0;
            self.closed(five, five.start(since), until, &mut |_, fold| readings += fold.count)?;
            long = readings > MOST;
        }
        Ok(if long { five.start(length.saturating_add(five.length() - 1)) } else { length })
    }

    /// Least, mean and greatest of everything from `since` until now; none without a reading. The bucket
    /// starts at `since`, which need be no round time.
    pub fn report(&mut self, since: DateTime<Utc>) -> Result<Option<Bucket>, StoreError> {
        let now = self.timekeeper.now();
        let from = since.timestamp_millis().max(0);
        let up = |level: Level, time: i64| level.start(time.saturating_add(level.length() - 1));
        let five = up(Level::FiveMinutes, from);
        let hour = up(Level::Hour, five);
        let day = up(Level::Day, hour);
        let mut sum = None;
        let mut add = |_: i64, fold: &Fold| sum = Some(Fold::joined(sum, fold));
        self.each(from, five, &mut add)?;
        self.closed(Level::FiveMinutes, five, hour, &mut add)?;
        self.closed(Level::Hour, hour, day, &mut add)?;
        self.closed(Level::Day, day, i64::MAX / 2, &mut add)?;
        let length = (now - since).to_std().unwrap_or_default();
        Ok(sum.and_then(|fold: Fold| fold.bucket(from, length)))
    }

    /// The newest readings of this store, oldest first, at most `count` (and at most 10,000).
    pub fn newest(&mut self, count: usize) -> Result<Vec<Reading>, StoreError> {
        let count = count.clamp(1, 10_000);
        // A few more, for damaged ones and numbers that were never used.
        let after = self.last_sequence.saturating_sub(count as u64 + 10);
        let mut readings: Vec<Reading> = live(&self.connection, after, count + 10, &self.run)?
            .into_iter()
            .filter_map(|found| found.good()?.reading(&self.store_id))
            .collect();
        readings.drain(..readings.len().saturating_sub(count));
        Ok(readings)
    }

    /// Buckets of a level that start in `[from, to)`. The one that the station is in is not written yet: it is
    /// put together from the levels below and from memory.
    fn closed(
        &self,
        level: Level,
        from: i64,
        to: i64,
        add: &mut impl FnMut(i64, &Fold),
    ) -> Result<(), StoreError> {
        let mut parts = Vec::new();
        self.parts(level, from, to, &mut parts)?;
        parts.iter().for_each(|part| add(part.start, &part.fold));
        Ok(())
    }

    fn parts(&self, level: Level, from: i64, to: i64, into: &mut Vec<Rollup>) -> Result<(), StoreError> {
        let stored = rollups::between(&self.connection, level, from, to)?;
        let Some(current) = self.current else {
            into.extend(stored);
            return Ok(());
        };
        let here = level.start(current.start);
        match level.below() {
            // What was written of the present bucket (its clock stepped) and what is in memory add up.
            None => {
                into.extend(stored);
                into.extend(current.open.filter(|open| (from..to).contains(&open.start)));
            }
            Some(below) => {
                into.extend(stored.into_iter().filter(|part| part.start != here));
                if (from..to).contains(&here) {
                    self.parts(below, here, here + level.length(), into)?;
                }
            }
        }
        Ok(())
    }

    /// Single readings with a time in `[since, until)`. The five-minute buckets say between which sequences they are.
    fn each(&self, since: i64, until: i64, add: &mut impl FnMut(i64, &Fold)) -> Result<(), StoreError> {
        let mut around = Vec::new();
        self.parts(Level::FiveMinutes, Level::FiveMinutes.start(since), until, &mut around)?;
        let around = || around.iter().filter(|bucket| bucket.first > 0);
        let first = around().map(|bucket| bucket.first).min();
        let last = around().map(|bucket| bucket.last).max();
        let (Some(first), Some(last)) = (first, last) else { return Ok(()) };
        let mut after = first - 1;
        while after < last {
            let rows = live(&self.connection, after, STEP, &self.run)?;
            for found in &rows {
                match found {
                    Found::Damaged { sequence } => after = *sequence,
                    Found::Good(row) => {
                        after = row.sequence;
                        let known = row.time_quality != TimeQuality::Unknown.code();
                        if known && (since..until).contains(&row.time) {
                            add(row.time, &Fold::of(row));
                        }
                    }
                }
            }
            if rows.len() < STEP {
                break;
            }
        }
        Ok(())
    }
}
