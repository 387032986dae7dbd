//! Hands out what the hub has not accepted, oldest first: the rows above the watermark. Changes no reading.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, params};
use serde_json::json;

use super::database::Database;
use super::row::Row;
use super::{Event, Page, Position, StoreError, events};

/// The columns of a row, in the order in which [`row`] reads them; `reading` has a sequence before them.
pub(super) const COLUMNS: &str =
    "run, boot, since_boot, time, time_quality, temperature, humidity, pressure, quality, checksum";

/// What lies in the table, believed or not.
pub(super) enum Found {
    Good(Row),
    /// The checksum, or the form of a column, is wrong.
    Damaged {
        sequence: u64,
    },
}

impl Database {
    /// At most `limit` readings after `after`, or after the watermark.
    pub fn pending(&mut self, after: Option<Position>, limit: usize) -> Result<Page, StoreError> {
        let acknowledged = Position::live(self.watermark.acknowledged);
        let start = after.unwrap_or_default().max(acknowledged);
        let mut page = Page { readings: Vec::new(), end: start };
        for found in live(&self.connection, start.row, limit, &self.run)? {
            match found {
                Found::Good(row) => {
                    let position = Position::live(row.sequence);
                    page.end = position;
                    if let Some(reading) = row.reading(&self.store_id)
                        && !self.dead.contains(&position)
                    {
                        page.readings.push((position, reading));
                    }
                }
                Found::Damaged { sequence } => page.end = Position::live(sequence),
            }
        }
        Ok(page)
    }

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
                let fields = json!({"first": first.row, "last": last.row, "condition": condition});
                Event {
                    event_sequence: number,
                    run: self.run.clone(),
                    store_id: self.store_id.clone(),
                    time,
                    kind: "deadLetter".into(),
                    fields: fields.as_object().cloned().unwrap_or_default(),
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
        self.dead.extend(sorted);
        Ok(())
    }

    pub(super) fn dead_above_watermark(&self) -> Result<BTreeSet<Position>, StoreError> {
        let read = || {
            let mut statement = self.connection.prepare("SELECT generation, row FROM dead_letter")?;
            let rows = statement.query_map([], |row| {
                Ok(Position { generation: row.get(0)?, row: row.get::<_, i64>(1)?.cast_unsigned() })
            })?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        };
        let rows = read().map_err(StoreError::doing("read what was set aside"))?;
        Ok(rows.into_iter().filter(|position| !self.watermark.covers(*position)).collect())
    }
}

/// Rows of this store after `after`, oldest first.
pub(super) fn live(
    connection: &Connection,
    after: u64,
    limit: usize,
    run: &Arc<str>,
) -> Result<Vec<Found>, StoreError> {
    let read = || {
        let mut statement = connection.prepare_cached(&format!(
            "SELECT {COLUMNS}, sequence FROM reading WHERE sequence > ?1 ORDER BY sequence LIMIT ?2"
        ))?;
        let mut word = run.clone();
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = statement.query_map(params![after.cast_signed(), limit], |found| {
            let sequence = found.get::<_, i64>(10)?.cast_unsigned();
            Ok(row(found, sequence, &mut word)
                .filter(|(row, sum)| row.checksum() == *sum)
                .map_or(Found::Damaged { sequence }, |(row, _)| Found::Good(row)))
        })?;
        rows.collect::<rusqlite::Result<Vec<_>>>()
    };
    read().map_err(StoreError::doing("read the readings"))
}

/// A row and the checksum that lies beside it; none where a column has the wrong form. `word` is the run word
/// last seen: neighbours share it, so that a page of rows allocates it once.
pub(super) fn row(found: &rusqlite::Row<'_>, sequence: u64, word: &mut Arc<str>) -> Option<(Row, i32)> {
    let run = found.get_ref(0).ok()?.as_str().ok()?;
    if **word != *run {
        *word = Arc::from(run);
    }
    let boot: [u8; 16] = found.get_ref(1).ok()?.as_blob().ok()?.try_into().ok()?;
    let row = Row {
        sequence,
        run: word.clone(),
        boot: u128::from_be_bytes(boot),
        since_boot: found.get(2).ok()?,
        time: found.get(3).ok()?,
        time_quality: found.get(4).ok()?,
        temperature: found.get(5).ok()?,
        humidity: found.get(6).ok()?,
        pressure: found.get(7).ok()?,
        quality: found.get(8).ok()?,
    };
    Some((row, found.get(9).ok()?))
}

/// First and last of each stretch without a hole.
fn runs(sorted: &[Position]) -> impl Iterator<Item = (Position, Position)> {
    sorted
        .chunk_by(|one, next| one.generation == next.generation && one.row + 1 == next.row)
        .filter_map(|stretch| Some((*stretch.first()?, *stretch.last()?)))
}
