//! Generated changes of signed files: none is accepted, none makes the verifier panic.

use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{Value, json};
use tuf::{Limits, Next, Role, TrustedState, Update};

use crate::repo::{NOW, Repo, versions};

/// The files of version 3 and a client that holds version 2: made once, signatures are slow in a debug build.
struct Fixture {
    repo: Repo,
    client: TrustedState,
}

static FIXTURE: LazyLock<Fixture> = LazyLock::new(|| {
    let (mut repo, client) = Repo::seen_two();
    repo.rotate(&Role::Root);
    repo.next_version();
    repo.add_target("app/2.0.0/app", b"two");
    repo.publish();
    Fixture { repo, client }
});

const FILES: [&str; 4] = [
    "2.root.json",
    "timestamp.json",
    "3.snapshot.json",
    "3.targets.json",
];

/// Runs a refresh in which one file is replaced; true when it came to its end.
fn refresh_with(file: &str, bytes: &[u8]) -> (TrustedState, bool) {
    let Fixture { repo, client } = &*FIXTURE;
    let mut update = Update::start(client.clone(), NOW, Limits::default());
    while let Next::Fetch(request) = update.next() {
        let served = if request.path == file {
            Some(bytes)
        } else {
            repo.files.get(&request.path).map(Vec::as_slice)
        };
        let verdict = match served {
            Some(bytes) => update.supply(bytes).map(drop),
            None => update.missing(),
        };
        if verdict.is_err() {
            return (update.into_state(), false);
        }
    }
    (update.into_state(), true)
}

/// Whether the change left what is signed and who signed it as they were.
fn means_the_same(before: &[u8], after: &[u8]) -> bool {
    let parse = |bytes| serde_json::from_slice::<Value>(bytes).ok();
    let (Some(before), Some(after)) = (parse(before), parse(after)) else {
        return false;
    };
    before["signed"] == after["signed"]
}

#[test]
fn the_unchanged_files_are_accepted() {
    let (state, whole) = refresh_with("", b"");
    assert!(whole);
    assert_eq!(versions(&state), [2, 3, 3, 3]);
}

/// Every place in a JSON value, as pointers.
pub(crate) fn places(value: &Value, at: &str, out: &mut Vec<String>) {
    out.push(at.to_owned());
    match value {
        Value::Object(map) => {
            for (key, item) in map {
                places(
                    item,
                    &format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")),
                    out,
                );
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                places(item, &format!("{at}/{index}"), out);
            }
        }
        _ => {}
    }
}

pub(crate) fn replacement() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(json!(true)),
        Just(json!(0)),
        Just(json!(-1)),
        Just(json!(1.5)),
        Just(json!("")),
        Just(json!([])),
        Just(json!({})),
        any::<u64>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_changed_byte_is_never_accepted(which in 0..4_usize, at in any::<prop::sample::Index>(), by in 1..=255_u8) {
        let file = FILES[which];
        let before = &FIXTURE.repo.files[file];
        let mut after = before.clone();
        let at = at.index(after.len());
        after[at] ^= by;
        let (state, whole) = refresh_with(file, &after);
        prop_assert!(!whole || means_the_same(before, &after));
        prop_assert!(state.root().version >= 1);
    }

    #[test]
    fn a_changed_value_is_never_accepted(which in 0..4_usize, at in any::<prop::sample::Index>(), new in replacement()) {
        let file = FILES[which];
        let mut value: Value = serde_json::from_slice(&FIXTURE.repo.files[file]).unwrap();
        let mut all = Vec::new();
        places(&value["signed"], "/signed", &mut all);
        let place = &all[at.index(all.len())];
        let spot = value.pointer_mut(place).unwrap();
        prop_assume!(*spot != new);
        *spot = new;
        let (_, whole) = refresh_with(file, &serde_json::to_vec(&value).unwrap());
        prop_assert!(!whole, "{} of {}", place, file);
    }

    /// Signed again by the right keys, so that what lies behind the signature is reached: no panic, and never below
    /// what was seen.
    #[test]
    fn a_thief_of_the_keys_breaks_nothing_but_what_he_may_sign(which in 0..4_usize, at in any::<prop::sample::Index>(), new in replacement()) {
        let (file, role) = [
            (FILES[0], Role::Root),
            (FILES[1], Role::Timestamp),
            (FILES[2], Role::Snapshot),
            (FILES[3], Role::Targets),
        ][which].clone();
        prop_assume!(!new.is_f64());
        let repo = &FIXTURE.repo;
        let signed: Value = serde_json::from_slice(&repo.files[file]).unwrap();
        let mut all = Vec::new();
        places(&signed["signed"], "", &mut all);
        let place = all[at.index(all.len())].clone();
        let keys: Vec<_> = repo.keys[&role].iter().collect();
        let bytes = crate::repo::forge(&repo.files[file], &keys, |signed| match (&new, place.rsplit_once('/')) {
            // Nothing at all, where there is something to be a part of.
            (Value::Null, Some((above, name))) if signed.pointer(above).is_some_and(Value::is_object) => {
                let name = name.replace("~1", "/").replace("~0", "~");
                signed.pointer_mut(above).unwrap().as_object_mut().unwrap().remove(&name);
            }
            _ => *signed.pointer_mut(&place).unwrap() = new,
        });
        let (state, _) = refresh_with(file, &bytes);
        let held = versions(&state);
        prop_assert!(held[0] >= 1 && (held[1] == 0 || held[1] >= 2), "{:?}", held);
        prop_assert!(TrustedState::from_parts(&state.to_bytes(), Some(&state.floors_bytes())).is_ok());
    }

    #[test]
    fn no_bytes_make_the_verifier_panic(which in 0..4_usize, bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let (_, whole) = refresh_with(FILES[which], &bytes);
        prop_assert!(!whole);
    }
}
