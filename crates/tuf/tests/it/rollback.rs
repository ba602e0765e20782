//! Rollback and mix-and-match: older than what was seen, or not belonging together.

use serde_json::json;
use tuf::editor::SnapshotEditor;
use tuf::schema::MetaFile;
use tuf::{Attack, Error, Role};

use crate::repo::{Repo, sign, versions};

fn is_rollback(error: &Error, of: &str, from: u64, to: u64) {
    let Error::Rollback {
        subject,
        floor,
        found,
        ..
    } = error
    else {
        panic!("{error}")
    };
    assert_eq!((subject.as_str(), *floor, *found), (of, from, to));
    assert_eq!(error.attack(), Attack::Rollback);
}

#[test]
fn an_older_timestamp_is_refused() {
    let (mut repo, client) = Repo::seen_two();
    repo.versions.insert(Role::Timestamp, 1);
    repo.publish_timestamp();
    let (client, error) = repo.refused(client);
    is_rollback(&error, "timestamp", 2, 1);
    assert_eq!(versions(&client), [1, 2, 2, 2]);
}

#[test]
fn a_newer_timestamp_must_not_name_an_older_snapshot() {
    let (mut repo, client) = Repo::seen_two();
    repo.bump(&Role::Timestamp);
    repo.versions.insert(Role::Snapshot, 1);
    repo.publish_timestamp();
    let (client, error) = repo.refused(client);
    is_rollback(&error, "snapshot", 2, 1);
    assert_eq!(versions(&client), [1, 2, 2, 2]);
}

#[test]
fn a_snapshot_that_a_timestamp_announced_must_not_be_taken_back() {
    let (mut repo, client) = Repo::seen_two();
    // Announced, never delivered: the announcement alone is remembered.
    repo.bump(&Role::Timestamp);
    repo.publish_timestamp_of(&MetaFile::of_version(9));
    let (client, error) = repo.refused(client);
    assert!(matches!(error, Error::Missing { .. }));
    repo.bump(&Role::Timestamp);
    repo.publish_timestamp();
    let (_, error) = repo.refused(client);
    is_rollback(&error, "snapshot", 9, 2);
}

#[test]
fn a_newer_snapshot_must_not_name_older_targets() {
    let (mut repo, client) = Repo::seen_two();
    repo.bump(&Role::Snapshot);
    repo.bump(&Role::Timestamp);
    repo.versions.insert(Role::Targets, 1);
    repo.publish_snapshot();
    let (client, error) = repo.refused(client);
    is_rollback(&error, "targets.json", 2, 1);
    assert_eq!(versions(&client), [1, 3, 2, 2]);
}

#[test]
fn a_role_must_not_vanish_from_the_snapshot() {
    let (mut repo, client) = Repo::seen_two();
    repo.bump(&Role::Snapshot);
    repo.bump(&Role::Timestamp);
    repo.publish_snapshot();
    repo.bend(&Role::Snapshot, |signed| {
        signed["meta"]["team-a.json"] = json!({"version": 1});
    });
    let client = repo.refreshed(client);
    repo.bump(&Role::Snapshot);
    repo.bump(&Role::Timestamp);
    repo.publish_snapshot();
    let (client, error) = repo.refused(client);
    assert!(
        matches!(&error, Error::RoleRemoved { role, .. } if role == "team-a.json"),
        "{error}"
    );
    assert_eq!(error.attack(), Attack::Rollback);
    assert_eq!(versions(&client), [1, 4, 3, 2]);
}

#[test]
fn the_same_timestamp_version_with_other_content_changes_nothing() {
    let (mut repo, client) = Repo::seen_two();
    repo.publish_timestamp_of(&MetaFile::of_version(100));
    let held = client.raw(&Role::Timestamp).unwrap().to_vec();
    let client = repo.refreshed(client);
    assert_eq!(repo.asked, ["2.root.json", "timestamp.json"]);
    assert_eq!(client.raw(&Role::Timestamp).unwrap(), held);
}

#[test]
fn files_of_two_publications_do_not_mix() {
    // A snapshot of another version than the timestamp names.
    let (mut repo, client) = Repo::seen_two();
    repo.next_version();
    repo.publish();
    let other =
        SnapshotEditor::new(4, repo.expires[&Role::Snapshot]).entry(&Role::Targets, &MetaFile::of_version(3));
    let bytes = sign(other.build().unwrap(), &repo.keys[&Role::Snapshot]);
    repo.replace(&Role::Snapshot, bytes);
    let (client, error) = repo.refused(client);
    assert_eq!(
        error,
        Error::VersionMismatch {
            file: "3.snapshot.json".into(),
            expected: 3,
            found: 4
        }
    );
    assert_eq!(error.attack(), Attack::MixAndMatch);
    // Targets of another version than the snapshot names.
    repo.publish_snapshot();
    repo.bend(&Role::Targets, |signed| signed["version"] = json!(4));
    repo.bump(&Role::Timestamp);
    repo.publish_timestamp();
    let (_, error) = repo.refused(client);
    assert_eq!(
        error,
        Error::VersionMismatch {
            file: "3.targets.json".into(),
            expected: 3,
            found: 4
        }
    );
}

#[test]
fn a_snapshot_without_targets_is_refused() {
    let (mut repo, _) = Repo::seen_two();
    repo.bend(&Role::Snapshot, |signed| signed["meta"] = json!({}));
    let client = repo.client();
    let (_, error) = repo.refused(client);
    assert!(matches!(error, Error::NotInSnapshot { .. }), "{error}");
}

#[test]
fn a_release_floor_only_rises() {
    let (_, mut client) = Repo::seen_two();
    assert_eq!(client.release_floor("app"), 0);
    client.raise_release_floor("app", 5);
    client.raise_release_floor("app", 3);
    assert_eq!(client.release_floor("app"), 5);
    assert_eq!(client.release_floor("other"), 0);
    assert_eq!(client.release_floors().collect::<Vec<_>>(), [("app", 5)]);
}
