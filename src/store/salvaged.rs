//! Readings of older stores, kept under their old names and sent before those of this one. Knows how they are
//! ordered; how they were got out of a damaged file is `salvage`'s.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::{Connection, params};

use super::database::Database;
use super::pending::{COLUMNS, row};
use super::row::{Row, text};
use super::scan::Value;
use super::{Position, StoreError};

/// Bits of a row number that hold the sequence; those above hold the generation of the store it came from.
const SEQUENCE_BITS: u32 = 40;

/// Rows that are counted, or looked at, in one step: on a slow card all of them take minutes.
pub(crate) const STEP: u64 = 10_000;

/// Orders by store, then by sequence.
pub(crate) fn key(generation: u64, sequence: u64) -> u64 {
    (generation << SEQUENCE_BITS) | sequence
}

/// Generation and sequence.
pub(crate) fn parts(key: u64) -> (u64, u64) {
    (key >> SEQUENCE_BITS, key & ((1 << SEQUENCE_BITS) - 1))
}

/// The row number of a reading of an older store.
pub(crate) fn key_of(position: Position) -> u64 {
    key(position.generation.into(), position.row)
}

/// The inverse.
pub(crate) fn position(key: u64) -> Position {
    let (generation, row) = parts(key);
    Position { generation: u32::try_from(generation).unwrap_or(u32::MAX), row }
}

/// The ids of older stores, by generation.
#[derive(Debug, Clone, Default)]
pub(crate) struct Origins(BTreeMap<u64, Arc<str>>);

impl Origins {
    pub fn read(connection: &Connection) -> Result<Self, StoreError> {
        let read = || {
            let mut statement = connection.prepare("SELECT generation, store_id, checksum FROM origin")?;
            let rows = statement.query_map([], |row| {
                let generation = row.get::<_, i64>(0)?.cast_unsigned();
                // Of another form is as good as lost.
                Ok(row
                    .get::<_, String>(1)
                    .ok()
                    .zip(row.get::<_, i32>(2).ok())
                    .map(|(id, sum)| (generation, id, sum)))
            })?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        };
        let rows = read().map_err(StoreError::doing("read the names of older stores"))?;
        let held = rows
            .into_iter()
            .flatten()
            .filter(|(generation, id, sum)| origin_checksum(*generation, id) == *sum);
        Ok(Self(held.map(|(generation, id, _)| (generation, Arc::from(id))).collect()))
    }

    /// See [`lost_name`] for one that is not there.
    pub fn name(&self, generation: u64) -> Arc<str> {
        self.0.get(&generation).cloned().unwrap_or_else(|| Arc::from(lost_name(generation)))
    }
}

/// A name made of the generation where the old one was lost: its readings keep an order and a name.
pub(crate) fn lost_name(generation: u64) -> String {
    format!("lost-{generation}")
}

/// Frozen.
pub(crate) fn origin_checksum(generation: u64, store_id: &str) -> i32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(b"o");
    hasher.update(&generation.to_le_bytes());
    text(&mut hasher, store_id);
    hasher.finalize().cast_signed()
}

/// The name of a generation, where its checksum holds.
pub(crate) fn origin_from_cell(generation: u64, columns: &[Value<'_>]) -> Option<String> {
    let &[Value::Text(store_id), Value::Integer(sum)] = columns else { return None };
    (i64::from(origin_checksum(generation, store_id)) == sum).then(|| store_id.to_owned())
}

pub(crate) fn write_origin(connection: &Connection, generation: u64, id: &str) -> Result<(), StoreError> {
    connection
        .execute(
            "INSERT OR REPLACE INTO origin (generation, store_id, checksum) VALUES (?1, ?2, ?3)",
            params![generation.cast_signed(), id, origin_checksum(generation, id)],
        )
        .map_err(StoreError::doing("keep the name of an older store"))?;
    Ok(())
}

/// Generation and row, where the checksum holds.
pub(crate) fn from_cell(number: u64, columns: &[Value<'_>]) -> Option<(u64, Row)> {
    let (generation, sequence) = parts(number);
    let (row, sum) = Row::columns(sequence, columns)?;
    (i64::from(row.salvaged_checksum(generation)) == sum).then_some((generation, row))
}

/// Keeps one; of two versions of one reading the one that has its time.
pub(crate) fn keep(connection: &Connection, generation: u64, row: &Row) -> Result<bool, StoreError> {
    let changed = connection
        .prepare_cached(
            "INSERT INTO salvaged (row, run, boot, since_boot, time, time_quality, temperature, humidity, \
             pressure, quality, checksum) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) \
             ON CONFLICT (row) DO UPDATE SET time = excluded.time, time_quality = excluded.time_quality, \
             checksum = excluded.checksum WHERE excluded.time_quality < salvaged.time_quality \
             AND excluded.run = salvaged.run",
        )
        .and_then(|mut statement| {
            row.insert(&mut statement, key(generation, row.sequence), row.salvaged_checksum(generation))
        })
        .map_err(StoreError::doing("keep a salvaged reading"))?;
    Ok(changed > 0)
}

/// Under its row, with the checksum that belongs to it.
pub(crate) fn give_time(connection: &Connection, number: u64, row: &Row) -> Result<(), StoreError> {
    let (generation, _) = parts(number);
    connection
        .prepare_cached("UPDATE salvaged SET time = ?2, time_quality = ?3, checksum = ?4 WHERE row = ?1")
        .and_then(|mut statement| {
            let sum = row.salvaged_checksum(generation);
            statement.execute(params![number.cast_signed(), row.time, row.time_quality, sum])
        })
        .map_err(StoreError::doing("date salvaged readings"))?;
    Ok(())
}

/// How many rows there are in `(after, upto]`.
pub(crate) fn count(connection: &Connection, after: u64, upto: u64) -> Result<u64, StoreError> {
    connection
        .prepare_cached("SELECT count(*) FROM salvaged WHERE row > ?1 AND row <= ?2")
        .and_then(|mut statement| {
            statement.query_row([after.cast_signed(), upto.cast_signed()], |row| row.get::<_, i64>(0))
        })
        .map(i64::cast_unsigned)
        .map_err(StoreError::doing("count the salvaged readings"))
}

/// After `after`, in order: the row's number, and the row where its checksum holds.
pub(crate) fn after(
    connection: &Connection,
    after: u64,
    limit: usize,
    run: &Arc<str>,
) -> Result<Vec<(u64, Option<Row>)>, StoreError> {
    let read = || {
        let mut statement = connection.prepare_cached(&format!(
            "SELECT {COLUMNS}, row FROM salvaged WHERE row > ?1 ORDER BY row LIMIT ?2"
        ))?;
        let mut word = run.clone();
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = statement.query_map(params![after.cast_signed(), limit], |found| {
            let number = found.get::<_, i64>(10)?.cast_unsigned();
            let (generation, sequence) = parts(number);
            let held = row(found, sequence, &mut word)
                .filter(|(row, sum)| row.salvaged_checksum(generation) == *sum)
                .map(|(row, _)| row);
            Ok((number, held))
        })?;
        rows.collect::<rusqlite::Result<Vec<_>>>()
    };
    read().map_err(StoreError::doing("read the salvaged readings"))
}

impl Database {
    /// Whether any wait to be sent: where none is left of those that were counted, it counts on.
    pub(super) fn has_salvaged(&mut self) -> Result<bool, StoreError> {
        if self.salvaged_pending == 0 {
            self.count_salvaged_step()?;
        }
        Ok(self.salvaged_pending > 0)
    }

    /// Counts on, where not all of those above the watermark are counted. Returns true while there may be more.
    pub fn count_salvaged_step(&mut self) -> Result<bool, StoreError> {
        let Some(counted) = self.salvaged_counted else { return Ok(false) };
        let after = counted.max(self.watermark.salvaged);
        let (count, last) = self
            .connection
            .prepare_cached(
                "SELECT count(*), max(row) FROM (SELECT row FROM salvaged WHERE row > ?1 ORDER BY row LIMIT ?2)",
            )
            .and_then(|mut statement| {
                statement.query_row([after.cast_signed(), STEP.cast_signed()], |row| {
                    Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get::<_, Option<i64>>(1)?))
                })
            })
            .map_err(StoreError::doing("count the salvaged readings"))?;
        self.salvaged_pending += count;
        self.salvaged_counted = last.filter(|_| count == STEP).map(i64::cast_unsigned);
        Ok(self.salvaged_counted.is_some())
    }
}
