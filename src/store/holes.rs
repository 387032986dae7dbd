//! Sequences of a damaged store that were not sent and that its salvage did not find. Knows what was found and what was
//! told before, not how it was got out of the file.

use rusqlite::{Connection, params};

use super::database::Database;
use super::gaps::{Gap, Known};
use super::row::KNOWN_TIME;
use super::{StoreError, events, salvaged};

/// More holes than this are told in one event.
const HOLES: usize = 50;

/// The stretches between the watermark and the last reading found that are neither there nor `known` to be missing.
pub(super) fn find(
    database: &Database,
    generation: u64,
    acknowledged: u64,
    known: &Known,
) -> Result<Vec<Gap>, StoreError> {
    let read = || {
        let mut holes: Vec<Gap> = Vec::new();
        let mut statement = database.connection.prepare(&format!(
            "SELECT row, {KNOWN_TIME} FROM salvaged WHERE row > ?1 AND row < ?2 ORDER BY row"
        ))?;
        let above = salvaged::key(generation, acknowledged).cast_signed();
        let below = salvaged::key(generation + 1, 0).cast_signed();
        let mut rows = statement.query(params![above, below])?;
        // Where the watermark is lost, all before the first one found may be missing: better told than not.
        let (mut before, mut from) = (acknowledged, None);
        while let Some(row) = rows.next()? {
            let (_, sequence) = salvaged::parts(row.get::<_, i64>(0)?.cast_unsigned());
            let time: Option<i64> = row.get(1)?;
            for (first, last) in known.unknown_in(before + 1, sequence - 1) {
                let full = holes.len() >= HOLES;
                match holes.last_mut() {
                    Some(open) if full => (open.last, open.until) = (last, time),
                    _ => holes.push(Gap { first, last, from, until: time }),
                }
            }
            (before, from) = (sequence, time);
        }
        Ok(holes)
    };
    read().map_err(StoreError::doing("look for missing readings"))
}

/// What the salvaged events of that store tell as missing: it is told once. A gap whose event was sent is not known,
/// for gaps themselves have no checksum to be found by, and is told again.
pub(super) fn already_told(connection: &Connection, store_id: &str) -> Result<Known, StoreError> {
    let read = || {
        let mut statement = connection.prepare(&format!(
            "SELECT {} FROM event WHERE store_id = ?1 AND kind = 'gap'",
            events::COLUMNS
        ))?;
        let stretches = statement.query_map([store_id], |row| {
            let event = events::event(row, row.get::<_, i64>(0)?.cast_unsigned());
            Ok(event.and_then(|event| event.fields["first"].as_u64().zip(event.fields["last"].as_u64())))
        })?;
        stretches.collect::<rusqlite::Result<Vec<_>>>()
    };
    let mut known = Known::default();
    for (first, last) in
        read().map_err(StoreError::doing("read what was told as missing"))?.into_iter().flatten()
    {
        known.add(first, last);
    }
    Ok(known)
}
