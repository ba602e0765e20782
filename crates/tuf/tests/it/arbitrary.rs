//! Arbitrary software: what the role's keys did not sign, whatever it looks like.

use serde_json::{Value, json};
use tuf::editor::RootEditor;
use tuf::{Attack, Digest, Error, PublicKey, Role, Signer as _};

use crate::repo::{Repo, key, versions};

/// Whether an error is the expected one.
type Check = fn(&Error) -> bool;

const ONLINE_AND_TARGETS: [Role; 3] = [Role::Timestamp, Role::Snapshot, Role::Targets];

/// Versions that may be held when the file of `role` was refused.
fn not_advanced(role: &Role, held: [u64; 4]) -> bool {
    let index = match role {
        Role::Timestamp => 1,
        Role::Snapshot => 2,
        _ => 3,
    };
    held[index] == 2
}

/// Publishes version 3, bends the file of each role in turn, and wants that very file refused.
fn each_role_refuses(bend: impl Fn(&mut Repo, &Role), check: impl Fn(&Role, &Error)) {
    for role in ONLINE_AND_TARGETS {
        let (mut repo, client) = Repo::seen_two();
        repo.next_version();
        repo.publish();
        bend(&mut repo, &role);
        let (client, error) = repo.refused(client);
        check(&role, &error);
        assert!(not_advanced(&role, versions(&client)), "{role}: {error}");
        assert_eq!(
            repo.asked.last(),
            Some(&repo.path(&role)),
            "{role}: another file was judged"
        );
    }
}

fn by_the_threshold(role: &Role, error: &Error) {
    let Error::Threshold {
        file,
        valid: 0,
        needed: 1,
        ..
    } = error
    else {
        panic!("{role}: {error}")
    };
    assert!(file.ends_with(&role.file_name()));
    assert_eq!(error.attack(), Attack::ArbitrarySoftware);
}

#[test]
fn a_strangers_signature_counts_for_nothing() {
    let stranger = key();
    each_role_refuses(
        |repo, role| repo.forge(role, &[&stranger], |_| {}),
        by_the_threshold,
    );
}

#[test]
fn another_roles_key_counts_for_nothing() {
    let change = |repo: &mut Repo, role: &Role| {
        let other = if *role == Role::Targets {
            Role::Snapshot
        } else {
            Role::Targets
        };
        let keys = repo.keys.remove(&other).unwrap();
        repo.forge(role, &keys.iter().collect::<Vec<_>>(), |_| {});
        repo.keys.insert(other, keys);
    };
    for role in [Role::Timestamp, Role::Targets] {
        let (mut repo, client) = Repo::seen_two();
        repo.next_version();
        repo.publish();
        // A parent signed by its own key: only the bent file is wrong.
        let other = if role == Role::Targets {
            Role::Timestamp
        } else {
            Role::Targets
        };
        let foreign = repo.keys.remove(&other).unwrap();
        let bytes = crate::repo::forge(&repo.files[&repo.path(&role)], &[&foreign[0]], |_| {});
        repo.keys.insert(other, foreign);
        repo.replace(&role, bytes);
        let (_, error) = repo.refused(client);
        by_the_threshold(&role, &error);
    }
    let (mut repo, client) = Repo::seen_two();
    repo.next_version();
    repo.publish();
    change(&mut repo, &Role::Snapshot);
    let (_, error) = repo.refused(client);
    by_the_threshold(&Role::Snapshot, &error);
}

#[test]
fn an_unsigned_file_is_refused() {
    each_role_refuses(|repo, role| repo.forge(role, &[], |_| {}), by_the_threshold);
}

#[test]
fn a_change_after_signing_is_refused() {
    let change = |repo: &mut Repo, role: &Role| {
        let mut file: Value = serde_json::from_slice(&repo.files[&repo.path(role)]).unwrap();
        file["signed"]["note"] = json!("x");
        repo.replace(role, serde_json::to_vec(&file).unwrap());
    };
    each_role_refuses(change, by_the_threshold);
}

#[test]
fn fields_unknown_to_us_are_part_of_what_is_signed() {
    for role in ONLINE_AND_TARGETS {
        let (mut repo, client) = Repo::seen_two();
        repo.next_version();
        repo.publish();
        repo.bend(&role, |signed| {
            signed["x-new"] = json!({"b": [1, {"z": null, "a": "é\"\\"}], "a": -1});
        });
        let client = repo.refreshed(client);
        assert_eq!(versions(&client), [1, 3, 3, 3]);
    }
}

#[test]
fn one_of_two_signatures_is_too_few() {
    for role in ONLINE_AND_TARGETS {
        let mut repo = Repo::new();
        let second = key();
        let public = second.public_key();
        repo.new_root(|root| root.add_key(&role, public).set_threshold(&role, 2), &[]);
        repo.publish();
        let client = repo.client();
        let (client, error) = repo.refused(client);
        assert!(
            matches!(
                error,
                Error::Threshold {
                    valid: 1,
                    needed: 2,
                    ..
                }
            ),
            "{role}: {error}"
        );
        repo.keys.get_mut(&role).unwrap().push(second);
        repo.next_version();
        repo.publish();
        let client = repo.refreshed(client);
        assert_eq!(versions(&client), [2, 2, 2, 2]);
    }
}

#[test]
fn a_keyid_that_signs_twice_is_refused_even_above_the_threshold() {
    let change = |repo: &mut Repo, role: &Role| {
        let mut file: Value = serde_json::from_slice(&repo.files[&repo.path(role)]).unwrap();
        let twice = file["signatures"][0].clone();
        file["signatures"].as_array_mut().unwrap().push(twice);
        repo.replace(role, serde_json::to_vec(&file).unwrap());
    };
    each_role_refuses(change, |role, error| {
        assert!(
            matches!(error, Error::DuplicateSignature { .. }),
            "{role}: {error}"
        );
        assert_eq!(error.attack(), Attack::ArbitrarySoftware);
    });
}

#[test]
fn one_key_under_two_keyids_is_one_signature() {
    let mut repo = Repo::new();
    let signer = &repo.keys[&Role::Snapshot][0];
    let mut object = signer.public_key().object().clone();
    object["x-second-name"] = json!(true);
    let alias = PublicKey::from_object(object).unwrap();
    assert_ne!(alias.id(), signer.public_key().id());
    let keys = vec![signer.public_key(), alias.clone()];
    repo.new_root(|root| root.set_keys(&Role::Snapshot, keys, 2), &[]);
    // The same signature under both keyids.
    let mut file: Value = serde_json::from_slice(&repo.snapshot_file()).unwrap();
    let mut second = file["signatures"][0].clone();
    second["keyid"] = json!(alias.id());
    file["signatures"].as_array_mut().unwrap().push(second);
    repo.replace(&Role::Snapshot, serde_json::to_vec(&file).unwrap());
    let client = repo.client();
    let (_, error) = repo.refused(client);
    assert!(
        matches!(
            error,
            Error::Threshold {
                valid: 1,
                needed: 2,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn broken_and_strange_signatures_beside_a_good_one_do_no_harm() {
    let (mut repo, client) = Repo::seen_two();
    repo.next_version();
    repo.publish();
    let other = key().public_key().id();
    let mut file: Value = serde_json::from_slice(&repo.files["timestamp.json"]).unwrap();
    let more = [
        json!({"keyid": other, "sig": ""}),
        json!({"keyid": "?", "sig": "zz"}),
        json!({"keyid": "", "sig": "00", "x": 1}),
    ];
    file["signatures"].as_array_mut().unwrap().extend(more);
    repo.replace(&Role::Timestamp, serde_json::to_vec(&file).unwrap());
    let client = repo.refreshed(client);
    assert_eq!(versions(&client), [1, 3, 3, 3]);
}

#[test]
fn a_file_of_another_role_is_refused_though_signed_by_the_right_key() {
    let (mut repo, client) = Repo::seen_two();
    repo.next_version();
    repo.publish();
    repo.bend(&Role::Timestamp, |signed| signed["_type"] = json!("snapshot"));
    let (_, error) = repo.refused(client);
    assert!(
        matches!(
            error,
            Error::WrongType {
                expected: "timestamp",
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(error.attack(), Attack::ArbitrarySoftware);
}

#[test]
fn another_major_version_of_the_specification_is_refused() {
    for (version, good) in [
        ("1.0", true),
        ("1.99.3", true),
        ("2.0.0", false),
        ("1", false),
        ("1.x", false),
        ("", false),
    ] {
        let (mut repo, client) = Repo::seen_two();
        repo.next_version();
        repo.publish();
        repo.bend(&Role::Timestamp, |signed| signed["spec_version"] = json!(version));
        let (_, verdict) = repo.refresh(client);
        match verdict {
            Ok(()) => assert!(good, "{version}"),
            Err(error) => assert!(
                !good && matches!(error, Error::Specification { .. }),
                "{version}: {error}"
            ),
        }
    }
}

#[test]
fn a_key_twice_in_an_object_is_refused_though_signed() {
    each_role_refuses(
        |repo, role| {
            let text = String::from_utf8(repo.files[&repo.path(role)].clone()).unwrap();
            let twice = text.replacen("\"version\":", "\"version\":1,\"version\":", 1);
            assert_ne!(twice, text);
            repo.replace(role, twice.into_bytes());
        },
        |role, error| {
            assert!(
                matches!(error, Error::Malformed { reason, .. } if reason.contains("twice")),
                "{role}: {error}"
            );
        },
    );
}

#[test]
fn a_file_that_its_parent_describes_otherwise_is_refused() {
    for (role, parent, pointer) in [
        (Role::Snapshot, Role::Timestamp, "/meta/snapshot.json"),
        (Role::Targets, Role::Snapshot, "/meta/targets.json"),
    ] {
        let bends: [(&str, Value, Check); 4] = [
            ("hashes", json!({"sha256": "0".repeat(64)}), |e| {
                matches!(
                    e,
                    Error::HashMismatch {
                        algorithm: "sha256",
                        ..
                    }
                )
            }),
            ("hashes", json!({"sha512": "0".repeat(128)}), |e| {
                matches!(
                    e,
                    Error::HashMismatch {
                        algorithm: "sha512",
                        ..
                    }
                )
            }),
            ("hashes", json!({"blake3": "0".repeat(64)}), |e| {
                matches!(e, Error::NoKnownHash { .. })
            }),
            ("length", json!(100_000), |e| {
                matches!(
                    e,
                    Error::LengthMismatch {
                        expected: 100_000,
                        ..
                    }
                )
            }),
        ];
        for (field, value, expected) in bends {
            let (mut repo, client) = Repo::seen_two();
            repo.next_version();
            repo.publish();
            repo.bend(&parent, |signed| {
                signed.pointer_mut(pointer).unwrap()[field] = value.clone();
            });
            let (client, error) = repo.refused(client);
            assert!(expected(&error), "{role}, {field} {value}: {error}");
            assert!(not_advanced(&role, versions(&client)));
        }
    }
}

#[test]
fn lengths_and_hashes_of_metadata_may_be_absent() {
    let (mut repo, client) = Repo::seen_two();
    repo.next_version();
    repo.publish();
    let strip = |entry: &mut Value| *entry = json!({"version": 3});
    repo.bend(&Role::Snapshot, |signed| {
        strip(&mut signed["meta"]["targets.json"]);
    });
    repo.bend(&Role::Timestamp, |signed| {
        strip(&mut signed["meta"]["snapshot.json"]);
    });
    let client = repo.refreshed(client);
    assert_eq!(versions(&client), [1, 3, 3, 3]);
}

#[test]
fn a_target_is_its_length_and_all_its_known_hashes() {
    let mut repo = Repo::new();
    repo.add_target("plain", b"content");
    let client = repo.client();
    repo.publish();
    let client = repo.refreshed(client);
    let target = client.target("plain").unwrap();
    assert_eq!(target.sha256(), Some(Digest::of(b"content")));
    target.check("plain", b"content").unwrap();
    assert!(matches!(
        target.check("plain", b"contenT"),
        Err(Error::HashMismatch { .. })
    ));
    assert!(matches!(
        target.check("plain", b"content!"),
        Err(Error::LengthMismatch { .. })
    ));
    let mut unknown = target.clone();
    unknown.hashes.0 = [("blake3".to_owned(), "00".to_owned())].into();
    assert!(matches!(
        unknown.check("plain", b"content"),
        Err(Error::NoKnownHash { .. })
    ));
    assert_eq!(unknown.sha256(), None);
}

#[test]
fn a_keyid_that_is_not_the_hash_of_its_key_is_refused() {
    let mut repo = Repo::new();
    let client = repo.client();
    repo.new_root(|root: RootEditor| root, &[]);
    let wrong = Digest::of(b"wrong").to_string();
    repo.bend(&Role::Root, |signed| {
        let role = &mut signed["roles"]["snapshot"]["keyids"];
        let id = role[0].as_str().unwrap().to_owned();
        *role = json!([wrong]);
        let key = signed["keys"].as_object_mut().unwrap().remove(&id).unwrap();
        signed["keys"][&wrong] = key;
    });
    let (client, error) = repo.refused(client);
    assert!(
        matches!(&error, Error::Malformed { reason, .. } if reason.contains("keyid")),
        "{error}"
    );
    assert_eq!(client.root().version, 1);
}

#[test]
fn a_field_that_may_be_absent_must_not_be_null() {
    type Bend = fn(&mut Value);
    let cases: [(Role, Bend); 5] = [
        (Role::Timestamp, |signed| signed["signed_at"] = Value::Null),
        (Role::Timestamp, |signed| {
            signed["meta"]["snapshot.json"]["length"] = Value::Null;
        }),
        (Role::Snapshot, |signed| {
            signed["meta"]["targets.json"]["hashes"] = Value::Null;
        }),
        (Role::Targets, |signed| signed["delegations"] = Value::Null),
        (Role::Targets, |signed| {
            let role = json!({"name": "a", "keyids": [], "threshold": 1, "terminating": false, "paths": [],
                "path_hash_prefixes": null});
            signed["delegations"] = json!({"keys": {}, "roles": [role]});
        }),
    ];
    for (role, bend) in cases {
        let mut repo = Repo::new();
        repo.bend(&role, bend);
        let client = repo.client();
        let (_, error) = repo.refused(client);
        assert!(matches!(error, Error::Malformed { .. }), "{role}: {error}");
    }
}

#[test]
fn what_an_author_says_of_a_target_is_an_object() {
    for (custom, good) in [
        (json!({}), true),
        (json!({"a": [1]}), true),
        (json!("1"), false),
        (json!(["a"]), false),
        (json!(1), false),
        (Value::Null, false),
    ] {
        let mut repo = Repo::new();
        repo.bend(&Role::Targets, |signed| {
            signed["targets"]["app/1.0.0/app"]["custom"] = custom.clone();
        });
        let client = repo.client();
        if good {
            assert!(
                repo.refreshed(client).target("app/1.0.0/app").is_some(),
                "{custom}"
            );
            continue;
        }
        let (_, error) = repo.refused(client);
        assert!(matches!(error, Error::Malformed { .. }), "{custom}: {error}");
    }
}
