//! The rows of the last append are remembered: in a quiet station the cloud task asks for nothing else, and is
//! answered without the disk. Knows one page; whatever is out of the ordinary is left to the table.

use super::database::Database;
use super::row::Row;
use super::{Page, Position};
use crate::reading::TimeQuality;

/// More than this in one append is a backlog.
const MAX_REMEMBERED: usize = 16;

impl Database {
    /// Just appended, in this order.
    pub(super) fn remember(&mut self, rows: &[Row]) {
        self.newest_rows.clear();
        // What may still get its time is read from the table, where it gets it; and so is what has a hole, which is told.
        let dated = |row: &Row| row.time_quality != TimeQuality::Unknown.code();
        let whole =
            rows.windows(2).all(|pair| matches!(pair, [one, next] if one.sequence + 1 == next.sequence));
        if rows.len() <= MAX_REMEMBERED && whole && rows.iter().all(dated) {
            self.newest_rows.extend_from_slice(rows);
        }
    }

    /// What [`Database::pending`] would say, where that is known without the disk.
    pub fn pending_at_once(&mut self, after: Option<Position>, limit: usize) -> Option<Page> {
        let after = after.unwrap_or_default();
        let start = self.start_after(after);
        let remembered_from = self.newest_rows.first().map_or(self.last_sequence + 1, |row| row.sequence);
        let ordinary = !self.salvaging
            && self.salvaged_pending == 0
            && self.salvaged_counted.is_none()
            && self.undated_from().is_none()
            && !self.is_to_be_corrected(self.last_sequence)
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
        self.handed_out(self.start_after(page.end));
        Some(page)
    }

    /// The time of this row in milliseconds since 1970, if it is remembered.
    pub(super) fn remembered_time(&self, sequence: u64) -> Option<i64> {
        self.newest_rows.iter().find(|row| row.sequence == sequence).map(|row| row.time)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use chrono::DateTime;

    use super::*;
    use crate::clock::{SystemClock, Timekeeper};

    fn at_once(database: &mut Database, after: u64) -> Option<Vec<u64>> {
        let page = database.pending_at_once(Some(database.watermark.position(after)), 100)?;
        Some(page.readings.iter().map(|(position, _)| position.row).collect())
    }

    #[test]
    fn what_is_said_at_once_is_what_the_table_says_and_a_hole_is_left_to_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let timekeeper = Timekeeper::new(Arc::new(SystemClock::new()), DateTime::UNIX_EPOCH);
        let path = folder.path().join("readings.db");
        let mut database =
            Database::open(&path, false, 1, "", &timekeeper, &Arc::from("run")).expect("a database");
        database.insert(&[Row::example(1)]).expect("inserted");
        database.insert(&[Row::example(2), Row::example(3)]).expect("inserted");
        assert_eq!(at_once(&mut database, 0), None, "the first one is no longer remembered");
        for after in 1..=3 {
            let after = database.watermark.position(after);
            let said = database.pending_at_once(Some(after), 100).expect("remembered");
            let table = database.pending(Some(after), 100).expect("read");
            assert_eq!((said.readings, said.end, said.more), (table.readings, table.end, table.more));
        }
        database.insert(&[Row::example(4), Row::example(6)]).expect("inserted");
        assert_eq!(at_once(&mut database, 3), None, "the table tells of the gap");
        database.insert(&(7..=40).map(Row::example).collect::<Vec<_>>()).expect("inserted");
        assert_eq!(at_once(&mut database, 6), None, "a backlog");
        assert_eq!(at_once(&mut database, 40), Some(Vec::new()));
    }
}
