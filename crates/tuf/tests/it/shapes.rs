//! Every shape of repository that the specification allows: many keys, long chains, plain names, strange names.

use std::num::NonZeroU32;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha512};
use tuf::editor::{SnapshotEditor, TargetsEditor};
use tuf::schema::{DelegatedRole, Hashes, MetaFile, RoleKeys, TargetFile};
use tuf::{Attack, Digest, Ed25519Signer, Error, Limits, Next, Role, Search, TrustedState, Update};

use crate::repo::{DAY, NOW, Repo, forge, key, sign, versions};

/// Root keys: `roots::a_retired_root_key_signs_nothing_any_more`.
#[test]
fn a_key_of_any_role_that_is_replaced_signs_nothing_any_more() {
    for role in [Role::Timestamp, Role::Snapshot, Role::Targets] {
        let (mut repo, client) = Repo::seen_two();
        let thief = std::mem::take(repo.keys.get_mut(&role).unwrap());
        repo.rotate(&role);
        repo.next_version();
        let good = repo.keys.insert(role.clone(), thief).unwrap();
        repo.publish();
        let (client, error) = repo.refused(client);
        assert!(
            matches!(
                error,
                Error::Threshold {
                    valid: 0,
                    needed: 1,
                    ..
                }
            ),
            "{role}: {error}"
        );
        repo.keys.insert(role.clone(), good);
        repo.next_version();
        repo.publish();
        let client = repo.refreshed(client);
        assert_eq!(versions(&client), [2, 4, 4, 4], "{role}");
    }
}

/// Each root names keys of its own; nothing but the whole chain leads from the first to the last.
#[test]
fn a_chain_of_hundreds_of_roots_is_walked_in_one_refresh() {
    const ROOTS: u64 = 400;
    let mut repo = Repo::new();
    let device = repo.client();
    let roles = [Role::Root, Role::Timestamp, Role::Snapshot, Role::Targets];
    for (_, role) in (2..=ROOTS).zip(roles.iter().cycle()) {
        repo.rotate(role);
    }
    repo.next_version();
    repo.publish();
    let seen = repo.refreshed(device.clone());
    assert_eq!(versions(&seen), [ROOTS, 2, 2, 2]);
    assert_eq!(
        repo.asked.len() as u64,
        (ROOTS - 1) + 1 + 3,
        "one that is not there, and three files"
    );
    // One link is gone: not a step beyond it.
    repo.files.remove("200.root.json");
    let (stuck, error) = repo.refused(device);
    assert_eq!(stuck.root().version, 199);
    assert!(matches!(error, Error::Threshold { .. }), "{error}");
    let again = TrustedState::from_parts(&seen.to_bytes(), Some(&seen.floors_bytes())).unwrap();
    assert_eq!(versions(&again), versions(&seen));
}

#[test]
fn a_repository_without_versions_in_its_names_is_followed_and_does_not_go_back() {
    let mut repo = Repo::new();
    let plain = |repo: &mut Repo| {
        for role in [Role::Snapshot, Role::Targets] {
            let bytes = repo.files[&role.versioned_file_name(repo.version(&role))].clone();
            repo.files.insert(role.file_name(), bytes);
        }
    };
    repo.new_root(|root| root.consistent_snapshot(false), &[]);
    plain(&mut repo);
    let client = repo.client();
    let client = repo.refreshed(client);
    let asked = [
        "2.root.json",
        "3.root.json",
        "timestamp.json",
        "snapshot.json",
        "targets.json",
    ];
    assert_eq!(repo.asked, asked);
    let yesterday = repo.files.clone();
    repo.next_version();
    repo.publish();
    plain(&mut repo);
    let client = repo.refreshed(client);
    assert_eq!(versions(&client), [2, 2, 2, 2]);
    // One old file at a time among the new ones.
    let today = repo.files.clone();
    for role in [Role::Timestamp, Role::Snapshot, Role::Targets] {
        let file = role.file_name();
        repo.files = today.clone();
        repo.files.insert(file.clone(), yesterday[&file].clone());
        for verifier in [client.clone(), repo.client()] {
            let (held, verdict) = repo.refresh(verifier);
            let [_, timestamp, snapshot, targets] = versions(&held);
            let mixed = timestamp > 0 && snapshot > 0 && targets > 0;
            // An old timestamp is news to one who has seen none; everything else does not fit together.
            assert!(verdict.is_err() || timestamp == 2 || snapshot != 2, "{role}");
            assert!(
                verdict.is_err() || !mixed || (timestamp == snapshot && snapshot == targets),
                "{role}"
            );
        }
    }
}

fn hashes(bytes: &[u8], which: [bool; 2]) -> Hashes {
    let sha512: [u8; 64] = Sha512::digest(bytes).into();
    let mut hashes = Hashes::sha256(Digest::of(bytes)).with_sha512(&sha512);
    for (name, wanted) in ["sha256", "sha512"].into_iter().zip(which) {
        if !wanted {
            hashes.0.remove(name);
        }
    }
    hashes
}

#[test]
fn metadata_may_be_described_by_either_hash_and_each_one_given_must_be_right() {
    for which in [[true, false], [false, true], [true, true]] {
        let mut repo = Repo::new();
        let snapshot = repo.files["1.snapshot.json"].clone();
        let entry = MetaFile {
            version: 1,
            length: None,
            hashes: Some(hashes(&snapshot, which)),
        };
        repo.publish_timestamp_of(&entry);
        let client = repo.client();
        repo.refreshed(client);
        for name in ["sha256", "sha512"] {
            let mut wrong = entry.clone();
            let all = &mut wrong.hashes.as_mut().unwrap().0;
            let Some(hash) = all.get_mut(name) else { continue };
            let other = if hash.starts_with('0') { "1" } else { "0" };
            hash.replace_range(..1, other);
            repo.publish_timestamp_of(&wrong);
            let client = repo.client();
            let (_, error) = repo.refused(client);
            assert!(
                matches!(&error, Error::HashMismatch { algorithm, .. } if *algorithm == name),
                "{error}"
            );
        }
    }
}

#[test]
fn target_names_are_compared_byte_by_byte_and_never_tidied() {
    let names = [
        "",
        " ",
        "a",
        "A",
        "a ",
        "./a",
        "a/",
        "/a",
        "a//b",
        "a/b",
        "../a",
        "%61",
        "a\\b",
        "a\0b",
        "a\nb",
        "é",
        "e\u{301}",
        "日本語/プログラム_1.0.jar",
        "\u{202e}gpj.exe",
        "*",
        "a?b",
    ];
    let mut repo = Repo::new();
    for (number, name) in names.iter().enumerate() {
        repo.add_target(name, &vec![b'x'; number + 1]);
    }
    let longest = "n".repeat(Limits::default().name_length as usize);
    repo.add_target(&longest, b"long");
    repo.next_version();
    repo.publish();
    let client = repo.client();
    let client = repo.refreshed(client);
    let again = TrustedState::from_parts(&client.to_bytes(), Some(&client.floors_bytes())).unwrap();
    for state in [client, again] {
        for (number, name) in names.iter().enumerate() {
            assert_eq!(state.target(name).unwrap().length, number as u64 + 1, "{name:?}");
        }
        assert_eq!(state.target(&longest).unwrap().length, 4);
        for absent in ["a/b/", "b", "./", "É", "a b", "%", "anything"] {
            assert!(state.target(absent).is_none(), "{absent:?}");
        }
    }
}

/// Adds a field that nobody knows to every object below, but where the keys are names of things.
fn strew(value: &mut Value, names: bool) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map.iter_mut() {
                if key == "keyval" || key == "hashes" || key == "custom" {
                    continue;
                }
                // Where keys are names, another key would be another thing.
                strew(
                    inner,
                    ["keys", "roles", "meta", "targets"].contains(&key.as_str()),
                );
            }
            if !names {
                map.insert("x-unknown".to_owned(), json!({"é": [1, null, {"deep": true}]}));
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|inner| strew(inner, false)),
        _ => {}
    }
}

#[test]
fn unknown_fields_are_allowed_in_every_object_and_covered_by_the_signature() {
    for role in [Role::Timestamp, Role::Snapshot, Role::Targets] {
        let mut repo = Repo::new();
        repo.bend(&role, |signed| strew(signed, false));
        let served = repo.files[&repo.path(&role)].clone();
        assert!(
            served.windows(9).filter(|window| window == b"x-unknown").count() >= 2,
            "{role}"
        );
        let client = repo.client();
        let client = repo.refreshed(client);
        assert_eq!(client.raw(&role), Some(&served[..]), "kept as it came");
        // One unknown value changed: the signature notices.
        let mut file: Value = serde_json::from_slice(&served).unwrap();
        file["signed"]["x-unknown"]["é"][0] = json!(2);
        repo.replace(&role, serde_json::to_vec(&file).unwrap());
        let client = repo.client();
        let (_, error) = repo.refused(client);
        assert!(
            matches!(error, Error::Threshold { valid: 0, .. }),
            "{role}: {error}"
        );
    }
    // Around the signed part nothing is signed, and nothing there matters.
    let mut repo = Repo::new();
    let mut file: Value = serde_json::from_slice(&repo.files["timestamp.json"]).unwrap();
    file["x-unknown"] = json!([1]);
    file["signatures"][0]["x-unknown"] = json!("é");
    repo.files
        .insert("timestamp.json".to_owned(), serde_json::to_vec(&file).unwrap());
    let client = repo.client();
    repo.refreshed(client);
}

#[test]
fn a_root_with_unknown_fields_is_followed_and_its_own_keyids_are_of_the_whole_key() {
    let mut repo = Repo::new();
    let keys: Vec<_> = repo.keys[&Role::Root].iter().collect();
    let root = forge(&repo.root, &keys, |signed| {
        signed["version"] = json!(2);
        signed["x-unknown"] = json!({"a": []});
        signed["roles"]["targets"]["x-unknown"] = json!(1);
    });
    repo.files.insert("2.root.json".to_owned(), root);
    let client = repo.client();
    assert_eq!(repo.refreshed(client).root().version, 2);
    // A field inside a key makes it another key: its keyid changes with it.
    let keys: Vec<_> = repo.keys[&Role::Root].iter().collect();
    let root = forge(&repo.root, &keys, |signed| {
        signed["version"] = json!(2);
        for key in signed["keys"].as_object_mut().unwrap().values_mut() {
            key["x-unknown"] = json!(1);
        }
    });
    repo.files.insert("2.root.json".to_owned(), root);
    let client = repo.client();
    let (_, error) = repo.refused(client);
    assert!(matches!(error, Error::Malformed { .. }), "{error}");
}

/// A line of delegations, each role to the next; the last one names the target.
fn line(repo: &mut Repo, depth: usize, threshold: usize) -> Vec<Vec<Ed25519Signer>> {
    let roles: Vec<Vec<Ed25519Signer>> = (0..depth)
        .map(|_| (0..threshold).map(|_| key()).collect())
        .collect();
    let to = |editor: TargetsEditor, at: usize| {
        let public: Vec<_> = roles[at].iter().map(tuf::Signer::public_key).collect();
        let role = DelegatedRole {
            name: format!("r{at}"),
            keys: RoleKeys {
                keyids: Vec::new(),
                threshold: NonZeroU32::new(u32::try_from(threshold).unwrap()).unwrap(),
            },
            terminating: at.is_multiple_of(2),
            paths: Some(vec!["deep/*".to_owned()]),
            path_hash_prefixes: None,
        };
        editor.delegate(role, &public)
    };
    repo.targets = to(repo.targets.clone(), 0);
    repo.next_version();
    let top = repo.targets_file();
    let version = repo.version(&Role::Snapshot);
    let mut snapshot = SnapshotEditor::new(version, repo.expires[&Role::Snapshot]).role(
        &Role::Targets,
        repo.version(&Role::Targets),
        &top,
    );
    repo.serve(&Role::Targets, top);
    for (at, keys) in roles.iter().enumerate() {
        let mut editor = TargetsEditor::new(NOW.plus_seconds(100 * DAY));
        if at + 1 < depth {
            editor = to(editor, at + 1);
        } else {
            let target = TargetFile {
                length: 1,
                hashes: Hashes::sha256(Digest::of(b"x")),
                custom: None,
            };
            editor = editor.add_target("deep/x", &target);
        }
        let bytes = sign(editor.build().unwrap(), keys);
        let role = Role::Delegated(format!("r{at}"));
        snapshot = snapshot.role(&role, 1, &bytes);
        repo.files.insert(role.versioned_file_name(1), bytes);
    }
    let snapshot = sign(snapshot.build().unwrap(), &repo.keys[&Role::Snapshot]);
    repo.serve(&Role::Snapshot, snapshot);
    repo.publish_timestamp();
    roles
}

fn look_up(repo: &Repo, client: &TrustedState) -> Result<Option<Role>, Error> {
    let mut search = Search::start(client.clone(), "deep/x", NOW, Limits::default())?;
    while let Next::Fetch(request) = search.next() {
        search.supply(&repo.files[&request.path])?;
    }
    Ok(search.found().map(|(role, _)| role.clone()))
}

#[test]
fn delegations_may_be_as_deep_as_the_limit_and_no_deeper() {
    let limit = Limits::default().delegations as usize;
    let mut repo = Repo::new();
    line(&mut repo, limit, 1);
    let client = repo.client();
    let client = repo.refreshed(client);
    let last = Role::Delegated(format!("r{}", limit - 1));
    assert_eq!(look_up(&repo, &client), Ok(Some(last.clone())));
    let mut all = Update::start(client, NOW, Limits::default()).with_delegations();
    while let Next::Fetch(request) = all.next() {
        match repo.files.get(&request.path) {
            Some(bytes) => drop(all.supply(bytes).unwrap()),
            None => all.missing().unwrap(),
        }
    }
    assert_eq!(all.problems(), []);
    assert_eq!(
        all.state().target_and_role("deep/x").map(|(role, _)| role),
        Some(last)
    );

    let mut repo = Repo::new();
    line(&mut repo, limit + 1, 1);
    let client = repo.client();
    let client = repo.refreshed(client);
    let error = look_up(&repo, &client).unwrap_err();
    assert_eq!(error.attack(), Attack::EndlessData, "{error}");
}

#[test]
fn a_delegated_role_needs_its_own_threshold() {
    let mut repo = Repo::new();
    let roles = line(&mut repo, 2, 3);
    let client = repo.client();
    let client = repo.refreshed(client);
    assert_eq!(
        look_up(&repo, &client),
        Ok(Some(Role::Delegated("r1".to_owned())))
    );
    // The same content with one signature fewer, described so by snapshot and timestamp.
    let few: Vec<_> = roles[1][..2].iter().collect();
    let short = forge(&repo.files["1.r1.json"], &few, |_| {});
    repo.files.insert("1.r1.json".to_owned(), short.clone());
    repo.bend(&Role::Snapshot, |signed| {
        signed["meta"]["r1.json"] = json!(MetaFile::of_bytes(1, &short));
    });
    let client = repo.client();
    let client = repo.refreshed(client);
    let error = look_up(&repo, &client).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Threshold {
                valid: 2,
                needed: 3,
                ..
            }
        ),
        "{error}"
    );
}
