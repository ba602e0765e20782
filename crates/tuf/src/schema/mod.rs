//! The signed parts of the metadata files as typed values (specification, section 4).
//!
//! These are views: unknown fields are left out here and kept in the raw bytes, over which signatures are
//! checked.

mod delegation;
mod files;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use delegation::{DelegatedRole, Delegations};
pub use files::{Hashes, MetaFile, TargetFile};

use delegation::read_delegations;

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

/// A field that may be left out, and is no `null` where it stands: others read that as a value of the wrong kind.
fn present<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// A field that may be left out, and is an object where it stands.
fn object<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    serde_json::Map::deserialize(deserializer).map(|map| Some(Value::Object(map)))
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
        #[serde(default, deserialize_with = "present")]
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
        #[serde(default, deserialize_with = "present")]
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

fn check_name(name: &str, file: &str, limits: &Limits) -> Result<(), Error> {
    if name.len() > limits.name_length as usize {
        return Err(Error::TooMany {
            file: file.to_owned(),
            what: "bytes in a name",
            limit: limits.name_length,
        });
    }
    Ok(())
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
        for (name, target) in &targets {
            check_name(name, file, limits)?;
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
