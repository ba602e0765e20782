//! Changes of a JSON value that a fuzzer's bytes describe.

use serde_json::{Value, json};

/// Bytes to which a value grows by one change.
const GROWN: usize = 64 << 10;

/// A fuzzer's bytes, taken from the front; zeros when they are used up.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub fn byte(&mut self) -> u8 {
        let (byte, rest) = self
            .0
            .split_first()
            .map_or((0, self.0), |(byte, rest)| (*byte, rest));
        self.0 = rest;
        byte
    }

    /// A number below `count`, which is at least 1.
    pub fn below(&mut self, count: usize) -> usize {
        (usize::from(self.byte()) << 8 | usize::from(self.byte())) % count
    }

    /// As many bytes as the next one says.
    pub fn piece(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte()).min(self.0.len());
        let (piece, rest) = self.0.split_at(length);
        self.0 = rest;
        piece
    }

    pub fn text(&mut self) -> String {
        String::from_utf8_lossy(self.piece()).into_owned()
    }
}

/// One to four changes.
pub fn edit(value: &mut Value, input: &mut Input<'_>) {
    for _ in 0..=input.byte() % 4 {
        let mut all = Vec::new();
        places(value, String::new(), &mut all);
        let place = all.swap_remove(input.below(all.len()));
        change(value, &place, input);
    }
}

/// Every place in a value, as pointers (RFC 6901).
fn places(value: &Value, at: String, out: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, item) in map {
                places(
                    item,
                    format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")),
                    out,
                );
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                places(item, format!("{at}/{index}"), out);
            }
        }
        _ => {}
    }
    out.push(at);
}

fn change(value: &mut Value, place: &str, input: &mut Input<'_>) {
    match input.byte() % 8 {
        0 => remove(value, place),
        1 => {
            let (name, new) = (input.text(), constant(input));
            with(value, place, |spot| add(spot, name, new));
        }
        2 => {
            let other = text_of(place, input);
            let copy = value.pointer(&other).cloned().unwrap_or_default();
            with(value, place, |spot| *spot = copy);
        }
        3 => {
            let new = serde_json::from_slice(input.piece()).unwrap_or_default();
            with(value, place, |spot| *spot = new);
        }
        4 => {
            let depth = input.byte();
            with(value, place, |spot| {
                for _ in 0..depth {
                    *spot = json!([spot.take()]);
                }
            });
        }
        5 => {
            let times = usize::from(input.byte());
            with(value, place, |spot| grow(spot, times));
        }
        6 => {
            let (text, step) = (input.text(), input.byte());
            with(value, place, |spot| near(spot, &text, step));
        }
        _ => {
            let new = constant(input);
            with(value, place, |spot| *spot = new);
        }
    }
}

fn with(value: &mut Value, place: &str, change: impl FnOnce(&mut Value)) {
    if let Some(spot) = value.pointer_mut(place) {
        change(spot);
    }
}

/// A place above or beside another.
fn text_of(place: &str, input: &mut Input<'_>) -> String {
    let parts: Vec<&str> = place.split('/').collect();
    parts[..=input.below(parts.len())].join("/")
}

fn remove(value: &mut Value, place: &str) {
    let Some((above, name)) = place.rsplit_once('/') else {
        return;
    };
    let name = name.replace("~1", "/").replace("~0", "~");
    match value.pointer_mut(above) {
        Some(Value::Object(map)) => drop(map.remove(&name)),
        Some(Value::Array(items)) => drop(name.parse().map(|index: usize| items.remove(index))),
        _ => {}
    }
}

fn add(spot: &mut Value, name: String, new: Value) {
    match spot {
        Value::Object(map) => drop(map.insert(name, new)),
        Value::Array(items) => items.push(new),
        Value::String(text) => text.push_str(&name),
        _ => *spot = new,
    }
}

/// As far as a value of [`GROWN`] bytes: several changes would else make one of gigabytes.
fn grow(spot: &mut Value, times: usize) {
    let size = serde_json::to_vec(spot).map_or(0, |bytes| bytes.len());
    let times = times.min(GROWN / (size + 1));
    match spot {
        Value::Object(map) => {
            let some = map.values().next().cloned().unwrap_or_default();
            for number in 0..times {
                map.insert(number.to_string(), some.clone());
            }
        }
        Value::Array(items) => {
            let some = items.last().cloned().unwrap_or_default();
            items.extend(std::iter::repeat_n(some, times));
        }
        Value::String(text) => *text = text.repeat(times),
        other => *other = json!(u64::MAX - times as u64),
    }
}

fn near(spot: &mut Value, text: &str, step: u8) {
    let step = i64::from(step.cast_signed());
    match spot {
        Value::Number(number) => *spot = json!(number.as_i64().unwrap_or_default().wrapping_add(step)),
        Value::String(old) => {
            let at = old
                .char_indices()
                .nth(usize::from(step.unsigned_abs() as u8))
                .map_or(old.len(), |(at, _)| at);
            old.insert_str(at, text);
        }
        _ => *spot = json!(text),
    }
}

fn constant(input: &mut Input<'_>) -> Value {
    let all = [
        json!(null),
        json!(true),
        json!(0),
        json!(1),
        json!(2),
        json!(-1),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(1.5),
        json!(""),
        json!("x"),
        json!("*"),
        json!("../x"),
        json!("2001-01-01T00:00:00Z"),
        json!("9999-12-31T23:59:59Z"),
        json!([]),
        json!([""]),
        json!({}),
        json!({"": {}}),
        json!("0".repeat(64)),
        json!({"version": 1}),
        json!({"sha256": "0".repeat(64)}),
    ];
    all[input.below(all.len())].clone()
}
