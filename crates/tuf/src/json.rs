//! Reading JSON strictly: no key twice in an object, integers only, bounded depth.
//!
//! A file in which a key appears twice means different things to different readers, so nobody can say what
//! was signed; `serde_json::Value` alone would keep the last one silently.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// The value in `bytes`, or why it is refused. `max_depth` counts nested arrays and objects.
pub(crate) fn parse(bytes: &[u8], max_depth: u32) -> Result<Value, String> {
    let depth = Cell::new(0);
    let strict = Strict {
        depth: &depth,
        max_depth,
    };
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = strict.deserialize(&mut reader).map_err(|e| e.to_string())?;
    reader.end().map_err(|e| e.to_string())?;
    Ok(value)
}

#[derive(Clone, Copy)]
struct Strict<'a> {
    depth: &'a Cell<u32>,
    max_depth: u32,
}

impl Strict<'_> {
    fn deeper<E: serde::de::Error>(self) -> Result<(), E> {
        if self.depth.get() >= self.max_depth {
            return Err(E::custom(format_args!("nested deeper than {}", self.max_depth)));
        }
        self.depth.set(self.depth.get() + 1);
        Ok(())
    }

    fn back(self) {
        self.depth.set(self.depth.get().saturating_sub(1));
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON with integers and without repeated keys")
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

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        self.deeper()?;
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            array.push(item);
        }
        self.back();
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        self.deeper()?;
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(self)?;
            if map.contains_key(&key) {
                return Err(A::Error::custom(format_args!("the key {key:?} appears twice")));
            }
            map.insert(key, value);
        }
        self.back();
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        for (text, why) in [
            (r#"{"a":1,"a":1}"#, "appears twice"),
            (r#"{"x":{"a":1,"b":2,"a":3}}"#, "appears twice"),
            (r#"{"a":1,"\u0061":2}"#, "appears twice"),
            ("[1.0]", "floating point"),
            ("[1e2]", "floating point"),
            ("[[[[[1]]]]]", "nested deeper"),
            ("{} {}", "trailing"),
            ("", "EOF"),
            ("\"\u{0}\"", "control character"),
        ] {
            let error = parse(text.as_bytes(), 4).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(parse(&[b'"', 0xff, b'"'], 4).is_err());
    }

    #[test]
    fn depth_counts_nesting_and_not_length() {
        assert!(parse(b"[[1],[2],[3],[4],{\"a\":[]}]  \n", 3).is_ok());
    }

    proptest! {
        #[test]
        fn no_input_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = parse(&bytes, 8);
        }
    }
}
