//! The manager's intermediate: it lets devices in, and nobody else.

use protocol::{Identity, Name, Role};
use rcgen::{CertificateSigningRequestParams, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use tuf::UnixTime;
use zeroize::Zeroizing;

use crate::error::Error;
use crate::limits::REQUEST_LIMIT;
use crate::{key, params, site};

/// The manager's device authority.
pub struct DeviceAuthority {
    site: Name,
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl DeviceAuthority {
    /// Takes up an intermediate that exists; the key in PKCS#8 PEM, not encrypted (it issues unattended).
    pub fn load(certificate_pem: &str, key_pem: &str) -> Result<Self, Error> {
        let key = key::parse(key_pem)?;
        let (site, issuer) = site::authority(certificate_pem, key, "a site's device authority", false)?;
        Ok(Self {
            site,
            certificate: certificate_pem.to_owned(),
            issuer,
        })
    }

    pub(crate) fn assemble(site: Name, certificate: String, issuer: Issuer<'static, KeyPair>) -> Self {
        Self {
            site,
            certificate,
            issuer,
        }
    }

    /// The site.
    pub fn site(&self) -> &Name {
        &self.site
    }

    /// The intermediate certificate, PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate
    }

    /// Its key, PKCS#8 PEM: for a file of mode 0600.
    pub fn key_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.issuer.key().serialize_pem())
    }

    /// Issues a device certificate for `seconds` from `now`
    /// ([`life::DEVICE`](crate::life::DEVICE) is the usual): PEM, the leaf and this intermediate.
    ///
    /// From the request (PKCS#10, PEM or DER) comes the public key, and nothing else: its signature proves that
    /// the sender holds the key; `name` comes from the caller's own list.
    pub fn issue_device(
        &self,
        request: &[u8],
        name: &Name,
        seconds: i64,
        now: UnixTime,
    ) -> Result<String, Error> {
        let identity = Identity {
            site: self.site.clone(),
            role: Role::Device,
            name: name.clone(),
        };
        let params = params::leaf(&identity, &[], now, seconds)?;
        let leaf = params.signed_by(&public_key(request)?, &self.issuer)?;
        Ok(format!("{}{}", leaf.pem(), self.certificate))
    }

    /// Signs whatever the parameters say, for a new key.
    pub(crate) fn sign(&self, params: &rcgen::CertificateParams) -> Result<crate::Issued, Error> {
        let key = key::generate()?;
        let leaf = params.signed_by(&key, &self.issuer)?;
        let chain = format!("{}{}", leaf.pem(), self.certificate);
        Ok(crate::Issued {
            chain,
            key: Zeroizing::new(key.serialize_pem()),
        })
    }
}

impl std::fmt::Debug for DeviceAuthority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeviceAuthority")
            .field("site", &self.site)
            .finish_non_exhaustive()
    }
}

/// The public key of a request that is signed by it.
fn public_key(request: &[u8]) -> Result<rcgen::PublicKey, Error> {
    if request.len() > REQUEST_LIMIT {
        return Err(Error::RequestTooLarge {
            found: request.len(),
            limit: REQUEST_LIMIT,
        });
    }
    let der = if request.starts_with(b"-----") {
        CertificateSigningRequestDer::from_pem_slice(request)
            .map_err(|_| Error::Request(rcgen::Error::CouldNotParseCertificationRequest))?
    } else {
        CertificateSigningRequestDer::from(request.to_vec())
    };
    let parsed = CertificateSigningRequestParams::from_der(&der).map_err(Error::Request)?;
    if PublicKeyData::algorithm(&parsed.public_key) != &PKCS_ECDSA_P256_SHA256 {
        return Err(Error::RequestKey);
    }
    Ok(parsed.public_key)
}
