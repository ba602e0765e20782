//! Certificates and keys on disk, under the names that every program of a site uses.

use std::path::Path;

use durable::Error;

use crate::Issued;

/// The site's root certificate.
pub const CA: &str = "ca.pem";
/// Its key, encrypted; in the author's folder only.
pub const CA_KEY: &str = "ca-key.pem";
/// A program's certificate chain.
pub const TLS: &str = "tls.pem";
/// Its key.
pub const TLS_KEY: &str = "tls-key.pem";
/// The manager's device authority.
pub const DEVICE_CA: &str = "device-ca.pem";
/// Its key.
pub const DEVICE_CA_KEY: &str = "device-ca-key.pem";

/// Writes a private key: mode 0600, durable when it returns.
pub fn write_key(path: &Path, pem: &str) -> Result<(), Error> {
    durable::replace(path, pem.as_bytes(), 0o600)
}

/// Writes a certificate or a chain: mode 0644, durable when it returns.
pub fn write_certificate(path: &Path, pem: &str) -> Result<(), Error> {
    durable::replace(path, pem.as_bytes(), 0o644)
}

/// Writes both, the key first: a certificate without its key is of no use, a key alone is ignored.
pub fn write_issued(certificate: &Path, key: &Path, issued: &Issued) -> Result<(), Error> {
    write_key(key, &issued.key)?;
    write_certificate(certificate, &issued.chain)
}
