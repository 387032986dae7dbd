//! The tables, the settings of a connection, and the schema version. Knows no readings.
//!
//! Every row that is handed out or salvaged has a checksum of its own, so that a flipped bit is noticed and so that the
//! salvage can tell a row from rubbish without the help of the rest of the file; gaps and dead letters are numbers only.
//! Tables are rowid tables for the same reason: their leaf pages say what they are.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::trouble::is_busy;
use super::{StoreError, file};
use crate::config::folder_of;

/// Bumped with every change of the tables; older versions are brought up, newer ones are refused.
const VERSION: i64 = 1;
/// `WSta`: marks the file as ours.
const APPLICATION_ID: i64 = 0x5753_7461;
/// Bytes. Small pages: an append writes one page to the journal.
pub(crate) const PAGE_SIZE: u64 = 1024;
/// The VFS of SQLite with which the process holds the database alone. The index of the journal is in memory then: as a
/// file beside the database (`-shm`) it would be written to the card every half minute, which costs as much as a
/// quarter of the readings do.
const ALONE: &str = "unix-excl";
/// Pages in the journal after which SQLite copies them into the database.
pub(super) const CHECKPOINT_PAGES: u64 = 256;

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
/// fills them in the same transaction; not where `begun` says that there were some.
pub(crate) fn open(
    path: &Path,
    begun: bool,
    begin: impl FnOnce(&Connection) -> Result<(), StoreError>,
) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    // The database itself has to be a file; the folder it lies in may be a link.
    let folder = folder_of(path).canonicalize().ok();
    let real = folder.zip(path.file_name()).map(|(folder, name)| folder.join(name));
    let connection = Connection::open_with_flags_and_vfs(real.as_deref().unwrap_or(path), flags, ALONE)
        .map_err(|source| {
            file::refusal(path).unwrap_or_else(|| StoreError::doing("open the database")(source))
        })?;
    // Where this fails in the end the salvage needs the journal: SQLite would copy what it believes of it into the database
    // and remove it. `Database::close` has it done.
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
        .map_err(StoreError::doing("keep the journal"))?;
    settle(&connection, path, begun, begin).map_err(|error| match is_busy(&error) {
        true => StoreError::Unavailable {
            reason: format!("another program has {} open: it has to be closed", path.display()),
        },
        false => error,
    })?;
    Ok(connection)
}

/// A second connection of the station itself, beside the first one and under its lock, that can only read.
pub(crate) fn open_beside(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags_and_vfs(path, flags, ALONE)
        .and_then(|connection| {
            connection.busy_timeout(Duration::from_secs(5))?;
            only_read(&connection).map(|()| connection)
        })
        .map_err(StoreError::doing("open the database for reading"))
}

/// For [`super::snapshot`] alone: a connection that knows of no lock. `closed`: there is no journal, and none is made.
pub(crate) fn open_unlocked(path: &Path, closed: bool) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || {
        if closed {
            let text = path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
            let flags = flags | OpenFlags::SQLITE_OPEN_URI;
            return Connection::open_with_flags(format!("file:{text}?immutable=1"), flags);
        }
        let connection = Connection::open_with_flags_and_vfs(path, flags, "unix-none")?;
        // The journal is the station's: it is not copied and not removed, and its index is in memory.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.execute_batch("PRAGMA locking_mode = EXCLUSIVE")?;
        Ok(connection)
    };
    open()
        .and_then(|connection| only_read(&connection).map(|()| connection))
        .map_err(StoreError::doing("open the database for reading"))
}

fn only_read(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("PRAGMA cache_size = -256; PRAGMA mmap_size = 0;")?;
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
}

fn settle(
    connection: &Connection,
    path: &Path,
    begun: bool,
    begin: impl FnOnce(&Connection) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let doing = || StoreError::doing("prepare the database");
    // Nobody but the check of the whole file is ever there; a checkpoint may wait this long for it.
    connection.busy_timeout(Duration::from_millis(250)).map_err(doing())?;
    if connection.is_readonly("main").map_err(doing())? {
        let reason = || format!("{} is read-only", path.display());
        return Err(file::refusal(path).unwrap_or_else(|| StoreError::Unavailable { reason: reason() }));
    }
    is_ours(connection)?;
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(doing())?;
    if version == 0 && begun {
        return Err(StoreError::Damaged { what: "the tables are gone with a part of the journal".into() });
    }
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
