//! The signed parts of the metadata files as typed values (specification, section 4).
//!
//! These are views: unknown fields are left out here and kept in the raw bytes, over which signatures are
//! checked.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256, Sha512};

use crate::{Digest, Error, KeyId, Limits, PublicKey, Role, UnixTime, canonical};

/// The parsed signed part of some file.
pub trait Metadata: Sized + Clone + Send + Sync {
    /// The value of the field `_type`.
    const TYPE: &'static str;
    /// The form it has in JSON.
    #[doc(hidden)]
    fn read(value: &Value, file: &str, limits: &Limits) -> Result<Self, Error>;
    /// The field `version`.
    fn version(&self) -> u64;
    /// The field `expires`.
    fn expires(&self) -> UnixTime;
}

/// The keys of one role and how many of them must sign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleKeys {
    /// Keyids, none twice.
    pub keyids: Vec<KeyId>,
    /// How many distinct keys must sign; at least one.
    pub threshold: NonZeroU32,
}

impl RoleKeys {
    /// What floors are tied to: changes when the keys or the threshold change.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let keyids: BTreeSet<_> = self.keyids.iter().map(ToString::to_string).collect();
        let value = json!({"keyids": keyids, "threshold": self.threshold});
        // Integers and texts only: this cannot fail, and an empty form would tie to nothing.
        Digest::of(&canonical::to_bytes(&value).unwrap_or_default())
    }

    fn check(&self, file: &str, limits: &Limits) -> Result<(), Error> {
        if self.keyids.len() > limits.keys as usize {
            return Err(Error::TooMany {
                file: file.to_owned(),
                what: "keys for a role",
                limit: limits.keys,
            });
        }
        if self.keyids.iter().collect::<BTreeSet<_>>().len() != self.keyids.len() {
            return Err(Error::malformed(file, "a role lists the same keyid twice"));
        }
        Ok(())
    }
}

/// Which keys sign for every top-level role.
#[derive(Debug, Clone)]
pub struct Root {
    /// Counts up by one with every root.
    pub version: u64,
    /// From here on no newer timestamp is accepted under it.
    pub expires: UnixTime,
    /// Whether files carry their version or hash in front of their names.
    pub consistent_snapshot: bool,
    /// Every key named by a role.
    pub keys: BTreeMap<KeyId, PublicKey>,
    /// Keys of root.
    pub root: RoleKeys,
    /// Keys of timestamp.
    pub timestamp: RoleKeys,
    /// Keys of snapshot.
    pub snapshot: RoleKeys,
    /// Keys of the top-level targets.
    pub targets: RoleKeys,
}

impl Root {
    /// The keys of a top-level role; none for a delegated one.
    #[must_use]
    pub const fn role(&self, role: &Role) -> Option<&RoleKeys> {
        match role {
            Role::Root => Some(&self.root),
            Role::Timestamp => Some(&self.timestamp),
            Role::Snapshot => Some(&self.snapshot),
            Role::Targets => Some(&self.targets),
            Role::Delegated(_) => None,
        }
    }
}

/// Which snapshot is the newest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timestamp {
    /// Counts up.
    pub version: u64,
    /// From here on its snapshot is no longer known to be the newest.
    pub expires: UnixTime,
    /// The snapshot it vouches for.
    pub snapshot: MetaFile,
    /// When it was signed: our extra field, the only source of time besides the build.
    pub signed_at: Option<UnixTime>,
}

/// Which version of each targets role belongs together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Counts up.
    pub version: u64,
    /// From here on it is no longer accepted as new.
    pub expires: UnixTime,
    /// By file name (`targets.json`).
    pub meta: BTreeMap<String, MetaFile>,
}

/// Which targets there are, and who else may say so.
#[derive(Debug, Clone)]
pub struct Targets {
    /// Counts up.
    pub version: u64,
    /// From here on it is no longer accepted as new.
    pub expires: UnixTime,
    /// By target name.
    pub targets: BTreeMap<String, TargetFile>,
    /// Other roles that may name targets.
    pub delegations: Option<Delegations>,
}

/// One metadata file as its parent describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetaFile {
    /// Exactly this version.
    #[serde(deserialize_with = "positive")]
    pub version: u64,
    /// Exactly this many bytes, when given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    /// Exactly these hashes, when given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hashes: Option<Hashes>,
}

impl MetaFile {
    /// A version, with nothing said about the bytes.
    #[must_use]
    pub const fn of_version(version: u64) -> Self {
        Self {
            version,
            length: None,
            hashes: None,
        }
    }

    /// A description of `bytes` by length and SHA-256.
    #[must_use]
    pub fn of_bytes(version: u64, bytes: &[u8]) -> Self {
        Self {
            version,
            length: Some(bytes.len() as u64),
            hashes: Some(Hashes::sha256(Digest::of(bytes))),
        }
    }

    /// Whether `bytes` are what this entry describes; what it does not state is not checked.
    pub(crate) fn check(&self, bytes: &[u8], file: &str) -> Result<(), Error> {
        if let Some(expected) = self.length.filter(|&length| length != bytes.len() as u64) {
            return Err(Error::LengthMismatch {
                file: file.to_owned(),
                expected,
                found: bytes.len() as u64,
            });
        }
        self.hashes
            .as_ref()
            .map_or(Ok(()), |hashes| hashes.check(bytes, file))
    }
}

/// One target as its role describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetFile {
    /// Exactly this many bytes.
    pub length: u64,
    /// By algorithm; every known one must match and at least one must be known.
    pub hashes: Hashes,
    /// What the author says about it; opaque here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom: Option<Value>,
}

impl TargetFile {
    /// Its SHA-256, when the role gives one.
    #[must_use]
    pub fn sha256(&self) -> Option<Digest> {
        self.hashes.get_sha256()
    }

    /// Whether `bytes` are this target. Large files are hashed while they stream instead, see
    /// [`sha256`](Self::sha256).
    ///
    /// # Errors
    /// [`Error::LengthMismatch`], [`Error::HashMismatch`], [`Error::NoKnownHash`].
    pub fn check(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let found = bytes.len() as u64;
        if found != self.length {
            return Err(Error::LengthMismatch {
                file: name.to_owned(),
                expected: self.length,
                found,
            });
        }
        self.hashes.check(bytes, name)
    }
}

/// Hashes by the name of their algorithm; unknown algorithms are kept and cannot vouch for anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hashes(pub BTreeMap<String, String>);

impl Hashes {
    /// One SHA-256.
    #[must_use]
    pub fn sha256(digest: Digest) -> Self {
        Self(BTreeMap::from([("sha256".to_owned(), digest.to_string())]))
    }

    /// With a SHA-512 (64 bytes) beside it.
    #[must_use]
    pub fn with_sha512(mut self, sha512: &[u8; 64]) -> Self {
        self.0.insert("sha512".to_owned(), hex::encode(sha512));
        self
    }

    fn get_sha256(&self) -> Option<Digest> {
        self.0.get("sha256").and_then(|text| text.parse().ok())
    }

    /// The hash that a target's file name carries: SHA-256 where there is one, else SHA-512.
    #[must_use]
    pub fn preferred(&self) -> Option<&str> {
        self.0
            .get("sha256")
            .or_else(|| self.0.get("sha512"))
            .map(String::as_str)
    }

    fn check(&self, bytes: &[u8], file: &str) -> Result<(), Error> {
        let mut known = false;
        for (algorithm, expected) in &self.0 {
            let (algorithm, found) = match algorithm.as_str() {
                "sha256" => ("sha256", hex::encode(Sha256::digest(bytes))),
                "sha512" => ("sha512", hex::encode(Sha512::digest(bytes))),
                _ => continue,
            };
            if found != *expected {
                return Err(Error::HashMismatch {
                    file: file.to_owned(),
                    algorithm,
                });
            }
            known = true;
        }
        if known {
            Ok(())
        } else {
            Err(Error::NoKnownHash {
                file: file.to_owned(),
            })
        }
    }

    /// A hash of a known algorithm with the wrong number of digits can never match: refused when read.
    fn check_form(&self, file: &str) -> Result<(), Error> {
        let digits = |text: &str, count| {
            text.len() == count && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        let good = self.0.iter().all(|(algorithm, text)| match algorithm.as_str() {
            "sha256" => digits(text, 64),
            "sha512" => digits(text, 128),
            _ => true,
        });
        if good {
            Ok(())
        } else {
            Err(Error::malformed(
                file,
                "a hash is not lower-case hexadecimal of its length",
            ))
        }
    }
}

/// Who else may name targets, in order of precedence.
#[derive(Debug, Clone)]
pub struct Delegations {
    /// Every key named by the roles.
    pub keys: BTreeMap<KeyId, PublicKey>,
    /// In the order in which they are asked.
    pub roles: Vec<DelegatedRole>,
}

/// One delegation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelegatedRole {
    /// The role's name; its file is named after it.
    pub name: String,
    /// Its keys.
    #[serde(flatten)]
    pub keys: RoleKeys,
    /// Whether the search ends here for targets that match.
    pub terminating: bool,
    /// Shell patterns of target names; `*` and `?` stay within one path segment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paths: Option<Vec<String>>,
    /// Or: prefixes of the SHA-256 (hexadecimal) of the target name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_hash_prefixes: Option<Vec<String>>,
}

impl DelegatedRole {
    /// Whether this role may name `target`.
    #[must_use]
    pub fn covers(&self, target: &str) -> bool {
        match (&self.paths, &self.path_hash_prefixes) {
            (Some(paths), None) => paths.iter().any(|pattern| matches(pattern, target)),
            (None, Some(prefixes)) => {
                let hash = Digest::of(target.as_bytes()).to_string();
                prefixes.iter().any(|prefix| hash.starts_with(prefix.as_str()))
            }
            _ => false,
        }
    }
}

/// Segment by segment, as many segments in the pattern as in the name (specification, section 4.5).
fn matches(pattern: &str, name: &str) -> bool {
    let (mut patterns, mut names) = (pattern.split('/'), name.split('/'));
    loop {
        match (patterns.next(), names.next()) {
            (None, None) => return true,
            (Some(pattern), Some(name)) if matches_segment(pattern, name) => {}
            _ => return false,
        }
    }
}

/// `*` and `?` only; linear in practice because a later star forgets the earlier one.
fn matches_segment(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&c) if c == '?' || c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((at, from)) = star else { return false };
                star = Some((at, from + 1));
                p = at + 1;
                n = from + 1;
            }
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

fn positive<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let number = u64::deserialize(deserializer)?;
    if number == 0 {
        return Err(serde::de::Error::custom("a version must be at least 1"));
    }
    Ok(number)
}

/// The forms in JSON, apart from the types that the rest of the program sees.
mod wire {
    use super::*;

    #[derive(Deserialize)]
    pub(super) struct Root {
        #[serde(deserialize_with = "positive")]
        pub(super) version: u64,
        pub(super) expires: UnixTime,
        #[serde(default)]
        pub(super) consistent_snapshot: bool,
        pub(super) keys: BTreeMap<KeyId, PublicKey>,
        pub(super) roles: Roles,
    }

    /// Exactly these four (python-tuf refuses others too).
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Roles {
        pub(super) root: RoleKeys,
        pub(super) timestamp: RoleKeys,
        pub(super) snapshot: RoleKeys,
        pub(super) targets: RoleKeys,
    }

    #[derive(Deserialize)]
    pub(super) struct Timestamp {
        #[serde(deserialize_with = "positive")]
        pub(super) version: u64,
        pub(super) expires: UnixTime,
        pub(super) meta: TimestampMeta,
        #[serde(default)]
        pub(super) signed_at: Option<UnixTime>,
    }

    #[derive(Deserialize)]
    pub(super) struct TimestampMeta {
        #[serde(rename = "snapshot.json")]
        pub(super) snapshot: MetaFile,
    }

    #[derive(Deserialize)]
    pub(super) struct Snapshot {
        #[serde(deserialize_with = "positive")]
        pub(super) version: u64,
        pub(super) expires: UnixTime,
        pub(super) meta: BTreeMap<String, MetaFile>,
    }

    #[derive(Deserialize)]
    pub(super) struct Targets {
        #[serde(deserialize_with = "positive")]
        pub(super) version: u64,
        pub(super) expires: UnixTime,
        pub(super) targets: BTreeMap<String, TargetFile>,
        #[serde(default)]
        pub(super) delegations: Option<Delegations>,
    }

    #[derive(Deserialize)]
    pub(super) struct Delegations {
        pub(super) keys: BTreeMap<KeyId, PublicKey>,
        pub(super) roles: Vec<DelegatedRole>,
    }
}

fn from_value<'a, T: Deserialize<'a>>(value: &'a Value, file: &str) -> Result<T, Error> {
    T::deserialize(value).map_err(|e| Error::malformed(file, e.to_string()))
}

/// Keyids are computed, and the ones in the file must agree.
fn check_keys(keys: &BTreeMap<KeyId, PublicKey>, file: &str, limits: &Limits) -> Result<(), Error> {
    if keys.len() > limits.keys as usize {
        return Err(Error::TooMany {
            file: file.to_owned(),
            what: "keys",
            limit: limits.keys,
        });
    }
    match keys.iter().find(|(id, key)| **id != key.id()) {
        Some((id, key)) => Err(Error::malformed(
            file,
            format!("the key {} is listed under the keyid {id}", key.id()),
        )),
        None => Ok(()),
    }
}

impl Metadata for Root {
    const TYPE: &'static str = "root";

    fn read(value: &Value, file: &str, limits: &Limits) -> Result<Self, Error> {
        let wire::Root {
            version,
            expires,
            consistent_snapshot,
            keys,
            roles,
        } = from_value(value, file)?;
        check_keys(&keys, file, limits)?;
        let wire::Roles {
            root,
            timestamp,
            snapshot,
            targets,
        } = roles;
        for role in [&root, &timestamp, &snapshot, &targets] {
            role.check(file, limits)?;
        }
        Ok(Self {
            version,
            expires,
            consistent_snapshot,
            keys,
            root,
            timestamp,
            snapshot,
            targets,
        })
    }

    fn version(&self) -> u64 {
        self.version
    }

    fn expires(&self) -> UnixTime {
        self.expires
    }
}

impl Metadata for Timestamp {
    const TYPE: &'static str = "timestamp";

    fn read(value: &Value, file: &str, _limits: &Limits) -> Result<Self, Error> {
        let wire::Timestamp {
            version,
            expires,
            meta,
            signed_at,
        } = from_value(value, file)?;
        if let Some(hashes) = &meta.snapshot.hashes {
            hashes.check_form(file)?;
        }
        Ok(Self {
            version,
            expires,
            snapshot: meta.snapshot,
            signed_at,
        })
    }

    fn version(&self) -> u64 {
        self.version
    }

    fn expires(&self) -> UnixTime {
        self.expires
    }
}

impl Metadata for Snapshot {
    const TYPE: &'static str = "snapshot";

    fn read(value: &Value, file: &str, limits: &Limits) -> Result<Self, Error> {
        let wire::Snapshot {
            version,
            expires,
            meta,
        } = from_value(value, file)?;
        if meta.len() > limits.roles as usize {
            return Err(Error::TooMany {
                file: file.to_owned(),
                what: "roles",
                limit: limits.roles,
            });
        }
        for hashes in meta.values().filter_map(|entry| entry.hashes.as_ref()) {
            hashes.check_form(file)?;
        }
        Ok(Self {
            version,
            expires,
            meta,
        })
    }

    fn version(&self) -> u64 {
        self.version
    }

    fn expires(&self) -> UnixTime {
        self.expires
    }
}

impl Metadata for Targets {
    const TYPE: &'static str = "targets";

    fn read(value: &Value, file: &str, limits: &Limits) -> Result<Self, Error> {
        let wire::Targets {
            version,
            expires,
            targets,
            delegations,
        } = from_value(value, file)?;
        for target in targets.values() {
            target.hashes.check_form(file)?;
        }
        let delegations = delegations
            .map(|d| read_delegations(d, file, limits))
            .transpose()?;
        Ok(Self {
            version,
            expires,
            targets,
            delegations,
        })
    }

    fn version(&self) -> u64 {
        self.version
    }

    fn expires(&self) -> UnixTime {
        self.expires
    }
}

fn read_delegations(wire: wire::Delegations, file: &str, limits: &Limits) -> Result<Delegations, Error> {
    let wire::Delegations { keys, roles } = wire;
    check_keys(&keys, file, limits)?;
    if roles.len() > limits.roles as usize {
        return Err(Error::TooMany {
            file: file.to_owned(),
            what: "delegated roles",
            limit: limits.roles,
        });
    }
    let mut names = BTreeSet::new();
    for role in &roles {
        role.keys.check(file, limits)?;
        if !names.insert(role.name.as_str()) {
            return Err(Error::malformed(
                file,
                format!("two delegations are named {:?}", role.name),
            ));
        }
        if ["", "root", "timestamp", "snapshot", "targets"].contains(&role.name.as_str()) {
            return Err(Error::malformed(
                file,
                format!("{:?} cannot be delegated to", role.name),
            ));
        }
        if role.paths.is_some() == role.path_hash_prefixes.is_some() {
            let name = &role.name;
            return Err(Error::malformed(
                file,
                format!("{name:?} needs either paths or path_hash_prefixes"),
            ));
        }
    }
    Ok(Delegations { keys, roles })
}
