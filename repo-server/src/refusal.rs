//! Why a request is not followed: facts, a stable code, an HTTP status.

use std::time::Duration;

use durable::StoreError;
use http::StatusCode;
use protocol::Role;
use protocol::author::UploadState;
use release::{Component, Version};
use tuf::{Digest, UnixTime};

use crate::limits;
pub(crate) use protocol::chain;

/// Why the repository does not do what was asked. The text is one sentence for a person.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The request cannot be read.
    #[error("{0}")]
    Malformed(String),
    /// Nobody is known to ask.
    #[error("this needs a client certificate of role {needed}")]
    NoCertificate {
        /// Who may.
        needed: &'static str,
    },
    /// Somebody who may not.
    #[error("a certificate of role {role} may not do this: it needs {needed}")]
    NotAllowed {
        /// The peer's role.
        role: Role,
        /// Who may.
        needed: &'static str,
    },
    /// Metrics from afar.
    #[error("this is shown on the loopback interface or to a client certificate of the site")]
    LocalOnly,
    /// Nothing there.
    #[error("there is nothing at {0:?}")]
    NotFound(String),
    /// Known path, wrong method.
    #[error("this path does not take that method")]
    Method,
    /// Too many bytes.
    #[error("the body is larger than {max} bytes")]
    BodyTooLarge {
        /// The limit.
        max: u64,
    },
    /// Too slow.
    #[error("the body came slower than {bytes} bytes in {} seconds", window.as_secs())]
    BodySlow {
        /// Bytes expected in a window.
        bytes: u64,
        /// The window.
        window: Duration,
    },
    /// The body broke off.
    #[error("the body broke off after {received} bytes")]
    BodyCut {
        /// Bytes that came.
        received: u64,
    },
    /// Too many at a time.
    #[error(
        "too many {what} at a time: try again in {} seconds",
        limits::RETRY_AFTER_SECONDS
    )]
    Busy {
        /// Of what.
        what: &'static str,
    },
    /// The range is outside of the file.
    #[error("the file has {length} bytes: the range is not in it")]
    Range {
        /// The file's length.
        length: u64,
    },
    /// Restored from a backup.
    #[error(
        "the repository was restored from a backup and waits for the newest targets roles: \
         let the author or a manager hand them back (POST /api/v1/recover)"
    )]
    Recovering,
    /// Another upload of the same file.
    #[error("{digest} is being uploaded already")]
    UploadBusy {
        /// The file.
        digest: Digest,
    },
    /// A manager offers what was not asked for.
    #[error(
        "{digest} was not asked for: hand back the targets role that lists it first (POST /api/v1/recover)"
    )]
    NotWanted {
        /// The file.
        digest: Digest,
    },
    /// Not the next byte.
    #[error("the next byte of this upload is {}", state.received)]
    UploadOffset {
        /// Where it stands.
        state: UploadState,
    },
    /// Not the announced bytes.
    #[error("the uploaded bytes are {got}, not {expected}: they were discarded, upload again from the start")]
    UploadCorrupt {
        /// Announced.
        expected: Digest,
        /// Received.
        got: Digest,
    },
    /// More than this repository keeps waiting.
    #[error("too many uploads wait for their metadata: publish them, or wait until they are removed")]
    UploadQuota,
    /// No room.
    #[error("the repository's disk is full: make room there")]
    DiskFull,
    /// Compare-and-swap failed.
    #[error(
        "the repository is at version {current} of the targets role, not {expects}: look again, then repeat"
    )]
    Conflict {
        /// What the author saw.
        expects: u64,
        /// What is there.
        current: u64,
    },
    /// The files do not follow the current ones.
    #[error("{0}")]
    NotNext(String),
    /// The files are not what a client would accept.
    #[error("a client would refuse this ({attack}): {message}", attack = .0.attack(), message = chain(.0))]
    Verification(tuf::Error),
    /// The file behind a target is not here.
    #[error("target {target} lists {digest}, which has not been uploaded")]
    MissingTarget {
        /// The target's name.
        target: String,
        /// Its digest.
        digest: Digest,
    },
    /// The file behind a target has another length.
    #[error("target {target} lists {listed} bytes, the uploaded file has {found}")]
    WrongLength {
        /// The target's name.
        target: String,
        /// In the metadata.
        listed: u64,
        /// On the disk.
        found: u64,
    },
    /// The file behind a target has another digest.
    #[error("target {target} lists a {algorithm} that is not the uploaded file's")]
    WrongDigest {
        /// The target's name.
        target: String,
        /// Which hash.
        algorithm: &'static str,
    },
    /// The description of a release does not fit.
    #[error("target {target}: {reason}")]
    BadRelease {
        /// The target's name.
        target: String,
        /// What is wrong.
        reason: String,
    },
    /// A version is changed after it was published.
    #[error(
        "{target} is published already and can only be withdrawn: give the changed release a new version"
    )]
    Changed {
        /// The target's name.
        target: String,
    },
    /// Not newer than what is there.
    #[error("{component} {version} is not newer than {newest}, the newest in the repository")]
    NotNewer {
        /// The component.
        component: Component,
        /// The version offered.
        version: Version,
        /// The newest one here.
        newest: Version,
    },
    /// The release counter does not rise.
    #[error("{component} {version} has release counter {counter}: it must be above {floor}")]
    Counter {
        /// The component.
        component: Component,
        /// The version offered.
        version: Version,
        /// Its counter.
        counter: u64,
        /// The highest one here.
        floor: u64,
    },
    /// A delegation that is not a team's.
    #[error("the delegation to {team} is not one that this repository takes: {why}")]
    Delegated {
        /// The role.
        team: String,
        /// What is wrong with it.
        why: String,
    },
    /// A team lists what is not its own.
    #[error("the team {team} lists {target}, which is not of its components")]
    NotYours {
        /// The team.
        team: String,
        /// The target.
        target: String,
    },
    /// Somebody else's root came first.
    #[error(
        "the repository is at root {current} already; {offered}.root.json does not follow it: make it anew"
    )]
    RootConflict {
        /// The version that was offered.
        offered: u64,
        /// The version in force.
        current: u64,
    },
    /// Our key may not sign.
    #[error(
        "the root wants {threshold} of {named} for {role}, and this repository has {held}: make the root name one of \
         its keys alone (`repo-server new-key` makes a new one), or bring back the key that it names"
    )]
    KeyNotTrusted {
        /// The role.
        role: &'static str,
        /// Our keys.
        held: String,
        /// The root's.
        named: String,
        /// How many of them must sign.
        threshold: u32,
    },
    /// Too old to be signed.
    #[error("the {role} role expired on {at}: the author must sign it again")]
    Expired {
        /// Which role.
        role: &'static str,
        /// Since when.
        at: UnixTime,
    },
    /// Claims that would use version numbers up.
    #[error("version {claimed} of the {role} role lies in the future: only the author may claim it")]
    ClaimedVersion {
        /// Which role.
        role: &'static str,
        /// The claim.
        claimed: u64,
    },
    /// Two signed histories.
    #[error(
        "version {version} of the {role} role here differs from the one handed back: \
         both are signed; the author must publish a higher version"
    )]
    Fork {
        /// Which role.
        role: String,
        /// Which version.
        version: u64,
    },
    /// Another process signs.
    #[error("{holder} signs with this database until {until}: stop it, or wait")]
    LeaseHeld {
        /// Who.
        holder: String,
        /// Until when.
        until: UnixTime,
    },
    /// Something inside failed; the cause is in the log, not in the answer.
    #[error("the repository could not do this; its log says why")]
    Internal(#[source] anyhow::Error),
}

impl Refusal {
    /// The stable word for programs and the HTTP status.
    #[must_use]
    pub fn class(&self) -> (&'static str, StatusCode) {
        match self {
            Self::Malformed(_) => ("malformed", StatusCode::BAD_REQUEST),
            Self::NoCertificate { .. } => ("no-certificate", StatusCode::UNAUTHORIZED),
            Self::NotAllowed { .. } => ("not-allowed", StatusCode::FORBIDDEN),
            Self::LocalOnly => ("local-only", StatusCode::FORBIDDEN),
            Self::NotFound(_) => ("not-found", StatusCode::NOT_FOUND),
            Self::Method => ("method", StatusCode::METHOD_NOT_ALLOWED),
            Self::BodyTooLarge { .. } => ("body-too-large", StatusCode::PAYLOAD_TOO_LARGE),
            Self::BodySlow { .. } => ("body-slow", StatusCode::REQUEST_TIMEOUT),
            Self::BodyCut { .. } => ("body-cut", StatusCode::BAD_REQUEST),
            Self::Busy { .. } => ("busy", StatusCode::SERVICE_UNAVAILABLE),
            Self::Range { .. } => ("range", StatusCode::RANGE_NOT_SATISFIABLE),
            Self::Recovering => ("recovering", StatusCode::SERVICE_UNAVAILABLE),
            Self::UploadBusy { .. } => ("upload-busy", StatusCode::LOCKED),
            Self::NotWanted { .. } => ("not-wanted", StatusCode::FORBIDDEN),
            Self::UploadOffset { .. } => ("upload-offset", StatusCode::CONFLICT),
            Self::UploadCorrupt { .. } => ("upload-corrupt", StatusCode::UNPROCESSABLE_ENTITY),
            Self::UploadQuota => ("upload-quota", StatusCode::INSUFFICIENT_STORAGE),
            Self::DiskFull => ("disk-full", StatusCode::INSUFFICIENT_STORAGE),
            Self::Conflict { .. } => ("conflict", StatusCode::CONFLICT),
            Self::RootConflict { .. } => ("conflict", StatusCode::CONFLICT),
            Self::NotNext(_) => ("not-next", StatusCode::UNPROCESSABLE_ENTITY),
            Self::Verification(_) => ("verification", StatusCode::UNPROCESSABLE_ENTITY),
            Self::MissingTarget { .. } => ("missing-target", StatusCode::UNPROCESSABLE_ENTITY),
            Self::WrongLength { .. } => ("wrong-length", StatusCode::UNPROCESSABLE_ENTITY),
            Self::WrongDigest { .. } => ("wrong-digest", StatusCode::UNPROCESSABLE_ENTITY),
            Self::BadRelease { .. } => ("bad-release", StatusCode::UNPROCESSABLE_ENTITY),
            Self::Changed { .. } => ("changed", StatusCode::UNPROCESSABLE_ENTITY),
            Self::NotNewer { .. } => ("not-newer", StatusCode::UNPROCESSABLE_ENTITY),
            Self::Counter { .. } => ("counter", StatusCode::UNPROCESSABLE_ENTITY),
            Self::Delegated { .. } => ("delegated", StatusCode::UNPROCESSABLE_ENTITY),
            Self::NotYours { .. } => ("not-yours", StatusCode::UNPROCESSABLE_ENTITY),
            Self::KeyNotTrusted { .. } => ("online-key", StatusCode::UNPROCESSABLE_ENTITY),
            Self::Expired { .. } => ("expired", StatusCode::UNPROCESSABLE_ENTITY),
            Self::ClaimedVersion { .. } => ("claimed-version", StatusCode::UNPROCESSABLE_ENTITY),
            Self::Fork { .. } => ("fork", StatusCode::CONFLICT),
            Self::LeaseHeld { .. } => ("lease", StatusCode::SERVICE_UNAVAILABLE),
            Self::Internal(_) => ("internal", StatusCode::INTERNAL_SERVER_ERROR),
        }
    }

    /// Seconds after which a client may come again, where that helps.
    #[must_use]
    pub fn retry_after(&self) -> Option<u32> {
        match self {
            Self::Recovering | Self::Busy { .. } | Self::UploadBusy { .. } | Self::LeaseHeld { .. } => {
                Some(limits::RETRY_AFTER_SECONDS)
            }
            _ => None,
        }
    }
}

/// A store's error as an answer.
impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Busy { digest } => Self::UploadBusy { digest },
            StoreError::WrongDigest { expected, got, .. } => Self::UploadCorrupt { expected, got },
            StoreError::File(cause) if cause.is_full() => Self::DiskFull,
            other => Self::Internal(other.into()),
        }
    }
}

impl From<rusqlite::Error> for Refusal {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Self::DiskFull,
            _ => Self::Internal(anyhow::Error::new(error).context("the database refused")),
        }
    }
}

impl From<tuf::Error> for Refusal {
    fn from(error: tuf::Error) -> Self {
        Self::Verification(error)
    }
}

impl From<anyhow::Error> for Refusal {
    fn from(error: anyhow::Error) -> Self {
        Self::Internal(error)
    }
}
