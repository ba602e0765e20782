//! What a certificate says, for people.

use std::fmt;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tuf::{Digest, UnixTime};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::error::Error;
use crate::limits::CERTIFICATES;

/// The facts about one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its subject.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// Who it speaks for, and under which hosts.
    pub names: Vec<String>,
    /// Whether it may sign others.
    pub is_authority: bool,
    /// First second of its life.
    pub not_before: UnixTime,
    /// Last second of its life.
    pub not_after: UnixTime,
    /// Hexadecimal.
    pub serial: String,
    /// SHA-256 of the certificate in DER.
    pub fingerprint: Digest,
    /// SHA-256 of its public key.
    pub key: Digest,
}

/// Reads all certificates in a PEM text.
pub fn show(pem: &str) -> Result<Vec<Facts>, Error> {
    let what = "this";
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes())
        .take(CERTIFICATES)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| Error::Pem { what, source })?;
    if certificates.is_empty() {
        return Err(Error::Unexpected {
            expected: "a certificate in PEM",
        });
    }
    certificates.iter().map(facts).collect()
}

fn facts(der: &CertificateDer<'_>) -> Result<Facts, Error> {
    let unexpected = || Error::Unexpected {
        expected: "an X.509 certificate",
    };
    let (_, parsed) = X509Certificate::from_der(der).map_err(|_| unexpected())?;
    let names = parsed.subject_alternative_name().map_err(|_| unexpected())?;
    let names = names
        .iter()
        .flat_map(|names| &names.value.general_names)
        .map(name)
        .collect();
    Ok(Facts {
        subject: parsed.subject().to_string(),
        issuer: parsed.issuer().to_string(),
        names,
        is_authority: parsed.is_ca(),
        not_before: UnixTime(parsed.validity().not_before.timestamp()),
        not_after: UnixTime(parsed.validity().not_after.timestamp()),
        serial: parsed.raw_serial_as_string(),
        fingerprint: Digest::of(der),
        key: Digest::of(parsed.public_key().raw),
    })
}

fn name(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::URI(uri) => (*uri).to_owned(),
        GeneralName::DNSName(host) => format!("DNS {host}"),
        GeneralName::IPAddress(bytes) => match (<[u8; 4]>::try_from(*bytes), <[u8; 16]>::try_from(*bytes)) {
            (Ok(four), _) => format!("IP {}", std::net::IpAddr::from(four)),
            (_, Ok(sixteen)) => format!("IP {}", std::net::IpAddr::from(sixteen)),
            _ => "IP (unreadable)".to_owned(),
        },
        other => format!("{other:?}"),
    }
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "subject      {}", self.subject)?;
        writeln!(f, "issuer       {}", self.issuer)?;
        for name in &self.names {
            writeln!(f, "name         {name}")?;
        }
        writeln!(f, "authority    {}", if self.is_authority { "yes" } else { "no" })?;
        writeln!(f, "valid        {} to {}", self.not_before, self.not_after)?;
        writeln!(f, "serial       {}", self.serial)?;
        writeln!(f, "fingerprint  {}", self.fingerprint)?;
        write!(f, "key          {}", self.key)
    }
}
