//! Proves from what the hub received that nothing is missing, or says what is: every reading carries (storeId,
//! sequence), and every sequence that was lost is named by an event. Knows messages, not how they were fetched.
//!
//! A store's sequence begins at 1, so a file that begins later is not complete, and says so. A store may have sent under
//! several names (a new identity, a card in another station): then they count together.

mod forms;
mod missing;
mod report;
mod seen;
mod values;

use std::collections::BTreeMap;
use std::io::BufRead;

use serde_json::Value;

use self::forms::Message;
pub use self::report::{Explained, Report, RolledBack, Span, StoreReport};
use self::seen::{Print, Seen};

/// Takes messages in; [`Verifier::report`] says what they prove.
#[derive(Debug, Default)]
pub struct Verifier {
    /// By store, then by device.
    stores: BTreeMap<String, BTreeMap<String, Seen>>,
    events: u64,
    others: u64,
    unreadable: Vec<u64>,
}

impl Verifier {
    /// Reads one file: JSON lines, or JSON values that are spread over lines, one after another, or an array of them.
    pub fn read(&mut self, file: impl BufRead) -> std::io::Result<()> {
        let mut unreadable = Vec::new();
        values::each(file, |line, value| {
            let messages = value.map(forms::unwrap).unwrap_or_default();
            if messages.is_empty() {
                unreadable.push(line);
            }
            for message in messages {
                if self.message(&message).is_none() {
                    unreadable.push(line);
                }
            }
        })?;
        unreadable.sort_unstable();
        unreadable.dedup();
        self.unreadable.extend(unreadable);
        Ok(())
    }

    /// `None` where it names what cannot be the number of a reading: then it says nothing.
    fn message(&mut self, message: &Message) -> Option<()> {
        let body = &message.body;
        let text = |key: &str| body.get(key).and_then(Value::as_str).map(str::to_owned);
        let Some(store) = text("storeId") else {
            self.others += 1;
            return Some(());
        };
        let device = text("deviceId").or_else(|| message.device.clone()).unwrap_or_default();
        let seen = self.stores.entry(store).or_default().entry(device).or_default();
        if let Some(event) = text("event") {
            seen.event(&event, body)?;
            self.events += 1;
        } else if body.get("sequence").is_some() {
            seen.reading(seen::number(body, "sequence")?, Print::of(message));
        } else {
            self.others += 1;
        }
        Some(())
    }

    /// What the messages prove.
    pub fn report(self) -> Report {
        let mut stores = Vec::new();
        for (store, devices) in self.stores {
            stores.extend(missing::account(&store, devices));
        }
        stores
            .sort_by(|one, other| (&one.device_id, &one.store_id).cmp(&(&other.device_id, &other.store_id)));
        Report::new(stores, self.events, self.others, self.unreadable)
    }
}
