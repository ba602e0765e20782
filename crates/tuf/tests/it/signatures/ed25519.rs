//! Ed25519 (RFC 8032): the scalar's arithmetic is this file's own.

use aws_lc_rs::digest::{SHA512, digest};
use tuf::{Ed25519Signer, PublicKey, Signer as _};

use super::cut_and_extended;

/// The order of the base point, little-endian: 2^252 + 27742317777372353535851937790883648493.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];
/// The neutral point in its right form and in two that are not: the second coordinate plus the field's prime, and a
/// sign on a first coordinate of zero.
const NEUTRAL: [u8; 32] = {
    let mut bytes = [0; 32];
    bytes[0] = 1;
    bytes
};
const NEUTRAL_PLUS_PRIME: [u8; 32] = {
    let mut bytes = [0xff; 32];
    bytes[0] = 0xee;
    bytes[31] = 0x7f;
    bytes
};
const NEUTRAL_WITH_SIGN: [u8; 32] = {
    let mut bytes = NEUTRAL;
    bytes[31] = 0x80;
    bytes
};

struct Key {
    public: PublicKey,
    /// The public point.
    point: [u8; 32],
    /// The private scalar, little-endian.
    scalar: [u8; 32],
    signer: Ed25519Signer,
}

fn made() -> Key {
    let (signer, pkcs8) = Ed25519Signer::generate().unwrap();
    let public = signer.public_key();
    let mut point = [0; 32];
    hex::decode_to_slice(public.object()["keyval"]["public"].as_str().unwrap(), &mut point).unwrap();
    // PKCS#8 of version 1 ends with the seed (RFC 8410).
    let hash = digest(&SHA512, &pkcs8[pkcs8.len() - 32..]);
    let mut scalar: [u8; 32] = hash.as_ref()[..32].try_into().unwrap();
    scalar[0] &= 248;
    scalar[31] = scalar[31] & 127 | 64;
    Key {
        public,
        point,
        scalar,
        signer,
    }
}

/// `a + b`, little-endian; both below 2^255.
fn sum(a: &[u8; 32], b: &[u8; 32]) -> [u8; 32] {
    let mut carry = 0;
    std::array::from_fn(|i| {
        carry += u16::from(a[i]) + u16::from(b[i]);
        let byte = carry.to_le_bytes()[0];
        carry >>= 8;
        byte
    })
}

/// `a` less the order, when it is not below it.
fn reduced(a: [u8; 32]) -> [u8; 32] {
    let mut borrow = 0;
    let less = std::array::from_fn(|i| {
        let difference = i16::from(a[i]) - i16::from(ORDER[i]) - borrow;
        borrow = i16::from(difference < 0);
        difference.to_le_bytes()[0]
    });
    if borrow == 0 { less } else { a }
}

/// `a * b` modulo the order, bit by bit from the top of `a`, which may be longer.
fn product(a: &[u8], b: &[u8; 32]) -> [u8; 32] {
    // A clamped scalar is below 2^255, less than eight times the order.
    let b = (0..8).fold(*b, |b, _| reduced(b));
    let bits = a
        .iter()
        .rev()
        .flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1));
    bits.fold([0; 32], |so_far, bit| {
        let doubled = reduced(sum(&so_far, &so_far));
        if bit == 1 {
            reduced(sum(&doubled, &b))
        } else {
            doubled
        }
    })
}

/// The signature whose nonce is zero, so that its first half is the neutral point, written in this form.
fn with_nonce_zero(key: &Key, form: &[u8; 32], message: &[u8]) -> Vec<u8> {
    let hash = digest(&SHA512, &[form.as_slice(), &key.point, message].concat());
    [*form, product(hash.as_ref(), &key.scalar)].concat()
}

#[test]
fn the_second_half_has_one_value_only() {
    let key = made();
    let right = key.signer.sign(b"message").unwrap();
    assert!(key.public.verify(b"message", &right));
    let mut high: [u8; 32] = right[32..].try_into().unwrap();
    // As often as it fits into 32 bytes.
    for times in 1..=7 {
        high = sum(&high, &ORDER);
        let other = [&right[..32], &high].concat();
        assert!(
            !key.public.verify(b"message", &other),
            "{times} times the order added"
        );
    }
    for bit in 252..256 {
        let mut other = right.clone();
        other[32 + bit / 8] ^= 1 << (bit % 8);
        assert!(!key.public.verify(b"message", &other), "bit {bit}");
    }
}

#[test]
fn cut_extended_and_empty_signatures_are_refused() {
    let key = made();
    let right = key.signer.sign(b"message").unwrap();
    for other in cut_and_extended(&right) {
        assert!(!key.public.verify(b"message", &other), "{} bytes", other.len());
    }
    let swapped = [&right[32..], &right[..32]].concat();
    for other in [vec![0; 64], vec![0xff; 64], swapped, [NEUTRAL, [0; 32]].concat()] {
        assert!(!key.public.verify(b"message", &other));
    }
}

#[test]
fn each_changed_bit_is_refused() {
    let key = made();
    let right = key.signer.sign(b"message").unwrap();
    for bit in 0..512 {
        let mut other = right.clone();
        other[bit / 8] ^= 1 << (bit % 8);
        assert!(!key.public.verify(b"message", &other), "bit {bit}");
    }
}

#[test]
fn the_first_half_is_taken_in_its_right_form_only() {
    let key = made();
    let right = with_nonce_zero(&key, &NEUTRAL, b"message");
    assert!(
        key.public.verify(b"message", &right),
        "right though its maker gives his key away"
    );
    for form in [NEUTRAL_PLUS_PRIME, NEUTRAL_WITH_SIGN] {
        let other = with_nonce_zero(&key, &form, b"message");
        assert!(!key.public.verify(b"message", &other), "{form:x?}");
    }
}

/// Under such a key a signature of no private key verifies, at least for one message in eight.
#[test]
fn a_key_of_small_order_is_no_key() {
    // Worked out from the curve's equation, a point of the whole group times the order of the base point.
    let small = [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    ];
    for text in small {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).unwrap();
        assert!(PublicKey::from_ed25519(&bytes).is_err(), "{text}");
        // What it is about: the library that verifies takes the neutral point and nothing as a signature by it.
        if bytes == NEUTRAL {
            let library = aws_lc_rs::signature::UnparsedPublicKey::new(&aws_lc_rs::signature::ED25519, bytes);
            let nobodys = [NEUTRAL, [0; 32]].concat();
            assert!(library.verify(b"any message", &nobodys).is_ok());
        }
    }
}

#[test]
fn a_key_has_one_form_only() {
    for form in [NEUTRAL_PLUS_PRIME, NEUTRAL_WITH_SIGN] {
        assert!(PublicKey::from_ed25519(&form).is_err(), "{form:x?}");
    }
    // The prime itself to 2^255 - 1, with either sign: nothing of it is below the prime.
    for low in 0xed..=0xff {
        for high in [0x7f, 0xff] {
            let mut form = [0xff; 32];
            (form[0], form[31]) = (low, high);
            assert!(PublicKey::from_ed25519(&form).is_err(), "{form:x?}");
        }
    }
    assert!(PublicKey::from_ed25519(&made().point).is_ok());
}
