//! How much room there is: `max_size` for database and journal together, and the ballast that makes a full disk
//! curable. Knows bytes and pages, not readings.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use super::StoreError;
use super::database::{Database, beside};
use super::schema::{CHECKPOINT_PAGES, PAGE_SIZE};
use super::trouble::Trouble;
use crate::config::folder_of;
use crate::outlook::Disk;

/// On a disk that others have filled, deleting a row needs room too (for the journal): this file gives it.
const BALLAST: usize = 512 << 10;
/// Pages that a step of housekeeping may need at once.
pub(crate) const RESERVE: u64 = 64;
/// A commit writes at most so much to the journal.
const COMMIT: u64 = 128 << 10;

/// How `max_size` is shared out, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub max_size: u64,
}

/// How long the files are, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub database: u64,
    pub journal: u64,
}

impl Sizes {
    pub fn of(path: &Path) -> Self {
        let length = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
        Self { database: length(path), journal: length(&beside(path, "-wal")) }
    }
}

impl Limits {
    pub const NONE: Self = Self { max_size: u64::MAX };

    /// The journal's part. SQLite shortens it to this when it starts over.
    pub fn journal(self) -> u64 {
        (self.max_size / 4).min(1 << 20)
    }

    /// The database's part, in pages.
    pub fn pages(self) -> u64 {
        (self.max_size - self.journal()) / PAGE_SIZE
    }
}

impl Database {
    /// From now on.
    pub fn limit(&mut self, limits: Limits) -> Result<(), StoreError> {
        self.limits = limits;
        self.tell_limits()
    }

    /// SQLite takes none below the present size: that takes pruning first.
    fn tell_limits(&self) -> Result<(), StoreError> {
        self.connection
            .execute_batch(&format!(
                "PRAGMA max_page_count = {}; PRAGMA journal_size_limit = {};",
                self.limits.pages(),
                self.limits.journal()
            ))
            .map_err(StoreError::doing("limit the size of the database"))
    }

    pub(super) fn number(&self, pragma: &str) -> Result<u64, StoreError> {
        self.connection
            .query_row(&format!("PRAGMA {pragma}"), [], |row| row.get::<_, i64>(0))
            .map(i64::cast_unsigned)
            .map_err(StoreError::doing("ask for the size of the database"))
    }

    /// Nearly everything that `max_size` allows is in use: something has to go before it is refused.
    pub fn is_nearly_full(&self) -> Result<bool, StoreError> {
        let used = self.number("page_count")? - self.number("freelist_count")?;
        Ok(used + RESERVE > self.limits.pages())
    }

    /// A step needs no more of the disk than it gave back before.
    pub fn has_free_pages(&self) -> Result<bool, StoreError> {
        Ok(self.number("freelist_count")? >= RESERVE)
    }

    /// After `max_size` was lowered: gives free pages back to the disk. Returns true while there is more to do.
    pub fn shrink(&self) -> Result<bool, StoreError> {
        let count = self.number("page_count")?;
        if count <= self.limits.pages() || self.number("freelist_count")? == 0 {
            return Ok(false);
        }
        let vacuum = || {
            let mut statement = self.connection.prepare("PRAGMA incremental_vacuum(64)")?;
            let mut rows = statement.query([])?;
            while rows.next()?.is_some() {}
            Ok(())
        };
        vacuum().map_err(StoreError::doing("give pages back"))?;
        self.tell_limits()?;
        Ok(self.number("page_count")? < count)
    }

    /// SQLite copies the journal into the database by itself, and tells nobody what hinders it: the journal would grow for
    /// months. One that is longer than it ever should be is asked for it. (The check of the whole file hinders it too;
    /// that is no error.)
    pub fn copy_long_journal(&mut self) -> Result<(), StoreError> {
        let sizes = self.sizes.unwrap_or_else(|| Sizes::of(&self.path));
        // On a full disk each attempt would write the same pages again.
        if sizes.journal <= 2 * self.limits.journal() || is_short(&self.path) {
            return Ok(());
        }
        self.sizes = None;
        let copied = self
            .connection
            .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
            .map_err(StoreError::doing("copy the journal into the database"));
        match copied {
            // Readings find that out when there is no room for them: nothing has to go before.
            Err(error) if Trouble::of(&error) == Trouble::Full => Ok(()),
            done => done,
        }
    }

    /// Whether a commit keeps database and journal within `max_size`. The check of the whole file holds on to the journal
    /// and makes it grow; then this waits a moment for it, and starts the journal over.
    pub fn has_room_in_journal(&mut self) -> Result<bool, StoreError> {
        let limits = self.limits;
        let Sizes { database, journal } = self.sizes.take().unwrap_or_else(|| Sizes::of(&self.path));
        if database + journal.max(limits.journal() / 2) + COMMIT <= limits.max_size {
            return Ok(true);
        }
        let (busy, frames): (bool, i64) = self
            .connection
            .query_row("PRAGMA wal_checkpoint(RESTART)", [], |row| Ok((row.get(0)?, row.get(1)?)))
            .map_err(StoreError::doing("start the journal over"))?;
        // Started over, the next commit writes at its beginning and shortens it.
        Ok(!busy || frames.cast_unsigned() * (PAGE_SIZE + 24) + COMMIT <= limits.journal())
    }
}

/// Makes the ballast where there is plenty of room. Its bytes are written, for a hole would hold no room.
pub(crate) fn take_on_ballast(database: &Path) -> Result<(), StoreError> {
    let path = beside(database, ".ballast");
    let complete = fs::metadata(&path).is_ok_and(|metadata| metadata.len() == BALLAST as u64);
    if complete || free(database).is_none_or(|free| free < 8 * BALLAST as u64) {
        return Ok(());
    }
    write(&path, BALLAST).map_err(|source| {
        fs::remove_file(&path).ok();
        StoreError::file("write", &path, source)
    })
}

fn write(path: &Path, length: usize) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(&vec![0x5a; length])?;
    file.sync_all()
}

/// True when there was some to throw.
pub(crate) fn drop_ballast(database: &Path) -> bool {
    fs::remove_file(beside(database, ".ballast")).is_ok()
}

/// There is less room than the ballast gives.
pub(crate) fn is_short(database: &Path) -> bool {
    free(database).is_some_and(|free| free < BALLAST as u64)
}

/// Whether the card takes a new file.
pub(crate) fn takes_a_file(database: &Path) -> bool {
    let path = beside(database, ".probe");
    let taken = write(&path, 4 << 10).is_ok();
    fs::remove_file(&path).ok();
    taken
}

/// There is less room than a commit and the journal's way into the database may need: it is the last moment to let go of
/// anything.
pub(crate) fn is_scarce(database: &Path) -> bool {
    free(database).is_some_and(|free| free < CHECKPOINT_PAGES * PAGE_SIZE + COMMIT)
}

/// Bytes that an ordinary user may still write where the database is.
fn free(database: &Path) -> Option<u64> {
    Disk::at(folder_of(database)).ok().map(|disk| disk.free)
}
