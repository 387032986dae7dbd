//! Finds rows in the raw bytes of a page, trusting nothing but their checksums: not the page's header, not its
//! pointers, not the tree above it. Knows how SQLite writes a record and what ours look like.
//!
//! Source: "Database File Format" (sqlite.org/fileformat2.html), sections 1.6 (cell of a table leaf: length of the
//! payload, row id, payload) and 2.1 (record: length of the header, serial types, values).
//! Every offset of the page is tried: a wrong start is refused by its form within a few bytes, and what is left by
//! a checksum of 32 bits.

use std::sync::Arc;

use chrono::DateTime;

use super::fold::{Fold, Range};
use super::progress::Progress;
use super::rollups::{Level, Rollup};
use super::row::Row;
use super::watermark::Watermark;
use super::{Event, events, salvaged, values};

/// A row whose checksum held.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    Reading(Row),
    Salvaged { generation: u64, row: Row },
    Watermark(Watermark),
    Progress(Progress),
    Origin { generation: u64, store_id: String },
    Event(Event),
    Rollup(Level, Rollup),
    Value { key: String, value: String },
}

/// All that can be read of a page, in no order; old versions of a row too.
pub(crate) fn cells(page: &[u8]) -> impl Iterator<Item = Cell> + '_ {
    (0..page.len()).filter_map(|start| cell(page.get(start..)?))
}

#[derive(Debug, Clone, Copy)]
enum Value<'a> {
    Null,
    Integer(i64),
    Blob(&'a [u8]),
    Text(&'a str),
}

fn cell(bytes: &[u8]) -> Option<Cell> {
    let (length, bytes) = varint(bytes)?;
    // The shortest of our rows has 12 bytes; none is longer than a page.
    if !(12..=1024).contains(&length) {
        return None;
    }
    let (id, bytes) = varint(bytes)?;
    let payload = bytes.get(..usize::try_from(length).ok()?)?;
    let (header, _) = varint(payload)?;
    let header = usize::try_from(header).ok().filter(|header| (4..=24).contains(header))?;
    // The row id stands for the first column, which is NULL: most wrong starts end here.
    if *payload.get(1)? != 0 {
        return None;
    }
    let mut types = payload.get(1..header)?;
    let mut body = payload.get(header..)?;
    let mut columns = [Value::Null; 14];
    let mut count = 0;
    while !types.is_empty() {
        let (kind, rest) = varint(types)?;
        types = rest;
        let (value, rest) = value(kind, body)?;
        body = rest;
        *columns.get_mut(count)? = value;
        count += 1;
    }
    if !body.is_empty() {
        return None;
    }
    row(id, columns.get(1..count)?)
}

fn row(id: i64, columns: &[Value<'_>]) -> Option<Cell> {
    use Value::{Blob, Integer, Text};
    let number = id.cast_unsigned();
    match *columns {
        [
            Text(run),
            Blob(boot),
            Integer(since_boot),
            Integer(time),
            Integer(time_quality),
            Integer(temperature),
            Integer(humidity),
            Integer(pressure),
            Integer(quality),
            Integer(sum),
        ] => {
            let (generation, sequence) = salvaged::parts(number);
            let mut row = Row {
                sequence: number,
                run: Arc::from(run),
                boot: u128::from_be_bytes(boot.try_into().ok()?),
                since_boot,
                time,
                time_quality: u8::try_from(time_quality).ok()?,
                temperature: i32::try_from(temperature).ok()?,
                humidity: i32::try_from(humidity).ok()?,
                pressure: i32::try_from(pressure).ok()?,
                quality: u8::try_from(quality).ok()?,
            };
            if i64::from(row.checksum()) == sum {
                return Some(Cell::Reading(row));
            }
            row.sequence = sequence;
            (i64::from(row.salvaged_checksum(generation)) == sum)
                .then_some(Cell::Salvaged { generation, row })
        }
        [
            Text(store_id),
            Integer(generation),
            Integer(acknowledged),
            Integer(salvaged),
            Integer(events),
            Integer(sum),
        ] => {
            let watermark = Watermark {
                store_id: store_id.to_owned(),
                generation: generation.cast_unsigned(),
                acknowledged: acknowledged.cast_unsigned(),
                salvaged: salvaged.cast_unsigned(),
                events: events.cast_unsigned(),
            };
            (i64::from(watermark.checksum()) == sum).then_some(Cell::Watermark(watermark))
        }
        [
            Integer(rolled_up),
            Integer(newest),
            Blob(boot),
            Integer(undated),
            Integer(clean),
            Text(salvage),
            Integer(sum),
        ] => {
            let progress = Progress {
                rolled_up: rolled_up.cast_unsigned(),
                newest_synchronised: newest,
                undated_boot: u128::from_be_bytes(boot.try_into().ok()?),
                undated_from: undated.cast_unsigned(),
                clean: clean != 0,
                salvage: salvage.to_owned(),
            };
            (i64::from(progress.checksum()) == sum).then_some(Cell::Progress(progress))
        }
        [Text(store), Text(run), Integer(time), Text(kind), Text(fields), Integer(sum)] => {
            let held = i64::from(events::checksum(number, store, run, time, kind, fields)) == sum;
            let event = held.then(|| {
                Some(Event {
                    event_sequence: number,
                    run: Arc::from(run),
                    store_id: Arc::from(store),
                    time: DateTime::from_timestamp_millis(time)?,
                    kind: kind.to_owned(),
                    fields: serde_json::from_str(fields).ok()?,
                })
            });
            event.flatten().map(Cell::Event)
        }
        [Text(store_id), Integer(sum)] => (i64::from(salvaged::origin_checksum(number, store_id)) == sum)
            .then(|| Cell::Origin { generation: number, store_id: store_id.to_owned() }),
        [Text(key), Text(value), Integer(sum)] => (i64::from(values::checksum(key, value)) == sum)
            .then(|| Cell::Value { key: key.to_owned(), value: value.to_owned() }),
        [Integer(first), Integer(last), Integer(count), ref ranges @ .., Integer(sum)] => {
            let mut numbers = [0; 9];
            if ranges.len() != numbers.len() {
                return None;
            }
            for (number, value) in numbers.iter_mut().zip(ranges) {
                let Integer(value) = value else { return None };
                *number = *value;
            }
            let [a, b, c, d, e, f, g, h, i] = numbers;
            let range = |min, max, sum| Range { min, max, sum };
            let rollup = Rollup {
                start: Level::start_of_id(id),
                first: first.cast_unsigned(),
                last: last.cast_unsigned(),
                fold: Fold {
                    count,
                    temperature: range(a, b, c),
                    humidity: range(d, e, f),
                    pressure: range(g, h, i),
                },
            };
            let level = Level::ALL.into_iter().find(|level| level.id(rollup.start) == id)?;
            (i64::from(rollup.checksum(id)) == sum).then_some(Cell::Rollup(level, rollup))
        }
        _ => None,
    }
}

/// Big-endian, seven bits a byte, eight in the ninth.
fn varint(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let mut number: u64 = 0;
    for index in 0..9 {
        let byte = *bytes.get(index)?;
        if index == 8 {
            number = (number << 8) | u64::from(byte);
        } else {
            number = (number << 7) | u64::from(byte & 0x7f);
            if byte & 0x80 != 0 {
                continue;
            }
        }
        return Some((number.cast_signed(), bytes.get(index + 1..)?));
    }
    None
}

fn value(kind: i64, body: &[u8]) -> Option<(Value<'_>, &[u8])> {
    let integer = |length: usize| {
        let (bytes, rest) = body.split_at_checked(length)?;
        let negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
        let start = if negative { -1_i64 } else { 0 };
        let number = bytes.iter().fold(start, |number, byte| (number << 8) | i64::from(*byte));
        Some((Value::Integer(number), rest))
    };
    match kind {
        0 => Some((Value::Null, body)),
        1..=4 => integer(usize::try_from(kind).ok()?),
        5 => integer(6),
        6 => integer(8),
        8 => Some((Value::Integer(0), body)),
        9 => Some((Value::Integer(1), body)),
        12.. => {
            let (bytes, rest) = body.split_at_checked(usize::try_from((kind - 12) / 2).ok()?)?;
            let value = if kind % 2 == 0 {
                Value::Blob(bytes)
            } else {
                Value::Text(std::str::from_utf8(bytes).ok()?)
            };
            Some((value, rest))
        }
        _ => None,
    }
}
