//! Roots: who may sign what.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Unsigned, common, edit, fields_of};
use crate::{Error, KeyId, PublicKey, Role, Root, UnixTime};

/// Makes a first root or the next one.
#[derive(Debug, Clone)]
pub struct RootEditor {
    fields: Map<String, Value>,
    roles: BTreeMap<&'static str, (Vec<PublicKey>, u32)>,
}

const ROLES: [Role; 4] = [Role::Root, Role::Timestamp, Role::Snapshot, Role::Targets];

impl RootEditor {
    /// A first root: version 1, consistent snapshots, thresholds of 1, no keys yet.
    #[must_use]
    pub fn new(expires: UnixTime) -> Self {
        let mut fields = common("root", 1, expires);
        fields.insert("consistent_snapshot".to_owned(), json!(true));
        Self {
            fields,
            roles: ROLES
                .iter()
                .map(|role| (role.type_name(), (Vec::new(), 1)))
                .collect(),
        }
    }

    /// The successor of an existing root: its keys, thresholds and unknown fields, the version one higher.
    ///
    /// # Errors
    /// When the file is no root.
    pub fn from_existing(bytes: &[u8]) -> Result<Self, Error> {
        let (mut fields, root): (_, Root) = fields_of(bytes)?;
        fields.insert("version".to_owned(), json!(root.version.saturating_add(1)));
        let keys_of = |role: &Role| {
            let keys = root.role(role)?;
            let known = keys
                .keyids
                .iter()
                .filter_map(|id| root.keys.get(id))
                .cloned()
                .collect();
            Some((role.type_name(), (known, keys.threshold.get())))
        };
        Ok(Self {
            roles: ROLES.iter().filter_map(keys_of).collect(),
            fields,
        })
    }

    /// Adds a key to a top-level role; nothing happens when it is there already or the role is a delegated one.
    #[must_use]
    pub fn add_key(mut self, role: &Role, key: PublicKey) -> Self {
        if let Some((keys, _)) = self.entry(role).filter(|(keys, _)| !keys.contains(&key)) {
            keys.push(key);
        }
        self
    }

    /// Takes a key from a role.
    #[must_use]
    pub fn remove_key(mut self, role: &Role, id: KeyId) -> Self {
        if let Some((keys, _)) = self.entry(role) {
            keys.retain(|key| key.id() != id);
        }
        self
    }

    /// Replaces a role's keys and threshold.
    #[must_use]
    pub fn set_keys(mut self, role: &Role, keys: Vec<PublicKey>, threshold: u32) -> Self {
        if let Some(entry) = self.entry(role) {
            *entry = (keys, threshold);
        }
        self
    }

    /// How many keys of a role must sign.
    #[must_use]
    pub fn set_threshold(mut self, role: &Role, threshold: u32) -> Self {
        if let Some((_, old)) = self.entry(role) {
            *old = threshold;
        }
        self
    }

    /// When the root expires.
    #[must_use]
    pub fn expires(mut self, expires: UnixTime) -> Self {
        self.fields.insert("expires".to_owned(), json!(expires));
        self
    }

    /// A field of our own beside those of the specification, which clients pass over; none takes it away.
    ///
    /// Those of the specification are not changed this way.
    #[must_use]
    pub fn extra(mut self, name: &str, value: Option<Value>) -> Self {
        const OWN: [&str; 7] = [
            "_type",
            "spec_version",
            "version",
            "expires",
            "consistent_snapshot",
            "keys",
            "roles",
        ];
        match value {
            _ if OWN.contains(&name) => {}
            Some(value) => drop(self.fields.insert(name.to_owned(), value)),
            None => drop(self.fields.remove(name)),
        }
        self
    }

    /// The version, where it is not to be 1 or one above the existing root.
    #[must_use]
    pub fn version(mut self, version: u64) -> Self {
        self.fields.insert("version".to_owned(), json!(version));
        self
    }

    /// Whether file names carry versions and hashes; ours always do.
    #[must_use]
    pub fn consistent_snapshot(mut self, consistent: bool) -> Self {
        self.fields
            .insert("consistent_snapshot".to_owned(), json!(consistent));
        self
    }

    /// The root, ready to be signed.
    ///
    /// # Errors
    /// [`Error::Malformed`] when a role could never reach its threshold.
    pub fn build(self) -> Result<Unsigned<Root>, Error> {
        let mut fields = self.fields;
        let mut keys = Map::new();
        for (name, (members, threshold)) in self.roles {
            if members.len() < threshold as usize || threshold == 0 {
                let have = members.len();
                let reason = format!("{name} needs {threshold} signatures and has {have} keys");
                return Err(Error::malformed("root.json", reason));
            }
            let keyids: Vec<_> = members.iter().map(|key| key.id().to_string()).collect();
            keys.extend(
                members
                    .iter()
                    .map(|key| (key.id().to_string(), key.object().clone())),
            );
            // Unknown fields of the role stay.
            edit(&mut fields, "roles", |roles| {
                edit(roles, name, |role| {
                    role.insert("keyids".to_owned(), json!(keyids));
                    role.insert("threshold".to_owned(), json!(threshold));
                });
            });
        }
        fields.insert("keys".to_owned(), Value::Object(keys));
        Unsigned::new(fields)
    }

    fn entry(&mut self, role: &Role) -> Option<&mut (Vec<PublicKey>, u32)> {
        match role {
            Role::Delegated(_) => None,
            _ => self.roles.get_mut(role.type_name()),
        }
    }
}
