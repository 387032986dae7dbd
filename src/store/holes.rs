//! What a salvage came to: how many readings it found, and the sequences of the damaged store that were not sent and
//! that it did not find. Knows what was found and what was told before, not how it was got out of the file.

use rusqlite::Connection;

use super::gaps::{Gap, Known};
use super::row::SALVAGED;
use super::salvaged::STEP;
use super::{StoreError, events, salvaged};

/// More holes than this are told in one event.
const HOLES: usize = 50;

/// A walk over all salvaged readings, in steps.
#[derive(Debug)]
pub(super) struct Walk {
    /// Of the damaged store.
    generation: u64,
    /// The last row that the hub has accepted.
    pub sent: u64,
    /// What was told as missing before.
    known: Known,
    /// The last row that was looked at.
    at: u64,
    /// The sequence before the next one that is looked for, and its time.
    before: (u64, Option<i64>),
    /// Readings found, and those of them that were not sent.
    pub count: u64,
    pub pending: u64,
    /// The stretches between the watermark and the last reading found that are neither there nor known to be missing.
    pub holes: Vec<Gap>,
}

impl Walk {
    /// `acknowledged`: the last sequence of that store that the hub has accepted. Where that is lost, all before the first
    /// one found may be missing: better told than not.
    pub fn begin(generation: u64, acknowledged: u64, sent: u64, known: Known) -> Self {
        let before = (acknowledged, None);
        Self { generation, sent, known, at: 0, before, count: 0, pending: 0, holes: Vec::new() }
    }

    /// Returns true while there may be more to look at.
    pub fn step(&mut self, connection: &Connection) -> Result<bool, StoreError> {
        let rows = SALVAGED
            .stretch(connection, self.at, i64::MAX.cast_unsigned(), STEP.cast_signed())
            .map_err(StoreError::doing("look for missing readings"))?;
        for &(row, time) in &rows {
            self.note(row, time);
        }
        Ok(rows.len() as u64 == STEP)
    }

    fn note(&mut self, row: u64, time: Option<i64>) {
        self.at = row;
        self.count += 1;
        self.pending += u64::from(row > self.sent);
        let (generation, sequence) = salvaged::parts(row);
        let (before, from) = self.before;
        if generation != self.generation || sequence <= before {
            return;
        }
        for (first, last) in self.known.unknown_in(before + 1, sequence - 1) {
            let full = self.holes.len() >= HOLES;
            match self.holes.last_mut() {
                Some(open) if full => (open.last, open.until) = (last, time),
                _ => self.holes.push(Gap { first, last, from, until: time }),
            }
        }
        self.before = (sequence, time);
    }
}

/// What the salvaged events of that store tell as missing: it is told once. A gap whose event was sent is not known,
/// for gaps themselves have no checksum to be found by, and is told again.
pub(super) fn already_told(connection: &Connection, store_id: &str) -> Result<Known, StoreError> {
    let read = || {
        let mut statement = connection.prepare(&format!(
            "SELECT {} FROM event WHERE store_id = ?1 AND kind = 'gap'",
            events::COLUMNS
        ))?;
        let stretches = statement.query_map([store_id], |row| {
            let event = events::event(row, row.get::<_, i64>(0)?.cast_unsigned());
            Ok(event.and_then(|event| event.fields["first"].as_u64().zip(event.fields["last"].as_u64())))
        })?;
        stretches.collect::<rusqlite::Result<Vec<_>>>()
    };
    let mut known = Known::default();
    for (first, last) in
        read().map_err(StoreError::doing("read what was told as missing"))?.into_iter().flatten()
    {
        known.add(first, last);
    }
    Ok(known)
}
