//! The one row that says how far the store's own work has come: charts, re-dating, salvage, and whether the last
//! stop was an orderly one. Checksummed like the watermark; unlike it, written together with what it speaks of.

use rusqlite::{Connection, OptionalExtension, params};

use super::StoreError;
use super::row::{Row, text};
use super::scan::Value;
use crate::clock::SETBACK_TOLERANCE;
use crate::reading::TimeQuality;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Progress {
    /// Readings up to this sequence are in closed buckets of the charts.
    pub rolled_up: u64,
    /// Time of the newest reading that was taken synchronised, milliseconds since 1970; 0: none. See [`newest`].
    pub newest_synchronised: i64,
    /// The boot whose readings from `undated_from` on may still get a time; 0 and 0: none.
    pub undated_boot: u128,
    pub undated_from: u64,
    /// The last station closed the store in order.
    pub clean: bool,
    /// The damaged file that is being salvaged into this store, and why; see `replace`.
    pub salvage: String,
}

impl Progress {
    /// Frozen: everything in the order of the columns.
    pub fn checksum(&self) -> i32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(b"p");
        hasher.update(&self.rolled_up.to_le_bytes());
        hasher.update(&self.newest_synchronised.to_le_bytes());
        hasher.update(&self.undated_boot.to_be_bytes());
        hasher.update(&self.undated_from.to_le_bytes());
        hasher.update(&[u8::from(self.clean)]);
        text(&mut hasher, &self.salvage);
        hasher.finalize().cast_signed()
    }

    /// Where its checksum holds.
    pub fn from_cell(columns: &[Value<'_>]) -> Option<Self> {
        use Value::{Blob, Integer, Text};
        let &[
            Integer(rolled_up),
            Integer(newest_synchronised),
            Blob(boot),
            Integer(undated),
            Integer(clean),
            Text(salvage),
            Integer(sum),
        ] = columns
        else {
            return None;
        };
        let progress = Self {
            rolled_up: rolled_up.cast_unsigned(),
            newest_synchronised,
            undated_boot: u128::from_be_bytes(boot.try_into().ok()?),
            undated_from: undated.cast_unsigned(),
            clean: clean != 0,
            salvage: salvage.to_owned(),
        };
        (i64::from(progress.checksum()) == sum).then_some(progress)
    }

    /// Takes in the time of a reading that comes after all others, where the kernel vouched for it.
    pub fn note_time(&mut self, row: &Row) {
        if row.time_quality == TimeQuality::Synchronised.code() {
            self.newest_synchronised = newest(self.newest_synchronised, row.time);
        }
    }

    pub fn read(connection: &Connection) -> Result<Self, StoreError> {
        let found = connection
            .query_row(
                "SELECT rolled_up, newest_synchronised, undated_boot, undated_from, clean, salvage, checksum \
                 FROM progress WHERE id = 1",
                [],
                |row| {
                    let boot: [u8; 16] = row.get(2)?;
                    let progress = Self {
                        rolled_up: row.get::<_, i64>(0)?.cast_unsigned(),
                        newest_synchronised: row.get(1)?,
                        undated_boot: u128::from_be_bytes(boot),
                        undated_from: row.get::<_, i64>(3)?.cast_unsigned(),
                        clean: row.get(4)?,
                        salvage: row.get(5)?,
                    };
                    Ok((progress, row.get::<_, i32>(6)?))
                },
            )
            .optional()
            .map_err(StoreError::doing("read the progress row"))?;
        match found {
            Some((progress, checksum)) if progress.checksum() == checksum => Ok(progress),
            Some(_) => Err(StoreError::Damaged { what: "the checksum of the progress row is wrong".into() }),
            None => Err(StoreError::Damaged { what: "there is no progress row".into() }),
        }
    }

    /// As synced as the connection is at this moment.
    pub fn write(&self, connection: &Connection) -> Result<(), StoreError> {
        connection
            .prepare_cached(
                "INSERT OR REPLACE INTO progress (id, rolled_up, newest_synchronised, undated_boot, \
                 undated_from, clean, salvage, checksum) VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )
            .and_then(|mut statement| {
                statement.execute(params![
                    self.rolled_up.cast_signed(),
                    self.newest_synchronised,
                    self.undated_boot.to_be_bytes(),
                    self.undated_from.cast_signed(),
                    self.clean,
                    self.salvage,
                    self.checksum(),
                ])
            })
            .map_err(StoreError::doing("write the progress row"))?;
        Ok(())
    }
}

/// Of two times for which the kernel vouched, one after the other, in milliseconds: the greater one, unless the second
/// takes the first back. A time server that was wrong for a minute would otherwise make every right clock a wrong one.
pub(crate) fn newest(before: i64, time: i64) -> i64 {
    let taken_back = time < before.saturating_sub(SETBACK_TOLERANCE.num_milliseconds());
    if taken_back { time } else { before.max(time) }
}
