//! Changing who may sign: a draft of the next root, signed in turns on as many machines as it takes.
//!
//! A draft is a root file of the framework with the signatures that it has so far; nothing else travels. What it
//! changes is told against the root that the person in front of it holds, never against one that came with it.

mod change;
mod publish;
mod words;

use std::path::{Path, PathBuf};

use tuf::editor::Signed;
use tuf::schema::RoleKeys;
use tuf::{KeyId, Limits, Role, Root, SignError, Signer, TrustedState};

pub use change::{Change, ChangeError, RoleWord, next_root};
pub(crate) use publish::mark_withdrawn;
pub use publish::{RootError, Withdrawals};
pub use words::{Holders, differences};

use crate::keyring::short;

/// A root with its bytes, which signs itself.
#[derive(Debug, Clone)]
pub struct Known {
    /// As it was read.
    pub bytes: Vec<u8>,
    /// What it says.
    pub root: Root,
}

/// Why a draft cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DraftError {
    /// Not there.
    #[error("there is no draft at {}: `admin-gui root add`, `remove`, `replace`, `threshold` and `renew` begin one", .0.display())]
    Missing(PathBuf),
    /// Not readable.
    #[error("cannot read the file")]
    File(#[source] durable::Error),
    /// Not a root.
    #[error("{} is not a root", path.display())]
    NotARoot {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: tuf::Error,
    },
    /// It does not follow the root at hand.
    #[error(
        "{} is a draft of root {found}; the root at hand is version {known}, and root {} follows it: {}",
        path.display(), known + 1, if found <= known { "begin a new draft" } else { "get the newest root.json first" }
    )]
    Order {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u64,
        /// The version at hand.
        known: u64,
    },
    /// Signed by somebody who has no say.
    #[error("the key {found} in {} has no say here: {wanted}", path.display())]
    Foreign {
        /// The key's file.
        path: PathBuf,
        /// The key.
        found: String,
        /// Whose say it is.
        wanted: String,
    },
    /// Too few signatures.
    #[error("{} lacks signatures: {missing}", path.display())]
    Unfinished {
        /// The file.
        path: PathBuf,
        /// Whose.
        missing: String,
    },
    /// The key did not sign.
    #[error("the key did not sign")]
    Sign(#[from] SignError),
}

impl Known {
    /// Reads a root that a person holds.
    ///
    /// # Errors
    /// [`DraftError`]; also when it does not sign itself.
    pub fn read(path: &Path) -> Result<Self, DraftError> {
        let bytes = durable::read_limited(path, Limits::default().root_length).map_err(DraftError::File)?;
        Self::of(bytes).map_err(|source| DraftError::NotARoot {
            path: path.to_owned(),
            source,
        })
    }

    /// Takes the bytes of a root.
    ///
    /// # Errors
    /// When it is no root or does not sign itself.
    pub fn of(bytes: Vec<u8>) -> Result<Self, tuf::Error> {
        let state = TrustedState::init(&bytes, None, &Limits::default())?;
        Ok(Self {
            root: state.root().clone(),
            bytes,
        })
    }
}

/// A draft, read against the root before it.
#[derive(Debug, Clone)]
pub struct RootDraft {
    /// Its file.
    pub path: PathBuf,
    /// What it says.
    pub root: Root,
    /// The names that it and the root before give to keys.
    pub holders: Holders,
    before: Known,
    signed: Signed<Root>,
}

/// How far the signing has got for the keys of one root.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Standing {
    /// `root 1` or `root 2, the new one`.
    pub of: String,
    /// Signatures that are needed.
    pub needed: u32,
    /// Who has signed.
    pub signed: Vec<String>,
    /// Who may still sign.
    pub open: Vec<String>,
}

impl Standing {
    /// Whether it is enough.
    #[must_use]
    pub fn is_met(&self) -> bool {
        self.signed.len() >= self.needed as usize
    }
}

impl RootDraft {
    /// Reads a draft against the root that this person holds.
    ///
    /// # Errors
    /// [`DraftError`]; among others when it is not that root's direct successor.
    pub fn read(path: &Path, before: Known) -> Result<Self, DraftError> {
        let bytes = durable::read_limited(path, Limits::default().root_length).map_err(|error| {
            if error.is_missing() {
                DraftError::Missing(path.to_owned())
            } else {
                DraftError::File(error)
            }
        })?;
        Self::of(path, &bytes, before)
    }

    /// The same for bytes that are to be written there.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn of(path: &Path, bytes: &[u8], before: Known) -> Result<Self, DraftError> {
        let not = |source| DraftError::NotARoot {
            path: path.to_owned(),
            source,
        };
        let signed = Signed::<Root>::from_bytes(bytes).map_err(not)?;
        let root = signed.view().map_err(not)?;
        if root.version != before.root.version.saturating_add(1) {
            return Err(DraftError::Order {
                path: path.to_owned(),
                found: root.version,
                known: before.root.version,
            });
        }
        let holders = Holders::of(&before.bytes).and(&Holders::of(bytes));
        Ok(Self {
            path: path.to_owned(),
            root,
            holders,
            before,
            signed,
        })
    }

    /// The file as it is.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.signed.bytes()
    }

    /// The root before it.
    #[must_use]
    pub fn before(&self) -> &Root {
        &self.before.root
    }

    /// What it changes, a line each; never none.
    #[must_use]
    pub fn changes(&self) -> Vec<String> {
        let old = Signed::<Root>::from_bytes(&self.before.bytes);
        let old = old.as_ref().map(Signed::fields).ok();
        differences(
            (&self.before.root, old),
            (&self.root, self.signed.fields()),
            &self.holders,
        )
    }

    /// How far the signing has got: for the root before, and for the new one (TUF 5.3.4 and 5.3.5).
    #[must_use]
    pub fn standing(&self) -> [Standing; 2] {
        let [old, new] = [&self.before.root, &self.root];
        [
            self.standing_of(old, format!("root {}", old.version)),
            self.standing_of(new, format!("root {}, the new one", new.version)),
        ]
    }

    fn standing_of(&self, root: &Root, of: String) -> Standing {
        let (signed, open): (Vec<_>, Vec<_>) = root
            .root
            .keyids
            .iter()
            .partition(|id| self.has_signed(root, **id));
        let named = |ids: Vec<&KeyId>| ids.into_iter().map(|id| self.holders.name(*id)).collect();
        Standing {
            of,
            needed: root.root.threshold.get(),
            signed: named(signed),
            open: named(open),
        }
    }

    /// Whether the key's signature is there and right.
    fn has_signed(&self, root: &Root, id: KeyId) -> bool {
        let alone = RoleKeys {
            keyids: vec![id],
            threshold: std::num::NonZeroU32::MIN,
        };
        self.signed.check(&alone, &root.keys).is_ok()
    }

    /// Whether a key has a say in this change, and has not spoken yet.
    #[must_use]
    pub fn waits_for(&self, id: KeyId) -> bool {
        [&self.before.root, &self.root]
            .into_iter()
            .any(|root| root.root.keyids.contains(&id) && !self.has_signed(root, id))
    }

    /// Whether a key may sign: named by the root before or by the new one.
    ///
    /// # Errors
    /// [`DraftError::Foreign`] says whose say it is.
    pub fn check_signer(&self, file: &Path, id: KeyId) -> Result<(), DraftError> {
        let named = |root: &Root| root.root.keyids.contains(&id);
        if named(&self.before.root) || named(&self.root) {
            return Ok(());
        }
        let wanted = |root: &Root| {
            let names: Vec<_> = root.root.keyids.iter().map(|id| self.holders.name(*id)).collect();
            format!("root {} wants {}", root.version, names.join(" or "))
        };
        Err(DraftError::Foreign {
            path: file.to_owned(),
            found: short(id),
            wanted: format!("{}, {}", wanted(&self.before.root), wanted(&self.root)),
        })
    }

    /// Adds a signature.
    ///
    /// # Errors
    /// [`DraftError::Foreign`] for a key without a say; or the key did not sign.
    pub fn sign(self, file: &Path, key: &dyn Signer) -> Result<Self, DraftError> {
        self.check_signer(file, key.public_key().id())?;
        let signed = self.signed.sign(key)?;
        Ok(Self { signed, ..self })
    }

    /// Whether both thresholds are met, so that every client will follow.
    ///
    /// # Errors
    /// [`DraftError::Unfinished`] says whose signatures are missing.
    pub fn check_finished(&self) -> Result<(), DraftError> {
        let missing: Vec<_> = self
            .standing()
            .iter()
            .filter(|standing| !standing.is_met())
            .map(|standing| {
                let more = standing.needed as usize - standing.signed.len();
                format!(
                    "{} needs {more} more, of {}",
                    standing.of,
                    standing.open.join(", ")
                )
            })
            .collect();
        if !missing.is_empty() {
            return Err(DraftError::Unfinished {
                path: self.path.clone(),
                missing: missing.join("; "),
            });
        }
        // The same once more, by the rule that clients go by.
        self.signed
            .check_root(Some(&self.before.root))
            .map_err(|source| DraftError::NotARoot {
                path: self.path.clone(),
                source,
            })
    }

    /// The first key that has signed: it stands in the record.
    #[must_use]
    pub fn first_signer(&self) -> Option<KeyId> {
        self.signed.signed_by().next()
    }

    /// Whether a targets file is signed enough for this root.
    #[must_use]
    pub fn vouches_for(&self, targets: &[u8]) -> bool {
        let role = self.root.role(&Role::Targets);
        let file = Signed::<tuf::Targets>::from_bytes(targets);
        matches!((role, file), (Some(role), Ok(file)) if file.check(role, &self.root.keys).is_ok())
    }
}
