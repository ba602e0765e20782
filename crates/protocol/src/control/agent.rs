//! What a device's window shows beyond its state: releases as their author described them, what is on the way, and
//! the agent's own words.

use release::{Component, Release, Version};
use serde::{Deserialize, Serialize};
use tuf::{Digest, UnixTime};

use super::LoggedMessage;
use crate::Event;

/// One component of a device, with what its author says of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentDetail {
    /// Which.
    pub component: Component,
    /// The release that runs; none before the first install.
    pub running: Option<About>,
    /// The release of the newest order that was followed; stays after its end.
    pub coming: Option<About>,
    /// The newest step of the newest update, with its bytes; none since the agent's start.
    pub last: Option<Event>,
    /// How far the newest download is: the newest step that moved bytes.
    pub moved: Option<Event>,
    /// What failed here and is not tried again, newest last.
    #[serde(default)]
    pub bad: Vec<BadRelease>,
}

/// A release, in its author's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Its version.
    pub version: Version,
    /// When its author released it.
    pub released: UnixTime,
    /// What it is, or what is new in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Who sells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vendor: Option<String>,
    /// Who wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub developer: Option<String>,
    /// Under which terms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
}

impl From<&Release> for About {
    fn from(release: &Release) -> Self {
        Self {
            version: release.version.clone(),
            released: release.released,
            description: release.description.clone(),
            vendor: release.vendor.clone(),
            developer: release.developer.clone(),
            license: release.license.clone(),
        }
    }
}

/// A release that failed on this device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadRelease {
    /// Its version.
    pub version: Version,
    /// Its digest.
    pub digest: Digest,
    /// What it did, in one sentence.
    pub reason: String,
}

/// What would become of a release on a device: a dry run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DevicePlan {
    /// The component.
    pub component: Component,
    /// The version that was asked about.
    pub version: Version,
    /// The version that runs.
    pub running: Option<Version>,
    /// How it would come to run, why, and for how long nobody would be served.
    pub plan: release::plan::Plan,
    /// When its author wants it to happen, in words.
    pub policy: String,
    /// What it would wait for at this moment; empty: nothing.
    pub waits: Vec<String>,
    /// What the answer was made of, for `admin-gui plan --device-facts`.
    pub facts: release::plan::Facts,
}

/// One line of a device's event view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum DeviceEvent {
    /// A step of an update.
    Step(Event),
    /// A message for a person: stable id, text.
    Message(LoggedMessage),
}
