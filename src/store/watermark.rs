//! The one row that says how far the hub has accepted, and whose store this is. Knows no readings.
//!
//! Moving it needs no sync: losing it costs duplicates with the same message-id, never a reading. The next synced
//! append carries it to the card. It is checksummed, for a flipped bit could move it over readings never sent.

use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::row::text;
use super::scan::Value;
use super::{Position, StoreError, salvaged};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Watermark {
    pub store_id: String,
    /// Counts the stores of this station that were replaced; salvaged rows are ordered by it.
    pub generation: u64,
    /// Sequence of this store.
    pub acknowledged: u64,
    /// Row of the salvaged ones.
    pub salvaged: u64,
    /// Event sequence.
    pub events: u64,
}

impl Watermark {
    /// Frozen, like the checksum of a row: everything in the order of the columns.
    pub fn checksum(&self) -> i32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(b"w");
        text(&mut hasher, &self.store_id);
        for number in [self.generation, self.acknowledged, self.salvaged, self.events] {
            hasher.update(&number.to_le_bytes());
        }
        hasher.finalize().cast_signed()
    }

    /// Where its checksum holds.
    pub fn from_cell(columns: &[Value<'_>]) -> Option<Self> {
        use Value::{Integer, Text};
        let &[
            Text(store_id),
            Integer(generation),
            Integer(acknowledged),
            Integer(salvaged),
            Integer(events),
            Integer(sum),
        ] = columns
        else {
            return None;
        };
        let watermark = Self {
            store_id: store_id.to_owned(),
            generation: generation.cast_unsigned(),
            acknowledged: acknowledged.cast_unsigned(),
            salvaged: salvaged.cast_unsigned(),
            events: events.cast_unsigned(),
        };
        (i64::from(watermark.checksum()) == sum).then_some(watermark)
    }

    /// Whether the hub has accepted what lies there.
    pub fn covers(&self, position: Position) -> bool {
        if self.is_of_this_store(position) {
            position.row <= self.acknowledged
        } else {
            salvaged::key_of(position) <= self.salvaged
        }
    }

    /// Whether the other one, of the same store, is further on.
    pub fn is_behind(&self, other: &Self) -> bool {
        let come_to = |watermark: &Self| (watermark.salvaged, watermark.acknowledged, watermark.events);
        come_to(self) < come_to(other)
    }

    /// Never back.
    pub fn advance(&mut self, upto: Position) {
        if self.is_of_this_store(upto) {
            self.acknowledged = self.acknowledged.max(upto.row);
        } else {
            self.salvaged = self.salvaged.max(salvaged::key_of(upto));
        }
    }

    pub fn is_of_this_store(&self, position: Position) -> bool {
        u64::from(position.generation) == self.generation
    }

    /// A row of this store.
    pub fn position(&self, sequence: u64) -> Position {
        Position { generation: u32::try_from(self.generation).unwrap_or(u32::MAX), row: sequence }
    }

    pub fn read(connection: &Connection) -> Result<Self, StoreError> {
        let found = connection
            .prepare_cached(
                "SELECT store_id, generation, acknowledged, acknowledged_salvaged, acknowledged_events, checksum \
                 FROM state WHERE id = 1",
            )
            .and_then(|mut statement| {
                statement
                    .query_row([], |row| {
                        let watermark = Self {
                            store_id: row.get(0)?,
                            generation: row.get::<_, i64>(1)?.cast_unsigned(),
                            acknowledged: row.get::<_, i64>(2)?.cast_unsigned(),
                            salvaged: row.get::<_, i64>(3)?.cast_unsigned(),
                            events: row.get::<_, i64>(4)?.cast_unsigned(),
                        };
                        Ok((watermark, row.get::<_, i32>(5)?))
                    })
                    .optional()
            })
            .map_err(StoreError::doing("read the watermark"))?;
        match found {
            Some((watermark, checksum)) if watermark.checksum() == checksum => Ok(watermark),
            Some(_) => Err(StoreError::Damaged { what: "the checksum of the watermark is wrong".into() }),
            None => Err(StoreError::Damaged { what: "there is no watermark".into() }),
        }
    }

    /// As synced as the connection is at this moment.
    pub fn write(&self, connection: &Connection) -> Result<(), StoreError> {
        connection
            .prepare_cached(
                "INSERT OR REPLACE INTO state (id, store_id, generation, acknowledged, acknowledged_salvaged, \
                 acknowledged_events, checksum) VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6)",
            )
            .and_then(|mut statement| {
                statement.execute(params![
                    self.store_id,
                    self.generation.cast_signed(),
                    self.acknowledged.cast_signed(),
                    self.salvaged.cast_signed(),
                    self.events.cast_signed(),
                    self.checksum(),
                ])
            })
            .map_err(StoreError::doing("move the watermark"))?;
        Ok(())
    }
}
