//! The editors: what they make is what a verifier reads, and people can sign in turns.

use serde_json::{Value, json};
use tuf::editor::{RootEditor, Signed, TargetsEditor};
use tuf::schema::{Hashes, TargetFile};
use tuf::{Digest, Error, PublicKey, Role, Root, SignError, Signer, Targets, unverified_version};

use crate::repo::{NOW, Repo, forge, key, root_of};

#[test]
fn people_sign_in_turns_from_each_others_bytes() {
    let people = [key(), key(), key()];
    let mut editor = RootEditor::new(NOW);
    for role in [Role::Root, Role::Timestamp, Role::Snapshot, Role::Targets] {
        editor = people.iter().fold(editor, |editor, person| {
            editor.add_key(&role, person.public_key())
        });
    }
    let unsigned = editor.set_threshold(&Role::Root, 2).build().unwrap();
    let first = unsigned.sign(&people[2]).unwrap().bytes();
    let handed_over = Signed::<Root>::from_bytes(&first).unwrap();
    assert!(matches!(
        handed_over.check_root(None),
        Err(Error::Threshold {
            valid: 1,
            needed: 2,
            ..
        })
    ));
    let second = handed_over.sign(&people[0]).unwrap();
    second.check_root(None).unwrap();
    assert_eq!(second.signed_by().count(), 2);
    let again = second.clone().sign(&people[0]).unwrap();
    assert_eq!(again.signed_by().count(), 2, "signing twice is signing once");
    assert_eq!(unverified_version(&again.bytes()), Some(1));
}

#[test]
fn what_an_editor_does_not_know_it_keeps() {
    let repo = Repo::new();
    let root = forge(&repo.root, &[], |signed| {
        signed["x-note"] = json!(["kept"]);
        signed["roles"]["targets"]["x-policy"] = json!("kept");
    });
    let next = RootEditor::from_existing(&root)
        .unwrap()
        .build()
        .unwrap()
        .into_signed()
        .unwrap()
        .bytes();
    let next: Value = serde_json::from_slice(&next).unwrap();
    assert_eq!(next["signed"]["x-note"], json!(["kept"]));
    assert_eq!(next["signed"]["roles"]["targets"]["x-policy"], json!("kept"));
    assert_eq!(next["signed"]["version"], json!(2));
    let targets = forge(&repo.files["1.targets.json"], &[], |signed| {
        signed["x-note"] = json!(7);
        signed["targets"]["app/1.0.0/app"]["x-more"] = json!({"a": 1});
    });
    let next = TargetsEditor::from_existing(&targets).unwrap();
    assert_eq!(next.names().collect::<Vec<_>>(), ["app/1.0.0/app"]);
    assert_eq!(next.target("app/1.0.0/app").unwrap().length, 3);
    let next: Value = serde_json::from_slice(&next.build().unwrap().into_signed().unwrap().bytes()).unwrap();
    assert_eq!(next["signed"]["x-note"], json!(7));
    assert_eq!(
        next["signed"]["targets"]["app/1.0.0/app"]["x-more"],
        json!({"a": 1})
    );
}

#[test]
fn keys_come_and_go_with_the_roles_that_name_them() {
    let repo = Repo::new();
    let before = root_of(&repo.root);
    let old = before.timestamp.keyids[0];
    let new = key().public_key();
    let root = RootEditor::from_existing(&repo.root)
        .unwrap()
        .add_key(&Role::Timestamp, new.clone())
        .add_key(&Role::Timestamp, new.clone())
        .remove_key(&Role::Timestamp, old)
        .build()
        .unwrap()
        .view()
        .unwrap();
    assert_eq!(root.timestamp.keyids, [new.id()]);
    assert!(root.keys.contains_key(&new.id()) && !root.keys.contains_key(&old));
    assert_eq!(root.keys.len(), 4);
    assert_ne!(root.timestamp.digest(), before.timestamp.digest());
    assert_eq!(root.snapshot.digest(), before.snapshot.digest());
}

#[test]
fn a_role_that_could_never_be_signed_is_not_made() {
    let root = RootEditor::new(NOW).add_key(&Role::Root, key().public_key());
    assert!(matches!(root.build(), Err(Error::Malformed { .. })));
    let repo = Repo::new();
    let root = RootEditor::from_existing(&repo.root)
        .unwrap()
        .set_threshold(&Role::Targets, 2);
    assert!(matches!(root.build(), Err(Error::Malformed { reason, .. }) if reason.contains("targets")));
}

#[test]
fn a_target_carries_what_the_author_says_about_it() {
    let file = TargetFile {
        length: 3,
        hashes: Hashes::sha256(Digest::of(b"one")).with_sha512(&[7; 64]),
        custom: Some(json!({"drover": {"format": 1}})),
    };
    let targets = TargetsEditor::new(NOW)
        .version(5)
        .add_target("a/1/a", &file)
        .build()
        .unwrap()
        .view()
        .unwrap();
    assert_eq!(targets.targets["a/1/a"], file);
    assert_eq!(targets.version, 5);
    let odd = TargetFile {
        custom: Some(json!({"price": 1.5})),
        ..file
    };
    assert!(
        TargetsEditor::new(NOW).add_target("a", &odd).build().is_err(),
        "fractions have no canonical form"
    );
}

/// A signer whose key and signature do not belong together.
struct Faulty(PublicKey);

impl Signer for Faulty {
    fn public_key(&self) -> PublicKey {
        self.0.clone()
    }

    fn sign(&self, _message: &[u8]) -> Result<Vec<u8>, SignError> {
        Ok(vec![0; 64])
    }
}

#[test]
fn a_signature_that_does_not_verify_never_leaves_the_editor() {
    let unsigned = TargetsEditor::new(NOW).build().unwrap();
    let faulty = Faulty(key().public_key());
    assert!(matches!(unsigned.sign(&faulty), Err(SignError::Unverifiable(id)) if id == faulty.0.id()));
}

#[test]
fn a_file_of_another_kind_is_not_signed_by_mistake() {
    let repo = Repo::new();
    assert!(matches!(
        Signed::<Targets>::from_bytes(&repo.root),
        Err(Error::WrongType { .. })
    ));
    assert!(Signed::<Root>::from_bytes(b"{}").is_err());
}
