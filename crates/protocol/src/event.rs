//! What happened to an update, step by step, in all four programs.

use release::{Component, Version};
use serde::{Deserialize, Serialize};

use crate::{Identity, Stamp, UpdateId};

/// One step of one update, told by the program that took it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The update; the same in all four programs.
    pub update: UpdateId,
    /// Who tells it.
    pub actor: Identity,
    /// What happened.
    pub step: Step,
    /// The component it happened to.
    pub component: Component,
    /// The version it is about.
    pub version: Version,
    /// For steps of a manager towards one device: that device's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<crate::Name>,
    /// When.
    pub at: Stamp,
    /// Bytes done so far, for steps that move bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Bytes in all, for steps that move bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// Why, for steps that refuse, fail or undo; one sentence for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The steps, in the order in which an update that goes well takes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Author: the click (key already unlocked).
    Clicked,
    /// Author: preflight passed.
    Preflighted,
    /// Author: metadata signed.
    Signed,
    /// Author: target is in the repository, still invisible.
    Uploaded,
    /// Author: the repository's receipt is here ("administrator upload successful").
    Published,
    /// Repository: verified, stored and visible.
    Accepted,
    /// Manager: learned of it (event or poll).
    Noticed,
    /// Manager: first byte asked for.
    FetchStarted,
    /// Manager: last byte here ("manager download successful").
    Fetched,
    /// Manager: verification starts.
    MirrorVerifyStarted,
    /// Manager: verification ends; it may be offered.
    MirrorVerified,
    /// Manager: order sent to a device.
    Offered,
    /// Manager: last byte handed to a device's connection ("manager sends successfully").
    Sent,
    /// Device: order received.
    Ordered,
    /// Device: first byte asked for.
    DownloadStarted,
    /// Device: bytes are arriving (progress).
    Downloading,
    /// Device: last byte here and durable.
    Downloaded,
    /// Device: verification starts.
    VerifyStarted,
    /// Device: verification ends.
    Verified,
    /// Device: installation starts.
    InstallStarted,
    /// Device: unpacked, durable, ready to be switched to; installation ends.
    Staged,
    /// Device: it is not activated, or not fetched, yet; the reason names what is waited for.
    Waiting,
    /// Device: the old version is being told to stop; restart starts.
    Stopping,
    /// Device: the old version is gone.
    Stopped,
    /// Device: the pointer names the new version.
    Switched,
    /// Device: the new version's process exists.
    Started,
    /// Device: first healthy answer of the new version; restart is over.
    Healthy,
    /// Device: probation passed; the new version stays.
    Committed,
    /// Device: the order was not followed, and why.
    Refused,
    /// Device: something went wrong, and what; the old version stays or comes back.
    Failed,
    /// Device: the old version runs again, and why.
    RolledBack,
    /// Author: withdrawn; repository: shows it as such; device: dropped what was staged.
    Withdrawn,
}

impl Step {
    /// Whether an update ends with this step on a device.
    #[must_use]
    pub fn outcome(self) -> Option<Outcome> {
        match self {
            Self::Committed => Some(Outcome::Committed),
            Self::RolledBack => Some(Outcome::RolledBack),
            Self::Refused => Some(Outcome::Refused),
            Self::Failed => Some(Outcome::Failed),
            _ => None,
        }
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = serde_json::to_value(self).ok();
        f.pad(
            text.as_ref()
                .and_then(serde_json::Value::as_str)
                .unwrap_or("step"),
        )
    }
}

/// How an update ended on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The new version stays.
    Committed,
    /// The old version runs again.
    RolledBack,
    /// Nothing was touched.
    Refused,
    /// It failed before the switch; the old version was never stopped.
    Failed,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Committed => "committed",
            Self::RolledBack => "rolled back",
            Self::Refused => "refused",
            Self::Failed => "failed",
        })
    }
}
