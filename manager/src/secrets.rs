//! Secrets that the gateway makes, keeps as keyed hashes, or checks.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{ARGON2ID_IDENT, Algorithm, Argon2, Block, Params, Version};
use aws_lc_rs::{constant_time, hmac, rand};
use protocol::Secret;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::limits;

/// Why a secret could not be made or checked.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The system gave no random bytes.
    #[error("the system gave no random bytes")]
    Random,
    /// The pepper's file cannot be used.
    #[error("cannot use the key under which tokens are kept")]
    Pepper(#[source] durable::Error),
    /// The pepper's file is not what belongs there.
    #[error("{} is damaged: restore the gateway from its backup", .0.display())]
    Damaged(std::path::PathBuf),
    /// There are devices, but the key under which their tokens are hashed is gone.
    #[error("{} is gone: restore the gateway from its backup", .0.display())]
    Missing(std::path::PathBuf),
    /// Too many checks wait already.
    #[error("too many passwords are being checked: try again in a few seconds")]
    Busy,
    /// The password function refused.
    #[error("the password function failed")]
    Argon2,
}

/// `N` random bytes from the system.
///
/// # Errors
/// The system gave none.
pub fn random<const N: usize>() -> Result<[u8; N], SecretError> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| SecretError::Random)?;
    Ok(bytes)
}

/// A random number for jitter; 0 if the system has none, which is a valid draw.
#[must_use]
pub fn jitter() -> u64 {
    random().map(u64::from_le_bytes).unwrap_or(0)
}

/// `count` random bytes as hexadecimal text.
fn random_hex<const N: usize>() -> Result<Secret, SecretError> {
    let bytes = Zeroizing::new(random::<N>()?);
    Ok(Secret::new(hex::encode(*bytes)))
}

/// A new device token: 256 bits.
///
/// # Errors
/// The system gave no random bytes.
pub fn new_token() -> Result<Secret, SecretError> {
    random_hex::<32>()
}

/// A new one-time code: 128 bits.
///
/// # Errors
/// The system gave no random bytes.
pub fn new_code() -> Result<Secret, SecretError> {
    random_hex::<16>()
}

/// The key under which tokens and codes are hashed; in a file of its own, so that the database alone does not
/// even tell whether a guess is right.
pub struct Pepper(hmac::Key);

/// What a keyed hash is of: the same secret never gives the same hash in two uses.
#[derive(Debug, Clone, Copy)]
pub enum Use {
    /// A device's token.
    Token,
    /// A one-time code.
    Code,
}

impl Pepper {
    /// Reads the pepper, or makes it if `may_create`.
    ///
    /// # Errors
    /// The file is missing although there are devices, damaged, or readable by others.
    pub fn open(path: &Path, may_create: bool) -> Result<Self, SecretError> {
        let text = match durable::read_private(path) {
            Ok(bytes) => Zeroizing::new(bytes),
            Err(error) if error.is_missing() && may_create => {
                let fresh = Zeroizing::new(hex::encode(*Zeroizing::new(random::<32>()?)).into_bytes());
                durable::replace(path, &fresh, 0o600).map_err(SecretError::Pepper)?;
                fresh
            }
            Err(error) if error.is_missing() => return Err(SecretError::Missing(path.to_owned())),
            Err(error) => return Err(SecretError::Pepper(error)),
        };
        let mut key = Zeroizing::new([0; 32]);
        hex::decode_to_slice(text.trim_ascii(), &mut *key)
            .map_err(|_| SecretError::Damaged(path.to_owned()))?;
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &*key)))
    }

    /// The keyed hash of a secret.
    #[must_use]
    pub fn tag(&self, purpose: Use, secret: &Secret) -> [u8; 32] {
        let label: &[u8] = match purpose {
            Use::Token => b"drover token\n",
            Use::Code => b"drover code\n",
        };
        let mut context = hmac::Context::with_key(&self.0);
        context.update(label);
        context.update(secret.reveal().as_bytes());
        let mut tag = [0; 32];
        tag.copy_from_slice(context.sign().as_ref());
        tag
    }

    /// Whether `secret` is the one that was hashed to `tag`; in constant time.
    #[must_use]
    pub fn is(&self, purpose: Use, secret: &Secret, tag: &[u8]) -> bool {
        constant_time::verify_slices_are_equal(&self.tag(purpose, secret), tag).is_ok()
    }
}

impl std::fmt::Debug for Pepper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pepper")
    }
}

/// Hashes and checks passwords that people typed, one at a time: each needs 19 MiB of memory, which is taken once
/// and kept, since an allocator that gets it back would keep it as well, one piece per thread.
#[derive(Debug)]
pub struct Passwords {
    turn: Semaphore,
    memory: Memory,
    waiting: AtomicUsize,
}

type Memory = Arc<Mutex<Vec<Block>>>;

/// The password function (Argon2id, version 1.3) in the memory that is kept for it, which is wiped afterwards.
fn argon2(memory: &Memory, params: &Params, salt: &[u8], password: &Secret) -> Result<Output, SecretError> {
    let wanted = params.block_count();
    if wanted > limits::PASSWORD_BLOCKS {
        return Err(SecretError::Argon2);
    }
    let mut blocks = memory.lock().unwrap_or_else(PoisonError::into_inner);
    if blocks.len() < wanted {
        blocks.resize(wanted, Block::default());
    }
    let mut out = Zeroizing::new(vec![0; params.output_len().unwrap_or(Params::DEFAULT_OUTPUT_LEN)]);
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
    let done = argon2.hash_password_into_with_memory(
        password.reveal().as_bytes(),
        salt,
        &mut out,
        blocks.as_mut_slice(),
    );
    blocks.fill(Block::default());
    done.map_err(|_| SecretError::Argon2)?;
    Output::new(&out).map_err(|_| SecretError::Argon2)
}

fn hash(memory: &Memory, password: &Secret) -> Result<String, SecretError> {
    let salt: [u8; 16] = random()?;
    let params = Params::default();
    let output = argon2(memory, &params, &salt, password)?;
    let phc = PasswordHash {
        algorithm: ARGON2ID_IDENT,
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(&params).map_err(|_| SecretError::Argon2)?,
        salt: Some(Salt::new(&salt).map_err(|_| SecretError::Argon2)?),
        hash: Some(output),
    };
    Ok(phc.to_string())
}

/// Whether a password belongs to a PHC string; one of another function belongs to none. Outputs are compared in
/// constant time.
fn verify(memory: &Memory, phc: &str, password: &Secret) -> bool {
    let check = || -> Option<bool> {
        let parsed = PasswordHash::new(phc).ok()?;
        let (salt, expected) = (parsed.salt.as_ref()?, parsed.hash.as_ref()?);
        if parsed.algorithm != ARGON2ID_IDENT || parsed.version != Some(Version::V0x13.into()) {
            return None;
        }
        let params = Params::try_from(&parsed).ok()?;
        Some(argon2(memory, &params, salt.as_ref(), password).ok()? == *expected)
    };
    check().unwrap_or(false)
}

impl Default for Passwords {
    fn default() -> Self {
        Self::new()
    }
}

impl Passwords {
    /// Ready to work.
    #[must_use]
    pub fn new() -> Self {
        Self {
            turn: Semaphore::new(1),
            waiting: AtomicUsize::new(0),
            memory: Memory::default(),
        }
    }

    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Memory) -> Result<T, SecretError> + Send + 'static,
    ) -> Result<T, SecretError> {
        let _place = Place::take(&self.waiting)?;
        let _permit = self.turn.acquire().await.map_err(|_| SecretError::Busy)?;
        let memory = Arc::clone(&self.memory);
        tokio::task::spawn_blocking(move || work(&memory))
            .await
            .map_err(|_| SecretError::Argon2)?
    }

    /// The PHC string to keep for a password.
    ///
    /// # Errors
    /// [`SecretError::Busy`]; no random bytes.
    pub async fn hash(&self, password: Secret) -> Result<String, SecretError> {
        self.work(move |memory| hash(memory, &password)).await
    }

    /// Whether the password is the one of `phc`.
    ///
    /// # Errors
    /// [`SecretError::Busy`].
    pub async fn verify(&self, phc: String, password: Secret) -> Result<bool, SecretError> {
        self.work(move |memory| Ok(verify(memory, &phc, &password))).await
    }
}

/// A place in the queue, given back when dropped.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Result<Self, SecretError> {
        if waiting.fetch_add(1, Ordering::AcqRel) >= limits::PASSWORD_QUEUE {
            waiting.fetch_sub(1, Ordering::AcqRel);
            return Err(SecretError::Busy);
        }
        Ok(Self(waiting))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_recognised_under_its_own_pepper_and_use_only() {
        let dir = tempfile::tempdir().unwrap();
        let pepper = Pepper::open(&dir.path().join("a"), true).unwrap();
        let other = Pepper::open(&dir.path().join("b"), true).unwrap();
        let token = new_token().unwrap();
        let tag = pepper.tag(Use::Token, &token);
        assert!(
            Pepper::open(&dir.path().join("a"), false)
                .unwrap()
                .is(Use::Token, &token, &tag)
        );
        assert!(!pepper.is(Use::Code, &token, &tag));
        assert!(!other.is(Use::Token, &token, &tag));
        assert!(!pepper.is(Use::Token, &new_token().unwrap(), &tag));
        assert!(!pepper.is(Use::Token, &token, &[]));
    }

    #[test]
    fn a_lost_pepper_is_not_made_anew_while_there_are_devices() {
        let dir = tempfile::tempdir().unwrap();
        let error = Pepper::open(&dir.path().join("a"), false).unwrap_err();
        assert!(error.to_string().contains("restore"));
    }

    #[tokio::test]
    async fn passwords_are_salted_and_a_wrong_one_is_wrong() {
        let passwords = Passwords::new();
        let right = Secret::new("correct horse".into());
        let one = passwords.hash(right.clone()).await.unwrap();
        let two = passwords.hash(right.clone()).await.unwrap();
        assert!(one.starts_with("$argon2id$") && one != two);
        assert!(passwords.verify(one.clone(), right.clone()).await.unwrap());
        assert!(!passwords.verify(one, Secret::new("wrong".into())).await.unwrap());
        assert!(
            !passwords
                .verify(two.replace("argon2id", "argon2i"), right)
                .await
                .unwrap()
        );
    }

    #[test]
    fn what_is_kept_is_what_every_argon2_understands() {
        use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
        let (memory, password) = (Memory::default(), Secret::new("correct horse".into()));
        let ours = hash(&memory, &password).unwrap();
        let parsed = PasswordHash::new(&ours).unwrap();
        assert!(
            Argon2::default()
                .verify_password(b"correct horse", &parsed)
                .is_ok()
        );
        let theirs = Argon2::default()
            .hash_password_with_salt(b"correct horse", &[7; 16])
            .unwrap();
        assert!(verify(&memory, &theirs.to_string(), &password));
        assert!(
            memory
                .lock()
                .unwrap()
                .iter()
                .all(|block| block.as_ref().iter().all(|word| *word == 0)),
            "wiped"
        );
        for other in [
            ours.replace("argon2id", "argon2i"),
            ours.replace("v=19", "v=16"),
            ours.replace("m=19456", "m=99999999"),
            "x".into(),
        ] {
            assert!(!verify(&memory, &other, &password), "{other}");
        }
    }

    #[tokio::test]
    async fn a_crowd_is_told_to_come_later() {
        let passwords = std::sync::Arc::new(Passwords::new());
        let phc = passwords.hash(Secret::new("y".into())).await.unwrap();
        let all: Vec<_> = (0..limits::PASSWORD_QUEUE + 4)
            .map(|_| {
                let (passwords, phc) = (std::sync::Arc::clone(&passwords), phc.clone());
                async move { passwords.verify(phc, Secret::new("x".into())).await }
            })
            .collect();
        let answers = futures_util::future::join_all(all).await;
        let refused = answers
            .iter()
            .filter(|answer| matches!(answer, Err(SecretError::Busy)))
            .count();
        assert_eq!(refused, 4);
        assert!(!passwords.verify(phc, Secret::new("x".into())).await.unwrap());
    }
}
