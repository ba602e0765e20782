//! Who may sign for this site: every role's keys, how many must sign, whose they are and where they lie.

use serde::Serialize;
use tuf::{Role, UnixTime};

use crate::ceremony::Holders;
use crate::desk::{Desk, View};
use crate::keyring::{keys_in, short};

/// A role and its keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RoleKeys {
    /// `root`, `targets`, `snapshot`, `timestamp`.
    pub role: String,
    /// How many of the keys must sign.
    pub needed: u32,
    /// When what they signed last expires; none where nothing is signed yet.
    pub expires: Option<UnixTime>,
    /// The keys.
    pub keys: Vec<KeyRow>,
}

/// One key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyRow {
    /// The whole id.
    pub id: String,
    /// Its beginning, by which people tell keys apart.
    pub short: String,
    /// The signature scheme.
    pub kind: String,
    /// Who holds it, where the root says so.
    pub holder: Option<String>,
    /// Where it lies, as far as this desk can tell.
    pub place: String,
}

impl Desk {
    /// The keys that the root in force names.
    #[must_use]
    pub fn keys(&self, view: &View) -> Vec<RoleKeys> {
        let state = &view.state;
        let root = state.root();
        let holders = Holders::of(state.raw(&Role::Root).unwrap_or_default());
        let local = keys_in(&self.folder.dir);
        let expires = [
            (Role::Root, Some(root.expires)),
            (Role::Targets, state.targets().map(|role| role.expires)),
            (Role::Snapshot, state.snapshot().map(|role| role.expires)),
            (Role::Timestamp, state.timestamp().map(|role| role.expires)),
        ];
        let row = |role: &Role, id: &tuf::KeyId| {
            let here = local.iter().find(|key| key.public.id() == *id);
            let elsewhere = match role {
                Role::Snapshot | Role::Timestamp => "at the repository",
                _ => "not in this folder",
            };
            KeyRow {
                id: id.to_string(),
                short: short(*id),
                kind: root
                    .keys
                    .get(id)
                    .map_or("unknown", |key| key.scheme().name())
                    .to_owned(),
                holder: holders.get(*id).map(str::to_owned),
                place: here.map_or_else(|| elsewhere.to_owned(), |key| key.path.display().to_string()),
            }
        };
        let described = |(role, expires): (Role, Option<UnixTime>)| {
            let keys = root.role(&role)?;
            Some(RoleKeys {
                needed: keys.threshold.get(),
                expires,
                keys: keys.keyids.iter().map(|id| row(&role, id)).collect(),
                role: role.to_string(),
            })
        };
        expires.into_iter().filter_map(described).collect()
    }
}
