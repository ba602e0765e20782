//! Public keys as the metadata carries them, and the verification of one signature.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ED25519, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

use crate::{Digest, canonical, der};

/// The SHA-256 of a key's canonical form; computed by us, never believed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(pub Digest);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

impl FromStr for KeyId {
    type Err = crate::digest::DigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// How a key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// Ed25519 (RFC 8032).
    Ed25519,
    /// RSASSA-PSS with SHA-256 and a salt of 32 bytes, 2048 to 8192 bits.
    RsaPssSha256,
    /// ECDSA with SHA-256 on P-256, signatures in DER.
    EcdsaP256Sha256,
}

impl Scheme {
    /// The word of the metadata's field `scheme`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::RsaPssSha256 => "rsassa-pss-sha256",
            Self::EcdsaP256Sha256 => "ecdsa-sha2-nistp256",
        }
    }
}

/// What is wrong with a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The key object lacks a field or has it in the wrong type.
    #[error("the key has no text field `{0}`")]
    MissingField(&'static str),
    /// Neither ed25519, rsassa-pss-sha256 nor ecdsa-sha2-nistp256.
    #[error("key type {keytype:?} with scheme {scheme:?} is not supported")]
    Unsupported {
        /// The field `keytype`.
        keytype: String,
        /// The field `scheme`.
        scheme: String,
    },
    /// The public part cannot be read as a key of its scheme.
    #[error("the public part is not a key for {0}")]
    BadPublicPart(&'static str),
}

/// A public key: the object of the metadata with all its fields, and the key inside it.
///
/// Two keys are equal when they are the same key, whatever unknown fields or PEM spelling surround them:
/// thresholds are counted in keys.
#[derive(Clone)]
pub struct PublicKey {
    object: Value,
    id: KeyId,
    material: Material,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Material {
    Ed25519([u8; 32]),
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
    P256(Vec<u8>),
}

impl PublicKey {
    /// An Ed25519 key.
    ///
    /// # Errors
    /// [`KeyError::BadPublicPart`] when it is a point of small order, under which anybody can sign, or is not in
    /// its one form.
    pub fn from_ed25519(public: &[u8; 32]) -> Result<Self, KeyError> {
        Self::from_object(key_object("ed25519", Scheme::Ed25519, &hex::encode(public)))
    }

    /// An RSA key of 2048 to 8192 bits for RSASSA-PSS-SHA256, from a PEM `PUBLIC KEY` block.
    ///
    /// # Errors
    /// [`KeyError::BadPublicPart`] when it is no such key.
    pub fn from_rsa_spki_pem(pem: &str) -> Result<Self, KeyError> {
        Self::from_object(key_object("rsa", Scheme::RsaPssSha256, pem))
    }

    /// A P-256 key for ECDSA with SHA-256, from a PEM `PUBLIC KEY` block.
    ///
    /// # Errors
    /// [`KeyError::BadPublicPart`] when it is no such key.
    pub fn from_ecdsa_spki_pem(pem: &str) -> Result<Self, KeyError> {
        Self::from_object(key_object("ecdsa", Scheme::EcdsaP256Sha256, pem))
    }

    /// The key of a metadata object, unknown fields kept (they are part of the keyid).
    ///
    /// # Errors
    /// When the object is not a key of a supported scheme.
    pub fn from_object(object: Value) -> Result<Self, KeyError> {
        let text = |field| {
            object
                .get(field)
                .and_then(Value::as_str)
                .ok_or(KeyError::MissingField(field))
        };
        let (keytype, scheme) = (text("keytype")?, text("scheme")?);
        let public = object
            .get("keyval")
            .and_then(|keyval| keyval.get("public"))
            .and_then(Value::as_str)
            .ok_or(KeyError::MissingField("keyval.public"))?;
        let material = Material::read(keytype, scheme, public)?;
        let bytes = canonical::to_bytes(&object).map_err(|_| KeyError::BadPublicPart("canonical JSON"))?;
        Ok(Self {
            id: KeyId(Digest::of(&bytes)),
            material,
            object,
        })
    }

    /// The keyid, computed from the canonical form.
    #[must_use]
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// How this key signs.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        match self.material {
            Material::Ed25519(_) => Scheme::Ed25519,
            Material::Rsa { .. } => Scheme::RsaPssSha256,
            Material::P256(_) => Scheme::EcdsaP256Sha256,
        }
    }

    /// The object as it stands in the metadata.
    #[must_use]
    pub const fn object(&self) -> &Value {
        &self.object
    }

    /// Whether `signature` is this key's signature over `message`.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Ed25519(public) => UnparsedPublicKey::new(&ED25519, public)
                .verify(message, signature)
                .is_ok(),
            Material::Rsa { modulus, exponent } => PublicKeyComponents {
                n: modulus,
                e: exponent,
            }
            .verify(&RSA_PSS_2048_8192_SHA256, message, signature)
            .is_ok(),
            Material::P256(point) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point)
                .verify(message, signature)
                .is_ok(),
        }
    }
}

fn key_object(keytype: &str, scheme: Scheme, public: &str) -> Value {
    json!({"keytype": keytype, "scheme": scheme.name(), "keyval": {"public": public}})
}

impl Material {
    fn read(keytype: &str, scheme: &str, public: &str) -> Result<Self, KeyError> {
        match (keytype, scheme) {
            ("ed25519", "ed25519") => {
                let mut bytes = [0; 32];
                hex::decode_to_slice(public, &mut bytes).map_err(|_| KeyError::BadPublicPart("ed25519"))?;
                if !is_one_persons(&bytes) {
                    return Err(KeyError::BadPublicPart("ed25519"));
                }
                Ok(Self::Ed25519(bytes))
            }
            ("rsa", "rsassa-pss-sha256") => rsa(public).ok_or(KeyError::BadPublicPart("rsassa-pss-sha256")),
            // The second keytype is what older repositories write.
            ("ecdsa" | "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256") => pem(public, "PUBLIC KEY")
                .and_then(|der| der::p256_point(&der))
                .map(Self::P256)
                .ok_or(KeyError::BadPublicPart("ecdsa-sha2-nistp256")),
            _ => Err(KeyError::Unsupported {
                keytype: keytype.to_owned(),
                scheme: scheme.to_owned(),
            }),
        }
    }
}

/// Whether an Ed25519 key is none of those for which signatures can be made without a private key (the eight points
/// of small order), and is written in the one form that RFC 8032, section 5.1.3, allows: a second form of a key would
/// be a second key in a threshold.
fn is_one_persons(public: &[u8; 32]) -> bool {
    /// 2^255 - 19, big-endian.
    const FIELD: [u8; 32] = {
        let mut p = [0xff; 32];
        p[0] = 0x7f;
        p[31] = 0xed;
        p
    };
    /// The second coordinates of the points of order 1, 2 and 4, and the two of order 8, big-endian.
    const SMALL: [[u8; 32]; 5] = {
        let mut of_2 = FIELD;
        of_2[31] = 0xec;
        let mut of_1 = [0; 32];
        of_1[31] = 1;
        [of_1, of_2, [0; 32], ORDER_8, ORDER_8_NEGATIVE]
    };
    const ORDER_8: [u8; 32] = [
        0x05, 0xfc, 0x53, 0x6d, 0x88, 0x02, 0x38, 0xb1, 0x39, 0x33, 0xc6, 0xd3, 0x05, 0xac, 0xdf, 0xd5, 0xf0,
        0x98, 0xef, 0xf2, 0x89, 0xf4, 0xc3, 0x45, 0xb0, 0x27, 0xb2, 0xc2, 0x8f, 0x95, 0xe8, 0x26,
    ];
    const ORDER_8_NEGATIVE: [u8; 32] = [
        0x7a, 0x03, 0xac, 0x92, 0x77, 0xfd, 0xc7, 0x4e, 0xc6, 0xcc, 0x39, 0x2c, 0xfa, 0x53, 0x20, 0x2a, 0x0f,
        0x67, 0x10, 0x0d, 0x76, 0x0b, 0x3c, 0xba, 0x4f, 0xd8, 0x4d, 0x3d, 0x70, 0x6a, 0x17, 0xc7,
    ];
    let mut second = *public;
    second.reverse();
    // The topmost bit is the sign of the first coordinate.
    second[0] &= 0x7f;
    second < FIELD && !SMALL.contains(&second)
}

/// 2048 to 8192 bits: below is weak, above is a way to burn a device's processor.
fn rsa(public: &str) -> Option<Material> {
    let numbers = match pem(public, "PUBLIC KEY") {
        Some(der) => der::rsa_numbers(&der, true),
        None => der::rsa_numbers(&pem(public, "RSA PUBLIC KEY")?, false),
    }?;
    let bits = numbers.modulus.len() * 8 - usize::try_from(numbers.modulus.first()?.leading_zeros()).ok()?;
    (2048..=8192).contains(&bits).then_some(Material::Rsa {
        modulus: numbers.modulus,
        exponent: numbers.exponent,
    })
}

/// The bytes of the one PEM block with this label (RFC 7468, white space ignored).
fn pem(text: &str, label: &str) -> Option<Vec<u8>> {
    let body = text.trim().strip_prefix(&format!("-----BEGIN {label}-----"))?;
    let body = body.strip_suffix(&format!("-----END {label}-----"))?;
    let packed: String = body.split_ascii_whitespace().collect();
    STANDARD.decode(packed).ok()
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.material == other.material
    }
}

impl Eq for PublicKey {}

impl PartialOrd for PublicKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for PublicKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.material.cmp(&other.material)
    }
}

impl Hash for PublicKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.material.hash(state);
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({} {})", self.scheme().name(), self.id)
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.object.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_object(Value::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::encoding::AsDer as _;
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::{KeyPair as RsaPair, KeySize};
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256,
    };

    fn block(label: &str, der: &[u8]) -> String {
        format!(
            "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
            STANDARD.encode(der)
        )
    }

    fn rsa_signature(pair: &RsaPair, padding: &'static dyn aws_lc_rs::signature::RsaEncoding) -> Vec<u8> {
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(padding, &SystemRandom::new(), b"message", &mut signature)
            .unwrap();
        signature
    }

    #[test]
    fn an_rsa_key_verifies_pss_with_sha256_only() {
        let pair = RsaPair::generate(KeySize::Rsa3072).unwrap();
        let spki = block("PUBLIC KEY", pair.public_key().as_der().unwrap().as_ref());
        let key = PublicKey::from_rsa_spki_pem(&spki).unwrap();
        let signature = rsa_signature(&pair, &RSA_PSS_SHA256);
        assert_eq!(key.scheme(), Scheme::RsaPssSha256);
        assert!(key.verify(b"message", &signature));
        assert!(!key.verify(b"massage", &signature));
        assert!(!key.verify(b"message", &rsa_signature(&pair, &RSA_PKCS1_SHA256)));
        assert!(!key.verify(b"message", b""));
    }

    #[test]
    fn one_rsa_key_in_two_wrappings_is_one_key_with_two_keyids() {
        let pair = RsaPair::generate(KeySize::Rsa2048).unwrap();
        let public = pair.public_key();
        let wrapped =
            PublicKey::from_rsa_spki_pem(&block("PUBLIC KEY", public.as_der().unwrap().as_ref())).unwrap();
        let bare = PublicKey::from_rsa_spki_pem(&block("RSA PUBLIC KEY", public.as_ref())).unwrap();
        assert_eq!(wrapped, bare);
        assert_ne!(wrapped.id(), bare.id());
        assert!(bare.verify(b"message", &rsa_signature(&pair, &RSA_PSS_SHA256)));
    }

    #[test]
    fn an_ecdsa_key_is_read_under_its_old_and_its_new_type() {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let pem = block("PUBLIC KEY", pair.public_key().as_der().unwrap().as_ref());
        let key = PublicKey::from_ecdsa_spki_pem(&pem).unwrap();
        let signature = pair.sign(&SystemRandom::new(), b"message").unwrap();
        assert!(key.verify(b"message", signature.as_ref()));
        assert!(!key.verify(b"massage", signature.as_ref()));
        let mut object = key.object().clone();
        object["keytype"] = json!("ecdsa-sha2-nistp256");
        let old = PublicKey::from_object(object).unwrap();
        assert_eq!(old, key);
        assert_ne!(old.id(), key.id());
    }

    #[test]
    fn a_key_says_what_it_is_or_is_refused() {
        let hex = "00".repeat(32);
        let object = |keytype: &str, scheme: &str, public: &str| json!({"keytype": keytype, "scheme": scheme, "keyval": {"public": public}});
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let p256 = block("PUBLIC KEY", pair.public_key().as_der().unwrap().as_ref());
        for (flaw, bad) in [
            (
                "an ed25519 key that is too short",
                object("ed25519", "ed25519", &hex[2..]),
            ),
            (
                "a scheme of another type",
                object("ed25519", "rsassa-pss-sha256", &hex),
            ),
            (
                "an elliptic key called RSA",
                object("rsa", "rsassa-pss-sha256", &p256),
            ),
            ("no PEM", object("ecdsa", "ecdsa-sha2-nistp256", &hex)),
            (
                "two PEM blocks",
                object("ecdsa", "ecdsa-sha2-nistp256", &format!("{p256}{p256}")),
            ),
            (
                "no public part",
                json!({"keytype": "ed25519", "scheme": "ed25519", "keyval": {}}),
            ),
            ("no object", json!([])),
        ] {
            assert!(PublicKey::from_object(bad).is_err(), "{flaw}");
        }
    }

    #[test]
    fn unknown_fields_of_a_key_are_part_of_its_keyid() {
        let key = PublicKey::from_ed25519(&[9; 32]).unwrap();
        let mut object = key.object().clone();
        object["keyid_hash_algorithms"] = json!("md5");
        let other = PublicKey::from_object(object.clone()).unwrap();
        assert_ne!(other.id(), key.id());
        assert_eq!(serde_json::to_value(&other).unwrap(), object);
    }

    #[test]
    fn an_rsa_key_below_2048_bits_is_too_weak() {
        let modulus = [&[0x02, 0x81, 0x81, 0x00, 0xff][..], &[0x55; 127]].concat();
        let body = [modulus.as_slice(), &[0x02, 0x03, 0x01, 0x00, 0x01]].concat();
        let der = [&[0x30, 0x81, u8::try_from(body.len()).unwrap()][..], &body].concat();
        assert!(
            der::rsa_numbers(&der, false).is_some(),
            "well-formed, only too short"
        );
        let weak = PublicKey::from_rsa_spki_pem(&block("RSA PUBLIC KEY", &der));
        assert_eq!(weak, Err(KeyError::BadPublicPart("rsassa-pss-sha256")));
    }
}
