//! The online keys: they sign which of the author's files are the newest, and nothing else.
//!
//! `online-key.pem` is the one that the site began with; [`make`] puts further ones into `online-keys/`. Which of them
//! signs is the root's word alone: a new key lies there unused until a root names it, and the key that it replaces is
//! removed once that root is in force.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use protocol::Name;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use tracing::{info, warn};
use tuf::editor::{SnapshotEditor, TimestampEditor};
use tuf::schema::{MetaFile, RoleKeys};
use tuf::{Ed25519Signer, KeyId, Role, Root, Signer, TrustedState, UnixTime};
use zeroize::Zeroizing;

use crate::Refusal;
use crate::config::Folder;
use crate::limits::{ONLINE_KEYS, ONLINE_LIFETIME_SECONDS};
use crate::refusal::chain;

/// The keys that sign snapshot and timestamp.
#[derive(Debug)]
pub(crate) struct Online {
    folder: Folder,
    held: Mutex<Arc<Vec<Held>>>,
}

/// A key and where it lies.
#[derive(Debug)]
struct Held {
    path: PathBuf,
    signer: Ed25519Signer,
}

/// A key that was made: its id, its file, and its public half for the author.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) id: KeyId,
    pub(crate) public: PathBuf,
}

/// Makes a further online key. Nothing is signed with it before a root names it.
pub(crate) fn make(folder: &Folder, name: &Name) -> Result<Made> {
    let held = files(folder).len();
    ensure!(
        held < ONLINE_KEYS,
        "there are {held} online keys already: remove those that no root will name from {}",
        folder.online_keys().display()
    );
    let (signer, pkcs8) = Ed25519Signer::generate()?;
    let key = signer.public_key();
    let (path, public) = (
        folder.online_keys().join(format!("{name}.pem")),
        folder.dir.join(format!("{name}.pub")),
    );
    for there in [&path, &public] {
        ensure!(
            !there.exists(),
            "{} is there already: choose another name",
            there.display()
        );
    }
    durable::create_dir(folder.online_keys(), 0o700)?;
    let body = Zeroizing::new(BASE64_STANDARD.encode(&*pkcs8));
    let pem = Zeroizing::new(format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        *body
    ));
    durable::replace(&path, pem.as_bytes(), 0o600)?;
    durable::replace(&public, serde_json::to_vec_pretty(key.object())?, 0o644)?;
    Ok(Made { id: key.id(), public })
}

/// As people compare it.
fn short(id: KeyId) -> String {
    id.to_string().chars().take(8).collect()
}

/// The files of the folder that hold a key.
fn files(folder: &Folder) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    if folder.online_key().exists() {
        paths.push(folder.online_key());
    }
    if let Ok(entries) = std::fs::read_dir(folder.online_keys()) {
        let mut more: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|ending| ending == "pem"))
            .take(ONLINE_KEYS)
            .collect();
        more.sort();
        paths.append(&mut more);
    }
    paths
}

/// Every key of the folder.
fn read_all(folder: &Folder) -> Result<Vec<Held>> {
    let paths = files(folder);
    ensure!(
        !paths.is_empty(),
        "there is no key at {}: bring it back from the copy of this folder, or make one with `repo-server new-key`",
        folder.online_key().display()
    );
    paths.into_iter().map(Held::load).collect()
}

impl Held {
    /// Reads a key (ed25519, PKCS#8 in PEM, mode 0600).
    fn load(path: PathBuf) -> Result<Self> {
        let pem = Zeroizing::new(durable::read_private(&path)?);
        let key = PrivatePkcs8KeyDer::from_pem_slice(&pem)
            .with_context(|| format!("{} is not a private key in PKCS#8 and PEM", path.display()))?;
        let signer = Ed25519Signer::from_pkcs8(key.secret_pkcs8_der())
            .with_context(|| format!("{} cannot sign", path.display()))?;
        Ok(Self { path, signer })
    }
}

/// Below which versions nothing may be signed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LastVersions {
    pub(crate) snapshot: u64,
    pub(crate) timestamp: u64,
}

/// A fresh pair of files.
#[derive(Debug, Clone)]
pub(crate) struct OnlineFiles {
    pub(crate) snapshot_version: u64,
    pub(crate) snapshot: Vec<u8>,
    pub(crate) timestamp_version: u64,
    pub(crate) timestamp: Vec<u8>,
}

impl Online {
    /// Reads the keys of the folder.
    pub(crate) fn load(folder: &Folder) -> Result<Self> {
        Ok(Self {
            held: Mutex::new(Arc::new(read_all(folder)?)),
            folder: folder.clone(),
        })
    }

    /// Signs snapshot and timestamp over the targets roles that `state` holds.
    ///
    /// Both end no later than root and targets: what the author no longer vouches for is not kept alive here. A team's
    /// role that has expired stops nobody but the team. A role that was listed stays listed, also when nobody delegates
    /// to it any more: clients refuse a snapshot that has lost one.
    ///
    /// Versions are the seconds since 1970, or one more than the last, whatever is higher (DESIGN section 4).
    pub(crate) fn sign(
        &self,
        state: &TrustedState,
        last: LastVersions,
        now: UnixTime,
    ) -> Result<OnlineFiles, Refusal> {
        let root = state.root();
        let held = self.held_for(root)?;
        let (snapshot_key, timestamp_key) = (
            key_for(&held, "snapshot", &root.snapshot)?,
            key_for(&held, "timestamp", &root.timestamp)?,
        );
        let targets_until = state.targets().map_or(UnixTime(0), |targets| targets.expires);
        for (role, expires) in [("root", root.expires), ("targets", targets_until)] {
            if expires <= now {
                return Err(Refusal::Expired { role, at: expires });
            }
        }
        let expires = now
            .plus_seconds(ONLINE_LIFETIME_SECONDS)
            .min(root.expires)
            .min(targets_until);
        let failed = |error: tuf::SignError| Refusal::Internal(anyhow::Error::new(error).context("signing"));

        let snapshot_version = next(last.snapshot, now);
        let snapshot = listed(state)
            .iter()
            .fold(
                SnapshotEditor::new(snapshot_version, expires),
                |editor, (role, entry)| editor.entry(role, entry),
            )
            .build()?
            .sign(snapshot_key)
            .map_err(failed)?
            .bytes();
        let timestamp_version = next(last.timestamp, now);
        let timestamp = TimestampEditor::new(timestamp_version, expires, snapshot_version, &snapshot)
            .signed_at(now)
            .build()?
            .sign(timestamp_key)
            .map_err(failed)?
            .bytes();
        Ok(OnlineFiles {
            snapshot_version,
            snapshot,
            timestamp_version,
            timestamp,
        })
    }

    /// The keys at hand; read again where this root names one that was made since.
    fn held_for(&self, root: &Root) -> Result<Arc<Vec<Held>>, Refusal> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let known = |keys: &RoleKeys| held.iter().any(|key| names(keys, key));
        if !known(&root.snapshot) || !known(&root.timestamp) {
            *held = Arc::new(read_all(&self.folder)?);
        }
        Ok(Arc::clone(&held))
    }

    /// Removes the keys that `before` named and `after`, now in force, does not: nobody may sign with them any more.
    pub(crate) fn retire(&self, before: &Root, after: &Root) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let named = |root: &Root, key: &Held| names(&root.snapshot, key) || names(&root.timestamp, key);
        let over: Vec<&Held> = held
            .iter()
            .filter(|key| named(before, key) && !named(after, key))
            .collect();
        if over.is_empty() {
            return;
        }
        for key in over {
            let id = short(key.signer.public_key().id());
            match durable::remove_file(&key.path) {
                Ok(_) => {
                    info!(target: "drover", key = id, "the online key that the new root replaces is removed");
                }
                Err(error) => warn!(
                    key = id,
                    error = chain(&error),
                    "a replaced online key is still there"
                ),
            }
        }
        if let Ok(again) = read_all(&self.folder) {
            *held = Arc::new(again);
        }
    }
}

/// Every targets role for the snapshot: those at hand, and those that the last one listed.
fn listed(state: &TrustedState) -> Vec<(Role, MetaFile)> {
    let top = std::iter::once(Role::Targets);
    let teams = state
        .delegated_names()
        .map(|name| Role::Delegated(name.to_owned()));
    let here: Vec<(Role, MetaFile)> = top
        .chain(teams)
        .filter_map(|role| {
            let raw = state.raw(&role)?;
            let version = match &role {
                Role::Delegated(name) => state.delegated(name)?.version,
                _ => state.targets()?.version,
            };
            Some((role, MetaFile::of_bytes(version, raw)))
        })
        .collect();
    let before = state.snapshot().into_iter().flat_map(|snapshot| &snapshot.meta);
    let gone = before
        .filter_map(|(file, entry)| {
            let name = file.strip_suffix(".json").filter(|name| *name != "targets")?;
            Some((Role::Delegated(name.to_owned()), entry.clone()))
        })
        .filter(|(role, _)| !here.iter().any(|(known, _)| known == role));
    here.iter().cloned().chain(gone).collect()
}

/// Whether a role lists a key.
fn names(keys: &RoleKeys, key: &Held) -> bool {
    keys.keyids.contains(&key.signer.public_key().id())
}

/// The key that signs a role: one that the root names, for a role that one key can sign.
fn key_for<'a>(held: &'a [Held], role: &'static str, keys: &RoleKeys) -> Result<&'a Ed25519Signer, Refusal> {
    let found = held.iter().find(|key| names(keys, key));
    let alone = keys.threshold.get() == 1;
    found
        .filter(|_| alone)
        .map(|key| &key.signer)
        .ok_or_else(|| Refusal::KeyNotTrusted {
            role,
            held: list(held.iter().map(|key| key.signer.public_key().id())),
            named: list(keys.keyids.iter().copied()),
            threshold: keys.threshold.get(),
        })
}

fn list(ids: impl Iterator<Item = KeyId>) -> String {
    ids.map(short).collect::<Vec<_>>().join(", ")
}

fn next(last: u64, now: UnixTime) -> u64 {
    last.saturating_add(1).max(u64::try_from(now.0).unwrap_or(0))
}
