//! A lookup through the delegations, from a repository to the disk.

use durable::{RefreshError, TrustStore};
use tuf::{Error, Role};

use crate::repository::{Repository, TEAM, target};

fn refreshed() -> (tempfile::TempDir, Repository, TrustStore) {
    let temp = tempfile::tempdir().unwrap();
    let repository = Repository::new();
    let store = TrustStore::create(temp.path().join("trust"), repository.root(), None).unwrap();
    repository.refresh(&store).unwrap();
    repository.asked();
    (temp, repository, store)
}

#[test]
fn a_teams_role_is_fetched_once_and_remembered() {
    let (_temp, repository, store) = refreshed();
    let team = Role::Delegated(TEAM.to_owned());
    for asked in [vec!["1.team.json"], vec![]] {
        let (state, found) = repository.look_up(&store, "team/app");
        assert_eq!(found.unwrap(), Some((team.clone(), target("team/app", 1))));
        assert_eq!(repository.asked(), asked);
        let stored = TrustStore::open(store.dir()).unwrap().load().unwrap();
        assert_eq!(stored.raw(&team), Some(&repository.files["1.team.json"][..]));
        assert_eq!(state.raw(&team), stored.raw(&team));
    }
}

#[test]
fn what_the_top_role_names_or_nobody_may_name_needs_no_other_file() {
    let (_temp, repository, store) = refreshed();
    let (_, found) = repository.look_up(&store, "app");
    assert_eq!(found.unwrap(), Some((Role::Targets, target("app", 1))));
    let (_, found) = repository.look_up(&store, "nobody's");
    assert_eq!(found.unwrap(), None);
    assert!(repository.asked().is_empty());
}

#[test]
fn a_role_that_is_withheld_or_forged_answers_for_nothing() {
    let (_temp, mut repository, store) = refreshed();
    let right = repository.files.remove("1.team.json").unwrap();
    let (_, found) = repository.look_up(&store, "team/app");
    assert!(matches!(found, Err(RefreshError::Verify(Error::Missing { .. }))));
    let mut forged = right.clone();
    let at = forged.len() / 2;
    forged[at] ^= 1;
    repository.files.insert("1.team.json".to_owned(), forged);
    let (state, found) = repository.look_up(&store, "team/app");
    assert!(matches!(
        found,
        Err(RefreshError::Verify(Error::HashMismatch { .. }))
    ));
    assert!(state.delegated(TEAM).is_none());
    repository.files.insert("1.team.json".to_owned(), right);
    let (_, found) = repository.look_up(&store, "team/app");
    assert!(found.unwrap().is_some());
}

#[test]
fn nothing_is_looked_up_before_a_refresh() {
    let temp = tempfile::tempdir().unwrap();
    let repository = Repository::new();
    let store = TrustStore::create(temp.path().join("trust"), repository.root(), None).unwrap();
    let (_, found) = repository.look_up(&store, "app");
    assert!(matches!(
        found,
        Err(RefreshError::Verify(Error::NotAskedFor { .. }))
    ));
    assert!(repository.asked().is_empty());
}
