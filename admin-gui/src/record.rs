//! The upload record (R-004-37): one entry per change that this desk tried to publish, for people and for
//! programs.

use std::fmt;
use std::path::{Path, PathBuf};

use protocol::author::Receipt;
use protocol::{Event, Identity, UpdateId};
use release::{Component, Version};
use serde::{Deserialize, Serialize};
use tuf::{Digest, KeyId, UnixTime};

use crate::limits::RECORDS;

/// The log's name in `records/`: `uploads.log` and `uploads.jsonl`.
pub const LOG: &str = "uploads";

/// What was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// A new release.
    Publish,
    /// A release was withdrawn.
    Withdraw,
    /// Roles were signed again with a later expiry.
    Renew,
    /// A root that changes who may sign.
    Root,
    /// A team was added or taken away.
    Team,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Publish => "publish",
            Self::Withdraw => "withdraw",
            Self::Renew => "renew",
            Self::Root => "root",
            Self::Team => "team",
        })
    }
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UploadRecord {
    /// What was tried.
    pub action: Action,
    /// The file or folder that was chosen; none for changes without one.
    #[serde(default)]
    pub source: Option<PathBuf>,
    /// The release time that stands in the signed metadata.
    pub release_time: UnixTime,
    /// The component; none for a renewal.
    #[serde(default)]
    pub application_name: Option<Component>,
    /// Its version; none for a renewal.
    #[serde(default)]
    pub version_number: Option<Version>,
    /// When it ended.
    pub upload_time: UnixTime,
    /// The update.
    #[serde(default)]
    pub update: Option<UpdateId>,
    /// SHA-256 of the target.
    #[serde(default)]
    pub digest: Option<Digest>,
    /// Its size in bytes.
    #[serde(default)]
    pub size: Option<u64>,
    /// The key that signed.
    pub signer: KeyId,
    /// Who did it.
    pub author: Identity,
    /// Why it failed; none if it was published.
    #[serde(default)]
    pub failure: Option<String>,
    /// The repository's receipt.
    #[serde(default)]
    pub receipt: Option<Receipt>,
    /// The author's and the repository's steps.
    #[serde(default)]
    pub events: Vec<Event>,
}

impl UploadRecord {
    /// The entry in the document's words, in one line.
    #[must_use]
    pub fn text(&self) -> String {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let outcome = self
            .failure
            .as_ref()
            .map_or_else(|| "published".to_owned(), |why| format!("failed: {why}"));
        format!(
            "Source: {} | Release Time: {} | Application Name: {} | Version Number: {} | Upload Time: {} | \
             Action: {} | SHA-256: {} | Size: {} | Signer: {} | Outcome: {}",
            or_dash(self.source.as_ref().map(|path| path.display().to_string())),
            self.release_time,
            or_dash(self.application_name.as_ref().map(ToString::to_string)),
            or_dash(self.version_number.as_ref().map(ToString::to_string)),
            self.upload_time,
            self.action,
            or_dash(self.digest.as_ref().map(ToString::to_string)),
            or_dash(self.size.map(|size| size.to_string())),
            self.signer,
            outcome.replace(['\n', '\r'], " "),
        )
    }
}

/// Appends an entry, durable on return.
///
/// # Errors
/// Those of the disk.
pub fn append(dir: &Path, record: &UploadRecord) -> Result<(), durable::RecordError> {
    // One writer at a time, also from several programs at one desk. A folder that cannot be opened or locked
    // shows in the next line.
    let turn = std::fs::File::open(dir).and_then(|dir| dir.lock().map(|()| dir));
    let _turn = turn.ok();
    durable::RecordLog::open(dir, LOG, durable::LogLimits::default())?.append(record, &record.text())
}

/// The newest entries, oldest first.
///
/// # Errors
/// Those of the disk.
pub fn read(dir: &Path) -> Result<Vec<UploadRecord>, durable::Error> {
    durable::RecordLog::read_in(dir, LOG, RECORDS)
}
