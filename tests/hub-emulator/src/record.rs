//! The record of every message that the hub took: in memory, and in a file of JSON lines when one is given, where it
//! is found again after a restart. Written before the sender hears of it. Knows nothing of AMQP.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// One message, as it was sent (an inner message, if the transfer was a batch).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Message {
    /// Its place in the record, from 0.
    pub index: u64,
    pub device: String,
    /// The number of the connection it came by.
    pub connection: u64,
    /// The number of the transfer, counted over all devices from 1: the messages of one batch share it.
    pub transfer: u64,
    /// Its place in the transfer, from 0.
    pub position: u32,
    /// How many messages the transfer held.
    pub of: u32,
    /// Whether the transfer had message-format 0x80013700.
    pub batch: bool,
    /// When the hub took it, RFC 3339.
    pub received: String,
    pub message_id: Option<String>,
    /// `string`, `uuid`, `ulong` or `binary`.
    pub message_id_type: Option<String>,
    pub correlation_id: Option<String>,
    pub to: Option<String>,
    pub content_type: Option<String>,
    pub content_encoding: Option<String>,
    /// Application properties; strings stay strings, numbers and booleans are JSON's.
    pub properties: BTreeMap<String, serde_json::Value>,
    pub annotations: BTreeMap<String, serde_json::Value>,
    #[serde(with = "body_form", rename = "body")]
    pub body: Vec<u8>,
}

impl Message {
    /// The body as text; empty if it is not UTF-8.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap_or_default()
    }

    /// The body as JSON; null if it is not.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The form in which Azure's routing writes messages to storage.
    pub fn azure_export(&self) -> serde_json::Value {
        let body = match serde_json::from_slice::<serde_json::Value>(&self.body) {
            Ok(json) if self.content_type.as_deref() == Some("application/json") => json,
            _ => STANDARD.encode(&self.body).into(),
        };
        serde_json::json!({
            "EnqueuedTimeUtc": self.received,
            "Properties": self.properties,
            "SystemProperties": {
                "messageId": self.message_id,
                "connectionDeviceId": self.device,
                "contentType": self.content_type,
                "contentEncoding": self.content_encoding,
                "enqueuedTime": self.received,
            },
            "Body": body,
        })
    }
}

/// Where and why the record's file failed.
#[derive(Debug, thiserror::Error)]
#[error("{doing} the record `{path}`")]
pub struct RecordError {
    doing: &'static str,
    path: String,
    #[source]
    source: std::io::Error,
}

pub(crate) struct Record {
    kept: Mutex<Kept>,
    total: watch::Sender<u64>,
}

#[derive(Default)]
struct Kept {
    messages: Vec<Arc<Message>>,
    transfers: u64,
    per_device: BTreeMap<String, u64>,
    file: Option<File>,
}

impl Record {
    /// Takes up what the file holds; a torn last line is dropped.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self, RecordError> {
        let mut kept = Kept::default();
        if let Some(path) = path {
            let failed =
                |doing| move |source| RecordError { doing, path: path.display().to_string(), source };
            let mut options = File::options();
            let file = options.read(true).append(true).create(true).open(path).map_err(failed("opening"))?;
            let mut whole = 0;
            let mut reader = BufReader::new(&file);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).map_err(failed("reading"))? > 0 {
                let Ok(message) = serde_json::from_slice::<Message>(&line) else { break };
                whole += line.len() as u64;
                kept.transfers = kept.transfers.max(message.transfer);
                *kept.per_device.entry(message.device.clone()).or_default() += 1;
                kept.messages.push(Arc::new(message));
                line.clear();
            }
            file.set_len(whole).map_err(failed("cutting a torn line off"))?;
            kept.file = Some(file);
        }
        let total = watch::Sender::new(kept.messages.len() as u64);
        Ok(Self { kept: Mutex::new(kept), total })
    }

    /// The number for the next transfer.
    pub(crate) fn next_transfer(&self) -> u64 {
        let mut kept = self.lock();
        kept.transfers += 1;
        kept.transfers
    }

    /// Puts the messages of one transfer on record.
    pub(crate) fn add(&self, messages: Vec<Message>) {
        let Some(device) = messages.first().map(|message| message.device.clone()) else { return };
        let count = messages.len() as u64;
        let mut kept = self.lock();
        let mut lines = Vec::new();
        for mut message in messages {
            message.index = kept.messages.len() as u64;
            if kept.file.is_some() && serde_json::to_writer(&mut lines, &message).is_ok() {
                lines.push(b'\n');
            }
            kept.messages.push(Arc::new(message));
        }
        if let Some(file) = &mut kept.file
            && let Err(error) = file.write_all(&lines)
        {
            tracing::error!(%error, "the record's file cannot be written");
        }
        *kept.per_device.entry(device).or_default() += count;
        drop(kept);
        self.total.send_modify(|total| *total += count);
    }

    /// Counts messages without keeping them.
    pub(crate) fn count(&self, device: &str, count: u64) {
        let mut kept = self.lock();
        match kept.per_device.get_mut(device) {
            Some(sum) => *sum += count,
            None => drop(kept.per_device.insert(device.to_owned(), count)),
        }
        drop(kept);
        self.total.send_modify(|total| *total += count);
    }

    pub(crate) fn since(&self, index: u64, limit: usize) -> Vec<Arc<Message>> {
        let kept = self.lock();
        let from = usize::try_from(index).unwrap_or(usize::MAX).min(kept.messages.len());
        kept.messages[from..].iter().take(limit).cloned().collect()
    }

    pub(crate) fn per_device(&self) -> BTreeMap<String, u64> {
        self.lock().per_device.clone()
    }

    /// Recorded and counted together.
    pub(crate) fn total(&self) -> watch::Receiver<u64> {
        self.total.subscribe()
    }

    /// Forgets everything in memory (not in the file).
    pub(crate) fn clear(&self) {
        let mut kept = self.lock();
        kept.messages.clear();
        kept.per_device.clear();
        drop(kept);
        self.total.send_replace(0);
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().expect("no code panics while it holds the record")
    }
}

/// UTF-8 bodies as they are; others as `{"base64": ".."}`.
mod body_form {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use base64::Engine as _;

    use super::STANDARD;

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Form<'a> {
        Text(std::borrow::Cow<'a, str>),
        Bytes { base64: String },
    }

    pub(super) fn serialize<S: Serializer>(body: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(body) {
            Ok(text) => Form::Text(text.into()),
            Err(_) => Form::Bytes { base64: STANDARD.encode(body) },
        }
        .serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        match Form::deserialize(deserializer)? {
            Form::Text(text) => Ok(text.into_owned().into_bytes()),
            Form::Bytes { base64 } => STANDARD.decode(base64).map_err(D::Error::custom),
        }
    }
}
