//! Author and manager ↔ repository: `/api/v1` with client certificates, and the public event stream.
//!
//! | request | who | body → answer |
//! |---|---|---|
//! | `GET /api/v1/uploads/SHA256` | author, manager | [`UploadState`] |
//! | `PATCH /api/v1/uploads/SHA256?length=N` + `Upload-Offset: N` | author, manager | bytes → [`UploadState`]; 409 with [`UploadState`] if the offset is not the next one |
//! | `POST /api/v1/publish` | author | [`Publish`] → [`Receipt`]; 409 if `expects` is not the current version |
//! | `POST /api/v1/recover` | author, manager | [`Recover`] → [`Recovered`] |
//! | `POST /api/v1/reports` | manager | `Vec<SignedReport>` ([`RelayedReport`]) → [`crate::device::ReportsTaken`] |
//! | `GET /api/v1/reports?after=SEQ&limit=N&newest=N` | author | [`ReportPage`]; `newest`: begins so late that at most so many follow |
//! | `GET /api/v1/openapi.json` | everybody | the OpenAPI document |
//! | `GET /events` | everybody | server-sent: `published` ([`Published`]), comment lines as keep-alive |
//! | `GET /metadata/NAME`, `GET /targets/DIR/SHA256.FILE`, `/`, `/healthz` | everybody | |
//!
//! Errors are [`crate::device::Problem`].

use serde::{Deserialize, Serialize};
use tuf::{Digest, UnixTime};

use crate::{Event, Identity, Name, SignedReport, UpdateId};

/// How much of an upload has arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadState {
    /// Bytes that are here.
    pub received: u64,
    /// All bytes are here and their SHA-256 is the name.
    pub complete: bool,
}

/// One metadata file as it was signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleFile {
    /// Name in the repository, such as `7.targets.json`.
    pub name: String,
    /// The exact text.
    pub body: String,
}

/// The author makes a new state of the repository visible, as a compare-and-swap.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Publish {
    /// The update, for a new release; none for a change without one.
    #[serde(default)]
    pub update: Option<UpdateId>,
    /// The version of the top-level targets role that the author saw; 0 for an empty repository. A team's own role
    /// must be the one after the team's newest beside that.
    pub expects: u64,
    /// New root files, oldest first; mostly none.
    #[serde(default)]
    pub roots: Vec<RoleFile>,
    /// New targets roles (top level and delegated).
    pub targets: Vec<RoleFile>,
    /// The author's steps so far, kept with the release.
    #[serde(default)]
    pub events: Vec<Event>,
}

/// The repository's word that a publish is stored, verified and visible.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The update.
    pub update: Option<UpdateId>,
    /// The team whose role it is that is new; none for the top-level targets role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<Name>,
    /// New version of the targets role.
    pub targets: u64,
    /// Its SHA-256.
    pub targets_digest: Digest,
    /// New version of the snapshot role.
    pub snapshot: u64,
    /// New version of the timestamp role.
    pub timestamp: u64,
    /// When, by the repository's clock.
    pub at: UnixTime,
    /// The repository's own step.
    pub events: Vec<Event>,
}

/// A manager or the author hands back what a restored repository has forgotten.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Recover {
    /// Every root file it has, oldest first.
    pub roots: Vec<RoleFile>,
    /// Its newest targets roles.
    pub targets: Vec<RoleFile>,
    /// Highest snapshot version it has seen.
    pub snapshot: u64,
    /// Highest timestamp version it has seen.
    pub timestamp: u64,
}

/// What the repository still lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovered {
    /// Targets whose bytes are missing; upload them, then recover again.
    pub missing: Vec<Digest>,
    /// The targets version it now serves.
    pub targets: u64,
}

/// A report as a manager passes it on: with the certificate's facts that its signature was checked against.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayedReport {
    /// The report.
    pub report: SignedReport,
    /// Whose key signed it.
    pub sender: Identity,
    /// That key: uncompressed P-256 point in hexadecimal.
    pub public_key: String,
    /// The sender's certificate and what leads from it to the site's root, leaf first, the DER of each in base64 (`x5c`
    /// of RFC 7515, section 4.1.6); empty where a gateway of an earlier version passed it on. Whoever reads the report
    /// sees by it that the site vouches for the key.
    #[serde(default)]
    pub chain: Vec<String>,
}

/// Reports for the author's windows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportPage {
    /// Oldest first.
    pub reports: Vec<StoredReport>,
    /// Ask again with `after` = this.
    pub next: u64,
}

/// A report in the repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredReport {
    /// Place in the repository's order.
    pub seq: u64,
    /// When it arrived.
    pub received: UnixTime,
    /// The report and its sender.
    #[serde(flatten)]
    pub relayed: RelayedReport,
}

/// "Something new is visible."
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Version of the timestamp role.
    pub timestamp: u64,
    /// The update, if it was one.
    #[serde(default)]
    pub update: Option<UpdateId>,
}
