//! One change of the next root.

use protocol::Name;
use tuf::editor::{RootEditor, Signed};
use tuf::{KeyId, PublicKey, Role, Root, UnixTime};

use crate::ceremony::{Holders, Known};
use crate::keyring::short;
use crate::limits::ROOT_SECONDS;

/// A role on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum RoleWord {
    /// Says who signs for all the others
    Root,
    /// Signs releases
    Targets,
    /// The repository: which lists belong together
    Snapshot,
    /// The repository: which list is the newest
    Timestamp,
    /// The repository's two, snapshot and timestamp, which share a key
    Online,
}

impl RoleWord {
    /// The framework's roles.
    #[must_use]
    pub fn roles(self) -> &'static [Role] {
        match self {
            Self::Root => &[Role::Root],
            Self::Targets => &[Role::Targets],
            Self::Snapshot => &[Role::Snapshot],
            Self::Timestamp => &[Role::Timestamp],
            Self::Online => &[Role::Snapshot, Role::Timestamp],
        }
    }
}

/// What is to be different.
#[derive(Debug, Clone)]
pub enum Change {
    /// One key more.
    Add {
        /// The role.
        role: RoleWord,
        /// Whose key it is.
        holder: Name,
        /// The key.
        key: PublicKey,
    },
    /// One key less.
    Remove {
        /// The role.
        role: RoleWord,
        /// The key: the beginning of its id, or its holder.
        key: String,
    },
    /// One key in another's place.
    Replace {
        /// The role.
        role: RoleWord,
        /// The key that goes; may be left out where there is only one.
        old: Option<String>,
        /// Whose key the new one is.
        holder: Name,
        /// The new key.
        key: PublicKey,
    },
    /// How many must sign.
    Threshold {
        /// The role.
        role: RoleWord,
        /// How many.
        needed: u32,
    },
    /// Nothing but a later expiry.
    Renew,
}

/// Why a change makes no root.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// No such key.
    #[error("{role} has no key {key:?}: it has {have}")]
    NoSuchKey {
        /// The role.
        role: String,
        /// What was said.
        key: String,
        /// What there is.
        have: String,
    },
    /// More than one key fits.
    #[error("{role} has more than one key: say which one goes, {have}")]
    WhichKey {
        /// The role.
        role: String,
        /// What there is.
        have: String,
    },
    /// The key is there.
    #[error("{role} has the key {key} already")]
    There {
        /// The role.
        role: String,
        /// The key.
        key: String,
    },
    /// The repository signs alone.
    #[error("the repository signs {0} by itself, with one key: its threshold stays 1")]
    Alone(String),
    /// A verifier would not read it.
    #[error("this makes no root")]
    Rules(#[from] tuf::Error),
}

/// The root after `base` with one change more, without signatures: whoever signed `base` did not sign this.
///
/// `base` is the root in force, or the draft that follows it.
///
/// # Errors
/// [`ChangeError`].
pub fn next_root(
    before: &Known,
    base: &[u8],
    change: &Change,
    now: UnixTime,
) -> Result<Vec<u8>, ChangeError> {
    let root = Signed::<Root>::from_bytes(base)?.view()?;
    let mut holders = Holders::of(base);
    let editor = RootEditor::from_existing(base)?
        .version(before.root.version.saturating_add(1))
        .expires(now.plus_seconds(ROOT_SECONDS));
    let editor = apply(editor, &root, &mut holders, change)?;
    let unsigned = editor.clone().build()?;
    // Names of keys that are gone go with them.
    let named = unsigned.view()?;
    holders.retain(|id| named.keys.contains_key(id));
    Ok(editor
        .extra(Holders::FIELD, holders.to_field())
        .build()?
        .into_signed()?
        .bytes())
}

fn apply(
    mut editor: RootEditor,
    root: &Root,
    holders: &mut Holders,
    change: &Change,
) -> Result<RootEditor, ChangeError> {
    match change {
        Change::Add { role, holder, key } => {
            for role in role.roles() {
                absent(root, role, key)?;
                editor = editor.add_key(role, key.clone());
            }
            holders.set(key.id(), holder);
        }
        Change::Remove { role, key } => {
            for role in role.roles() {
                editor = editor.remove_key(role, find(root, role, holders, Some(key))?);
            }
        }
        Change::Replace {
            role,
            old,
            holder,
            key,
        } => {
            for role in role.roles() {
                absent(root, role, key)?;
                let old = find(root, role, holders, old.as_deref())?;
                editor = editor.remove_key(role, old).add_key(role, key.clone());
            }
            holders.set(key.id(), holder);
        }
        Change::Threshold { role, needed } => {
            for role in role.roles() {
                if matches!(role, Role::Snapshot | Role::Timestamp) && *needed != 1 {
                    return Err(ChangeError::Alone(role.to_string()));
                }
                editor = editor.set_threshold(role, *needed);
            }
        }
        Change::Renew => {}
    }
    Ok(editor)
}

fn absent(root: &Root, role: &Role, key: &PublicKey) -> Result<(), ChangeError> {
    let ids = root
        .role(role)
        .map(|keys| keys.keyids.as_slice())
        .unwrap_or_default();
    // The key, not its id: written in another way it is still one key, and counts once.
    match ids.iter().find(|id| root.keys.get(id) == Some(key)) {
        Some(id) => Err(ChangeError::There {
            role: role.to_string(),
            key: short(*id),
        }),
        None => Ok(()),
    }
}

/// The one key of a role that a person means.
fn find(root: &Root, role: &Role, holders: &Holders, said: Option<&str>) -> Result<KeyId, ChangeError> {
    let ids = root
        .role(role)
        .map(|keys| keys.keyids.as_slice())
        .unwrap_or_default();
    let have = || {
        let names: Vec<_> = ids.iter().map(|id| holders.name(*id)).collect();
        names.join(", ")
    };
    let fits = |id: &&KeyId| {
        said.is_none_or(|said| {
            let by_id = said.len() >= 4 && id.to_string().starts_with(&said.to_ascii_lowercase());
            by_id || holders.get(**id) == Some(said)
        })
    };
    let found: Vec<&KeyId> = ids.iter().filter(fits).collect();
    match (found.as_slice(), said) {
        ([one], _) => Ok(**one),
        ([], Some(said)) => Err(ChangeError::NoSuchKey {
            role: role.to_string(),
            key: said.to_owned(),
            have: have(),
        }),
        _ => Err(ChangeError::WhichKey {
            role: role.to_string(),
            have: have(),
        }),
    }
}
