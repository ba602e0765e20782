//! Whole repositories in memory, made by our editors in every shape that the specification allows: for our own
//! verifiers and for other people's.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha512};
use tuf::editor::{RootEditor, Signed, SnapshotEditor, TargetsEditor, TimestampEditor, Unsigned};
use tuf::schema::{DelegatedRole, Hashes, MetaFile, Metadata, RoleKeys, TargetFile};
use tuf::{Digest, Ed25519Signer, PublicKey, Role, Signer, UnixTime, target_path};

use crate::forge::DAY;

/// Which hashes describe the targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithms {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
    /// Both.
    Both,
}

/// What a repository is like.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Whether names carry versions and hashes.
    pub consistent: bool,
    /// Keys of every role.
    pub keys: usize,
    /// How many of them must sign.
    pub threshold: u32,
    /// Roots, each with new keys for every role.
    pub roots: u64,
    /// The role that the targets delegate to; it may speak for `team/*`, and it delegates to `under TEAM`.
    pub team: String,
    /// Names are given out by prefixes of their hashes.
    pub prefixes: bool,
    /// How targets are described.
    pub algorithms: Algorithms,
    /// Whether length and hash of the metadata files are given.
    pub described: bool,
    /// Fields that no specification knows, wherever they may stand.
    pub unknown: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            consistent: true,
            keys: 1,
            threshold: 1,
            roots: 1,
            team: "team".to_owned(),
            prefixes: false,
            algorithms: Algorithms::Sha256,
            described: true,
            unknown: false,
        }
    }
}

/// A repository with the keys to all of its roles.
pub struct Authored {
    plan: Plan,
    keys: BTreeMap<Role, Vec<Ed25519Signer>>,
    root: Vec<u8>,
    version: u64,
    now: UnixTime,
    /// Metadata files by their names in the repository.
    pub metadata: BTreeMap<String, Vec<u8>>,
    /// Target files by their paths in the repository.
    pub targets: BTreeMap<String, Vec<u8>>,
    /// Content by name, as the newest metadata list it.
    pub listed: BTreeMap<String, Vec<u8>>,
}

impl Authored {
    /// Version 1 of everything but the root, which is `plan.roots` long.
    ///
    /// # Panics
    /// If the plan cannot be carried out.
    #[must_use]
    pub fn new(plan: Plan, now: UnixTime) -> Self {
        let mut made = Self {
            plan,
            keys: BTreeMap::new(),
            root: Vec::new(),
            version: 0,
            now,
            metadata: BTreeMap::new(),
            targets: BTreeMap::new(),
            listed: BTreeMap::new(),
        };
        for _ in 0..made.plan.roots {
            made.new_root();
        }
        for role in [made.team(), made.under()] {
            let keys = made.fresh();
            made.keys.insert(role, keys);
        }
        made.publish();
        made
    }

    /// The first root.
    #[must_use]
    pub fn first_root(&self) -> &[u8] {
        &self.metadata["1.root.json"]
    }

    /// The role that the targets delegate to.
    #[must_use]
    pub fn team(&self) -> Role {
        Role::Delegated(self.plan.team.clone())
    }

    /// The role that the team delegates to.
    #[must_use]
    pub fn under(&self) -> Role {
        Role::Delegated(format!("under {}", self.plan.team))
    }

    fn fresh(&self) -> Vec<Ed25519Signer> {
        (0..self.plan.keys)
            .map(|_| Ed25519Signer::generate().expect("randomness").0)
            .collect()
    }

    /// A newer root with new keys for every top-level role.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn new_root(&mut self) {
        let expires = self.now.plus_seconds(365 * DAY);
        let mut editor = if self.root.is_empty() {
            RootEditor::new(expires)
        } else {
            RootEditor::from_existing(&self.root).expect("a root")
        };
        let old = self.keys.remove(&Role::Root).unwrap_or_default();
        for role in [Role::Root, Role::Timestamp, Role::Snapshot, Role::Targets] {
            let keys = self.fresh();
            let public = keys.iter().map(Signer::public_key).collect();
            editor = editor.set_keys(&role, public, self.plan.threshold);
            self.keys.insert(role, keys);
        }
        editor = editor.consistent_snapshot(self.plan.consistent);
        let mut unsigned = editor.build().expect("a root");
        if self.plan.unknown && self.root.is_empty() {
            let bytes = with_unknown(unsigned);
            unsigned = RootEditor::from_existing(&bytes)
                .and_then(|editor| editor.version(1).build())
                .expect("a root");
        }
        self.root = sign(unsigned, old.iter().chain(&self.keys[&Role::Root]));
        let version = tuf::unverified_version(&self.root).expect("a version");
        self.metadata
            .insert(Role::Root.versioned_file_name(version), self.root.clone());
    }

    /// The name under which a role's newest file is served; none for a role that has no file here.
    #[must_use]
    pub fn file_of(&self, role: &Role) -> String {
        match role {
            Role::Root => role.versioned_file_name(self.plan.roots),
            Role::Timestamp => role.file_name(),
            _ if self.plan.consistent => role.versioned_file_name(self.version),
            _ => role.file_name(),
        }
    }

    /// Replaces a role's signed part as somebody would who has its keys, and whatever describes it as the repository
    /// would: a change gets as far as the check that it is about. False for what has no canonical form.
    ///
    /// # Panics
    /// If the repository has no such file.
    pub fn forge(&mut self, role: &Role, signed: &Value) -> bool {
        let Some(bytes) = self.sign_value(role, signed) else {
            return false;
        };
        self.metadata.insert(self.file_of(role), bytes.clone());
        let parent = match role {
            Role::Root | Role::Timestamp => return true,
            Role::Snapshot => Role::Timestamp,
            _ => Role::Snapshot,
        };
        let mut above: Value =
            serde_json::from_slice(&self.metadata[&self.file_of(&parent)]).expect("JSON of our own");
        let entry = &mut above["signed"]["meta"][role.meta_name()];
        if self.plan.described {
            *entry = json!(MetaFile::of_bytes(self.version, &bytes));
        }
        self.forge(&parent, &above["signed"])
    }

    fn sign_value(&self, role: &Role, signed: &Value) -> Option<Vec<u8>> {
        let message = tuf::canonical::to_bytes(signed).ok()?;
        let signatures: Vec<Value> = self.keys[role]
            .iter()
            .map(|key| {
                let sig = key.sign(&message).expect("signed");
                let sig: String = sig.iter().map(|byte| format!("{byte:02x}")).collect();
                json!({"keyid": key.public_key().id(), "sig": sig})
            })
            .collect();
        let file = json!({"signatures": signatures, "signed": signed});
        Some(serde_json::to_vec(&file).expect("JSON"))
    }

    /// The next version of everything but the root, with new content behind the same names.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn publish(&mut self) {
        self.version += 1;
        let (team, under) = (self.team(), self.under());
        let mut leaf = self.editor();
        leaf = self.add(leaf, "team/under/app");
        let mut middle = self.editor();
        middle = self.add(middle, "team/app");
        middle = middle.delegate(self.delegation(&under, &["team/under/*"]), &self.public(&under));
        let mut top = self.editor();
        for name in ["app", "folder/app_1.0.tar"] {
            top = self.add(top, name);
        }
        top = top.delegate(
            self.delegation(&team, &["team/*", "team/under/*"]),
            &self.public(&team),
        );

        let mut snapshot = SnapshotEditor::new(self.version, self.expires());
        for (role, editor) in [(under, leaf), (team, middle), (Role::Targets, top)] {
            let mut unsigned = editor.build().expect("targets");
            if self.plan.unknown {
                let bytes = with_unknown(unsigned);
                unsigned = TargetsEditor::from_existing(&bytes)
                    .and_then(|editor| editor.version(self.version).build())
                    .expect("targets");
            }
            let bytes = sign(unsigned, &self.keys[&role]);
            snapshot = snapshot.entry(&role, &self.entry(&bytes));
            self.serve(&role, bytes);
        }
        let bytes = sign(snapshot.build().expect("a snapshot"), &self.keys[&Role::Snapshot]);
        let entry = self.entry(&bytes);
        self.serve(&Role::Snapshot, bytes);
        let timestamp = TimestampEditor::with_entry(self.version, self.expires(), &entry).signed_at(self.now);
        let bytes = sign(
            timestamp.build().expect("a timestamp"),
            &self.keys[&Role::Timestamp],
        );
        self.metadata.insert(Role::Timestamp.file_name(), bytes);
    }

    fn expires(&self) -> UnixTime {
        self.now.plus_seconds(14 * DAY)
    }

    fn editor(&self) -> TargetsEditor {
        TargetsEditor::new(self.expires()).version(self.version)
    }

    fn entry(&self, bytes: &[u8]) -> MetaFile {
        if self.plan.described {
            MetaFile::of_bytes(self.version, bytes)
        } else {
            MetaFile::of_version(self.version)
        }
    }

    fn public(&self, role: &Role) -> Vec<PublicKey> {
        self.keys[role].iter().map(Signer::public_key).collect()
    }

    fn serve(&mut self, role: &Role, bytes: Vec<u8>) {
        let name = if self.plan.consistent {
            role.versioned_file_name(self.version)
        } else {
            role.file_name()
        };
        self.metadata.insert(name, bytes);
    }

    fn add(&mut self, editor: TargetsEditor, name: &str) -> TargetsEditor {
        let content = format!("{name} in version {}", self.version).into_bytes();
        let sha256 = Hashes::sha256(Digest::of(&content));
        let sha512: [u8; 64] = Sha512::digest(&content).into();
        let mut hashes = match self.plan.algorithms {
            Algorithms::Sha256 => sha256,
            Algorithms::Sha512 | Algorithms::Both => sha256.with_sha512(&sha512),
        };
        if self.plan.algorithms == Algorithms::Sha512 {
            hashes.0.remove("sha256");
        }
        let path = match hashes.preferred() {
            Some(hash) if self.plan.consistent => target_path(name, &hash),
            _ => name.to_owned(),
        };
        let target = TargetFile {
            length: content.len() as u64,
            hashes,
            custom: self.plan.unknown.then(|| json!({"nature": ["é", 1, null, true]})),
        };
        self.targets.insert(path, content.clone());
        self.listed.insert(name.to_owned(), content);
        editor.add_target(name, &target)
    }

    fn delegation(&self, role: &Role, patterns: &[&str]) -> DelegatedRole {
        let patterns: Vec<String> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        // Every name: the empty prefix is not allowed everywhere, sixteen digits are.
        let all = (0..16).map(|digit| format!("{digit:x}")).collect();
        DelegatedRole {
            name: role.name().to_owned(),
            keys: RoleKeys {
                keyids: Vec::new(),
                threshold: NonZeroU32::new(self.plan.threshold).expect("a threshold"),
            },
            terminating: false,
            paths: (!self.plan.prefixes).then_some(patterns),
            path_hash_prefixes: self.plan.prefixes.then_some(all),
        }
    }
}

fn sign<'a, T: Metadata>(
    unsigned: Unsigned<T>,
    keys: impl IntoIterator<Item = &'a Ed25519Signer>,
) -> Vec<u8> {
    let signed: Signed<T> = unsigned.into_signed().expect("a canonical form");
    keys.into_iter()
        .fold(signed, |signed, key| signed.sign(key).expect("signed"))
        .bytes()
}

/// The file, not signed yet, with fields that nobody knows.
fn with_unknown<T: Metadata>(unsigned: Unsigned<T>) -> Vec<u8> {
    let bytes = unsigned.into_signed().expect("a canonical form").bytes();
    let mut file: Value = serde_json::from_slice(&bytes).expect("JSON");
    file["signed"]["x-note"] = json!({"äöü \"\\ \u{1}": [1, -7, {"b": null, "a": []}]});
    serde_json::to_vec(&file).expect("JSON")
}
