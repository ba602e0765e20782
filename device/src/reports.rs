//! Signed reports: made once, kept on disk until a manager has them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use durable::Files;
use mtls::Credentials;
use protocol::limits::{MAX_DEVICE_BODY, MAX_REPORT, MAX_REPORTS};
use protocol::{Identity, Report, SignedReport};
use rustls_pki_types::PrivateKeyDer;
use tokio::sync::Notify;
use tuf::Digest;

use crate::limits::MAX_WAITING_REPORTS;
use crate::sync::Shared;

/// The device's key as a signer of reports.
#[derive(Debug)]
pub struct ReportKey {
    pair: EcdsaKeyPair,
    fingerprint: Digest,
}

/// Why a report cannot be made or kept.
#[derive(Debug, thiserror::Error)]
pub enum ReportFault {
    /// The key is not a P-256 key in PKCS#8.
    #[error("the device's key cannot sign reports: it must be a P-256 key in PKCS#8")]
    Key,
    /// Its fingerprint cannot be told.
    #[error("the device's certificate cannot be read")]
    Certificate(#[from] mtls::IdentityError),
    /// The agent ends.
    #[error("the report was cut off")]
    CutOff(#[source] tokio::task::JoinError),
    /// The report has no JSON form.
    #[error("the report cannot be written")]
    Encode(#[from] serde_json::Error),
    /// The disk refused.
    #[error("the report cannot be kept")]
    Disk(#[from] durable::Error),
    /// The queue cannot be listed.
    #[error("cannot list {}", path.display())]
    List {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl ReportKey {
    /// The key of these credentials.
    ///
    /// # Errors
    /// [`ReportFault::Key`], [`ReportFault::Certificate`].
    pub fn new(credentials: &Credentials) -> Result<Self, ReportFault> {
        let PrivateKeyDer::Pkcs8(der) = credentials.key() else {
            return Err(ReportFault::Key);
        };
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der.secret_pkcs8_der())
            .map_err(|_| ReportFault::Key)?;
        Ok(Self {
            pair,
            fingerprint: credentials.key_fingerprint()?,
        })
    }

    /// A signature (ASN.1 DER) over these bytes. They begin with the context of what is signed, so that a signature of
    /// one thing is none of another.
    ///
    /// # Errors
    /// [`ReportFault::Key`].
    pub fn signature(&self, message: &[u8]) -> Result<Vec<u8>, ReportFault> {
        let signature = self.pair.sign(&SystemRandom::new(), message);
        Ok(signature.map_err(|_| ReportFault::Key)?.as_ref().to_vec())
    }

    fn sign(&self, report: String) -> Result<SignedReport, ReportFault> {
        let signature = self.signature(&SignedReport::message(&report))?;
        Ok(SignedReport {
            report,
            key: self.fingerprint,
            signature: hex::encode(signature),
        })
    }
}

/// The queue of reports: a file each, named by its counter.
///
/// The newest file stays even when it was taken: it holds the counter.
#[derive(Debug)]
pub struct Outbox {
    files: Files,
    dir: PathBuf,
    key: ReportKey,
    me: Identity,
    state: Shared<State>,
    /// Held while a report gets its counter and its file: two threads never get the same.
    adding: Mutex<()>,
    /// Rung when there is something to send.
    pub wake: Notify,
}

#[derive(Debug, Default)]
struct State {
    counter: u64,
    waiting: BTreeSet<u64>,
    on_disk: BTreeSet<u64>,
}

impl Outbox {
    /// Opens the queue in `dir`.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn open(files: Files, dir: PathBuf, key: ReportKey, me: Identity) -> Result<Self, ReportFault> {
        files.create_dir(&dir, 0o700)?;
        files.collect_leftovers(&dir)?;
        let listed = std::fs::read_dir(&dir).map_err(|source| ReportFault::List {
            path: dir.clone(),
            source,
        })?;
        let on_disk: BTreeSet<u64> = listed
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".json")?.parse().ok())
            .collect();
        let counter = on_disk.last().copied().unwrap_or(0);
        let state = State {
            counter,
            waiting: on_disk.clone(),
            on_disk,
        };
        Ok(Self {
            files,
            dir,
            key,
            me,
            state: Shared::new(state),
            adding: Mutex::default(),
            wake: Notify::new(),
        })
    }

    /// Counter of the newest report.
    #[must_use]
    pub fn counter(&self) -> u64 {
        self.state.with(|state| state.counter)
    }

    /// How many reports no manager has taken yet.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.state.with(|state| state.waiting.len())
    }

    /// Signs a report and keeps it; actor, counter are set here.
    ///
    /// # Errors
    /// [`ReportFault`]; nothing is kept then, and the counter is not used up.
    pub fn add(&self, report: Report) -> Result<u64, ReportFault> {
        let _alone = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        let counter = self.counter().saturating_add(1);
        let report = Report {
            actor: self.me.clone(),
            counter,
            ..report
        };
        let signed = self.key.sign(serde_json::to_string(&report)?)?;
        self.files
            .replace(&self.path(counter), &serde_json::to_vec(&signed)?, 0o600)?;
        let surplus = self.state.with(|state| {
            state.counter = counter;
            state.waiting.insert(counter);
            state.on_disk.insert(counter);
            let surplus = state.waiting.len().saturating_sub(MAX_WAITING_REPORTS);
            state.waiting.iter().take(surplus).copied().collect::<Vec<u64>>()
        });
        for oldest in surplus {
            tracing::warn!(target: "drover", counter = oldest, "a report was dropped: no manager took it and the queue is full");
            self.forget(oldest);
        }
        self.wake.notify_one();
        Ok(counter)
    }

    /// The oldest reports that wait, as many as fit into one request. What cannot be read is dropped.
    #[must_use]
    pub fn oldest(&self) -> Vec<(u64, SignedReport)> {
        let waiting: Vec<u64> = self
            .state
            .with(|state| state.waiting.iter().copied().take(MAX_REPORTS).collect());
        let (mut found, mut bytes) = (Vec::new(), 0);
        for counter in waiting {
            let limit = (MAX_REPORT as u64).saturating_mul(3);
            let read = self.files.read_limited(&self.path(counter), limit);
            let Some((report, length)) = read
                .ok()
                .and_then(|text| Some((serde_json::from_slice(&text).ok()?, text.len())))
            else {
                tracing::warn!(target: "drover", counter, "a queued report is damaged and was dropped");
                self.forget(counter);
                continue;
            };
            let Some(report) = self.own(report) else {
                tracing::warn!(target: "drover", counter, "a queued report is of the device that this one was before");
                self.forget(counter);
                continue;
            };
            bytes += length;
            if bytes > MAX_DEVICE_BODY / 2 && !found.is_empty() {
                break;
            }
            found.push((counter, report));
        }
        found
    }

    /// A queued report under the key of now: a device that has enrolled anew has made it with the one of before, which
    /// no manager believes any more, and would wait behind it for ever. None if it was another device then.
    fn own(&self, report: SignedReport) -> Option<SignedReport> {
        if report.key == self.key.fingerprint {
            return Some(report);
        }
        let mine = report.read().ok().filter(|told| told.actor == self.me);
        mine.and_then(|_| self.key.sign(report.report).ok())
    }

    /// The manager has everything up to `through`.
    pub fn taken(&self, through: u64) {
        let done: Vec<u64> = self.state.with(|state| {
            state
                .on_disk
                .iter()
                .copied()
                .filter(|counter| *counter <= through)
                .collect()
        });
        for counter in done {
            self.forget(counter);
        }
    }

    fn forget(&self, counter: u64) {
        let remove = self.state.with(|state| {
            state.waiting.remove(&counter);
            counter != state.counter && state.on_disk.remove(&counter)
        });
        if remove && let Err(error) = self.files.remove_file(&self.path(counter)) {
            tracing::warn!(target: "drover", counter, %error, "a report that was taken cannot be removed");
        }
    }

    fn path(&self, counter: u64) -> PathBuf {
        self.dir.join(format!("{counter:020}.json"))
    }
}
