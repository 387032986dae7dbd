//! What was seen of one store under one name: which readings, which of them again, what events say. Knows no other one.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::Value;

use super::forms::Message;
use super::report::{Explained, RolledBack, Span};

#[derive(Debug, Default)]
pub(super) struct Seen {
    readings: HashMap<u64, Print>,
    /// Further ones, of numbers that several readings have.
    others: BTreeMap<u64, Vec<Print>>,
    duplicates: Vec<u64>,
    pub explained: Vec<Explained>,
    pub replaced: Option<String>,
}

/// By what a reading is known again: two messages of one reading have the same, two readings that share a number do not.
#[derive(Debug, Clone, Copy)]
pub(super) struct Print {
    /// The run word of the message-id; 0 where the export has none. The id of a packed message names several readings.
    run: u32,
    values: u32,
}

impl Print {
    pub fn of(message: &Message) -> Self {
        let run = message.id.as_deref().and_then(|id| {
            let store = message.body.get("storeId").and_then(Value::as_str)?;
            id.strip_prefix(store)?.strip_prefix('-')?.split('-').next()
        });
        let keys = ["time", "currentTemperature", "currentHumidity", "currentPressure"];
        Self {
            run: run.map_or(0, |run| short(run).max(1)),
            values: short(keys.map(|key| message.body.get(key).map(Value::to_string))),
        }
    }

    fn is_same(self, other: Self) -> bool {
        if self.run != 0 && other.run != 0 { self.run == other.run } else { self.values == other.values }
    }
}

/// The number of a reading: a store counts from 1, as far as SQLite's integers go. Whatever is added to one, and the
/// length of a stretch, fits into the type.
pub(super) fn number(body: &Value, key: &str) -> Option<u64> {
    body.get(key)?.as_i64().filter(|number| *number >= 1)?.try_into().ok()
}

fn short(what: impl Hash) -> u32 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    let hash = hasher.finish();
    (hash ^ hash >> 32) as u32
}

impl Seen {
    pub fn reading(&mut self, sequence: u64, print: Print) {
        let Some(first) = self.readings.get_mut(&sequence) else {
            self.readings.insert(sequence, print);
            return;
        };
        let others = self.others.get_mut(&sequence).map(Vec::as_mut_slice).unwrap_or_default();
        let known = std::iter::once(first).chain(others).find(|known| known.is_same(print));
        match known {
            Some(known) => {
                // Another export may have left the id out.
                known.run = known.run.max(print.run);
                self.duplicates.push(sequence);
            }
            None => self.others.entry(sequence).or_default().push(print),
        }
    }

    /// `None` where it should name a stretch of readings and does not.
    pub fn event(&mut self, event: &str, body: &Value) -> Option<()> {
        let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let reason = match event {
            "gap" => text("reason"),
            "deadLetter" => format!("refused by the hub: {}", text("condition")),
            "storeReplaced" => {
                self.replaced = Some(text("previousStoreId"));
                return Some(());
            }
            _ => return Some(()),
        };
        let (first, last) = (number(body, "first")?, number(body, "last")?);
        (first <= last).then(|| self.explained.push(Explained { first, last, reason }))
    }

    /// Sorted.
    pub fn sequences(&self) -> Vec<u64> {
        let mut sequences: Vec<u64> = self.readings.keys().copied().collect();
        sequences.sort_unstable();
        sequences
    }

    /// Both have a reading of the same number, and not the same reading: two cards go on from one copy.
    pub fn contradicts(&self, other: &Self) -> bool {
        let differs = |(sequence, print): (&u64, &Print)| {
            other.readings.get(sequence).is_some_and(|there| !there.is_same(*print))
        };
        self.readings.iter().any(differs)
    }

    /// How many messages came again, and which numbers they had.
    pub fn duplicates(&mut self) -> (u64, Vec<Span>) {
        self.duplicates.sort_unstable();
        let count = self.duplicates.len() as u64;
        let mut spans: Vec<Span> = Vec::new();
        for &sequence in &self.duplicates {
            match spans.last_mut() {
                Some(span) if sequence <= span.last + 1 => span.last = sequence,
                _ => spans.push(Span { first: sequence, last: sequence }),
            }
        }
        (count, spans)
    }

    pub fn rolled_back(&self) -> Vec<RolledBack> {
        let named = |(sequence, others): (&u64, &Vec<Print>)| RolledBack {
            sequence: *sequence,
            readings: 1 + others.len() as u64,
        };
        self.others.iter().map(named).collect()
    }
}
