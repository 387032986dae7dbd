//! Hands out what the hub has not accepted, oldest first: the rows above the watermark. What is damaged or missing
//! there is never skipped in silence: it becomes a `gap` event.

use std::sync::Arc;

use rusqlite::{Connection, params};

use super::database::Database;
use super::events::{self, GAP};
use super::gaps::{DAMAGED, Gap};
use super::live_walk::Walk;
use super::row::Row;
use super::{Event, Page, Position, StoreError, salvaged};

/// The columns of a row, in the order in which [`row`] reads them; `reading` has a sequence before them.
pub(super) const COLUMNS: &str =
    "run, boot, since_boot, time, time_quality, temperature, humidity, pressure, quality, checksum";

/// What lies in the table, believed or not.
pub(super) enum Found {
    Good(Row),
    /// The checksum, or the form of a column, is wrong.
    Damaged {
        sequence: u64,
    },
}

impl Found {
    pub fn sequence(&self) -> u64 {
        let (Self::Good(Row { sequence, .. }) | Self::Damaged { sequence }) = self;
        *sequence
    }

    pub fn good(self) -> Option<Row> {
        match self {
            Self::Good(row) => Some(row),
            Self::Damaged { .. } => None,
        }
    }
}

/// What a check of the whole file has said. A row that cannot be found may still be there: then the file is broken,
/// and the salvage will find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Soundness {
    Unknown,
    /// A row cannot be found: the check is asked for.
    Doubted,
    /// It is under way; meanwhile nothing from there on is handed out.
    Checking,
    /// What is missing up to here is missing.
    Sound {
        upto: u64,
    },
}

impl Soundness {
    /// What is missing up to here is missing.
    fn upto(self) -> u64 {
        if let Self::Sound { upto } = self { upto } else { 0 }
    }

    /// A row cannot be found, and nobody knows whether it is gone.
    fn doubt(&mut self) {
        if !matches!(self, Self::Checking) {
            *self = Self::Doubted;
        }
    }

    /// A check that could not be made says nothing: the next row that cannot be found asks for another.
    pub fn end_check(&mut self) {
        if *self == Self::Checking {
            *self = Self::Unknown;
        }
    }
}

impl Database {
    /// Whether a check is asked for; once.
    pub fn take_doubt(&mut self) -> bool {
        let doubted = self.soundness == Soundness::Doubted;
        if doubted {
            self.soundness = Soundness::Checking;
        }
        doubted
    }

    /// At most `limit` readings after `after`, or after the watermark. Nothing while a salvage is under way: the
    /// older readings go first.
    pub fn pending(&mut self, after: Option<Position>, limit: usize) -> Result<Page, StoreError> {
        let after = after.unwrap_or_default();
        let mut page = Page { readings: Vec::new(), end: after, more: false };
        if self.salvaging {
            return Ok(page);
        }
        let of_this_store = self.watermark.is_of_this_store(after);
        if !of_this_store && self.has_salvaged()? {
            let start = salvaged::key_of(after).max(self.watermark.salvaged);
            if !self.salvaged_page(start, limit, &mut page)? {
                return Ok(page);
            }
        }
        if !page.more {
            let left = limit - page.readings.len();
            self.live_page(self.start_after(after), left, &mut page)?;
            self.handed_out(self.start_after(page.end));
        }
        Ok(page)
    }

    /// The sequence after which the readings of this store go on behind `after`.
    pub(super) fn start_after(&self, after: Position) -> u64 {
        let start = if self.watermark.is_of_this_store(after) { after.row } else { 0 };
        start.max(self.watermark.acknowledged)
    }

    /// False: what comes next waits for the clock, and what is behind it waits as well.
    fn salvaged_page(&mut self, start: u64, limit: usize, page: &mut Page) -> Result<bool, StoreError> {
        let mut rows = salvaged::after(&self.connection, start, limit, &self.run)?;
        let full = rows.len() == limit;
        let goes_on = self.date_salvaged(&mut rows)?;
        page.more = full && goes_on;
        for (number, row) in rows {
            let position = salvaged::position(number);
            page.end = page.end.max(position);
            let (generation, _) = salvaged::parts(number);
            match row.and_then(|row| row.reading(&self.origins.name(generation))) {
                Some(reading) if !self.dead.contains(&position) => page.readings.push((position, reading)),
                Some(_) => {}
                None => self.lose_salvaged(number)?,
            }
        }
        Ok(goes_on)
    }

    fn live_page(&mut self, start: u64, limit: usize, page: &mut Page) -> Result<(), StoreError> {
        // What gets its time only now is not handed out before it has it.
        let upto = start.saturating_add(limit as u64);
        while self.undated_from().is_some_and(|from| from <= upto) && self.redate_step()? {}
        while self.is_to_be_corrected(upto) && self.correct_step()? {}
        let rows = live(&self.connection, start, limit, &self.run)?;
        let at_the_end = rows.len() < limit;
        // Beyond a gap the rows lie further on than that: they wait for the next step.
        let to_be_corrected = self.to_be_corrected();
        let waits = |row: &Row| {
            self.may_get_a_time(row) || to_be_corrected.is_some_and(|first| first <= row.sequence)
        };
        let mut walk = Walk::after(start, &self.known, self.soundness.upto());
        let ready = walk.over(rows, waits)?;
        if at_the_end && ready {
            // The newest one was there when the store was opened.
            walk.to(self.last_sequence);
        }
        page.more = !at_the_end && ready;
        let Walk { rows, missing, mut damaged, end, doubts, .. } = walk;
        if doubts {
            self.soundness.doubt();
        }
        if end > start {
            page.end = self.watermark.position(end);
        }
        for row in rows {
            let position = self.watermark.position(row.sequence);
            match row.reading(&self.store_id) {
                Some(reading) if !self.dead.contains(&position) => page.readings.push((position, reading)),
                Some(_) => {}
                // Its checksum held, and yet a code means nothing: not weather either.
                None => {
                    let time = row.known_time();
                    damaged.push(Gap { until: time, ..Gap::only(row.sequence, time) });
                }
            }
        }
        if !missing.is_empty() || !damaged.is_empty() {
            self.tell_of(missing, &damaged)?;
        }
        Ok(())
    }

    /// A reading of this boot without a time waits until the clock can be trusted.
    fn may_get_a_time(&self, row: &Row) -> bool {
        row.is_undated(self.boot) && self.undated_from().is_some()
    }

    fn tell_of(&mut self, missing: Vec<Gap>, damaged: &[Gap]) -> Result<(), StoreError> {
        let mut gaps = missing;
        gaps.extend_from_slice(damaged);
        gaps.sort_unstable_by_key(|gap| gap.first);
        let now = self.timekeeper.stamp();
        self.make_gaps(&gaps, DAMAGED, &now, |connection| {
            for gap in damaged {
                connection
                    .execute("DELETE FROM reading WHERE sequence = ?1", [gap.first.cast_signed()])
                    .map_err(StoreError::doing("drop a damaged reading"))?;
            }
            Ok(())
        })
    }

    /// A salvaged row that has been damaged since.
    fn lose_salvaged(&mut self, number: u64) -> Result<(), StoreError> {
        let (generation, sequence) = salvaged::parts(number);
        let gap = Gap::only(sequence, None);
        let now = self.timekeeper.stamp();
        let store_id = self.origins.name(generation);
        let event =
            Event::recorded(self.last_event + 1, &self.run, &store_id, GAP, gap.fields(DAMAGED), &now);
        self.transaction("drop a damaged reading", |connection| {
            connection
                .execute("DELETE FROM salvaged WHERE row = ?1", [number.cast_signed()])
                .map_err(StoreError::doing("drop a damaged reading"))?;
            events::write(connection, &event)
        })?;
        self.last_event = event.event_sequence;
        let counted = self.salvaged_counted.is_none_or(|counted| number <= counted);
        self.salvaged_pending = self.salvaged_pending.saturating_sub(u64::from(counted));
        self.dead.remove(&salvaged::position(number));
        Ok(())
    }
}

/// Rows of this store after `after`, oldest first.
pub(super) fn live(
    connection: &Connection,
    after: u64,
    limit: usize,
    run: &Arc<str>,
) -> Result<Vec<Found>, StoreError> {
    let read = || {
        let mut statement = connection.prepare_cached(&format!(
            "SELECT {COLUMNS}, sequence FROM reading WHERE sequence > ?1 ORDER BY sequence LIMIT ?2"
        ))?;
        let mut word = run.clone();
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = statement.query_map(params![after.cast_signed(), limit], |found| {
            let sequence = found.get::<_, i64>(10)?.cast_unsigned();
            Ok(row(found, sequence, &mut word)
                .filter(|(row, sum)| row.checksum() == *sum)
                .map_or(Found::Damaged { sequence }, |(row, _)| Found::Good(row)))
        })?;
        rows.collect::<rusqlite::Result<Vec<_>>>()
    };
    read().map_err(StoreError::doing("read the readings"))
}

/// A row and the checksum that lies beside it; none where a column has the wrong form. `word` is the run word
/// last seen: neighbours share it, so that a page of rows allocates it once.
pub(super) fn row(found: &rusqlite::Row<'_>, sequence: u64, word: &mut Arc<str>) -> Option<(Row, i32)> {
    let run = found.get_ref(0).ok()?.as_str().ok()?;
    if **word != *run {
        *word = Arc::from(run);
    }
    let boot: [u8; 16] = found.get_ref(1).ok()?.as_blob().ok()?.try_into().ok()?;
    let row = Row {
        sequence,
        run: word.clone(),
        boot: u128::from_be_bytes(boot),
        since_boot: found.get(2).ok()?,
        time: found.get(3).ok()?,
        time_quality: found.get(4).ok()?,
        temperature: found.get(5).ok()?,
        humidity: found.get(6).ok()?,
        pressure: found.get(7).ok()?,
        quality: found.get(8).ok()?,
    };
    Some((row, found.get(9).ok()?))
}
