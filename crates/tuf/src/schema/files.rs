//! How a parent describes a file: length and hashes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256, Sha512};

use super::{object, positive, present};
use crate::{Digest, Error};

/// One metadata file as its parent describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetaFile {
    /// Exactly this version.
    #[serde(deserialize_with = "positive")]
    pub version: u64,
    /// Exactly this many bytes, when given.
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    pub length: Option<u64>,
    /// Exactly these hashes, when given.
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    pub hashes: Option<Hashes>,
}

impl MetaFile {
    /// A version, with nothing said about the bytes.
    #[must_use]
    pub const fn of_version(version: u64) -> Self {
        Self {
            version,
            length: None,
            hashes: None,
        }
    }

    /// A description of `bytes` by length and SHA-256.
    #[must_use]
    pub fn of_bytes(version: u64, bytes: &[u8]) -> Self {
        Self {
            version,
            length: Some(bytes.len() as u64),
            hashes: Some(Hashes::sha256(Digest::of(bytes))),
        }
    }

    /// Whether `bytes` are what this entry describes; what it does not state is not checked.
    pub(crate) fn check(&self, bytes: &[u8], file: &str) -> Result<(), Error> {
        if let Some(expected) = self.length.filter(|&length| length != bytes.len() as u64) {
            return Err(Error::LengthMismatch {
                file: file.to_owned(),
                expected,
                found: bytes.len() as u64,
            });
        }
        self.hashes
            .as_ref()
            .map_or(Ok(()), |hashes| hashes.check(bytes, file))
    }
}

/// One target as its role describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetFile {
    /// Exactly this many bytes.
    pub length: u64,
    /// By algorithm; every known one must match and at least one must be known.
    pub hashes: Hashes,
    /// What the author says about it: an object (specification, section 4.5), opaque here.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "object")]
    pub custom: Option<Value>,
}

impl TargetFile {
    /// Its SHA-256, when the role gives one.
    #[must_use]
    pub fn sha256(&self) -> Option<Digest> {
        self.hashes.get_sha256()
    }

    /// Whether `bytes` are this target. Large files are hashed while they stream instead, see
    /// [`sha256`](Self::sha256).
    ///
    /// # Errors
    /// [`Error::LengthMismatch`], [`Error::HashMismatch`], [`Error::NoKnownHash`].
    pub fn check(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let found = bytes.len() as u64;
        if found != self.length {
            return Err(Error::LengthMismatch {
                file: name.to_owned(),
                expected: self.length,
                found,
            });
        }
        self.hashes.check(bytes, name)
    }
}

/// Hashes by the name of their algorithm; unknown algorithms are kept and cannot vouch for anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hashes(pub BTreeMap<String, String>);

impl Hashes {
    /// One SHA-256.
    #[must_use]
    pub fn sha256(digest: Digest) -> Self {
        Self(BTreeMap::from([("sha256".to_owned(), digest.to_string())]))
    }

    /// With a SHA-512 (64 bytes) beside it.
    #[must_use]
    pub fn with_sha512(mut self, sha512: &[u8; 64]) -> Self {
        self.0.insert("sha512".to_owned(), hex::encode(sha512));
        self
    }

    fn get_sha256(&self) -> Option<Digest> {
        self.0.get("sha256").and_then(|text| text.parse().ok())
    }

    /// The hash that a target's file name carries: SHA-256 where there is one, else SHA-512.
    #[must_use]
    pub fn preferred(&self) -> Option<&str> {
        self.0
            .get("sha256")
            .or_else(|| self.0.get("sha512"))
            .map(String::as_str)
    }

    fn check(&self, bytes: &[u8], file: &str) -> Result<(), Error> {
        let mut known = false;
        for (algorithm, expected) in &self.0 {
            let (algorithm, found) = match algorithm.as_str() {
                "sha256" => ("sha256", hex::encode(Sha256::digest(bytes))),
                "sha512" => ("sha512", hex::encode(Sha512::digest(bytes))),
                _ => continue,
            };
            if found != *expected {
                return Err(Error::HashMismatch {
                    file: file.to_owned(),
                    algorithm,
                });
            }
            known = true;
        }
        if known {
            Ok(())
        } else {
            Err(Error::NoKnownHash {
                file: file.to_owned(),
            })
        }
    }

    /// A hash of a known algorithm with the wrong number of digits can never match: refused when read.
    pub(super) fn check_form(&self, file: &str) -> Result<(), Error> {
        let digits = |text: &str, count| {
            text.len() == count && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        let good = self.0.iter().all(|(algorithm, text)| match algorithm.as_str() {
            "sha256" => digits(text, 64),
            "sha512" => digits(text, 128),
            _ => true,
        });
        if good {
            Ok(())
        } else {
            Err(Error::malformed(
                file,
                "a hash is not lower-case hexadecimal of its length",
            ))
        }
    }
}
