//! Finds rows in the raw bytes of a page, trusting nothing but their checksums: not the page's header, not its
//! pointers, not the tree above it. Knows how SQLite writes a record; what ours look like their tables know.
//!
//! Source: "Database File Format" (sqlite.org/fileformat2.html), sections 1.6 (cell of a table leaf: length of the
//! payload, row id, payload) and 2.1 (record: length of the header, serial types, values).
//! Every offset of the page is tried: a wrong start is refused by its form within a few bytes, and what is left by
//! a checksum of 32 bits.

use super::progress::Progress;
use super::rollups::{Level, Rollup};
use super::row::Row;
use super::watermark::Watermark;
use super::{Event, events, rollup_rows, salvaged, values};

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

/// A column of a record.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value<'a> {
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

/// Each table knows its own columns.
fn row(id: i64, columns: &[Value<'_>]) -> Option<Cell> {
    let number = id.cast_unsigned();
    let salvaged = || {
        let (generation, row) = salvaged::from_cell(number, columns)?;
        Some(Cell::Salvaged { generation, row })
    };
    let origin = || {
        let store_id = salvaged::origin_from_cell(number, columns)?;
        Some(Cell::Origin { generation: number, store_id })
    };
    let value = || {
        let (key, value) = values::from_cell(columns)?;
        Some(Cell::Value { key, value })
    };
    (Row::from_cell(number, columns).map(Cell::Reading))
        .or_else(salvaged)
        .or_else(|| Watermark::from_cell(columns).map(Cell::Watermark))
        .or_else(|| Progress::from_cell(columns).map(Cell::Progress))
        .or_else(|| events::from_cell(number, columns).map(Cell::Event))
        .or_else(origin)
        .or_else(value)
        .or_else(|| rollup_rows::from_cell(id, columns).map(|(level, rollup)| Cell::Rollup(level, rollup)))
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
