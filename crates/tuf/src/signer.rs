//! The one small trait behind which private keys live, and the online keys' implementation.

use std::fmt;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use zeroize::Zeroizing;

use crate::PublicKey;

/// Something that can sign: a key in memory, an encrypted file, later a hardware module.
pub trait Signer: Send + Sync {
    /// The public half, as it will stand in the metadata.
    fn public_key(&self) -> PublicKey;

    /// A signature over `message` in the form the metadata carries (ECDSA: DER).
    ///
    /// # Errors
    /// [`SignError`] when the key cannot be used; the text must not carry key material.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError>;
}

/// Signing or making a key failed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The private key cannot be read.
    #[error("the private key is not a {0} key in PKCS#8")]
    BadKey(&'static str),
    /// The system gave no randomness or the library refused.
    #[error("the cryptographic library could not {0}")]
    Library(&'static str),
    /// The fresh signature does not verify: a broken key or a fault in the processor.
    #[error("the signature just made does not verify with the public key {0}")]
    Unverifiable(crate::KeyId),
    /// What is to be signed has no canonical form.
    #[error("what is to be signed has no canonical form")]
    NotCanonical(#[source] crate::Error),
    /// Another implementation's reason.
    #[error("{0}")]
    Other(String),
}

/// An Ed25519 key in memory (aws-lc-rs); what repo-server signs snapshot and timestamp with.
pub struct Ed25519Signer {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl Ed25519Signer {
    /// A new key from the system's randomness, with its PKCS#8 form (DER) to be stored.
    ///
    /// # Errors
    /// [`SignError::Library`] when the system gives no randomness.
    pub fn generate() -> Result<(Self, Zeroizing<Vec<u8>>), SignError> {
        let pair = Ed25519KeyPair::generate().map_err(|_| SignError::Library("make an ed25519 key"))?;
        // Version 1 of PKCS#8 (no public half inside): OpenSSL's command line reads only this one.
        let document = pair
            .to_pkcs8v1()
            .map_err(|_| SignError::Library("encode an ed25519 key"))?;
        let pkcs8 = Zeroizing::new(document.as_ref().to_vec());
        Ok((Self::from_pair(pair)?, pkcs8))
    }

    /// The key in a PKCS#8 document (DER), version 1 or 2.
    ///
    /// # Errors
    /// [`SignError::BadKey`] when it is no Ed25519 key.
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, SignError> {
        let pair =
            Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).map_err(|_| SignError::BadKey("ed25519"))?;
        Self::from_pair(pair)
    }

    fn from_pair(pair: Ed25519KeyPair) -> Result<Self, SignError> {
        let bytes: [u8; 32] = pair
            .public_key()
            .as_ref()
            .try_into()
            .map_err(|_| SignError::BadKey("ed25519"))?;
        let public = PublicKey::from_ed25519(&bytes).map_err(|_| SignError::BadKey("ed25519"))?;
        Ok(Self { pair, public })
    }
}

impl Signer for Ed25519Signer {
    fn public_key(&self) -> PublicKey {
        self.public.clone()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        Ok(self.pair.sign(message).as_ref().to_vec())
    }
}

impl fmt::Debug for Ed25519Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ed25519Signer({})", self.public.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_key_signs_like_the_one_it_was_made_from() {
        let (made, pkcs8) = Ed25519Signer::generate().unwrap();
        let read = Ed25519Signer::from_pkcs8(&pkcs8).unwrap();
        assert_eq!(made.public_key(), read.public_key());
        let signature = read.sign(b"message").unwrap();
        assert!(made.public_key().verify(b"message", &signature));
        assert!(!made.public_key().verify(b"massage", &signature));
        assert!(Ed25519Signer::from_pkcs8(&pkcs8[1..]).is_err());
        assert!(!format!("{made:?}").contains(&hex::encode(&pkcs8[16..48])));
    }
}
