//! A repository in memory, with every private key at hand: what an honest one and what a thief can sign.

use std::collections::BTreeMap;

use tuf::editor::{RootEditor, Signed, SnapshotEditor, TargetsEditor, TimestampEditor, Unsigned};
use tuf::schema::{Hashes, MetaFile, Metadata, TargetFile};
use tuf::{
    Digest, Ed25519Signer, Error, Limits, Next, Request, Role, Root, Signer as _, Snapshot, Targets,
    Timestamp, TrustedState, UnixTime, Update,
};

pub(crate) const NOW: UnixTime = UnixTime(1_800_000_000);
pub(crate) const DAY: i64 = 24 * 60 * 60;
pub(crate) const BUILT: UnixTime = UnixTime(1_790_000_000);

pub(crate) fn key() -> Ed25519Signer {
    Ed25519Signer::generate().unwrap().0
}

pub(crate) fn sign<T: Metadata>(unsigned: Unsigned<T>, keys: &[Ed25519Signer]) -> Vec<u8> {
    let signed: Signed<T> = unsigned.into_signed().unwrap();
    keys.iter()
        .fold(signed, |signed, key| signed.sign(key).unwrap())
        .bytes()
}

/// What the next publication will say; every field may be bent before [`Repo::publish`].
pub(crate) struct Repo {
    pub(crate) keys: BTreeMap<Role, Vec<Ed25519Signer>>,
    pub(crate) root: Vec<u8>,
    pub(crate) targets: TargetsEditor,
    pub(crate) versions: BTreeMap<Role, u64>,
    pub(crate) expires: BTreeMap<Role, UnixTime>,
    pub(crate) signed_at: Option<UnixTime>,
    pub(crate) now: UnixTime,
    /// What is served, by path.
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// What was asked for, in order.
    pub(crate) asked: Vec<String>,
}

impl Repo {
    /// Root, targets, snapshot and timestamp of version 1.
    pub(crate) fn new() -> Self {
        let roles = [Role::Root, Role::Timestamp, Role::Snapshot, Role::Targets];
        let keys: BTreeMap<_, _> = roles.iter().map(|role| (role.clone(), vec![key()])).collect();
        let lifetimes = [365, 14, 14, 180];
        let expires: BTreeMap<_, _> = roles
            .iter()
            .cloned()
            .zip(lifetimes.map(|days| NOW.plus_seconds(days * DAY)))
            .collect();
        let mut editor = RootEditor::new(expires[&Role::Root]);
        for (role, keys) in &keys {
            editor = editor.add_key(role, keys[0].public_key());
        }
        let root = sign(editor.build().unwrap(), &keys[&Role::Root]);
        let mut repo = Self {
            root: root.clone(),
            targets: TargetsEditor::new(expires[&Role::Targets]),
            versions: roles.into_iter().map(|role| (role, 1)).collect(),
            keys,
            expires,
            signed_at: Some(NOW),
            now: NOW,
            files: BTreeMap::from([("1.root.json".to_owned(), root)]),
            asked: Vec::new(),
        };
        repo.add_target("app/1.0.0/app", b"one");
        repo.publish();
        repo
    }

    pub(crate) fn add_target(&mut self, name: &str, bytes: &[u8]) {
        let target = TargetFile {
            length: bytes.len() as u64,
            hashes: Hashes::sha256(Digest::of(bytes)),
            custom: None,
        };
        self.targets = self.targets.clone().add_target(name, &target);
    }

    pub(crate) fn version(&self, role: &Role) -> u64 {
        self.versions[role]
    }

    pub(crate) fn bump(&mut self, role: &Role) -> u64 {
        let version = self.versions.get_mut(role).unwrap();
        *version += 1;
        *version
    }

    pub(crate) fn next_version(&mut self) {
        for role in [Role::Targets, Role::Snapshot, Role::Timestamp] {
            self.bump(&role);
        }
    }

    /// Signs and serves targets, snapshot and timestamp as they are described now.
    pub(crate) fn publish(&mut self) {
        let targets = self.targets_file();
        self.serve(&Role::Targets, targets);
        self.publish_snapshot();
    }

    /// Signs and serves snapshot and timestamp over the targets served.
    pub(crate) fn publish_snapshot(&mut self) {
        let snapshot = self.snapshot_file();
        self.serve(&Role::Snapshot, snapshot);
        self.publish_timestamp();
    }

    pub(crate) fn publish_timestamp(&mut self) {
        let version = self.version(&Role::Snapshot);
        let snapshot = &self.files[&Role::Snapshot.versioned_file_name(version)];
        let entry = MetaFile::of_bytes(version, snapshot);
        self.publish_timestamp_of(&entry);
    }

    pub(crate) fn publish_timestamp_of(&mut self, entry: &MetaFile) {
        let mut editor = TimestampEditor::with_entry(
            self.version(&Role::Timestamp),
            self.expires[&Role::Timestamp],
            entry,
        );
        if let Some(signed_at) = self.signed_at {
            editor = editor.signed_at(signed_at);
        }
        let bytes = sign(editor.build().unwrap(), &self.keys[&Role::Timestamp]);
        self.files.insert("timestamp.json".to_owned(), bytes);
    }

    pub(crate) fn targets_file(&self) -> Vec<u8> {
        let editor = self
            .targets
            .clone()
            .version(self.version(&Role::Targets))
            .expires(self.expires[&Role::Targets]);
        sign(editor.build().unwrap(), &self.keys[&Role::Targets])
    }

    pub(crate) fn snapshot_file(&self) -> Vec<u8> {
        let version = self.version(&Role::Targets);
        let targets = &self.files[&Role::Targets.versioned_file_name(version)];
        let editor = SnapshotEditor::new(self.version(&Role::Snapshot), self.expires[&Role::Snapshot]).role(
            &Role::Targets,
            version,
            targets,
        );
        sign(editor.build().unwrap(), &self.keys[&Role::Snapshot])
    }

    pub(crate) fn serve(&mut self, role: &Role, bytes: Vec<u8>) {
        let path = role.versioned_file_name(self.version(role));
        self.files.insert(path, bytes);
    }

    /// Changes the root, signed by the keys before and after the change.
    pub(crate) fn new_root(
        &mut self,
        change: impl FnOnce(RootEditor) -> RootEditor,
        extra: &[Ed25519Signer],
    ) {
        let editor = change(RootEditor::from_existing(&self.root).unwrap());
        let signed = editor.build().unwrap().into_signed().unwrap();
        let signers = self.keys[&Role::Root].iter().chain(extra);
        let root = signers
            .fold(signed, |signed, key| signed.sign(key).unwrap())
            .bytes();
        self.bump(&Role::Root);
        self.serve(&Role::Root, root.clone());
        self.root = root;
    }

    /// A new key for a role in place of the old ones, in a new root.
    pub(crate) fn rotate(&mut self, role: &Role) {
        let new = key();
        let public = new.public_key();
        self.new_root(
            |root| root.set_keys(role, vec![public], 1),
            std::slice::from_ref(&new),
        );
        self.keys.insert(role.clone(), vec![new]);
    }

    /// A verifier that has seen nothing but the first root.
    pub(crate) fn client(&self) -> TrustedState {
        TrustedState::init(&self.files["1.root.json"], Some(BUILT), &Limits::default()).unwrap()
    }

    /// One whole refresh; the state comes back whatever happened.
    pub(crate) fn refresh(&mut self, state: TrustedState) -> (TrustedState, Result<(), Error>) {
        let mut update = Update::start(state, self.now, Limits::default());
        self.asked.clear();
        let verdict = loop {
            let Next::Fetch(Request { path, max_length, .. }) = update.next() else {
                break Ok(());
            };
            self.asked.push(path.clone());
            let verdict = match self.files.get(&path) {
                Some(bytes) => {
                    // One byte more than allowed shows the verifier that there is more.
                    let end = bytes.len().min(usize::try_from(max_length).unwrap() + 1);
                    update.supply(&bytes[..end]).map(drop)
                }
                None => update.missing(),
            };
            if verdict.is_err() {
                assert_eq!(update.next(), Next::Done);
                break verdict;
            }
        };
        (update.into_state(), verdict)
    }

    /// A refresh that must fail; the state comes back with the reason.
    pub(crate) fn refused(&mut self, state: TrustedState) -> (TrustedState, Error) {
        let (state, verdict) = self.refresh(state);
        (state, verdict.expect_err("the refresh should have been refused"))
    }

    /// A repository and a verifier that has seen version 2 of everything but the root.
    pub(crate) fn seen_two() -> (Self, TrustedState) {
        let mut repo = Self::new();
        repo.next_version();
        repo.publish();
        let client = repo.client();
        let client = repo.refreshed(client);
        (repo, client)
    }

    /// The path of the file that serves a role now.
    pub(crate) fn path(&self, role: &Role) -> String {
        match role {
            Role::Timestamp => role.file_name(),
            _ => role.versioned_file_name(self.version(role)),
        }
    }

    /// Replaces a role's file and signs again whatever lies in front of it, so that the change is reached.
    pub(crate) fn replace(&mut self, role: &Role, bytes: Vec<u8>) {
        let path = self.path(role);
        self.files.insert(path, bytes);
        match role {
            Role::Targets => self.publish_snapshot(),
            Role::Snapshot => self.publish_timestamp(),
            _ => {}
        }
    }

    /// The same for a change of the signed part, signed by these keys.
    pub(crate) fn forge(
        &mut self,
        role: &Role,
        keys: &[&Ed25519Signer],
        change: impl FnOnce(&mut serde_json::Value),
    ) {
        let bytes = forge(&self.files[&self.path(role)], keys, change);
        self.replace(role, bytes);
    }

    /// The same, signed by the role's own keys.
    pub(crate) fn bend(&mut self, role: &Role, change: impl FnOnce(&mut serde_json::Value)) {
        let keys: Vec<_> = self.keys[role].iter().collect();
        let bytes = forge(&self.files[&self.path(role)], &keys, change);
        self.replace(role, bytes);
    }

    pub(crate) fn refreshed(&mut self, state: TrustedState) -> TrustedState {
        let (state, verdict) = self.refresh(state);
        verdict.unwrap();
        assert!(state.is_complete());
        state
    }
}

/// Versions held: root, timestamp, snapshot, targets; 0 for none.
pub(crate) fn versions(state: &TrustedState) -> [u64; 4] {
    [
        state.root().version,
        state.timestamp().map_or(0, Timestamp::version),
        state.snapshot().map_or(0, Snapshot::version),
        state.targets().map_or(0, Targets::version),
    ]
}

/// The same file, changed and signed again by these keys: for what the editors refuse to make.
pub(crate) fn forge(
    bytes: &[u8],
    keys: &[&Ed25519Signer],
    change: impl FnOnce(&mut serde_json::Value),
) -> Vec<u8> {
    use serde_json::{Value, json};
    let mut file: Value = serde_json::from_slice(bytes).unwrap();
    change(&mut file["signed"]);
    let message = tuf::canonical::to_bytes(&file["signed"]).unwrap();
    let sign = |key: &&Ed25519Signer| json!({"keyid": key.public_key().id(), "sig": hex::encode(key.sign(&message).unwrap())});
    file["signatures"] = keys.iter().map(sign).collect();
    serde_json::to_vec(&file).unwrap()
}

pub(crate) fn root_of(bytes: &[u8]) -> Root {
    Signed::<Root>::from_bytes(bytes).unwrap().view().unwrap()
}
