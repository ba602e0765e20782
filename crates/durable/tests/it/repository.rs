//! A repository in memory whose every file is validly signed: what a thief may replay.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

use durable::{Fetch, RefreshError, TrustStore};
use tuf::editor::{RootEditor, SnapshotEditor, TargetsEditor, TimestampEditor};
use tuf::schema::{DelegatedRole, Hashes, RoleKeys};
use tuf::{Digest, Ed25519Signer, Limits, Role, Signer, TargetFile, TrustedState, UnixTime};

pub(crate) const NOW: UnixTime = UnixTime(1_800_000_000);
pub(crate) const LATER: UnixTime = UnixTime(1_900_000_000);
/// The role that the targets delegate `team/*` to.
pub(crate) const TEAM: &str = "team";

pub(crate) struct Repository {
    keys: BTreeMap<Role, Ed25519Signer>,
    root: Vec<u8>,
    /// What is served, by path.
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// What was asked for, in order.
    asked: Mutex<Vec<String>>,
}

impl Fetch for Repository {
    type Error = Infallible;

    async fn metadata(&self, path: &str, _: u64) -> Result<Option<Vec<u8>>, Infallible> {
        self.asked.lock().unwrap().push(path.to_owned());
        Ok(self.files.get(path).cloned())
    }
}

fn key() -> Ed25519Signer {
    Ed25519Signer::generate().unwrap().0
}

impl Repository {
    /// Version 1 of everything.
    pub(crate) fn new() -> Self {
        let roles = [Role::Root, Role::Targets, Role::Snapshot, Role::Timestamp];
        let team = Role::Delegated(TEAM.to_owned());
        let mut keys: BTreeMap<Role, Ed25519Signer> =
            roles.iter().map(|role| (role.clone(), key())).collect();
        let mut root = RootEditor::new(LATER);
        for (role, key) in &keys {
            root = root.add_key(role, key.public_key());
        }
        let root = root.build().unwrap().sign(&keys[&Role::Root]).unwrap().bytes();
        keys.insert(team, key());
        let files = BTreeMap::from([("1.root.json".to_owned(), root.clone())]);
        let mut made = Self {
            keys,
            root,
            files,
            asked: Mutex::default(),
        };
        made.publish(1);
        made
    }

    /// The first root.
    pub(crate) fn root(&self) -> &[u8] {
        &self.files["1.root.json"]
    }

    pub(crate) fn publish(&mut self, version: u64) {
        self.publish_all(version, version, version);
    }

    /// Targets and team of one version, snapshot and timestamp of others.
    pub(crate) fn publish_all(&mut self, targets: u64, snapshot: u64, timestamp: u64) {
        let team = Role::Delegated(TEAM.to_owned());
        let app = |name: &str| (name.to_owned(), target(name, targets));
        let (name, file) = app("team/app");
        let by_team = TargetsEditor::new(LATER)
            .version(targets)
            .add_target(&name, &file);
        let by_team = by_team.build().unwrap().sign(&self.keys[&team]).unwrap().bytes();
        let delegation = DelegatedRole {
            name: TEAM.to_owned(),
            keys: RoleKeys {
                keyids: Vec::new(),
                threshold: NonZeroU32::MIN,
            },
            terminating: true,
            paths: Some(vec!["team/*".to_owned()]),
            path_hash_prefixes: None,
        };
        let (name, file) = app("app");
        let top = TargetsEditor::new(LATER)
            .version(targets)
            .add_target(&name, &file)
            .delegate(delegation, &[self.keys[&team].public_key()]);
        let top = top
            .build()
            .unwrap()
            .sign(&self.keys[&Role::Targets])
            .unwrap()
            .bytes();
        let listed = SnapshotEditor::new(snapshot, LATER)
            .role(&Role::Targets, targets, &top)
            .role(&team, targets, &by_team);
        let listed = listed
            .build()
            .unwrap()
            .sign(&self.keys[&Role::Snapshot])
            .unwrap()
            .bytes();
        let newest = TimestampEditor::new(timestamp, LATER, snapshot, &listed);
        let newest = newest
            .build()
            .unwrap()
            .sign(&self.keys[&Role::Timestamp])
            .unwrap()
            .bytes();
        self.files.insert(team.versioned_file_name(targets), by_team);
        self.files.insert(format!("{targets}.targets.json"), top);
        self.files.insert(format!("{snapshot}.snapshot.json"), listed);
        self.files.insert("timestamp.json".to_owned(), newest);
    }

    /// A newer root with new keys for these roles.
    pub(crate) fn new_root(&mut self, roles: &[Role]) {
        let mut editor = RootEditor::from_existing(&self.root).unwrap();
        let mut before = None;
        for role in roles {
            let new = key();
            editor = editor.set_keys(role, vec![new.public_key()], 1);
            let old = self.keys.insert(role.clone(), new);
            before = before.or(old.filter(|_| *role == Role::Root));
        }
        let mut signed = editor.build().unwrap().sign(&self.keys[&Role::Root]).unwrap();
        if let Some(before) = before {
            signed = signed.sign(&before).unwrap();
        }
        self.root = signed.bytes();
        let version = tuf::unverified_version(&self.root).unwrap();
        self.files
            .insert(format!("{version}.root.json"), self.root.clone());
    }

    /// What was asked for since the last call.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    /// One refresh from what is stored, as after a start of the program.
    pub(crate) fn refresh(&self, store: &TrustStore) -> Result<TrustedState, String> {
        let state = store.load().map_err(|e| format!("{e:?}"))?;
        let (state, outcome) = at_once(durable::refresh(store, state, self, NOW, Limits::default()));
        outcome.map(|_| state).map_err(|e| format!("{e:?}"))
    }

    /// One lookup in what is stored.
    pub(crate) fn look_up(
        &self,
        store: &TrustStore,
        name: &str,
    ) -> (TrustedState, Result<durable::Found, RefreshError<Infallible>>) {
        let state = store.load().unwrap();
        at_once(durable::look_up(store, state, self, name, NOW, Limits::default()))
    }
}

/// The target `name` in a version of its own.
pub(crate) fn target(name: &str, version: u64) -> TargetFile {
    let bytes = format!("{name} {version}").into_bytes();
    TargetFile {
        length: bytes.len() as u64,
        hashes: Hashes::sha256(Digest::of(&bytes)),
        custom: None,
    }
}

/// The outcome of what waits for nothing.
pub(crate) fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => panic!("the future waits for something"),
    }
}
