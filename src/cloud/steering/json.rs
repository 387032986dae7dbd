//! JSON that came from the hub: read within bounds of size and depth, and refused where it says a thing twice.
//! Knows no meaning.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Objects and arrays within each other. A twin allows ten (IoT Hub, "device twins").
const DEEPEST: u8 = 16;

/// Why a body is no JSON that we take. The text says where, never what stood there.
#[derive(Debug, thiserror::Error)]
pub enum BadJson {
    #[error("{size} bytes are more than the {limit} that are read")]
    TooLarge { size: usize, limit: usize },
    #[error("not JSON: {0}")]
    Malformed(serde_json::Error),
    #[error("{got}, expected an object")]
    NotAnObject { got: &'static str },
}

/// One JSON value of at most `limit` bytes; a name that comes twice in one object is an error, for which of the two
/// was meant nobody knows.
pub fn parse(bytes: &[u8], limit: usize) -> Result<Value, BadJson> {
    if bytes.len() > limit {
        return Err(BadJson::TooLarge { size: bytes.len(), limit });
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { depth: 0 }.deserialize(&mut reader).map_err(BadJson::Malformed)?;
    reader.end().map_err(BadJson::Malformed)?;
    Ok(value)
}

/// The same, and it has to be an object.
pub fn parse_object(bytes: &[u8], limit: usize) -> Result<Map<String, Value>, BadJson> {
    match parse(bytes, limit)? {
        Value::Object(members) => Ok(members),
        other => Err(BadJson::NotAnObject { got: kind(&other) }),
    }
}

/// For messages: `a text`, `null`.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[derive(Clone, Copy)]
struct Strict {
    depth: u8,
}

impl Strict {
    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        if self.depth >= DEEPEST {
            return Err(E::custom(format_args!("more than {DEEPEST} levels deep")));
        }
        Ok(Self { depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number without end"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let deeper = self.deeper()?;
        let mut values = Vec::new();
        while let Some(value) = items.next_element_seed(deeper)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let deeper = self.deeper()?;
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(deeper)?;
            if object.insert(name, value).is_some() {
                return Err(de::Error::custom("a name comes twice in one object"));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn error(text: &str) -> String {
        parse(text.as_bytes(), 1_000).unwrap_err().to_string()
    }

    #[test]
    fn what_a_usual_parser_lets_pass_is_refused() {
        assert_eq!(
            error(r#"{"a":1,"b":{"c":1,"c":2}}"#),
            "not JSON: a name comes twice in one object at line 1 column 24"
        );
        let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(parse(deep(16).as_bytes(), 1_000).is_ok());
        assert!(error(&deep(17)).starts_with("not JSON: more than 16 levels deep"), "{}", error(&deep(17)));
        assert_eq!(error(&" ".repeat(1_001)), "1001 bytes are more than the 1000 that are read");
        assert!(error("{} {}").starts_with("not JSON: trailing characters"));
        assert!(error("1e999").starts_with("not JSON: number out of range"));
        assert_eq!(parse_object(b"[1]", 10).unwrap_err().to_string(), "an array, expected an object");
        assert!(parse(b"{\"a\":\"\xff\"}", 100).is_err());
    }

    proptest! {
        #[test]
        fn whatever_comes_it_is_read_as_a_usual_parser_reads_it_or_refused(bytes in "[\\[\\]{}\",:0-9a-e\\\\ .-]{0,60}") {
            let strict = parse(bytes.as_bytes(), 60);
            if let Ok(value) = strict {
                prop_assert_eq!(value, serde_json::from_str::<Value>(&bytes).unwrap());
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(parse(&bytes, 150));
            drop(parse_object(&bytes, 1_000));
        }

        #[test]
        fn what_was_written_is_read(names in prop::collection::btree_map(".{0,10}", any::<i64>(), 0..20)) {
            let text = serde_json::to_vec(&names).unwrap();
            prop_assert_eq!(Value::Object(parse_object(&text, 10_000).unwrap()), serde_json::to_value(&names).unwrap());
        }
    }
}
