//! A body as a tree of JSON values, with a bound: a byte or two of a body can
//! be a value, which takes many times that in memory.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::fault::Fault;

/// Most values of an input, containers among them: a put of 500 records has
/// some 2,000.
pub(crate) const VALUES_MAX: usize = 16 << 10;

pub(crate) const TOO_MANY: &str = "there are too many values";

/// Reads a body.
///
/// # Errors
/// SerializationException: it is not JSON, or it has more than [`VALUES_MAX`]
/// values.
pub(crate) fn read(json: &[u8]) -> Result<Value, Fault> {
    let mut left = VALUES_MAX;
    let mut from = serde_json::Deserializer::from_slice(json);
    let value = Tree { left: &mut left }.deserialize(&mut from);
    let value = value.and_then(|value| from.end().map(|()| value));
    value.map_err(|error| Fault::serialization(error.to_string()))
}

/// Makes one value, and counts it.
struct Tree<'a> {
    left: &'a mut usize,
}

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        *self.left = self.left.checked_sub(1).ok_or_else(|| D::Error::custom(TOO_MANY))?;
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any valid JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = from.next_element_seed(Tree { left: &mut *self.left })? {
            items.push(item);
        }
        Ok(items.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = from.next_key::<String>()? {
            members.insert(name, from.next_value_seed(Tree { left: &mut *self.left })?);
        }
        Ok(members.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_as_serde_json_reads() {
        let check = |json: &str| {
            let expect = serde_json::from_str::<Value>(json);
            let expect = expect.map_err(|error| Fault::serialization(error.to_string()));
            assert_eq!(read(json.as_bytes()), expect, "{json}");
        };
        check(r#"{"a": [1, -2, 1.5e3, 18446744073709551615, true, null, "é\n\u00e9", {}], "a": {"b": []}}"#);
        check(r#" "text" "#);
        for broken in ["", "{", "[1,]", "{} {}", r#"{"a" 1}"#, "nul", "\"\u{1}\""] {
            check(broken);
        }
        check(&"[".repeat(200));
    }

    #[test]
    fn a_tree_has_a_bound() {
        let list = |items: usize| format!("{{\"X\":[{}0]}}", "0,".repeat(items - 1));
        assert!(read(list(VALUES_MAX - 2).as_bytes()).is_ok());
        let fault = read(list(VALUES_MAX - 1).as_bytes()).unwrap_err();
        assert!(fault.kind == "SerializationException" && fault.message.starts_with(TOO_MANY), "{fault:?}");
        // Members of one name too, of which only the last stays.
        let members = format!("{{{}\"a\":0}}", "\"a\":0,".repeat(VALUES_MAX));
        assert!(read(members.as_bytes()).is_err());
    }
}
