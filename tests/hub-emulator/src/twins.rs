//! The twins: desired and reported properties of every device, their versions, merge patches and limits. Knows JSON,
//! not AMQP.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde_json::{Map, Value, json};

use crate::hub::lock;

/// Limits of the hub (iot-hub-devguide-device-twins): bytes of one section, bytes of a string, bytes of a key, levels.
const SECTION: usize = 32 * 1024;
const STRING: usize = 4 * 1024;
const KEY: usize = 1024;
const DEPTH: usize = 10;
const INTEGER: i64 = 4_503_599_627_370_496;

/// Why a change was refused: the status, and the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{status}: {message}")]
pub struct TwinError {
    /// 400, 404, 412 or 413.
    pub status: i32,
    pub message: String,
}

/// One half of a twin.
#[derive(Debug, Clone)]
struct Section {
    properties: Map<String, Value>,
    version: i64,
}

#[derive(Debug, Clone, Default)]
struct Twin {
    desired: Section,
    reported: Section,
}

/// All twins; a device that never had one has an empty one.
#[derive(Default)]
pub(crate) struct Twins {
    twins: Mutex<BTreeMap<String, Twin>>,
}

impl Default for Section {
    fn default() -> Self {
        Self { properties: Map::new(), version: 1 }
    }
}

impl Section {
    fn shown(&self) -> Value {
        with_version(self.properties.clone(), self.version)
    }

    fn change(&mut self, patch: &Map<String, Value>, replace: bool) -> Result<i64, TwinError> {
        check_object(patch, 1)?;
        let mut changed = if replace { Map::new() } else { self.properties.clone() };
        merge(&mut changed, patch);
        let size: usize = changed.iter().map(|(key, value)| key.len() + size_of(value)).sum();
        if size > SECTION {
            return Err(refused(
                413,
                format!("the section would have {size} bytes, at most {SECTION} are allowed"),
            ));
        }
        check_object(&changed, 1)?;
        self.properties = changed;
        self.version += 1;
        Ok(self.version)
    }
}

impl Twins {
    /// `{"desired": {.., "$version"}, "reported": {.., "$version"}}`.
    pub(crate) fn get(&self, device: &str) -> Value {
        let twin = lock(&self.twins).get(device).cloned().unwrap_or_default();
        json!({ "desired": twin.desired.shown(), "reported": twin.reported.shown() })
    }

    /// A merge patch of the reported properties; `expected` is the version it was made for.
    pub(crate) fn report(&self, device: &str, patch: &[u8], expected: Option<i64>) -> Result<i64, TwinError> {
        let patch = object(patch)?;
        let mut twins = lock(&self.twins);
        let reported = &mut twins.entry(device.to_owned()).or_default().reported;
        if let Some(expected) = expected
            && expected != reported.version
        {
            return Err(refused(412, format!("version {expected} is not the current {}", reported.version)));
        }
        reported.change(&patch, false)
    }

    /// Changes the desired properties; returns the push for the device and the version.
    pub(crate) fn desire(
        &self,
        device: &str,
        patch: &Value,
        replace: bool,
    ) -> Result<(Value, i64), TwinError> {
        let Value::Object(patch) = patch else {
            return Err(refused(400, "desired properties must be an object".into()));
        };
        let mut twins = lock(&self.twins);
        let version = twins.entry(device.to_owned()).or_default().desired.change(patch, replace)?;
        let mut push = patch.clone();
        if replace {
            // A replacement arrives as it is, without nulls for what has gone.
            push.retain(|_, value| !value.is_null());
        }
        Ok((with_version(push, version), version))
    }

    pub(crate) fn forget(&self, device: &str) {
        lock(&self.twins).remove(device);
    }
}

fn object(bytes: &[u8]) -> Result<Map<String, Value>, TwinError> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(refused(400, "the patch must be an object".into())),
        Err(error) => Err(refused(400, format!("the patch is not JSON: {error}"))),
    }
}

fn with_version(mut properties: Map<String, Value>, version: i64) -> Value {
    properties.insert("$version".into(), version.into());
    Value::Object(properties)
}

/// RFC 7396: null removes, objects merge, everything else replaces.
fn merge(into: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (key, value) in patch {
        match value {
            Value::Null => drop(into.remove(key)),
            Value::Object(inner) => {
                let slot = into.entry(key.clone()).or_insert_with(|| json!({}));
                if !slot.is_object() {
                    *slot = json!({});
                }
                if let Value::Object(slot) = slot {
                    merge(slot, inner);
                }
            }
            other => drop(into.insert(key.clone(), other.clone())),
        }
    }
}

fn check_object(map: &Map<String, Value>, depth: usize) -> Result<(), TwinError> {
    if depth > DEPTH {
        return Err(refused(400, format!("deeper than {DEPTH} levels")));
    }
    for (key, value) in map {
        if key.len() > KEY
            || key.is_empty()
            || key.contains(|c: char| c.is_control() || matches!(c, '.' | '$' | ' '))
        {
            return Err(refused(
                400,
                format!("`{}` is not a property name", key.chars().take(40).collect::<String>()),
            ));
        }
        check(value, depth)?;
    }
    Ok(())
}

fn check(value: &Value, depth: usize) -> Result<(), TwinError> {
    match value {
        Value::Object(inner) => check_object(inner, depth + 1),
        Value::Array(items) if depth + 1 > DEPTH && !items.is_empty() => {
            Err(refused(400, format!("deeper than {DEPTH} levels")))
        }
        Value::Array(items) => items.iter().try_for_each(|item| check(item, depth + 1)),
        Value::String(text) if text.len() > STRING => {
            Err(refused(400, format!("a string is longer than {STRING} bytes")))
        }
        Value::Number(number)
            if number.as_f64().is_some_and(|n| n.abs() > INTEGER as f64) && !number.is_f64() =>
        {
            Err(refused(400, format!("{number} is not within +-{INTEGER}")))
        }
        _ => Ok(()),
    }
}

fn size_of(value: &Value) -> usize {
    match value {
        Value::Null => 0,
        Value::Bool(_) => 4,
        Value::Number(_) => 8,
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(size_of).sum(),
        Value::Object(map) => map.iter().map(|(key, value)| key.len() + size_of(value)).sum(),
    }
}

fn refused(status: i32, message: String) -> TwinError {
    TwinError { status, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_null_removes_and_every_change_is_a_version() {
        let twins = Twins::default();
        assert_eq!(twins.report("roof", br#"{"a":1,"b":{"c":2,"d":3}}"#, None), Ok(2));
        assert_eq!(twins.report("roof", br#"{"a":null,"b":{"c":null}}"#, Some(2)), Ok(3));
        assert_eq!(twins.get("roof")["reported"], json!({"b": {"d": 3}, "$version": 3}));
        assert_eq!(twins.report("roof", b"{}", Some(2)).unwrap_err().status, 412);
        let (push, version) = twins.desire("roof", &json!({"x": null}), false).unwrap();
        assert_eq!((push, version), (json!({"x": null, "$version": 2}), 2));
    }

    #[test]
    fn limits_are_kept_and_leave_the_twin_as_it_was() {
        let twins = Twins::default();
        let deep = (0..10).fold("1".to_owned(), |inner, _| format!("{{\"a\":{inner}}}"));
        assert_eq!(twins.report("roof", deep.as_bytes(), None), Ok(2));
        for (patch, status) in [
            ("nonsense".to_owned(), 400),
            ("[1]".to_owned(), 400),
            (format!("{{\"a\":{deep}}}"), 400),
            (r#"{"$version":3}"#.to_owned(), 400),
            (r#"{"a.b":3}"#.to_owned(), 400),
            (r#"{"a":4503599627370497}"#.to_owned(), 400),
            (format!("{{\"a\":\"{}\"}}", "x".repeat(4097)), 400),
            (json!({"a": vec!["x".repeat(4000); 9]}).to_string(), 413),
        ] {
            let refused = twins.report("roof", patch.as_bytes(), None).unwrap_err();
            assert_eq!(refused.status, status, "{refused}");
        }
        assert_eq!(twins.get("roof")["reported"]["$version"], 2);
    }
}
