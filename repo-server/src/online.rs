//! The online key: signs which of the author's files are the newest, and nothing else.

use std::path::Path;

use anyhow::{Context as _, Result};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use tuf::editor::{SnapshotEditor, TimestampEditor};
use tuf::{Ed25519Signer, Role, Root, Signer, Targets, UnixTime};

use crate::Refusal;
use crate::limits::ONLINE_LIFETIME_SECONDS;

/// The key that signs snapshot and timestamp.
#[derive(Debug)]
pub(crate) struct Online {
    signer: Ed25519Signer,
}

/// Below which versions nothing may be signed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LastVersions {
    pub(crate) snapshot: u64,
    pub(crate) timestamp: u64,
}

/// A fresh pair of files.
#[derive(Debug, Clone)]
pub(crate) struct OnlineFiles {
    pub(crate) snapshot_version: u64,
    pub(crate) snapshot: Vec<u8>,
    pub(crate) timestamp_version: u64,
    pub(crate) timestamp: Vec<u8>,
}

impl Online {
    /// Reads the key (ed25519, PKCS#8 in PEM, mode 0600).
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let pem = durable::read_private(path)?;
        let key = PrivatePkcs8KeyDer::from_pem_slice(&pem)
            .with_context(|| format!("{} is not a private key in PKCS#8 and PEM", path.display()))?;
        let signer = Ed25519Signer::from_pkcs8(key.secret_pkcs8_der())
            .with_context(|| format!("{} cannot sign", path.display()))?;
        Ok(Self { signer })
    }

    /// Signs snapshot and timestamp over `targets`.
    ///
    /// Both end no later than root and targets: what the author no longer vouches for is not kept alive here.
    /// Versions are the seconds since 1970, or one more than the last, whatever is higher (DESIGN section 4).
    pub(crate) fn sign(
        &self,
        root: &Root,
        targets: (&Targets, &[u8]),
        last: LastVersions,
        now: UnixTime,
    ) -> Result<OnlineFiles, Refusal> {
        let (targets, targets_bytes) = targets;
        self.check_keys(root)?;
        for (role, expires) in [("root", root.expires), ("targets", targets.expires)] {
            if expires <= now {
                return Err(Refusal::Expired { role, at: expires });
            }
        }
        let expires = now
            .plus_seconds(ONLINE_LIFETIME_SECONDS)
            .min(root.expires)
            .min(targets.expires);
        let failed = |error: tuf::SignError| Refusal::Internal(anyhow::Error::new(error).context("signing"));

        let snapshot_version = next(last.snapshot, now);
        let snapshot = SnapshotEditor::new(snapshot_version, expires)
            .role(&Role::Targets, targets.version, targets_bytes)
            .build()?
            .sign(&self.signer)
            .map_err(failed)?
            .bytes();
        let timestamp_version = next(last.timestamp, now);
        let timestamp = TimestampEditor::new(timestamp_version, expires, snapshot_version, &snapshot)
            .signed_at(now)
            .build()?
            .sign(&self.signer)
            .map_err(failed)?
            .bytes();
        Ok(OnlineFiles {
            snapshot_version,
            snapshot,
            timestamp_version,
            timestamp,
        })
    }

    /// The root must name our key for both roles.
    fn check_keys(&self, root: &Root) -> Result<(), Refusal> {
        let key = self.signer.public_key();
        for (role, keys) in [("snapshot", &root.snapshot), ("timestamp", &root.timestamp)] {
            if !keys.keyids.contains(&key.id()) {
                return Err(Refusal::KeyNotTrusted {
                    key: key.id().to_string(),
                    role,
                });
            }
        }
        Ok(())
    }
}

fn next(last: u64, now: UnixTime) -> u64 {
    last.saturating_add(1).max(u64::try_from(now.0).unwrap_or(0))
}
