//! What a window or a command line says to its program over the local control socket.
//!
//! One JSON value per line; a request is answered by one [`Answer`], or, for `Watch`, by a stream of them.

use std::fmt;
use std::path::PathBuf;

use release::{Component, Version};
use serde::{Deserialize, Serialize};
use tuf::{Digest, UnixTime};

use crate::device::{ComponentState, DeviceOutcome, Problem, Waiting};
use crate::{Event, Name, Secret, Step, UpdateId};

mod agent;
mod author;
mod desk;
mod looking_back;

pub use agent::*;
pub use author::*;
pub use desk::*;
pub use looking_back::*;

/// An answer: the value, or what went wrong.
pub type Answer<T> = Result<T, Problem>;

/// A request to a manager.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ManagerRequest {
    /// → [`ManagerStatus`].
    Status,
    /// → `Vec<DeviceRow>`: for a site whose table fits one answer; see [`Self::DevicesSince`].
    Devices,
    /// The devices that have changed, in pages → [`DevicePage`].
    DevicesSince {
        /// The generation that the caller has; 0: none.
        generation: u64,
        /// Up to where the caller knows the table; 0: nothing of it.
        revision: u64,
    },
    /// Puts a device on the list → [`AddedDevice`].
    AddDevice {
        /// Its name.
        name: Name,
        /// Its password.
        password: Secret,
    },
    /// A new one-time code for a device that is on the list → [`AddedDevice`].
    NewCode {
        /// Its name.
        name: Name,
        /// Its password.
        password: Secret,
    },
    /// Takes a device off the list and cuts its connections → `null`.
    DeleteDevice {
        /// Its name.
        name: Name,
        /// Its password; none: on the operator's own authority, recorded as such.
        password: Option<Secret>,
    },
    /// Puts a device in quarantine: cut off, given nothing, until it is let in again or enrols anew → `null`.
    Quarantine {
        /// Its name.
        name: Name,
        /// Why, for the record; at most [`MAX_REASON`](crate::limits::MAX_REASON) characters.
        reason: String,
    },
    /// Lets a device in quarantine in again, with the key it has → `null`.
    Readmit {
        /// Its name.
        name: Name,
    },
    /// Starts the downloader's timer → `null`.
    Start,
    /// Stops the downloader's timer; devices stay served → `null`.
    Stop,
    /// Checks the repository now → [`CheckResult`].
    CheckNow,
    /// Offers a stopped release again → `null`.
    Resume {
        /// The component.
        component: Component,
        /// The version that was stopped.
        version: Version,
    },
    /// Tells a device that a release that waits there is to be installed now → `null`, when it is told.
    Activate {
        /// The device.
        name: Name,
        /// The component.
        component: Component,
        /// Although conditions are not met; the device records and reports it.
        #[serde(default, rename = "override")]
        overriding: bool,
    },
    /// Writes an encrypted copy of all that a replacement gateway needs → `null`.
    Backup {
        /// Where to.
        path: PathBuf,
        /// The passphrase that encrypts it.
        passphrase: Secret,
    },
    /// The newest entries of the download record, oldest first → `Vec<DownloadEntry>`.
    History {
        /// How many at most.
        last: usize,
    },
    /// The newest entries of the record of the device list, oldest first → `Vec<ListEntry>`.
    ListHistory {
        /// How many at most.
        last: usize,
    },
    /// → stream of [`ManagerEvent`], starting with the newest kept ones.
    Watch,
}

/// The manager, at a glance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ManagerStatus {
    /// The site.
    pub site: Name,
    /// This manager.
    pub name: Name,
    /// Version of the program.
    pub program: String,
    /// Whether the downloader's timer runs.
    pub downloader_running: bool,
    /// What the downloader is doing, or why it is not.
    pub downloader: String,
    /// Seconds to the next check.
    pub next_check_seconds: Option<u64>,
    /// When the repository last answered with valid metadata.
    pub last_refresh: Option<UnixTime>,
    /// Since when the metadata has been stale.
    pub stale_since: Option<UnixTime>,
    /// When the manager's own certificate ends.
    #[serde(default)]
    pub certificate_until: Option<UnixTime>,
    /// Whether events arrive, or only the poll timer works.
    pub events_connected: bool,
    /// `host:port` where devices are served.
    pub devices_address: String,
    /// `host:port` of the enrolment port.
    pub enroll_address: String,
    /// Devices on the list.
    pub devices: usize,
    /// Devices connected.
    pub connected: usize,
    /// Bytes sent to devices since the start.
    pub sent_bytes: u64,
    /// Bytes sent to devices in each of the last seconds, oldest first; empty where nothing was sent in all of them.
    #[serde(default)]
    pub sent_by_second: Vec<u64>,
    /// Downloads by devices under way.
    #[serde(default)]
    pub sending: usize,
    /// The file that is being fetched from the repository.
    #[serde(default)]
    pub fetching: Option<Fetching>,
    /// Newest release per component, and its fallback while it is stopped.
    pub releases: Vec<ReleaseRow>,
    /// What a person should look at, newest last.
    pub alarms: Vec<String>,
    /// Releases that wait on devices, by component and device; of many the first.
    #[serde(default)]
    pub waiting: Vec<WaitingRow>,
    /// How many there are.
    #[serde(default)]
    pub waiting_in_all: usize,
}

/// A release that waits on one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingRow {
    /// The device.
    pub device: Name,
    /// The component.
    pub component: Component,
    /// For what it waits, as the device told it last.
    pub waiting: Waiting,
}

/// A file on its way from the repository into the mirror.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetching {
    /// Which component.
    pub component: Component,
    /// Which version.
    pub version: Version,
    /// Bytes that are here.
    pub bytes: u64,
    /// Bytes in all.
    pub total: u64,
}

/// One release as the manager offers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseRow {
    /// Which component.
    pub component: Component,
    /// Its version.
    pub version: Version,
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub length: u64,
    /// When its author released it.
    pub released: UnixTime,
    /// Whether it is in the mirror and verified.
    pub mirrored: bool,
    /// Why it is not offered, if it is not.
    pub stopped: Option<String>,
    /// Not the newest: while that one is stopped, devices that run nothing of the component get this one.
    #[serde(default)]
    pub fallback: bool,
    /// The alarm that says so, one of [`ManagerStatus::alarms`].
    #[serde(default)]
    pub alarm: Option<String>,
    /// Devices that run it.
    pub running: usize,
    /// Devices that rolled it back.
    pub rolled_back: usize,
}

/// One device on the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRow {
    /// Its name.
    pub name: Name,
    /// Whether it has enrolled.
    pub enrolled: bool,
    /// Whether it is connected now.
    pub connected: bool,
    /// Where from.
    pub address: Option<String>,
    /// When it last spoke.
    pub last_seen: Option<UnixTime>,
    /// When its certificate ends.
    pub certificate_until: Option<UnixTime>,
    /// What it runs.
    pub components: Vec<ComponentState>,
    /// Its last update's end.
    pub last: Option<DeviceOutcome>,
    /// Its own trouble, if it told any.
    pub trouble: Option<String>,
    /// The update that it is in the middle of. Unsigned, for people who watch.
    #[serde(default)]
    pub progress: Option<DeviceProgress>,
    /// Since when and why it is in quarantine, if it is.
    #[serde(default)]
    pub quarantine: Option<Quarantine>,
}

/// A device is cut off by the operator's choice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    /// Since when.
    pub since: UnixTime,
    /// Why; may be empty.
    pub reason: String,
}

/// How far a device is with an update.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceProgress {
    /// The update.
    pub update: UpdateId,
    /// The component.
    pub component: Component,
    /// The version that it goes to.
    pub version: Version,
    /// The last step that was told.
    pub step: Step,
    /// Bytes done so far, for steps that move bytes.
    pub bytes: Option<u64>,
    /// Bytes in all.
    pub total: Option<u64>,
}

/// Rows of the device table that are newer than what the caller had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DevicePage {
    /// Another number when the service has started anew or a device was taken off: then the caller forgets the rows
    /// that it has, and this page is the first of the whole table.
    pub generation: u64,
    /// Up to where the caller knows the table once it has taken this page.
    pub revision: u64,
    /// The rows, in the order in which they changed.
    pub rows: Vec<DeviceRow>,
    /// Whether there are more.
    pub more: bool,
}

/// A device was put on the list.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AddedDevice {
    /// Its name.
    pub name: Name,
    /// The code for the person at the device, whole.
    pub code: Secret,
    /// Until when the code works.
    pub code_until: UnixTime,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckResult {
    /// Whether there was anything new.
    pub changed: bool,
    /// What it was, or what is wrong.
    pub message: String,
    /// Whether the check failed, or a file that it found could not be had.
    #[serde(default)]
    pub failed: bool,
}

/// One line of the manager's event view.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ManagerEvent {
    /// A step of an update, of this manager or of one of its devices.
    Step(Event),
    /// A message for a person: stable id, text.
    Message(LoggedMessage),
}

/// How much a message or a line of a list matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", from = "String")]
pub enum Level {
    /// All is well; also what a newer service calls by a word that is not known here.
    #[default]
    Info,
    /// Somebody may want to look.
    Warning,
    /// Somebody should look.
    Error,
}

impl From<String> for Level {
    fn from(word: String) -> Self {
        match word.as_str() {
            "error" => Self::Error,
            "warning" => Self::Warning,
            _ => Self::Info,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// A message for a person, with an id that never changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedMessage {
    /// Wall time.
    pub at: UnixTime,
    /// How much it matters.
    pub level: Level,
    /// See [`crate::messages`].
    pub id: String,
    /// The text.
    pub text: String,
}

/// One entry of the manager's download record (R-004-59).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DownloadEntry {
    /// When.
    pub at: UnixTime,
    /// The release's component.
    pub component: Component,
    /// Its version.
    pub version: Version,
    /// When its author released it.
    pub released: UnixTime,
    /// Where it came from.
    pub source: String,
    /// Its digest.
    pub digest: Digest,
    /// Bytes that crossed the wire (less than the length after a resume).
    pub bytes: u64,
    /// Its whole length.
    pub length: u64,
    /// Milliseconds of downloading.
    pub milliseconds: u64,
    /// `verified`, or `failed: ` and what went wrong.
    pub outcome: String,
}

/// One entry of the record of the device list: who was put on it, joined, and was taken off (R-004-80: what was
/// deleted is remembered).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListEntry {
    /// When.
    pub at: UnixTime,
    /// The device.
    pub device: Name,
    /// What happened to it.
    pub change: ListChange,
    /// By whose word, or from where.
    pub how: String,
}

/// What happened to a device on the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ListChange {
    /// It was put on the list.
    Added,
    /// It got a new code.
    NewCode,
    /// It joined with its code.
    Enrolled,
    /// It was taken off the list.
    Deleted,
    /// It was put in quarantine.
    Quarantined,
    /// It was let in again.
    Readmitted,
}

impl std::fmt::Display for ListChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Added => "added",
            Self::NewCode => "new code",
            Self::Enrolled => "enrolled",
            Self::Deleted => "deleted",
            Self::Quarantined => "put in quarantine",
            Self::Readmitted => "let in again",
        })
    }
}

/// A request to a device agent.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum DeviceRequest {
    /// → [`DeviceStatus`].
    Status,
    /// The newest entries of the install record, oldest first → `Vec<InstallEntry>`.
    History {
        /// How many at most.
        last: usize,
    },
    /// Goes back to the previous version and stays there; ends a probation at once → `null`, when it is done.
    Rollback {
        /// Which component.
        component: Component,
    },
    /// Lets a component that was rolled back by hand, or a version that failed, be updated again → `null`.
    Release {
        /// Which component.
        component: Component,
    },
    /// Installs the release of a component that waits: a person says so → `null`, when it is begun.
    Activate {
        /// Which component.
        component: Component,
        /// Although conditions are not met; recorded and reported.
        #[serde(default, rename = "override")]
        overriding: bool,
    },
    /// What would become of a release here → [`DevicePlan`].
    Plan {
        /// Which component.
        component: Component,
        /// Which version; none: the newest that the device knows.
        #[serde(default)]
        version: Option<Version>,
    },
    /// → stream of [`Event`], starting with the newest kept ones.
    Watch,
    /// → stream of [`DeviceEvent`]: steps and the agent's messages, starting with the newest kept ones.
    Follow,
}

/// A device, at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceStatus {
    /// The site.
    pub site: Name,
    /// This device.
    pub name: Name,
    /// Version of the agent.
    pub program: String,
    /// Where its manager is.
    pub manager: String,
    /// Whether the event stream is open.
    pub connected: bool,
    /// What is wrong with the connection, if anything.
    pub connection: String,
    /// Whether its clock can be believed.
    pub time_known: bool,
    /// Since when the metadata has been stale.
    pub stale_since: Option<UnixTime>,
    /// Why the trusted state cannot be used, and what to do.
    pub trouble: Option<String>,
    /// When its certificate ends.
    pub certificate_until: Option<UnixTime>,
    /// What it runs.
    pub components: Vec<ComponentState>,
    /// The same components, with what their author says of them and what is on the way.
    #[serde(default)]
    pub details: Vec<ComponentDetail>,
    /// Entries added to the install record since the agent's start: where it rises, [`DeviceRequest::History`] has
    /// something new.
    #[serde(default)]
    pub recorded: u64,
}

/// One entry of a device's install record (R-004-111).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstallEntry {
    /// When.
    pub at: UnixTime,
    /// The component.
    pub component: Component,
    /// The version that was installed or tried.
    pub version: Version,
    /// The version that ran before.
    pub from: Option<Version>,
    /// Digest of the target.
    pub digest: Digest,
    /// Milliseconds from order to outcome.
    pub milliseconds: u64,
    /// `committed`, `rolled back`, `refused`, `failed`.
    pub outcome: String,
    /// Why, where it did not end well.
    pub reason: Option<String>,
}

/// A request to a repository's control socket.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum RepositoryRequest {
    /// → [`RepositoryStatus`].
    Status,
    /// Writes a copy of database and files into a new folder → `null`.
    Backup {
        /// The folder; must not exist.
        path: PathBuf,
    },
}

/// The repository, at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryStatus {
    /// Version of the program.
    pub program: String,
    /// `host:port` it serves on.
    pub address: String,
    /// Versions of root, timestamp, snapshot, targets; 0 where there is none.
    pub versions: [u64; 4],
    /// When timestamp and snapshot expire.
    pub online_until: Option<UnixTime>,
    /// When the targets role expires.
    pub targets_until: Option<UnixTime>,
    /// Restored from a backup and waiting for the newest targets roles.
    pub recovering: bool,
    /// Target files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Reports stored.
    pub reports: u64,
    /// When its certificate ends.
    pub certificate_until: Option<UnixTime>,
    /// What a person should look at.
    pub trouble: Option<String>,
}
