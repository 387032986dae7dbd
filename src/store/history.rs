//! Answers for charts and reports: the readings of a stretch of time, folded. Reads only, and never sorts in SQL:
//! a sort writes a temporary file to the card for every chart.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::database::Database;
use super::fold::Fold;
use super::pending::{Found, live};
use super::rollups::{Level, Rollup};
use super::{Bucket, StoreError, rollup_rows};
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

    /// Rounds a step up to whole buckets of a level: of the longest that is no longer than it; of five minutes where
    /// it would take too many single readings to make it; of a longer one where what is finer has been let go.
    fn in_whole_buckets(&self, length: i64, since: i64, until: i64) -> Result<i64, StoreError> {
        let mut level = Level::ALL.into_iter().rfind(|level| level.length() <= length);
        if level.is_none() {
            let five = Level::FiveMinutes;
            let mut readings = 0;
            self.closed(five, five.start(since), until, &mut |_, fold| readings += fold.count)?;
            level = (readings > MOST).then_some(five);
        }
        for (fine, coarse) in [(Level::FiveMinutes, Level::Hour), (Level::Hour, Level::Day)] {
            if level <= Some(fine) && self.is_let_go(fine, coarse, since, until)? {
                level = Some(coarse);
            }
        }
        Ok(level.map_or(length, |level| level.start(length.saturating_add(level.length() - 1))))
    }

    /// Whether a part of `[since, until)` is told by buckets of `coarse` alone: those of `fine` have been let go there.
    fn is_let_go(&self, fine: Level, coarse: Level, since: i64, until: i64) -> Result<bool, StoreError> {
        let here = self.current.map(|current| current.start);
        let first = rollup_rows::first_start(&self.connection, fine, 0)?.or(here).unwrap_or(i64::MAX);
        let told = rollup_rows::first_start(&self.connection, coarse, coarse.start(since))?;
        Ok(told.is_some_and(|start| start < until && start < coarse.start(first)))
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
        self.parts(level, from, to, &mut |part| add(part.start, &part.fold))
    }

    fn parts(
        &self,
        level: Level,
        from: i64,
        to: i64,
        show: &mut dyn FnMut(&Rollup),
    ) -> Result<(), StoreError> {
        let Some(current) = self.current else {
            return rollup_rows::each_between(&self.connection, level, from, to, show);
        };
        let here = level.start(current.start);
        match level.below() {
            // What was written of the present bucket (its clock stepped) and what is in memory add up.
            None => {
                rollup_rows::each_between(&self.connection, level, from, to, show)?;
                current.open.iter().filter(|open| (from..to).contains(&open.start)).for_each(show);
            }
            Some(below) => {
                rollup_rows::each_between(&self.connection, level, from, to, &mut |part| {
                    if part.start != here {
                        show(part);
                    }
                })?;
                if (from..to).contains(&here) {
                    self.parts(below, here, here + level.length(), show)?;
                }
            }
        }
        Ok(())
    }

    /// Single readings with a time in `[since, until)`. The five-minute buckets say between which sequences they are.
    fn each(&self, since: i64, until: i64, add: &mut impl FnMut(i64, &Fold)) -> Result<(), StoreError> {
        let (mut first, mut last) = (u64::MAX, 0);
        self.parts(Level::FiveMinutes, Level::FiveMinutes.start(since), until, &mut |bucket| {
            if bucket.first > 0 {
                (first, last) = (first.min(bucket.first), last.max(bucket.last));
            }
        })?;
        let mut after = first.saturating_sub(1);
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
