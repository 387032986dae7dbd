//! Proves from what the hub received that nothing is missing, or says what is: every reading carries (storeId,
//! sequence), and every sequence that was lost is named by an event. Knows messages, not how they were fetched.
//!
//! A store's sequence begins at 1, so a file that begins later is not complete, and says so.

mod forms;
mod report;

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::BufRead;

use serde_json::Value;

use self::forms::Message;
pub use self::report::{Explained, Report, RolledBack, Span, StoreReport};

/// Takes messages in; [`Verifier::report`] says what they prove.
#[derive(Debug, Default)]
pub struct Verifier {
    stores: BTreeMap<(String, String), Seen>,
    events: u64,
    others: u64,
    unreadable: Vec<u64>,
}

/// What was seen of one store of one device.
#[derive(Debug, Default)]
struct Seen {
    /// A fingerprint for each sequence: the message-id where there is one, else time and values.
    readings: HashMap<u64, u64>,
    /// Further ones, of numbers that several readings have.
    others: BTreeMap<u64, Vec<u64>>,
    duplicates: u64,
    explained: Vec<Explained>,
    replaced: Option<String>,
}

/// A message that is split over lines is given up after so many bytes.
const LONGEST: usize = 4 << 20;

impl Verifier {
    /// Reads one file: JSON lines, or JSON values that are spread over lines, one after another.
    pub fn read(&mut self, mut file: impl BufRead) -> std::io::Result<()> {
        let mut text = String::new();
        let mut number = 0;
        loop {
            let read = file.read_line(&mut text)?;
            number += 1;
            if text.trim().is_empty() {
                text.clear();
            } else {
                match serde_json::from_str::<Value>(text.trim_start_matches('\u{feff}')) {
                    Ok(value) => {
                        self.value(value, number);
                        text.clear();
                    }
                    // The value goes on in the next line.
                    Err(error) if error.is_eof() && read > 0 && text.len() < LONGEST => {}
                    Err(_) => {
                        self.unreadable.push(number);
                        text.clear();
                    }
                }
            }
            if read == 0 {
                return Ok(());
            }
        }
    }

    fn value(&mut self, value: Value, line: u64) {
        let messages = forms::unwrap(value);
        if messages.is_empty() {
            self.unreadable.push(line);
        }
        for message in messages {
            self.message(&message);
        }
    }

    fn message(&mut self, message: &Message) {
        let body = &message.body;
        let text = |key: &str| body.get(key).and_then(Value::as_str).map(str::to_owned);
        let Some(store) = text("storeId") else {
            self.others += 1;
            return;
        };
        let device = text("deviceId").or_else(|| message.device.clone()).unwrap_or_default();
        let seen = self.stores.entry((device, store)).or_default();
        if let Some(event) = text("event") {
            self.events += 1;
            seen.event(&event, body);
        } else if let Some(sequence) = body.get("sequence").and_then(Value::as_u64) {
            seen.reading(sequence, fingerprint(message));
        } else {
            self.others += 1;
        }
    }

    /// What the messages prove.
    pub fn report(self) -> Report {
        let stores =
            self.stores.into_iter().map(|((device, store), seen)| seen.report(device, store)).collect();
        Report::new(stores, self.events, self.others, self.unreadable)
    }
}

impl Seen {
    fn reading(&mut self, sequence: u64, fingerprint: u64) {
        let Some(&first) = self.readings.get(&sequence) else {
            self.readings.insert(sequence, fingerprint);
            return;
        };
        let others = self.others.get(&sequence);
        if first == fingerprint || others.is_some_and(|others| others.contains(&fingerprint)) {
            self.duplicates += 1;
        } else {
            self.others.entry(sequence).or_default().push(fingerprint);
        }
    }

    fn event(&mut self, event: &str, body: &Value) {
        let number = |key: &str| body.get(key).and_then(Value::as_u64);
        let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        match (event, number("first"), number("last")) {
            ("gap", Some(first), Some(last)) => {
                self.explained.push(Explained { first, last, reason: text("reason") });
            }
            ("deadLetter", Some(first), Some(last)) => {
                let reason = format!("refused by the hub: {}", text("condition"));
                self.explained.push(Explained { first, last, reason });
            }
            ("storeReplaced", _, _) => self.replaced = Some(text("previousStoreId")),
            _ => {}
        }
    }

    fn report(mut self, device_id: String, store_id: String) -> StoreReport {
        let mut sequences: Vec<u64> = self.readings.into_keys().collect();
        sequences.sort_unstable();
        let mut missing = Vec::new();
        let mut next = 1;
        for &sequence in &sequences {
            if sequence > next {
                missing.push(Span { first: next, last: sequence - 1 });
            }
            next = sequence + 1;
        }
        // A gap at the end: readings that were evicted after the last one here.
        let last_told = self.explained.iter().map(|gap| gap.last).max().unwrap_or(0);
        if last_told >= next {
            missing.push(Span { first: next, last: last_told });
        }
        self.explained.sort_by_key(|gap| (gap.first, gap.last));
        let mut explained = Vec::new();
        let mut holes = Vec::new();
        for span in missing {
            split(span, &self.explained, &mut explained, &mut holes);
        }
        StoreReport {
            device_id,
            store_id,
            readings: sequences.len() as u64,
            first: sequences.first().copied(),
            last: sequences.last().copied(),
            holes,
            explained,
            duplicates: self.duplicates,
            rolled_back: self
                .others
                .into_iter()
                .map(|(sequence, others)| RolledBack { sequence, readings: 1 + others.len() as u64 })
                .collect(),
            replaces: self.replaced,
        }
    }
}

/// The parts of a missing stretch that events explain, and those that nothing does.
fn split(span: Span, told: &[Explained], explained: &mut Vec<Explained>, holes: &mut Vec<Span>) {
    let mut next = span.first;
    for gap in told.iter().filter(|gap| gap.last >= span.first && gap.first <= span.last) {
        if gap.last < next {
            continue;
        }
        if gap.first > next {
            holes.push(Span { first: next, last: gap.first - 1 });
        }
        let last = gap.last.min(span.last);
        explained.push(Explained { first: gap.first.max(next), last, reason: gap.reason.clone() });
        next = last + 1;
    }
    if next <= span.last {
        holes.push(Span { first: next, last: span.last });
    }
}

/// Two messages of one reading have the same; two readings that share a number do not. The message-id of a packed
/// message names several readings, so it counts by the run word in it.
fn fingerprint(message: &Message) -> u64 {
    let mut hasher = DefaultHasher::new();
    let run = message.id.as_deref().and_then(|id| {
        let store = message.body.get("storeId").and_then(Value::as_str)?;
        id.strip_prefix(store)?.strip_prefix('-')?.split('-').next()
    });
    match run {
        Some(run) => run.hash(&mut hasher),
        None => {
            for key in ["time", "currentTemperature", "currentHumidity", "currentPressure"] {
                message.body.get(key).map(Value::to_string).hash(&mut hasher);
            }
        }
    }
    hasher.finish()
}
