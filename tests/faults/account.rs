//! Compares what the hub recorded with what the station numbered.

use std::collections::BTreeMap;

use hub_emulator::Emulator;

/// What came out of it.
#[derive(Debug)]
pub struct Account {
    pub readings: u64,
    pub missing: Vec<u64>,
    /// Readings that came more than once, always with the same message-id.
    pub duplicates: usize,
    /// Readings that came for the first time after a later one.
    pub late: usize,
    pub events: Vec<serde_json::Value>,
}

/// Compares the record with the sequences 1 to `last`: what is missing, what came late, and that
/// duplicates come only under the same message-id.
pub fn account(hub: &Emulator, device: &str, last: u64) -> Account {
    let mut ids: BTreeMap<u64, String> = BTreeMap::new();
    let (mut duplicates, mut late, mut newest, mut events) = (0, 0, 0, Vec::new());
    for message in hub.messages_of(device) {
        assert!(message.batch, "a transfer without the batch format");
        assert_eq!(message.content_type.as_deref(), Some("application/json"));
        assert_eq!(message.content_encoding.as_deref(), Some("utf-8"));
        let json = message.json();
        let id = message.message_id.clone().unwrap();
        let readings = match json {
            serde_json::Value::Array(readings) => readings,
            object => vec![object],
        };
        for json in readings {
            assert_eq!(json["deviceId"], device);
            if json.get("event").is_some() {
                events.push(json);
                continue;
            }
            let sequence = json["sequence"].as_u64().unwrap();
            match ids.get(&sequence) {
                Some(known) => {
                    assert_eq!(*known, id, "another message-id for sequence {sequence}");
                    duplicates += 1;
                }
                None => {
                    late += usize::from(sequence < newest);
                    newest = newest.max(sequence);
                    ids.insert(sequence, id.clone());
                }
            }
        }
    }
    let missing = (1..=last).filter(|sequence| !ids.contains_key(sequence)).collect();
    Account { readings: ids.len() as u64, missing, duplicates, late, events }
}
