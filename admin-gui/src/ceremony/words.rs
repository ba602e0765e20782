//! What a new root changes, in words for the person who is to sign it.

use std::collections::BTreeMap;

use protocol::Name;
use serde_json::Value;
use tuf::schema::RoleKeys;
use tuf::{KeyId, Role, Root};

use crate::keyring::short;

/// Who holds which key, by the root's own field.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holders(BTreeMap<KeyId, String>);

impl Holders {
    /// The field of the signed part: key id → name.
    pub const FIELD: &str = "holders";

    /// Reads them from a root file; what is no name is passed over.
    #[must_use]
    pub fn of(root: &[u8]) -> Self {
        let file: Value = serde_json::from_slice(root).unwrap_or_default();
        let entries = file.pointer("/signed/holders").and_then(Value::as_object);
        let read = |(id, name): (&String, &Value)| {
            let name: Name = name.as_str()?.parse().ok()?;
            Some((id.parse().ok()?, name.to_string()))
        };
        Self(entries.into_iter().flatten().filter_map(read).collect())
    }

    /// Both; where they differ, these: a name that was there is not changed by what comes after it.
    #[must_use]
    pub fn and(&self, later: &Self) -> Self {
        let mut all = later.0.clone();
        all.extend(self.0.clone());
        Self(all)
    }

    /// As the field stands in a root; none where nobody is named.
    #[must_use]
    pub fn to_field(&self) -> Option<Value> {
        let named = self
            .0
            .iter()
            .map(|(id, name)| (id.to_string(), Value::from(name.as_str())));
        (!self.0.is_empty()).then(|| Value::Object(named.collect()))
    }

    /// Forgets all keys but these.
    pub fn retain(&mut self, known: impl Fn(&KeyId) -> bool) {
        self.0.retain(|id, _| known(id));
    }

    /// Notes a holder.
    pub fn set(&mut self, id: KeyId, holder: &Name) {
        self.0.insert(id, holder.to_string());
    }

    /// The holder's name.
    #[must_use]
    pub fn get(&self, id: KeyId) -> Option<&str> {
        self.0.get(&id).map(String::as_str)
    }

    /// The key as people call it: `ada (1a2b3c4d)`.
    #[must_use]
    pub fn name(&self, id: KeyId) -> String {
        match self.get(id) {
            Some(name) => format!("{name} ({})", short(id)),
            None => short(id),
        }
    }
}

/// Fields of a root that are told in words of their own.
const TOLD: [&str; 6] = ["_type", "version", "expires", "keys", "roles", Holders::FIELD];

/// What is different between two roots; a line each, never none. The fields are those of the signed parts: one that
/// this program does not know is named, so that nobody signs it unseen.
#[must_use]
pub fn differences(
    (old, old_fields): (&Root, Option<&Value>),
    (new, new_fields): (&Root, &Value),
    holders: &Holders,
) -> Vec<String> {
    let mut lines = Vec::new();
    for role in [Role::Root, Role::Targets, Role::Snapshot, Role::Timestamp] {
        if let (Some(before), Some(after)) = (old.role(&role), new.role(&role)) {
            of_role(&role, before, after, new, holders, &mut lines);
        }
    }
    let names = |fields: Option<&Value>| fields.and_then(Value::as_object).cloned().unwrap_or_default();
    let (before, after) = (names(old_fields), names(Some(new_fields)));
    let mut others: Vec<&String> = before.keys().chain(after.keys()).collect();
    others.sort();
    others.dedup();
    for field in others.into_iter().filter(|field| !TOLD.contains(&field.as_str())) {
        if before.get(field) != after.get(field) {
            lines.push(format!(
                "the field {field:?} is different: this program does not know what it means"
            ));
        }
    }
    if lines.is_empty() {
        lines.push("no key and no threshold changes".to_owned());
    }
    lines.push(format!(
        "it expires at {}, the one before at {}",
        new.expires, old.expires
    ));
    lines
}

fn of_role(
    role: &Role,
    before: &RoleKeys,
    after: &RoleKeys,
    new: &Root,
    holders: &Holders,
    lines: &mut Vec<String>,
) {
    for id in after.keyids.iter().filter(|id| !before.keyids.contains(id)) {
        let kind = new.keys.get(id).map_or("unknown", |key| key.scheme().name());
        lines.push(format!("{role}: {} may sign, {kind}", holders.name(*id)));
    }
    for id in before.keyids.iter().filter(|id| !after.keyids.contains(id)) {
        lines.push(format!("{role}: {} may not sign any more", holders.name(*id)));
    }
    let count = |keys: &RoleKeys| format!("{} of {}", keys.threshold, keys.keyids.len());
    if count(before) != count(after) {
        lines.push(format!(
            "{role}: {} must sign, until now {}",
            count(after),
            count(before)
        ));
    }
}
