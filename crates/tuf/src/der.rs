//! Just enough DER to take a public key out of its envelope.
//!
//! Keys are compared and counted by what they are, not by how somebody wrapped them: the same RSA key in a
//! `PUBLIC KEY` and in an `RSA PUBLIC KEY` block is one key, and one signature.

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;

/// rsaEncryption (RFC 8017) with its NULL parameter.
const RSA: &[u8] = &[
    0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
];
/// id-ecPublicKey with the named curve prime256v1 (RFC 5480).
const P256: &[u8] = &[
    0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03,
    0x01, 0x07,
];

/// Modulus and exponent, big-endian without leading zeros.
pub(crate) struct RsaNumbers {
    pub(crate) modulus: Vec<u8>,
    pub(crate) exponent: Vec<u8>,
}

/// Reads a SubjectPublicKeyInfo (RFC 5280) or a bare RSAPublicKey (RFC 8017).
pub(crate) fn rsa_numbers(der: &[u8], wrapped: bool) -> Option<RsaNumbers> {
    let key = if wrapped { public_key_of(der, RSA)? } else { der };
    let (body, rest) = element(key, SEQUENCE)?;
    let (modulus, body) = element(body, INTEGER)?;
    let (exponent, body) = element(body, INTEGER)?;
    if !rest.is_empty() || !body.is_empty() {
        return None;
    }
    Some(RsaNumbers {
        modulus: positive(modulus)?,
        exponent: positive(exponent)?,
    })
}

/// The uncompressed point of a P-256 SubjectPublicKeyInfo.
pub(crate) fn p256_point(der: &[u8]) -> Option<Vec<u8>> {
    let point = public_key_of(der, P256)?;
    (point.len() == 65 && point[0] == 4).then(|| point.to_vec())
}

/// The content of the BIT STRING of a SubjectPublicKeyInfo with exactly this algorithm.
fn public_key_of<'a>(der: &'a [u8], algorithm: &[u8]) -> Option<&'a [u8]> {
    let (body, rest) = element(der, SEQUENCE)?;
    let (identifier, body) = element(body, SEQUENCE)?;
    let (bits, body) = element(body, BIT_STRING)?;
    if !rest.is_empty() || !body.is_empty() || identifier != algorithm {
        return None;
    }
    bits.strip_prefix(&[0])
}

/// A positive INTEGER in its shortest form, without the sign byte.
fn positive(bytes: &[u8]) -> Option<Vec<u8>> {
    match bytes {
        [0, rest @ ..] if rest.first().is_some_and(|b| b & 0x80 != 0) => Some(rest.to_vec()),
        [first, ..] if *first != 0 && first & 0x80 == 0 => Some(bytes.to_vec()),
        _ => None,
    }
}

/// Splits off one element with this tag: its content and what follows. Lengths in their shortest form only.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => {
            let (&length, rest) = rest.split_first()?;
            if length < 0x80 {
                return None;
            }
            (usize::from(length), rest)
        }
        0x82 => {
            let (high, rest) = rest.split_first_chunk::<2>()?;
            let length = u16::from_be_bytes(*high);
            if length < 0x100 {
                return None;
            }
            (usize::from(length), rest)
        }
        _ => return None,
    };
    if found != tag {
        return None;
    }
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lengths_and_integers_have_one_form_only() {
        assert_eq!(element(&[INTEGER, 1, 5, 9], INTEGER), Some((&[5][..], &[9][..])));
        assert_eq!(element(&[INTEGER, 0x81, 1, 5], INTEGER), None);
        assert_eq!(element(&[INTEGER, 0x82, 0, 1, 5], INTEGER), None);
        assert_eq!(element(&[INTEGER, 2, 5], INTEGER), None);
        assert_eq!(element(&[BIT_STRING, 1, 5], INTEGER), None);
        assert_eq!(positive(&[0, 0x80]), Some(vec![0x80]));
        assert_eq!(positive(&[0, 0x7f]), None);
        assert_eq!(positive(&[0x80]), None);
        assert_eq!(positive(&[0]), None);
        assert_eq!(positive(&[]), None);
    }

    proptest! {
        #[test]
        fn no_input_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = rsa_numbers(&bytes, true);
            let _ = rsa_numbers(&bytes, false);
            let _ = p256_point(&bytes);
        }
    }
}
