//! What SQLite would drop of a damaged journal: found before SQLite opens it, and put back afterwards. Knows which rows
//! can be believed, not how a journal is read.

use std::collections::BTreeMap;
use std::path::Path;

use super::database::{Database, STEP};
use super::row::Row;
use super::salvaged::Origins;
use super::scan::{Cell, cells};
use super::watermark::Watermark;
use super::{Event, StoreError, events, journal, salvaged};

/// What SQLite would drop.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lost {
    pub rows: BTreeMap<u64, Row>,
    /// Readings of older stores, by their row, and the names of these stores.
    pub salvaged: BTreeMap<u64, Row>,
    pub origins: BTreeMap<u64, String>,
    pub events: BTreeMap<u64, Event>,
    pub watermark: Option<Watermark>,
}

/// Rows in frames that SQLite will not read though they are of the present journal. After an ordinary stop,
/// however sudden, there are at most a few: of a commit that was under way. Readings of that are worth having; its
/// watermark and events are not: they may speak of rows that it was to delete, and that are still there.
pub(crate) fn lost(file: &Path) -> std::io::Result<Lost> {
    let mut lost = Lost::default();
    let mut dropped = 0;
    journal::each(file, |frame| {
        if frame.committed {
            return;
        }
        // The salt of the first one dropped may be the very thing that is damaged.
        dropped += 1;
        if frame.present || dropped == 1 {
            cells(&frame.page).for_each(|cell| lost.note(cell, frame.finished));
        }
    })?;
    Ok(lost)
}

impl Lost {
    fn note(&mut self, cell: Cell, finished: bool) {
        match cell {
            Cell::Reading(row) => {
                self.rows.insert(row.sequence, row);
            }
            Cell::Salvaged { generation, row } => {
                let (key, quality) = (salvaged::key(generation, row.sequence), row.time_quality);
                // Of two versions the one that has its time.
                if self.salvaged.get(&key).is_none_or(|there| quality <= there.time_quality) {
                    self.salvaged.insert(key, row);
                }
            }
            Cell::Origin { generation, store_id } => drop(self.origins.insert(generation, store_id)),
            Cell::Event(event) if finished => {
                let there = self.events.get(&event.event_sequence);
                if there.is_none_or(|there| !events::is_later(&event, there)) {
                    self.events.insert(event.event_sequence, event);
                }
            }
            Cell::Watermark(found)
                if finished && self.watermark.as_ref().is_none_or(|old| old.is_behind(&found)) =>
            {
                self.watermark = Some(found);
            }
            _ => {}
        }
    }

    /// Rows of a store were there.
    pub fn is_of_a_store(&self) -> bool {
        !self.rows.is_empty() || !self.salvaged.is_empty() || !self.events.is_empty()
    }
}

impl Database {
    /// What the journal had lost: readings above the newest stored one, those of older stores that were not sent, and events
    /// that wait. Returns how many readings were put back.
    pub fn put_back(&mut self, lost: Lost) -> Result<usize, StoreError> {
        let Lost { rows, salvaged: older, origins, events, watermark } = lost;
        let watermark = watermark.filter(|lost| lost.store_id == self.watermark.store_id);
        let accepted = self.watermark.salvaged.max(watermark.as_ref().map_or(0, |lost| lost.salvaged));
        let older = older.into_iter().filter(|(row, _)| *row > accepted).collect();
        let older = self.put_back_salvaged(older, &origins)?;
        let rows: Vec<Row> = rows.into_values().filter(|row| row.sequence > self.last_sequence).collect();
        self.insert(&rows)?;
        for event in events.into_values() {
            // Also one that is there: it may have been written anew since.
            if event.event_sequence > self.watermark.events {
                self.transaction("record an event", |connection| events::keep(connection, &event))?;
                self.last_event = self.last_event.max(event.event_sequence);
            }
        }
        if let Some(lost) = watermark {
            self.acknowledge_events(lost.events)?;
            self.acknowledge(salvaged::position(lost.salvaged))?;
            self.acknowledge(lost.position(lost.acknowledged))?;
        }
        Ok(rows.len() + older)
    }

    /// By their rows. Returns how many were not there.
    fn put_back_salvaged(
        &mut self,
        rows: Vec<(u64, Row)>,
        origins: &BTreeMap<u64, String>,
    ) -> Result<usize, StoreError> {
        if rows.is_empty() {
            return Ok(0);
        }
        let mut put_back = 0;
        self.transaction("keep the names of older stores", |connection| {
            origins
                .iter()
                .try_for_each(|(generation, id)| salvaged::write_origin(connection, *generation, id))
        })?;
        for rows in rows.chunks(STEP) {
            self.transaction("keep salvaged readings", |connection| {
                for (number, row) in rows {
                    let (generation, _) = salvaged::parts(*number);
                    put_back += usize::from(salvaged::keep(connection, generation, row)?);
                }
                Ok(())
            })?;
        }
        self.origins = Origins::read(&self.connection)?;
        (self.salvaged_pending, self.salvaged_counted) = (0, Some(0));
        self.count_salvaged_step()?;
        Ok(put_back)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use chrono::DateTime;

    use super::super::database::beside;
    use super::super::journal::{FRAME, HEADER};
    use super::super::schema::PAGE_SIZE;
    use super::*;
    use crate::clock::{SystemClock, Timekeeper};

    /// The journal after a commit that lets salvaged readings go which were never sent, and what a frame of it is.
    pub fn journal_of_an_eviction() -> Vec<u8> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("readings.db");
        let timekeeper = Timekeeper::new(Arc::new(SystemClock::new()), DateTime::UNIX_EPOCH);
        let mut database =
            Database::open(&path, false, 2, "", &timekeeper, &Arc::from("run")).expect("a database");
        let keep = |connection: &rusqlite::Connection| {
            (1..=100)
                .try_for_each(|sequence| salvaged::keep(connection, 1, &Row::example(sequence)).map(drop))
        };
        database.transaction("keep", keep).expect("kept");
        database.salvaged_pending = 100;
        database.empty_journal().expect("empty");
        database.insert(&[Row::example(1)]).expect("inserted");
        assert!(database.evict(true).expect("evicted"));
        assert!(database.watermark.salvaged > 0);
        std::fs::read(beside(&path, "-wal")).expect("a journal")
    }

    fn lost_of(journal: &[u8]) -> Lost {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal");
        std::fs::write(&path, journal).expect("written");
        lost(&path).expect("read")
    }

    #[test]
    fn a_commit_that_was_not_finished_moves_no_watermark_and_tells_of_no_gap() {
        let mut journal = journal_of_an_eviction();
        let last = journal.len() - FRAME - PAGE_SIZE as usize;
        // All but the end of the last commit, as a kill leaves it.
        let cut = lost_of(&journal[..last]);
        assert_eq!((cut.watermark, cut.events.len()), (None, 0));
        // All of it, but damaged before it: then it was synced, and counts.
        journal[HEADER + FRAME + 500] ^= 1;
        let damaged = lost_of(&journal);
        assert!(damaged.watermark.is_some_and(|watermark| watermark.salvaged > 0));
        assert_eq!((damaged.events.len(), damaged.rows.len()), (1, 1));
    }

    /// A page that was split keeps what it had behind its rows, and may be written after the one that has it now.
    #[test]
    fn an_old_version_of_an_event_is_not_put_back_in_the_place_of_a_later_one() {
        let event = |count: u64| Event {
            event_sequence: 7,
            run: Arc::from("run"),
            store_id: Arc::from("store"),
            time: DateTime::UNIX_EPOCH,
            kind: "missedSamples".into(),
            fields: serde_json::Map::from_iter([("count".to_owned(), count.into())]),
        };
        let mut lost = Lost::default();
        for count in [5, 9, 5] {
            lost.note(Cell::Event(event(count)), true);
        }
        assert_eq!(lost.events.get(&7), Some(&event(9)));
    }
}
