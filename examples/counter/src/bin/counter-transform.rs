//! Makes a state of schema 1 one of schema 2, or the other way round: the whole of what version 2's author writes for it.

use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut state: Value = serde_json::from_reader(std::io::stdin())?;
    let to_new = match std::env::var("DROVER_SCHEMA_TO")?.as_str() {
        "2" => true,
        "1" => false,
        other => return Err(format!("there is no schema {other}").into()),
    };
    transform(&mut state, "all", to_new)?;
    let clients = state.get_mut("clients").and_then(Value::as_array_mut);
    for client in clients.ok_or("the state has no clients")? {
        transform(client, "own", to_new)?;
    }
    serde_json::to_writer(std::io::stdout(), &state)?;
    Ok(())
}

/// Moves a sum: `total` in schema 1, `sum` inside of `name` in schema 2.
fn transform(part: &mut Value, name: &str, to_new: bool) -> Result<(), &'static str> {
    let part = part.as_object_mut().ok_or("a part of the state is no object")?;
    if to_new {
        let total = part.remove("total").ok_or("a total is missing")?;
        part.insert(name.into(), json!({ "sum": total, "answers": 0 }));
    } else {
        let mut sums = part.remove(name).ok_or("a sum is missing")?;
        part.insert(
            "total".into(),
            sums.get_mut("sum").map(Value::take).ok_or("a sum is missing")?,
        );
    }
    Ok(())
}
