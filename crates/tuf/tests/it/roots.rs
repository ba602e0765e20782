//! Roots: only what the keys before and the keys after both sign, one version at a time.

use serde_json::json;
use tuf::{Attack, Error, Limits, Next, Role, Signer as _, TrustedState, Update};

use crate::repo::{BUILT, DAY, NOW, Repo, key, root_of, versions};

/// A change of a root's signed part.
type Bend = fn(&mut serde_json::Value);

#[test]
fn a_new_root_needs_the_keys_before_it() {
    let mut repo = Repo::new();
    let client = repo.client();
    let thief = key();
    let public = thief.public_key();
    // Signed by its own new key only.
    repo.keys.insert(Role::Root, vec![thief]);
    repo.new_root(|root| root.set_keys(&Role::Root, vec![public], 1), &[]);
    let (client, error) = repo.refused(client);
    assert!(
        matches!(&error, Error::Threshold { delegator, valid: 0, .. } if delegator == "root version 1"),
        "{error}"
    );
    assert_eq!(error.attack(), Attack::KeyCompromise);
    assert_eq!(client.root().version, 1);
}

#[test]
fn a_new_root_needs_its_own_keys() {
    let mut repo = Repo::new();
    let client = repo.client();
    let public = key().public_key();
    repo.new_root(|root| root.set_keys(&Role::Root, vec![public], 1), &[]);
    let (_, error) = repo.refused(client);
    assert!(
        matches!(&error, Error::Threshold { delegator, valid: 0, .. } if delegator == "root version 2"),
        "{error}"
    );
}

#[test]
fn a_retired_root_key_signs_nothing_any_more() {
    let mut repo = Repo::new();
    let client = repo.client();
    let old = repo.keys.remove(&Role::Root).unwrap();
    let new = key();
    let public = new.public_key();
    repo.keys.insert(Role::Root, vec![new]);
    repo.new_root(|root| root.set_keys(&Role::Root, vec![public], 1), &old);
    repo.publish();
    let client = repo.refreshed(client);
    repo.keys.insert(Role::Root, old);
    repo.new_root(|root| root, &[]);
    let (client, error) = repo.refused(client);
    assert!(matches!(error, Error::Threshold { valid: 0, .. }), "{error}");
    assert_eq!(client.root().version, 2);
}

#[test]
fn a_root_must_follow_directly() {
    for (said, attack) in [(1, Attack::Rollback), (3, Attack::FastForward)] {
        let mut repo = Repo::new();
        let client = repo.client();
        repo.new_root(|root| root.version(said), &[]);
        let (client, error) = repo.refused(client);
        assert_eq!(
            error,
            Error::RootVersion {
                file: "2.root.json".into(),
                expected: 2,
                found: said
            }
        );
        assert_eq!(error.attack(), attack);
        assert_eq!(client.root().version, 1);
    }
}

#[test]
fn roots_before_the_last_may_have_expired() {
    let mut repo = Repo::new();
    let client = repo.client();
    repo.new_root(|root| root.expires(NOW.plus_seconds(-DAY)), &[]);
    let (client, error) = repo.refused(client);
    assert!(
        matches!(&error, Error::Expired { file, .. } if file == "2.root.json"),
        "{error}"
    );
    assert_eq!(
        versions(&client),
        [2, 0, 0, 0],
        "the root itself is accepted, nothing below it"
    );
    repo.new_root(|root| root.expires(NOW.plus_seconds(DAY)), &[]);
    let client = repo.refreshed(client);
    assert_eq!(client.root().version, 3);
}

#[test]
fn a_chain_longer_than_the_limit_is_walked_in_several_refreshes() {
    let mut repo = Repo::new();
    for _ in 0..5 {
        repo.new_root(|root| root, &[]);
    }
    let limits = Limits {
        root_rotations: 3,
        ..Limits::default()
    };
    let mut update = Update::start(repo.client(), NOW, limits.clone());
    let error = loop {
        let Next::Fetch(request) = update.next() else {
            panic!("the refresh ended")
        };
        if let Err(error) = update.supply(&repo.files[&request.path]) {
            break error;
        }
    };
    assert_eq!(error, Error::TooManyRoots { limit: 3, version: 4 });
    assert_eq!(error.attack(), Attack::EndlessData);
    let client = repo.refreshed(update.into_state());
    assert_eq!(client.root().version, 6);
}

#[test]
fn a_first_root_that_does_not_sign_itself_is_not_trusted() {
    let mut repo = Repo::new();
    let stranger = key();
    repo.forge(&Role::Root, &[&stranger], |_| {});
    let verdict = TrustedState::init(&repo.files["1.root.json"], Some(BUILT), &Limits::default());
    assert!(matches!(verdict, Err(Error::Threshold { .. })));
    for bytes in [
        &b""[..],
        b"{}",
        b"[]",
        b"null",
        b"\0\0\0\0",
        br#"{"signed":{},"signatures":[]}"#,
    ] {
        assert!(TrustedState::init(bytes, None, &Limits::default()).is_err());
    }
}

#[test]
fn roots_that_make_no_sense_are_refused() {
    let bends: [(&str, Bend); 9] = [
        ("a role missing", |root| {
            drop(root["roles"].as_object_mut().unwrap().remove("timestamp"));
        }),
        ("a role too many", |root| {
            root["roles"]["extra"] = root["roles"]["root"].clone();
        }),
        ("threshold 0", |root| {
            root["roles"]["targets"]["threshold"] = json!(0);
        }),
        ("a keyid twice", |root| {
            let ids = root["roles"]["targets"]["keyids"].as_array_mut().unwrap();
            ids.push(ids[0].clone());
        }),
        ("version 0", |root| root["version"] = json!(0)),
        ("no expiry", |root| root["expires"] = json!(null)),
        ("local time", |root| {
            root["expires"] = json!("2030-01-01T00:00:00+01:00");
        }),
        ("an unknown kind of key", |root| {
            let keys = root["keys"].as_object_mut().unwrap();
            keys.values_mut().next().unwrap()["scheme"] = json!("rot13");
        }),
        ("keys as a list", |root| root["keys"] = json!([])),
    ];
    for (flaw, bend) in bends {
        let mut repo = Repo::new();
        let client = repo.client();
        repo.new_root(|root| root, &[]);
        repo.bend(&Role::Root, bend);
        let (client, error) = repo.refused(client);
        assert!(matches!(error, Error::Malformed { .. }), "{flaw}: {error}");
        assert_eq!(client.root().version, 1);
    }
}

#[test]
fn a_threshold_that_no_one_can_reach_stops_its_role_only() {
    let mut repo = Repo::new();
    let client = repo.client();
    repo.new_root(|root| root, &[]);
    repo.bend(&Role::Root, |root| {
        root["roles"]["snapshot"]["threshold"] = json!(6);
    });
    let (client, error) = repo.refused(client);
    assert!(matches!(error, Error::Threshold { needed: 6, .. }), "{error}");
    assert_eq!(versions(&client), [2, 1, 0, 0]);
}

#[test]
fn a_threshold_of_people_is_reached_by_any_of_them() {
    let mut repo = Repo::new();
    let client = repo.client();
    let people = [key(), key(), key(), key(), key()];
    let public: Vec<_> = people.iter().map(tuf::Signer::public_key).collect();
    repo.new_root(|root| root.set_keys(&Role::Root, public, 3), &people[..3]);
    let client = repo.refreshed(client);
    // The next one: any three of the five, the key of before no longer needed.
    let before = root_of(&repo.root);
    repo.keys.insert(Role::Root, Vec::new());
    repo.new_root(|root| root, &people[2..]);
    let client = repo.refreshed(client);
    assert_eq!(client.root().version, 3);
    let signed = tuf::editor::Signed::from_bytes(&repo.root).unwrap();
    signed.check_root(Some(&before)).unwrap();
    repo.new_root(|root| root, &people[3..]);
    let (_, error) = repo.refused(client);
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

#[test]
fn a_root_without_the_key_that_it_names_leaves_a_state_that_can_be_stored() {
    for role in [Role::Timestamp, Role::Snapshot, Role::Targets] {
        let (mut repo, client) = Repo::seen_two();
        repo.new_root(|root| root, &[]);
        let id = repo.keys[&role][0].public_key().id().to_string();
        repo.bend(&Role::Root, |signed| {
            signed["keys"].as_object_mut().unwrap().remove(&id);
        });
        let (client, _) = repo.refused(client);
        assert_eq!(client.root().version, 2);
        assert_eq!(client.raw(&role), None, "{role}: nobody vouches for it");
        let client = TrustedState::from_parts(&client.to_bytes(), Some(&client.floors_bytes())).unwrap();
        // The next root, with the key again, is the way on; not to anything older.
        let public = repo.keys[&role][0].public_key();
        repo.root = repo.files["2.root.json"].clone();
        repo.new_root(|root| root.set_keys(&role, vec![public], 1), &[]);
        repo.next_version();
        repo.publish();
        let client = repo.refreshed(client);
        assert_eq!(versions(&client), [3, 3, 3, 3], "{role}");
    }
}
