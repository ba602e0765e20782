//! ECDSA on P-256 with SHA-256 (FIPS 186-5), its two numbers in DER; taken from other makers' repositories.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use tuf::PublicKey;

use super::{cut_and_extended, pem};

const MESSAGE: &[u8] = b"message";
const ORDER: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";

/// A key and the two numbers of its signature over the message.
fn made() -> (PublicKey, Vec<u8>, Vec<u8>) {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let public = PublicKey::from_ecdsa_spki_pem(&pem(pair.public_key().as_der().unwrap().as_ref())).unwrap();
    let signature = pair.sign(&SystemRandom::new(), MESSAGE).unwrap();
    let (r, s) = signature.as_ref().split_at(32);
    (public, r.to_vec(), s.to_vec())
}

/// One element with a short length.
fn element(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag, u8::try_from(body.len()).unwrap()], body].concat()
}

/// A positive INTEGER in its shortest form.
fn integer(number: &[u8]) -> Vec<u8> {
    let start = number
        .iter()
        .position(|&byte| byte != 0)
        .unwrap_or(number.len() - 1);
    let number = &number[start..];
    if number[0] & 0x80 == 0 {
        element(2, number)
    } else {
        element(2, &[&[0], number].concat())
    }
}

fn signature(r: &[u8], s: &[u8]) -> Vec<u8> {
    element(0x30, &[r, s].concat())
}

#[test]
fn the_numbers_are_between_zero_and_the_order() {
    let (key, r, s) = made();
    assert!(key.verify(MESSAGE, &signature(&integer(&r), &integer(&s))));
    let order = hex::decode(ORDER).unwrap();
    for wrong in [&[0; 32], order.as_slice(), &[0xff; 32]] {
        assert!(!key.verify(MESSAGE, &signature(&integer(wrong), &integer(&s))));
        assert!(!key.verify(MESSAGE, &signature(&integer(&r), &integer(wrong))));
        assert!(!key.verify(MESSAGE, &signature(&integer(wrong), &integer(wrong))));
    }
    // The order added to either: 33 bytes, the same numbers modulo the order.
    let above = |number: &[u8]| {
        let mut carry = 0;
        let mut sum: Vec<u8> = (number.iter().zip(&order).rev())
            .map(|(&a, &b)| {
                carry += u16::from(a) + u16::from(b);
                let byte = carry.to_le_bytes()[0];
                carry >>= 8;
                byte
            })
            .collect();
        sum.push(carry.to_le_bytes()[0]);
        sum.reverse();
        integer(&sum)
    };
    assert!(!key.verify(MESSAGE, &signature(&above(&r), &integer(&s))));
    assert!(!key.verify(MESSAGE, &signature(&integer(&r), &above(&s))));
}

#[test]
fn der_has_one_form_only() {
    let (key, r, s) = made();
    let (r, s) = (integer(&r), integer(&s));
    let right = signature(&r, &s);
    assert!(key.verify(MESSAGE, &right));
    for other in cut_and_extended(&right) {
        assert!(!key.verify(MESSAGE, &other), "{} bytes", other.len());
    }
    let padded = |number: &[u8]| element(2, &[&[0], &number[2..]].concat());
    let long = |number: &[u8]| [&[2, 0x81, number[1]], &number[2..]].concat();
    for (flaw, other) in [
        ("a zero before a number", signature(&padded(&r), &s)),
        ("a zero before the other", signature(&r, &padded(&s))),
        ("a long length", signature(&long(&r), &s)),
        (
            "a long length around",
            [&[0x30, 0x81, right[1]], &right[2..]].concat(),
        ),
        ("no length", [&[0x30, 0x80], &right[2..], &[0, 0]].concat()),
        (
            "a third number",
            element(0x30, &[&r[..], &s, &[2, 1, 1]].concat()),
        ),
        ("one number", element(0x30, &r)),
        ("a set", element(0x31, &right[2..])),
        ("nothing", element(0x30, &[])),
        ("the numbers the other way round", signature(&s, &r)),
        (
            "the numbers without DER",
            [&r[r.len() - 32..], &s[s.len() - 32..]].concat(),
        ),
    ] {
        assert!(!key.verify(MESSAGE, &other), "{flaw}");
    }
}
