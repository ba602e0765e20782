//! The site's root: kept by the author, used rarely.

use protocol::{Identity, Name, Role};
use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tuf::{Digest, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use crate::device::DeviceAuthority;
use crate::error::Error;
use crate::params::{self, Host};
use crate::{Issued, key};

/// The root certificate of a site and its key.
pub struct SiteAuthority {
    site: Name,
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl SiteAuthority {
    /// Makes the root of a new site.
    pub fn create(site: &Name, now: UnixTime) -> Result<Self, Error> {
        let key = key::generate()?;
        let params = params::root(site, now)?;
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self {
            site: site.clone(),
            certificate,
            issuer: Issuer::new(params, key),
        })
    }

    /// Takes up a root that exists; the key in PKCS#8 PEM, not encrypted.
    pub fn load(certificate_pem: &str, key_pem: &str) -> Result<Self, Error> {
        Self::with_key(certificate_pem, key::parse(key_pem)?)
    }

    /// Takes up a root whose key is encrypted.
    pub fn load_encrypted(certificate_pem: &str, key_pem: &str, passphrase: &str) -> Result<Self, Error> {
        let der = key::decrypt_key(key_pem, passphrase)?;
        Self::with_key(certificate_pem, key::from_der(&der)?)
    }

    /// Takes up a root whose key was decrypted elsewhere (PKCS#8 DER).
    pub fn load_der(certificate_pem: &str, key_der: &[u8]) -> Result<Self, Error> {
        Self::with_key(certificate_pem, key::from_der(key_der)?)
    }

    fn with_key(certificate_pem: &str, key: KeyPair) -> Result<Self, Error> {
        let (site, issuer) = authority(certificate_pem, key, "a site's root certificate", true)?;
        Ok(Self {
            site,
            certificate: certificate_pem.to_owned(),
            issuer,
        })
    }

    /// The site.
    pub fn site(&self) -> &Name {
        &self.site
    }

    /// The root certificate: what every program of the site pins.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate
    }

    /// SHA-256 of the root certificate in DER: what a joining code carries.
    pub fn fingerprint(&self) -> Result<Digest, Error> {
        Ok(Digest::of(&der(&self.certificate)?))
    }

    /// The root key, PKCS#8 DER.
    pub fn key_der(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.issuer.key().serialize_der())
    }

    /// The root key, encrypted under a passphrase.
    pub fn encrypted_key(&self, passphrase: &str) -> Result<Zeroizing<String>, Error> {
        Ok(key::encrypt_key(&self.key_der(), passphrase)?)
    }

    /// Issues a certificate with a new key to an author, a repository or a manager, for `seconds` from `now`
    /// ([`life::LEAF`](crate::life::LEAF) is the usual). `hosts` serve clients that check host names.
    pub fn issue(
        &self,
        role: Role,
        name: &Name,
        hosts: &[Host],
        seconds: i64,
        now: UnixTime,
    ) -> Result<Issued, Error> {
        if role == Role::Device {
            return Err(Error::NotFromRoot { role });
        }
        let identity = Identity {
            site: self.site.clone(),
            role,
            name: name.clone(),
        };
        self.sign(&params::leaf(&identity, hosts, now, seconds)?)
    }

    /// Makes the manager's intermediate, which vouches for devices only.
    pub fn device_authority(&self, now: UnixTime) -> Result<DeviceAuthority, Error> {
        let params = params::device_authority(&self.site, now)?;
        let key = key::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(DeviceAuthority::assemble(
            self.site.clone(),
            certificate,
            Issuer::new(params, key),
        ))
    }

    /// Signs whatever the parameters say, for a new key.
    pub(crate) fn sign(&self, params: &CertificateParams) -> Result<Issued, Error> {
        let key = key::generate()?;
        let chain = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Issued {
            chain,
            key: Zeroizing::new(key.serialize_pem()),
        })
    }
}

/// Reads an authority's certificate and checks that it is one and that the key is its key.
pub(crate) fn authority(
    certificate_pem: &str,
    key: KeyPair,
    expected: &'static str,
    is_root: bool,
) -> Result<(Name, Issuer<'static, KeyPair>), Error> {
    let der = der(certificate_pem)?;
    let unexpected = || Error::Unexpected { expected };
    let (_, parsed) = X509Certificate::from_der(&der).map_err(|_| unexpected())?;
    let self_issued = parsed.subject().as_raw() == parsed.issuer().as_raw();
    if !parsed.is_ca() || self_issued != is_root {
        return Err(unexpected());
    }
    if parsed.public_key().raw != rcgen::PublicKeyData::subject_public_key_info(&key) {
        return Err(Error::KeyMismatch);
    }
    let site = parsed
        .subject()
        .iter_organization()
        .next()
        .and_then(|name| name.as_str().ok())
        .and_then(|name| name.parse().ok())
        .ok_or_else(unexpected)?;
    Ok((site, Issuer::from_ca_cert_der(&der, key)?))
}

pub(crate) fn der(certificate_pem: &str) -> Result<CertificateDer<'static>, Error> {
    CertificateDer::from_pem_slice(certificate_pem.as_bytes()).map_err(|source| Error::Pem {
        what: "the authority's certificate",
        source,
    })
}
