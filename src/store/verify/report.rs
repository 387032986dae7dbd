//! What a verification found, for people and for programs. Knows how to say it, not how it was found.

use std::fmt;

use serde::Serialize;

/// The whole of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// There are readings, and every sequence of every store from 1 to its last is there or explained by an event.
    pub complete: bool,
    pub readings: u64,
    pub events: u64,
    /// Messages that are not of a weather station.
    pub others: u64,
    /// Lines that hold no message, or one whose numbers cannot be those of readings.
    pub unreadable_lines: Vec<u64>,
    pub stores: Vec<StoreReport>,
}

/// One store of one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreReport {
    pub device_id: String,
    pub store_id: String,
    /// Different sequences.
    pub readings: u64,
    pub first: Option<u64>,
    pub last: Option<u64>,
    /// Missing, and nothing says why.
    pub holes: Vec<Span>,
    /// Missing, and an event says why.
    pub explained: Vec<Explained>,
    /// Messages that came again, the same reading under the same number.
    pub duplicates: u64,
    /// The numbers of those.
    pub duplicated: Vec<Span>,
    /// Numbers that two different readings have: the store lost its newest rows once.
    pub rolled_back: Vec<RolledBack>,
    /// The store that this one took the place of.
    pub replaces: Option<String>,
}

/// Sequences from `first` to `last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Span {
    pub first: u64,
    pub last: u64,
}

/// A missing stretch with its reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explained {
    pub first: u64,
    pub last: u64,
    pub reason: String,
}

/// See [`StoreReport::rolled_back`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RolledBack {
    pub sequence: u64,
    /// Different readings with this number.
    pub readings: u64,
}

impl Report {
    pub(super) fn new(
        stores: Vec<StoreReport>,
        events: u64,
        others: u64,
        unreadable_lines: Vec<u64>,
    ) -> Self {
        let readings = stores.iter().map(|store| store.readings).sum();
        let complete = readings > 0 && stores.iter().all(|store| store.holes.is_empty());
        Self { complete, readings, events, others, unreadable_lines, stores }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for store in &self.stores {
            writeln!(out, "{store}")?;
        }
        if !self.unreadable_lines.is_empty() {
            let lines: Vec<String> = self.unreadable_lines.iter().take(10).map(u64::to_string).collect();
            writeln!(
                out,
                "{} lines hold no message that can be read: {}",
                self.unreadable_lines.len(),
                lines.join(", ")
            )?;
        }
        if self.others > 0 {
            writeln!(out, "{} messages are not of a weather station", self.others)?;
        }
        match (self.complete, self.readings) {
            (true, readings) => {
                write!(out, "complete: {readings} readings, no sequence missing without a reason")
            }
            (false, 0) => write!(out, "not complete: there are no readings"),
            (false, _) => {
                let holes = self.stores.iter().flat_map(|store| &store.holes);
                // Each fits into 64 bits, all of them may not.
                let missing: u128 = holes.map(|hole| u128::from(hole.last - hole.first + 1)).sum();
                write!(out, "not complete: {missing} readings are missing and nothing says why")
            }
        }
    }
}

impl fmt::Display for StoreReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (device_id, store_id, readings) = (shown(&self.device_id), shown(&self.store_id), self.readings);
        let (first, last) = (self.first.unwrap_or(0), self.last.unwrap_or(0));
        write!(out, "device {device_id}, store {store_id}: {readings} readings, {first} to {last}")?;
        if let Some(replaces) = &self.replaces {
            write!(out, "\n  took the place of store {}", shown(replaces))?;
        }
        if self.duplicates > 0 {
            let listed: Vec<_> =
                self.duplicated.iter().take(LISTED).map(|again| span(again.first, again.last)).collect();
            let more = if self.duplicated.len() > LISTED { ", ..." } else { "" };
            write!(out, "\n  duplicates: {}, of {}{more}", self.duplicates, listed.join(", "))?;
        }
        for hole in &self.holes {
            write!(out, "\n  missing: {}", span(hole.first, hole.last))?;
            if hole.first == 1 && hole.last + 1 == first {
                write!(out, " (the files begin at {first})")?;
            }
        }
        for gap in &self.explained {
            write!(out, "\n  missing, explained: {}: {}", span(gap.first, gap.last), shown(&gap.reason))?;
        }
        for twice in &self.rolled_back {
            write!(out, "\n  rolled back: {} names {} different readings", twice.sequence, twice.readings)?;
        }
        Ok(())
    }
}

/// So many stretches of duplicates are named: they are no loss.
const LISTED: usize = 20;

/// A text of the messages for a terminal, which would do what a control character says.
fn shown(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars() {
        match c.is_control() {
            true => shown.extend(c.escape_unicode()),
            false => shown.push(c),
        }
    }
    shown
}

fn span(first: u64, last: u64) -> String {
    if first == last { first.to_string() } else { format!("{first} to {last} ({})", last - first + 1) }
}
