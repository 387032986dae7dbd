//! What kind of trouble an error is, and so what helps. Knows SQLite's codes; does nothing about them.

use rusqlite::{Error, ErrorCode};

use super::StoreError;

/// What helps against an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Making room.
    Full,
    /// Setting the store aside.
    Damaged,
    /// Closing and opening again: after a failed read or write nobody knows what of the page cache is on the card.
    Broken,
    /// Waiting.
    Passing,
}

/// A read that ended early: the file was cut. SQLite: `SQLITE_IOERR_SHORT_READ`.
const SHORT_READ: i32 = 522;

/// The card does not give a sector back, or its file system is damaged. SQLite: `SQLITE_IOERR_READ` and
/// `SQLITE_IOERR_CORRUPTFS`.
const UNREADABLE: [i32; 2] = [266, 8458];

/// The card does not take what is written. SQLite: `SQLITE_IOERR_WRITE`, `SQLITE_IOERR_FSYNC` and `SQLITE_IOERR_TRUNCATE`.
const UNWRITABLE: [i32; 3] = [778, 1034, 1546];

/// A part of the file cannot be read. Once that may pass; where it is found by opening the store, or by the check of
/// the whole file, it is damage.
pub(crate) fn is_unreadable(error: &StoreError) -> bool {
    is_one_of(error, &UNREADABLE)
}

/// A write or a sync failed; a full disk is another trouble.
pub(crate) fn is_unwritable(error: &StoreError) -> bool {
    is_one_of(error, &UNWRITABLE)
}

fn is_one_of(error: &StoreError, codes: &[i32]) -> bool {
    matches!(error, StoreError::Database { source: Error::SqliteFailure(failure, _), .. }
        if codes.contains(&failure.extended_code))
}

/// Somebody else holds a lock on the database.
pub(crate) fn is_busy(error: &StoreError) -> bool {
    matches!(error, StoreError::Database { source: Error::SqliteFailure(failure, _), .. }
        if failure.code == ErrorCode::DatabaseBusy)
}

impl Trouble {
    pub fn of(error: &StoreError) -> Self {
        match error {
            StoreError::Damaged { .. } | StoreError::Newer { .. } => Self::Damaged,
            StoreError::Database { source, .. } => Self::of_database(source),
            StoreError::File { .. } => Self::Broken,
            StoreError::Gone
            | StoreError::Locked { .. }
            | StoreError::Unavailable { .. }
            | StoreError::Output { .. }
            | StoreError::NotANumber => Self::Passing,
        }
    }

    fn of_database(error: &Error) -> Self {
        match error {
            Error::SqliteFailure(failure, _) => match failure.code {
                ErrorCode::DiskFull => Self::Full,
                ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::OperationInterrupted => {
                    Self::Passing
                }
                ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                // A table or column that is not what it was, or a row twice: the schema or an index is damaged.
                | ErrorCode::Unknown
                | ErrorCode::SchemaChanged
                | ErrorCode::ConstraintViolation
                | ErrorCode::TypeMismatch => Self::Damaged,
                ErrorCode::SystemIoFailure if failure.extended_code == SHORT_READ => Self::Damaged,
                _ => Self::Broken,
            },
            // A column of the wrong type, a row that is not there.
            _ => Self::Damaged,
        }
    }
}
