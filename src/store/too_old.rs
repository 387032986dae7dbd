//! Which of the oldest readings that were sent are too old. One of unknown time is judged by the first one behind it
//! whose time is known; where many of them lie in a row they are walked over once, and not in each round.

use rusqlite::{Connection, OptionalExtension, params};

use super::StoreError;
use super::prune::STEP;
use super::row::Table;
use crate::reading::TimeQuality;

/// Of each table the stretch that was walked over last.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Walks {
    pub salvaged: Walk,
    pub readings: Walk,
}

/// What lies between `from` and `upto`, in a table of readings that were sent, is of unknown time.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Walk {
    from: i64,
    upto: i64,
    /// Of the row at `upto`, where its time is known.
    known: Option<i64>,
}

impl Walk {
    /// The first known time behind `after`, which is of unknown time itself, up to `sent`. Sent rows keep their times,
    /// and go with the oldest first: what was found holds for the next rows too.
    fn first_known(
        &mut self,
        connection: &Connection,
        table: Table,
        after: i64,
        sent: i64,
    ) -> rusqlite::Result<Option<i64>> {
        if !(self.from..self.upto).contains(&after) {
            *self = Self { from: after, upto: after, known: None };
        }
        if self.known.is_none() {
            let Table { name, number } = table;
            let sql = format!(
                "SELECT {number}, time FROM {name} WHERE {number} > ?1 AND {number} <= ?2 AND time_quality < ?3 \
                 ORDER BY {number} LIMIT 1"
            );
            let found = connection
                .prepare_cached(&sql)?
                .query_row(params![self.upto, sent, TimeQuality::Unknown.code()], |row| {
                    Ok((row.get(0)?, Some(row.get(1)?)))
                })
                .optional()?;
            (self.upto, self.known) = found.unwrap_or((sent, None));
        }
        Ok(self.known)
    }
}

/// The last row of the oldest ones, a step long, that was sent (up to `sent`) and is from before `oldest`, in
/// milliseconds since 1970.
pub(super) fn last(
    connection: &Connection,
    table: Table,
    sent: u64,
    oldest: i64,
    walk: &mut Walk,
) -> Result<Option<u64>, StoreError> {
    let mut read = || {
        let Table { name, number } = table;
        let sql = format!(
            "SELECT {number}, time, time_quality FROM {name} WHERE {number} <= ?1 ORDER BY {number} LIMIT ?2"
        );
        let mut statement = connection.prepare_cached(&sql)?;
        let mut rows = statement.query(params![sent.cast_signed(), STEP])?;
        let (mut last, mut of_unknown_time, mut count) = (None, 0, 0);
        while let Some(row) = rows.next()? {
            let (number, time, quality): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            count += 1;
            if quality == i64::from(TimeQuality::Unknown.code()) {
                of_unknown_time = number;
            } else if time >= oldest {
                return Ok(last);
            } else {
                last = Some(number.cast_unsigned());
            }
        }
        if last.is_some() || count < STEP {
            return Ok(last);
        }
        let known = walk.first_known(connection, table, of_unknown_time, sent.cast_signed())?;
        Ok(known.filter(|time| *time < oldest).map(|_| of_unknown_time.cast_unsigned()))
    };
    read().map_err(StoreError::doing("look for old readings"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use chrono::DateTime;

    use super::super::Position;
    use super::super::database::Database;
    use super::super::row::Row;
    use super::*;
    use crate::clock::{Stopped, Timekeeper};

    const DAY: Duration = Duration::from_secs(86_400);

    /// Each round would otherwise read all of them.
    #[test]
    fn readings_of_unknown_time_are_walked_over_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let clock = Stopped { wall: DateTime::UNIX_EPOCH + 50 * DAY, since_boot: DAY, synchronised: true };
        let timekeeper = Timekeeper::new(Arc::new(clock), DateTime::UNIX_EPOCH);
        let run = Arc::from("run");
        let mut database =
            Database::open(&folder.path().join("readings.db"), false, 1, "", &timekeeper, &run)
                .expect("a database");
        let unknown = |sequence| Row { time_quality: TimeQuality::Unknown.code(), ..Row::example(sequence) };
        let known = |sequence, day: i64| Row { time: day * 86_400_000, ..Row::example(sequence) };
        let rows: Vec<Row> = (1..=1_100).map(unknown).chain([known(1_101, 40), known(1_102, 50)]).collect();
        database.insert(&rows).expect("inserted");
        database.acknowledge(Position { generation: 1, row: 1_102 }).expect("acknowledged");
        let prune = |database: &mut Database, days| database.prune_old(days * DAY).expect("pruned");
        assert!(!prune(&mut database, 20), "the first of known time is younger");
        // Whoever walks over them again finds one that is old.
        let trap = "UPDATE reading SET time_quality = 0 WHERE sequence = 700";
        database.connection.execute(trap, []).expect("set");
        assert!(!prune(&mut database, 20), "they were walked over again");
        let mut steps = 0;
        while prune(&mut database, 5) {
            steps += 1;
        }
        let left = "SELECT count(*) FROM reading";
        let left: i64 = database.connection.query_row(left, [], |row| row.get(0)).expect("counted");
        assert_eq!((steps, left), (3, 1));
    }
}
