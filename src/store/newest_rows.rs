//! The rows of the last append are remembered: in a quiet station the cloud task asks for nothing else, and is
//! answered without the disk. Knows one page; whatever is out of the ordinary is left to the table.

use super::database::Database;
use super::row::Row;
use super::{Page, Position};
use crate::reading::TimeQuality;

/// More than this in one append is a backlog.
const MOST: usize = 16;

impl Database {
    /// Just appended, in this order.
    pub(super) fn remember(&mut self, rows: &[Row]) {
        self.newest_rows.clear();
        // What may still get its time is read from the table, where it gets it.
        if rows.len() <= MOST && rows.iter().all(|row| row.time_quality != TimeQuality::Unknown.code()) {
            self.newest_rows.extend_from_slice(rows);
        }
    }

    /// What [`Database::pending`] would say, where that is known without the disk.
    pub fn pending_at_once(&self, after: Option<Position>, limit: usize) -> Option<Page> {
        let after = after.unwrap_or_default();
        let start = self.start_after(after);
        let remembered_from = self.newest_rows.first().map_or(self.last_sequence + 1, |row| row.sequence);
        let ordinary = !self.salvaging
            && self.salvaged_pending == 0
            && self.undated_from().is_none()
            && self.dead.is_empty()
            && self.known.count(start, self.last_sequence) == 0
            && self.newest_rows.last().is_none_or(|row| row.sequence == self.last_sequence)
            && self.newest_rows.len() < limit;
        if !ordinary || start + 1 < remembered_from {
            return None;
        }
        let mut page = Page { end: after, ..Page::default() };
        for row in self.newest_rows.iter().filter(|row| row.sequence > start) {
            let position = self.watermark.position(row.sequence);
            page.readings.push((position, row.clone().reading(&self.store_id)?));
            page.end = position;
        }
        Some(page)
    }

    /// The time of this row in milliseconds since 1970, if it is remembered.
    pub(super) fn remembered_time(&self, sequence: u64) -> Option<i64> {
        self.newest_rows.iter().find(|row| row.sequence == sequence).map(|row| row.time)
    }

    /// No event waits for the hub.
    pub fn has_no_events(&self) -> bool {
        self.last_event <= self.watermark.events
    }
}
