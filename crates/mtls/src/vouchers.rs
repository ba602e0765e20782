//! Whose key a chain vouches for, apart from any connection: for what was signed by one and passed on by another.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use protocol::{Identity, Name};
use rustls_pki_types::CertificateDer;
use tuf::Digest;

use crate::clock::pki_time;
use crate::credentials::{CHAIN_LIMIT, Error, SiteCa};
use crate::identity::{identity_of, key_fingerprint, public_key_of};
use crate::refusal::Refusal;
use crate::verify::{Paths, Side, beginning};

/// Longest certificate that is read, in base64: one of P-256 is under 1 KiB.
const CERTIFICATE_CHARS: usize = 8 * 1024;
/// Chains whose verdict is remembered: more than one gateway has devices.
const REMEMBERED: usize = 32_768;

/// A key, and the certificate's word that it is of the one who was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vouched {
    /// Uncompressed P-256 point.
    pub public_key: Vec<u8>,
    /// SHA-256 of its `SubjectPublicKeyInfo` (DER).
    pub fingerprint: Digest,
}

/// A chain as text: the DER of each certificate in base64, the leaf first (`x5c` of RFC 7515, section 4.1.6).
#[must_use]
pub fn chain_text<'a>(chain: impl IntoIterator<Item = &'a CertificateDer<'a>>) -> Vec<String> {
    chain
        .into_iter()
        .map(|certificate| STANDARD.encode(certificate))
        .collect()
}

/// Judges the chains that come with signed things, of one site.
pub struct Vouchers {
    paths: Paths,
    site: Name,
    known: Mutex<HashMap<Digest, (Identity, Vouched)>>,
}

impl Vouchers {
    /// Those that lead to `ca`.
    ///
    /// # Errors
    /// The certificate authority cannot be used.
    pub fn new(ca: &SiteCa, site: &Name) -> Result<Self, Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        Ok(Self {
            paths: Paths::new(ca.certificate(), &provider)?,
            site: site.clone(),
            known: Mutex::default(),
        })
    }

    /// The key of `identity`, as `chain` (see [`chain_text`]) has it. The chain must have been right when its youngest
    /// certificate was made: what was signed under it then is read later.
    ///
    /// # Errors
    /// The chain is not readable, does not lead to the site's root as the role's row of the table wants it, or is
    /// another's.
    pub fn key_of(&self, chain: &[String], identity: &Identity) -> Result<Vouched, Refusal> {
        if chain.len() > CHAIN_LIMIT || chain.iter().any(|text| text.len() > CERTIFICATE_CHARS) {
            return Err(Refusal::Unreadable);
        }
        let digest = Digest::of(chain.join(" ").as_bytes());
        let known = self.known().get(&digest).cloned();
        let (holder, vouched) = match known {
            Some(found) => found,
            None => {
                // Not under the lock: a judgement is work of a millisecond, and the known ones need not wait for it.
                let found = self.judge(chain)?;
                let mut known = self.known();
                if known.len() >= REMEMBERED {
                    known.clear();
                }
                known.insert(digest, found.clone());
                found
            }
        };
        if holder != *identity {
            return Err(Refusal::Another {
                identity: Box::new(holder),
            });
        }
        Ok(vouched)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Digest, (Identity, Vouched)>> {
        // Every change is a single step: a panic elsewhere leaves the map whole.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn judge(&self, chain: &[String]) -> Result<(Identity, Vouched), Refusal> {
        let certificates: Vec<CertificateDer<'static>> = chain
            .iter()
            .map(|text| STANDARD.decode(text).map(CertificateDer::from))
            .collect::<Result<_, _>>()
            .map_err(|_| Refusal::Unreadable)?;
        let (leaf, between) = certificates.split_first().ok_or(Refusal::Unreadable)?;
        let identity = identity_of(leaf)?;
        if identity.site != self.site {
            return Err(Refusal::WrongSite {
                found: identity.site.clone(),
                expected: self.site.clone(),
                identity: Box::new(identity),
            });
        }
        let now = pki_time(beginning(leaf, between));
        self.paths.check(Side::Client, &identity, leaf, between, now)?;
        let vouched = Vouched {
            public_key: public_key_of(leaf)?,
            fingerprint: key_fingerprint(leaf)?,
        };
        Ok((identity, vouched))
    }
}

impl fmt::Debug for Vouchers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vouchers")
            .field("site", &self.site)
            .finish_non_exhaustive()
    }
}
