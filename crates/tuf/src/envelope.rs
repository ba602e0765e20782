//! A metadata file as it arrives: the signed value, its canonical bytes and the signatures over them.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use crate::schema::{Metadata, RoleKeys};
use crate::{Error, KeyId, Limits, PublicKey, canonical, json};

/// Keys by keyid, as root and delegating roles list them.
pub(crate) type Keys = BTreeMap<KeyId, PublicKey>;

/// A parsed file, nothing about it verified yet.
#[derive(Debug, Clone)]
pub(crate) struct Envelope {
    pub(crate) file: String,
    pub(crate) signed: Value,
    pub(crate) signatures: Vec<Signature>,
    message: Vec<u8>,
}

/// One entry of `signatures`. The keyid may be anything; those of the role are looked up by their text.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, serde::Serialize)]
pub(crate) struct Signature {
    pub(crate) keyid: String,
    pub(crate) sig: String,
}

impl Envelope {
    /// Reads a file: strict JSON, no keyid twice, the right `_type`, specification 1.x.
    ///
    /// Unknown fields beside `signed` and `signatures` are let through: they are not signed and mean nothing.
    pub(crate) fn parse(
        bytes: &[u8],
        file: &str,
        expected: &'static str,
        limits: &Limits,
    ) -> Result<Self, Error> {
        let value = json::parse(bytes, limits.json_depth).map_err(|reason| Error::malformed(file, reason))?;
        let Value::Object(mut object) = value else {
            return Err(Error::malformed(file, "not a JSON object"));
        };
        let signed = object
            .remove("signed")
            .ok_or_else(|| Error::malformed(file, "no field `signed`"))?;
        let list = object
            .remove("signatures")
            .ok_or_else(|| Error::malformed(file, "no field `signatures`"))?;
        let signatures =
            Vec::<Signature>::deserialize(&list).map_err(|e| Error::malformed(file, e.to_string()))?;
        if signatures.len() > limits.signatures as usize {
            return Err(Error::TooMany {
                file: file.to_owned(),
                what: "signatures",
                limit: limits.signatures,
            });
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = signatures.iter().find(|s| !seen.insert(s.keyid.as_str())) {
            return Err(Error::DuplicateSignature {
                file: file.to_owned(),
                keyid: twice.keyid.clone(),
            });
        }
        check_type(&signed, file, expected)?;
        check_specification(&signed, file)?;
        let message =
            canonical::to_bytes(&signed).map_err(|_| Error::malformed(file, "no canonical form"))?;
        Ok(Self {
            file: file.to_owned(),
            signed,
            signatures,
            message,
        })
    }

    /// The typed view of the signed value.
    pub(crate) fn read<T: Metadata>(&self, limits: &Limits) -> Result<T, Error> {
        T::read(&self.signed, &self.file, limits)
    }

    /// Whether enough distinct keys of the role signed (specification, section 5.3.4).
    ///
    /// Counted are keys, not keyids: the same key listed twice under different spellings is one.
    /// A signature that is wrong, empty or by a stranger is not counted and does no harm.
    pub(crate) fn verify(&self, role: &RoleKeys, keys: &Keys, delegator: &str) -> Result<(), Error> {
        let mut signed_by = BTreeSet::new();
        for signature in &self.signatures {
            let Some(key) = signature
                .keyid
                .parse::<KeyId>()
                .ok()
                .filter(|id| role.keyids.contains(id))
                .and_then(|id| keys.get(&id))
            else {
                continue;
            };
            if !signed_by.contains(key)
                && hex::decode(&signature.sig).is_ok_and(|sig| key.verify(&self.message, &sig))
            {
                signed_by.insert(key);
            }
        }
        let valid = u32::try_from(signed_by.len()).unwrap_or(u32::MAX);
        let needed = role.threshold.get();
        if valid < needed {
            return Err(Error::Threshold {
                file: self.file.clone(),
                delegator: delegator.to_owned(),
                valid,
                needed,
            });
        }
        Ok(())
    }
}

fn check_type(signed: &Value, file: &str, expected: &'static str) -> Result<(), Error> {
    let found = signed.get("_type").and_then(Value::as_str).unwrap_or_default();
    if found != expected {
        return Err(Error::WrongType {
            file: file.to_owned(),
            expected,
            found: found.to_owned(),
        });
    }
    Ok(())
}

/// `1.x` or `1.x.y` (specification, section 5.1 leaves the handling to us: another major version is refused).
fn check_specification(signed: &Value, file: &str) -> Result<(), Error> {
    let found = signed
        .get("spec_version")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let parts: Vec<_> = found.split('.').collect();
    let numeric = parts
        .iter()
        .all(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()));
    if !(parts[0] == "1" && (2..=3).contains(&parts.len()) && numeric) {
        return Err(Error::Specification {
            file: file.to_owned(),
            found: found.to_owned(),
        });
    }
    Ok(())
}

/// The version a metadata file claims, without any verification: for choosing a file name, nothing else.
#[must_use]
pub fn unverified_version(bytes: &[u8]) -> Option<u64> {
    let value = json::parse(bytes, Limits::default().json_depth).ok()?;
    value.get("signed")?.get("version")?.as_u64()
}
