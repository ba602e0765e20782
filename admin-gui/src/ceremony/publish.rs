//! A finished draft becomes the root in force: with the list of releases, where its keys change.

use release::{Component, Release, Version, Withdrawn};
use serde_json::json;
use tuf::{KeyId, Role, Signer, TargetFile, UnixTime};

use crate::ceremony::{DraftError, Known, RootDraft};
use crate::desk::{Desk, LookError, View};
use crate::keyring::KeyFile;
use crate::limits::TARGETS_SECONDS;
use crate::maintain::Entry;
use crate::publish::{PublishError, Published};
use crate::record::Action;
use crate::roles;
use crate::visible::Change;

/// Why a root is not published.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// The draft.
    #[error(transparent)]
    Draft(#[from] DraftError),
    /// The list of releases needs a signature by the new keys, and this folder has none of them.
    #[error(
        "root {root} takes the list of releases from the keys that signed it, and too few of its own are in this folder: \
         bring the key file, with its NAME.pub beside it, or let enough of them sign the list before (`admin-gui renew \
         --draft FILE`, `admin-gui sign FILE`)"
    )]
    NoTargetsKey {
        /// The new root's version.
        root: u64,
    },
    /// Like publishing.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

impl From<LookError> for RootError {
    fn from(error: LookError) -> Self {
        Self::Publish(error.into())
    }
}

/// Releases that are withdrawn in the same moment: what a thief of the old key has released.
pub type Withdrawals = [(Component, Version)];

impl Desk {
    /// The state that a new root is made on: what the repository serves, or, where that has expired, what was verified.
    ///
    /// # Errors
    /// [`LookError`].
    pub async fn look_even_if_expired(&self) -> Result<View, LookError> {
        match self.look().await {
            Err(LookError::Expired(_)) => Ok(self.remembered()?),
            other => other,
        }
    }

    /// The root in force, as a draft is read against it.
    ///
    /// # Errors
    /// None for a state that was verified.
    pub fn root_in_force(view: &View) -> Result<Known, DraftError> {
        let bytes = view.state.raw(&Role::Root).unwrap_or_default().to_vec();
        Known::of(bytes).map_err(|source| DraftError::NotARoot {
            path: "root.json".into(),
            source,
        })
    }

    /// The key files that must sign the list of releases with this root: none where its keys stay.
    ///
    /// # Errors
    /// [`RootError::NoTargetsKey`] where this folder has too few of them.
    pub fn signers_for_targets(&self, view: &View, draft: &RootDraft) -> Result<Vec<KeyFile>, RootError> {
        let stays = |raw: &[u8]| draft.vouches_for(raw);
        if view.state.raw(&Role::Targets).is_some_and(stays) {
            return Ok(Vec::new());
        }
        let mut keys = self.folder.keys_for(&draft.root.targets);
        let needed = draft.root.targets.threshold.get() as usize;
        if keys.len() < needed {
            return Err(RootError::NoTargetsKey {
                root: draft.root.version,
            });
        }
        keys.truncate(needed);
        Ok(keys)
    }

    /// Makes a finished draft the root in force. `signers` are the open keys of [`Self::signers_for_targets`].
    ///
    /// # Errors
    /// [`RootError`]; nothing changed then.
    pub async fn publish_root(
        &self,
        view: &View,
        draft: &RootDraft,
        signers: &[&dyn Signer],
        withdraw: &Withdrawals,
    ) -> Result<Published, RootError> {
        draft.check_finished()?;
        let by = draft.first_signer();
        let outcome = self.publish_root_once(view, draft, signers, withdraw).await;
        let entry = Entry {
            action: Action::Root,
            subject: None,
        };
        Ok(self.note(&entry, by.unwrap_or(NOBODY), outcome)?)
    }

    async fn publish_root_once(
        &self,
        view: &View,
        draft: &RootDraft,
        signers: &[&dyn Signer],
        withdraw: &Withdrawals,
    ) -> Result<Published, PublishError> {
        let now = self.senses.now();
        let (expects, base) = self.newest_targets(view)?;
        let targets = if signers.is_empty() {
            None
        } else {
            let authority = roles::Authority::of_root(&draft.root, draft.holders.clone());
            let changed = withdrawn(view, withdraw, now)?;
            let expires = now.plus_seconds(TARGETS_SECONDS);
            Some(roles::next_targets(
                &base,
                signers,
                expires,
                &authority,
                |editor| {
                    changed
                        .iter()
                        .fold(editor, |editor, (path, target)| editor.add_target(path, target))
                },
            )?)
        };
        let name = Role::Root.versioned_file_name(draft.root.version);
        let file = protocol::author::RoleFile {
            body: String::from_utf8_lossy(&draft.bytes()).into_owned(),
            name,
        };
        let change = Change {
            expects,
            roots: vec![file],
            targets,
            lists: Vec::new(),
            target: None,
        };
        let receipt = self.make_visible(&change, None, &[]).await?;
        let mut warnings = Vec::new();
        self.confirm(&change, &receipt, &mut warnings).await?;
        Ok(Published {
            update: None,
            release: None,
            receipt,
            events: Vec::new(),
            sent: 0,
            warnings,
        })
    }
}

/// A draft that passes its check has a signer.
const NOBODY: KeyId = KeyId(tuf::Digest::from_bytes([0; 32]));

/// The entries of these releases, withdrawn.
fn withdrawn(
    view: &View,
    withdraw: &Withdrawals,
    at: UnixTime,
) -> Result<Vec<(String, TargetFile)>, PublishError> {
    let one = |(component, version): &(Component, Version)| {
        let missing = || PublishError::NoSuchRelease(format!("{component} {version}"));
        let listed = view.catalogue.find(component, version).ok_or_else(missing)?;
        let mut target = view.state.target(&listed.path).cloned().ok_or_else(missing)?;
        mark_withdrawn(&mut target, at, "signed with a key that is replaced");
        Ok((listed.path.clone(), target))
    };
    withdraw.iter().map(one).collect()
}

/// Marks a target as withdrawn, in place, so that fields which this program does not know stay.
pub(crate) fn mark_withdrawn(target: &mut TargetFile, at: UnixTime, reason: &str) {
    let described = target
        .custom
        .as_mut()
        .and_then(|custom| custom.get_mut(Release::KEY));
    if let Some(described) = described {
        described["withdrawn"] = json!(Withdrawn {
            at,
            reason: reason.to_owned()
        });
    }
}
