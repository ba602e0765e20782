//! Signed reports: what an actor says it did, in a form that it cannot deny later.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use tuf::Digest;

use crate::device::ComponentState;
use crate::limits::{MAX_REPORT, MAX_REPORT_EVENTS};
use crate::{Event, Identity, Outcome, Stamp, UpdateId};

/// What a device or a manager reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Who reports.
    pub actor: Identity,
    /// Rises by one with every report of this actor, also across restarts; never falls.
    pub counter: u64,
    /// 16 random bytes in hexadecimal: two reports are never the same bytes.
    pub nonce: String,
    /// When it was made.
    pub at: Stamp,
    /// The update it is about, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<UpdateId>,
    /// How that update ended here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Why, in one sentence, where it did not end well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The steps, oldest first; at most [`MAX_REPORT_EVENTS`].
    #[serde(default)]
    pub events: Vec<Event>,
    /// What the device runs now; empty for a manager.
    #[serde(default)]
    pub components: Vec<ComponentState>,
}

/// A [`Report`] as it travels: its exact text, the key's fingerprint and a signature over the text.
///
/// The signature is ECDSA P-256 with SHA-256 (ASN.1 DER), by the key of the actor's certificate, over
/// [`SignedReport::CONTEXT`] followed by the text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedReport {
    /// The report as JSON text; this text is what is signed.
    pub report: String,
    /// SHA-256 of the signer's `SubjectPublicKeyInfo` (DER).
    pub key: Digest,
    /// The signature in hexadecimal.
    pub signature: String,
}

/// Why a signed report is not believed.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// Larger than [`MAX_REPORT`].
    #[error("the report has {0} bytes: {MAX_REPORT} at most")]
    TooLarge(usize),
    /// Not the JSON of a report.
    #[error("the report cannot be read")]
    Malformed(#[source] serde_json::Error),
    /// Too many steps.
    #[error("the report has {0} steps: {MAX_REPORT_EVENTS} at most")]
    TooManyEvents(usize),
    /// The signature does not fit the text and the key.
    #[error("the report's signature is not by the key of its sender")]
    Signature,
    /// Signed by one actor, written in the name of another.
    #[error("the report is in the name of {claimed}, but {sender} sent it")]
    Sender {
        /// In whose name it is.
        claimed: Identity,
        /// Whose key signed it.
        sender: Identity,
    },
}

impl SignedReport {
    /// What is signed begins with these bytes, so that the same key's other signatures never fit.
    pub const CONTEXT: &'static [u8] = b"drover report v1\n";

    /// The bytes to sign for a report's text.
    #[must_use]
    pub fn message(report: &str) -> Vec<u8> {
        [Self::CONTEXT, report.as_bytes()].concat()
    }

    /// Checks size, signature and sender, and reads the report.
    ///
    /// `public_key` is the sender's uncompressed P-256 point (65 bytes), from its certificate.
    ///
    /// # Errors
    /// [`ReportError`] says which check refused it.
    pub fn verify(&self, public_key: &[u8], sender: &Identity) -> Result<Report, ReportError> {
        if self.report.len() > MAX_REPORT {
            return Err(ReportError::TooLarge(self.report.len()));
        }
        let signature = hex::decode(&self.signature).map_err(|_| ReportError::Signature)?;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, public_key)
            .verify(&Self::message(&self.report), &signature)
            .map_err(|_| ReportError::Signature)?;
        let report = self.read()?;
        if report.actor != *sender {
            return Err(ReportError::Sender {
                claimed: report.actor,
                sender: sender.clone(),
            });
        }
        Ok(report)
    }

    /// Reads the report without believing it: for what was verified before it was stored.
    ///
    /// # Errors
    /// It is too large, not JSON, or has too many steps.
    pub fn read(&self) -> Result<Report, ReportError> {
        if self.report.len() > MAX_REPORT {
            return Err(ReportError::TooLarge(self.report.len()));
        }
        let report: Report = serde_json::from_str(&self.report).map_err(ReportError::Malformed)?;
        if report.events.len() > MAX_REPORT_EVENTS {
            return Err(ReportError::TooManyEvents(report.events.len()));
        }
        Ok(report)
    }
}
