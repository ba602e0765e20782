//! What the author's desk answers about the past: the record of uploads, and what the devices' reports tell.

use std::path::PathBuf;

use release::{Component, Version};
use serde::{Deserialize, Serialize};
use tuf::{Digest, UnixTime};

use crate::device::ComponentState;
use crate::{Identity, Latencies, Name, Outcome, UpdateId};

/// Some of the record of uploads.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HistoryView {
    /// Oldest first.
    pub entries: Vec<HistoryEntry>,
    /// There are older ones than were asked for or fit.
    pub is_cut: bool,
}

/// One entry of the record of uploads (R-004-37).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// `publish`, `withdraw` or `renew`.
    pub action: String,
    /// Source: the file or folder that was chosen.
    pub source: Option<PathBuf>,
    /// Release time, as signed.
    pub released: UnixTime,
    /// Application name.
    pub component: Option<Component>,
    /// Version number.
    pub version: Option<Version>,
    /// Upload time.
    pub at: UnixTime,
    /// The update.
    pub update: Option<UpdateId>,
    /// SHA-256 of the target.
    pub digest: Option<Digest>,
    /// Its size in bytes.
    pub size: Option<u64>,
    /// The key that signed, by its id.
    pub signer: String,
    /// Who did it.
    pub author: Identity,
    /// Why it failed; none if it was published.
    pub failure: Option<String>,
    /// Versions of targets, snapshot and timestamp in the receipt.
    pub receipt: Option<[u64; 3]>,
}

/// Some of the devices.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FleetPage {
    /// By name.
    pub devices: Vec<FleetRow>,
    /// Ask again with `after` = this.
    pub next: Option<String>,
    /// Devices in all.
    pub total: usize,
    /// When the reports were read; none: not yet.
    pub asked: Option<UnixTime>,
    /// Why they are not of now.
    pub trouble: Option<String>,
}

/// One device as its newest report shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FleetRow {
    /// Who.
    pub device: Identity,
    /// When its last report arrived.
    pub last: UnixTime,
    /// What it runs, and how far it is.
    pub components: Vec<ComponentState>,
    /// How the newest update of each component ended.
    pub outcomes: Vec<FleetOutcome>,
}

/// How an update ended on a device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FleetOutcome {
    /// The update.
    pub update: UpdateId,
    /// The component; none if the report tells no step.
    pub component: Option<Component>,
    /// The version that was tried.
    pub version: Option<Version>,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, where it did not end well.
    pub reason: Option<String>,
    /// When the report arrived.
    pub at: UnixTime,
}

/// Latencies of the newest updates.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LatencyView {
    /// One per update and device, newest update last.
    pub rows: Vec<LatencyPoint>,
    /// There are more than fit.
    pub is_cut: bool,
}

/// The latency types of one update on one device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LatencyPoint {
    /// The update.
    pub update: UpdateId,
    /// The component.
    pub component: Component,
    /// The version.
    pub version: Version,
    /// The device.
    pub device: Name,
    /// Types 1 to 7 and ours, in milliseconds.
    pub latencies: Latencies,
    /// The row "Total" of the document: types 1 to 6.
    pub total: Option<f64>,
}
