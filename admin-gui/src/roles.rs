//! The author's metadata: the first root and targets roles, and their successors.

use std::collections::BTreeMap;

use protocol::Name;
use protocol::author::RoleFile;
use tuf::editor::{RootEditor, Signed, TargetsEditor};
use tuf::schema::RoleKeys;
use tuf::{Digest, KeyId, PublicKey, Role, Root, SignError, Signer, Targets, TrustedState, UnixTime};

use crate::ceremony::Holders;

/// Why metadata could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RolesError {
    /// A verifier would not accept it.
    #[error("the new metadata would not be accepted")]
    Rules(#[from] tuf::Error),
    /// The key did not sign.
    #[error("the key did not sign")]
    Sign(#[from] SignError),
    /// One desk is not enough.
    #[error(
        "{needed} keys must sign the list of releases, and this desk has {made} of them: begin a draft with --draft \
         FILE on the command line, let {who} sign it (`admin-gui sign FILE`), then `admin-gui publish --from FILE`"
    )]
    TooFew {
        /// Signatures that are needed.
        needed: u32,
        /// Signatures that this desk has made.
        made: usize,
        /// Whose keys could give the others.
        who: String,
    },
    /// Not text, though all JSON is.
    #[error("the new metadata is not text")]
    Text,
}

/// Who must sign a list of releases: the role, its keys, and how many of them.
#[derive(Debug, Clone)]
pub struct Authority {
    /// The role: the author's, or a team's.
    pub role: Role,
    keys: RoleKeys,
    known: BTreeMap<KeyId, PublicKey>,
    holders: Holders,
}

impl Authority {
    /// The author's list, by a root and the names that it gives to keys.
    #[must_use]
    pub fn of_root(root: &Root, holders: Holders) -> Self {
        Self {
            role: Role::Targets,
            keys: root.targets.clone(),
            known: root.keys.clone(),
            holders,
        }
    }

    /// The author's list, as the root in force says.
    #[must_use]
    pub fn of_author(state: &TrustedState) -> Self {
        let root = state.raw(&Role::Root).unwrap_or_default();
        Self::of_root(state.root(), Holders::of(root))
    }

    /// A team's list; none if nobody delegates to it.
    #[must_use]
    pub fn of_team(state: &TrustedState, team: &Name) -> Option<Self> {
        let delegations = state.targets()?.delegations.as_ref()?;
        let role = delegations.roles.iter().find(|role| role.name == team.as_str())?;
        Some(Self {
            role: Role::Delegated(role.name.clone()),
            keys: role.keys.clone(),
            known: delegations.keys.clone(),
            holders: Holders::of(state.raw(&Role::Root).unwrap_or_default()),
        })
    }

    /// The keys, by id.
    #[must_use]
    pub fn keys(&self) -> &RoleKeys {
        &self.keys
    }

    /// A key as people call it.
    #[must_use]
    pub fn name(&self, id: KeyId) -> String {
        self.holders.name(id)
    }

    /// Whether this key's signature under a list is there and right.
    #[must_use]
    pub fn has_signed(&self, list: &Signed<Targets>, id: KeyId) -> bool {
        let alone = RoleKeys {
            keyids: vec![id],
            threshold: std::num::NonZeroU32::MIN,
        };
        self.keys.keyids.contains(&id) && list.check(&alone, &self.known).is_ok()
    }

    /// Whether enough keys have signed a list, by the rule that clients go by.
    ///
    /// # Errors
    /// [`RolesError::TooFew`] says whose signatures are missing.
    pub fn check(&self, list: &Signed<Targets>) -> Result<(), RolesError> {
        if list.check(&self.keys, &self.known).is_ok() {
            return Ok(());
        }
        let (signed, open): (Vec<&KeyId>, Vec<&KeyId>) = self
            .keys
            .keyids
            .iter()
            .partition(|id| self.has_signed(list, **id));
        let names: Vec<_> = open.into_iter().map(|id| self.name(*id)).collect();
        Err(RolesError::TooFew {
            needed: self.keys.threshold.get(),
            made: signed.len(),
            who: names.join(" or "),
        })
    }
}

/// A role as it was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedRole {
    /// Whose it is.
    pub role: Role,
    /// Its version.
    pub version: u64,
    /// When it expires.
    pub expires: UnixTime,
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// The file as it travels.
    pub file: RoleFile,
}

impl SignedRole {
    pub(crate) fn new(
        role: &Role,
        version: u64,
        expires: UnixTime,
        bytes: Vec<u8>,
    ) -> Result<Self, RolesError> {
        let digest = Digest::of(&bytes);
        let body = String::from_utf8(bytes).map_err(|_| RolesError::Text)?;
        Ok(Self {
            role: role.clone(),
            version,
            expires,
            digest,
            file: RoleFile {
                name: role.versioned_file_name(version),
                body,
            },
        })
    }
}

/// The first root: one key for each of root and targets, the repository's online key for the rest; `holders` are the
/// author's and the repository's names.
///
/// # Errors
/// [`RolesError`].
pub fn first_root(
    root: &dyn Signer,
    targets: &PublicKey,
    online: &PublicKey,
    holders: (&Name, &Name),
    expires: UnixTime,
) -> Result<Vec<u8>, RolesError> {
    let (author, repository) = holders;
    let mut names = Holders::default();
    names.set(root.public_key().id(), author);
    names.set(targets.id(), author);
    names.set(online.id(), repository);
    let unsigned = RootEditor::new(expires)
        .extra(Holders::FIELD, names.to_field())
        .add_key(&Role::Root, root.public_key())
        .add_key(&Role::Targets, targets.clone())
        .add_key(&Role::Snapshot, online.clone())
        .add_key(&Role::Timestamp, online.clone())
        .build()?;
    let signed = unsigned.sign(root)?;
    signed.check_root(None)?;
    Ok(signed.bytes())
}

/// The same root with a later expiry, one version higher.
///
/// # Errors
/// [`RolesError`]; among others when this key alone is not enough for the root's threshold.
pub fn renewed_root(base: &[u8], root: &dyn Signer, expires: UnixTime) -> Result<SignedRole, RolesError> {
    let before = Signed::<Root>::from_bytes(base)?.view()?;
    let signed = RootEditor::from_existing(base)?
        .expires(expires)
        .build()?
        .sign(root)?;
    signed.check_root(Some(&before))?;
    SignedRole::new(&Role::Root, signed.view()?.version, expires, signed.bytes())
}

/// Targets that list nothing: the repository of a new site is empty, not broken.
///
/// # Errors
/// [`RolesError`].
pub fn first_targets(targets: &dyn Signer, expires: UnixTime) -> Result<Vec<u8>, RolesError> {
    Ok(TargetsEditor::new(expires).build()?.sign(targets)?.bytes())
}

/// The successor of `base` with one change, one version higher, signed by enough keys for clients.
///
/// # Errors
/// [`RolesError`]; among others [`RolesError::TooFew`].
pub fn next_targets(
    base: &[u8],
    signers: &[&dyn Signer],
    expires: UnixTime,
    authority: &Authority,
    change: impl FnOnce(TargetsEditor) -> TargetsEditor,
) -> Result<SignedRole, RolesError> {
    let signed = begun_targets(base, signers, expires, change)?;
    // What clients would refuse is not sent: one key may not be enough, or not be the right one any more.
    authority.check(&signed)?;
    SignedRole::new(&authority.role, signed.view()?.version, expires, signed.bytes())
}

/// The same with the signatures of these keys alone, which may be too few.
///
/// # Errors
/// [`RolesError`].
pub fn begun_targets(
    base: &[u8],
    signers: &[&dyn Signer],
    expires: UnixTime,
    change: impl FnOnce(TargetsEditor) -> TargetsEditor,
) -> Result<Signed<Targets>, RolesError> {
    let editor = TargetsEditor::from_existing(base)?.expires(expires);
    let mut signed = change(editor).build()?.into_signed()?;
    for signer in signers {
        signed = signed.sign(*signer)?;
    }
    Ok(signed)
}
