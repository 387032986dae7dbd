//! What has to be known of a damaged store before the new one can be used: whose it was, how far it was sent, and which
//! numbers are taken. Knows where that lies; the rows themselves are `salvage`'s.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::database::beside;
use super::journal;
use super::scan::{Cell, cells};
use super::schema::PAGE_SIZE;
use super::watermark::Watermark;

/// Pages at the beginning of a file that are read before the station is ready. The tables of one or few rows lie there,
/// and the present watermark there or in the journal.
const SURVEYED: u64 = 256;
/// No page holds more events.
const EVENTS: u64 = PAGE_SIZE / 32;

/// What is known of a damaged file before its rows are read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Survey {
    pub watermark: Option<Watermark>,
    pub origins: BTreeMap<u64, String>,
    newest_salvaged: u64,
    /// New events get numbers above it: the old ones keep theirs.
    pub last_event: u64,
}

impl Survey {
    /// Reads the beginning of the file and its journal; all of it only where no watermark is there. The watermark that
    /// is furthest on is the last: it never moves back.
    pub fn of(aside: &Path) -> Self {
        let mut survey = Self::default();
        let file = File::open(aside).ok();
        let end = file.as_ref().map_or(0, pages);
        let read = |survey: &mut Self, numbers: std::ops::Range<u64>| {
            let pages = numbers.filter_map(|number| page(file.as_ref()?, number));
            pages.for_each(|page| cells(&page).for_each(|cell| survey.note(cell)));
        };
        read(&mut survey, 0..end.min(SURVEYED));
        let journal = journal::each(&beside(aside, "-wal"), |frame| {
            // A commit that was not finished has let nothing go.
            let counts = |cell: &Cell| frame.finished || !matches!(cell, Cell::Watermark(_));
            cells(&frame.page).filter(counts).for_each(|cell| survey.note(cell));
        });
        if let Err(error) = journal {
            tracing::error!(%error, journal = %beside(aside, "-wal").display(), "could not read all of a damaged journal");
        }
        match &survey.watermark {
            None => read(&mut survey, SURVEYED..end.max(SURVEYED)),
            // The numbers of events that lie further on are known only when they are salvaged: these are above all.
            Some(_) => survey.last_event += end.saturating_sub(SURVEYED) * EVENTS,
        }
        survey
    }

    fn note(&mut self, cell: Cell) {
        match cell {
            Cell::Watermark(found) => {
                self.last_event = self.last_event.max(found.events);
                let further = |old: &Watermark| {
                    (old.salvaged, old.acknowledged, old.events)
                        < (found.salvaged, found.acknowledged, found.events)
                };
                if self.watermark.as_ref().is_none_or(further) {
                    self.watermark = Some(found);
                }
            }
            Cell::Origin { generation, store_id } => {
                self.origins.insert(generation, store_id);
            }
            Cell::Event(event) => self.last_event = self.last_event.max(event.event_sequence),
            Cell::Salvaged { generation, .. } => self.newest_salvaged = self.newest_salvaged.max(generation),
            _ => {}
        }
    }

    /// That of the damaged store.
    pub fn generation(&self) -> u64 {
        let known = self.watermark.as_ref().map(|watermark| watermark.generation);
        let newest_origin = self.origins.keys().next_back().copied().unwrap_or(0);
        known.unwrap_or(self.newest_salvaged.max(newest_origin) + 1)
    }
}

pub(crate) fn pages(file: &File) -> u64 {
    file.metadata().map_or(0, |metadata| metadata.len().div_ceil(PAGE_SIZE))
}

/// Shorter at the end of a file that was cut; none where the card cannot read it.
pub(crate) fn page(file: &File, number: u64) -> Option<Vec<u8>> {
    let mut page = vec![0; usize::try_from(PAGE_SIZE).ok()?];
    let mut filled = 0;
    while filled < page.len() {
        match file.read_at(page.get_mut(filled..)?, number * PAGE_SIZE + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    page.truncate(filled);
    Some(page)
}
