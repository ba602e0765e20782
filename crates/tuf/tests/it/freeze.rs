//! Freeze, endless data, time: what is too old, missing, too long, or says that it is from the future.

use tuf::{Attack, Error, Limits, Next, Role, TrustedState, UnixTime, Update};

use crate::repo::{BUILT, DAY, NOW, Repo, versions};

#[test]
fn an_expired_file_brings_nothing_new() {
    for (role, held) in [
        (Role::Timestamp, [1, 2, 2, 2]),
        (Role::Snapshot, [1, 3, 2, 2]),
        (Role::Targets, [1, 3, 3, 2]),
    ] {
        let (mut repo, client) = Repo::seen_two();
        repo.next_version();
        repo.expires.insert(role.clone(), NOW);
        repo.signed_at = Some(NOW.plus_seconds(-DAY));
        repo.publish();
        let (client, error) = repo.refused(client);
        assert!(
            matches!(&error, Error::Expired { expires, .. } if *expires == NOW),
            "{role}: {error}"
        );
        assert_eq!(error.attack(), Attack::Freeze);
        assert_eq!(versions(&client), held, "{role}");
        // What was verified before is still known.
        assert!(client.target("app/1.0.0/app").is_some());
    }
}

#[test]
fn a_repository_that_stands_still_is_noticed_and_recovers() {
    let (mut repo, client) = Repo::seen_two();
    repo.now = NOW.plus_seconds(20 * DAY);
    let (client, error) = repo.refused(client);
    assert!(matches!(error, Error::Expired { .. }), "{error}");
    assert_eq!(client.stale_since(repo.now), Some(NOW.plus_seconds(14 * DAY)));
    repo.bump(&Role::Timestamp);
    repo.bump(&Role::Snapshot);
    for role in [Role::Timestamp, Role::Snapshot] {
        repo.expires.insert(role, NOW.plus_seconds(34 * DAY));
    }
    repo.publish_snapshot();
    let client = repo.refreshed(client);
    assert_eq!(versions(&client), [1, 3, 3, 2]);
    assert_eq!(client.stale_since(repo.now), None);
}

#[test]
fn an_expired_snapshot_in_hand_is_not_taken_for_the_current_one() {
    let (mut repo, client) = Repo::seen_two();
    repo.now = NOW.plus_seconds(20 * DAY);
    repo.expires.insert(Role::Timestamp, NOW.plus_seconds(40 * DAY));
    repo.bump(&Role::Timestamp);
    repo.publish_timestamp();
    let (client, error) = repo.refused(client);
    assert!(
        matches!(&error, Error::Expired { file, .. } if file == "2.snapshot.json"),
        "{error}"
    );
    assert_eq!(versions(&client), [1, 3, 2, 2]);
}

#[test]
fn a_withheld_file_is_an_error_that_names_it() {
    for role in [Role::Timestamp, Role::Snapshot, Role::Targets] {
        let (mut repo, client) = Repo::seen_two();
        repo.next_version();
        repo.publish();
        let path = repo.path(&role);
        repo.files.remove(&path);
        let (_, error) = repo.refused(client);
        assert_eq!(error, Error::Missing { file: path });
        assert_eq!(error.attack(), Attack::Freeze);
    }
}

#[test]
fn no_file_may_be_longer_than_what_was_asked_for() {
    for role in [Role::Root, Role::Timestamp, Role::Snapshot, Role::Targets] {
        let (mut repo, client) = Repo::seen_two();
        repo.next_version();
        repo.publish();
        let path = if role == Role::Root {
            "2.root.json".to_owned()
        } else {
            repo.path(&role)
        };
        let endless = vec![b' '; 9 * 1024 * 1024];
        repo.files.insert(path.clone(), endless);
        let (_, error) = repo.refused(client);
        assert!(
            matches!(&error, Error::TooLong { file, .. } if *file == path),
            "{role}: {error}"
        );
        assert_eq!(error.attack(), Attack::EndlessData);
    }
}

#[test]
fn a_request_is_limited_by_the_signed_length_and_by_the_cap() {
    let mut repo = Repo::new();
    let mut update = Update::start(
        repo.client(),
        NOW,
        Limits {
            snapshot_length: 10,
            ..Limits::default()
        },
    );
    update.missing().unwrap();
    update.supply(&repo.files["timestamp.json"]).unwrap();
    let Next::Fetch(request) = update.next() else {
        panic!("nothing asked for")
    };
    assert_eq!(request.max_length, 10);
    let snapshot_length = repo.files["1.snapshot.json"].len() as u64;
    let mut update = Update::start(repo.client(), NOW, Limits::default());
    update.missing().unwrap();
    update.supply(&repo.files["timestamp.json"]).unwrap();
    let Next::Fetch(request) = update.next() else {
        panic!("nothing asked for")
    };
    assert_eq!(request.max_length, snapshot_length);
    let client = repo.client();
    repo.refreshed(client);
}

#[test]
fn a_finished_refresh_takes_nothing_more() {
    let mut repo = Repo::new();
    let client = repo.client();
    let client = repo.refreshed(client);
    let mut update = Update::start(client, NOW, Limits::default());
    update.missing().unwrap();
    update.supply(&repo.files["timestamp.json"]).unwrap();
    assert_eq!(update.next(), Next::Done);
    let error = update.supply(&repo.files["timestamp.json"]).unwrap_err();
    assert_eq!(error.attack(), Attack::Misuse);
    assert!(update.missing().is_err());
}

#[test]
fn time_rises_only_with_a_chain_that_is_verified_to_its_end() {
    let (mut repo, client) = Repo::seen_two();
    repo.next_version();
    let later = NOW.plus_seconds(3 * DAY);
    repo.signed_at = Some(later);
    repo.publish();
    let targets = repo.files.remove("3.targets.json").unwrap();
    let (client, _) = repo.refused(client);
    assert_eq!(versions(&client), [1, 3, 3, 2]);
    assert_eq!(
        client.not_before(),
        Some(NOW),
        "targets are missing, the timestamp's word does not count yet"
    );
    repo.files.insert("3.targets.json".to_owned(), targets);
    let client = repo.refreshed(client);
    assert_eq!(client.not_before(), Some(later));
}

#[test]
fn a_timestamp_from_after_the_expiry_of_what_it_vouches_for_is_refused() {
    for (role, lifetime) in [("timestamp", 14), ("targets", 180), ("root", 365)] {
        let (mut repo, client) = Repo::seen_two();
        repo.next_version();
        // The thief holds the online keys and lets his own files live for ever.
        if role != "timestamp" {
            repo.expires.insert(Role::Timestamp, UnixTime::MAX);
            repo.expires.insert(Role::Snapshot, UnixTime::MAX);
        }
        let expiry = NOW.plus_seconds(lifetime * DAY);
        repo.signed_at = Some(expiry.plus_seconds(1));
        repo.publish();
        let (client, error) = repo.refused(client);
        assert!(
            matches!(&error, Error::SignedPastExpiry { role: blamed, expires, .. } if blamed == role && *expires == expiry),
            "{role}: {error}"
        );
        assert_eq!(error.attack(), Attack::FastForward);
        assert_eq!(client.not_before(), Some(NOW));
    }
}

#[test]
fn a_verifier_without_build_time_and_signed_at_has_no_floor_of_time() {
    let mut repo = Repo::new();
    repo.signed_at = None;
    repo.publish();
    let client = TrustedState::init(&repo.files["1.root.json"], None, &Limits::default()).unwrap();
    let client = repo.refreshed(client);
    assert_eq!(client.not_before(), None);
    let client = TrustedState::init(&repo.files["1.root.json"], Some(BUILT), &Limits::default()).unwrap();
    let client = repo.refreshed(client);
    assert_eq!(client.not_before(), Some(BUILT));
}
