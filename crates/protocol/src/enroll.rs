//! Joining a site: the enrolment port speaks TLS without client certificates.
//!
//! `POST /v1/enroll` [`Enroll`] → [`Enrolled`]; `POST /v1/renew-expired` [`RenewExpired`] → [`Enrolled`]. The device checks the manager by the fingerprint of the
//! site's root certificate that stands in the code; the manager checks the device by code and password.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use tuf::Digest;

use crate::{Name, Secret};

/// Path of [`Enroll`].
pub const ENROLL: &str = "/v1/enroll";
/// Path of [`RenewExpired`].
pub const RENEW_EXPIRED: &str = "/v1/renew-expired";
/// How long after its end a certificate is renewed without a new code, seconds: a year.
pub const GRACE_SECONDS: i64 = 365 * 86_400;

/// What an operator hands to the person at the device: where to dial, whom to trust, a one-time secret.
///
/// Written `drover1/ADDRESS/DEVICE/FINGERPRINT/SECRET`; a person copies it whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrollCode {
    /// `host:port` of the enrolment port.
    pub address: String,
    /// The device's name, as the operator typed it.
    pub device: Name,
    /// SHA-256 of the site's root certificate (DER).
    pub site_ca: Digest,
    /// One-time secret, 32 hexadecimal digits.
    pub secret: Secret,
}

/// The text is not an [`EnrollCode`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is not an enrolment code ({0}): copy the whole line that the manager printed")]
pub struct CodeError(&'static str);

impl FromStr for EnrollCode {
    type Err = CodeError;

    fn from_str(text: &str) -> Result<Self, CodeError> {
        let parts: Vec<&str> = text.trim().split('/').collect();
        let [form, address, device, site_ca, secret] = parts[..] else {
            return Err(CodeError("it has five parts with '/' between them"));
        };
        if form != "drover1" {
            return Err(CodeError("it starts with drover1"));
        }
        if address.is_empty() || address.len() > 260 || !address.contains(':') {
            return Err(CodeError("its second part is host:port"));
        }
        if secret.len() != 32 || !secret.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(CodeError("its last part is 32 hexadecimal digits"));
        }
        Ok(Self {
            address: address.to_owned(),
            device: device
                .parse()
                .map_err(|_| CodeError("its third part is the device's name"))?,
            site_ca: site_ca
                .parse()
                .map_err(|_| CodeError("its fourth part is the site's fingerprint"))?,
            secret: Secret::new(secret.to_owned()),
        })
    }
}

impl EnrollCode {
    /// The code as a person copies it: `drover1/ADDRESS/DEVICE/FINGERPRINT/SECRET`. Contains the secret.
    #[must_use]
    pub fn reveal(&self) -> String {
        format!(
            "drover1/{}/{}/{}/{}",
            self.address,
            self.device,
            self.site_ca,
            self.secret.reveal()
        )
    }
}

impl fmt::Display for EnrollCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "drover1/{}/{}/{}/•••", self.address, self.device, self.site_ca)
    }
}

/// A device asks to join.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Enroll {
    /// The name from the code; the certificate's name comes from the manager's list.
    pub device: Name,
    /// The one-time secret from the code.
    pub secret: Secret,
    /// The password that the operator gave to the device.
    pub password: Secret,
    /// PKCS#10 request, PEM; only its public key is used.
    pub csr: String,
}

/// A device renews its certificate over its authenticated connection.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Renew {
    /// PKCS#10 request, PEM, by the enrolled key.
    pub csr: String,
}

/// A device whose certificate has run out, at most [`GRACE_SECONDS`] ago, asks for a new one.
///
/// It cannot show the old one in the handshake any more. It shows its token, and proves its key with a signature that
/// fits this one channel.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RenewExpired {
    /// Its name; the certificate's name comes from the manager's list.
    pub device: Name,
    /// The token from its enrolment.
    pub token: Secret,
    /// PKCS#10 request, PEM, by the enrolled key.
    pub csr: String,
    /// ECDSA P-256 with SHA-256 (ASN.1 DER) by the enrolled key over [`RenewExpired::message`], in hexadecimal.
    pub proof: String,
}

impl RenewExpired {
    /// What is signed begins with these bytes, so that the same key's other signatures never fit.
    pub const CONTEXT: &'static [u8] = b"drover renewal after expiry v1\n";

    /// The bytes to sign: context, the channel's TLS exporter value (RFC 8446, section 7.5), the request.
    #[must_use]
    pub fn message(exporter: &[u8; 32], csr: &str) -> Vec<u8> {
        [Self::CONTEXT, exporter, csr.as_bytes()].concat()
    }

    /// Whether whoever sent this over the channel with this exporter value has the key (uncompressed P-256 point).
    #[must_use]
    pub fn proves(&self, public_key: &[u8], exporter: &[u8; 32]) -> bool {
        hex::decode(&self.proof).is_ok_and(|proof| {
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, public_key)
                .verify(&Self::message(exporter, &self.csr), &proof)
                .is_ok()
        })
    }
}

/// What a device gets.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Enrolled {
    /// The site.
    pub site: Name,
    /// The device's name.
    pub device: Name,
    /// Its certificate and the manager's intermediate, PEM.
    pub chain: String,
    /// The site's root certificate, PEM.
    pub site_ca: String,
    /// 256-bit token in hexadecimal; empty in a renewal, which keeps the old one.
    pub token: Secret,
    /// `host:port` where the manager serves devices.
    pub manager: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_reads_back_and_its_display_hides_the_secret() {
        let text = format!(
            "drover1/10.0.0.1:7101/pump-7/{}/{}",
            "ab".repeat(32),
            "cd".repeat(16)
        );
        let code: EnrollCode = text.parse().unwrap();
        assert_eq!(code.reveal(), text);
        assert!(!code.to_string().contains("cdcd"));
        assert!(!format!("{code:?}").contains("cdcd"));
    }

    #[test]
    fn half_a_code_says_what_is_missing() {
        let error = "drover1/10.0.0.1:7101/pump-7".parse::<EnrollCode>().unwrap_err();
        assert!(error.to_string().contains("five parts"));
    }
}
