//! A refresh from a repository to the disk and back: what is kept, what is refused, what a cut leaves.

use std::path::Path;
use std::sync::Arc;

use durable::faulty::{Fault, Faulty};
use durable::{Files, RefreshError, TrustError, TrustStore, refresh, refresh_with};
use tuf::{Limits, UnixTime};

use crate::repository::{NOW, Repository, at_once};

const STATE: &str = "state.rec";
const FLOORS: &str = "floors.rec";

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// A store that has seen version 2, a copy of it at version 1, and the repository back at version 1.
fn replayed() -> (tempfile::TempDir, Repository) {
    let temp = tempfile::tempdir().unwrap();
    let mut repository = Repository::new();
    let dir = temp.path().join("trust");
    let store = TrustStore::create(&dir, repository.root(), None).unwrap();
    repository.refresh(&store).unwrap();
    copy(&dir, &temp.path().join("old"));
    let yesterday = repository.files.clone();
    repository.publish(2);
    assert_eq!(repository.refresh(&store).unwrap().targets().unwrap().version, 2);
    repository.files = yesterday;
    (temp, repository)
}

#[test]
fn what_was_verified_is_there_after_a_restart() {
    let temp = tempfile::tempdir().unwrap();
    let repository = Repository::new();
    let dir = temp.path().join("trust");
    let store = TrustStore::create(&dir, repository.root(), Some(UnixTime(5))).unwrap();
    repository.refresh(&store).unwrap();
    let again = TrustStore::open(&dir).unwrap().load().unwrap();
    assert!(again.is_complete());
    assert_eq!(again.not_before(), Some(UnixTime(5)));
}

#[test]
fn trust_is_begun_once() {
    let temp = tempfile::tempdir().unwrap();
    let repository = Repository::new();
    let dir = temp.path().join("trust");
    assert!(matches!(TrustStore::open(&dir), Err(TrustError::Missing(_))));
    let bad = TrustStore::create(&dir, b"{}", None);
    assert!(matches!(bad, Err(TrustError::Root(_))) && !dir.exists());
    TrustStore::create(&dir, repository.root(), None).unwrap();
    let again = TrustStore::create(&dir, repository.root(), None);
    assert!(matches!(again, Err(TrustError::Exists(_))));
}

#[test]
fn an_old_timestamp_is_refused_whatever_happened_to_one_file() {
    type Damage = fn(&Path, &Path);
    let damages: [(&str, Damage); 6] = [
        ("untouched", |_, _| {}),
        ("emptied", |file, _| std::fs::write(file, b"").unwrap()),
        ("removed", |file, _| std::fs::remove_file(file).unwrap()),
        ("filled with NUL", |file, _| {
            let length = std::fs::metadata(file).unwrap().len();
            std::fs::write(file, vec![0; usize::try_from(length).unwrap()]).unwrap();
        }),
        ("cut in half", |file, _| {
            let bytes = std::fs::read(file).unwrap();
            std::fs::write(file, &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("put back from yesterday", |file, old| {
            std::fs::copy(old.join(file.file_name().unwrap()), file).unwrap();
        }),
    ];
    for name in [STATE, FLOORS] {
        for (what, damage) in damages {
            let (temp, repository) = replayed();
            let dir = temp.path().join("trust");
            damage(&dir.join(name), &temp.path().join("old"));
            let store = TrustStore::open(&dir).unwrap();
            let error = repository.refresh(&store).unwrap_err();
            let expected = error.contains("Rollback") || error.contains("StateDamaged");
            assert!(expected, "{name} {what}: {error}");
        }
    }
}

#[test]
fn a_release_committed_during_a_refresh_keeps_its_floor() {
    let temp = tempfile::tempdir().unwrap();
    let mut repository = Repository::new();
    let store = TrustStore::create(temp.path().join("trust"), repository.root(), None).unwrap();
    let begun = repository.refresh(&store).unwrap();
    let mut committed = begun.clone();
    committed.raise_release_floor("app", 7);
    store.save(&committed).unwrap();
    repository.publish(2);
    let (refreshed, outcome) = at_once(refresh(&store, begun, &repository, NOW, Limits::default()));
    outcome.unwrap();
    for state in [refreshed, store.load().unwrap()] {
        assert_eq!(state.release_floor("app"), 7);
        assert_eq!(state.targets().unwrap().version, 2);
    }
}

#[test]
fn an_older_state_saved_late_does_not_undo_a_newer_one() {
    let temp = tempfile::tempdir().unwrap();
    let mut repository = Repository::new();
    let store = TrustStore::create(temp.path().join("trust"), repository.root(), None).unwrap();
    let mut old = repository.refresh(&store).unwrap();
    repository.publish(2);
    repository.refresh(&store).unwrap();
    old.raise_release_floor("app", 7);
    for state in [store.save(&old).unwrap(), store.load().unwrap()] {
        assert_eq!(state.release_floor("app"), 7);
        assert_eq!(state.targets().unwrap().version, 2);
    }
}

#[test]
fn a_lost_copy_of_the_floors_comes_back_from_the_state() {
    let (temp, repository) = replayed();
    let dir = temp.path().join("trust");
    std::fs::write(dir.join(FLOORS), b"torn").unwrap();
    let (store, state) = TrustStore::recover(&dir, repository.root(), None).unwrap();
    assert_eq!(state.targets().unwrap().version, 2);
    assert!(repository.refresh(&store).unwrap_err().contains("Rollback"));
    for name in [FLOORS, STATE] {
        std::fs::write(dir.join(name), b"torn").unwrap();
    }
    let lost = TrustStore::recover(&dir, repository.root(), None);
    assert!(matches!(lost, Err(TrustError::StateDamaged { .. })));
}

#[test]
fn a_lost_state_comes_back_with_its_floors() {
    let (temp, repository) = replayed();
    let dir = temp.path().join("trust");
    std::fs::remove_file(dir.join(STATE)).unwrap();
    let damaged = TrustStore::open(&dir).unwrap().load();
    assert!(matches!(damaged, Err(TrustError::StateDamaged { .. })));
    let (store, _) = TrustStore::recover(&dir, repository.root(), None).unwrap();
    assert!(repository.refresh(&store).unwrap_err().contains("Rollback"));
}

#[test]
fn a_refresh_without_news_writes_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let repository = Repository::new();
    let disk = Arc::new(Faulty::new(Fault::Io, u64::MAX));
    let dir = temp.path().join("trust");
    let store = TrustStore::create_on(Files::on(disk.clone()), &dir, repository.root(), None).unwrap();
    repository.refresh(&store).unwrap();
    let before = std::fs::metadata(dir.join(STATE)).unwrap().modified().unwrap();
    let writes = |disk: &Faulty| disk.ops().iter().filter(|op| op.name == "write").count();
    let count = writes(&disk);
    repository.refresh(&store).unwrap();
    assert_eq!(writes(&disk), count);
    assert_eq!(
        std::fs::metadata(dir.join(STATE)).unwrap().modified().unwrap(),
        before
    );
}

#[test]
fn a_cut_at_any_operation_leaves_a_state_that_loads_and_no_way_back() {
    for at in 1.. {
        let temp = tempfile::tempdir().unwrap();
        let mut repository = Repository::new();
        let dir = temp.path().join("trust");
        let store = TrustStore::create(&dir, repository.root(), None).unwrap();
        repository.refresh(&store).unwrap();
        let yesterday = repository.files.clone();
        repository.publish(2);
        let disk = Arc::new(Faulty::new(Fault::Killed, at));
        let dying = TrustStore::open_on(Files::on(disk.clone()), &dir).unwrap();
        let saved = repository.refresh(&dying).is_ok();
        let after = TrustStore::open(&dir).unwrap();
        after.load().unwrap();
        if saved {
            repository.files = yesterday;
            assert!(
                repository.refresh(&after).unwrap_err().contains("Rollback"),
                "at {at}"
            );
        } else {
            assert_eq!(repository.refresh(&after).unwrap().targets().unwrap().version, 2);
        }
        if !disk.fired() {
            assert!(at > 5, "the disk was hardly used");
            return;
        }
    }
}

#[test]
fn a_cut_while_trust_is_begun_leaves_nothing_or_all() {
    let repository = Repository::new();
    for at in 1.. {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("trust");
        let disk = Arc::new(Faulty::new(Fault::Killed, at));
        let _ = TrustStore::create_on(Files::on(disk.clone()), &dir, repository.root(), None);
        match TrustStore::open(&dir) {
            Ok(store) => {
                store.load().unwrap();
            }
            Err(_) => {
                TrustStore::create(&dir, repository.root(), None).unwrap();
            }
        }
        if !disk.fired() {
            return;
        }
    }
}

#[test]
fn every_root_on_the_way_is_handed_over_even_if_the_end_fails() {
    let temp = tempfile::tempdir().unwrap();
    let mut repository = Repository::new();
    let store = TrustStore::create(temp.path().join("trust"), repository.root(), None).unwrap();
    for _ in 1..4 {
        repository.new_root(&[]);
    }
    repository.files.remove("timestamp.json");
    let seen = std::cell::RefCell::new(Vec::new());
    let state = store.load().unwrap();
    let (_, outcome) = at_once(refresh_with(
        &store,
        state,
        &repository,
        NOW,
        Limits::default(),
        |file, _| seen.borrow_mut().push(file.to_owned()),
    ));
    assert!(matches!(outcome, Err(RefreshError::Verify(_))));
    assert_eq!(*seen.borrow(), ["2.root.json", "3.root.json", "4.root.json"]);
    assert_eq!(
        TrustStore::open(store.dir())
            .unwrap()
            .load()
            .unwrap()
            .root()
            .version,
        4
    );
}
