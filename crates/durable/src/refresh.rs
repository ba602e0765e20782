//! One refresh of a trusted state from wherever the files come from, saved as it goes.

use std::future::Future;

use tuf::{Limits, Next, Role, TrustedState, UnixTime, Update};

use crate::trust::{TrustError, TrustStore};

/// Where metadata files come from.
pub trait Fetch {
    /// What can go wrong there.
    type Error;

    /// The file at `path` below the metadata folder (one percent-encoded segment); `None` if there is no such file.
    /// At most `max` bytes are wanted: the rest need not be read.
    fn metadata(
        &self,
        path: &str,
        max: u64,
    ) -> impl Future<Output = Result<Option<Vec<u8>>, Self::Error>> + Send;
}

/// Why a refresh ended early. What was accepted before is kept.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError<E> {
    /// A file did not verify, or is not there.
    #[error("the metadata does not verify")]
    Verify(#[source] tuf::Error),
    /// A file did not come.
    #[error("the metadata cannot be fetched")]
    Fetch(#[source] E),
    /// The state could not be saved.
    #[error("the verified metadata cannot be kept")]
    Trust(#[source] TrustError),
}

/// Refreshes `state`, saving it through `store` after each new root and at the end, also after an error.
///
/// Gives the newest state in any case, and the files accepted on the way (name in the repository, raw bytes).
/// A mirror that needs them even when the refresh ends early uses [`refresh_with`].
pub async fn refresh<F: Fetch>(
    store: &TrustStore,
    state: TrustedState,
    fetch: &F,
    now: UnixTime,
    limits: Limits,
) -> (
    TrustedState,
    Result<Vec<(String, Vec<u8>)>, RefreshError<F::Error>>,
) {
    let mut accepted = Vec::new();
    let (state, outcome) = refresh_with(store, state, fetch, now, limits, |file, bytes| {
        accepted.push((file.to_owned(), bytes.to_vec()));
    })
    .await;
    (state, outcome.map(|()| accepted))
}

/// [`refresh`] that hands over each accepted file as soon as it is accepted.
pub async fn refresh_with<F: Fetch>(
    store: &TrustStore,
    state: TrustedState,
    fetch: &F,
    now: UnixTime,
    limits: Limits,
    accepted: impl FnMut(&str, &[u8]),
) -> (TrustedState, Result<(), RefreshError<F::Error>>) {
    let mut update = Update::start(state, now, limits);
    let mut outcome = run(store, &mut update, fetch, accepted).await;
    let state = update.into_state();
    match store.save(&state) {
        Ok(state) => (state, outcome),
        Err(error) => {
            if outcome.is_ok() {
                outcome = Err(RefreshError::Trust(error));
            }
            (state, outcome)
        }
    }
}

/// Ends: the state machine has a bounded number of steps.
async fn run<F: Fetch>(
    store: &TrustStore,
    update: &mut Update,
    fetch: &F,
    mut accepted: impl FnMut(&str, &[u8]),
) -> Result<(), RefreshError<F::Error>> {
    while let Next::Fetch(request) = update.next() {
        let answer = fetch.metadata(&request.path, request.max_length).await;
        match answer.map_err(RefreshError::Fetch)? {
            None => update.missing().map_err(RefreshError::Verify)?,
            Some(bytes) => {
                let file = update.supply(&bytes).map_err(RefreshError::Verify)?;
                // A timestamp held already may come back in other words: those are not the ones held.
                if file.changed {
                    accepted(&file.file, &bytes);
                }
                // A root that was accepted must not be forgotten, whatever follows.
                if request.role == Role::Root {
                    store.save(update.state()).map_err(RefreshError::Trust)?;
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::{Context, Poll, Waker};

    use tuf::editor::{RootEditor, SnapshotEditor, TargetsEditor, TimestampEditor};
    use tuf::{Ed25519Signer, Signer};

    use super::*;
    use crate::Files;
    use crate::faulty::{Fault, Faulty};
    use crate::trust::{FLOORS, STATE};

    const NOW: UnixTime = UnixTime(1_800_000_000);
    const LATER: UnixTime = UnixTime(1_900_000_000);

    /// A repository in memory.
    struct Repository {
        key: Ed25519Signer,
        files: BTreeMap<String, Vec<u8>>,
    }

    impl Fetch for Repository {
        type Error = std::convert::Infallible;

        async fn metadata(&self, path: &str, _: u64) -> Result<Option<Vec<u8>>, Self::Error> {
            Ok(self.files.get(path).cloned())
        }
    }

    impl Repository {
        fn new() -> Self {
            let (key, _) = Ed25519Signer::generate().unwrap();
            let mut root = RootEditor::new(LATER);
            for role in [Role::Root, Role::Targets, Role::Snapshot, Role::Timestamp] {
                root = root.add_key(&role, key.public_key());
            }
            let root = root.build().unwrap().sign(&key).unwrap().bytes();
            let files = BTreeMap::from([("1.root.json".to_owned(), root)]);
            let mut made = Self { key, files };
            made.publish(1);
            made
        }

        fn root(&self) -> &[u8] {
            &self.files["1.root.json"]
        }

        fn publish(&mut self, version: u64) {
            let targets = TargetsEditor::new(LATER).version(version);
            let targets = targets.build().unwrap().sign(&self.key).unwrap().bytes();
            let snapshot = SnapshotEditor::new(version, LATER).role(&Role::Targets, version, &targets);
            let snapshot = snapshot.build().unwrap().sign(&self.key).unwrap().bytes();
            let timestamp = TimestampEditor::new(version, LATER, version, &snapshot);
            let timestamp = timestamp.build().unwrap().sign(&self.key).unwrap().bytes();
            self.files.insert(format!("{version}.targets.json"), targets);
            self.files.insert(format!("{version}.snapshot.json"), snapshot);
            self.files.insert("timestamp.json".to_owned(), timestamp);
        }

        fn refresh(&self, store: &TrustStore) -> Result<TrustedState, String> {
            let state = store.load().map_err(|e| format!("{e:?}"))?;
            let mut future = pin!(refresh(store, state, self, NOW, Limits::default()));
            let ready = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            let Poll::Ready((state, outcome)) = ready else {
                panic!("the refresh waits for something");
            };
            outcome.map(|_| state).map_err(|e| format!("{e:?}"))
        }
    }

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
        let mut future = pin!(refresh(&store, begun, &repository, NOW, Limits::default()));
        let ready = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready((refreshed, Ok(_))) = ready else {
            panic!("the refresh failed");
        };
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
        for version in 1..4 {
            let before = &repository.files[&format!("{version}.root.json")];
            let next = RootEditor::from_existing(before).unwrap().build().unwrap();
            let next = next.sign(&repository.key).unwrap().bytes();
            repository
                .files
                .insert(format!("{}.root.json", version + 1), next);
        }
        repository.files.remove("timestamp.json");
        let seen = std::cell::RefCell::new(Vec::new());
        let state = store.load().unwrap();
        let mut future = pin!(refresh_with(
            &store,
            state,
            &repository,
            NOW,
            Limits::default(),
            |file, _| seen.borrow_mut().push(file.to_owned())
        ));
        let ready = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(ready, Poll::Ready((_, Err(RefreshError::Verify(_))))));
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
}
