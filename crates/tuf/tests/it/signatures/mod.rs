//! Signatures that are nearly right, of the classes that broke other verifiers. Each is made here from the standard's
//! text with arithmetic that the verifier does not share, and beside each stands a right one made in the same way.
//! `scripts/wycheproof` does the same with the vectors of Project Wycheproof.

mod ecdsa;
mod ed25519;
mod rsa_pss;

use base64::Engine as _;

fn pem(der: &[u8]) -> String {
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n")
}

/// Every prefix and some extensions of a right signature.
fn cut_and_extended(right: &[u8]) -> Vec<Vec<u8>> {
    let zero = [0].as_slice();
    let more = [
        [right, zero].concat(),
        [zero, right].concat(),
        [right, right].concat(),
        [right, &[0; 64]].concat(),
    ];
    (0..right.len())
        .map(|end| right[..end].to_vec())
        .chain([right[1..].to_vec()])
        .chain(more)
        .collect()
}
