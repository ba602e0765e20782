//! What a certificate says about its holder.

use protocol::Identity;
use rustls_pki_types::CertificateDer;
use thiserror::Error;
use tuf::{Digest, UnixTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

const SCHEME: &str = "drover://";

/// Why no identity can be read from a certificate.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum IdentityError {
    /// Not an X.509 certificate in DER.
    #[error("the certificate cannot be read as X.509")]
    Malformed,
    /// No SAN URI with our scheme.
    #[error("the certificate carries no drover:// identity")]
    Missing,
    /// More than one: it would be a matter of taste which one counts.
    #[error("the certificate carries more than one drover:// identity")]
    Several,
    /// The URI is not `drover://SITE/ROLE/NAME`.
    #[error("the certificate's identity {uri:?} is not drover://SITE/ROLE/NAME")]
    Unreadable {
        /// What it says, shortened to 200 characters.
        uri: String,
    },
}

/// A certificate's time limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// First second of its life.
    pub not_before: UnixTime,
    /// Last second of its life.
    pub not_after: UnixTime,
}

impl Validity {
    /// The moment at which a certificate is renewed: two thirds of its life (DESIGN section 8).
    pub fn renew_at(&self) -> UnixTime {
        let life = self.not_after.0.saturating_sub(self.not_before.0);
        UnixTime(self.not_before.0.saturating_add(life / 3 * 2))
    }
}

/// Reads who a certificate speaks for from its SAN URI `drover://SITE/ROLE/NAME`.
///
/// This is only a reading: who vouches for it is the verifiers' business.
pub fn identity_of(cert: &CertificateDer<'_>) -> Result<Identity, IdentityError> {
    let parsed = parse(cert)?;
    let names = parsed
        .subject_alternative_name()
        .map_err(|_| IdentityError::Malformed)?;
    let mut ours = names
        .iter()
        .flat_map(|names| &names.value.general_names)
        .filter_map(|name| match name {
            GeneralName::URI(uri) if uri.starts_with(SCHEME) => Some(*uri),
            _ => None,
        });
    let uri = ours.next().ok_or(IdentityError::Missing)?;
    if ours.next().is_some() {
        return Err(IdentityError::Several);
    }
    uri.parse().map_err(|_| IdentityError::Unreadable {
        uri: uri.chars().take(200).collect(),
    })
}

/// SHA-256 of the certificate's SubjectPublicKeyInfo: names a key, whatever certificate it is in.
pub fn key_fingerprint(cert: &CertificateDer<'_>) -> Result<Digest, IdentityError> {
    Ok(Digest::of(parse(cert)?.public_key().raw))
}

/// The certificate's public key as an uncompressed P-256 point (65 bytes), for checking what its holder signed.
pub fn public_key_of(cert: &CertificateDer<'_>) -> Result<Vec<u8>, IdentityError> {
    Ok(parse(cert)?.public_key().subject_public_key.data.to_vec())
}

/// The certificate's time limits.
pub fn validity_of(cert: &CertificateDer<'_>) -> Result<Validity, IdentityError> {
    let validity = parse(cert)?.validity().clone();
    Ok(Validity {
        not_before: UnixTime(validity.not_before.timestamp()),
        not_after: UnixTime(validity.not_after.timestamp()),
    })
}

/// True for a certificate that may sign others and carries its own name as issuer.
pub(crate) fn is_root(cert: &CertificateDer<'_>) -> bool {
    parse(cert).is_ok_and(|parsed| parsed.is_ca() && parsed.subject().as_raw() == parsed.issuer().as_raw())
}

fn parse<'a>(cert: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, IdentityError> {
    match X509Certificate::from_der(cert.as_ref()) {
        Ok(([], parsed)) => Ok(parsed),
        _ => Err(IdentityError::Malformed),
    }
}
