//! What readers see: one unchanging value, replaced as a whole when a change has become durable.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use protocol::UpdateId;
use tuf::{Digest, UnixTime};

use crate::listing::Listing;

/// Everything that the public routes answer from.
#[derive(Debug, Default, Clone)]
pub struct Visible {
    /// Restored from a backup and waiting: `timestamp.json` is not served.
    pub recovering: bool,
    /// The newest file of each role, by its name in the repository.
    pub metadata: BTreeMap<String, RoleBytes>,
    /// Versions of root, timestamp, snapshot, targets; 0 where there is none.
    pub versions: [u64; 4],
    /// When root ends.
    pub root_until: Option<UnixTime>,
    /// When targets ends.
    pub targets_until: Option<UnixTime>,
    /// When the earlier of snapshot and timestamp ends.
    pub online_until: Option<UnixTime>,
    /// When the timestamp was signed.
    pub signed_at: Option<UnixTime>,
    /// What the targets role lists.
    pub listing: Arc<Listing>,
    /// Served path below `/targets/` → file.
    pub paths: HashMap<String, Served>,
    /// The update that was published last.
    pub update: Option<UpdateId>,
}

/// A metadata file as it is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleBytes {
    /// The bytes.
    pub bytes: Bytes,
    /// Their SHA-256, which is the entity tag.
    pub digest: Digest,
}

impl RoleBytes {
    /// Takes bytes and computes their digest.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self {
            digest: Digest::of(&bytes),
            bytes: bytes.into(),
        }
    }
}

/// A target file as it is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Served {
    /// Its SHA-256.
    pub digest: Digest,
    /// Its length in bytes.
    pub length: u64,
}

impl Visible {
    /// Fills [`Self::paths`] from the listing: one path per listed hash (TUF specification, section 6.2).
    pub(crate) fn set_listing(&mut self, listing: Arc<Listing>) {
        self.paths.clear();
        for entry in listing.entries.values() {
            let served = Served {
                digest: entry.sha256,
                length: entry.length,
            };
            let (folder, file) = entry.name.rsplit_once('/').unwrap_or(("", entry.name.as_str()));
            let slash = if folder.is_empty() { "" } else { "/" };
            for hash in std::iter::once(entry.sha256.to_string()).chain(entry.sha512.clone()) {
                self.paths.insert(format!("{folder}{slash}{hash}.{file}"), served);
            }
        }
        self.listing = listing;
    }

    /// Number of distinct files and their bytes.
    #[must_use]
    pub fn totals(&self) -> (usize, u64) {
        let files: HashMap<Digest, u64> = self
            .listing
            .entries
            .values()
            .map(|entry| (entry.sha256, entry.length))
            .collect();
        (files.len(), files.values().sum())
    }
}
