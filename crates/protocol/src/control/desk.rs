//! What the author's desk answers: plain snapshots of all that its window shows.

use std::path::PathBuf;

use release::{Arch, Component, Form, Health, How, Version};
use serde::{Deserialize, Serialize};
use tuf::{Digest, UnixTime};

use super::{Level, LoggedMessage};
use crate::device::Problem;
use crate::{Event, Identity, Outcome, UpdateId};

/// The author's desk, at a glance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuthorStatus {
    /// Version of the program.
    pub program: String,
    /// The folder that the service was started for.
    pub dir: PathBuf,
    /// The site, if there is one.
    pub site: SiteState,
    /// The key that signs releases.
    pub key: KeyState,
    /// What runs now.
    pub job: Option<JobStatus>,
    /// What ran last, with its end.
    pub last_job: Option<JobStatus>,
}

/// Whether the folder has a site.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum SiteState {
    /// Nothing there yet: the wizard may send `Init`.
    NoSite,
    /// There is one, and it cannot be used.
    Broken {
        /// What is wrong, where, and what to do.
        problem: Problem,
    },
    /// There is one.
    Ready(Box<SiteStatus>),
}

/// A site as its author sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SiteStatus {
    /// The site and its author.
    pub author: Identity,
    /// The author's folder.
    pub folder: PathBuf,
    /// The repository.
    pub repository: RepositoryView,
    /// Its components, by name.
    pub components: Vec<ComponentRow>,
    /// The metadata roles: root, timestamp, snapshot, targets, as far as they are there.
    pub roles: Vec<RoleRow>,
    /// The author's certificate.
    pub certificate: Deadline,
    /// The author's key files.
    pub keys: Vec<KeyFile>,
    /// Devices that have ever reported.
    pub devices: usize,
    /// Reports that do not verify, newest last: nobody should see any.
    pub refused_reports: Vec<String>,
}

/// The repository as last seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryView {
    /// `https://host:port`.
    pub address: String,
    /// How it answers.
    pub answers: Reach,
    /// What is wrong, where, and what to do; none if all is well.
    pub trouble: Option<String>,
    /// When it was last asked.
    pub asked: Option<UnixTime>,
    /// When it last answered with metadata that verifies.
    pub verified: Option<UnixTime>,
    /// It has no metadata yet: nothing was ever published.
    pub is_empty: bool,
    /// Since when devices accept nothing new, because metadata has expired.
    pub stale_since: Option<UnixTime>,
}

/// How the repository answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reach {
    /// It has not been asked yet.
    Unknown,
    /// Well.
    Yes,
    /// Not at all.
    No,
    /// It answers, and what it says is not to be used.
    Distrusted,
}

/// One component (R-004-22).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentRow {
    /// Application name.
    pub component: Component,
    /// Current version; none if all are withdrawn.
    pub current: Option<Version>,
    /// Release time.
    pub released: Option<UnixTime>,
    /// SHA-256 of the target.
    pub digest: Option<Digest>,
    /// Its bytes.
    pub length: Option<u64>,
    /// Its processor; none: any.
    pub processor: Option<Arch>,
    /// What it is and what is new.
    pub description: Option<String>,
    /// Its update.
    pub update: Option<UpdateId>,
    /// All versions, oldest first.
    pub versions: Vec<Version>,
    /// Those of them that are withdrawn.
    pub withdrawn: Vec<Version>,
    /// How the current update ended: how many devices for each outcome.
    pub outcomes: Vec<(Outcome, usize)>,
    /// Where it did not end well, `device: reason`; some of them.
    pub reasons: Vec<String>,
}

/// One role of the metadata.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleRow {
    /// `root`, `timestamp`, `snapshot` or `targets`.
    pub role: String,
    /// Its version.
    pub version: u64,
    /// When it ends.
    pub expires: Deadline,
}

/// When something ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deadline {
    /// When.
    pub at: UnixTime,
    /// What to do, if something is to be done soon.
    pub advice: Option<String>,
}

/// One of the author's key files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyFile {
    /// The file.
    pub path: PathBuf,
    /// Which key it is.
    pub key: KeyPurpose,
    /// Whether it is there.
    pub is_there: bool,
    /// When what it stands for ends; none where that is not known.
    pub expires: Option<UnixTime>,
}

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyPurpose {
    /// Signs new roots.
    Root,
    /// Signs releases.
    Targets,
    /// Issues certificates.
    Authority,
    /// Connects to the repository.
    Connection,
}

/// The key that signs releases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum KeyState {
    /// A passphrase is needed.
    Locked,
    /// It is open.
    Open {
        /// Until then.
        until: UnixTime,
    },
}

/// What a person says about a single file beside the file; a package says it itself in `update.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PublishOptions {
    /// The component, as it was typed.
    pub component: Option<String>,
    /// The version, as it was typed.
    pub version: Option<String>,
    /// The processor.
    pub arch: Option<Arch>,
    /// What starts it.
    pub how: Option<How>,
    /// Words after the program.
    pub args: Vec<String>,
    /// How one knows that it is well.
    pub health: Option<Health>,
    /// Seconds to the first healthy answer.
    pub start_seconds: Option<u32>,
    /// Seconds it must stay healthy.
    pub probation_seconds: Option<u32>,
    /// What it is and what is new.
    pub description: Option<String>,
    /// Who sells it.
    pub vendor: Option<String>,
    /// Who wrote it.
    pub developer: Option<String>,
    /// Under which terms.
    pub license: Option<String>,
}

/// What was understood of a file or folder, and whether it may be published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreflightReport {
    /// Its id for `Publish`; the desk keeps the newest few.
    pub draft: u64,
    /// What was chosen.
    pub source: PathBuf,
    /// The component, as far as known.
    pub component: Option<Component>,
    /// The version, as far as known.
    pub version: Option<Version>,
    /// Its name in the repository.
    pub file_name: String,
    /// Bytes.
    pub length: u64,
    /// SHA-256.
    pub digest: Digest,
    /// The processor it runs on; none: any.
    pub processor: Option<Arch>,
    /// A package, or a file on its own.
    pub form: Form,
    /// What starts it, as far as known.
    pub how: Option<How>,
    /// What it is and what is new.
    pub description: Option<String>,
    /// The version that it replaces.
    pub previous: Option<Version>,
    /// When that was released.
    pub previous_released: Option<UnixTime>,
    /// The repository could not be asked: checked against what was verified last, and why.
    pub unsure: Option<String>,
    /// The checks, in order: existence, version, form, size, processor.
    pub checks: Vec<CheckRow>,
    /// Why it is not to be published; empty if it may be.
    pub refusals: Vec<Refusal>,
}

impl PreflightReport {
    /// Whether it may be published.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.refusals.is_empty()
    }
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckRow {
    /// Stable word: `exists`, `newer`, `form`, `size`, `processor`.
    pub id: String,
    /// What came of it.
    pub verdict: CheckVerdict,
    /// For a person: what was found and, where it is refused, what to do.
    pub text: String,
}

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckVerdict {
    /// Good.
    Passed,
    /// Not to be published like this.
    Refused,
    /// Cannot be said, because another check is refused.
    Open,
}

/// Why something is not to be published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The document's message ([`crate::messages`]), or `author.check.` and the check's word.
    pub id: String,
    /// The document's prompt, or what is wrong in a few words.
    pub prompt: String,
    /// The whole sentence, with both versions where there are two.
    pub text: String,
}

/// Work that takes a while: one at a time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobStatus {
    /// Its number, rising while the service runs.
    pub id: u64,
    /// What it does.
    pub kind: JobKind,
    /// To what: `heater 1.0.0`, or the file's name.
    pub subject: String,
    /// Where it is.
    pub phase: JobPhase,
    /// Bytes done in this phase.
    pub done: u64,
    /// Bytes in all in this phase; 0 where there are none.
    pub total: u64,
    /// When it began.
    pub started: UnixTime,
    /// What is being tried again, and why.
    pub trouble: Option<String>,
    /// Whether `Cancel` can still end it without a trace.
    pub can_cancel: bool,
    /// How it ended; none while it runs.
    pub end: Option<JobEnd>,
    /// What a rehearsal has found so far.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
}

/// What one part of a rehearsal showed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Which part, in a few words.
    pub part: String,
    /// How it is to be taken; an error is what must not happen on a device.
    pub level: Level,
    /// What was seen.
    pub text: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let word = match self.level {
            Level::Info => "ok",
            Level::Warning => "note",
            Level::Error => "BAD",
        };
        write!(f, "{word:<5}{:<44} {}", self.part, self.text)
    }
}

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobKind {
    /// Preflight: reads and checks.
    Check,
    /// Publishes a release.
    Publish,
    /// Takes one back.
    Withdraw,
    /// Signs roles again.
    Renew,
    /// Helps a restored repository.
    Recover,
    /// Makes a site.
    Init,
    /// Tries an update on this machine.
    Rehearse,
}

/// Where a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobPhase {
    /// It begins.
    Starting,
    /// The file is being read and hashed (bytes).
    Reading,
    /// The repository is asked and the draft is checked.
    Checking,
    /// The update is being tried on this machine.
    Rehearsing,
    /// Roles are being signed.
    Signing,
    /// Bytes are on their way (bytes).
    Uploading,
    /// The last request: what comes of it is visible.
    Publishing,
    /// It is visible; the receipt is being checked.
    Published,
    /// Over.
    Ended,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "was", rename_all = "kebab-case")]
pub enum JobEnd {
    /// Done.
    Done {
        /// What was done, for a person.
        text: String,
        /// What went wrong afterwards and changes nothing for the devices.
        warnings: Vec<String>,
        /// The update, for a new release.
        update: Option<UpdateId>,
    },
    /// Nothing came of it.
    Failed {
        /// What is wrong, where, and what to do.
        problem: Problem,
        /// The checks that say no, if they do.
        refusals: Vec<Refusal>,
    },
    /// A person ended it; nothing of it is visible.
    Cancelled,
}

/// What came of a cancel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelResult {
    /// Whether the job was ended by it.
    pub ended: bool,
    /// For a person: what is, and what is not visible now.
    pub text: String,
}

/// A new site, as it was typed: each word is checked by the desk, which names the field.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InitRequest {
    /// The site's name.
    pub site: String,
    /// The author's name; empty: `author`.
    pub author: String,
    /// Where author and gateway reach the repository, `HOST[:PORT]`; empty: this machine, 7100.
    pub repository_address: String,
    /// Where devices reach the gateway, `HOST`; empty: this machine.
    pub manager_address: String,
    /// Kind of the key that signs releases.
    pub targets_key: SigningKeyKind,
    /// Checks every word and makes nothing.
    pub dry_run: bool,
}

/// Kind of a signing key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SigningKeyKind {
    /// RSASSA-PSS with SHA-256, 3072 bits.
    #[default]
    Rsa,
    /// Ed25519.
    Ed25519,
}

/// A site was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteMade {
    /// The site's folder.
    pub dir: PathBuf,
    /// The author's, inside it.
    pub author: PathBuf,
    /// The repository's, to be copied to its host.
    pub repository: PathBuf,
    /// The gateway's, to be copied to its host.
    pub manager: PathBuf,
    /// SHA-256 of `root.json`: devices compare it when they take the root.
    pub root_fingerprint: Digest,
    /// SHA-256 of the site's authority certificate: joining codes carry it.
    pub ca_fingerprint: Digest,
    /// When the root has to be renewed.
    pub root_expires: UnixTime,
}

/// One line of the author's event view.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum AuthorEvent {
    /// The whole picture: first of all, and whenever something else than a job's progress changes.
    Status(Box<AuthorStatus>),
    /// A job began, moved or ended; at most ten times a second.
    Job(JobStatus),
    /// A step of an update, of this author.
    Step(Event),
    /// A message for a person: time, level, stable id, text.
    Message(LoggedMessage),
}
