//! Events wait in a table of their own, with numbers of their own, until the hub has accepted them.
//! Knows their envelope, not what each kind means.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension, params};
use serde_json::{Map, Value};

use super::database::Database;
use super::row::text;
use super::scan::Value as Column;
use super::{Event, StoreError, event_time};
use crate::reading::TimeQuality;

/// Longer texts are cut: an event has to fit into one database page, where the salvage finds it.
const LONGEST_TEXT: usize = 300;
/// Of so many that wait the newest of missed samples takes in those that come: otherwise a loose cable on a station
/// without a hub would fill the store with events, and readings would have to go.
const MANY: u64 = 1_000;

/// Samples that were due and not taken.
pub(crate) const MISSED: &str = "missedSamples";
/// Readings that are gone before they were sent.
pub(crate) const GAP: &str = "gap";
/// Another store goes on where a damaged one had come to.
pub(crate) const STORE_REPLACED: &str = "storeReplaced";
/// Readings that the hub refused.
pub(crate) const DEAD_LETTER: &str = "deadLetter";

/// Frozen, like the checksum of a row.
pub(crate) fn checksum(sequence: u64, store: &str, run: &str, time: i64, kind: &str, fields: &str) -> i32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(b"e");
    hasher.update(&sequence.to_le_bytes());
    text(&mut hasher, store);
    text(&mut hasher, run);
    hasher.update(&time.to_le_bytes());
    text(&mut hasher, kind);
    hasher.update(fields.as_bytes());
    hasher.finalize().cast_signed()
}

/// Where its checksum holds.
pub(crate) fn from_cell(event_sequence: u64, columns: &[Column<'_>]) -> Option<Event> {
    use Column::{Integer, Text};
    let &[Text(store), Text(run), Integer(time), Text(kind), Text(fields), Integer(sum)] = columns else {
        return None;
    };
    if i64::from(checksum(event_sequence, store, run, time, kind, fields)) != sum {
        return None;
    }
    Some(Event {
        event_sequence,
        run: Arc::from(run),
        store_id: Arc::from(store),
        time: DateTime::from_timestamp_millis(time)?,
        kind: kind.to_owned(),
        fields: serde_json::from_str(fields).ok()?,
    })
}

/// The fields of an event, from `json!({ .. })`.
pub(crate) fn fields(object: Value) -> Map<String, Value> {
    match object {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// Writes it, or writes it anew under its number.
pub(crate) fn write(connection: &Connection, event: &Event) -> Result<(), StoreError> {
    let fields = Value::Object(shortened(&event.fields)).to_string();
    let time = event.time.timestamp_millis();
    let sum = checksum(event.event_sequence, &event.store_id, &event.run, time, &event.kind, &fields);
    connection
        .execute(
            "INSERT OR REPLACE INTO event (event_sequence, store_id, run, time, kind, fields, checksum) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                event.event_sequence.cast_signed(),
                event.store_id.as_ref(),
                event.run.as_ref(),
                time,
                event.kind,
                fields,
                sum
            ],
        )
        .map_err(StoreError::doing("record an event"))?;
    Ok(())
}

/// Keeps one that was found. Of two versions the later one, in whatever order they are found, and never in the place of
/// another event: what has happened since the damage has its number in the new store.
pub(crate) fn keep(connection: &Connection, event: &Event) -> Result<(), StoreError> {
    match stored(connection, event.event_sequence)? {
        Some(old) if !is_later(&old, event) => Ok(()),
        _ => write(connection, event),
    }
}

/// Of two versions: a gap only grows, as do missed samples, and an event that was given its time keeps it.
pub(crate) fn is_later(old: &Event, new: &Event) -> bool {
    let name = |event: &Event| (event.store_id.clone(), event.run.clone(), event.kind.clone());
    let age =
        |event: &Event| (event.fields.get("count").and_then(Value::as_u64), !event_time::is_undated(event));
    name(old) == name(new) && age(old) < age(new)
}

/// The one under this number, where its checksum holds.
pub(crate) fn stored(connection: &Connection, sequence: u64) -> Result<Option<Event>, StoreError> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM event WHERE event_sequence = ?1"))
        .and_then(|mut statement| {
            statement.query_row([sequence.cast_signed()], |row| Ok(event(row, sequence))).optional()
        })
        .map(Option::flatten)
        .map_err(StoreError::doing("read an event"))
}

/// What [`event`] reads.
pub(super) const COLUMNS: &str = "event_sequence, store_id, run, time, kind, fields, checksum";

/// The oldest ones above `after`, and the numbers of those whose checksum is wrong: they cannot be believed.
fn after(connection: &Connection, after: u64, limit: usize) -> Result<(Vec<Event>, Vec<u64>), StoreError> {
    let read = || {
        let mut statement = connection.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM event WHERE event_sequence > ?1 ORDER BY event_sequence LIMIT ?2"
        ))?;
        let rows = statement.query_map(
            params![after.cast_signed(), i64::try_from(limit).unwrap_or(i64::MAX)],
            |row| {
                let sequence = row.get::<_, i64>(0)?.cast_unsigned();
                Ok(event(row, sequence).ok_or(sequence))
            },
        )?;
        rows.collect::<rusqlite::Result<Vec<_>>>()
    };
    let (mut events, mut damaged) = (Vec::new(), Vec::new());
    for found in read().map_err(StoreError::doing("read the events"))? {
        match found {
            Ok(event) => events.push(event),
            Err(sequence) => damaged.push(sequence),
        }
    }
    Ok((events, damaged))
}

/// None where the checksum, or the form of a column, is wrong.
pub(super) fn event(row: &rusqlite::Row<'_>, sequence: u64) -> Option<Event> {
    let text = |column: usize| row.get::<_, String>(column).ok();
    let (store, run, kind, fields) = (text(1)?, text(2)?, text(4)?, text(5)?);
    let time: i64 = row.get(3).ok()?;
    let held = checksum(sequence, &store, &run, time, &kind, &fields) == row.get::<_, i32>(6).ok()?;
    held.then_some(())?;
    Some(Event {
        event_sequence: sequence,
        run: Arc::from(run),
        store_id: Arc::from(store),
        time: DateTime::<Utc>::from_timestamp_millis(time)?,
        kind,
        fields: serde_json::from_str(&fields).ok()?,
    })
}

/// Those of a kind, as far as their checksums hold.
pub(super) fn each_of(
    connection: &Connection,
    kind: &str,
    mut visit: impl FnMut(Event),
) -> Result<(), StoreError> {
    let mut read = || {
        let mut statement = connection.prepare(&format!("SELECT {COLUMNS} FROM event WHERE kind = ?1"))?;
        let mut rows = statement.query([kind])?;
        while let Some(row) = rows.next()? {
            event(row, row.get::<_, i64>(0)?.cast_unsigned()).into_iter().for_each(&mut visit);
        }
        Ok(())
    };
    read().map_err(StoreError::doing("read the events"))
}

/// Accepted ones are of no further use.
pub(crate) fn forget(connection: &Connection, upto: u64) -> Result<(), StoreError> {
    connection
        .execute("DELETE FROM event WHERE event_sequence <= ?1", [upto.cast_signed()])
        .map_err(StoreError::doing("forget accepted events"))?;
    Ok(())
}

fn shortened(fields: &Map<String, Value>) -> Map<String, Value> {
    let mut fields = fields.clone();
    for value in fields.values_mut() {
        if let Value::String(text) = value
            && let Some((end, _)) = text.char_indices().nth(LONGEST_TEXT)
        {
            text.truncate(end);
            text.push_str("...");
        }
    }
    fields
}

impl Database {
    /// Records an event under the next number, synced; missed samples, where many events wait, under the number of the
    /// newest of theirs.
    pub fn record_event(
        &mut self,
        kind: &str,
        fields: Map<String, Value>,
        time: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let mut event = Event {
            event_sequence: self.last_event + 1,
            run: self.run.clone(),
            store_id: self.store_id.clone(),
            time,
            kind: kind.to_owned(),
            fields,
        };
        let is_missed = kind == MISSED;
        if is_missed && let Some(before) = self.missed_that_takes_more()? {
            event = event_time::joined(&before, &event).unwrap_or(event);
        }
        self.transaction("record an event", |connection| write(connection, &event))?;
        self.last_event = self.last_event.max(event.event_sequence);
        if is_missed {
            self.missed_event = event.event_sequence;
        }
        Ok(())
    }

    /// Like a gap's it is of this run, and nobody was handed it.
    fn missed_that_takes_more(&self) -> Result<Option<Event>, StoreError> {
        let newest = self.missed_event;
        if self.last_event - self.watermark.events < MANY || newest <= self.events_offered {
            return Ok(None);
        }
        stored(&self.connection, newest)
    }

    /// No event waits for the hub.
    pub fn has_no_events(&self) -> bool {
        !self.salvaging && self.last_event <= self.watermark.events
    }

    /// The oldest ones that the hub has not accepted. Damaged ones are dropped, and logged once.
    /// Nothing while a salvage is under way: what it finds has lower numbers, and goes first.
    pub fn pending_events(&mut self, limit: usize) -> Result<Vec<Event>, StoreError> {
        if self.salvaging {
            return Ok(Vec::new());
        }
        let (mut events, damaged) = after(&self.connection, self.watermark.events, limit)?;
        for sequence in damaged {
            tracing::error!(sequence, "an event is lost: the card has changed it");
            self.unsynced(|connection| {
                connection
                    .execute("DELETE FROM event WHERE event_sequence = ?1", [sequence.cast_signed()])
                    .map_err(StoreError::doing("drop a damaged event"))
            })?;
        }
        if events.iter().any(event_time::is_undated) {
            let now = self.timekeeper.stamp();
            if now.time_quality == TimeQuality::Unknown {
                return Ok(Vec::new());
            }
            for event in events.iter_mut().filter(|event| event_time::is_undated(event)) {
                event_time::date(event, &now);
                self.transaction("date an event", |connection| write(connection, event))?;
            }
        }
        let offered = events.last().map_or(0, |event| event.event_sequence);
        self.events_offered = self.events_offered.max(offered);
        Ok(events)
    }

    /// Accepted events are deleted; like the watermark, unsynced.
    pub fn acknowledge_events(&mut self, upto: u64) -> Result<(), StoreError> {
        if upto <= self.watermark.events {
            return Ok(());
        }
        let mut moved = self.watermark.clone();
        moved.events = upto;
        self.unsynced(|connection| {
            moved.write(connection)?;
            forget(connection, upto)
        })?;
        self.watermark = moved;
        self.lag = None;
        self.last_event = self.last_event.max(upto);
        Ok(())
    }
}
