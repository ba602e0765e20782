//! What can go wrong while issuing.

use protocol::Role;
use thiserror::Error as ThisError;

use crate::key::KeyError;

/// Why a certificate was not issued or an authority not loaded.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum Error {
    /// A private key cannot be used.
    #[error("the private key cannot be used")]
    Key(#[from] KeyError),
    /// Issuing failed inside the certificate library.
    #[error("cannot make the certificate")]
    Rcgen(#[from] rcgen::Error),
    /// Not a certificate, or not one certificate.
    #[error("{what} is not a certificate in PEM")]
    Pem {
        /// Which one.
        what: &'static str,
        /// Where it breaks.
        source: rustls_pki_types::pem::Error,
    },
    /// The certificate is not what should stand there.
    #[error("this is not {expected}")]
    Unexpected {
        /// What was expected.
        expected: &'static str,
    },
    /// The key does not belong to the certificate.
    #[error("the private key does not belong to the certificate")]
    KeyMismatch,
    /// Who may issue what (the table in `mtls`).
    #[error(
        "the site's root does not issue {role} certificates: they come from the manager's device authority"
    )]
    NotFromRoot {
        /// The role asked for.
        role: Role,
    },
    /// Larger than any real one.
    #[error("the certificate request has {found} bytes: {limit} at most")]
    RequestTooLarge {
        /// Its length.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// Not a request, or its signature does not prove the possession of the key.
    #[error("the certificate request is not valid or does not prove that its sender holds the key")]
    Request(#[source] rcgen::Error),
    /// Something other than P-256.
    #[error("the key in the certificate request is not P-256")]
    RequestKey,
    /// A time outside the years 1970 to 9999.
    #[error("the time {0} cannot stand in a certificate")]
    Time(i64),
    /// The machine's randomness is not available.
    #[error("the system gives no random numbers")]
    Random(#[source] getrandom::Error),
    /// A host name that cannot stand in a certificate.
    #[error("{0:?} is neither a host name nor an IP address")]
    Host(String),
}
