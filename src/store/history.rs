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
/// Rows among which one chart may look for single readings: three days at one in five seconds.
const MAX_ROWS_PER_CHART: u64 = 50_000;

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
        if level.is_none() && is_much(self.sequences(since, until)?) {
            level = Some(Level::FiveMinutes);
        }
        let shortest = level.unwrap_or(Level::FiveMinutes);
        for fine in Level::ALL.into_iter().filter(|fine| *fine >= shortest) {
            if !self.is_let_go(fine, since, until)? {
                level = level.max((fine > shortest).then_some(fine));
                break;
            }
        }
        Ok(level.map_or(length, |level| level.start(length.saturating_add(level.length() - 1))))
    }

    /// Whether a part of `[since, until)` is told by longer buckets alone: those of this level have been let go there.
    fn is_let_go(&self, level: Level, since: i64, until: i64) -> Result<bool, StoreError> {
        let here = self.current.map(|current| current.start);
        let first = rollup_rows::first_start(&self.connection, level, 0)?.or(here).unwrap_or(i64::MAX);
        for longer in Level::ALL.into_iter().filter(|longer| *longer > level) {
            let told = rollup_rows::first_start(&self.connection, longer, longer.start(since))?;
            if told.is_some_and(|start| start < until.min(longer.start(first))) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Least, mean and greatest of everything from `since` until now; none without a reading. The bucket
    /// starts at `since`, which need be no round time; where the readings of its first five minutes lie too far apart to
    /// be read one by one, all of them count.
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

    /// The first and the last sequence between which the single readings of `[since, until)` are, as the five-minute
    /// buckets say. Where the clock came to the same time twice there may be many others among them.
    fn sequences(&self, since: i64, until: i64) -> Result<(u64, u64), StoreError> {
        let (mut first, mut last) = (u64::MAX, 0);
        self.parts(Level::FiveMinutes, Level::FiveMinutes.start(since), until, &mut |bucket| {
            if bucket.first > 0 {
                (first, last) = (first.min(bucket.first), last.max(bucket.last));
            }
        })?;
        Ok((first, last))
    }

    /// Single readings with a time in `[since, until)`; the whole five minutes where they lie too far apart.
    fn each(&self, since: i64, until: i64, add: &mut impl FnMut(i64, &Fold)) -> Result<(), StoreError> {
        let (first, last) = self.sequences(since, until)?;
        if is_much((first, last)) {
            return self.closed(Level::FiveMinutes, Level::FiveMinutes.start(since), until, add);
        }
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

/// Too much to be read for one chart.
fn is_much((first, last): (u64, u64)) -> bool {
    last.saturating_sub(first) >= MAX_ROWS_PER_CHART
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use chrono::TimeDelta;

    use super::super::row::Row;
    use super::*;
    use crate::clock::{SystemClock, Timekeeper};

    /// A clock that nobody sets came to the same time in two boots: between them lie millions of readings of other times.
    #[test]
    fn readings_that_lie_far_apart_are_told_by_their_five_minutes() {
        let folder = tempfile::tempdir().expect("a folder");
        let timekeeper = Timekeeper::new(Arc::new(SystemClock::new()), DateTime::UNIX_EPOCH);
        let run = Arc::from("run");
        let mut database =
            Database::open(&folder.path().join("readings.db"), false, 1, "", &timekeeper, &run)
                .expect("a database");
        let at = |sequence, minute: i64| Row { time: minute * 60_000, ..Row::example(sequence) };
        let rows = [at(1, 0), at(2, 3), at(3, 60), at(5_000_000, 4), at(5_000_001, 6)];
        database.insert(&rows).expect("inserted");
        let minute = |minute: i64| DateTime::UNIX_EPOCH + TimeDelta::minutes(minute);
        let mut history = |until| {
            let step = Duration::from_secs(60);
            let found = database.history(minute(0), minute(until), step).expect("a history");
            found.iter().map(|bucket| (bucket.length.as_secs(), bucket.count)).collect::<Vec<_>>()
        };
        assert_eq!(history(5), [(300, 3)]);
        assert_eq!(history(10), [(300, 3), (300, 1)]);
        // Nor does a report look for the part of five minutes that it begins in.
        let report = database.report(minute(1)).expect("a report").expect("readings");
        assert_eq!(report.count, 5);
    }
}
