//! The stored trusted state under every kind of harm, each file alone and both together, and then every older
//! signed file again: nothing older than what one whole copy remembers is accepted, and the way back works.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use durable::{TrustError, TrustStore};
use proptest::prelude::*;
use tuf::{Role, TrustedState};

use crate::repository::{Repository, TEAM, target};

type Files = BTreeMap<String, Vec<u8>>;

/// A verifier's life: after each publication a copy of what it stored and of what the repository served.
struct Life {
    temp: tempfile::TempDir,
    repository: Repository,
    /// By step, from 0 on: the stored files.
    stored: Vec<Files>,
    /// By step: what was served.
    served: Vec<Files>,
    /// By step: versions held.
    held: Vec<[u64; 5]>,
}

/// Steps of a life, the last one the newest.
const STEPS: usize = 5;

fn versions(state: &TrustedState) -> [u64; 5] {
    [
        state.root().version,
        state.timestamp().map_or(0, |role| role.version),
        state.snapshot().map_or(0, |role| role.version),
        state.targets().map_or(0, |role| role.version),
        state.delegated(TEAM).map_or(0, |role| role.version),
    ]
}

fn read_all(dir: &Path) -> Files {
    let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, std::fs::read(entry.path()).unwrap())
        })
        .collect()
}

impl Life {
    fn lived() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let repository = Repository::new();
        let store = TrustStore::create(temp.path().join("trust"), repository.root(), None).unwrap();
        let mut life = Self {
            temp,
            repository,
            stored: Vec::new(),
            served: Vec::new(),
            held: Vec::new(),
        };
        for step in 0..STEPS {
            match step {
                0 => {}
                1 => life.repository.publish(2),
                // The repository's keys were stolen: a new root takes both floors down.
                2 => {
                    life.repository.new_root(&[Role::Timestamp, Role::Snapshot]);
                    life.repository.publish(3);
                }
                // The routine of a day without news.
                3 => life.repository.publish_all(3, 3, 4),
                _ => life.repository.publish(5),
            }
            life.live(&store, step);
        }
        assert_eq!(life.held.last(), Some(&[2, 5, 5, 5, 5]));
        assert_eq!(
            life.stored[0].len(),
            2,
            "a new stored file needs its place in these tests"
        );
        life
    }

    fn live(&mut self, store: &TrustStore, step: usize) {
        self.repository.refresh(store).unwrap();
        let (mut state, found) = self.repository.look_up(store, "team/app");
        assert!(found.unwrap().is_some());
        state.raise_release_floor("app", step as u64);
        let state = store.save(&state).unwrap();
        self.held.push(versions(&state));
        self.stored.push(read_all(store.dir()));
        self.served.push(self.repository.files.clone());
    }

    fn dir(&self) -> PathBuf {
        self.temp.path().join("trust")
    }

    fn put(&self, name: &str, bytes: Option<&[u8]>) {
        let path = self.dir().join(name);
        match bytes {
            Some(bytes) => std::fs::write(path, bytes).unwrap(),
            None => drop(std::fs::remove_file(path)),
        }
    }

    /// Everything an attacker on the network can serve who has kept each signed file: the repository of each step
    /// before `until`, its timestamp with today's other files, and today's without the newest root.
    fn replays(&self, until: usize) -> Vec<(String, Files)> {
        let newest = self.served.last().unwrap();
        let mut replays = Vec::new();
        for step in 0..until {
            let old = &self.served[step];
            replays.push((format!("all of step {step}"), old.clone()));
            for root in [true, false] {
                let mut mixed = newest.clone();
                mixed.insert("timestamp.json".to_owned(), old["timestamp.json"].clone());
                if !root {
                    mixed.remove("2.root.json");
                }
                replays.push((format!("the timestamp of step {step}, roots: {root}"), mixed));
            }
        }
        replays
    }

    /// Replays everything older than step `remembered` at what is stored; then the repository of today brings all back.
    fn nothing_older_then_all_is_well(&mut self, remembered: usize, what: &str) {
        for (replay, files) in self.replays(remembered) {
            self.repository.files = files;
            let store = TrustStore::open(self.dir()).unwrap();
            let refused = self.repository.refresh(&store);
            assert!(refused.is_err(), "{what}: {replay} is accepted");
            let state = TrustStore::open(self.dir()).unwrap().load().unwrap();
            self.holds_nothing_older(&state, remembered, &format!("{what}: {replay}"));
        }
        self.repository.files = self.served.last().unwrap().clone();
        let store = TrustStore::open(self.dir()).unwrap();
        let state = self.repository.refresh(&store).unwrap();
        assert!(state.is_complete());
        let (state, found) = self.repository.look_up(&store, "team/app");
        assert_eq!(found.unwrap().unwrap().1, target("team/app", 5), "{what}");
        assert_eq!(Some(&versions(&state)), self.held.last(), "{what}");
        assert_eq!(state.release_floor("app"), remembered as u64, "{what}");
    }

    fn holds_nothing_older(&self, state: &TrustedState, remembered: usize, what: &str) {
        let held = versions(state);
        for (held, floor) in held.iter().zip(self.held[remembered]).skip(1) {
            assert!(
                *held == 0 || *held >= floor,
                "{what}: {held} is held, below {floor}"
            );
        }
        let oldest = self.held[remembered][3];
        for name in ["app", "team/app"] {
            let served = state.target(name);
            let newer = (oldest..=5).map(|version| target(name, version));
            assert!(
                served.is_none_or(|it| newer.into_iter().any(|newer| *it == newer)),
                "{what}"
            );
        }
        assert!(state.release_floor("app") >= remembered as u64, "{what}");
    }

    /// Stored files as they are after `harm`; then what a program would do, and the way back. Gives nothing: asserts.
    fn suffers(&mut self, harms: [(&str, &Harm); 2]) {
        let what = format!("{harms:?}");
        let newest = self.stored.last().unwrap().clone();
        let mut remembered = None;
        let mut broken = false;
        for (name, harm) in harms {
            let other = newest.iter().find(|(other, _)| *other != name).unwrap().1;
            let bytes = match harm {
                Harm::None => Some(newest[name].clone()),
                Harm::PutBack(step) => Some(self.stored[*step][name].clone()),
                Harm::Swapped => Some(other.clone()),
                Harm::Removed => None,
                Harm::Broken(flaw) => Some(flaw(&newest[name])),
            };
            match harm {
                Harm::None => remembered = remembered.max(Some(STEPS - 1)),
                Harm::PutBack(step) => remembered = remembered.max(Some(*step)),
                _ => broken = true,
            }
            self.put(name, bytes.as_deref());
        }
        let loaded = TrustStore::open(self.dir()).unwrap().load();
        if broken {
            let error = loaded.expect_err(&what);
            assert!(
                matches!(error, TrustError::StateDamaged { .. }),
                "{what}: {error:?}"
            );
            let root = self.repository.root().to_vec();
            let recovered = TrustStore::recover(self.dir(), &root, None);
            if remembered.is_none() {
                let error = recovered.expect_err(&what);
                assert!(
                    matches!(error, TrustError::StateDamaged { .. }),
                    "{what}: {error:?}"
                );
                return;
            }
            self.holds_nothing_older(&recovered.unwrap().1, remembered.unwrap(), &what);
        } else {
            self.holds_nothing_older(&loaded.unwrap(), remembered.unwrap(), &what);
        }
        self.nothing_older_then_all_is_well(remembered.unwrap(), &what);
    }
}

/// What a file becomes.
type Flaw = Arc<dyn Fn(&[u8]) -> Vec<u8>>;

/// What happens to one stored file.
#[derive(Clone)]
enum Harm {
    None,
    /// The copy of an earlier step.
    PutBack(usize),
    /// The other file's bytes in its place.
    Swapped,
    Removed,
    Broken(Flaw),
}

impl std::fmt::Debug for Harm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("whole"),
            Self::PutBack(step) => write!(f, "put back from step {step}"),
            Self::Swapped => f.write_str("swapped"),
            Self::Removed => f.write_str("removed"),
            Self::Broken(flaw) => write!(f, "broken to {} bytes of 1000", flaw(&[1; 1000]).len()),
        }
    }
}

fn broken(flaw: impl Fn(&[u8]) -> Vec<u8> + 'static) -> Harm {
    Harm::Broken(Arc::new(flaw))
}

fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let at = at % bytes.len();
    bytes[at] ^= 1 << (at % 8);
    bytes
}

/// One of each kind.
fn kinds() -> Vec<Harm> {
    let mut harms = vec![
        Harm::None,
        Harm::Swapped,
        Harm::Removed,
        broken(|_| Vec::new()),
        broken(|bytes| bytes[..bytes.len() / 2].to_vec()),
        broken(|bytes| vec![0; bytes.len()]),
        broken(|bytes| flipped(bytes, bytes.len() / 3)),
    ];
    harms.extend((0..STEPS - 1).map(Harm::PutBack));
    harms
}

#[test]
fn every_harm_alone_and_together_brings_nothing_older_back() {
    let mut life = Life::lived();
    let kinds = kinds();
    for state in &kinds {
        for floors in &kinds {
            life.suffers([("state.rec", state), ("floors.rec", floors)]);
        }
    }
}

/// One copy is put back, the program runs, then the other one: the program must not have left the first one as it was.
#[test]
fn old_copies_put_back_one_after_the_other_bring_nothing_older_back() {
    let mut life = Life::lived();
    let newest = life.stored.last().unwrap().clone();
    for step in 0..STEPS - 1 {
        for order in [["state.rec", "floors.rec"], ["floors.rec", "state.rec"]] {
            for (name, bytes) in &newest {
                life.put(name, Some(bytes));
            }
            for name in order {
                let old = life.stored[step][name].clone();
                life.put(name, Some(&old));
                // A start of the program, without any network.
                let store = TrustStore::open(life.dir()).unwrap();
                let state = store.take_up().unwrap();
                life.holds_nothing_older(&state, STEPS - 1, &format!("{name} of step {step}"));
            }
            life.nothing_older_then_all_is_well(STEPS - 1, &format!("{order:?} of step {step}"));
        }
    }
}

#[test]
fn taking_up_what_is_whole_writes_nothing() {
    let life = Life::lived();
    let before = life.stored.last().unwrap();
    let written = |dir: &Path| {
        let times = std::fs::read_dir(dir).unwrap().map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name(), entry.metadata().unwrap().modified().unwrap())
        });
        times.collect::<BTreeMap<_, _>>()
    };
    let times = written(&life.dir());
    let state = TrustStore::open(life.dir()).unwrap().take_up().unwrap();
    assert_eq!(versions(&state), [2, 5, 5, 5, 5]);
    assert_eq!(&read_all(&life.dir()), before);
    assert_eq!(written(&life.dir()), times);
}

#[test]
fn the_way_back_forgets_nothing_that_either_copy_remembers() {
    // A person repairs what was not broken, while one copy is an old one: the other still counts.
    let mut life = Life::lived();
    let root = life.repository.root().to_vec();
    for old in ["state.rec", "floors.rec"] {
        for (name, bytes) in life.stored.last().unwrap().clone() {
            let bytes = if name == old {
                life.stored[0][old].clone()
            } else {
                bytes
            };
            life.put(&name, Some(&bytes));
        }
        let (_, state) = TrustStore::recover(life.dir(), &root, None).unwrap();
        life.holds_nothing_older(&state, STEPS - 1, old);
        life.nothing_older_then_all_is_well(STEPS - 1, old);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// Any place of any file: torn there, a bit flipped there, NULs from there on.
    #[test]
    fn harm_at_any_place_brings_nothing_older_back(
        at in any::<prop::sample::Index>(),
        kind in 0..3_u8,
        state in any::<bool>(),
        old in prop::option::of(0..STEPS - 1),
    ) {
        let mut life = Life::lived();
        let harm = broken(move |bytes| {
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[..at].to_vec(),
                1 => flipped(bytes, at),
                _ => [&bytes[..at], &vec![0; bytes.len() - at]].concat(),
            }
        });
        let other = old.map_or(Harm::None, Harm::PutBack);
        let (state, floors) = if state { (&harm, &other) } else { (&other, &harm) };
        life.suffers([("state.rec", state), ("floors.rec", floors)]);
    }
}
