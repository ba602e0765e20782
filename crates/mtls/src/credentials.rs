//! Certificates and private keys as files.

use std::fmt;
use std::path::{Path, PathBuf};

use protocol::{Identity, Name, Role};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error as ThisError;
use tuf::Digest;

use crate::identity::{IdentityError, Validity, identity_of, is_root, key_fingerprint, validity_of};
use crate::refusal::Refusal;

/// Longest certificate or key file that is read, in bytes: a chain of three P-256 certificates in PEM is
/// under 4 KiB.
pub(crate) const FILE_LIMIT: u64 = 64 * 1024;
/// Most certificates in one chain file.
pub(crate) const CHAIN_LIMIT: usize = 4;

/// What can be wrong with the files and settings a TLS configuration is made of.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read, is too large, or is a private key that others may read.
    #[error("cannot use {}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: durable::Error,
    },
    /// Not PEM, or not the PEM that belongs there.
    #[error("{what} is not readable as PEM")]
    Pem {
        /// Which file or text.
        what: String,
        /// Where it breaks.
        source: pem::Error,
    },
    /// No certificate, or more than fit there.
    #[error("{what} holds {count} certificates, expected {expected}")]
    Count {
        /// Which file or text.
        what: String,
        /// How many there are.
        count: usize,
        /// How many are wanted.
        expected: &'static str,
    },
    /// A file that should hold the site's root holds something else.
    #[error("{what} is not a certificate authority's own certificate")]
    NotARoot {
        /// Which file or text.
        what: String,
    },
    /// No identity in the certificate.
    #[error("the certificate names nobody")]
    Identity(#[from] IdentityError),
    /// Our own certificate would be refused by everybody.
    #[error("our own certificate is of no use here")]
    Unusable(#[source] Refusal),
    /// Our certificate has a role that cannot stand on this side.
    #[error("a certificate of role {role} cannot be used to {doing}")]
    WrongSide {
        /// Its role.
        role: Role,
        /// "accept connections" or "connect".
        doing: &'static str,
    },
    /// Our certificate is for another site.
    #[error("our certificate is for site {found}, but the site is {expected}")]
    OtherSite {
        /// The site in the certificate.
        found: Name,
        /// The site that was asked for.
        expected: Name,
    },
    /// rustls refuses the combination, for instance a key that does not belong to the certificate.
    #[error("TLS refuses these settings")]
    Tls(#[from] rustls::Error),
    /// The verifier cannot be made from this root.
    #[error("the site's certificate authority cannot be used to verify")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    /// Watching files failed.
    #[error("cannot watch {}", path.display())]
    Watch {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: notify::Error,
    },
}

/// A certificate chain (leaf first, root not needed) and its private key.
pub struct Credentials {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Credentials {
    /// Reads both from PEM files. The key's file must be readable by its owner only (mode 0600 or less).
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, Error> {
        let chain = read(certificate)?;
        let secret = durable::read_private(key).map_err(|source| Error::File {
            path: key.to_owned(),
            source,
        })?;
        Self::parse(
            &chain,
            &certificate.display().to_string(),
            &secret,
            &key.display().to_string(),
        )
    }

    /// Reads both from PEM text.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, Error> {
        Self::parse(
            certificate.as_bytes(),
            "the certificate",
            key.as_bytes(),
            "the private key",
        )
    }

    fn parse(chain: &[u8], chain_name: &str, key: &[u8], key_name: &str) -> Result<Self, Error> {
        let chain = certificates(chain, chain_name)?;
        if chain.is_empty() || chain.len() > CHAIN_LIMIT {
            let (what, count) = (chain_name.to_owned(), chain.len());
            return Err(Error::Count {
                what,
                count,
                expected: "one to four",
            });
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|source| Error::Pem {
            what: key_name.to_owned(),
            source,
        })?;
        Ok(Self { chain, key })
    }

    /// Leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The certificate that speaks for the holder.
    pub fn leaf(&self) -> &CertificateDer<'static> {
        &self.chain[0]
    }

    /// Who it speaks for.
    pub fn identity(&self) -> Result<Identity, IdentityError> {
        identity_of(self.leaf())
    }

    /// SHA-256 of the public key.
    pub fn key_fingerprint(&self) -> Result<Digest, IdentityError> {
        key_fingerprint(self.leaf())
    }

    /// The leaf's time limits.
    pub fn validity(&self) -> Result<Validity, IdentityError> {
        validity_of(self.leaf())
    }

    /// The private key, for signatures outside TLS (for instance the proof of an enrolled key).
    pub fn key(&self) -> &PrivateKeyDer<'static> {
        &self.key
    }
}

impl Clone for Credentials {
    fn clone(&self) -> Self {
        Self {
            chain: self.chain.clone(),
            key: self.key.clone_key(),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("identity", &self.identity().ok())
            .finish_non_exhaustive()
    }
}

/// The site's root certificate: what every peer's certificate must lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteCa {
    certificate: CertificateDer<'static>,
}

impl SiteCa {
    /// Reads it from a PEM file that holds exactly this one certificate.
    pub fn load(path: &Path) -> Result<Self, Error> {
        Self::parse(&read(path)?, &path.display().to_string())
    }

    /// Reads it from PEM text.
    pub fn from_pem(text: &str) -> Result<Self, Error> {
        Self::parse(text.as_bytes(), "the site's certificate authority")
    }

    /// Takes a certificate as it is, for instance one that came with a handshake on the joining port.
    pub fn from_der(certificate: CertificateDer<'static>) -> Result<Self, Error> {
        if !is_root(&certificate) {
            return Err(Error::NotARoot {
                what: "the certificate".to_owned(),
            });
        }
        Ok(Self { certificate })
    }

    fn parse(bytes: &[u8], what: &str) -> Result<Self, Error> {
        let mut found = certificates(bytes, what)?;
        match (found.pop(), found.len()) {
            (Some(certificate), 0) if is_root(&certificate) => Ok(Self { certificate }),
            (Some(_), 0) => Err(Error::NotARoot {
                what: what.to_owned(),
            }),
            (last, others) => {
                let count = others + usize::from(last.is_some());
                Err(Error::Count {
                    what: what.to_owned(),
                    count,
                    expected: "exactly one",
                })
            }
        }
    }

    /// SHA-256 of the certificate: what a joining code carries.
    pub fn fingerprint(&self) -> Digest {
        Digest::of(&self.certificate)
    }

    /// The certificate in DER.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    durable::read_limited(path, FILE_LIMIT).map_err(|source| Error::File {
        path: path.to_owned(),
        source,
    })
}

fn certificates(bytes: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    CertificateDer::pem_slice_iter(bytes)
        .take(CHAIN_LIMIT + 1)
        .collect::<Result<_, _>>()
        .map_err(|source| Error::Pem {
            what: what.to_owned(),
            source,
        })
}
