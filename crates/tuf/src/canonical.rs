//! OLPC canonical JSON: the one byte form that is signed and hashed into keyids.
//!
//! Specification, section 4.2: keys sorted by code point, no white space, only `"` and `\` escaped, integers
//! only. The result is UTF-8 but not always JSON (control characters stay raw), so it is never stored.

use serde_json::Value;

use crate::Error;

/// The canonical form of `value`.
///
/// # Errors
/// [`Error::Malformed`] for a number that is not an integer of 64 bits.
pub fn to_bytes(value: &Value) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    write_value(value, &mut out)?;
    Ok(out)
}

fn write_value(value: &Value, out: &mut Vec<u8>) -> Result<(), Error> {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => {
            if !(number.is_u64() || number.is_i64()) {
                return Err(Error::malformed(
                    "canonical JSON",
                    format!("the number {number} is not an integer"),
                ));
            }
            out.extend_from_slice(number.to_string().as_bytes());
        }
        Value::String(text) => write_text(text, out),
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_value(item, out)?;
            }
            out.push(b']');
        }
        Value::Object(map) => {
            // Byte order of UTF-8 is code point order; the map's own order depends on a feature of serde_json.
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            out.push(b'{');
            for (index, (key, item)) in entries.into_iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_text(key, out);
                out.push(b':');
                write_value(item, out)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        if byte == b'"' || byte == b'\\' {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Map, json};

    #[test]
    fn the_form_is_that_of_the_specification() {
        let value =
            json!({"b": [1, -2, true, false, null], "a": "q\"b\\s\n\u{e9}", "A": {}, "\u{e9}": [], "z": 0});
        assert_eq!(
            String::from_utf8(to_bytes(&value).unwrap()).unwrap(),
            "{\"A\":{},\"a\":\"q\\\"b\\\\s\n\u{e9}\",\"b\":[1,-2,true,false,null],\"z\":0,\"\u{e9}\":[]}"
        );
    }

    #[test]
    fn a_number_that_is_no_integer_is_refused() {
        for text in ["1.5", "1e3", "-0", "18446744073709551616"] {
            let value: Value = serde_json::from_str(text).unwrap();
            assert!(to_bytes(&value).is_err(), "{text}");
        }
        assert_eq!(to_bytes(&json!(u64::MAX)).unwrap(), b"18446744073709551615");
        assert_eq!(to_bytes(&json!(i64::MIN)).unwrap(), b"-9223372036854775808");
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 48, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::vec((any::<String>(), inner), 0..6)
                    .prop_map(|entries| Value::Object(entries.into_iter().collect::<Map<_, _>>())),
            ]
        })
    }

    /// Control characters stay raw in canonical JSON and so are no JSON.
    fn is_plain(value: &Value) -> bool {
        match value {
            Value::String(text) => !text.chars().any(|c| c.is_ascii_control()),
            Value::Array(items) => items.iter().all(is_plain),
            Value::Object(map) => map
                .iter()
                .all(|(k, v)| !k.chars().any(|c| c.is_ascii_control()) && is_plain(v)),
            _ => true,
        }
    }

    proptest! {
        #[test]
        fn it_does_not_depend_on_how_the_file_was_written(value in value()) {
            let canonical = to_bytes(&value).unwrap();
            for text in [serde_json::to_vec(&value).unwrap(), serde_json::to_vec_pretty(&value).unwrap()] {
                let again: Value = serde_json::from_slice(&text).unwrap();
                prop_assert_eq!(&to_bytes(&again).unwrap(), &canonical);
            }
        }

        #[test]
        fn it_does_not_depend_on_the_order_of_keys(entries in prop::collection::vec(("[a-f]{1,3}", any::<i64>()), 0..8)) {
            let forward: Map<_, _> = entries.iter().cloned().map(|(k, v)| (k, Value::from(v))).collect();
            let mut sorted: Vec<_> = forward.clone().into_iter().collect();
            sorted.reverse();
            let backward: Map<_, _> = sorted.into_iter().collect();
            prop_assert_eq!(to_bytes(&Value::Object(forward)).unwrap(), to_bytes(&Value::Object(backward)).unwrap());
        }

        #[test]
        fn it_reads_back_as_the_same_value_and_is_idempotent(value in value().prop_filter("control characters", is_plain)) {
            let canonical = to_bytes(&value).unwrap();
            let again: Value = serde_json::from_slice(&canonical).unwrap();
            prop_assert_eq!(&again, &value);
            prop_assert_eq!(to_bytes(&again).unwrap(), canonical);
        }
    }
}
