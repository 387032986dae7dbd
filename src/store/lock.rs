//! One station per store. The lock is a file of its own: closing any descriptor of the database itself would
//! drop SQLite's own locks on it (POSIX), and the database may be set aside while the lock stays.

use std::fs::{File, OpenOptions};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::StoreError;

/// Held as long as this lives; the kernel lets go when the process dies, however it dies.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// `database` is the path of the database; the lock file lies beside it.
    pub fn take(database: &Path) -> Result<Self, StoreError> {
        let path = super::database::beside(database, ".lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|source| StoreError::file("open the lock file", &path, source))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: file }),
            Err(Errno::WOULDBLOCK) => Err(StoreError::Locked { path: database.to_owned() }),
            Err(errno) => Err(StoreError::file("lock", &path, errno.into())),
        }
    }
}
