//! Takes out of a damaged store what can be read, step by step beside the running station: readings under their old
//! names, events that were not sent, charts, kept values. Knows where to look; what a row is says `scan`.

mod finish;
mod room;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::database::{Database, beside};
use super::gaps::Gap;
use super::holes::{self, Walk};
use super::room::RESERVE;
use super::row::Row;
use super::salvaged::Origins;
use super::scan::{Cell, cells};
use super::survey::{Survey, page, pages};
use super::{StoreError, events, file, journal, rollups, salvaged, values};

/// Pages in one transaction: they fit into what is kept free for a step.
const STEP: u64 = RESERVE / 2;
/// Pages that could not be read and are remembered; behind so many no room goes back to the disk.
const UNREAD: usize = 1_000;

/// A salvage that is under way.
#[derive(Debug)]
pub(crate) struct Salvage {
    aside: PathBuf,
    reason: String,
    survey: Survey,
    in_doubt: Option<u64>,
    file: Option<File>,
    phase: Phase,
    /// Up to this row nothing is kept: there is no room for it.
    floor: u64,
    /// Up to this page of the file its room went back to the disk.
    given_back: u64,
    /// The first pages that could not be read: perhaps they can another time.
    unread: BTreeSet<u64>,
    /// Since boot: when it began to wait for room.
    waits_since: Option<Duration>,
    /// What was let go unsent, by the generation of its store.
    let_go: BTreeMap<u64, Gap>,
}

/// The row of a reading that is not kept, and its time where that is known.
type Gone = (u64, Option<i64>);

/// What is read next. What the journal holds comes first: it is newer.
#[derive(Debug)]
enum Phase {
    Names,
    Committed(VecDeque<Vec<u8>>),
    /// From this page of the database on.
    Pages(u64),
    Uncommitted(VecDeque<Vec<u8>>),
    /// All that can be found is there: what it comes to.
    Walk(Walk),
}

impl Salvage {
    /// `in_doubt`: readings of this run above it are in memory, whole, and are stored anew.
    pub fn begin(aside: PathBuf, survey: Survey, reason: String, in_doubt: Option<u64>) -> Self {
        let file = file::regular(&aside).ok();
        let pages = file.as_ref().map_or(0, pages);
        tracing::warn!(file = %aside.display(), pages, %reason, "salvaging what can be read of a damaged store");
        let (phase, unread, let_go) = (Phase::Names, BTreeSet::new(), BTreeMap::new());
        let (floor, given_back, waits_since) = (0, 0, None);
        Self { aside, reason, survey, in_doubt, file, phase, floor, given_back, unread, waits_since, let_go }
    }

    pub fn aside(&self) -> &Path {
        &self.aside
    }

    /// Returns true while there is more to do. A step that failed is taken again.
    pub fn step(&mut self, into: &mut Database) -> Result<bool, StoreError> {
        if let Phase::Walk(walk) = &mut self.phase
            && walk.step(&into.connection)?
        {
            return Ok(true);
        }
        match &self.phase {
            Phase::Names => {
                self.names(into)?;
                self.phase = Phase::Committed(self.frames(true));
            }
            Phase::Committed(frames) if frames.is_empty() => self.phase = Phase::Pages(0),
            Phase::Uncommitted(frames) if frames.is_empty() => self.phase = Phase::Walk(self.walk(into)?),
            // An acknowledgement that came meanwhile.
            Phase::Walk(walk) if walk.sent != self.sent().max(into.watermark.salvaged) => self.walk_anew(),
            Phase::Walk(walk) => {
                self.finish(walk, into)?;
                return Ok(false);
            }
            Phase::Committed(frames) | Phase::Uncommitted(frames) => {
                let passed_over = self.keep(into, frames.iter().take(STEP as usize))?;
                self.note_let_go(passed_over);
                if let Phase::Committed(frames) | Phase::Uncommitted(frames) = &mut self.phase {
                    frames.drain(..frames.len().min(STEP as usize));
                }
            }
            Phase::Pages(next) => {
                let end = self.file.as_ref().map_or(0, pages);
                let upto = (next + STEP).min(end);
                let mut pages = Vec::new();
                for number in *next..upto {
                    match self.file.as_ref().and_then(|file| page(file, number)) {
                        Some(page) => pages.push(page),
                        None if self.unread.len() < UNREAD => drop(self.unread.insert(number)),
                        None => {}
                    }
                }
                let passed_over = self.keep(into, pages.iter())?;
                self.note_let_go(passed_over);
                self.phase =
                    if upto < end { Phase::Pages(upto) } else { Phase::Uncommitted(self.frames(false)) };
            }
        }
        Ok(true)
    }

    /// What was counted is no longer so.
    fn walk_anew(&mut self) {
        if matches!(self.phase, Phase::Walk(_)) {
            self.phase = Phase::Uncommitted(VecDeque::new());
        }
    }

    fn walk(&self, into: &Database) -> Result<Walk, StoreError> {
        let names = Origins::read(&into.connection)?;
        let mut told = holes::already_told(&into.connection)?;
        for (generation, gone) in &self.let_go {
            told.entry(names.name(*generation)).or_default().add(gone.first, gone.last);
        }
        // A store before this one may have been sent further than this one knew.
        let sent = self.sent().max(into.watermark.salvaged);
        let (own, has_watermark) = (self.survey.generation(), self.survey.watermark.is_some());
        Ok(Walk::begin(own, has_watermark, sent, names, told))
    }

    fn note_let_go(&mut self, rows: Vec<Gone>) {
        let sent = self.sent();
        for (row, time) in rows.into_iter().filter(|(row, _)| *row > sent) {
            let (generation, sequence) = salvaged::parts(row);
            let only = Gap { first: sequence, last: sequence, from: time, until: time };
            let gap = self.let_go.entry(generation).or_insert(only);
            if sequence < gap.first {
                (gap.first, gap.from) = (sequence, time);
            }
            if sequence > gap.last {
                (gap.last, gap.until) = (sequence, time);
            }
        }
    }

    /// The last row that the hub has accepted.
    fn sent(&self) -> u64 {
        self.survey.watermark.as_ref().map_or(0, |old| match old.acknowledged {
            0 => old.salvaged,
            acknowledged => salvaged::key(self.survey.generation(), acknowledged),
        })
    }

    fn names(&self, into: &mut Database) -> Result<(), StoreError> {
        let generation = self.survey.generation();
        into.transaction("keep the names of older stores", |connection| {
            for (generation, id) in &self.survey.origins {
                salvaged::write_origin(connection, *generation, id)?;
            }
            salvaged::write_origin(connection, generation, &self.survey.store_id(generation))
        })
    }

    /// Newest first: of two versions of a row the later one counts.
    fn frames(&self, committed: bool) -> VecDeque<Vec<u8>> {
        let mut frames = VecDeque::new();
        let read = journal::each(&beside(&self.aside, "-wal"), |frame| {
            if frame.committed == committed {
                frames.push_front(frame.page);
            }
        });
        if let Err(error) = read {
            tracing::error!(%error, "could not read all of a damaged journal");
        }
        frames
    }

    /// Returns those that there is no room for.
    fn keep<'a>(
        &self,
        into: &mut Database,
        pages: impl Iterator<Item = &'a Vec<u8>>,
    ) -> Result<Vec<Gone>, StoreError> {
        let own = self.survey.generation();
        let told = self.survey.watermark.as_ref().map_or(0, |watermark| watermark.events);
        let mut last_event = into.last_event;
        let mut passed_over = Vec::new();
        let run = into.run.clone();
        let in_memory =
            |row: &Row| row.run == run && self.in_doubt.is_some_and(|before| row.sequence > before);
        into.transaction("salvage a page", |connection| {
            for cell in pages.flat_map(|page| cells(page)) {
                match cell {
                    Cell::Reading(row) if in_memory(&row) => {}
                    Cell::Reading(row) if salvaged::key(own, row.sequence) <= self.floor => {
                        passed_over.push((salvaged::key(own, row.sequence), row.known_time()));
                    }
                    Cell::Salvaged { generation, row }
                        if salvaged::key(generation, row.sequence) <= self.floor =>
                    {
                        passed_over.push((salvaged::key(generation, row.sequence), row.known_time()));
                    }
                    Cell::Reading(row) => drop(salvaged::keep(connection, own, &row)?),
                    Cell::Salvaged { generation, row } => drop(salvaged::keep(connection, generation, &row)?),
                    Cell::Origin { generation, store_id }
                        if generation != own && !self.survey.origins.contains_key(&generation) =>
                    {
                        salvaged::write_origin(connection, generation, &store_id)?;
                    }
                    Cell::Event(event) if event.event_sequence > told => {
                        last_event = last_event.max(event.event_sequence);
                        events::keep(connection, &event)?;
                    }
                    Cell::Rollup(level, mut rollup) => {
                        (rollup.first, rollup.last) = (0, 0);
                        rollups::keep_larger(connection, level, &rollup)?;
                    }
                    Cell::Value { key, value } if values::read(connection, &key)?.is_none() => {
                        values::write(connection, &key, Some(&value))?;
                    }
                    _ => {}
                }
            }
            Ok(())
        })?;
        into.last_event = last_event;
        Ok(passed_over)
    }
}

#[cfg(test)]
mod tests;
