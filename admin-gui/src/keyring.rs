//! A person's key files: `NAME.pem`, the encrypted private half that stays, and `NAME.pub`, the public half that
//! travels: the key object of the metadata, as JSON.

use std::path::{Path, PathBuf};

use protocol::Name;
use serde_json::Value;
use tuf::schema::RoleKeys;
use tuf::{KeyId, PublicKey, Signer as _};

use crate::config::Folder;
use crate::limits::{KEYS_IN_A_FOLDER, PUBLIC_KEY_BYTES, SHORT_KEY};
use crate::passphrase::Passphrase;
use crate::signing::{AuthorKey, KeyError, KeyType, seal};

/// A key whose two halves lie in one folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFile {
    /// The private half.
    pub path: PathBuf,
    /// Its name: that of the file without its ending.
    pub name: String,
    /// The public half.
    pub public: PublicKey,
}

/// Why a public half cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PublicFileError {
    /// Not there, not readable.
    #[error("cannot read the public half of a key")]
    File(#[source] durable::Error),
    /// Not a key.
    #[error("{} is not the public half of a key (NAME.pub, as `new-key` makes it)", path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file name that is no label.
    #[error("{} does not say whose key it is: name it NAME.pub", path.display())]
    Name {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: protocol::NameError,
    },
}

/// Why a key was not made.
#[derive(Debug, thiserror::Error)]
pub enum NewKeyError {
    /// Something of that name is there.
    #[error("{} is there already: choose another name, nothing was changed", .0.display())]
    Exists(PathBuf),
    /// The passphrase is too weak.
    #[error("this passphrase cannot protect a key")]
    Passphrase(#[from] crate::passphrase::PassphraseError),
    /// The key itself.
    #[error("cannot make the key: nothing was changed")]
    Key(#[from] KeyError),
    /// The disk refused.
    #[error("cannot keep the key")]
    Disk(#[from] durable::Error),
}

/// The beginning of a key id by which people tell keys apart.
#[must_use]
pub fn short(id: KeyId) -> String {
    id.to_string().chars().take(SHORT_KEY).collect()
}

/// Makes a key in `dir`.
///
/// # Errors
/// [`NewKeyError`]; files that are there are never replaced.
pub fn make(dir: &Path, name: &Name, kind: KeyType, passphrase: &Passphrase) -> Result<KeyFile, NewKeyError> {
    passphrase.check_new()?;
    let (path, public) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.pub")));
    if let Some(there) = [&path, &public].into_iter().find(|path| path.exists()) {
        return Err(NewKeyError::Exists(there.clone()));
    }
    let (key, pkcs8) = AuthorKey::generate(kind)?;
    durable::replace(&path, seal(&pkcs8, passphrase)?.as_bytes(), 0o600)?;
    write_public(&public, &key.public_key())?;
    Ok(KeyFile {
        path,
        name: name.to_string(),
        public: key.public_key(),
    })
}

/// Writes a public half.
///
/// # Errors
/// Those of the disk.
pub fn write_public(path: &Path, key: &PublicKey) -> Result<(), durable::Error> {
    // A JSON value: this cannot fail; an empty file would be refused by its reader.
    let text = serde_json::to_vec_pretty(key.object()).unwrap_or_default();
    durable::replace(path, text, 0o644)
}

/// Reads a public half: whose it is, by the file's name, and the key.
///
/// # Errors
/// [`PublicFileError`].
pub fn read_public(path: &Path) -> Result<(Name, PublicKey), PublicFileError> {
    let bytes = durable::read_limited(path, PUBLIC_KEY_BYTES).map_err(PublicFileError::File)?;
    let not = |source: Box<dyn std::error::Error + Send + Sync>| PublicFileError::NotAKey {
        path: path.to_owned(),
        source,
    };
    let object: Value = serde_json::from_slice(&bytes).map_err(|error| not(error.into()))?;
    let key = PublicKey::from_object(object).map_err(|error| not(error.into()))?;
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let name = stem.parse().map_err(|source| PublicFileError::Name {
        path: path.to_owned(),
        source,
    })?;
    Ok((name, key))
}

/// The keys of a folder, by name. What cannot be read is passed over: it is no key that could sign.
#[must_use]
pub fn keys_in(dir: &Path) -> Vec<KeyFile> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut found: Vec<KeyFile> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|ending| ending == "pub"))
        .take(KEYS_IN_A_FOLDER)
        .filter_map(|public| {
            let path = public.with_extension("pem");
            let (name, key) = read_public(&public).ok().filter(|_| path.exists())?;
            Some(KeyFile {
                path,
                name: name.to_string(),
                public: key,
            })
        })
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

impl Folder {
    /// The keys of this folder that `role` names.
    #[must_use]
    pub fn keys_for(&self, role: &RoleKeys) -> Vec<KeyFile> {
        let mut keys = keys_in(&self.dir);
        keys.retain(|key| role.keyids.contains(&key.public.id()));
        keys
    }

    /// The file of the key that signs for `role`: the one that it names, or else `usual`, as sites had it before public
    /// halves lay beside the keys.
    #[must_use]
    pub fn key_for(&self, role: &RoleKeys, usual: PathBuf) -> PathBuf {
        self.keys_for(role)
            .into_iter()
            .next()
            .map_or(usual, |key| key.path)
    }

    /// Where several must sign: the keys beside `first` that the same passphrase opens, as many as `role` needs.
    ///
    /// # Errors
    /// A file that cannot be used; one under another passphrase is passed over.
    pub fn others_for(
        &self,
        role: &RoleKeys,
        first: &Path,
        passphrase: &Passphrase,
    ) -> Result<Vec<AuthorKey>, KeyError> {
        let more = role.threshold.get() as usize - 1;
        let mut found = Vec::new();
        for file in self.keys_for(role) {
            if found.len() == more {
                break;
            }
            if file.path == first {
                continue;
            }
            match AuthorKey::open(&file.path, passphrase) {
                Ok(key) => found.push(key),
                // Somebody else's, perhaps: `admin-gui sign --key` asks for it.
                Err(KeyError::WrongPassphrase(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passphrase() -> Passphrase {
        Passphrase::new("correct horse battery staple").unwrap()
    }

    #[test]
    fn a_key_is_found_by_its_public_half_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let name = "ada".parse().unwrap();
        let made = make(folder.path(), &name, KeyType::Ed25519, &passphrase()).unwrap();
        assert_eq!(keys_in(folder.path()), std::slice::from_ref(&made));
        let opened = AuthorKey::open(&made.path, &passphrase()).unwrap();
        assert_eq!(opened.public_key(), made.public);
        assert!(matches!(
            make(folder.path(), &name, KeyType::Ed25519, &passphrase()),
            Err(NewKeyError::Exists(_))
        ));
        let again = AuthorKey::open(&made.path, &passphrase()).unwrap();
        assert_eq!(again.public_key(), made.public);
    }

    #[test]
    fn what_is_no_public_half_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ada.pub");
        std::fs::write(&path, "{}").unwrap();
        assert!(matches!(read_public(&path), Err(PublicFileError::NotAKey { .. })));
        let short = make(
            folder.path(),
            &"eva".parse().unwrap(),
            KeyType::Ed25519,
            &Passphrase::new("short").unwrap(),
        );
        assert!(matches!(short, Err(NewKeyError::Passphrase(_))), "{short:?}");
        assert!(!folder.path().join("eva.pem").exists());
    }
}
