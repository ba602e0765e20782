//! A list of releases that needs several keys, signed in turns on as many machines as it takes.
//!
//! A draft is the next list, a role file of the framework with the signatures that it has so far; nothing else travels.
//! What it changes is told against the list that the person in front of it has verified, never against one that came
//! with it. Only what this program can tell in full is signed: one release, one withdrawal, or a later expiry.

mod judge;
mod publish;

use std::path::{Path, PathBuf};

use tuf::editor::Signed;
use tuf::schema::TargetFile;
use tuf::{KeyId, Limits, SignError, Signer, Targets, UnixTime};

pub use judge::What;

use crate::catalogue::Catalogue;
use crate::ceremony::{DraftError, Holders, Known, Standing};
use crate::desk::{Desk, LookError, View};
use crate::keyring::short;
use crate::publish::PublishError;
use crate::roles::{Authority, RolesError, SignedRole};

/// Why a draft of the list of releases cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CosignError {
    /// Something is there already.
    #[error("{} is there already: name another file, nothing was changed", .0.display())]
    Exists(PathBuf),
    /// Not readable, not writable.
    #[error("cannot use {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: durable::Error,
    },
    /// Not a list.
    #[error("{} is not a list of releases", path.display())]
    NotAList {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: tuf::Error,
    },
    /// The root that this person holds.
    #[error(transparent)]
    Root(#[from] DraftError),
    /// The list that this person holds is not signed by the root's keys.
    #[error("{} is not signed by enough keys of the root at hand: get the newest root.json and targets.json", .0.display())]
    NotVerified(PathBuf),
    /// Somebody was faster.
    #[error(
        "somebody published in between: {} is a draft of list {found}, and list {known} is published already; begin it \
         again with --draft, and let it be signed again",
        path.display()
    )]
    Stale {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u64,
        /// The version at hand.
        known: u64,
    },
    /// The list at hand is too old for it.
    #[error(
        "{} is a draft of list {found}; the list at hand is version {known}: get the newest targets.json first",
        path.display()
    )]
    Ahead {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u64,
        /// The version at hand.
        known: u64,
    },
    /// It is the list at hand.
    #[error("{} is published already: nothing is left to do", .0.display())]
    Done(PathBuf),
    /// It changes something that is not told.
    #[error("{} is neither signed nor published: {why}", path.display())]
    Strange {
        /// The file.
        path: PathBuf,
        /// What it is.
        why: String,
    },
    /// A signature that is not over these bytes.
    #[error(
        "the signature of {key} in {} is not over what it says: it was altered after it was signed, so begin it again",
        path.display()
    )]
    Altered {
        /// The file.
        path: PathBuf,
        /// Whose signature.
        key: String,
    },
    /// The desk that begins a draft signs it.
    #[error("{} is signed by nobody: the desk that begins a draft signs it", .0.display())]
    Unsigned(PathBuf),
    /// Signed by somebody who has no say.
    #[error("the key {found} of {} has no say here: {wanted} may sign", path.display())]
    Foreign {
        /// The key's file, or the draft.
        path: PathBuf,
        /// The key.
        found: String,
        /// Whose say it is.
        wanted: String,
    },
    /// Too few signatures.
    #[error("{} has {made} of {needed} signatures; with `admin-gui sign` {who} can give what is missing", path.display())]
    Unfinished {
        /// The file.
        path: PathBuf,
        /// Signatures that are there.
        made: usize,
        /// Signatures that are needed.
        needed: u32,
        /// Whose are missing.
        who: String,
    },
    /// The bytes of the release are needed.
    #[error("{} releases {release}: say `admin-gui publish FILE --from {}`, with its file", path.display(), path.display())]
    NoFile {
        /// The draft.
        path: PathBuf,
        /// What it releases.
        release: String,
    },
    /// Other bytes.
    #[error("{} is not what was signed: its SHA-256 is {found}, the draft releases {wanted}", file.display())]
    OtherFile {
        /// The file.
        file: PathBuf,
        /// Its digest.
        found: tuf::Digest,
        /// The signed one.
        wanted: tuf::Digest,
    },
    /// No file is needed.
    #[error("{} releases nothing new: say `admin-gui publish --from {}` without a file", .0.display(), .0.display())]
    NeedsNoFile(PathBuf),
    /// The key did not sign.
    #[error("the key did not sign")]
    Sign(#[from] SignError),
    /// The list cannot be made.
    #[error("cannot make the draft")]
    Roles(#[from] RolesError),
    /// Like publishing.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

impl From<LookError> for CosignError {
    fn from(error: LookError) -> Self {
        Self::Publish(error.into())
    }
}

/// What a person has verified: a draft is read against it.
#[derive(Debug, Clone)]
pub struct Basis {
    /// Who must sign.
    pub authority: Authority,
    /// Version and SHA-256 of the root that says so.
    root: (u64, tuf::Digest),
    list: Signed<Targets>,
    version: u64,
    expires: UnixTime,
    catalogue: Catalogue,
    /// A team's own components; none for the author's list.
    components: Option<Vec<String>>,
}

impl Basis {
    /// What a desk has verified.
    ///
    /// # Errors
    /// [`CosignError`]; among others for a team that nobody delegates to.
    pub fn of(desk: &Desk, view: &View) -> Result<Self, CosignError> {
        let authority = desk.authority(&view.state).ok_or(PublishError::NoTeam)?;
        let bytes = desk.base_targets(view).map_err(PublishError::from)?;
        let components = desk.config.team.as_ref().map(|team| {
            let rows = crate::team::teams(&view.state);
            let own = rows.into_iter().find(|row| row.team == team.as_str());
            own.map(|row| row.components).unwrap_or_default()
        });
        let root = view.state.raw(&tuf::Role::Root).unwrap_or_default();
        Self::new(
            authority,
            (view.state.root().version, root),
            (&bytes, &desk.folder.targets()),
            view.catalogue.clone(),
            components,
        )
    }

    /// What a person without a desk holds: a root that they trust, and a list that its keys have signed.
    ///
    /// # Errors
    /// [`CosignError`] says which file is at fault.
    pub fn held(root: &Path, list: &Path) -> Result<Self, CosignError> {
        let root = Known::read(root)?;
        let authority = Authority::of_root(&root.root, Holders::of(&root.bytes));
        let bytes = read(list)?;
        let by = (root.root.version, root.bytes.as_slice());
        let basis = Self::new(authority, by, (&bytes, list), Catalogue::default(), None)?;
        let targets = view_of(&basis.list, list)?;
        Ok(Self {
            catalogue: Catalogue::of_list(&targets),
            ..basis
        })
    }

    fn new(
        authority: Authority,
        (root, root_bytes): (u64, &[u8]),
        (bytes, path): (&[u8], &Path),
        catalogue: Catalogue,
        components: Option<Vec<String>>,
    ) -> Result<Self, CosignError> {
        let list = Signed::from_bytes(bytes).map_err(|source| not_a_list(path, source))?;
        // Also a desk's own file, which counts where nothing was verified yet.
        if authority.check(&list).is_err() {
            return Err(CosignError::NotVerified(path.to_owned()));
        }
        let targets = view_of(&list, path)?;
        Ok(Self {
            authority,
            root: (root, tuf::Digest::of(root_bytes)),
            list,
            version: targets.version,
            expires: targets.expires,
            catalogue,
            components,
        })
    }
}

/// A draft of the next list, read against what this person has verified.
#[derive(Debug, Clone)]
pub struct ListDraft {
    /// Its file.
    pub path: PathBuf,
    /// Its version.
    pub version: u64,
    /// Until when it holds.
    pub expires: UnixTime,
    /// The one thing that it changes.
    pub what: What,
    basis: Basis,
    signed: Signed<Targets>,
}

fn not_a_list(path: &Path, source: tuf::Error) -> CosignError {
    CosignError::NotAList {
        path: path.to_owned(),
        source,
    }
}

fn view_of(list: &Signed<Targets>, path: &Path) -> Result<Targets, CosignError> {
    list.view().map_err(|source| not_a_list(path, source))
}

fn read(path: &Path) -> Result<Vec<u8>, CosignError> {
    let max = Limits::default().targets_length;
    durable::read_limited(path, max).map_err(|source| CosignError::File {
        path: path.to_owned(),
        source,
    })
}

impl ListDraft {
    /// Reads a draft; `now` is this machine's time, for its expiry.
    ///
    /// # Errors
    /// [`CosignError`]: anything but the plain next list, signed by nobody but its keys, is refused.
    pub fn read(path: &Path, basis: Basis, now: UnixTime) -> Result<Self, CosignError> {
        Self::of(path, &read(path)?, basis, now)
    }

    /// The same for bytes that are to be written there.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn of(path: &Path, bytes: &[u8], basis: Basis, now: UnixTime) -> Result<Self, CosignError> {
        let signed = Signed::<Targets>::from_bytes(bytes).map_err(|source| not_a_list(path, source))?;
        let list = view_of(&signed, path)?;
        let (found, known, path) = (list.version, basis.version, path.to_owned());
        if signed.fields() == basis.list.fields() {
            return Err(CosignError::Done(path));
        }
        if found <= known {
            return Err(CosignError::Stale { path, found, known });
        }
        if found > known.saturating_add(1) {
            return Err(CosignError::Ahead { path, found, known });
        }
        let what = match basis.judge(&signed, list.expires, now) {
            Ok(what) => what,
            Err(why) => return Err(CosignError::Strange { path, why }),
        };
        let draft = Self {
            path,
            version: list.version,
            expires: list.expires,
            what,
            basis,
            signed,
        };
        draft.check_signatures()?;
        Ok(draft)
    }

    /// Every signature is by a key of the role and over these bytes, and there is one.
    fn check_signatures(&self) -> Result<(), CosignError> {
        for id in self.signed.signed_by() {
            self.check_signer(&self.path, id)?;
            if !self.basis.authority.has_signed(&self.signed, id) {
                return Err(CosignError::Altered {
                    path: self.path.clone(),
                    key: self.basis.authority.name(id),
                });
            }
        }
        match self.first_signer() {
            Some(_) => Ok(()),
            None => Err(CosignError::Unsigned(self.path.clone())),
        }
    }

    /// The file as it is.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.signed.bytes()
    }

    /// What it changes, a line each; never none.
    #[must_use]
    pub fn changes(&self) -> Vec<String> {
        let mut lines = self.what.words();
        let (name, before) = (self.basis.authority.role.name().to_owned(), self.basis.expires);
        lines.push(format!(
            "list {} of {name} holds until {}, the one before until {before}",
            self.version, self.expires
        ));
        lines
    }

    /// What it is read against, a line: whoever shows a signer another root could hide anything from them.
    #[must_use]
    pub fn basis(&self) -> String {
        let ((root, digest), keys) = (self.basis.root, self.basis.authority.keys());
        format!(
            "against list {} and root {root}, SHA-256 {digest}, by which {} of {} keys must sign",
            self.basis.version,
            keys.threshold,
            keys.keyids.len()
        )
    }

    /// How far the signing has got.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let (authority, keys) = (&self.basis.authority, self.basis.authority.keys());
        let (signed, open): (Vec<&KeyId>, Vec<&KeyId>) = keys
            .keyids
            .iter()
            .partition(|id| authority.has_signed(&self.signed, **id));
        let named = |ids: Vec<&KeyId>| ids.into_iter().map(|id| authority.name(*id)).collect();
        Standing {
            of: format!("list {}", self.version),
            needed: keys.threshold.get(),
            signed: named(signed),
            open: named(open),
        }
    }

    /// Whether a key has a say in this list, and has not spoken yet.
    #[must_use]
    pub fn waits_for(&self, id: KeyId) -> bool {
        let authority = &self.basis.authority;
        authority.keys().keyids.contains(&id) && !authority.has_signed(&self.signed, id)
    }

    /// Whether a key may sign: among those of the role. `file` is where it is, for the error.
    ///
    /// # Errors
    /// [`CosignError::Foreign`] says whose say it is.
    pub fn check_signer(&self, file: &Path, id: KeyId) -> Result<(), CosignError> {
        let authority = &self.basis.authority;
        let keys = &authority.keys().keyids;
        if keys.contains(&id) {
            return Ok(());
        }
        let names: Vec<_> = keys.iter().map(|id| authority.name(*id)).collect();
        Err(CosignError::Foreign {
            path: file.to_owned(),
            found: short(id),
            wanted: names.join(" or "),
        })
    }

    /// Adds a signature, in place of an earlier one by the same key.
    ///
    /// # Errors
    /// [`CosignError::Foreign`] for a key without a say; or the key did not sign.
    pub fn sign(self, file: &Path, key: &dyn Signer) -> Result<Self, CosignError> {
        self.check_signer(file, key.public_key().id())?;
        let signed = self.signed.sign(key)?;
        Ok(Self { signed, ..self })
    }

    /// Whether every client will take it.
    ///
    /// # Errors
    /// [`CosignError::Unfinished`] says whose signatures are missing.
    pub fn check_finished(&self) -> Result<(), CosignError> {
        match self.basis.authority.check(&self.signed) {
            Ok(()) => Ok(()),
            Err(RolesError::TooFew { needed, made, who }) => Err(CosignError::Unfinished {
                path: self.path.clone(),
                made,
                needed,
                who,
            }),
            Err(error) => Err(error.into()),
        }
    }

    /// The first key that has signed: it stands in the record.
    #[must_use]
    pub fn first_signer(&self) -> Option<KeyId> {
        self.signed.signed_by().next()
    }

    fn role_file(&self) -> Result<SignedRole, RolesError> {
        let role = &self.basis.authority.role;
        SignedRole::new(role, self.version, self.expires, self.signed.bytes())
    }

    /// The bytes that it releases: their path and what is signed about them.
    fn target(&self) -> Option<(&str, &TargetFile)> {
        match &self.what {
            What::Release { path, target, .. } => Some((path, target)),
            _ => None,
        }
    }
}
