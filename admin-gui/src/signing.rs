//! The author's private keys: made, kept encrypted, opened, used. The only module of the suite that touches
//! RSA private keys.
//!
//! Keys lie on the disk as encrypted PKCS#8 ([`certs::encrypt_key`]), which `openssl pkey` reads too. RSA signs
//! with PSS and SHA-256 only, blinded, on this machine only, and each signature is verified by another
//! implementation (aws-lc-rs) before it leaves this module: a fault in the processor must not give the key
//! away (RUSTSEC-2023-0071 is why nothing here can be triggered from outside).
#![expect(
    clippy::disallowed_types,
    reason = "the one module where RSA private keys live"
)]

use std::fmt;
use std::path::{Path, PathBuf};

use getrandom::SysRng;
use pkcs8::der::asn1::ObjectIdentifier;
use pkcs8::{EncodePrivateKey as _, EncodePublicKey as _, LineEnding, PrivateKeyInfoRef, SecretDocument};
use rsa::sha2::Sha256;
use rsa::signature::{RandomizedSigner as _, SignatureEncoding as _};
use rsa::traits::PublicKeyParts as _;
use tuf::{Ed25519Signer, PublicKey, SignError, Signer};
use zeroize::Zeroizing;

use crate::limits::{RSA_BITS, RSA_BITS_MAX};
use crate::passphrase::Passphrase;

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const RSA_PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// Which kind of key to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum KeyType {
    /// RSASSA-PSS with SHA-256, 3072 bits.
    Rsa,
    /// Ed25519.
    Ed25519,
}

/// Why a key cannot be made, opened or used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No such file.
    #[error(
        "there is no key at {}: bring it back from the backup, or name the folder that has it with --dir",
        .0.display()
    )]
    Missing(PathBuf),
    /// Not readable, or readable by others; the source names the mend.
    #[error("the key cannot be used")]
    File(#[source] durable::Error),
    /// Does not open.
    #[error("the passphrase does not open {}: it is wrong, or the file is damaged; nothing was changed", .0.display())]
    WrongPassphrase(PathBuf),
    /// Not an encrypted PKCS#8 file.
    #[error("{} is not an encrypted private key", path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: certs::KeyError,
    },
    /// Opened, but of no use for signing.
    #[error("{} {why}: it cannot sign", path.display())]
    Useless {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Encrypting a new one failed.
    #[error("cannot protect the new key")]
    Seal(#[source] certs::KeyError),
    /// Too weak or absurdly large.
    #[error("the RSA key in {} has {bits} bits: {RSA_BITS} to {RSA_BITS_MAX} are accepted", path.display())]
    Size {
        /// The file.
        path: PathBuf,
        /// Its bits.
        bits: u32,
    },
    /// The library or the system's randomness failed.
    #[error("cannot {0}")]
    Library(&'static str),
    /// From the signer.
    #[error("the key does not work")]
    Sign(#[from] SignError),
}

/// A private key in memory, ready to sign.
pub struct AuthorKey {
    inner: Inner,
    public: PublicKey,
}

enum Inner {
    Rsa(Box<rsa::pss::SigningKey<Sha256>>),
    Ed25519(Ed25519Signer),
}

impl fmt::Debug for AuthorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuthorKey({})", self.public.id())
    }
}

impl AuthorKey {
    /// Makes a new key; gives it with its PKCS#8 form (DER, not encrypted), to be [`seal`]ed at once.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn generate(kind: KeyType) -> Result<(Self, Zeroizing<Vec<u8>>), KeyError> {
        match kind {
            KeyType::Ed25519 => {
                let (signer, pkcs8) = Ed25519Signer::generate()?;
                Ok((Self::from_ed25519(signer), pkcs8))
            }
            KeyType::Rsa => {
                let key = generate_rsa(RSA_BITS)?;
                let der = key
                    .to_pkcs8_der()
                    .map_err(|_| KeyError::Library("encode an RSA key"))?;
                Ok((Self::from_rsa(key)?, der.to_bytes()))
            }
        }
    }

    /// Opens an encrypted key file.
    ///
    /// # Errors
    /// [`KeyError`] says whether the file, its rights, the passphrase or the key is at fault.
    pub fn open(path: &Path, passphrase: &Passphrase) -> Result<Self, KeyError> {
        let der = unseal(path, passphrase)?;
        let useless = |why| KeyError::Useless {
            path: path.to_owned(),
            why,
        };
        let info = PrivateKeyInfoRef::try_from(&der[..]).map_err(|_| useless("has no private key in it"))?;
        match info.algorithm.oid {
            ED25519 => Ok(Self::from_ed25519(Ed25519Signer::from_pkcs8(&der)?)),
            RSA | RSA_PSS => {
                let key = read_rsa(info).ok_or(useless("has an RSA key that is not consistent"))?;
                let bits = bits(&key);
                if !(RSA_BITS..=RSA_BITS_MAX).contains(&(bits as usize)) {
                    return Err(KeyError::Size {
                        path: path.to_owned(),
                        bits,
                    });
                }
                Self::from_rsa(key)
            }
            _ => Err(useless("is neither an RSA nor an Ed25519 key")),
        }
    }

    fn from_ed25519(signer: Ed25519Signer) -> Self {
        Self {
            public: signer.public_key(),
            inner: Inner::Ed25519(signer),
        }
    }

    fn from_rsa(key: rsa::pss::SigningKey<Sha256>) -> Result<Self, KeyError> {
        let public: &rsa::PublicKey = key.as_ref().as_public_key();
        let pem = public
            .to_public_key_pem(LineEnding::LF)
            .map_err(|_| KeyError::Library("encode an RSA public key"))?;
        let public = PublicKey::from_rsa_spki_pem(pem.trim_end())
            .map_err(|_| KeyError::Library("use an RSA public key"))?;
        Ok(Self {
            inner: Inner::Rsa(Box::new(key)),
            public,
        })
    }
}

impl Signer for AuthorKey {
    fn public_key(&self) -> PublicKey {
        self.public.clone()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let signature = match &self.inner {
            Inner::Ed25519(signer) => signer.sign(message)?,
            // Salt and blinding both come from the system's generator.
            Inner::Rsa(key) => key
                .try_sign_with_rng(&mut SysRng, message)
                .map_err(|_| SignError::Library("sign with RSA"))?
                .to_vec(),
        };
        if self.public.verify(message, &signature) {
            Ok(signature)
        } else {
            Err(SignError::Unverifiable(self.public.id()))
        }
    }
}

fn generate_rsa(bits: usize) -> Result<rsa::pss::SigningKey<Sha256>, KeyError> {
    rsa::pss::SigningKey::random(&mut SysRng, bits).map_err(|_| KeyError::Library("make an RSA key"))
}

fn read_rsa(info: PrivateKeyInfoRef<'_>) -> Option<rsa::pss::SigningKey<Sha256>> {
    let key = rsa::PrivateKey::try_from(info).ok()?;
    key.validate().ok()?;
    Some(rsa::pss::SigningKey::new(key))
}

fn bits(key: &rsa::pss::SigningKey<Sha256>) -> u32 {
    key.as_ref().n().bit_width()
}

/// Encrypts a PKCS#8 document (DER) under a passphrase, as PEM.
///
/// # Errors
/// The system gives no randomness; the bytes are no PKCS#8.
pub fn seal(pkcs8: &[u8], passphrase: &Passphrase) -> Result<Zeroizing<String>, KeyError> {
    certs::encrypt_key(pkcs8, passphrase.reveal()).map_err(KeyError::Seal)
}

/// A key that has to work unattended: PKCS#8 in PEM, not encrypted, for a file of mode 0600.
///
/// # Errors
/// The bytes are no DER.
pub fn plain_pem(pkcs8: &[u8]) -> Result<Zeroizing<String>, KeyError> {
    SecretDocument::try_from(pkcs8)
        .and_then(|document| document.to_pem("PRIVATE KEY", LineEnding::LF))
        .map_err(|_| KeyError::Library("write a private key as PEM"))
}

/// Opens an encrypted key file down to its PKCS#8 document (DER).
///
/// # Errors
/// As [`AuthorKey::open`].
pub fn unseal(path: &Path, passphrase: &Passphrase) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let text = Zeroizing::new(durable::read_private(path).map_err(|error| match error {
        missing if missing.is_missing() => KeyError::Missing(path.to_owned()),
        other => KeyError::File(other),
    })?);
    let not = |source| KeyError::NotAKey {
        path: path.to_owned(),
        source,
    };
    let text = std::str::from_utf8(&text).map_err(|_| not(certs::KeyError::Malformed))?;
    certs::decrypt_key(text, passphrase.reveal()).map_err(|error| match error {
        certs::KeyError::WrongPassphrase => KeyError::WrongPassphrase(path.to_owned()),
        other => not(other),
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn passphrase() -> Passphrase {
        Passphrase::new("correct horse battery staple").unwrap()
    }

    fn stored(kind: KeyType, folder: &Path) -> (AuthorKey, PathBuf) {
        let (key, pkcs8) = AuthorKey::generate(kind).unwrap();
        let path = folder.join("targets-key.pem");
        durable::replace(&path, seal(&pkcs8, &passphrase()).unwrap().as_bytes(), 0o600).unwrap();
        (key, path)
    }

    #[test]
    fn a_sealed_key_opens_with_its_passphrase_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        for kind in [KeyType::Ed25519, KeyType::Rsa] {
            let (key, path) = stored(kind, folder.path());
            let opened = AuthorKey::open(&path, &passphrase()).unwrap();
            assert_eq!(opened.public_key(), key.public_key());
            let signature = opened.sign(b"a message").unwrap();
            assert!(key.public_key().verify(b"a message", &signature));
            assert!(!key.public_key().verify(b"another", &signature));

            let wrong = Passphrase::new("incorrect horse battery").unwrap();
            assert!(matches!(
                AuthorKey::open(&path, &wrong),
                Err(KeyError::WrongPassphrase(_))
            ));
        }
    }

    #[test]
    fn a_key_that_others_may_read_is_refused_with_the_mend() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let (_, path) = stored(KeyType::Ed25519, folder.path());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let Err(KeyError::File(error)) = AuthorKey::open(&path, &passphrase()) else {
            panic!("opened")
        };
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }

    #[test]
    fn missing_plain_and_small_keys_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        assert!(matches!(
            AuthorKey::open(&path, &passphrase()),
            Err(KeyError::Missing(_))
        ));

        durable::replace(&path, certs::new_key().unwrap().as_bytes(), 0o600).unwrap();
        let Err(KeyError::NotAKey { source, .. }) = AuthorKey::open(&path, &passphrase()) else {
            panic!("opened")
        };
        assert!(matches!(source, certs::KeyError::NotEncrypted));

        let small = generate_rsa(2048).unwrap().to_pkcs8_der().unwrap();
        durable::replace(
            &path,
            seal(small.as_bytes(), &passphrase()).unwrap().as_bytes(),
            0o600,
        )
        .unwrap();
        assert!(matches!(
            AuthorKey::open(&path, &passphrase()),
            Err(KeyError::Size { bits: 2048, .. })
        ));
    }

    /// `openssl` with arguments parted by spaces, in a folder; whether it says yes. Its absence is a failure.
    fn openssl(folder: &Path, arguments: &str) -> bool {
        let done = Command::new("openssl")
            .current_dir(folder)
            .args(arguments.split(' '))
            .output()
            .expect("this test needs the program openssl (Debian: apt-get install openssl)");
        let refused = String::from_utf8_lossy(&done.stdout).contains("Verif")
            || String::from_utf8_lossy(&done.stderr).contains("Verif");
        assert!(
            done.status.success() || refused,
            "openssl {arguments}: {}",
            String::from_utf8_lossy(&done.stderr)
        );
        done.status.success()
    }

    /// How `openssl` signs and verifies what the scheme of our key signs: the words before the key, and after it.
    const OPENSSL: [(KeyType, &str, &str, &str); 2] = [
        (
            KeyType::Rsa,
            "dgst -sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:32 -sigopt rsa_mgf1_md:sha256",
            "-sign targets-key.pem -passin file:pass -out theirs message",
            "-verify public.pem -signature",
        ),
        (
            KeyType::Ed25519,
            "pkeyutl -rawin -in message",
            "-sign -inkey targets-key.pem -passin file:pass -out theirs",
            "-verify -pubin -inkey public.pem -sigfile",
        ),
    ];

    #[test]
    fn openssl_opens_the_key_and_both_verify_each_other() {
        for (kind, how, sign, verify) in OPENSSL {
            let folder = tempfile::tempdir().unwrap();
            let (key, _) = stored(kind, folder.path());
            let at = |name: &str| folder.path().join(name);
            let write = |name: &str, bytes: &[u8]| std::fs::write(at(name), bytes).unwrap();
            let openssl = |arguments: &str| openssl(folder.path(), arguments);
            // The message is the last word of `dgst`, and a named one of `pkeyutl`.
            let message = if kind == KeyType::Rsa { " message" } else { "" };
            let they_accept = |signature: &[u8]| {
                write("signature", signature);
                openssl(&format!("{how} {verify} signature{message}"))
            };
            write("message", b"to be signed");
            write("pass", b"correct horse battery staple");
            assert!(openssl(
                "pkey -in targets-key.pem -passin file:pass -pubout -out public.pem"
            ));
            assert!(openssl(&format!("{how} {sign}")));

            let ours = key.sign(b"to be signed").unwrap();
            let theirs = std::fs::read(at("theirs")).unwrap();
            for right in [ours, theirs] {
                assert!(they_accept(&right), "{kind:?}");
                assert!(key.public_key().verify(b"to be signed", &right), "{kind:?}");
                for altered in altered(&right) {
                    assert!(!they_accept(&altered), "{kind:?}");
                    assert!(!key.public_key().verify(b"to be signed", &altered), "{kind:?}");
                }
                write("message", b"to be Signed");
                assert!(!they_accept(&right), "{kind:?}");
                assert!(!key.public_key().verify(b"to be Signed", &right), "{kind:?}");
                write("message", b"to be signed");
            }
        }
    }

    /// A bit changed at the start, in the middle and at the end, and one byte less. (Of one byte more `openssl dgst`
    /// reads nothing.)
    fn altered(right: &[u8]) -> Vec<Vec<u8>> {
        let changed = [0, right.len() / 2, right.len() - 1].map(|at| {
            let mut bytes = right.to_vec();
            bytes[at] ^= 1;
            bytes
        });
        let mut all = changed.to_vec();
        all.push(right[..right.len() - 1].to_vec());
        all
    }
}
