//! The one request that makes a change visible, and the proof that it did.

use protocol::author::{Publish, Receipt, RoleFile};
use protocol::{Event, UpdateId};
use tuf::{Digest, Role, TargetFile};

use crate::desk::{Desk, LookError, View};
use crate::draft::chain;
use crate::limits::ROOTS;
use crate::repository::ClientError;
use crate::roles::SignedRole;

/// New roles, signed, on top of the state that was seen.
#[derive(Debug, Clone)]
pub struct Change {
    /// The targets version that was seen.
    pub expects: u64,
    /// New roots, oldest first.
    pub roots: Vec<RoleFile>,
    /// A new list: the author's, or a team's.
    pub targets: Option<SignedRole>,
    /// First lists of teams that the new targets delegate to.
    pub lists: Vec<RoleFile>,
    /// The target that is new in them: its path and digest.
    pub target: Option<(String, Digest)>,
}

/// Why a change did not become visible.
#[derive(Debug, thiserror::Error)]
pub enum VisibleError {
    /// Somebody else was faster.
    #[error("somebody else published in between: nothing was published, try again")]
    Conflict(#[source] ClientError),
    /// Refused, or not reached.
    #[error("nothing was published")]
    Refused(#[source] ClientError),
    /// The answer was lost and cannot be looked up now.
    #[error(
        "the connection broke while publishing, so it is not known whether the repository has it: run `admin-gui \
         status` when it can be reached; publishing again is safe"
    )]
    Unknown(#[source] ClientError),
    /// The receipt does not fit what the repository serves.
    #[error("the repository's receipt is not true ({0}): look at `admin-gui status` before you trust it")]
    Receipt(String),
}

impl Desk {
    /// Asks the repository to make the change visible, all of it or nothing.
    pub(crate) async fn make_visible(
        &self,
        change: &Change,
        update: Option<UpdateId>,
        events: &[Event],
    ) -> Result<Receipt, VisibleError> {
        let publish = Publish {
            update,
            expects: change.expects,
            roots: change.roots.clone(),
            targets: change
                .targets
                .iter()
                .map(|role| role.file.clone())
                .chain(change.lists.iter().cloned())
                .collect(),
            events: events.to_vec(),
        };
        match self.repository.publish(&publish).await {
            Ok(receipt) => Ok(receipt),
            Err(error @ (ClientError::Unreachable { .. } | ClientError::Untrusted { .. })) => {
                Err(VisibleError::Refused(error))
            }
            Err(error) if error.is_passing() => self.look_up(change, update, error).await,
            Err(error) if error.is_conflict() => match self.look_up(change, update, error).await {
                Err(VisibleError::Refused(error) | VisibleError::Unknown(error)) => {
                    Err(VisibleError::Conflict(error))
                }
                other => other,
            },
            Err(error) => Err(VisibleError::Refused(error)),
        }
    }

    /// Whether the repository has the change although its answer is missing: the metadata says so.
    async fn look_up(
        &self,
        change: &Change,
        update: Option<UpdateId>,
        error: ClientError,
    ) -> Result<Receipt, VisibleError> {
        let Ok(view) = self.look().await else {
            return Err(VisibleError::Unknown(error));
        };
        // A later version that is not known to have our target may be somebody else's instead of ours.
        let later = change
            .targets
            .as_ref()
            .is_some_and(|ours| view.version_of(&ours.role) > ours.version);
        let role = change
            .targets
            .as_ref()
            .map_or(Role::Targets, |ours| ours.role.clone());
        match shows(&view, change) {
            Ok(()) if !later || change.target.is_some() => {
                receipt_of(&view, &role, update).ok_or(VisibleError::Unknown(error))
            }
            _ => Err(VisibleError::Refused(error)),
        }
    }

    /// Checks the receipt against what the repository serves now, verified like any client does.
    pub(crate) async fn confirm(
        &self,
        change: &Change,
        receipt: &Receipt,
        warnings: &mut Vec<String>,
    ) -> Result<(), VisibleError> {
        if let Some(targets) = &change.targets
            && (receipt.targets, receipt.targets_digest) != (targets.version, targets.digest)
        {
            let (said, ours) = (receipt.targets, targets.version);
            return Err(VisibleError::Receipt(format!(
                "it names targets {said}, not our version {ours}"
            )));
        }
        match self.look().await {
            Ok(view) => {
                shows(&view, change).map_err(VisibleError::Receipt)?;
                if let Some(raw) = view.state.raw(&Role::Targets)
                    && let Err(error) = durable::replace(self.folder.targets(), raw, 0o644)
                {
                    warnings.push(format!(
                        "the copy of the targets role was not kept: {}",
                        chain(&error)
                    ));
                }
                Ok(())
            }
            Err(LookError::Client(error)) => {
                warnings.push(format!("the receipt could not be checked: {}", chain(&error)));
                Ok(())
            }
            Err(error) => Err(VisibleError::Receipt(chain(&error))),
        }
    }

    /// What the next list is made from: the repository's, or the one that was signed at the beginning.
    pub(crate) fn base_targets(&self, view: &View) -> Result<Vec<u8>, durable::Error> {
        match view.state.raw(&self.role()) {
            Some(raw) => Ok(raw.to_vec()),
            None => durable::read_limited(self.folder.targets(), tuf::Limits::default().targets_length),
        }
    }

    /// Roots that were made here and that the repository does not have yet.
    pub(crate) fn pending_roots(&self, view: &View) -> Result<Vec<RoleFile>, durable::Error> {
        self.roots_after(view.state.root().version)
    }

    /// Roots of this desk above a version, oldest first.
    pub(crate) fn roots_after(&self, version: u64) -> Result<Vec<RoleFile>, durable::Error> {
        let mut found = Vec::new();
        for version in (version + 1..).take(ROOTS as usize) {
            let path = self.folder.root_version(version);
            match durable::read_limited(&path, tuf::Limits::default().root_length) {
                Ok(bytes) => found.push(RoleFile {
                    name: Role::Root.versioned_file_name(version),
                    body: String::from_utf8_lossy(&bytes).into_owned(),
                }),
                Err(error) if error.is_missing() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }
}

/// Whether verified metadata contains the change, or a successor that somebody made of it.
fn shows(view: &View, change: &Change) -> Result<(), String> {
    if let Some(targets) = &change.targets {
        let (version, ours) = (view.version_of(&targets.role), targets.version);
        let same = view.state.raw(&targets.role).map(Digest::of) == Some(targets.digest);
        if version < ours || (version == ours && !same) {
            return Err(format!(
                "it serves targets {version}, which is not our version {ours}"
            ));
        }
    }
    if let Some((path, digest)) = &change.target
        && view.state.target(path).and_then(TargetFile::sha256) != Some(*digest)
    {
        return Err(format!("it does not list {path} with our digest"));
    }
    let root = view.state.root().version;
    match change.roots.last() {
        Some(newest) if root < version_of(&newest.name) => {
            Err(format!("it serves root {root}, not {}", newest.name))
        }
        Some(newest)
            if root == version_of(&newest.name)
                && view.state.raw(&Role::Root) != Some(newest.body.as_bytes()) =>
        {
            Err(format!("it serves another {}", newest.name))
        }
        _ => Ok(()),
    }
}

fn version_of(name: &str) -> u64 {
    name.split('.')
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap_or(u64::MAX)
}

/// A receipt from the metadata itself, when the repository's own was lost.
fn receipt_of(view: &View, role: &Role, update: Option<UpdateId>) -> Option<Receipt> {
    let raw = view.state.raw(role)?;
    let team = match role {
        Role::Delegated(team) => team.parse().ok(),
        _ => None,
    };
    Some(Receipt {
        update,
        team,
        targets: view.version_of(role),
        targets_digest: Digest::of(raw),
        snapshot: view.state.snapshot()?.version,
        timestamp: view.state.timestamp()?.version,
        at: view.state.timestamp()?.signed_at?,
        events: Vec::new(),
    })
}
