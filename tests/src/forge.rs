//! Metadata that is validly signed and wrong: made with the keys of a test site, so that a tampered file gets
//! as far as the check that a test is about.

use std::collections::BTreeMap;
use std::path::Path;

use protocol::UpdateId;
use protocol::device::Order;
use release::Release;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use tuf::editor::{RootEditor, SnapshotEditor, TargetsEditor, TimestampEditor};
use tuf::schema::{Hashes, TargetFile};
use tuf::{Digest, Ed25519Signer, Role, Signer, UnixTime};

use crate::Site;
use crate::site::PASSPHRASE;

/// Seconds of a day.
pub const DAY: i64 = 24 * 60 * 60;

/// The keys of a test site (made with ed25519 author keys), and what they can sign.
pub struct Forge {
    /// The author's root key.
    pub root_key: Ed25519Signer,
    /// The author's targets key.
    pub targets_key: Ed25519Signer,
    /// The repository's online key.
    pub online_key: Ed25519Signer,
    /// The site's `root.json`.
    pub root: Vec<u8>,
    /// The targets role that the forgeries begin from, as bytes.
    pub targets: Vec<u8>,
    /// The site's newest release, if there was one.
    pub model: Option<Release>,
    /// Versions of snapshot and timestamp are counted from here.
    pub version: u64,
    /// The time at which everything is signed.
    pub now: UnixTime,
}

/// A complete set of metadata as `metadata/NAME` → bytes.
pub type Set = BTreeMap<String, Vec<u8>>;

/// A key that belongs to nobody.
///
/// # Panics
/// If the system gives no randomness.
#[must_use]
pub fn strangers_key() -> Ed25519Signer {
    Ed25519Signer::generate().expect("randomness").0
}

impl Forge {
    /// Takes the keys from a site's folders. Later versions are above all that the site can have signed so far.
    ///
    /// # Panics
    /// If a file is missing.
    #[must_use]
    pub fn of(site: &Site) -> Self {
        let sealed = |name: &str| {
            let pem = std::fs::read_to_string(site.path(name)).expect("a key file");
            let der = certs::decrypt_key(&pem, PASSPHRASE).expect("the test's passphrase");
            Ed25519Signer::from_pkcs8(&der).expect("an ed25519 key")
        };
        let now = site.now();
        let mut forge = Self {
            model: None,
            root_key: sealed("author/root-key.pem"),
            targets_key: sealed("author/targets-key.pem"),
            online_key: plain(&site.path("repository/online-key.pem")),
            root: std::fs::read(site.path("author/root.json")).expect("root.json"),
            targets: std::fs::read(site.path("author/targets.json")).expect("targets.json"),
            version: u64::try_from(now.0).expect("after 1970") + 1000,
            now,
        };
        let described = |(_, target): (String, TargetFile)| Release::from_custom(&target.custom?).ok();
        forge.model = forge
            .listed()
            .into_iter()
            .filter_map(described)
            .max_by_key(|release| release.counter);
        forge
    }

    /// The author's targets role, one version on, to be changed.
    ///
    /// # Panics
    /// If the bytes are not a targets role.
    #[must_use]
    pub fn editor(&self) -> TargetsEditor {
        TargetsEditor::from_existing(&self.targets).expect("a targets role")
    }

    /// The target files that the author's role lists.
    ///
    /// # Panics
    /// If the bytes are not a targets role.
    #[must_use]
    pub fn listed(&self) -> Vec<(String, TargetFile)> {
        let editor = self.editor();
        editor
            .names()
            .map(|name| (name.to_owned(), editor.target(name).expect("listed")))
            .collect()
    }

    /// The author's role with one more release, described like the site's newest but for `change`.
    ///
    /// # Panics
    /// If the site had none or the description is not one.
    #[must_use]
    pub fn with_release(&self, bytes: &[u8], change: impl FnOnce(&mut Release)) -> Listed {
        let mut release = self.model.clone().expect("a release");
        change(&mut release);
        let digest = Digest::of(bytes);
        let target = TargetFile {
            length: bytes.len() as u64,
            hashes: Hashes::sha256(digest),
            custom: Some(release.to_custom().expect("a description")),
        };
        let name = release.target_path().expect("a path").to_string();
        let editor = self.editor().add_target(&name, &target);
        Listed {
            editor,
            name,
            digest,
            release,
        }
    }

    /// Signs a targets role with `key`.
    ///
    /// # Panics
    /// If it cannot be signed.
    #[must_use]
    pub fn sign_targets(&self, editor: TargetsEditor, key: &dyn Signer) -> Vec<u8> {
        editor.build().expect("a role").sign(key).expect("signed").bytes()
    }

    /// Snapshot and timestamp around these targets, all consistent, signed with the online key.
    ///
    /// # Panics
    /// If the bytes are no role.
    #[must_use]
    pub fn around(&self, targets: &[u8]) -> Set {
        self.around_with(targets, Shape::default())
    }

    /// Like [`Self::around`], with what differs from a right set.
    ///
    /// # Panics
    /// If the bytes are no role.
    #[must_use]
    pub fn around_with(&self, targets: &[u8], shape: Shape<'_>) -> Set {
        let targets_version = tuf::unverified_version(targets).expect("a role");
        let version = shape.version.unwrap_or(self.version);
        let expires = shape.expires.unwrap_or_else(|| self.now.plus_seconds(14 * DAY));
        let key: &dyn Signer = shape.online_key.unwrap_or(&self.online_key);
        let announced = shape.announced_targets.unwrap_or(targets_version);
        let snapshot = SnapshotEditor::new(version, expires)
            .role(&Role::Targets, announced, targets)
            .build()
            .expect("a role")
            .sign(key)
            .expect("signed")
            .bytes();
        let timestamp = TimestampEditor::new(
            version,
            shape.timestamp_expires.unwrap_or(expires),
            version,
            &snapshot,
        )
        .signed_at(shape.signed_at.unwrap_or(self.now))
        .build()
        .expect("a role")
        .sign(key)
        .expect("signed")
        .bytes();
        Set::from([
            ("1.root.json".to_owned(), self.root.clone()),
            (format!("{announced}.targets.json"), targets.to_vec()),
            (format!("{version}.snapshot.json"), snapshot),
            ("timestamp.json".to_owned(), timestamp),
        ])
    }

    /// A right timestamp for a snapshot, whatever its version.
    ///
    /// # Panics
    /// If it cannot be made.
    #[must_use]
    pub fn timestamp_of(&self, snapshot: &[u8], version: u64) -> Set {
        let expires = self.now.plus_seconds(14 * DAY);
        let named = tuf::unverified_version(snapshot).unwrap_or(version);
        let timestamp = TimestampEditor::new(version, expires, named, snapshot)
            .signed_at(self.now)
            .build()
            .expect("a role")
            .sign(&self.online_key)
            .expect("signed")
            .bytes();
        Set::from([("timestamp.json".to_owned(), timestamp)])
    }

    /// The site's root again, rightly signed, with another version.
    ///
    /// # Panics
    /// If it cannot be made.
    #[must_use]
    pub fn root_of_version(&self, version: u64) -> Vec<u8> {
        let editor = RootEditor::from_existing(&self.root)
            .expect("a root")
            .version(version);
        editor
            .build()
            .expect("a root")
            .sign(&self.root_key)
            .expect("signed")
            .bytes()
    }

    /// A new root that gives the role `online` (snapshot and timestamp) to another key, signed by `signer`.
    ///
    /// # Panics
    /// If it cannot be made.
    #[must_use]
    pub fn next_root(&self, online: &dyn Signer, signer: &dyn Signer) -> Vec<u8> {
        let key = online.public_key();
        RootEditor::from_existing(&self.root)
            .expect("a root")
            .set_keys(&Role::Snapshot, vec![key.clone()], 1)
            .set_keys(&Role::Timestamp, vec![key], 1)
            .build()
            .expect("a root")
            .sign(signer)
            .expect("signed")
            .bytes()
    }
}

/// A targets role with a release more.
#[derive(Debug, Clone)]
pub struct Listed {
    /// The role, to be signed.
    pub editor: TargetsEditor,
    /// The target's name in it.
    pub name: String,
    /// The target's SHA-256.
    pub digest: Digest,
    /// Its description.
    pub release: Release,
}

impl Listed {
    /// The order that a manager would send for it.
    ///
    /// # Panics
    /// If the description is not valid.
    #[must_use]
    pub fn order(&self, expects: Option<&str>) -> Order {
        Order {
            update: self.release.update_id.parse().expect("an id"),
            component: self.release.component.clone(),
            expects: expects.map(|version| version.parse().expect("a version")),
            version: self.release.version.clone(),
            target: self.name.parse().expect("a path"),
        }
    }
}

/// A new update id, different for each number.
#[must_use]
pub fn update_id(number: u8) -> String {
    UpdateId::from_random([number; 16]).to_string()
}

/// In what a forged set differs from a right one.
#[derive(Default, Clone, Copy)]
pub struct Shape<'a> {
    /// Version of snapshot and timestamp.
    pub version: Option<u64>,
    /// When snapshot and timestamp expire.
    pub expires: Option<UnixTime>,
    /// When the timestamp alone expires.
    pub timestamp_expires: Option<UnixTime>,
    /// The timestamp's `signed_at`.
    pub signed_at: Option<UnixTime>,
    /// The targets version that the snapshot names.
    pub announced_targets: Option<u64>,
    /// Who signs snapshot and timestamp.
    pub online_key: Option<&'a Ed25519Signer>,
}

fn plain(path: &Path) -> Ed25519Signer {
    let key = PrivatePkcs8KeyDer::from_pem_file(path).expect("a key file");
    Ed25519Signer::from_pkcs8(key.secret_pkcs8_der()).expect("an ed25519 key")
}

/// The machine's wall clock.
#[must_use]
pub fn now() -> UnixTime {
    mtls::Clock::now(&mtls::SystemClock).now
}

/// `targets/DIR/SHA256.FILE`: where a repository serves the bytes of a target.
///
/// # Panics
/// If the name has no folder.
#[must_use]
pub fn target_path(name: &str, digest: &Digest) -> String {
    let (dir, file) = name.rsplit_once('/').expect("component/version/file");
    format!("targets/{dir}/{digest}.{file}")
}
