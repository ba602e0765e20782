//! RSASSA-PSS (RFC 8017, sections 8.1 and 9.1): padded here, raised to the private exponent by the `rsa` crate.

use std::sync::LazyLock;

use aws_lc_rs::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA384, SHA512, digest};
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use rsa::pkcs8::DecodePrivateKey as _;
use rsa::traits::{PrivateKeyParts as _, PublicKeyParts as _};
use rsa::{BoxedUint, PrivateKey};
use tuf::PublicKey;

use super::{cut_and_extended, pem};

const MESSAGE: &[u8] = b"message";

struct Key {
    public: PublicKey,
    private: PrivateKey,
}

static KEY: LazyLock<Key> = LazyLock::new(|| {
    let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let spki = pair.public_key().as_der().unwrap();
    Key {
        public: PublicKey::from_rsa_spki_pem(&pem(spki.as_ref())).unwrap(),
        private: PrivateKey::from_pkcs8_der(pair.as_der().unwrap().as_ref()).unwrap(),
    }
});

impl Key {
    fn length(&self) -> usize {
        self.private.size()
    }

    /// A block of the modulus' length to the private exponent.
    fn raised(&self, block: &[u8]) -> Vec<u8> {
        let modulus = self.private.n();
        let number = BoxedUint::from_be_slice(block, modulus.bits_precision()).unwrap();
        let raised = number.pow_mod(self.private.d(), &modulus.to_odd().unwrap());
        raised.to_be_bytes().to_vec()
    }

    fn accepts(&self, signature: &[u8]) -> bool {
        self.public.verify(MESSAGE, signature)
    }
}

/// A way of padding; as the scheme wants it by default.
struct Padding {
    hash: &'static Algorithm,
    mask: &'static Algorithm,
    salt: Vec<u8>,
    trailer: u8,
    /// The byte between the zeros and the salt.
    separator: u8,
    /// Added to the first of the zeros.
    first: u8,
    /// Whether the topmost bit is left as the mask made it.
    top_bit: bool,
}

impl Default for Padding {
    fn default() -> Self {
        Self {
            hash: &SHA256,
            mask: &SHA256,
            salt: vec![7; 32],
            trailer: 0xbc,
            separator: 1,
            first: 0,
            top_bit: false,
        }
    }
}

impl Padding {
    /// EMSA-PSS-ENCODE (RFC 8017, section 9.1.1) for a modulus of whole bytes.
    fn of(&self, message: &[u8], length: usize) -> Vec<u8> {
        let hashed = digest(self.hash, message);
        let whole = [&[0; 8], hashed.as_ref(), &self.salt].concat();
        let hash = digest(self.hash, &whole);
        let hash = hash.as_ref();
        let mut block = vec![0; length - hash.len() - 1 - self.salt.len() - 1];
        block[0] = self.first;
        block.push(self.separator);
        block.extend_from_slice(&self.salt);
        for (byte, mask) in block.iter_mut().zip(self.mask(hash)) {
            *byte ^= mask;
        }
        if self.top_bit {
            block[0] |= 0x80;
        } else {
            block[0] &= 0x7f;
        }
        block.extend_from_slice(hash);
        block.push(self.trailer);
        block
    }

    /// MGF1 (RFC 8017, appendix B.2.1), without end.
    fn mask(&self, seed: &[u8]) -> impl Iterator<Item = u8> {
        (0_u32..).flat_map(move |counter| {
            let block = digest(self.mask, &[seed, &counter.to_be_bytes()].concat());
            block.as_ref().to_vec()
        })
    }

    fn signed(&self) -> Vec<u8> {
        KEY.raised(&self.of(MESSAGE, KEY.length()))
    }
}

#[test]
fn a_signature_padded_here_is_right() {
    for salt in [vec![0; 32], vec![0xff; 32], (0..32).collect()] {
        let padding = Padding {
            salt,
            ..Padding::default()
        };
        assert!(KEY.accepts(&padding.signed()));
    }
}

#[test]
fn only_a_salt_of_32_bytes_is_taken() {
    // The longest: the block less hash, trailer and separator.
    let longest = KEY.length() - 32 - 2 - 1;
    for length in [0, 1, 8, 20, 28, 31, 33, 48, 64, longest] {
        let padding = Padding {
            salt: vec![7; length],
            ..Padding::default()
        };
        assert!(!KEY.accepts(&padding.signed()), "{length} bytes of salt");
    }
}

#[test]
fn only_sha256_is_taken_for_hash_and_mask() {
    for other in [&SHA1_FOR_LEGACY_USE_ONLY, &SHA384, &SHA512] {
        let mask = Padding {
            mask: other,
            ..Padding::default()
        };
        assert!(!KEY.accepts(&mask.signed()), "mask of {other:?}");
        for hash in [
            Padding {
                hash: other,
                ..Padding::default()
            },
            Padding {
                hash: other,
                mask: other,
                ..Padding::default()
            },
        ] {
            assert!(!KEY.accepts(&hash.signed()), "hash of {other:?}");
        }
    }
}

#[test]
fn padding_that_is_not_as_it_should_be_is_refused() {
    let default = Padding::default;
    for (flaw, padding) in [
        (
            "trailer of the other hashes",
            Padding {
                trailer: 0xcc,
                ..default()
            },
        ),
        (
            "no trailer",
            Padding {
                trailer: 0,
                ..default()
            },
        ),
        (
            "no separator",
            Padding {
                separator: 0,
                ..default()
            },
        ),
        (
            "another separator",
            Padding {
                separator: 2,
                ..default()
            },
        ),
        (
            "a one among the zeros",
            Padding {
                first: 1,
                ..default()
            },
        ),
    ] {
        assert!(!KEY.accepts(&padding.signed()), "{flaw}");
    }
    // A block with its topmost bit is below the modulus for some salts only.
    let modulus = KEY.private.n().to_be_bytes();
    let above = (0..=255)
        .map(|salt| Padding {
            salt: vec![salt; 32],
            top_bit: true,
            ..default()
        })
        .find(|padding| padding.of(MESSAGE, KEY.length()).as_slice() < &*modulus)
        .unwrap();
    assert!(!KEY.accepts(&above.signed()), "the topmost bit");
}

#[test]
fn the_other_padding_of_the_same_key_is_refused() {
    // EMSA-PKCS1-v1_5 (RFC 8017, section 9.2) with the DigestInfo of SHA-256, and with the bare hash.
    let info = hex::decode("3031300d060960864801650304020105000420").unwrap();
    let hash = digest(&SHA256, MESSAGE);
    for tail in [[&info, hash.as_ref()].concat(), hash.as_ref().to_vec()] {
        let filling = vec![0xff; KEY.length() - 3 - tail.len()];
        let block = [&[0, 1], filling.as_slice(), &[0], &tail].concat();
        assert!(!KEY.accepts(&KEY.raised(&block)));
    }
    let mut bare = vec![0; KEY.length() - 32];
    bare.extend_from_slice(hash.as_ref());
    assert!(!KEY.accepts(&KEY.raised(&bare)), "a hash without any padding");
}

#[test]
fn a_signature_has_the_modulus_length_and_is_below_it() {
    let right = Padding::default().signed();
    assert!(KEY.accepts(&right));
    for other in cut_and_extended(&right) {
        assert!(!KEY.accepts(&other), "{} bytes", other.len());
    }
    let modulus = KEY.private.n().to_be_bytes();
    let mut less_one = modulus.to_vec();
    *less_one.last_mut().unwrap() -= 1;
    let mut one = vec![0; KEY.length()];
    *one.last_mut().unwrap() = 1;
    for other in [
        vec![0; KEY.length()],
        one,
        less_one,
        modulus.to_vec(),
        vec![0xff; KEY.length()],
    ] {
        assert!(!KEY.accepts(&other));
    }
}

/// The same number modulo the modulus, where it still fits.
#[test]
fn a_signature_with_the_modulus_added_is_refused() {
    let modulus = KEY.private.n().to_be_bytes();
    let (right, above) = salts()
        .find_map(|right| Some((right.clone(), added(&right, &modulus)?)))
        .unwrap();
    assert!(KEY.accepts(&right));
    assert!(!KEY.accepts(&above));
}

#[test]
fn a_leading_zero_stays() {
    let right = salts().find(|signature| signature[0] == 0).unwrap();
    assert!(KEY.accepts(&right));
    assert!(!KEY.accepts(&right[1..]));
}

#[test]
fn each_changed_byte_is_refused() {
    let right = Padding::default().signed();
    for at in 0..right.len() {
        let mut other = right.clone();
        other[at] ^= 1;
        assert!(!KEY.accepts(&other), "byte {at}");
    }
}

/// Right signatures with ever other salts.
fn salts() -> impl Iterator<Item = Vec<u8>> {
    (0_u32..).map(|number| {
        let mut salt = vec![7; 28];
        salt.extend(number.to_be_bytes());
        let padding = Padding {
            salt,
            ..Padding::default()
        };
        padding.signed()
    })
}

/// The sum of two big-endian numbers of one length, where it has that length too.
fn added(a: &[u8], b: &[u8]) -> Option<Vec<u8>> {
    let mut carry = 0;
    let mut sum: Vec<u8> = (a.iter().zip(b).rev())
        .map(|(&a, &b)| {
            carry += u16::from(a) + u16::from(b);
            let byte = carry.to_le_bytes()[0];
            carry >>= 8;
            byte
        })
        .collect();
    sum.reverse();
    (carry == 0).then_some(sum)
}
