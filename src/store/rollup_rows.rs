//! The rows of the charts' buckets: how one is found, read and written. Knows nothing of when that is.

use rusqlite::{Connection, OptionalExtension, params};

use super::StoreError;
use super::fold::{Fold, Range};
use super::rollups::{Level, Rollup};
use super::scan::Value;

/// Shows those of a level that start in `[from, to)`, oldest first, as they are read: a year of them is much memory. One
/// with a wrong checksum is left out.
pub(crate) fn each_between(
    connection: &Connection,
    level: Level,
    from: i64,
    to: i64,
    show: &mut dyn FnMut(&Rollup),
) -> Result<(), StoreError> {
    if to <= from {
        return Ok(());
    }
    let mut read = || {
        let mut statement =
            connection.prepare_cached("SELECT * FROM rollup WHERE id >= ?1 AND id < ?2 ORDER BY id")?;
        // The first bucket that starts at or after `from`: ids count whole seconds.
        let first = level.id(from.saturating_add(999));
        let mut rows = statement.query(params![first, level.id(to.saturating_add(999))])?;
        while let Some(row) = rows.next()? {
            if let Some(rollup) = stored(row)? {
                show(&rollup);
            }
        }
        Ok(())
    };
    read().map_err(StoreError::doing("read the charts"))
}

/// Where the first one of a level starts that starts at `from` or later.
pub(crate) fn first_start(
    connection: &Connection,
    level: Level,
    from: i64,
) -> Result<Option<i64>, StoreError> {
    connection
        .prepare_cached("SELECT id FROM rollup WHERE id >= ?1 AND id <= ?2 ORDER BY id LIMIT 1")
        .and_then(|mut statement| {
            let ids = params![level.id(from.saturating_add(999)), level.id(i64::MAX)];
            statement.query_row(ids, |row| row.get(0)).optional()
        })
        .map(|id| id.map(Level::start_of_id))
        .map_err(StoreError::doing("read the charts"))
}

pub(super) fn stored_at(connection: &Connection, id: i64) -> Result<Option<Rollup>, StoreError> {
    let found = connection
        .prepare_cached("SELECT * FROM rollup WHERE id = ?1")
        .and_then(|mut statement| statement.query_row([id], stored).optional())
        .map_err(StoreError::doing("read a chart's bucket"))?;
    Ok(found.flatten())
}

/// Under its id, in the place of what was there.
pub(super) fn write(connection: &Connection, id: i64, rollup: &Rollup) -> Result<(), StoreError> {
    let Fold { count, temperature, humidity, pressure } = rollup.fold;
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO rollup VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14)",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                id,
                rollup.first.cast_signed(),
                rollup.last.cast_signed(),
                count,
                temperature.min,
                temperature.max,
                temperature.sum,
                humidity.min,
                humidity.max,
                humidity.sum,
                pressure.min,
                pressure.max,
                pressure.sum,
                rollup.checksum(id),
            ])
        })
        .map_err(StoreError::doing("write a chart's bucket"))?;
    Ok(())
}

/// Takes one away; what is made of it is the caller's.
pub(super) fn remove(connection: &Connection, id: i64) -> Result<(), StoreError> {
    connection
        .prepare_cached("DELETE FROM rollup WHERE id = ?1")
        .and_then(|mut statement| statement.execute([id]))
        .map_err(StoreError::doing("take out a chart's bucket"))?;
    Ok(())
}

fn stored(row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<Rollup>> {
    let id: i64 = row.get(0)?;
    let range = |column: usize| -> rusqlite::Result<Range> {
        Ok(Range { min: row.get(column)?, max: row.get(column + 1)?, sum: row.get(column + 2)? })
    };
    let fold = Fold { count: row.get(3)?, temperature: range(4)?, humidity: range(7)?, pressure: range(10)? };
    let rollup = Rollup {
        start: Level::start_of_id(id),
        first: row.get::<_, i64>(1)?.cast_unsigned(),
        last: row.get::<_, i64>(2)?.cast_unsigned(),
        fold,
    };
    Ok((rollup.checksum(id) == row.get::<_, i32>(13)?).then_some(rollup))
}

/// Out of the bytes of a page, where its checksum holds.
pub(super) fn from_cell(id: i64, columns: &[Value<'_>]) -> Option<(Level, Rollup)> {
    let mut numbers = [0; 13];
    if columns.len() != numbers.len() {
        return None;
    }
    for (number, column) in numbers.iter_mut().zip(columns) {
        let Value::Integer(column) = column else { return None };
        *number = *column;
    }
    let [first, last, count, a, b, c, d, e, f, g, h, i, sum] = numbers;
    let range = |min, max, sum| Range { min, max, sum };
    let rollup = Rollup {
        start: Level::start_of_id(id),
        first: first.cast_unsigned(),
        last: last.cast_unsigned(),
        fold: Fold { count, temperature: range(a, b, c), humidity: range(d, e, f), pressure: range(g, h, i) },
    };
    let level = Level::ALL.into_iter().find(|level| level.id(rollup.start) == id)?;
    (i64::from(rollup.checksum(id)) == sum).then_some((level, rollup))
}
