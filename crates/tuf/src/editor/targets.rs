//! Targets: what exists, and who else may say so.

use serde_json::{Map, Value, json};

use super::{Unsigned, common, edit, fields_of};
use crate::schema::{DelegatedRole, TargetFile};
use crate::{Error, PublicKey, Targets, UnixTime};

/// Makes a targets file, new or from an existing one.
#[derive(Debug, Clone)]
pub struct TargetsEditor {
    fields: Map<String, Value>,
}

impl TargetsEditor {
    /// An empty one: version 1.
    #[must_use]
    pub fn new(expires: UnixTime) -> Self {
        let mut fields = common("targets", 1, expires);
        fields.insert("targets".to_owned(), json!({}));
        Self { fields }
    }

    /// The successor of an existing file: its targets, delegations and unknown fields, the version one higher.
    ///
    /// # Errors
    /// When the file is no targets file. Its signatures are not looked at.
    pub fn from_existing(bytes: &[u8]) -> Result<Self, Error> {
        let (mut fields, targets): (_, Targets) = fields_of(bytes)?;
        fields.insert("version".to_owned(), json!(targets.version.saturating_add(1)));
        Ok(Self { fields })
    }

    /// Adds or replaces a target.
    #[must_use]
    pub fn add_target(mut self, name: &str, target: &TargetFile) -> Self {
        edit(&mut self.fields, "targets", |targets| {
            targets.insert(name.to_owned(), json!(target))
        });
        self
    }

    /// Removes a target; nothing happens when it is not there.
    #[must_use]
    pub fn remove_target(mut self, name: &str) -> Self {
        edit(&mut self.fields, "targets", |targets| targets.remove(name));
        self
    }

    /// The entry of a target, as it stands.
    #[must_use]
    pub fn target(&self, name: &str) -> Option<TargetFile> {
        let entry = self.fields.get("targets")?.get(name)?;
        serde_json::from_value(entry.clone()).ok()
    }

    /// The names of the targets in it.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let targets = self.fields.get("targets").and_then(Value::as_object);
        targets.into_iter().flat_map(|map| map.keys().map(String::as_str))
    }

    /// The version, where it is not to be 1 or one above the existing file.
    #[must_use]
    pub fn version(mut self, version: u64) -> Self {
        self.fields.insert("version".to_owned(), json!(version));
        self
    }

    /// When it expires.
    #[must_use]
    pub fn expires(mut self, expires: UnixTime) -> Self {
        self.fields.insert("expires".to_owned(), json!(expires));
        self
    }

    /// Delegates to a role, after those that are there; one of the same name is replaced in its place.
    ///
    /// `role.keys.keyids` are replaced by those of `keys`.
    #[must_use]
    pub fn delegate(mut self, mut role: DelegatedRole, keys: &[PublicKey]) -> Self {
        role.keys.keyids = keys.iter().map(PublicKey::id).collect();
        edit(&mut self.fields, "delegations", |delegations| {
            edit(delegations, "keys", |known| {
                known.extend(
                    keys.iter()
                        .map(|key| (key.id().to_string(), key.object().clone())),
                );
            });
            let roles = delegations.entry("roles").or_insert_with(|| json!([]));
            if let Value::Array(roles) = roles {
                match roles
                    .iter_mut()
                    .find(|old| old.get("name") == Some(&json!(role.name)))
                {
                    Some(old) => *old = json!(role),
                    None => roles.push(json!(role)),
                }
            }
        });
        self.forget_unused_keys();
        self
    }

    /// Takes a delegation back.
    #[must_use]
    pub fn undelegate(mut self, name: &str) -> Self {
        edit(&mut self.fields, "delegations", |delegations| {
            if let Some(Value::Array(roles)) = delegations.get_mut("roles") {
                roles.retain(|role| role.get("name") != Some(&json!(name)));
            }
        });
        self.forget_unused_keys();
        self
    }

    /// Keys that no delegation names any more are not kept.
    fn forget_unused_keys(&mut self) {
        let empty = edit(&mut self.fields, "delegations", |delegations| {
            let roles = delegations
                .get("roles")
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default();
            let used: Vec<&Value> = roles
                .iter()
                .filter_map(|role| role.get("keyids")?.as_array())
                .flatten()
                .collect();
            edit(delegations, "keys", |keys| {
                keys.retain(|id, _| used.iter().any(|used| used.as_str() == Some(id)));
            });
            roles.is_empty()
        });
        if empty {
            self.fields.remove("delegations");
        }
    }

    /// The file, ready to be signed.
    ///
    /// # Errors
    /// When a verifier would not read it.
    pub fn build(self) -> Result<Unsigned<Targets>, Error> {
        Unsigned::new(self.fields)
    }
}
