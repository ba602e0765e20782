//! Private keys: P-256 in PKCS#8, encrypted where a person keeps them.

use pkcs8::der::pem::{LineEnding, PemLabel};
use pkcs8::der::{Decode, SecretDocument};
use pkcs8::pkcs5::pbes2::{self, Kdf};
use pkcs8::pkcs5::{EncryptionScheme, scrypt};
use pkcs8::{EncryptedPrivateKeyInfoOwned, EncryptedPrivateKeyInfoRef, PrivateKeyInfoRef};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use thiserror::Error as ThisError;
use zeroize::Zeroizing;

use crate::error::Error;
use crate::limits::{KEY_LIMIT, PBKDF2_LIMIT, SCRYPT_MEMORY_LIMIT, SCRYPT_PASSES_LIMIT};

/// scrypt N = 2^14, r = 8, p = 5: the cheapest setting of OWASP's password storage sheet whose memory
/// (16 MiB) still fits the limit of OpenSSL, so that `openssl pkcs8` reads our files.
const LOG_N: u8 = 14;
const BLOCK: u32 = 8;
const PARALLEL: u32 = 5;
/// Why a private key cannot be read or kept.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum KeyError {
    /// Not PEM of PKCS#8.
    #[error("this is not a private key in PKCS#8 (PEM)")]
    Malformed,
    /// Larger than any real key.
    #[error("the private key has {found} bytes: {KEY_LIMIT} at most")]
    TooLarge {
        /// Its length.
        found: usize,
    },
    /// A plain key where an encrypted one should be.
    #[error("the private key is not encrypted")]
    NotEncrypted,
    /// An encrypted key where a plain one should be.
    #[error("the private key is encrypted: its passphrase is needed")]
    Encrypted,
    /// Wrong passphrase (or a damaged file: the format cannot tell them apart).
    #[error("the passphrase is wrong")]
    WrongPassphrase,
    /// No passphrase is no protection.
    #[error("the passphrase is empty")]
    EmptyPassphrase,
    /// An algorithm we do not have, or parameters that would only exhaust this machine.
    #[error(
        "the private key is encrypted in a way that is not accepted ({0}): use PBES2 with scrypt or PBKDF2 and AES"
    )]
    Scheme(&'static str),
    /// Encryption itself failed.
    #[error("the private key cannot be encrypted")]
    Encrypt(#[source] pkcs8::Error),
    /// Not a P-256 key.
    #[error("the private key is not P-256")]
    NotP256,
    /// The key library refuses.
    #[error("the private key cannot be made or read")]
    Library(#[source] rcgen::Error),
    /// The machine's randomness is not available.
    #[error("the system gives no random numbers")]
    Random(#[source] getrandom::Error),
}

/// Makes a P-256 key; PKCS#8 PEM, not encrypted.
pub fn new_key() -> Result<Zeroizing<String>, KeyError> {
    Ok(Zeroizing::new(generate()?.serialize_pem()))
}

/// Makes the certificate request (PKCS#10 PEM) by which a device shows its key. Nothing but the key counts:
/// the name in the certificate comes from the manager's list.
pub fn request(key_pem: &str) -> Result<String, Error> {
    let key = parse(key_pem)?;
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    Ok(params.serialize_request(&key)?.pem()?)
}

/// Encrypts a private key (PKCS#8 DER) under a passphrase: PEM `ENCRYPTED PRIVATE KEY`, PBES2 with scrypt and
/// AES-256-CBC.
pub fn encrypt_key(der: &[u8], passphrase: &str) -> Result<Zeroizing<String>, KeyError> {
    if passphrase.is_empty() {
        return Err(KeyError::EmptyPassphrase);
    }
    let key = PrivateKeyInfoRef::from_der(der).map_err(|_| KeyError::Malformed)?;
    let mut salt = [0; 16];
    let mut iv = [0; 16];
    getrandom::fill(&mut salt).map_err(KeyError::Random)?;
    getrandom::fill(&mut iv).map_err(KeyError::Random)?;
    let cost = scrypt::Params::new(LOG_N, BLOCK, PARALLEL).map_err(|_| KeyError::Scheme("scrypt"))?;
    let parameters = pbes2::Parameters::generate_scrypt_aes256cbc(cost, &salt, iv)
        .map_err(|_| KeyError::Scheme("scrypt"))?;
    let document = key
        .encrypt_with_params(parameters, passphrase)
        .map_err(KeyError::Encrypt)?;
    document
        .to_pem(EncryptedPrivateKeyInfoOwned::PEM_LABEL, LineEnding::LF)
        .map_err(|error| KeyError::Encrypt(error.into()))
}

/// Decrypts what [`encrypt_key`] (or OpenSSL) wrote; PKCS#8 DER.
pub fn decrypt_key(pem: &str, passphrase: &str) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let document = document(pem)?;
    if document.0 != EncryptedPrivateKeyInfoOwned::PEM_LABEL {
        return Err(KeyError::NotEncrypted);
    }
    let encrypted =
        EncryptedPrivateKeyInfoRef::from_der(document.1.as_bytes()).map_err(|_| KeyError::Malformed)?;
    bounded(&encrypted.encryption_algorithm)?;
    let plain = encrypted
        .decrypt(passphrase)
        .map_err(|_| KeyError::WrongPassphrase)?;
    // A wrong passphrase passes the padding check once in 256 times; then what comes out is no key.
    PrivateKeyInfoRef::from_der(plain.as_bytes()).map_err(|_| KeyError::WrongPassphrase)?;
    Ok(Zeroizing::new(plain.as_bytes().to_vec()))
}

/// Whether the PEM text holds an encrypted private key.
pub fn is_encrypted(pem: &str) -> bool {
    pem.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----")
}

/// Parameters stand in the file: a hostile one could ask for all memory or for a year.
fn bounded(scheme: &EncryptionScheme) -> Result<(), KeyError> {
    let EncryptionScheme::Pbes2(parameters) = scheme else {
        return Err(KeyError::Scheme("PBES1"));
    };
    match &parameters.kdf {
        Kdf::Pbkdf2(kdf) if kdf.iteration_count <= PBKDF2_LIMIT => Ok(()),
        Kdf::Pbkdf2(_) => Err(KeyError::Scheme("too many PBKDF2 rounds")),
        Kdf::Scrypt(kdf) => {
            let memory = 128 * u128::from(kdf.cost_parameter) * u128::from(kdf.block_size);
            let small = memory <= u128::from(SCRYPT_MEMORY_LIMIT)
                && u64::from(kdf.parallelization) <= SCRYPT_PASSES_LIMIT;
            if small {
                Ok(())
            } else {
                Err(KeyError::Scheme("too much scrypt"))
            }
        }
        _ => Err(KeyError::Scheme("key derivation")),
    }
}

fn document(pem: &str) -> Result<(&str, SecretDocument), KeyError> {
    if pem.len() > KEY_LIMIT {
        return Err(KeyError::TooLarge { found: pem.len() });
    }
    SecretDocument::from_pem(pem).map_err(|_| KeyError::Malformed)
}

pub(crate) fn generate() -> Result<KeyPair, KeyError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(KeyError::Library)
}

/// Reads a plain P-256 key.
pub(crate) fn parse(pem: &str) -> Result<KeyPair, KeyError> {
    if is_encrypted(pem) {
        return Err(KeyError::Encrypted);
    }
    let (_, document) = document(pem)?;
    from_der(document.as_bytes())
}

pub(crate) fn from_der(der: &[u8]) -> Result<KeyPair, KeyError> {
    let key = rustls_pki_types::PrivatePkcs8KeyDer::from(der);
    KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ECDSA_P256_SHA256).map_err(|_| KeyError::NotP256)
}
