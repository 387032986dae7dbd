//! One station per store. The lock is a file of its own: closing any descriptor of the database itself would
//! drop SQLite's own locks on it (POSIX), and the database may be set aside while the lock stays.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::StoreError;

/// Held as long as this lives; the kernel lets go when the process dies, however it dies.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// Whether a station holds this store. Makes no file and keeps no lock.
pub fn is_held(database: &Path) -> io::Result<bool> {
    let file = match File::open(super::database::beside(database, ".lock")) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    // Shared: two that ask at the same moment do not take each other for a station.
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(errno) => Err(errno.into()),
    }
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
