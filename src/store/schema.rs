//! The tables, the settings of a connection, and the schema version. Knows no readings.
//!
//! Every row that is handed out or salvaged has a checksum of its own, so that a flipped bit is noticed and so that the
//! salvage can tell a row from rubbish without the help of the rest of the file; gaps and dead letters are numbers only.
//! Tables are rowid tables for the same reason: their
//! leaf pages say what they are.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::StoreError;
use crate::config::folder_of;

/// Bumped with every change of the tables; older versions are brought up, newer ones are refused.
pub(crate) const VERSION: i64 = 1;
/// `WSta`: marks the file as ours.
pub(crate) const APPLICATION_ID: i64 = 0x5753_7461;
/// Bytes. Small pages: an append writes one page to the journal.
pub(crate) const PAGE_SIZE: u64 = 1024;
/// Pages in the journal after which SQLite copies them into the database.
pub(crate) const CHECKPOINT_PAGES: u64 = 256;

const TABLES: &str = "
CREATE TABLE state (
    id INTEGER PRIMARY KEY,
    store_id TEXT NOT NULL,
    generation INTEGER NOT NULL,
    acknowledged INTEGER NOT NULL,
    acknowledged_salvaged INTEGER NOT NULL,
    acknowledged_events INTEGER NOT NULL,
    checksum INTEGER NOT NULL
) STRICT;
CREATE TABLE progress (
    id INTEGER PRIMARY KEY,
    rolled_up INTEGER NOT NULL,
    newest_synchronised INTEGER NOT NULL,
    undated_boot BLOB NOT NULL,
    undated_from INTEGER NOT NULL,
    clean INTEGER NOT NULL,
    salvage TEXT NOT NULL,
    checksum INTEGER NOT NULL
) STRICT;
CREATE TABLE reading (
    sequence INTEGER PRIMARY KEY,
    run TEXT NOT NULL,
    boot BLOB NOT NULL,
    since_boot INTEGER NOT NULL,
    time INTEGER NOT NULL,
    time_quality INTEGER NOT NULL,
    temperature INTEGER NOT NULL,
    humidity INTEGER NOT NULL,
    pressure INTEGER NOT NULL,
    quality INTEGER NOT NULL,
    checksum INTEGER NOT NULL
) STRICT;
CREATE TABLE salvaged (
    row INTEGER PRIMARY KEY,
    run TEXT NOT NULL,
    boot BLOB NOT NULL,
    since_boot INTEGER NOT NULL,
    time INTEGER NOT NULL,
    time_quality INTEGER NOT NULL,
    temperature INTEGER NOT NULL,
    humidity INTEGER NOT NULL,
    pressure INTEGER NOT NULL,
    quality INTEGER NOT NULL,
    checksum INTEGER NOT NULL
) STRICT;
CREATE TABLE origin (
    generation INTEGER PRIMARY KEY,
    store_id TEXT NOT NULL,
    checksum INTEGER NOT NULL
) STRICT;
CREATE TABLE event (
    event_sequence INTEGER PRIMARY KEY,
    store_id TEXT NOT NULL,
    run TEXT NOT NULL,
    time INTEGER NOT NULL,
    kind TEXT NOT NULL,
    fields TEXT NOT NULL,
    checksum INTEGER NOT NULL
) STRICT;
CREATE TABLE gap (
    first INTEGER PRIMARY KEY,
    last INTEGER NOT NULL
) STRICT;
CREATE TABLE dead_letter (
    id INTEGER PRIMARY KEY,
    generation INTEGER NOT NULL,
    row INTEGER NOT NULL,
    time INTEGER NOT NULL,
    condition TEXT NOT NULL
) STRICT;
CREATE TABLE rollup (
    id INTEGER PRIMARY KEY,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    count INTEGER NOT NULL,
    temperature_min INTEGER NOT NULL,
    temperature_max INTEGER NOT NULL,
    temperature_sum INTEGER NOT NULL,
    humidity_min INTEGER NOT NULL,
    humidity_max INTEGER NOT NULL,
    humidity_sum INTEGER NOT NULL,
    pressure_min INTEGER NOT NULL,
    pressure_max INTEGER NOT NULL,
    pressure_sum INTEGER NOT NULL,
    checksum INTEGER NOT NULL
) STRICT;
CREATE TABLE value (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    value TEXT NOT NULL,
    checksum INTEGER NOT NULL
) STRICT;
";

/// Opens the file with the settings that every use of it has. Where there are no tables it makes them, and `begin`
/// fills them in the same transaction.
pub(crate) fn open(
    path: &Path,
    begin: impl FnOnce(&Connection) -> Result<(), StoreError>,
) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    // The database itself has to be a file; the folder it lies in may be a link.
    let folder = folder_of(path).canonicalize().ok();
    let real = folder.zip(path.file_name()).map(|(folder, name)| folder.join(name));
    let connection = Connection::open_with_flags(real.as_deref().unwrap_or(path), flags)
        .map_err(StoreError::doing("open the database"))?;
    settle(&connection, path, begin)?;
    Ok(connection)
}

/// A second connection that can only read: for the export and for checks beside the running station. A store that
/// was closed in order has no journal; where the folder cannot be written to either, it is read as it is.
pub(crate) fn open_read_only(path: &Path) -> Result<Connection, StoreError> {
    let open = |immutable: bool| {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = if immutable {
            let text = path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
            let flags = flags | OpenFlags::SQLITE_OPEN_URI;
            Connection::open_with_flags(format!("file:{text}?immutable=1"), flags)?
        } else {
            Connection::open_with_flags(path, flags)?
        };
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.execute_batch("PRAGMA cache_size = -256; PRAGMA mmap_size = 0;")?;
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        Ok(connection)
    };
    let closed = !super::database::beside(path, "-wal").exists();
    open(false)
        .or_else(|error| if closed && path.exists() { open(true) } else { Err(error) })
        .map_err(StoreError::doing("open the database for reading"))
}

fn settle(
    connection: &Connection,
    path: &Path,
    begin: impl FnOnce(&Connection) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let doing = || StoreError::doing("prepare the database");
    // Nobody but a reader is ever there; a checkpoint may wait this long for one.
    connection.busy_timeout(Duration::from_millis(250)).map_err(doing())?;
    if connection.is_readonly("main").map_err(doing())? {
        return Err(StoreError::Unavailable { reason: format!("{} is read-only", path.display()) });
    }
    is_ours(connection)?;
    // The page size has to come before the journal mode, and both before the first table. Incremental vacuum
    // gives pages back when max_size was lowered, without room for a second copy.
    connection
        .execute_batch(&format!("PRAGMA page_size = {PAGE_SIZE}; PRAGMA auto_vacuum = INCREMENTAL"))
        .map_err(doing())?;
    let mode: String =
        connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(doing())?;
    if mode != "wal" {
        let reason = format!("{} cannot have a write-ahead journal (mode {mode})", path.display());
        return Err(StoreError::Unavailable { reason });
    }
    connection
        .execute_batch(&format!(
            "PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}; \
             PRAGMA cache_size = -256; PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY;"
        ))
        .map_err(doing())?;
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(doing())?;
    match version {
        0 => {
            let transaction = connection.unchecked_transaction().map_err(doing())?;
            transaction
                .execute_batch(&format!(
                    "{TABLES} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION};"
                ))
                .map_err(doing())?;
            begin(&transaction)?;
            transaction.commit().map_err(doing())
        }
        VERSION => Ok(()),
        found => Err(StoreError::Newer { path: path.to_owned(), found, known: VERSION }),
    }
}

/// A database of another program is not written to: like a damaged one it is set aside.
fn is_ours(connection: &Connection) -> Result<(), StoreError> {
    let number = |sql: &str| {
        connection
            .query_row(sql, [], |row| row.get::<_, i64>(0))
            .map_err(StoreError::doing("open the database"))
    };
    if number("SELECT count(*) FROM sqlite_schema")? > 0 && number("PRAGMA application_id")? != APPLICATION_ID
    {
        return Err(StoreError::Damaged { what: "this is a database of another program".into() });
    }
    Ok(())
}
