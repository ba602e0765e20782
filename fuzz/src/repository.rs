//! A repository in memory whose keys are known: the same in every run, so that an input says the same in every run.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::LazyLock;

use serde_json::{Value, json};
use tuf::editor::{RootEditor, Signed, SnapshotEditor, TargetsEditor, TimestampEditor, Unsigned};
use tuf::schema::{DelegatedRole, Hashes, MetaFile, Metadata, RoleKeys};
use tuf::{
    Digest, Ed25519Signer, Error, Limits, Next, Role, Search, Signer as _, TargetFile, TrustedState,
    UnixTime, Update,
};

pub const NOW: UnixTime = UnixTime(1_800_000_000);
const YEAR: i64 = 365 * 24 * 60 * 60;
/// More files than any refresh of a few roots and roles may ask for.
const FETCHES: usize = 2_000;

pub static REPOSITORY: LazyLock<Repository> = LazyLock::new(Repository::new);

/// Version 2 of everything, and a client that holds version 1.
pub struct Repository {
    keys: BTreeMap<Role, Ed25519Signer>,
    pub root: Vec<u8>,
    pub files: BTreeMap<String, Vec<u8>>,
    pub client: TrustedState,
}

pub fn team() -> Role {
    Role::Delegated("team".to_owned())
}

pub fn roles() -> [Role; 5] {
    [Role::Root, Role::Timestamp, Role::Snapshot, Role::Targets, team()]
}

/// PKCS#8 around a seed that everybody knows.
fn key(number: u8) -> Ed25519Signer {
    const HEAD: [u8; 16] = [
        0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20,
    ];
    Ed25519Signer::from_pkcs8(&[&HEAD[..], &[number; 32]].concat()).expect("a key")
}

fn signed<T: Metadata>(unsigned: Result<Unsigned<T>, Error>, key: &Ed25519Signer) -> Vec<u8> {
    unsigned.expect("metadata").sign(key).expect("signed").bytes()
}

impl Repository {
    fn new() -> Self {
        let keys: BTreeMap<Role, Ed25519Signer> = roles().into_iter().zip((1..).map(key)).collect();
        let mut editor = RootEditor::new(NOW.plus_seconds(YEAR));
        for role in &roles()[..4] {
            editor = editor.add_key(role, keys[role].public_key());
        }
        let root = signed(editor.build(), &keys[&Role::Root]);
        let client = TrustedState::init(&root, None, &Limits::default()).expect("a first root");
        let mut made = Self {
            keys,
            files: BTreeMap::new(),
            root,
            client,
        };
        made.publish(1);
        let (mut client, verdict) = refresh(made.client.clone(), &made.files);
        verdict.expect("version 1");
        client.raise_release_floor("thermostat", 7);
        made.client = client;
        made.files.clear();
        let next = RootEditor::from_existing(&made.root).and_then(|editor| editor.version(2).build());
        let next = signed(next, &made.keys[&Role::Root]);
        made.files.insert("2.root.json".to_owned(), next);
        made.publish(2);
        made
    }

    fn publish(&mut self, version: u64) {
        let expires = NOW.plus_seconds(YEAR);
        let target = |name: &str| TargetFile {
            length: name.len() as u64,
            hashes: Hashes::sha256(Digest::of(name.as_bytes())),
            custom: Some(json!({"drover": crate::manifest::description()})),
        };
        let editor = TargetsEditor::new(expires).version(version);
        let name = format!("team/{version}/app");
        let of_team = signed(
            editor.clone().add_target(&name, &target(&name)).build(),
            &self.keys[&team()],
        );
        let delegation = DelegatedRole {
            name: team().name().to_owned(),
            keys: RoleKeys {
                keyids: Vec::new(),
                threshold: NonZeroU32::MIN,
            },
            terminating: false,
            paths: Some(vec!["team/*/*".to_owned()]),
            path_hash_prefixes: None,
        };
        let name = format!("app/{version}/app");
        let top = editor
            .add_target(&name, &target(&name))
            .delegate(delegation, &[self.keys[&team()].public_key()]);
        let targets = signed(top.build(), &self.keys[&Role::Targets]);
        let snapshot = SnapshotEditor::new(version, expires)
            .role(&Role::Targets, version, &targets)
            .role(&team(), version, &of_team);
        let snapshot = signed(snapshot.build(), &self.keys[&Role::Snapshot]);
        let timestamp = TimestampEditor::new(version, expires, version, &snapshot).signed_at(NOW);
        let timestamp = signed(timestamp.build(), &self.keys[&Role::Timestamp]);
        for (role, bytes) in [
            (team(), of_team),
            (Role::Targets, targets),
            (Role::Snapshot, snapshot),
        ] {
            self.files.insert(role.versioned_file_name(version), bytes);
        }
        self.files.insert(Role::Timestamp.file_name(), timestamp);
    }

    pub fn file(&self, role: &Role) -> &[u8] {
        &self.files[&path(role)]
    }

    /// The signed part of a role's file.
    pub fn value(&self, role: &Role) -> Value {
        let file: Value = serde_json::from_slice(self.file(role)).expect("JSON of our own");
        file["signed"].clone()
    }

    /// A role's file around a signed part; none where that has no canonical form.
    pub fn forged(&self, role: &Role, value: &Value) -> Option<Vec<u8>> {
        let message = tuf::canonical::to_bytes(value).ok()?;
        let key = &self.keys[role];
        let signature = key.sign(&message).expect("signed");
        let hex: String = signature.iter().map(|byte| format!("{byte:02x}")).collect();
        let file = json!({"signatures": [{"keyid": key.public_key().id(), "sig": hex}], "signed": value});
        serde_json::to_vec(&file).ok()
    }

    /// What is served with another file for a role, and everything in front of it signed again, so that the change is
    /// reached; with its length and hash (`described`) or without.
    pub fn with(&self, role: &Role, bytes: Vec<u8>, described: bool) -> BTreeMap<String, Vec<u8>> {
        let mut files = self.files.clone();
        let (mut role, mut bytes) = (role.clone(), bytes);
        loop {
            files.insert(path(&role), bytes.clone());
            let parent = match role {
                Role::Root | Role::Timestamp => return files,
                Role::Snapshot => Role::Timestamp,
                _ => Role::Snapshot,
            };
            let entry = if described {
                MetaFile::of_bytes(2, &bytes)
            } else {
                MetaFile::of_version(2)
            };
            let mut above = self.value(&parent);
            above["meta"][role.meta_name()] = json!(entry);
            bytes = self.forged(&parent, &above).expect("canonical JSON");
            role = parent;
        }
    }
}

fn path(role: &Role) -> String {
    match role {
        Role::Timestamp => role.file_name(),
        _ => role.versioned_file_name(2),
    }
}

/// One refresh with all delegated roles; the state comes back whatever happened.
pub fn refresh(state: TrustedState, files: &BTreeMap<String, Vec<u8>>) -> (TrustedState, Result<(), Error>) {
    let mut update = Update::start(state, NOW, Limits::default()).with_delegations();
    for _ in 0..FETCHES {
        let Next::Fetch(request) = update.next() else {
            return (update.into_state(), Ok(()));
        };
        let verdict = match files.get(&request.path) {
            Some(bytes) => {
                let end = bytes
                    .len()
                    .min(usize::try_from(request.max_length).map_or(usize::MAX, |max| max + 1));
                update.supply(&bytes[..end]).map(drop)
            }
            None => update.missing(),
        };
        if let Err(error) = verdict {
            // Its words are for people: they must be there.
            assert!(!error.to_string().is_empty());
            let _ = error.attack();
            return (update.into_state(), Err(error));
        }
    }
    panic!("a refresh without an end");
}

/// Whatever a state holds can be stored, read back, looked at and asked.
pub fn live_with(state: &TrustedState, files: &BTreeMap<String, Vec<u8>>) {
    let (bytes, floors) = (state.to_bytes(), state.floors_bytes());
    let again = TrustedState::from_parts(&bytes, Some(&floors)).expect("a state of our own");
    // A stored state whose floors contradict each other is none of our own; it loses what lies below the higher one.
    assert!(
        again.to_bytes() == bytes || again.floors_bytes() == floors,
        "another state"
    );
    let _ = (state.stale_since(NOW), state.is_complete(), state.not_before());
    for (_, target) in state.all_targets() {
        if let Some(Ok(release)) = target.custom.as_ref().map(release::Release::from_custom) {
            release.to_custom().expect("what was read can be written");
        }
    }
    for name in ["app/2/app", "team/x/y"] {
        let Ok(mut search) = Search::start(state.clone(), name, NOW, Limits::default()) else {
            continue;
        };
        let mut fetches = 0;
        while let Next::Fetch(request) = search.next() {
            fetches += 1;
            assert!(fetches < FETCHES, "a search without an end");
            let verdict = match files.get(&request.path) {
                Some(bytes) => search.supply(bytes).map(drop),
                None => search.missing(),
            };
            if verdict.is_err() {
                break;
            }
        }
        let _ = search.found();
    }
}

/// Reads a file as its role's editor and an upload's judge would.
pub fn read_otherwise(role: &Role, bytes: &[u8]) {
    let _ = tuf::unverified_version(bytes);
    let (state, limits) = (&REPOSITORY.client, Limits::default());
    let file = [bytes.to_vec()];
    let delegated = [(team().name().to_owned(), bytes.to_vec())];
    let none = tuf::NewFiles::default();
    let new = match role {
        Role::Root => {
            let _ = Signed::<tuf::Root>::from_bytes(bytes).map(|file| file.view());
            let _ = RootEditor::from_existing(bytes);
            let _ = TrustedState::init(bytes, None, &limits);
            tuf::NewFiles { roots: &file, ..none }
        }
        Role::Timestamp => return drop(Signed::<tuf::Timestamp>::from_bytes(bytes).map(|file| file.view())),
        Role::Snapshot => return drop(Signed::<tuf::Snapshot>::from_bytes(bytes).map(|file| file.view())),
        Role::Targets => {
            let _ = Signed::<tuf::Targets>::from_bytes(bytes).map(|file| file.view());
            let _ = TargetsEditor::from_existing(bytes).map(|editor| editor.build());
            tuf::NewFiles {
                targets: Some(bytes),
                ..none
            }
        }
        Role::Delegated(_) => tuf::NewFiles {
            delegated: &delegated,
            ..none
        },
    };
    let _ = tuf::verify_upload(state, new, NOW, &limits);
}
