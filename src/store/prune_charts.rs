//! Lets buckets of the charts go: by age, along with the readings they are made of, and where they take the room that
//! readings need. The oldest first; days last.

use chrono::TimeDelta;
use rusqlite::{Connection, params};

use super::StoreError;
use super::database::Database;
use super::prune::STEP;
use super::rollups::Level;

/// Hours of the charts are kept at least so long, whatever the readings' age: the year's chart is made of them.
pub(super) const HOURS_KEPT: TimeDelta = TimeDelta::days(400);
/// Where the room is used up hours and days take one page in so many.
const SHARE: u64 = 4;
/// Buckets in a page, or a few more.
const IN_A_PAGE: u64 = 12;

impl Database {
    /// Up to where the buckets before `time` may go that those of `level` are made of: whole ones only, and not the one
    /// that the station is in, which is made when it leaves it.
    pub(super) fn without_the_present(&self, level: Level, time: i64) -> i64 {
        level.start(self.current.map_or(time, |current| time.min(current.start)))
    }

    pub(super) fn has_old_charts(&self, fives: i64, hours: i64) -> Result<bool, StoreError> {
        self.connection
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM rollup WHERE id >= ?1 AND id < ?2) \
                 OR EXISTS (SELECT 1 FROM rollup WHERE id >= ?3 AND id < ?4)",
            )
            .and_then(|mut statement| {
                let (five, hour) = (Level::FiveMinutes, Level::Hour);
                statement.query_row(params![five.id(0), five.id(fives), hour.id(0), hour.id(hours)], |row| {
                    row.get(0)
                })
            })
            .map_err(StoreError::doing("look for old charts"))
    }

    /// Where they take more room than is theirs they go before any reading does. False: they do not, or there was
    /// nothing to let go.
    pub(super) fn evict_charts_over_their_share(&mut self) -> Result<bool, StoreError> {
        Ok(self.charts_have_more_than_their_share()? && self.evict_charts()?)
    }

    /// Hours and days; the five minutes go with the readings.
    fn charts_have_more_than_their_share(&self) -> Result<bool, StoreError> {
        let share = self.number("max_page_count")? / SHARE * IN_A_PAGE;
        self.connection
            .prepare_cached("SELECT count(*) FROM (SELECT 1 FROM rollup WHERE id >= ?1 LIMIT ?2)")
            .and_then(|mut statement| {
                statement.query_row(params![Level::Hour.id(0), share.cast_signed() + 1], |row| {
                    row.get::<_, i64>(0)
                })
            })
            .map(|count| count.cast_unsigned() > share)
            .map_err(StoreError::doing("count the charts"))
    }

    /// The oldest hours; days where there are none. Those that the present day will be made of stay. False: there was
    /// nothing to let go.
    pub(super) fn evict_charts(&mut self) -> Result<bool, StoreError> {
        let today = self.without_the_present(Level::Day, self.timekeeper.now().timestamp_millis());
        let gone =
            self.transaction("make room", |connection| match charts(connection, Level::Hour, today)? {
                0 => charts(connection, Level::Day, today),
                gone => Ok(gone),
            })?;
        Ok(gone > 0)
    }

    /// Five-minute buckets from before the oldest reading: the hours stay.
    pub(super) fn forget_fine_charts(&mut self) -> Result<(), StoreError> {
        let oldest: Option<i64> = self
            .connection
            .query_row(
                "SELECT time FROM reading WHERE time_quality < 2 ORDER BY sequence LIMIT 1",
                [],
                |row| row.get(0),
            )
            .ok();
        match oldest.map(|oldest| self.without_the_present(Level::Hour, oldest)) {
            Some(before) => self.transaction("make room", |connection| {
                charts(connection, Level::FiveMinutes, before).map(drop)
            }),
            None => Ok(()),
        }
    }
}

/// The oldest of a level that start before then, a step of them.
pub(super) fn charts(connection: &Connection, level: Level, before: i64) -> Result<usize, StoreError> {
    connection
        .prepare_cached(
            "DELETE FROM rollup WHERE id IN (SELECT id FROM rollup WHERE id >= ?1 AND id < ?2 ORDER BY id LIMIT ?3)",
        )
        .and_then(|mut statement| statement.execute(params![level.id(0), level.id(before), STEP]))
        .map_err(StoreError::doing("let old charts go"))
}
