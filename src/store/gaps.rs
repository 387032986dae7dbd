//! Sequences that are known to be missing: evicted for want of room, or lost to a damaged card. The consumer is
//! told by a `gap` event; here is remembered that it was. Knows numbers, not readings.

use std::sync::Arc;

use chrono::DateTime;
use rusqlite::{Connection, params};
use serde_json::{Map, Value, json};

use super::database::Database;
use super::events::{self, GAP};
use super::{Event, StoreError};
use crate::observation::rfc3339;
use crate::reading::Stamp;

/// Why readings are missing, in the event's words.
pub(crate) const NO_ROOM: &str = "the store was full: max_size, or the disk";
pub(crate) const DAMAGED: &str = "the card lost or changed them";

/// A stretch of sequences without a reading, and the times around it where they are known (milliseconds).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gap {
    pub first: u64,
    pub last: u64,
    pub from: Option<i64>,
    pub until: Option<i64>,
}

impl Gap {
    /// One reading, and a time before it where that is known.
    pub fn only(sequence: u64, from: Option<i64>) -> Self {
        Self { first: sequence, last: sequence, from, until: None }
    }

    /// The event's own fields.
    pub fn fields(&self, reason: &str) -> Map<String, Value> {
        let time = |time: Option<i64>| time.and_then(DateTime::from_timestamp_millis).map(rfc3339);
        let count = self.last - self.first + 1;
        events::fields(json!({
            "first": self.first, "last": self.last, "count": count,
            "from": time(self.from), "until": time(self.until), "reason": reason,
        }))
    }
}

/// The known gaps above the watermark, in order, apart from each other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Known(Vec<(u64, u64)>);

impl Known {
    pub fn read(connection: &Connection, above: u64) -> Result<Self, StoreError> {
        let read = || {
            let mut statement =
                connection.prepare("SELECT first, last FROM gap WHERE last > ?1 ORDER BY first")?;
            let rows = statement.query_map([above.cast_signed()], |row| {
                Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get::<_, i64>(1)?.cast_unsigned()))
            })?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        };
        Ok(Self(read().map_err(StoreError::doing("read the known gaps"))?))
    }

    /// How many sequences in `(after, upto]` are known to be missing.
    pub fn count(&self, after: u64, upto: u64) -> u64 {
        let overlap = |(first, last): &(u64, u64)| (*last).min(upto).saturating_sub((*first - 1).max(after));
        self.0.iter().map(overlap).sum()
    }

    /// The parts of `first..=last` that nobody has been told of.
    pub fn unknown_in(&self, first: u64, last: u64) -> Vec<(u64, u64)> {
        let mut parts = Vec::new();
        let mut next = first;
        for &(known_first, known_last) in self.0.iter().filter(|known| known.1 >= first && known.0 <= last) {
            if known_first > next {
                parts.push((next, known_first - 1));
            }
            next = next.max(known_last + 1);
        }
        if next <= last {
            parts.push((next, last));
        }
        parts
    }

    pub fn add(&mut self, first: u64, last: u64) {
        self.0.push((first, last));
        self.0.sort_unstable();
        let mut joined: Vec<(u64, u64)> = Vec::with_capacity(self.0.len());
        for &(first, last) in &self.0 {
            match joined.last_mut() {
                Some(before) if before.1 + 1 >= first => before.1 = before.1.max(last),
                _ => joined.push((first, last)),
            }
        }
        self.0 = joined;
    }

    pub fn forget_upto(&mut self, acknowledged: u64) {
        self.0.retain(|(_, last)| *last > acknowledged);
    }

    pub fn last(&self) -> u64 {
        self.0.last().map_or(0, |gap| gap.1)
    }
}

impl Database {
    /// Makes gaps known in one transaction with `work`, which makes them: rows in `gap`, and an event for each. A
    /// gap that continues the last event, which nobody has seen in this run, extends it.
    pub(super) fn make_gaps(
        &mut self,
        gaps: &[Gap],
        reason: &str,
        now: &Stamp,
        work: impl FnOnce(&Connection) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut known = self.known.clone();
        let mut last_event = self.last_event;
        let mut extendable = self.extendable.clone();
        let (run, store_id, offered) = (self.run.clone(), self.store_id.clone(), self.events_offered);
        self.transaction("record a gap", |connection| {
            work(connection)?;
            for gap in gaps {
                known.add(gap.first, gap.last);
                remember(connection, gap)?;
                let told = Extendable::told(extendable.take(), gap, &store_id, reason, offered, last_event);
                last_event = last_event.max(told.event);
                let fields = told.gap.fields(reason);
                let event = Event::recorded(told.event, &run, &store_id, GAP, fields, now);
                extendable = Some(told);
                events::write(connection, &event)?;
            }
            Ok(())
        })?;
        self.known = known;
        self.last_event = last_event;
        self.extendable = extendable;
        self.newest_rows.clear();
        self.forget_dead();
        for gap in gaps {
            tracing::error!(
                first = gap.first,
                last = gap.last,
                reason,
                "readings are lost before they were sent"
            );
        }
        Ok(())
    }
}

/// A stretch that goes on is one row.
fn remember(connection: &Connection, gap: &Gap) -> Result<(), StoreError> {
    let numbers = params![gap.first.cast_signed(), gap.last.cast_signed()];
    let extended = connection.execute("UPDATE gap SET last = ?2 WHERE last = ?1 - 1", numbers);
    extended
        .and_then(|extended| match extended {
            0 => connection.execute("INSERT OR REPLACE INTO gap (first, last) VALUES (?1, ?2)", numbers),
            more => Ok(more),
        })
        .map_err(StoreError::doing("record a gap"))?;
    Ok(())
}

/// The gap event that the next gap may extend. Only of this run: an event keeps its message-id, so its body is
/// final once it was handed out, and after a restart nobody knows whether it was.
#[derive(Debug, Clone)]
pub(crate) struct Extendable {
    pub event: u64,
    pub gap: Gap,
    store_id: Arc<str>,
    reason: Arc<str>,
}

impl Extendable {
    /// How a gap is told: by the event that is `open`, where it goes on in the same store for the same reason and was
    /// not handed out; else by a new one above `last_event`.
    pub fn told(
        open: Option<Self>,
        gap: &Gap,
        store_id: &Arc<str>,
        reason: &str,
        offered: u64,
        last_event: u64,
    ) -> Self {
        let goes_on = |open: &Self| {
            open.event > offered
                && open.store_id == *store_id
                && &*open.reason == reason
                && open.gap.last + 1 == gap.first
        };
        match open.filter(goes_on) {
            Some(open) => Self { gap: Gap { last: gap.last, until: gap.until, ..open.gap }, ..open },
            None => Self {
                event: last_event + 1,
                gap: *gap,
                store_id: store_id.clone(),
                reason: Arc::from(reason),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Known;

    #[test]
    fn what_is_known_is_not_told_twice() {
        let mut known = Known::default();
        known.add(10, 12);
        known.add(20, 20);
        assert_eq!(known.unknown_in(8, 22), [(8, 9), (13, 19), (21, 22)]);
        assert_eq!(known.unknown_in(10, 12), []);
        assert_eq!(known.count(10, 30), 3);
        known.add(13, 19);
        assert_eq!(known, Known(vec![(10, 20)]));
        known.forget_upto(20);
        assert_eq!(known, Known::default());
    }
}
