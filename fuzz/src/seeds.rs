//! The inputs that a target begins with: made by code, so that none is kept that no longer says anything.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

/// Names the folder that gets a target's seeds and its dictionary; without it nothing is written.
const FOLDER: &str = "DROVER_FUZZ_SEEDS";

/// Writes seeds, one file each, to `FOLDER/TARGET`, and the words of the JSON in them to `FOLDER/TARGET.dict`.
pub fn write(target: &str, seeds: &[Vec<u8>]) {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let folder = Path::new(&folder);
    let corpus = folder.join(target);
    std::fs::create_dir_all(&corpus).expect("a folder for seeds");
    // A dictionary without a word is refused.
    let mut words = BTreeSet::from(["null".to_owned()]);
    for (number, seed) in seeds.iter().enumerate() {
        std::fs::write(corpus.join(format!("seed-{number}")), seed).expect("a seed");
        // Whatever stands in front of it: a target's first bytes say what the rest is.
        let json = seed.iter().position(|&byte| byte == b'{');
        if let Some(value) = json.and_then(|at| serde_json::from_slice(&seed[at..]).ok()) {
            collect(&value, &mut words);
        }
    }
    let quoted = |word: &String| {
        let escape = |byte: u8| format!("\\x{byte:02x}");
        format!("\"{}\"\n", word.bytes().map(escape).collect::<String>())
    };
    let dictionary: String = words.iter().map(quoted).collect();
    std::fs::write(folder.join(format!("{target}.dict")), dictionary).expect("a dictionary");
}

fn collect(value: &Value, words: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, item) in map {
                words.insert(format!("\"{key}\":"));
                collect(item, words);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, words)),
        // libFuzzer takes words of 64 bytes at most.
        Value::String(text) if !text.is_empty() && text.len() < 60 => {
            words.insert(text.clone());
        }
        _ => {}
    }
}
