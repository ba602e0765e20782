//! The right way through, and exactly the requests it takes.

use tuf::{Limits, Role, TrustedState, Update};

use crate::repo::{BUILT, NOW, Repo, versions};

#[test]
fn a_first_refresh_asks_for_each_file_once_and_in_order() {
    let mut repo = Repo::new();
    let client = repo.client();
    assert_eq!(client.not_before(), Some(BUILT));
    let client = repo.refreshed(client);
    assert_eq!(
        repo.asked,
        [
            "2.root.json",
            "timestamp.json",
            "1.snapshot.json",
            "1.targets.json"
        ]
    );
    assert_eq!(versions(&client), [1, 1, 1, 1]);
    assert_eq!(client.not_before(), Some(NOW));
    assert_eq!(client.target("app/1.0.0/app").unwrap().length, 3);
    assert_eq!(client.all_targets().count(), 1);
    assert_eq!(client.stale_since(NOW), None);
}

#[test]
fn a_refresh_without_news_asks_for_the_next_root_and_the_timestamp_only() {
    let mut repo = Repo::new();
    let client = repo.client();
    let client = repo.refreshed(client);
    let client = repo.refreshed(client);
    assert_eq!(repo.asked, ["2.root.json", "timestamp.json"]);
    repo.next_version();
    repo.publish();
    let client = repo.refreshed(client);
    assert_eq!(
        repo.asked,
        [
            "2.root.json",
            "timestamp.json",
            "2.snapshot.json",
            "2.targets.json"
        ]
    );
    assert_eq!(versions(&client), [1, 2, 2, 2]);
}

#[test]
fn a_chain_of_roots_is_walked_one_by_one() {
    let mut repo = Repo::new();
    let client = repo.client();
    for _ in 0..20 {
        repo.rotate(&Role::Root);
        repo.rotate(&Role::Timestamp);
    }
    repo.publish();
    let client = repo.refreshed(client);
    assert_eq!(versions(&client), [41, 1, 1, 1]);
    assert_eq!(repo.asked.len(), 40 + 4);
}

#[test]
fn the_state_is_the_same_after_it_was_stored() {
    let mut repo = Repo::new();
    let client = repo.client();
    let mut client = repo.refreshed(client);
    client.raise_release_floor("app", 7);
    let again = TrustedState::from_parts(&client.to_bytes(), Some(&client.floors_bytes())).unwrap();
    assert_eq!(again.to_bytes(), client.to_bytes());
    assert_eq!(again.release_floor("app"), 7);
    assert_eq!(again.raw(&Role::Timestamp).unwrap(), repo.files["timestamp.json"]);
    let names: Vec<_> = again.roles().map(|(name, _)| name).collect();
    assert_eq!(
        names,
        ["root.json", "timestamp.json", "snapshot.json", "targets.json"]
    );
    let again = repo.refreshed(again);
    assert_eq!(repo.asked, ["2.root.json", "timestamp.json"]);
    assert_eq!(versions(&again), versions(&client));
}

#[test]
fn the_time_of_a_refresh_is_never_before_what_is_verified() {
    let mut repo = Repo::new();
    let client = repo.client();
    let client = repo.refreshed(client);
    let update = Update::start(client, tuf::UnixTime(0), Limits::default());
    assert_eq!(update.now(), NOW);
}
