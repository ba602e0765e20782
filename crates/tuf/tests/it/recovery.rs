//! Fast-forward recovery: a newer root that changes keys takes down exactly the floors of those keys.

use tuf::schema::MetaFile;
use tuf::{Error, Limits, Role, TrustedState};

use crate::repo::{BUILT, DAY, NOW, Repo, versions};

/// A thief of the online keys has pushed versions and time ahead, and the client has seen it.
fn fast_forwarded(role: &Role) -> (Repo, TrustedState) {
    let (mut repo, client) = Repo::seen_two();
    repo.next_version();
    repo.versions.insert(role.clone(), 4_000_000_000);
    repo.publish();
    let client = repo.refreshed(client);
    repo.versions.insert(role.clone(), 2);
    (repo, client)
}

#[test]
fn without_new_keys_nothing_comes_back_down() {
    for role in [Role::Timestamp, Role::Snapshot, Role::Targets] {
        let (mut repo, client) = fast_forwarded(&role);
        repo.new_root(|root| root, &[]);
        for role in [Role::Timestamp, Role::Snapshot] {
            if repo.version(&role) < 1000 {
                repo.versions.insert(role, 5);
            }
        }
        repo.publish();
        let (_, error) = repo.refused(client);
        assert!(
            matches!(
                error,
                Error::Rollback {
                    floor: 4_000_000_000,
                    ..
                }
            ),
            "{role}: {error}"
        );
    }
}

#[test]
fn a_new_timestamp_key_lets_the_timestamp_begin_again() {
    let (mut repo, client) = fast_forwarded(&Role::Timestamp);
    repo.rotate(&Role::Timestamp);
    repo.versions.insert(Role::Timestamp, 1);
    repo.publish_timestamp();
    let client = repo.refreshed(client);
    assert_eq!(versions(&client), [2, 1, 3, 3]);
    assert_eq!(
        repo.asked,
        ["2.root.json", "3.root.json", "timestamp.json"],
        "snapshot and targets are still good"
    );
}

#[test]
fn new_snapshot_and_timestamp_keys_let_the_snapshot_begin_again() {
    let (mut repo, client) = fast_forwarded(&Role::Snapshot);
    repo.rotate(&Role::Snapshot);
    repo.rotate(&Role::Timestamp);
    repo.versions.insert(Role::Snapshot, 1);
    repo.bump(&Role::Timestamp);
    repo.publish_snapshot();
    let client = repo.refreshed(client);
    assert_eq!(versions(&client), [3, 4, 1, 3]);
}

#[test]
fn a_new_snapshot_key_lets_targets_begin_again_and_roles_vanish() {
    let (mut repo, client) = fast_forwarded(&Role::Targets);
    repo.rotate(&Role::Snapshot);
    repo.versions.insert(Role::Targets, 1);
    repo.bump(&Role::Snapshot);
    repo.bump(&Role::Timestamp);
    repo.publish();
    let client = repo.refreshed(client);
    assert_eq!(versions(&client), [2, 4, 4, 1]);
}

#[test]
fn a_new_timestamp_key_does_not_free_the_snapshot() {
    let (mut repo, client) = Repo::seen_two();
    repo.rotate(&Role::Timestamp);
    repo.versions.insert(Role::Timestamp, 1);
    repo.versions.insert(Role::Snapshot, 1);
    repo.publish_timestamp();
    let (client, error) = repo.refused(client);
    assert!(
        matches!(&error, Error::Rollback { subject, floor: 2, found: 1, .. } if subject == "snapshot"),
        "{error}"
    );
    assert_eq!(versions(&client), [2, 0, 2, 2]);
}

#[test]
fn a_snapshot_that_only_a_stolen_timestamp_key_announced_is_forgotten_with_it() {
    let (mut repo, client) = Repo::seen_two();
    repo.bump(&Role::Timestamp);
    repo.publish_timestamp_of(&MetaFile::of_version(4_000_000_000));
    let (client, _) = repo.refused(client);
    repo.rotate(&Role::Timestamp);
    repo.bump(&Role::Timestamp);
    repo.publish_timestamp();
    let client = repo.refreshed(client);
    assert_eq!(versions(&client), [2, 4, 2, 2]);
}

#[test]
fn time_pushed_ahead_comes_back_to_the_build_with_a_new_timestamp_key() {
    let (mut repo, client) = Repo::seen_two();
    repo.next_version();
    // As far as the targets' expiry lets it.
    let pushed = NOW.plus_seconds(179 * DAY);
    repo.expires.insert(Role::Timestamp, pushed.plus_seconds(DAY));
    repo.expires.insert(Role::Snapshot, pushed.plus_seconds(DAY));
    repo.signed_at = Some(pushed);
    repo.publish();
    let client = repo.refreshed(client);
    assert_eq!(client.not_before(), Some(pushed));
    for role in [Role::Timestamp, Role::Snapshot] {
        repo.expires.insert(role, NOW.plus_seconds(14 * DAY));
    }
    repo.signed_at = Some(NOW.plus_seconds(60));
    repo.rotate(&Role::Timestamp);
    repo.bump(&Role::Snapshot);
    repo.bump(&Role::Timestamp);
    repo.publish_snapshot();
    // This refresh still runs on the pushed time; it brings the root that ends it.
    let (client, error) = repo.refused(client);
    assert!(matches!(error, Error::Expired { .. }), "{error}");
    assert_eq!(client.not_before(), Some(BUILT));
    let client = repo.refreshed(client);
    assert_eq!(client.not_before(), Some(NOW.plus_seconds(60)));
}

#[test]
fn files_signed_by_keys_that_a_new_root_drops_are_no_longer_served() {
    let (mut repo, client) = Repo::seen_two();
    repo.rotate(&Role::Targets);
    repo.files.remove("timestamp.json");
    let (client, _) = repo.refused(client);
    assert_eq!(versions(&client), [2, 2, 2, 0]);
    assert!(client.target("app/1.0.0/app").is_none());
    // One more key beside the old one: what it signed stays good.
    let (mut repo, client) = Repo::seen_two();
    let more = tuf::Signer::public_key(&crate::repo::key());
    repo.new_root(|root| root.add_key(&Role::Targets, more), &[]);
    let client = repo.refreshed(client);
    assert_eq!(versions(&client), [2, 2, 2, 2]);
    assert_eq!(repo.asked, ["2.root.json", "3.root.json", "timestamp.json"]);
}

#[test]
fn floors_tied_to_new_keys_win_over_an_older_copy() {
    // The power fails between the two records: the floors are of the new root, the state of the old one.
    let (mut repo, old) = fast_forwarded(&Role::Timestamp);
    repo.rotate(&Role::Timestamp);
    repo.versions.insert(Role::Timestamp, 7);
    repo.publish_timestamp();
    let new = repo.refreshed(old.clone());
    let torn = TrustedState::from_parts(&old.to_bytes(), Some(&new.floors_bytes())).unwrap();
    assert_eq!(versions(&torn), [1, 0, 0, 0], "an old root vouches for nothing");
    let torn = repo.refreshed(torn);
    assert_eq!(versions(&torn), [2, 7, 3, 3]);
    repo.versions.insert(Role::Timestamp, 6);
    repo.publish_timestamp();
    let (_, error) = repo.refused(torn);
    assert!(
        matches!(
            error,
            Error::Rollback {
                floor: 7,
                found: 6,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_repository_that_has_lost_the_newest_root_is_not_followed() {
    let (mut repo, old) = Repo::seen_two();
    repo.new_root(|root| root, &[]);
    let new = repo.refreshed(old.clone());
    let torn = TrustedState::from_parts(&old.to_bytes(), Some(&new.floors_bytes())).unwrap();
    repo.files.remove("2.root.json");
    let (_, error) = repo.refused(torn);
    assert_eq!(error, Error::RootBehind { floor: 2, found: 1 });
}

#[test]
fn the_way_back_after_the_loss_of_the_state_keeps_the_floors() {
    let (mut repo, mut client) = Repo::seen_two();
    repo.rotate(&Role::Root);
    client = repo.refreshed(client);
    client.raise_release_floor("app", 9);
    let floors = client.floors_bytes();
    for root in ["1.root.json", "2.root.json"] {
        let again = TrustedState::recover(
            &repo.files[root],
            None,
            Some(&floors),
            Some(BUILT),
            &Limits::default(),
        )
        .unwrap();
        assert_eq!(again.release_floor("app"), 9);
        assert_eq!(again.not_before(), Some(NOW));
        let mut older = Repo {
            files: repo.files.clone(),
            ..Repo::new()
        };
        older.keys = std::mem::take(&mut repo.keys);
        older.versions = repo.versions.clone();
        older.versions.insert(Role::Timestamp, 1);
        older.publish_timestamp();
        let (again, error) = older.refused(again);
        repo.keys = older.keys;
        assert!(
            matches!(
                error,
                Error::Rollback {
                    floor: 2,
                    found: 1,
                    ..
                }
            ),
            "{error}"
        );
        let again = repo.refreshed(again);
        assert_eq!(versions(&again), [2, 2, 2, 2]);
    }
}

#[test]
fn a_root_seen_before_takes_no_floor_down_again() {
    // Three key sets; the floors have seen the last one, the state put back only the first.
    let (mut repo, old) = Repo::seen_two();
    repo.rotate(&Role::Timestamp);
    repo.rotate(&Role::Timestamp);
    repo.versions.insert(Role::Timestamp, 7);
    repo.publish_timestamp();
    let new = repo.refreshed(old.clone());
    let put_back = TrustedState::from_parts(&old.to_bytes(), Some(&new.floors_bytes())).unwrap();
    repo.versions.insert(Role::Timestamp, 6);
    repo.publish_timestamp();
    let (state, error) = repo.refused(put_back);
    assert!(
        matches!(
            error,
            Error::Rollback {
                floor: 7,
                found: 6,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(versions(&state)[..2], [3, 0]);
}

#[test]
fn the_way_back_takes_the_higher_of_what_can_be_read_and_not_two_sites_at_once() {
    let (mut repo, older) = Repo::seen_two();
    let root = repo.files["1.root.json"].clone();
    repo.next_version();
    repo.publish();
    let mut newer = repo.refreshed(older.clone());
    newer.raise_release_floor("app", 4);
    let recover = |state: &[u8], floors: &[u8]| {
        TrustedState::recover(&root, Some(state), Some(floors), None, &Limits::default())
    };
    let (new, old) = (newer.to_bytes(), older.floors_bytes());
    for (state, floors) in [
        (&new[..], &old[..]),
        (&older.to_bytes(), &newer.floors_bytes()),
        (&new, b"torn"),
        (b"torn", &newer.floors_bytes()),
    ] {
        let back = recover(state, floors).unwrap();
        assert_eq!(back.release_floor("app"), 4);
        repo.files
            .insert("timestamp.json".to_owned(), older_timestamp(&older));
        assert!(matches!(
            repo.refused(back.clone()).1,
            Error::Rollback {
                floor: 3,
                found: 2,
                ..
            }
        ));
        repo.publish_timestamp();
        assert_eq!(versions(&repo.refreshed(back)), [1, 3, 3, 3]);
    }
    let (_, stranger) = Repo::seen_two();
    for (state, floors) in [
        (&new[..], &stranger.floors_bytes()[..]),
        (&stranger.to_bytes(), &old),
        (b"", b""),
    ] {
        let error = recover(state, floors).unwrap_err();
        assert!(matches!(error, Error::StateDamaged { .. }), "{error}");
    }
}

fn older_timestamp(state: &TrustedState) -> Vec<u8> {
    state.raw(&Role::Timestamp).unwrap().to_vec()
}
