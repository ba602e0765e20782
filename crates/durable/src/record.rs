//! One value in one file, checked and versioned.
//!
//! A record is either what was last saved or an error; a torn, emptied, swapped or edited file
//! never looks like a value, and never like "nothing saved yet".
//!
//! ```text
//! drover-record KIND VERSION SHA256\n
//! BODY
//! ```
//! The digest covers `KIND VERSION\n` and the body, so a record of one kind cannot be renamed
//! into the place of another.

use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tuf::Digest;

use crate::error::Error;
use crate::files::Files;
use crate::hash::Hasher;
use crate::limits;

const MAGIC: &str = "drover-record";

/// A file that holds a `T` as JSON.
#[derive(Debug, Clone)]
pub struct Record<T> {
    files: Files,
    path: PathBuf,
    kind: &'static str,
    version: u32,
    holds: PhantomData<fn(T) -> T>,
}

/// Why a record could not be loaded or saved.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file is there but is not what was saved.
    #[error("{} is damaged ({why}): restore it from a copy, or see the program's manual on lost state", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Which check found it.
        why: Damage,
    },
    /// Written by a newer (or too old) program.
    #[error("{} has format {found}, this program reads {expected}: use the program that wrote it", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The file's format.
        found: u32,
        /// Ours.
        expected: u32,
    },
    /// The value has no JSON form.
    #[error("the value for {} has no JSON form", path.display())]
    Encode {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The disk refused.
    #[error(transparent)]
    Io(#[from] Error),
}

/// Which check a damaged record failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// No or a malformed first line; an empty file.
    #[error("no header")]
    Header,
    /// A record of another kind.
    #[error("another kind of record")]
    Kind,
    /// The digest does not match.
    #[error("wrong checksum")]
    Checksum,
    /// The checksum matches, but the body is not a value of this kind.
    #[error("wrong content")]
    Content,
    /// Larger than any record.
    #[error("too large")]
    Size,
}

impl<T: Serialize + DeserializeOwned> Record<T> {
    /// The record at `path`. `kind` is one word; `version` is raised when the meaning of the
    /// JSON changes.
    pub fn new(path: impl Into<PathBuf>, kind: &'static str, version: u32) -> Self {
        Self::on(Files::real(), path, kind, version)
    }

    /// [`Self::new`] on a disk of the caller's choice.
    pub fn on(files: Files, path: impl Into<PathBuf>, kind: &'static str, version: u32) -> Self {
        Self {
            files,
            path: path.into(),
            kind,
            version,
            holds: PhantomData,
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was last saved; `None` if nothing ever was.
    ///
    /// # Errors
    /// [`RecordError::Damaged`], [`RecordError::Version`]; those of the disk.
    pub fn load(&self) -> Result<Option<T>, RecordError> {
        let Some(body) = load_sealed(&self.files, &self.path, self.kind, self.version)? else {
            return Ok(None);
        };
        let damaged = |_| RecordError::Damaged {
            path: self.path.clone(),
            why: Damage::Content,
        };
        serde_json::from_slice(&body).map(Some).map_err(damaged)
    }

    /// Replaces the saved value, durable on return; mode 0600, two flushes.
    ///
    /// # Errors
    /// Those of the disk; the old value is then still the saved one.
    pub fn save(&self, value: &T) -> Result<(), RecordError> {
        let mut body = serde_json::to_vec_pretty(value).map_err(|source| RecordError::Encode {
            path: self.path.clone(),
            source,
        })?;
        body.push(b'\n');
        let bytes = seal(self.kind, self.version, &body);
        Ok(self.files.replace(&self.path, &bytes, 0o600)?)
    }

    /// Forgets the value: [`Self::load`] says `None` from now on.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn remove(&self) -> Result<bool, RecordError> {
        Ok(self.files.remove_file(&self.path)?)
    }
}

/// The bytes of a record file around any body.
pub(crate) fn seal(kind: &str, version: u32, body: &[u8]) -> Vec<u8> {
    let digest = checksum(kind, version, body);
    let mut bytes = format!("{MAGIC} {kind} {version} {digest}\n").into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// The body of a record file; `None` if there is no file.
pub(crate) fn load_sealed(
    files: &Files,
    path: &Path,
    kind: &str,
    version: u32,
) -> Result<Option<Vec<u8>>, RecordError> {
    let damaged = |why| RecordError::Damaged {
        path: path.to_owned(),
        why,
    };
    let mut bytes = match files.read_limited(path, limits::RECORD_BYTES) {
        Ok(bytes) => bytes,
        Err(e) if e.is_missing() => return Ok(None),
        Err(Error::TooLarge { .. }) => return Err(damaged(Damage::Size)),
        Err(e) => return Err(e.into()),
    };
    let header = parse_header(&bytes).ok_or_else(|| damaged(Damage::Header))?;
    if header.kind != kind {
        return Err(damaged(Damage::Kind));
    }
    let body = bytes.get(header.length..).unwrap_or_default();
    if checksum(kind, header.version, body) != header.digest {
        return Err(damaged(Damage::Checksum));
    }
    if header.version != version {
        return Err(RecordError::Version {
            path: path.to_owned(),
            found: header.version,
            expected: version,
        });
    }
    let length = header.length;
    bytes.drain(..length);
    Ok(Some(bytes))
}

struct Header {
    kind: String,
    version: u32,
    digest: Digest,
    /// Bytes up to and with the line feed.
    length: usize,
}

fn parse_header(bytes: &[u8]) -> Option<Header> {
    let head = bytes.get(..bytes.len().min(limits::RECORD_HEADER_BYTES))?;
    let end = head.iter().position(|byte| *byte == b'\n')?;
    let line = std::str::from_utf8(head.get(..end)?).ok()?;
    let mut words = line.split(' ');
    if words.next()? != MAGIC {
        return None;
    }
    let kind = words.next()?.to_owned();
    let version = words.next()?;
    let parsed: u32 = version.parse().ok()?;
    let digest = words.next()?.parse().ok()?;
    // One spelling only, so that every changed byte is noticed.
    let canonical = words.next().is_none() && parsed.to_string() == version;
    canonical.then_some(Header {
        kind,
        version: parsed,
        digest,
        length: end + 1,
    })
}

fn checksum(kind: &str, version: u32, body: &[u8]) -> Digest {
    let mut hasher = Hasher::new();
    hasher.update(format!("{kind} {version}\n").as_bytes());
    hasher.update(body);
    hasher.finish()
}
