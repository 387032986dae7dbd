//! Small values that outlive a restart (the twin's settings). Knows keys and texts, not their meaning.

use std::io::ErrorKind;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};

use super::StoreError;
use super::database::Database;
use super::row::text;
use super::scan::Value;
use super::snapshot::Snapshot;

/// Frozen, like the checksum of a row.
pub(crate) fn checksum(key: &str, value: &str) -> i32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(b"v");
    text(&mut hasher, key);
    hasher.update(value.as_bytes());
    hasher.finalize().cast_signed()
}

/// Key and value, where the checksum holds.
pub(crate) fn from_cell(columns: &[Value<'_>]) -> Option<(String, String)> {
    let &[Value::Text(key), Value::Text(value), Value::Integer(sum)] = columns else { return None };
    (i64::from(checksum(key, value)) == sum).then(|| (key.to_owned(), value.to_owned()))
}

impl Database {
    /// Not while a salvage is under way: it may still find one.
    pub fn value(&self, key: &str) -> Result<Option<String>, StoreError> {
        match read(&self.connection, key)? {
            None if self.salvaging => {
                let reason = "the store before it is still being salvaged".into();
                Err(StoreError::Unavailable { reason })
            }
            value => Ok(value),
        }
    }
}

/// From beside the station, whether one runs or not; none too where there is no store.
pub fn kept_value(path: &Path, key: &str) -> Result<Option<String>, StoreError> {
    match Snapshot::new(path) {
        Ok(mut snapshot) => snapshot.read(|connection| read(connection, key)),
        Err(StoreError::File { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// None too where the checksum, or the form of a column, is wrong: a default is better than a flipped bit.
pub(crate) fn read(connection: &Connection, key: &str) -> Result<Option<String>, StoreError> {
    let found: Option<(Option<String>, Option<i32>)> = connection
        .query_row("SELECT value, checksum FROM value WHERE key = ?1", [key], |row| {
            Ok((row.get(0).ok(), row.get(1).ok()))
        })
        .optional()
        .map_err(StoreError::doing("read a kept value"))?;
    let Some((Some(value), Some(sum))) = found else { return Ok(None) };
    Ok((checksum(key, &value) == sum).then_some(value))
}

/// Synced; `None` removes it.
pub(crate) fn write(connection: &Connection, key: &str, value: Option<&str>) -> Result<(), StoreError> {
    match value {
        Some(value) => connection.execute(
            "INSERT INTO value (key, value, checksum) VALUES (?1, ?2, ?3) \
             ON CONFLICT (key) DO UPDATE SET value = ?2, checksum = ?3",
            params![key, value, checksum(key, value)],
        ),
        None => connection.execute("DELETE FROM value WHERE key = ?1", [key]),
    }
    .map_err(StoreError::doing("keep a value"))?;
    Ok(())
}
