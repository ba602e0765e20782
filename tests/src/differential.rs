//! Repositories and mutants of them, each with our verdict, for other implementations to judge
//! (`scripts/differential`): what it refuses we must refuse.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};
use tuf::{Limits, Next, Role, Search, TrustedState, UnixTime, Update};

use crate::authored::{Algorithms, Authored, Plan};
use crate::draws::Draws;

/// One repository as a client meets it; bytes as text of the characters U+0000 to U+00FF.
#[derive(Debug, Serialize)]
pub struct Case {
    /// What it is.
    pub what: String,
    /// Whether it is a mutant.
    pub mutant: bool,
    /// The root that the client trusts.
    pub root: String,
    /// Metadata by name.
    pub metadata: BTreeMap<String, String>,
    /// Targets by path.
    pub targets: BTreeMap<String, String>,
    /// The targets that the client wants.
    pub wanted: Vec<String>,
    /// Why we refuse it; none when every target wanted came.
    pub refused: Option<String>,
}

/// Repositories of every shape that the editors make.
#[must_use]
pub fn plans() -> Vec<Plan> {
    let plan = Plan::default;
    let mut plans = vec![
        plan(),
        Plan {
            consistent: false,
            ..plan()
        },
        Plan {
            keys: 3,
            threshold: 2,
            ..plan()
        },
        Plan { roots: 40, ..plan() },
        Plan {
            team: "../te am/ü?#".to_owned(),
            ..plan()
        },
        Plan {
            prefixes: true,
            ..plan()
        },
        Plan {
            algorithms: Algorithms::Sha512,
            ..plan()
        },
        Plan {
            algorithms: Algorithms::Both,
            ..plan()
        },
        Plan {
            described: false,
            ..plan()
        },
        Plan {
            unknown: true,
            ..plan()
        },
    ];
    plans.push(Plan {
        consistent: false,
        keys: 4,
        threshold: 3,
        roots: 3,
        team: "#1".to_owned(),
        prefixes: true,
        algorithms: Algorithms::Both,
        described: false,
        unknown: true,
    });
    plans
}

/// What a client of ours that trusts the first root says, and what the other one is given.
#[must_use]
pub fn case(what: &str, mutant: bool, authored: &Authored, now: UnixTime) -> Case {
    let all = |files: &BTreeMap<String, Vec<u8>>| {
        files
            .iter()
            .map(|(name, bytes)| (name.clone(), text(bytes)))
            .collect()
    };
    Case {
        what: what.to_owned(),
        mutant,
        root: text(authored.first_root()),
        metadata: all(&authored.metadata),
        targets: all(&authored.targets),
        wanted: authored.listed.keys().cloned().collect(),
        refused: judge(authored, now).err(),
    }
}

/// A repository that was verified by a program of ours: targets by name, each with its path and its bytes.
#[must_use]
pub fn foreign(what: &str, state: &TrustedState, targets: &BTreeMap<String, (String, Vec<u8>)>) -> Case {
    let version = |file: &str| match file {
        "timestamp.json" => None,
        "root.json" => Some(state.root().version),
        "snapshot.json" => state.snapshot().map(|role| role.version),
        listed => state.snapshot()?.meta.get(listed).map(|entry| entry.version),
    };
    let metadata = state.roles().map(|(file, bytes)| {
        let name = version(&file).map_or_else(|| file.clone(), |version| format!("{version}.{file}"));
        (name, text(bytes))
    });
    Case {
        what: what.to_owned(),
        mutant: false,
        root: text(state.raw(&Role::Root).unwrap_or_default()),
        metadata: metadata.collect(),
        targets: targets
            .values()
            .map(|(path, bytes)| (path.clone(), text(bytes)))
            .collect(),
        wanted: targets.keys().cloned().collect(),
        refused: None,
    }
}

fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// Refreshes and gets every target that the author listed.
fn judge(authored: &Authored, now: UnixTime) -> Result<(), String> {
    let limits = Limits::default();
    let state = TrustedState::init(authored.first_root(), None, &limits).map_err(|e| e.to_string())?;
    let mut update = Update::start(state, now, limits.clone());
    while let Next::Fetch(request) = update.next() {
        match authored.metadata.get(&request.path) {
            Some(bytes) => drop(update.supply(bytes).map_err(|e| e.to_string())?),
            None => update.missing().map_err(|e| e.to_string())?,
        }
    }
    let mut state = update.into_state();
    for name in authored.listed.keys() {
        let mut search = Search::start(state, name, now, limits.clone()).map_err(|e| e.to_string())?;
        while let Next::Fetch(request) = search.next() {
            match authored.metadata.get(&request.path) {
                Some(bytes) => drop(search.supply(bytes).map_err(|e| e.to_string())?),
                None => search.missing().map_err(|e| e.to_string())?,
            }
        }
        let (_, target) = search.found().ok_or_else(|| format!("{name} is not listed"))?;
        let path = match target.hashes.preferred() {
            Some(hash) if search.state().root().consistent_snapshot => tuf::target_path(name, &hash),
            _ => name.clone(),
        };
        let bytes = authored
            .targets
            .get(&path)
            .ok_or_else(|| format!("{path} is missing"))?;
        target.check(name, bytes).map_err(|e| e.to_string())?;
        state = search.into_state();
    }
    Ok(())
}

/// Bends one thing in the repository; says what.
///
/// # Panics
/// If the repository is none of ours.
pub fn mutate(authored: &mut Authored, draws: &mut Draws) -> String {
    let roles = [
        Role::Timestamp,
        Role::Snapshot,
        Role::Targets,
        authored.team(),
        authored.under(),
        Role::Root,
    ];
    let role = roles[draws.below(roles.len())].clone();
    let file = authored.file_of(&role);
    if draws.below(4) == 0 {
        let bytes = authored.metadata.get_mut(&file).expect("a file of ours");
        return format!("{file}: {}", bend_bytes(bytes, draws));
    }
    let mut whole: Value = serde_json::from_slice(&authored.metadata[&file]).expect("JSON");
    if draws.below(5) == 0 {
        let what = bend_value(&mut whole, draws);
        authored
            .metadata
            .insert(file.clone(), serde_json::to_vec(&whole).expect("JSON"));
        return format!("{file}, not signed again: {what}");
    }
    let signed = &mut whole["signed"];
    let what = bend_value(signed, draws);
    let signed_again = authored.forge(&role, signed);
    format!("{file}, signed again {signed_again}: {what}")
}

fn bend_bytes(bytes: &mut Vec<u8>, draws: &mut Draws) -> String {
    let at = draws.below(bytes.len());
    match draws.below(4) {
        0 => {
            bytes.truncate(at);
            format!("cut at {at}")
        }
        1 => {
            bytes.insert(at, b' ');
            format!("a space at {at}")
        }
        _ => {
            bytes[at] ^= 1 << draws.below(8);
            format!("a bit at {at}")
        }
    }
}

/// Every place below a value, as the path to it.
fn places(value: &Value, at: &str, out: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                let key = key.replace('~', "~0").replace('/', "~1");
                out.push(format!("{at}/{key}"));
                places(inner, &format!("{at}/{key}"), out);
            }
        }
        Value::Array(list) => {
            for (number, inner) in list.iter().enumerate() {
                out.push(format!("{at}/{number}"));
                places(inner, &format!("{at}/{number}"), out);
            }
        }
        _ => {}
    }
}

fn bend_value(value: &mut Value, draws: &mut Draws) -> String {
    let mut all = Vec::new();
    places(value, "", &mut all);
    let place = all[draws.below(all.len())].clone();
    let (parent, key) = place.rsplit_once('/').expect("a path");
    let key = key.replace("~1", "/").replace("~0", "~");
    match draws.below(4) {
        0 => {
            match value.pointer_mut(parent) {
                Some(Value::Object(map)) => drop(map.remove(&key)),
                Some(Value::Array(list)) => drop(list.remove(key.parse().unwrap_or(0))),
                _ => {}
            }
            format!("{place} is gone")
        }
        1 => {
            match value.pointer_mut(parent) {
                Some(Value::Object(map)) => {
                    let old = map.remove(&key).unwrap_or_default();
                    map.insert(format!("{key}x"), old);
                }
                Some(Value::Array(list)) => {
                    let old = list[key.parse().unwrap_or(0)].clone();
                    list.push(old);
                }
                _ => {}
            }
            format!("{place} has another name, or comes twice")
        }
        _ => {
            let new = other(value.pointer(&place).unwrap_or(&Value::Null), draws);
            let what = format!("{place} becomes {new}");
            if let Some(old) = value.pointer_mut(&place) {
                *old = new;
            }
            what
        }
    }
}

/// Something near the old value, or of another kind.
fn other(old: &Value, draws: &mut Draws) -> Value {
    let near = match old {
        Value::Number(number) => {
            let number = number.as_i64().unwrap_or(0);
            let steps = [number + 1, number - 1, -number, 0, number + (1 << 40)];
            json!(steps[draws.below(steps.len())])
        }
        Value::String(text) => {
            let mut changed = text.clone();
            match draws.below(3) {
                0 => changed.push('0'),
                1 => drop(changed.pop()),
                _ => changed = text.to_uppercase(),
            }
            json!(changed)
        }
        Value::Bool(flag) => json!(!flag),
        Value::Array(_) => json!([]),
        _ => Value::Object(Map::new()),
    };
    let far = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(u64::MAX),
        json!("x"),
        json!(""),
        json!("1"),
        json!([]),
        json!(["x"]),
        json!({}),
        json!({"x": 1}),
        json!("2001-01-01T00:00:00Z"),
        json!("2100-01-01T00:00:00"),
        json!("*"),
    ];
    if draws.below(2) == 0 {
        near
    } else {
        far[draws.below(far.len())].clone()
    }
}

/// `count` mutants of the repositories of all shapes, in turns.
///
/// # Panics
/// If a repository cannot be made.
pub fn mutants(count: usize, seed: u64, now: UnixTime, mut each: impl FnMut(Case)) {
    let mut draws = Draws(seed);
    // Long chains tell nothing new here and are much to write.
    let plans: Vec<Plan> = plans().into_iter().filter(|plan| plan.roots < 10).collect();
    for number in 0..count {
        let mut authored = Authored::new(plans[number % plans.len()].clone(), now);
        let what = mutate(&mut authored, &mut draws);
        each(case(&format!("mutant {number}: {what}"), true, &authored, now));
    }
}
