//! Manager ↔ device: HTTP/1.1 over TLS 1.3 with client certificates; the device dials.
//!
//! | request | body → answer |
//! |---|---|
//! | `POST /v1/hello` | [`Hello`] → [`Welcome`] |
//! | `GET /v1/events` | server-sent: `order` ([`Order`]), `refresh` ([`Refresh`]), `activate` ([`Activate`]), comment lines as keep-alive |
//! | `GET /v1/metadata/NAME` | a metadata file, raw; 404 if there is none |
//! | `GET /v1/targets/SHA256` | a target's bytes; `Range`, `ETag` |
//! | `POST /v1/progress` | `Vec<Event>` → 204; unsigned, for people who watch; may be lost |
//! | `POST /v1/reports` | `Vec<SignedReport>` → [`ReportsTaken`] |
//! | `POST /v1/renew` | [`crate::enroll::Renew`] → [`crate::enroll::Enrolled`] |
//!
//! Every request carries `Authorization: Bearer TOKEN`. 401: certificate or token is not (or no longer)
//! on the list. 429 and 503 carry `Retry-After`. Errors are [`Problem`].

use std::collections::BTreeMap;

use release::{Arch, Component, TargetPath, Version};
use serde::{Deserialize, Serialize};
use tuf::{Digest, UnixTime};

use crate::{Outcome, UpdateId};

/// Path of [`Hello`].
pub const HELLO: &str = "/v1/hello";
/// Path of the event stream.
pub const EVENTS: &str = "/v1/events";
/// Header of the request for the event stream: the machine's boot id, as in [`Hello::boot_id`]. Optional.
pub const BOOT_HEADER: &str = "drover-boot";
/// Folder of metadata.
pub const METADATA: &str = "/v1/metadata/";
/// Folder of targets, by SHA-256.
pub const TARGETS: &str = "/v1/targets/";
/// Path for progress.
pub const PROGRESS: &str = "/v1/progress";
/// Path for signed reports.
pub const REPORTS: &str = "/v1/reports";
/// Path for renewing a certificate.
pub const RENEW: &str = "/v1/renew";

/// What a device is and runs; the reported half of its twin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Version of the agent.
    pub agent: String,
    /// Its processor.
    pub arch: Arch,
    /// Hardware ids it answers to.
    #[serde(default)]
    pub hardware: Vec<String>,
    /// Kernel's boot id, to notice two machines under one name.
    pub boot_id: String,
    /// Counter of the newest report it has made.
    pub report_counter: u64,
    /// Whether its clock can be believed.
    pub time_known: bool,
    /// Why its trusted state cannot be used, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// One entry per component.
    pub components: Vec<ComponentState>,
}

/// One component on one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentState {
    /// Which.
    pub component: Component,
    /// The version that runs; none before the first install.
    pub version: Option<Version>,
    /// The digest of its target.
    pub digest: Option<Digest>,
    /// The version that a roll back would return to.
    #[serde(default)]
    pub previous: Option<Version>,
    /// What it is doing.
    pub activity: Activity,
    /// Seconds since the running version was started.
    #[serde(default)]
    pub uptime_seconds: u64,
    /// Digests that failed here and are not tried again.
    #[serde(default)]
    pub bad: Vec<Digest>,
    /// Rolled back by hand: nothing newer than this is wanted until somebody releases the hold.
    #[serde(default)]
    pub held: bool,
    /// The release that waits, if one does; what runs goes on meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
}

/// A release that a device does not install yet: for what it waits, since when and until when, in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// The update that brings it.
    pub update: UpdateId,
    /// Its version.
    pub version: Version,
    /// Since when, by the time that the device believed then.
    pub since: UnixTime,
    /// Seconds that it has waited for certain, whatever the clocks say.
    pub waited_seconds: u64,
    /// Whether it is on the device already; `false`: nothing is fetched until a person says so.
    pub fetched: bool,
    /// Whether a person is needed.
    pub asks: bool,
    /// Whether the device lets its gateway override what is not met.
    #[serde(default)]
    pub gateway_overrides: bool,
    /// Every condition that is not met.
    pub unmet: Vec<Unmet>,
    /// When all of them will be met by themselves, where that can be said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<UnixTime>,
    /// After how many hours waiting ends, by its author's word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<u32>,
    /// What happens then, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub then: Option<String>,
}

/// A condition that is not met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unmet {
    /// A stable word for programs, such as [`Unmet::PERSON`] or `interlock door`.
    pub key: String,
    /// What is asked, and what is.
    pub what: String,
    /// Who holds the release back by it.
    pub holder: String,
    /// Since when.
    pub since: UnixTime,
    /// When it will be met by itself, where that can be said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<UnixTime>,
}

impl Unmet {
    /// The key of the condition that only a person meets.
    pub const PERSON: &str = "person";
}

impl std::fmt::Display for Unmet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Of another program's words: nothing in them moves a terminal's cursor.
        let plain = |words: &str| words.replace(char::is_control, " ");
        let (what, holder) = (plain(&self.what), plain(&self.holder));
        write!(f, "{what} (held by {holder} since {}", self.since)?;
        match self.until {
            Some(until) => write!(f, ", until {until})"),
            None => f.write_str(")"),
        }
    }
}

impl std::fmt::Display for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let unmet: Vec<String> = self.unmet.iter().map(Unmet::to_string).collect();
        write!(
            f,
            "{} waits since {}: {}",
            self.version,
            self.since,
            unmet.join("; ")
        )?;
        match (self.hours, &self.then) {
            (Some(hours), Some(then)) => {
                let then = then.replace(char::is_control, " ");
                write!(f, "; after {hours} h: {then}")
            }
            _ => Ok(()),
        }
    }
}

/// What a component is doing on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activity {
    /// Nothing installed yet.
    Empty,
    /// Running and healthy as far as known.
    Running,
    /// Bytes are arriving.
    Downloading,
    /// Being unpacked and checked.
    Staging,
    /// Old one stopping, new one starting.
    Switching,
    /// New one runs, not yet committed.
    Probation,
    /// Going back.
    RollingBack,
    /// Installed, but its program does not stay up; being restarted with back-off.
    Failing,
}

impl std::fmt::Display for Activity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Empty => "empty",
            Self::Running => "running",
            Self::Downloading => "downloading",
            Self::Staging => "staging",
            Self::Switching => "switching",
            Self::Probation => "probation",
            Self::RollingBack => "rolling back",
            Self::Failing => "failing",
        })
    }
}

/// The manager's answer to a hello.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// What the device should do, in this order.
    pub orders: Vec<Order>,
    /// Newest metadata of the mirror.
    pub refresh: Refresh,
    /// Seconds until the device should say hello again if it has no event stream.
    pub poll_seconds: u64,
    /// Of what waits on the device: what the manager holds back by now, and why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub held_back: BTreeMap<UpdateId, String>,
}

/// "There is newer metadata."
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refresh {
    /// Version of the mirror's timestamp role; 0 if the mirror is empty.
    pub timestamp: u64,
}

/// "Replace this version by that one", as a compare-and-swap on `expects`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The update.
    pub update: UpdateId,
    /// Which component.
    pub component: Component,
    /// The version that the manager believes is running; the device refuses if another one is.
    pub expects: Option<Version>,
    /// The version it should run.
    pub version: Version,
    /// Its target in the signed metadata; length and digest come from there, never from here.
    pub target: TargetPath,
}

/// "A person says now" of a release that waits. It is the one that the device was ordered and has verified; a device that
/// waits for nothing of it leaves this alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activate {
    /// The update that waits.
    pub update: UpdateId,
    /// Its component.
    pub component: Component,
    /// Although conditions are not met: followed only where the device's settings let the gateway override.
    #[serde(rename = "override")]
    pub overriding: bool,
}

/// Which reports the manager has written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportsTaken {
    /// Highest counter that is durable at the manager; the device may forget up to here.
    pub through: u64,
}

/// The body of an error answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// A stable word for programs, such as `not-on-the-list`.
    pub code: String,
    /// One sentence for a person: what is wrong and what to do.
    pub message: String,
}

/// How an update went on one device, as the manager and the author's windows show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceOutcome {
    /// The update.
    pub update: UpdateId,
    /// The component.
    pub component: Component,
    /// The version that was tried.
    pub version: Version,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, where it did not end well.
    pub reason: Option<String>,
}
