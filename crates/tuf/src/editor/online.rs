//! Snapshot and timestamp: what a repository signs by itself.

use serde_json::{Map, Value, json};

use super::{Unsigned, common, edit};
use crate::schema::MetaFile;
use crate::{Error, Role, Snapshot, Timestamp, UnixTime};

/// Makes a snapshot. The version is the caller's: max(last + 1, seconds since 1970).
#[derive(Debug, Clone)]
pub struct SnapshotEditor {
    fields: Map<String, Value>,
}

impl SnapshotEditor {
    /// A snapshot that lists nothing yet.
    #[must_use]
    pub fn new(version: u64, expires: UnixTime) -> Self {
        let mut fields = common("snapshot", version, expires);
        fields.insert("meta".to_owned(), json!({}));
        Self { fields }
    }

    /// Lists a targets role's file by version, length and SHA-256. Roles listed before must be listed again.
    #[must_use]
    pub fn role(self, role: &Role, version: u64, bytes: &[u8]) -> Self {
        self.entry(role, &MetaFile::of_bytes(version, bytes))
    }

    /// Lists a targets role with exactly this entry.
    #[must_use]
    pub fn entry(mut self, role: &Role, entry: &MetaFile) -> Self {
        edit(&mut self.fields, "meta", |meta| {
            meta.insert(role.meta_name(), json!(entry))
        });
        self
    }

    /// The snapshot, ready to be signed.
    ///
    /// # Errors
    /// When a verifier would not read it.
    pub fn build(self) -> Result<Unsigned<Snapshot>, Error> {
        Unsigned::new(self.fields)
    }
}

/// Makes a timestamp. The version is the caller's: max(last + 1, seconds since 1970).
#[derive(Debug, Clone)]
pub struct TimestampEditor {
    fields: Map<String, Value>,
}

impl TimestampEditor {
    /// A timestamp for a snapshot, by version, length and SHA-256.
    #[must_use]
    pub fn new(version: u64, expires: UnixTime, snapshot_version: u64, snapshot: &[u8]) -> Self {
        Self::with_entry(version, expires, &MetaFile::of_bytes(snapshot_version, snapshot))
    }

    /// A timestamp with exactly this entry.
    #[must_use]
    pub fn with_entry(version: u64, expires: UnixTime, snapshot: &MetaFile) -> Self {
        let mut fields = common("timestamp", version, expires);
        fields.insert("meta".to_owned(), json!({ "snapshot.json": snapshot }));
        Self { fields }
    }

    /// When it is signed: what verifiers take as a lower bound of time.
    #[must_use]
    pub fn signed_at(mut self, signed_at: UnixTime) -> Self {
        self.fields.insert("signed_at".to_owned(), json!(signed_at));
        self
    }

    /// The timestamp, ready to be signed.
    ///
    /// # Errors
    /// When a verifier would not read it.
    pub fn build(self) -> Result<Unsigned<Timestamp>, Error> {
        Unsigned::new(self.fields)
    }
}
