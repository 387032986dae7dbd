//! Messages from the cloud to the device: kept, shown, and told how to settle. The newest ten are kept on disk before
//! the hub is told that they were accepted, so that none is gone with the power. They belong to one identity. Knows no
//! AMQP.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::{Value, json};

use super::wire::ToDevice;
use crate::identity::Identity;
use crate::observation::rfc3339;
use crate::status::Board;
use crate::store::StoreHandle;

/// Messages that are kept and shown.
const SHOWN: usize = 10;
/// Characters of a message, of a property and of a name that are shown.
const LONGEST: usize = 2_000;
const LONGEST_PROPERTY: usize = 200;
const PROPERTIES: usize = 10;
/// Bytes that a message may take in the status document, where a control character takes six: all of them together
/// have to fit into the answer to a method (128 KB) beside everything else.
const ROOM: usize = 8_000;
const ROOM_FOR_TEXT: usize = 6_000;
/// Where the store keeps them.
const KEY: &str = "cloud.messages";
/// The store answers within this time, or the hub keeps the message.
const LIMIT: Duration = Duration::from_secs(5);

/// What to tell the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is kept and shown: the hub may forget it.
    Accept,
    /// It can never be shown: the hub may forget it, and its sender learns why.
    Reject(&'static str),
    /// Not now: it is left unsettled until it can be kept. Giving it back (`released`) would be counted, and after ten
    /// times the hub throws it away.
    Later,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Inbox {
    store: StoreHandle,
    board: Arc<Board>,
    /// To whom the messages are, once that is known.
    owner: Option<Identity>,
    loaded: Arc<AtomicBool>,
}

/// What the store keeps.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Kept {
    Owned {
        owner: Value,
        messages: Vec<Value>,
    },
    /// As versions before wrote it: the messages alone.
    Ownerless(Vec<Value>),
}

impl Inbox {
    pub fn new(store: StoreHandle, board: Arc<Board>) -> Self {
        Self { store, board, owner: None, loaded: Arc::default() }
    }

    /// The station is this one at this hub: messages to another one are not shown.
    pub fn belongs_to(&mut self, identity: &Identity) {
        if self.owner.as_ref() != Some(identity) {
            self.owner = Some(identity.clone());
            self.loaded = Arc::default();
            self.show(Vec::new());
        }
    }

    /// Whether what was kept by the last run is shown.
    pub fn is_loaded(&self) -> bool {
        self.loaded.load(Ordering::Relaxed)
    }

    /// Shows what was kept by the last run. Until the store has answered once, nothing is accepted.
    pub async fn load(&self) {
        if self.is_loaded() {
            return;
        }
        let kept = match tokio::time::timeout(LIMIT, self.store.value(KEY)).await {
            Ok(Ok(text)) => text,
            Ok(Err(_)) | Err(_) => return,
        };
        self.loaded.store(true, Ordering::Relaxed);
        // A text that is not ours is as good as none.
        let kept = match kept.and_then(|text| serde_json::from_str(&text).ok()) {
            Some(Kept::Owned { owner, messages }) if owner == json!(self.owner) => messages,
            Some(Kept::Ownerless(messages)) => messages,
            Some(Kept::Owned { .. }) | None => return,
        };
        self.show(kept.into_iter().take(SHOWN).collect());
    }

    fn show(&self, messages: Vec<Value>) {
        self.board.cloud.send_if_modified(|status| {
            let changed = status.messages != messages;
            status.messages = messages;
            changed
        });
    }

    /// Takes a message in; one at a time.
    pub async fn take(&self, message: &ToDevice, now: DateTime<Utc>) -> Verdict {
        let Some(entry) = entry(message, now) else {
            return Verdict::Reject("the station shows text (UTF-8), and this is none");
        };
        self.load().await;
        if !self.is_loaded() {
            return Verdict::Later;
        }
        let mut messages = self.board.cloud.borrow().messages.clone();
        if messages.iter().any(|old| is_same(old, &entry)) {
            return Verdict::Accept;
        }
        messages.insert(0, entry);
        messages.truncate(SHOWN);
        let text = json!({ "owner": self.owner, "messages": messages }).to_string();
        match tokio::time::timeout(LIMIT, self.store.set_value(KEY, Some(text))).await {
            Ok(Ok(())) => {
                tracing::info!(id = message.message_id, "a message from the cloud");
                self.show(messages);
                Verdict::Accept
            }
            Ok(Err(error)) => {
                // That it waits is told, and not each time.
                tracing::debug!(%error, "a message from the cloud could not be kept");
                Verdict::Later
            }
            Err(_) => Verdict::Later,
        }
    }
}

/// As the status document has it: `time` (of receipt), `text`, and where they are there `messageId`, `sequence`,
/// `properties`; `shortened` where the text was longer.
pub(super) fn entry(message: &ToDevice, now: DateTime<Utc>) -> Option<Value> {
    let text = std::str::from_utf8(&message.body).ok()?;
    let shown = within(text, LONGEST, ROOM_FOR_TEXT);
    let mut room = ROOM - length(shown);
    let mut entry = json!({ "time": rfc3339(now), "text": shown });
    if shown.len() < text.len() {
        entry["shortened"] = true.into();
    }
    if let Some(id) = &message.message_id {
        let id = within(id, LONGEST_PROPERTY, room);
        room -= length(id);
        entry["messageId"] = id.into();
    }
    if let Some(sequence) = message.sequence {
        entry["sequence"] = sequence.into();
    }
    // `iothub-ack` and the like are the hub's own.
    let own = message.properties.iter().filter(|(name, _)| !name.to_ascii_lowercase().starts_with("iothub-"));
    let properties: serde_json::Map<String, Value> = own
        .take(PROPERTIES)
        .filter_map(|(name, value)| {
            let name = within(name, LONGEST_PROPERTY, usize::MAX);
            let value = within(value.as_str()?, LONGEST_PROPERTY, usize::MAX);
            room = room.checked_sub(length(name) + length(value))?;
            Some((name.to_owned(), value.into()))
        })
        .collect();
    if !properties.is_empty() {
        entry["properties"] = Value::Object(properties);
    }
    Some(entry)
}

/// Delivered again: the acknowledgement was lost. Without a number or a name two equal messages are two messages.
fn is_same(old: &Value, new: &Value) -> bool {
    let named = ["messageId", "sequence"].iter().any(|key| new.get(key).is_some());
    named && ["messageId", "sequence", "text"].iter().all(|key| old.get(key) == new.get(key))
}

/// The beginning of a text: at most so many characters, and so many bytes in JSON.
fn within(text: &str, longest: usize, mut room: usize) -> &str {
    let fits = |(_, c): &(usize, char)| {
        let left = room.checked_sub(length_of(*c));
        room = left.unwrap_or_default();
        left.is_some()
    };
    let end = text.char_indices().take(longest).take_while(fits).last();
    end.map_or("", |(at, c)| &text[..at + c.len_utf8()])
}

/// Bytes in JSON.
fn length(text: &str) -> usize {
    text.chars().map(length_of).sum()
}

fn length_of(c: char) -> usize {
    match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        c if c < ' ' => 6,
        c => c.len_utf8(),
    }
}

#[cfg(test)]
mod tests;
