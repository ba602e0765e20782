//! The encrypted copy of all that a replacement gateway needs; the mirror is not in it, the repository has it.
//!
//! ```text
//! "drover manager backup 1\n"                                     magic and format
//! memory u32 · passes u32 · lanes u32 · salt 16 · nonce 12        Argon2id's parameters, little-endian
//! AES-256-GCM( index length u32 · index JSON · bytes of all files ), the header authenticated with it
//! ```

use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use protocol::{Name, Secret};
use serde::{Deserialize, Serialize};
use tuf::UnixTime;
use zeroize::Zeroizing;

use crate::config::Paths;
use crate::gateway::Gateway;
use crate::{limits, secrets};

const MAGIC: &[u8] = b"drover manager backup 1\n";
/// How a backup of any format begins.
const OURS: &[u8] = b"drover manager backup ";
const SALT: usize = 16;
const NONCE: usize = 12;
const HEADER: usize = MAGIC.len() + 12 + SALT + NONCE;

/// Why a backup cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackupError {
    /// A file of the gateway cannot be read, or the backup cannot be written.
    #[error("cannot read or write a file of the backup")]
    File(#[from] durable::Error),
    /// The database cannot be copied.
    #[error(transparent)]
    Database(#[from] crate::database::DatabaseError),
    /// A folder cannot be listed.
    #[error("cannot list {}", .0.display())]
    List(PathBuf, #[source] std::io::Error),
    /// No random bytes.
    #[error(transparent)]
    Random(#[from] secrets::SecretError),
    /// Something else is at the place of the backup: a key, a database, a folder.
    #[error("{} is there already and is no manager's backup: name a new file, or an older backup to replace", .0.display())]
    Occupied(PathBuf),
    /// What is at the place of the backup cannot be looked at.
    #[error("cannot look at {}", .0.display())]
    Look(PathBuf, #[source] std::io::Error),
    /// The passphrase is too short or too long.
    #[error(
        "the passphrase must have {} to {} characters",
        limits::PASSPHRASE_MIN_CHARS,
        limits::PASSWORD_BYTES
    )]
    Passphrase,
    /// More than a backup may have.
    #[error("the backup would have more than {} bytes", limits::BACKUP_BYTES)]
    TooLarge,
    /// Not a backup, or of a newer program.
    #[error("this is not a manager's backup, or one of a newer program")]
    Foreign,
    /// It asks for more memory or time than any backup of ours.
    #[error("the backup's header is damaged: it asks for too much memory or time")]
    Costly,
    /// The key function or the cipher refused.
    #[error("the encryption failed")]
    Cipher,
    /// Decryption says no; wrong key and damage look the same.
    #[error("the passphrase is wrong, or the backup is damaged: nothing was restored")]
    Wrong,
    /// Decrypted, but not what this program writes.
    #[error("the backup's contents cannot be read: {0}")]
    Malformed(String),
}

/// What a backup is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Index {
    pub(crate) site: Name,
    pub(crate) name: Name,
    pub(crate) made: UnixTime,
    pub(crate) files: Vec<Entry>,
}

/// One file, by its path below the gateway's folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) path: String,
    pub(crate) length: u64,
}

/// A backup in clear; held in memory only.
#[derive(Debug)]
pub(crate) struct Contents {
    pub(crate) index: Index,
    pub(crate) files: Vec<(String, Zeroizing<Vec<u8>>)>,
}

/// Makes a backup of the running gateway and writes it to `to`, mode 0600: a new file, or in place of an older backup.
///
/// # Errors
/// [`BackupError`]; nothing is left behind then, and what was at `to` is untouched.
pub(crate) async fn make(
    gateway: std::sync::Arc<Gateway>,
    to: PathBuf,
    passphrase: Secret,
) -> Result<(), BackupError> {
    check_passphrase(&passphrase)?;
    tokio::task::spawn_blocking(move || {
        check_place(&to)?;
        let contents = collect(&gateway)?;
        let sealed = seal(&contents, &passphrase)?;
        durable::replace(&to, sealed, 0o600)?;
        Ok(())
    })
    .await
    .map_err(|_| BackupError::Cipher)?
}

fn check_passphrase(passphrase: &Secret) -> Result<(), BackupError> {
    let text = passphrase.reveal();
    let right = text.chars().count() >= limits::PASSPHRASE_MIN_CHARS && text.len() <= limits::PASSWORD_BYTES;
    if right {
        Ok(())
    } else {
        Err(BackupError::Passphrase)
    }
}

/// Only a new file or an older backup may be written over: the gateway could replace its own keys.
fn check_place(to: &Path) -> Result<(), BackupError> {
    let failed = |error| BackupError::Look(to.to_owned(), error);
    match std::fs::symlink_metadata(to) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        // A link, a folder or a pipe is not opened at all.
        Ok(found) if !found.is_file() => return Err(BackupError::Occupied(to.to_owned())),
        found => found.map_err(failed)?,
    };
    let file = std::fs::File::open(to).map_err(failed)?;
    let mut begin = Vec::with_capacity(OURS.len());
    file.take(OURS.len() as u64)
        .read_to_end(&mut begin)
        .map_err(failed)?;
    if begin == OURS {
        Ok(())
    } else {
        Err(BackupError::Occupied(to.to_owned()))
    }
}

/// Files that stand directly in the gateway's folder.
pub(crate) const SITE_FILES: [&str; 7] = [
    "manager.toml",
    "ca.pem",
    "tls.pem",
    "tls-key.pem",
    "device-ca.pem",
    "device-ca-key.pem",
    "root.json",
];

fn collect(gateway: &Gateway) -> Result<Contents, BackupError> {
    let paths = &gateway.paths;
    let mut names: Vec<String> = SITE_FILES.map(str::to_owned).to_vec();
    names.push("state/pepper".to_owned());
    names.extend(listed(paths, &paths.roots())?);
    // In the order of their names: floors before the state that was saved after them, never the other way round.
    names.extend(listed(paths, &paths.trust())?);
    let mut files = Vec::with_capacity(names.len() + 1);
    let mut total = 0;
    for name in names {
        let bytes = durable::read_limited(paths.dir.join(&name), limits::SITE_FILE_BYTES.max(64 << 20))?;
        total += bytes.len() as u64;
        files.push((name, Zeroizing::new(bytes)));
    }
    let copy = paths.state().join("manager.db.backup");
    durable::remove_file(&copy)?;
    let copied = gateway.database.copy_to(&copy);
    let read = copied
        .map_err(BackupError::from)
        .and_then(|()| Ok(durable::read_limited(&copy, limits::BACKUP_BYTES)?));
    durable::remove_file(&copy)?;
    let database = Zeroizing::new(read?);
    total += database.len() as u64;
    files.push(("state/manager.db".to_owned(), database));
    if total > limits::BACKUP_BYTES {
        return Err(BackupError::TooLarge);
    }
    let index = Index {
        site: gateway.identity.site.clone(),
        name: gateway.identity.name.clone(),
        made: gateway.now(),
        files: files
            .iter()
            .map(|(path, bytes)| Entry {
                path: path.clone(),
                length: bytes.len() as u64,
            })
            .collect(),
    };
    Ok(Contents { index, files })
}

/// The plain files of a folder, as paths below the gateway's, sorted; half-written ones are left out.
fn listed(paths: &Paths, dir: &Path) -> Result<Vec<String>, BackupError> {
    let failed = |error| BackupError::List(dir.to_owned(), error);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let plain = entry.file_type().map_err(failed)?.is_file();
        let (Some(name), Ok(parent)) = (
            entry.file_name().to_str().map(str::to_owned),
            dir.strip_prefix(&paths.dir),
        ) else {
            continue;
        };
        if plain && !name.starts_with('.') {
            names.push(format!("{}/{name}", parent.display()));
        }
    }
    names.sort();
    Ok(names)
}

fn key(passphrase: &Secret, params: Params, salt: &[u8]) -> Result<LessSafeKey, BackupError> {
    let mut key = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.reveal().as_bytes(), salt, &mut *key)
        .map_err(|_| BackupError::Cipher)?;
    UnboundKey::new(&AES_256_GCM, &*key)
        .map(LessSafeKey::new)
        .map_err(|_| BackupError::Cipher)
}

/// Encrypts under a key from the passphrase and a fresh salt; such a key seals once.
fn seal(contents: &Contents, passphrase: &Secret) -> Result<Vec<u8>, BackupError> {
    let (memory, passes, lanes) = limits::BACKUP_COST;
    let params = Params::new(memory, passes, lanes, Some(32)).map_err(|_| BackupError::Cipher)?;
    let (salt, nonce) = (secrets::random::<SALT>()?, secrets::random::<NONCE>()?);
    let mut header = MAGIC.to_vec();
    for number in [memory, passes, lanes] {
        header.extend_from_slice(&number.to_le_bytes());
    }
    header.extend_from_slice(&salt);
    header.extend_from_slice(&nonce);

    let index =
        serde_json::to_vec(&contents.index).map_err(|error| BackupError::Malformed(error.to_string()))?;
    let length = u32::try_from(index.len()).map_err(|_| BackupError::TooLarge)?;
    let bytes: usize = contents.files.iter().map(|(_, bytes)| bytes.len()).sum();
    // Reserved at once: a vector that grows would leave copies of keys behind.
    let mut body = Zeroizing::new(Vec::with_capacity(
        4 + index.len() + bytes + AES_256_GCM.tag_len(),
    ));
    body.extend_from_slice(&length.to_le_bytes());
    body.extend_from_slice(&index);
    for (_, bytes) in &contents.files {
        body.extend_from_slice(bytes);
    }
    let tag = key(passphrase, params, &salt)?
        .seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(&header),
            body.as_mut_slice(),
        )
        .map_err(|_| BackupError::Cipher)?;
    let mut sealed = header;
    sealed.extend_from_slice(&body);
    sealed.extend_from_slice(tag.as_ref());
    Ok(sealed)
}

/// Decrypts and reads a backup.
///
/// # Errors
/// [`BackupError`]; a wrong passphrase and a damaged file are [`BackupError::Wrong`].
pub(crate) fn open(sealed: &[u8], passphrase: &Secret) -> Result<Contents, BackupError> {
    let (header, body) = sealed.split_at_checked(HEADER).ok_or(BackupError::Foreign)?;
    let facts = header.strip_prefix(MAGIC).ok_or(BackupError::Foreign)?;
    let (numbers, rest) = facts.split_at(12);
    let (salt, nonce) = rest.split_at(SALT);
    let mut cost = numbers
        .as_chunks::<4>()
        .0
        .iter()
        .map(|bytes| u32::from_le_bytes(*bytes));
    let mut next = || cost.next().unwrap_or(0);
    let (memory, passes, lanes) = (next(), next(), next());
    let most = limits::BACKUP_COST_MAX;
    if memory > most.0 || passes > most.1 || lanes > most.2 {
        return Err(BackupError::Costly);
    }
    let params = Params::new(memory, passes, lanes, Some(32)).map_err(|_| BackupError::Costly)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| BackupError::Foreign)?;
    let mut body = Zeroizing::new(body.to_vec());
    let clear = key(passphrase, params, salt)?
        .open_in_place(nonce, Aad::from(header), body.as_mut_slice())
        .map_err(|_| BackupError::Wrong)?;
    read(clear)
}

fn read(clear: &[u8]) -> Result<Contents, BackupError> {
    let short = || BackupError::Malformed("it is cut off".to_owned());
    let (length, rest) = clear.split_first_chunk::<4>().ok_or_else(short)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| short())?;
    let (index, mut rest) = rest.split_at_checked(length).ok_or_else(short)?;
    let index: Index =
        serde_json::from_slice(index).map_err(|error| BackupError::Malformed(error.to_string()))?;
    let mut files = Vec::with_capacity(index.files.len());
    for entry in &index.files {
        if !is_ours(&entry.path) {
            return Err(BackupError::Malformed(format!(
                "{:?} does not belong there",
                entry.path
            )));
        }
        let length = usize::try_from(entry.length).map_err(|_| short())?;
        let (bytes, after) = rest.split_at_checked(length).ok_or_else(short)?;
        files.push((entry.path.clone(), Zeroizing::new(bytes.to_vec())));
        rest = after;
    }
    Ok(Contents { index, files })
}

/// Only paths that this program writes are restored.
fn is_ours(path: &str) -> bool {
    let below = |folder: &str| {
        path.strip_prefix(folder)
            .is_some_and(|name| name.parse::<Name>().is_ok())
    };
    SITE_FILES.contains(&path)
        || ["state/pepper", "state/manager.db"].contains(&path)
        || below("state/trust/")
        || below("state/roots/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(path: &str) -> Contents {
        let bytes = b"site = 'plant'\n".to_vec();
        Contents {
            index: Index {
                site: "plant".parse().unwrap(),
                name: "gateway".parse().unwrap(),
                made: UnixTime(1_800_000_000),
                files: vec![Entry {
                    path: path.to_owned(),
                    length: bytes.len() as u64,
                }],
            },
            files: vec![(path.to_owned(), Zeroizing::new(bytes))],
        }
    }

    fn passphrase(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    #[test]
    fn a_backup_opens_under_its_passphrase_only_and_no_byte_can_be_changed() {
        let right = passphrase("correct horse battery");
        let sealed = seal(&contents("manager.toml"), &right).unwrap();
        assert!(!sealed.windows(5).any(|window| window == b"plant"));
        let opened = open(&sealed, &right).unwrap();
        assert_eq!(opened.index, contents("manager.toml").index);
        assert_eq!(opened.files[0].1.as_slice(), b"site = 'plant'\n");
        let wrong = open(&sealed, &passphrase("correct horse batterz"));
        assert!(matches!(wrong, Err(BackupError::Wrong)));
        for place in [HEADER - 1, HEADER, sealed.len() - 1] {
            let mut changed = sealed.clone();
            changed[place] ^= 1;
            assert!(
                matches!(open(&changed, &right), Err(BackupError::Wrong)),
                "{place}"
            );
        }
    }

    #[test]
    fn a_backup_replaces_nothing_but_an_older_backup() {
        let dir = tempfile::tempdir().unwrap();
        let at = |file: &str| dir.path().join(file);
        assert!(check_place(&at("new")).is_ok());
        for (file, bytes) in [
            ("ca.pem", &b"-----BEGIN CERTIFICATE-----"[..]),
            ("short", b"drover"),
            ("empty", b""),
        ] {
            std::fs::write(at(file), bytes).unwrap();
            let error = check_place(&at(file)).unwrap_err();
            assert!(matches!(error, BackupError::Occupied(_)), "{file}: {error}");
        }
        let sealed = seal(&contents("manager.toml"), &passphrase("correct horse battery")).unwrap();
        std::fs::write(at("older"), sealed).unwrap();
        assert!(check_place(&at("older")).is_ok());
        std::os::unix::fs::symlink(at("older"), at("link")).unwrap();
        for other in [at("link"), dir.path().to_owned()] {
            assert!(
                matches!(check_place(&other), Err(BackupError::Occupied(_))),
                "{}",
                other.display()
            );
        }
        assert!(matches!(
            check_place(&at("empty/below")),
            Err(BackupError::Look(..))
        ));
    }

    #[test]
    fn a_header_cannot_ask_for_all_memory() {
        let right = passphrase("correct horse battery");
        let mut sealed = seal(&contents("manager.toml"), &right).unwrap();
        sealed[MAGIC.len() + 3] = 0xff;
        assert!(matches!(open(&sealed, &right), Err(BackupError::Costly)));
        sealed[0] = b'D';
        assert!(matches!(open(&sealed, &right), Err(BackupError::Foreign)));
        assert!(matches!(open(b"", &right), Err(BackupError::Foreign)));
    }

    #[test]
    fn a_path_of_a_backup_cannot_leave_the_folder() {
        let right = passphrase("correct horse battery");
        for path in ["../x", "/etc/passwd", "state/trust/../../x", "state/mirror/x"] {
            let sealed = seal(&contents(path), &right).unwrap();
            let error = open(&sealed, &right).unwrap_err();
            assert!(error.to_string().contains("does not belong"), "{path}: {error}");
        }
    }
}
