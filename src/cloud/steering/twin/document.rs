//! The bodies that the hub sends about the twin: the whole of it, and a pushed patch of the desired properties.
//! Pure: bytes in, checked parts out.

use serde_json::{Map, Value};

use super::super::json::{self, BadJson};

/// A twin is at most 32 KB desired and 32 KB reported, counted without JSON's own characters and escapes (IoT Hub,
/// "device twins", "device twin size"); this is several times that.
pub const LARGEST: usize = 256 << 10;

/// The whole twin, as the device sees it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Twin {
    /// Without `$version` and `$metadata`.
    pub desired: Map<String, Value>,
    pub version: u64,
    pub reported: Map<String, Value>,
}

/// A change of the desired properties: a merge patch.
#[derive(Debug, Clone, PartialEq)]
pub struct Push {
    pub patch: Map<String, Value>,
    pub version: u64,
}

/// Why a body is not one of the two.
#[derive(Debug, thiserror::Error)]
pub enum BadTwin {
    #[error(transparent)]
    Json(#[from] BadJson),
    #[error("`{what}` is {got}, expected {expected}")]
    Wrong { what: &'static str, got: &'static str, expected: &'static str },
}

/// The answer to GET. `annotated` is the version of the answer's annotation, which need not be there.
pub fn twin(body: &[u8], annotated: Option<u64>) -> Result<Twin, BadTwin> {
    let mut whole = json::parse_object(body, LARGEST)?;
    let mut desired = section(&mut whole, "desired")?;
    let mut reported = section(&mut whole, "reported")?;
    let version = version(&mut desired, annotated)?;
    reported.retain(|name, _| !name.starts_with('$'));
    Ok(Twin { desired, version, reported })
}

/// A push.
pub fn push(body: &[u8], annotated: Option<u64>) -> Result<Push, BadTwin> {
    let mut patch = json::parse_object(body, LARGEST)?;
    let version = version(&mut patch, annotated)?;
    Ok(Push { patch, version })
}

/// A twin that was never written to may lack one of them.
fn section(whole: &mut Map<String, Value>, what: &'static str) -> Result<Map<String, Value>, BadTwin> {
    match whole.remove(what) {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(members)) => Ok(members),
        Some(other) => Err(BadTwin::Wrong { what, got: json::kind(&other), expected: "an object" }),
    }
}

/// Takes `$version` out, and everything else that is the hub's own (`$metadata`).
fn version(properties: &mut Map<String, Value>, annotated: Option<u64>) -> Result<u64, BadTwin> {
    let version = properties.remove("$version");
    properties.retain(|name, _| !name.starts_with('$'));
    match version {
        Some(value) => value.as_u64().ok_or(BadTwin::Wrong {
            what: "$version",
            got: json::kind(&value),
            expected: "a whole number",
        }),
        None => {
            annotated.ok_or(BadTwin::Wrong { what: "$version", got: "not there", expected: "a whole number" })
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_twin_is_taken_apart() {
        let body = json!({
            "desired": {"sampleInterval": 5, "$version": 7, "$metadata": {"$lastUpdated": "x"}},
            "reported": {"a": 1, "$version": 3},
        });
        let twin = twin(body.to_string().as_bytes(), None).unwrap();
        assert_eq!(Value::Object(twin.desired), json!({"sampleInterval": 5}));
        assert_eq!((twin.version, Value::Object(twin.reported)), (7, json!({"a": 1})));
    }

    #[test]
    fn the_version_may_be_in_the_annotation_alone() {
        assert_eq!(push(br#"{"keepDays":null}"#, Some(4)).unwrap().version, 4);
        assert_eq!(push(br#"{"$version":5}"#, Some(4)).unwrap().version, 5);
        assert_eq!(twin(b"{}", Some(1)).unwrap(), Twin { version: 1, ..Twin::default() });
    }

    #[test]
    fn what_is_no_twin_is_refused_by_name() {
        let refused = |body: &str| twin(body.as_bytes(), Some(1)).unwrap_err().to_string();
        assert_eq!(refused(r#"{"desired":[]}"#), "`desired` is an array, expected an object");
        assert_eq!(refused(r#"{"reported":3}"#), "`reported` is a number, expected an object");
        let bad = r#"{"desired":{"$version":"x"}}"#;
        assert_eq!(refused(bad), "`$version` is a text, expected a whole number");
        assert_eq!(
            refused(r#"{"desired":{"$version":-1}}"#),
            "`$version` is a number, expected a whole number"
        );
        assert_eq!(refused("null"), "null, expected an object");
        assert!(refused("").starts_with("not JSON"));
        let missing = push(b"{}", None).unwrap_err().to_string();
        assert_eq!(missing, "`$version` is not there, expected a whole number");
        let large = vec![b' '; LARGEST + 1];
        assert!(push(&large, None).unwrap_err().to_string().contains("more than the 262144"));
    }

    proptest! {
        #[test]
        fn no_body_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), text in "[{}\",:a-z$0-9 ]{0,80}") {
            drop((twin(&bytes, None), push(&bytes, Some(1)), twin(text.as_bytes(), None), push(text.as_bytes(), None)));
        }
    }
}
