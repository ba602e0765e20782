//! Why a file was refused, with the facts, and the attack it looks like.

use std::fmt;

use crate::UnixTime;

/// A refusal. `file` is a name as in the repository (`3.root.json`, `timestamp.json`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not readable as what it should be.
    #[error("{file} is malformed: {reason}")]
    Malformed {
        /// What was read.
        file: String,
        /// Why it cannot be read.
        reason: String,
    },
    /// A specification of another major version.
    #[error("{file} follows specification {found:?}; only 1.x is understood")]
    Specification {
        /// What was read.
        file: String,
        /// Its field `spec_version`.
        found: String,
    },
    /// Longer than its signed length or its role's cap (bytes).
    #[error("{file} is longer than the {limit} bytes allowed for it")]
    TooLong {
        /// What was read.
        file: String,
        /// The most that is read.
        limit: u64,
    },
    /// More of something than is willingly handled.
    #[error("{file} has more than {limit} {what}")]
    TooMany {
        /// What was read.
        file: String,
        /// What there is too much of.
        what: &'static str,
        /// The most that is handled.
        limit: u32,
    },
    /// More roots in one refresh than the limit; those accepted stay accepted, the next refresh goes on.
    #[error("more than {limit} new root files in one refresh; refresh again to go on from version {version}")]
    TooManyRoots {
        /// The cap of one refresh.
        limit: u32,
        /// The version reached.
        version: u64,
    },
    /// A correctly formed file of another role.
    #[error("{file} is of type {found:?} instead of {expected:?}")]
    WrongType {
        /// What was read.
        file: String,
        /// The type asked for.
        expected: &'static str,
        /// Its field `_type`.
        found: String,
    },
    /// A keyid appears twice among the signatures.
    #[error("{file} carries two signatures of key {keyid}")]
    DuplicateSignature {
        /// What was read.
        file: String,
        /// The keyid that appears twice.
        keyid: String,
    },
    /// Too few valid signatures by distinct keys of the role.
    #[error("{file} has {valid} valid signatures of the {needed} that {delegator} requires")]
    Threshold {
        /// What was read.
        file: String,
        /// Who names the keys, for example `root version 3`.
        delegator: String,
        /// Distinct keys of the role that signed.
        valid: u32,
        /// The role's threshold.
        needed: u32,
    },
    /// A root that is not the direct successor of the trusted one.
    #[error("{file} says version {found}; version {expected} must follow the trusted root")]
    RootVersion {
        /// What was read.
        file: String,
        /// The trusted version plus one.
        expected: u64,
        /// Its field `version`.
        found: u64,
    },
    /// Older than something this verifier has seen.
    #[error("{file} names version {found} of {subject}, but version {floor} has been seen")]
    Rollback {
        /// What was read.
        file: String,
        /// The role whose version goes back.
        subject: String,
        /// The newest version seen.
        floor: u64,
        /// The version offered.
        found: u64,
    },
    /// A role that an earlier snapshot listed is gone.
    #[error("{file} no longer lists {role}, which an earlier snapshot did")]
    RoleRemoved {
        /// What was read.
        file: String,
        /// The entry that is missing.
        role: String,
    },
    /// The repository serves an older root than this verifier has seen.
    #[error(
        "the trusted root is version {found}, version {floor} has been seen and the repository does not offer it"
    )]
    RootBehind {
        /// The newest root version seen.
        floor: u64,
        /// The root version at hand.
        found: u64,
    },
    /// The version differs from the one that the signed parent names.
    #[error("{file} says version {found}, its parent names version {expected}")]
    VersionMismatch {
        /// What was read.
        file: String,
        /// The version in timestamp or snapshot.
        expected: u64,
        /// Its field `version`.
        found: u64,
    },
    /// The length differs from the one that the signed parent names (bytes).
    #[error("{file} has {found} bytes, its parent names {expected}")]
    LengthMismatch {
        /// What was read.
        file: String,
        /// The signed length.
        expected: u64,
        /// The length read.
        found: u64,
    },
    /// A hash differs from the one that the signed parent names.
    #[error("{file} does not have the {algorithm} hash that its parent names")]
    HashMismatch {
        /// What was read.
        file: String,
        /// `sha256` or `sha512`.
        algorithm: &'static str,
    },
    /// Hashes are listed, but none of an algorithm that can be computed.
    #[error("{file} has hashes of unknown algorithms only; sha256 and sha512 are known")]
    NoKnownHash {
        /// What was read.
        file: String,
    },
    /// The verdict is out of date.
    #[error("{file} expired at {expires} and it is {now}; nothing new is accepted until it is renewed")]
    Expired {
        /// The file that expired.
        file: String,
        /// Its field `expires`.
        expires: UnixTime,
        /// The time of this refresh.
        now: UnixTime,
    },
    /// The timestamp claims to have been signed after a file it vouches for had expired.
    #[error("timestamp.json says it was signed at {signed_at}, after {role} expired at {expires}")]
    SignedPastExpiry {
        /// Its field `signed_at`.
        signed_at: UnixTime,
        /// The file that had expired by then.
        role: String,
        /// When it expired.
        expires: UnixTime,
    },
    /// The repository does not have a file that must exist.
    #[error("the repository has no {file}")]
    Missing {
        /// The file asked for.
        file: String,
    },
    /// A delegated role that the snapshot does not list.
    #[error("{role} is delegated to, but the snapshot does not list it")]
    NotInSnapshot {
        /// The role.
        role: String,
    },
    /// An upload that does not advance what is there.
    #[error("{file} has version {found}; it must be above {current}")]
    NotNewer {
        /// What was offered.
        file: String,
        /// The version at hand.
        current: u64,
        /// The version offered.
        found: u64,
    },
    /// The caller supplied a file that was not asked for, or asked in the wrong order.
    #[error("no file is asked for now: {reason}")]
    NotAskedFor {
        /// What the caller did.
        reason: &'static str,
    },
    /// The stored trusted state is not what this program wrote.
    #[error("the trusted state is damaged: {reason}")]
    StateDamaged {
        /// What does not fit.
        reason: String,
    },
}

/// What a refusal looks like, in the words of the specification's list of attacks (section 1.5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attack {
    /// Something the role's keys did not sign.
    ArbitrarySoftware,
    /// Something older than was seen before.
    Rollback,
    /// Version numbers or times pushed far ahead.
    FastForward,
    /// Old answers kept alive, or new ones withheld.
    Freeze,
    /// Files that do not belong together.
    MixAndMatch,
    /// More bytes or files than there can be.
    EndlessData,
    /// A key change that the keys before it do not vouch for.
    KeyCompromise,
    /// Not readable; more often a fault than an attack.
    Malformed,
    /// Somebody or something changed the stored state.
    StateDamaged,
    /// A fault of the calling program.
    Misuse,
}

impl Attack {
    /// The name as the documents and records write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ArbitrarySoftware => "arbitrary software",
            Self::Rollback => "rollback",
            Self::FastForward => "fast-forward",
            Self::Freeze => "freeze",
            Self::MixAndMatch => "mix-and-match",
            Self::EndlessData => "endless data",
            Self::KeyCompromise => "key compromise",
            Self::Malformed => "malformed data",
            Self::StateDamaged => "state damaged",
            Self::Misuse => "misuse",
        }
    }
}

impl fmt::Display for Attack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Error {
    pub(crate) fn malformed(file: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Malformed {
            file: file.into(),
            reason: reason.into(),
        }
    }

    pub(crate) fn damaged(reason: impl Into<String>) -> Self {
        Self::StateDamaged {
            reason: reason.into(),
        }
    }

    /// The attack this refusal looks like.
    #[must_use]
    pub fn attack(&self) -> Attack {
        match self {
            Self::Malformed { .. } | Self::Specification { .. } => Attack::Malformed,
            Self::TooLong { .. } | Self::TooMany { .. } | Self::TooManyRoots { .. } => Attack::EndlessData,
            Self::Threshold { file, .. } if file.ends_with(".root.json") => Attack::KeyCompromise,
            Self::WrongType { .. }
            | Self::DuplicateSignature { .. }
            | Self::Threshold { .. }
            | Self::HashMismatch { .. }
            | Self::NoKnownHash { .. } => Attack::ArbitrarySoftware,
            Self::RootVersion { expected, found, .. } if found > expected => Attack::FastForward,
            Self::RootVersion { .. }
            | Self::Rollback { .. }
            | Self::RoleRemoved { .. }
            | Self::RootBehind { .. }
            | Self::NotNewer { .. } => Attack::Rollback,
            Self::VersionMismatch { .. } | Self::LengthMismatch { .. } | Self::NotInSnapshot { .. } => {
                Attack::MixAndMatch
            }
            Self::Expired { .. } | Self::Missing { .. } => Attack::Freeze,
            Self::SignedPastExpiry { .. } => Attack::FastForward,
            Self::NotAskedFor { .. } => Attack::Misuse,
            Self::StateDamaged { .. } => Attack::StateDamaged,
        }
    }
}
