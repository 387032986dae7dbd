//! Lets readings go: old ones that were sent, by age; and when the room is used up the oldest sent ones, then the
//! oldest pending ones, which the consumer is told of. Always the oldest first, a few hundred at a time. How the charts
//! go along is `prune_charts`'s.

use std::time::Duration;

use chrono::TimeDelta;
use rusqlite::{Connection, params};

use super::database::Database;
use super::gaps::{Extendable, Gap, NO_ROOM};
use super::prune_charts::{HOURS_KEPT, charts};
use super::rollups::Level;
use super::row::{READINGS, SALVAGED, Table};
use super::{Event, StoreError, events, salvaged, too_old};
use crate::clock::ClockState;

/// Rows in one transaction.
pub(super) const STEP: i64 = 500;

impl Database {
    /// One step of pruning by age, only while the clock is synchronised: a wrong clock would throw everything away.
    /// Returns true while there is more to do.
    pub fn prune_old(&mut self, keep: Duration) -> Result<bool, StoreError> {
        let keep = TimeDelta::from_std(keep).unwrap_or(TimeDelta::MAX);
        let now = self.timekeeper.now();
        let Some(oldest) = now.checked_sub_signed(keep) else { return Ok(false) };
        if self.timekeeper.state() != ClockState::Synchronised {
            return Ok(false);
        }
        let oldest = oldest.timestamp_millis();
        let old_salvaged = too_old::last(
            &self.connection,
            SALVAGED,
            self.watermark.salvaged,
            oldest,
            &mut self.walks.salvaged,
        )?;
        let old = too_old::last(
            &self.connection,
            READINGS,
            self.watermark.acknowledged,
            oldest,
            &mut self.walks.readings,
        )?;
        let fives = self.without_the_present(Level::Hour, oldest);
        let hours = self.without_the_present(Level::Day, (now - HOURS_KEPT.max(keep)).timestamp_millis());
        let acknowledged = self.watermark.acknowledged;
        let (upto_salvaged, upto) = (old_salvaged.unwrap_or(0), old.unwrap_or(0));
        let gone = {
            let mut gone = 0;
            if upto_salvaged > 0 || upto > 0 || self.has_old_charts(fives, hours)? {
                self.write_down()?;
                gone = self.transaction("prune old readings", |connection| {
                    Ok(delete(connection, "DELETE FROM salvaged WHERE row <= ?1", upto_salvaged)?
                        + delete(connection, "DELETE FROM reading WHERE sequence <= ?1", upto)?
                        + delete(connection, "DELETE FROM gap WHERE last <= ?1", acknowledged)?
                        + charts(connection, Level::FiveMinutes, fives)?
                        + charts(connection, Level::Hour, hours)?)
                })?;
            }
            gone
        };
        Ok(gone > 0)
    }

    /// Makes room by one step: of charts that have more than their share; else sent readings; pending ones only where
    /// `pending` allows it, and then whatever charts there are. False: there was nothing to let go.
    pub fn evict(&mut self, pending: bool) -> Result<bool, StoreError> {
        let (salvaged, acknowledged) = (self.watermark.salvaged, self.watermark.acknowledged);
        self.write_down()?;
        if self.evict_charts_over_their_share()? {
            return Ok(true);
        }
        // Never the newest: it is what keeps the sequence going, and the page shows it.
        let newest = self.last_sequence.saturating_sub(1);
        let sent = self.transaction("make room", |connection| {
            let gone = oldest(connection, SALVAGED, salvaged)?;
            if gone > 0 {
                return Ok(gone);
            }
            oldest(connection, READINGS, acknowledged.min(newest))
        })?;
        if sent == 0 && pending {
            let told = (!self.salvaging && self.has_salvaged()? && self.evict_salvaged()?)
                || self.evict_pending(newest)?;
            self.forget_fine_charts()?;
            return Ok(told || self.evict_charts()?);
        }
        self.forget_fine_charts()?;
        Ok(sent > 0)
    }

    fn evict_pending(&mut self, newest: u64) -> Result<bool, StoreError> {
        let acknowledged = self.watermark.acknowledged;
        let stretch = self.stretch(READINGS, acknowledged, newest)?;
        let (Some(&(_, from)), Some(&(last, until))) = (stretch.first(), stretch.last()) else {
            return Ok(false);
        };
        // From the watermark on: what is missing in between is told along with it, if nobody has told it yet.
        let gaps: Vec<Gap> = self
            .known
            .unknown_in(acknowledged + 1, last)
            .into_iter()
            .map(|(first, last)| Gap { first, last, from, until })
            .collect();
        let now = self.timekeeper.stamp();
        self.make_gaps(&gaps, NO_ROOM, &now, |connection| {
            delete(connection, "DELETE FROM reading WHERE sequence <= ?1", last).map(drop)
        })?;
        Ok(true)
    }

    fn evict_salvaged(&mut self) -> Result<bool, StoreError> {
        let stretch = self.stretch(SALVAGED, self.watermark.salvaged, i64::MAX.cast_unsigned())?;
        let Some(&(start, from)) = stretch.first() else { return Ok(false) };
        let (generation, first) = salvaged::parts(start);
        let of_one_store = |row: &&(u64, Option<i64>)| salvaged::parts(row.0).0 == generation;
        let Some(&(end, until)) = stretch.iter().rfind(of_one_store) else { return Ok(false) };
        let gap = Gap { first, last: salvaged::parts(end).1, from, until };
        let store_id = self.origins.name(generation);
        let (open, offered) = (self.extendable.clone(), self.events_offered);
        let told = Extendable::told(open, &gap, &store_id, NO_ROOM, offered, self.last_event);
        let now = self.timekeeper.stamp();
        let event =
            Event::recorded(told.event, &self.run, &store_id, events::GAP, told.gap.fields(NO_ROOM), &now);
        let mut watermark = self.watermark.clone();
        watermark.salvaged = end;
        self.transaction("make room", |connection| {
            delete(connection, "DELETE FROM salvaged WHERE row <= ?1", end)?;
            watermark.write(connection)?;
            events::write(connection, &event)
        })?;
        self.last_event = self.last_event.max(told.event);
        self.extendable = Some(told);
        self.watermark = watermark;
        let gone = stretch.iter().filter(|row| row.0 <= end).count() as u64;
        self.salvaged_pending = self.salvaged_pending.saturating_sub(gone);
        self.forget_dead();
        Ok(true)
    }

    /// A step of [`Table::stretch`].
    pub(super) fn stretch(
        &self,
        table: Table,
        after: u64,
        upto: u64,
    ) -> Result<Vec<(u64, Option<i64>)>, StoreError> {
        table
            .stretch(&self.connection, after, upto, STEP)
            .map_err(StoreError::doing("look for readings to let go"))
    }
}

fn oldest(connection: &Connection, table: Table, upto: u64) -> Result<usize, StoreError> {
    let Table { name, number } = table;
    connection
        .prepare_cached(&format!(
            "DELETE FROM {name} WHERE {number} IN (SELECT {number} FROM {name} WHERE {number} <= ?1 \
             ORDER BY {number} LIMIT ?2)"
        ))
        .and_then(|mut statement| statement.execute(params![upto.cast_signed(), STEP]))
        .map_err(StoreError::doing("make room"))
}

fn delete(connection: &Connection, sql: &str, upto: u64) -> Result<usize, StoreError> {
    connection
        .prepare_cached(sql)
        .and_then(|mut statement| statement.execute([upto.cast_signed()]))
        .map_err(StoreError::doing("let readings go"))
}
