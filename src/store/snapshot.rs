//! Reads a store from beside the station that writes it: takes no lock and leaves no file, for the station lets nobody
//! into its locks (see `schema`). What was read counts only where neither database nor journal was written meanwhile.
//!
//! Never in the process of the station itself: closing a file here lets go of all the locks that the process has on
//! it (POSIX, `fcntl`).

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::database::beside;
use super::file::{identity, piece};
use super::{StoreError, journal, schema};

/// The station writes for moments; a page is read in less than there is between two.
const TRIES: u32 = 1_000;

/// See the module.
pub(crate) struct Snapshot {
    path: PathBuf,
    /// Device and inode: another file is another store.
    identity: (u64, u64),
    open: Option<(Connection, Mark)>,
}

/// By what a write to the store is noticed: each one adds to the journal or takes it away. Copying it into the database
/// leaves a mark only when the journal starts over, and until then SQLite reads the pages from the journal.
struct Mark {
    header: Vec<u8>,
    /// Frames that are whole, and what lies behind them: the next one goes there.
    frames: usize,
    next: Vec<u8>,
}

impl Snapshot {
    pub fn new(path: &Path) -> Result<Self, StoreError> {
        let identity = identity(path)?;
        Ok(Self { path: path.to_owned(), identity, open: None })
    }

    /// What `look` finds. It is asked again where the station wrote meanwhile.
    pub fn read<T>(&mut self, look: impl Fn(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        for _ in 0..TRIES {
            let (opened, mark) = match self.open.take() {
                Some((connection, mark)) => (Ok(connection), mark),
                None => {
                    let mark = Mark::of(&self.path)?;
                    (schema::open_unlocked(&self.path, mark.is_of_none()), mark)
                }
            };
            let (found, connection) = match opened {
                Ok(connection) => (look(&connection), Some(connection)),
                Err(error) => (Err(error), None),
            };
            if identity(&self.path)? != self.identity {
                let reason = "it was replaced by a new one while it was read: begin again".into();
                return Err(StoreError::Unavailable { reason });
            }
            // Where it was written, an error means as little as what was found.
            if mark.holds(&self.path)? {
                self.open = connection.map(|connection| (connection, mark));
                return found;
            }
        }
        let reason = "the station writes to it all the time: try again later".into();
        Err(StoreError::Unavailable { reason })
    }
}

impl Mark {
    fn of(database: &Path) -> Result<Self, StoreError> {
        let path = beside(database, "-wal");
        let failed = |source| StoreError::file("read", &path, source);
        let Some(file) = file(&path)? else { return Ok(Self::none()) };
        let frames = journal::frames_in_order(&file);
        let (start, length) = journal::place(frames);
        Ok(Self {
            header: piece(&file, 0, journal::HEADER).map_err(failed)?,
            frames,
            next: piece(&file, start, length).map_err(failed)?,
        })
    }

    fn none() -> Self {
        Self { header: Vec::new(), frames: 0, next: Vec::new() }
    }

    /// There is no journal, or an empty one.
    fn is_of_none(&self) -> bool {
        self.header.is_empty()
    }

    fn holds(&self, database: &Path) -> Result<bool, StoreError> {
        let path = beside(database, "-wal");
        let failed = |source| StoreError::file("read", &path, source);
        let Some(file) = file(&path)? else { return Ok(self.is_of_none()) };
        let (start, length) = journal::place(self.frames);
        Ok(piece(&file, 0, journal::HEADER).map_err(failed)? == self.header
            && piece(&file, start, length).map_err(failed)? == self.next)
    }
}

/// `None` where there is none.
fn file(path: &Path) -> Result<Option<File>, StoreError> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StoreError::file("open", path, source)),
    }
}
