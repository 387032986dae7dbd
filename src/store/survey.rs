//! What has to be known of a damaged store before the new one can be used: whose it was, how far it was sent, which
//! numbers are taken, and what it knew of the clock. Knows where that lies; the rows themselves are `salvage`'s.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use super::database::beside;
use super::file::{piece, regular};
use super::journal;
use super::label::Claim;
use super::progress::{Progress, newest};
use super::row::Row;
use super::salvaged::{key, lost_name};
use super::scan::{Cell, cells};
use super::schema::PAGE_SIZE;
use super::watermark::Watermark;
use crate::reading::{BootId, TimeQuality};

/// Pages at the beginning of a file that are read before the station is ready. The tables of one or few rows lie there,
/// and the present watermark there or in the journal.
const SURVEYED: u64 = 256;
/// Further pages at most: the ends of tables.
const ENDS: usize = 1_000;

/// What is known of a damaged file before its rows are read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Survey {
    pub watermark: Option<Watermark>,
    claim: Claim,
    pub origins: BTreeMap<u64, String>,
    newest_salvaged: u64,
    /// New events get numbers above it: the old ones keep theirs.
    pub last_event: u64,
    progress: Option<Progress>,
    /// Sequence and time of the newest reading found that was taken synchronised.
    synchronised: Option<(u64, i64)>,
    /// The same of the readings of older stores, by their row.
    synchronised_before: Option<(u64, i64)>,
    /// By boot: time since boot and sequence of the first reading found that was taken by a wrong clock, and after the
    /// newest one taken synchronised.
    wrong: BTreeMap<u128, (i64, u64)>,
    /// The pages behind the beginning that were read; none: all of them were.
    read: Option<BTreeSet<u64>>,
}

impl Survey {
    /// Reads the beginning of the file, its journal, and the ends of tables; all of it only where no watermark is
    /// there, and then the label is asked. The watermark that is furthest on is the last: it never moves back.
    pub fn of(aside: &Path) -> Self {
        let mut survey = Self { claim: Claim::of(aside), ..Self::default() };
        let file = regular(aside).ok();
        let end = file.as_ref().map_or(0, pages);
        let mut ends = Vec::new();
        let read = |survey: &mut Self, ends: &mut Vec<u64>, number: u64| {
            if let Some(page) = file.as_ref().and_then(|file| page(file, number)) {
                cells(&page).for_each(|cell| survey.note(cell));
                ends.extend(last_child(&page));
            }
        };
        (0..end.min(SURVEYED)).for_each(|number| read(&mut survey, &mut ends, number));
        let journal = journal::each(&beside(aside, "-wal"), |frame| {
            // A commit that was not finished has let nothing go.
            let counts = |cell: &Cell| frame.finished || !matches!(cell, Cell::Watermark(_));
            cells(&frame.page).filter(counts).for_each(|cell| survey.note(cell));
            ends.extend(last_child(&frame.page));
        });
        if let Err(error) = journal {
            tracing::error!(%error, journal = %beside(aside, "-wal").display(), "could not read all of a damaged journal");
        }
        if survey.watermark.is_none() {
            (SURVEYED..end).for_each(|number| read(&mut survey, &mut ends, number));
            if let Some(watermark) = survey.claim.believed().cloned() {
                survey.note(Cell::Watermark(watermark));
            }
            return survey;
        }
        // The newest event is at the end of its table, wherever that is.
        let mut seen = BTreeSet::new();
        while let Some(number) = ends.pop() {
            if (SURVEYED..end).contains(&number) && seen.len() < ENDS && seen.insert(number) {
                read(&mut survey, &mut ends, number);
            }
        }
        survey.read = Some(seen);
        survey
    }

    /// Whether it would be read again.
    pub fn has_read(&self, page: u64) -> bool {
        page < SURVEYED || self.read.as_ref().is_none_or(|read| read.contains(&page))
    }

    fn note(&mut self, cell: Cell) {
        self.claim.note(&cell);
        match cell {
            Cell::Watermark(found) => {
                self.last_event = self.last_event.max(found.events);
                if self.watermark.as_ref().is_none_or(|old| old.is_behind(&found)) {
                    self.watermark = Some(found);
                }
            }
            Cell::Origin { generation, store_id } => {
                self.origins.insert(generation, store_id);
            }
            Cell::Event(event) => self.last_event = self.last_event.max(event.event_sequence),
            Cell::Salvaged { generation, row } => {
                self.newest_salvaged = self.newest_salvaged.max(generation);
                let found = synchronised(key(generation, row.sequence), &row);
                self.synchronised_before = self.synchronised_before.max(found);
            }
            Cell::Reading(row) => self.note_reading(&row),
            Cell::Progress(found) => {
                let age = |row: &Progress| (row.rolled_up, row.newest_synchronised, row.undated_from);
                if self.progress.as_ref().is_none_or(|old| age(old) < age(&found)) {
                    self.progress = Some(found);
                }
            }
            Cell::Rollup(..) | Cell::Value { .. } => {}
        }
    }

    fn note_reading(&mut self, row: &Row) {
        if let found @ Some((after, _)) = synchronised(row.sequence, row)
            && found > self.synchronised
        {
            self.synchronised = found;
            self.wrong.retain(|_, (_, sequence)| *sequence > after);
        }
        let after = self.synchronised.map_or(0, |(sequence, _)| sequence);
        if row.time_quality == TimeQuality::Unknown.code() && row.sequence > after {
            let found = (row.since_boot, row.sequence);
            self.wrong.entry(row.boot).and_modify(|first| *first = found.min(*first)).or_insert(found);
        }
    }

    /// Since boot: when the clock of that boot was seen to be behind [`Survey::newest_synchronised`], where it was not
    /// right since; the first time that was found.
    pub fn found_wrong(&self, boot: BootId) -> Option<Duration> {
        let from = match &self.progress {
            // It was right since, or never wrong: what was found is of before it was re-dated.
            Some(progress) if progress.undated_boot != boot.0 || progress.undated_from == 0 => return None,
            Some(progress) => progress.undated_from,
            None => 0,
        };
        let (since_boot, _) = self.wrong.get(&boot.0).filter(|(_, sequence)| *sequence >= from)?;
        u64::try_from(*since_boot).ok().map(Duration::from_millis)
    }

    /// Time of the newest reading that was taken synchronised, milliseconds since 1970; 0: none was found. The progress
    /// row knows it up to the last closed bucket.
    pub fn newest_synchronised(&self) -> i64 {
        let told = self.progress.as_ref().map_or(0, |progress| progress.newest_synchronised);
        let before = self.synchronised_before.map_or(0, |(_, time)| time);
        let known = if told > 0 { told } else { before };
        let rolled_up = self.progress.as_ref().map_or(0, |progress| progress.rolled_up);
        let newer = self.synchronised.filter(|(sequence, _)| *sequence > rolled_up);
        newer.map_or(known, |(_, time)| newest(known, time))
    }

    /// The id of the damaged store, or of an older one that it held readings of.
    pub fn store_id(&self, generation: u64) -> String {
        let own = self.watermark.as_ref().filter(|_| generation == self.generation());
        let known = own.map(|watermark| &watermark.store_id).or_else(|| self.origins.get(&generation));
        known.cloned().unwrap_or_else(|| lost_name(generation))
    }

    /// That of the damaged store.
    pub fn generation(&self) -> u64 {
        let known = self.watermark.as_ref().map(|watermark| watermark.generation);
        let newest_origin = self.origins.keys().next_back().copied().unwrap_or(0);
        known.unwrap_or(self.newest_salvaged.max(newest_origin) + 1)
    }
}

/// Its number and its time, where it was taken synchronised.
fn synchronised(number: u64, row: &Row) -> Option<(u64, i64)> {
    (row.time_quality == TimeQuality::Synchronised.code()).then_some((number, row.time))
}

/// The page in which the greatest rows are that lie under this one, counted from 0. Source: "Database File Format"
/// (sqlite.org/fileformat2.html), section 1.6: an interior page of a table begins with 5, and names its right-most child
/// at offset 8.
fn last_child(page: &[u8]) -> Option<u64> {
    let number: [u8; 4] = page.get(8..12)?.try_into().ok()?;
    (page.first() == Some(&5)).then(|| u64::from(u32::from_be_bytes(number)).checked_sub(1)).flatten()
}

pub(crate) fn pages(file: &File) -> u64 {
    file.metadata().map_or(0, |metadata| metadata.len().div_ceil(PAGE_SIZE))
}

/// Shorter at the end of a file that was cut; none where the card cannot read it.
pub(crate) fn page(file: &File, number: u64) -> Option<Vec<u8>> {
    piece(file, number * PAGE_SIZE, usize::try_from(PAGE_SIZE).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use chrono::DateTime;
    use serde_json::json;

    use super::super::database::Database;
    use super::super::{Event, events};
    use super::*;
    use crate::clock::{SystemClock, Timekeeper};

    /// Events wait in a table that has grown far beyond the beginning of the file.
    #[test]
    fn the_newest_event_is_found_wherever_it_lies() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("readings.db");
        let timekeeper = Timekeeper::new(Arc::new(SystemClock::new()), DateTime::UNIX_EPOCH);
        let mut database =
            Database::open(&path, false, 1, "", &timekeeper, &Arc::from("run")).expect("a database");
        let fields = json!({"reason": "r".repeat(290)});
        let fields = fields.as_object().expect("an object");
        let event = |event_sequence| Event {
            event_sequence,
            run: Arc::from("run"),
            store_id: Arc::from("store"),
            time: DateTime::UNIX_EPOCH,
            kind: "gap".into(),
            fields: fields.clone(),
        };
        let record =
            |connection: &_| (1..=2_000).try_for_each(|number| events::write(connection, &event(number)));
        database.transaction("record events", record).expect("recorded");
        database.close(true).expect("closed");
        let file = File::open(&path).expect("a file");
        assert!(pages(&file) > 2 * SURVEYED, "{} pages", pages(&file));
        let survey = Survey::of(&path);
        assert_eq!((survey.generation(), survey.last_event), (1, 2_000));
    }
}
