//! What a salvage came to: how many readings it found, and the sequences of the damaged store, and of those before it,
//! that were not sent and that it did not find. Knows what was found and what was told before, not how it was got out of
//! the file.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::Connection;

use super::events::{self, GAP, STORE_REPLACED};
use super::gaps::{Gap, Known};
use super::row::SALVAGED;
use super::salvaged::{Origins, STEP};
use super::{StoreError, salvaged};

/// More holes than this are told in one event for each store.
const HOLES: usize = 50;

/// A walk over all salvaged readings, in steps: those of one store after the other.
#[derive(Debug)]
pub(super) struct Walk {
    /// Generation of the damaged store.
    own: u64,
    /// It knew how far it was sent.
    has_watermark: bool,
    /// The last row that the hub has accepted.
    pub sent: u64,
    pub names: Origins,
    /// What was told as missing before, by the name of the store.
    told: BTreeMap<Arc<str>, Known>,
    /// The last row that was looked at.
    at: u64,
    /// The store that it is of, and what of that is told.
    generation: u64,
    known: Known,
    /// The sequence before the next one that is looked for, and its time.
    before: (u64, Option<i64>),
    /// Readings found, and those of them that were not sent.
    pub count: u64,
    pub pending: u64,
    /// By generation: the stretches between what was accepted and the last reading found that are neither there nor known
    /// to be missing.
    pub holes: Vec<(u64, Gap)>,
}

impl Walk {
    pub fn begin(
        own: u64,
        has_watermark: bool,
        sent: u64,
        names: Origins,
        told: BTreeMap<Arc<str>, Known>,
    ) -> Self {
        let known = Known::default();
        let (at, generation, before, holes) = (0, 0, (0, None), Vec::new());
        let (count, pending) = (0, 0);
        Self { own, has_watermark, sent, names, told, at, generation, known, before, count, pending, holes }
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
        if generation != self.generation {
            self.generation = generation;
            self.known = self.told.remove(&self.names.name(generation)).unwrap_or_default();
            self.before = (self.start(generation).unwrap_or(sequence), None);
        }
        let (before, from) = self.before;
        if sequence <= before {
            self.before = (before, time);
            return;
        }
        for (first, last) in self.known.unknown_in(before + 1, sequence - 1) {
            let full = self.holes.len() >= HOLES;
            match self.holes.last_mut() {
                Some((of, open)) if full && *of == generation => (open.last, open.until) = (last, time),
                _ => self.holes.push((generation, Gap { first, last, from, until: time })),
            }
        }
        self.before = (sequence, time);
    }

    /// The sequence after which any that is not there is missing; none: nobody knows what was before the first one found.
    fn start(&self, generation: u64) -> Option<u64> {
        let (accepted, sequence) = salvaged::parts(self.sent);
        match generation.cmp(&accepted) {
            Ordering::Less => Some(u64::MAX),
            Ordering::Equal => Some(sequence),
            // Nothing of it is accepted, and every store begins at 1. Where the watermark is lost the damaged one may have
            // been sent all the same: better told than not.
            Ordering::Greater => (self.has_watermark || generation == self.own).then_some(0),
        }
    }
}

/// What the salvaged events tell as missing, by the name of the store: it is told once. A gap whose event was sent is not
/// known, for gaps themselves have no checksum to be found by, and is told again.
pub(super) fn already_told(connection: &Connection) -> Result<BTreeMap<Arc<str>, Known>, StoreError> {
    let mut told: BTreeMap<Arc<str>, Known> = BTreeMap::new();
    events::each_of(connection, GAP, |gap| {
        if let Some((first, last)) = gap.fields["first"].as_u64().zip(gap.fields["last"].as_u64()) {
            told.entry(gap.store_id).or_default().add(first, last);
        }
    })?;
    Ok(told)
}

/// Whether it is told that this store was replaced: its salvage had come to its end before, and the file not to its last
/// name.
pub(super) fn is_replacement_told(connection: &Connection, store_id: &str) -> Result<bool, StoreError> {
    let mut told = false;
    events::each_of(connection, STORE_REPLACED, |event| told |= event.fields["previousStoreId"] == store_id)?;
    Ok(told)
}
