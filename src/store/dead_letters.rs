//! Readings that the hub refuses: they stay in the history, are not sent again, and a `deadLetter` event names them
//! with the hub's reason. Knows positions and a text, not the protocol it came from.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use rusqlite::params;
use serde_json::json;

use super::database::Database;
use super::events::{self, DEAD_LETTER};
use super::{Event, Position, StoreError};

impl Database {
    /// Sets readings aside: they stay in the history and are not sent again.
    pub fn dead_letter(
        &mut self,
        positions: &[Position],
        condition: &str,
        time: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let mut sorted = positions.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        let mut number = self.last_event;
        let events: Vec<Event> = runs(&sorted)
            .map(|(first, last)| {
                number += 1;
                let (store_id, from, to) = self.named(first, last);
                let fields = json!({"first": from, "last": to, "condition": condition});
                Event {
                    event_sequence: number,
                    run: self.run.clone(),
                    store_id,
                    time,
                    kind: DEAD_LETTER.into(),
                    fields: events::fields(fields),
                }
            })
            .collect();
        self.transaction("set readings aside", |connection| {
            for position in &sorted {
                connection
                    .prepare_cached(
                        "INSERT INTO dead_letter (generation, row, time, condition) VALUES (?1, ?2, ?3, ?4)",
                    )
                    .and_then(|mut statement| {
                        statement.execute(params![
                            position.generation,
                            position.row.cast_signed(),
                            time.timestamp_millis(),
                            condition
                        ])
                    })
                    .map_err(StoreError::doing("set readings aside"))?;
            }
            events.iter().try_for_each(|event| events::write(connection, event))
        })?;
        self.last_event = number;
        self.dead_letters += sorted.len() as u64;
        self.dead.extend(sorted);
        Ok(())
    }

    /// The store that numbered them, and their sequences there.
    fn named(&self, first: Position, last: Position) -> (Arc<str>, u64, u64) {
        let store = match self.watermark.is_of_this_store(first) {
            true => self.store_id.clone(),
            false => self.origins.name(first.generation.into()),
        };
        (store, first.row, last.row)
    }

    /// How many there are, and those above the watermark. They have no checksum: one above the newest reading would keep
    /// back a reading that is still to come.
    pub(super) fn set_aside_before(&self) -> Result<(u64, BTreeSet<Position>), StoreError> {
        let read = || {
            let mut statement = self.connection.prepare("SELECT generation, row FROM dead_letter")?;
            let mut rows = statement.query([])?;
            let (mut count, mut above) = (0, BTreeSet::new());
            while let Some(row) = rows.next()? {
                count += 1;
                let position =
                    Position { generation: row.get(0)?, row: row.get::<_, i64>(1)?.cast_unsigned() };
                let to_come = self.watermark.is_of_this_store(position) && position.row > self.last_sequence;
                if !self.watermark.covers(position) && !to_come {
                    above.insert(position);
                }
            }
            Ok((count, above))
        };
        read().map_err(StoreError::doing("read what was set aside"))
    }
}

/// First and last of each stretch without a hole.
fn runs(sorted: &[Position]) -> impl Iterator<Item = (Position, Position)> {
    sorted
        .chunk_by(|one, next| one.generation == next.generation && one.row + 1 == next.row)
        .filter_map(|stretch| Some((*stretch.first()?, *stretch.last()?)))
}
