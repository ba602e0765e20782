//! Reading what a person chose: once, to its end, with its digest and how it looked.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use durable::Hasher;
use tuf::Digest;

use crate::draft::DraftError;
use crate::limits::{CHUNK, HEAD_BYTES};
use crate::progress::{Progress, Sink};
use crate::stop::Stop;

/// How a file looked when it was hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    device: u64,
    inode: u64,
    pub(crate) length: u64,
    changed: (i64, i64),
}

impl Seen {
    pub(crate) fn of(meta: &Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            length: meta.len(),
            changed: (meta.mtime(), meta.mtime_nsec()),
        }
    }

    /// Nothing that exists looks like this.
    pub(crate) fn nothing() -> Self {
        Self {
            device: 0,
            inode: 0,
            length: 0,
            changed: (0, 0),
        }
    }
}

/// A file that was read.
pub(crate) struct Hashed {
    pub(crate) head: Vec<u8>,
    pub(crate) digest: Digest,
    pub(crate) seen: Seen,
}

impl Hashed {
    /// Its first bytes and how it looks, without a digest.
    pub(crate) fn unread(path: &Path) -> Result<Self, DraftError> {
        let failed = |source| DraftError::read(path, source);
        let meta = std::fs::metadata(path).map_err(failed)?;
        Ok(Self {
            head: read_head(path).map_err(failed)?,
            digest: Digest::of(b""),
            seen: Seen::of(&meta),
        })
    }
}

/// Reads a file once: its digest, its first bytes, and how it looked.
pub(crate) fn hash(path: &Path, sink: &Sink, stop: &Stop) -> Result<Hashed, DraftError> {
    let failed = |source| DraftError::read(path, source);
    let mut file = File::open(path).map_err(failed)?;
    let seen = Seen::of(&file.metadata().map_err(failed)?);
    let mut hasher = Hasher::new();
    let mut head = Vec::new();
    let mut buffer = vec![0; CHUNK];
    loop {
        stop.check()?;
        let count = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(error)),
        };
        let bytes = buffer.get(..count).unwrap_or_default();
        if head.len() < HEAD_BYTES {
            head.extend(bytes.iter().take(HEAD_BYTES - head.len()));
        }
        hasher.update(bytes);
        sink(&Progress::Reading {
            done: hasher.length(),
            total: seen.length,
        });
    }
    // By its name, not by the open file: one that has vanished or was replaced meanwhile is not what was read.
    let after = Seen::of(&std::fs::metadata(path).map_err(failed)?);
    if after != seen || hasher.length() != seen.length {
        return Err(DraftError::Changed(path.to_owned()));
    }
    Ok(Hashed {
        head,
        digest: hasher.finish(),
        seen,
    })
}

/// The first bytes of a file.
pub(crate) fn read_head(path: &Path) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    File::open(path)?.take(HEAD_BYTES as u64).read_to_end(&mut head)?;
    Ok(head)
}

/// A reader that a person can end.
pub(crate) struct Stoppable<'a, R> {
    pub(crate) inner: R,
    pub(crate) stop: &'a Stop,
}

impl<R: Read> Read for Stoppable<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stop.check().map_err(io::Error::other)?;
        self.inner.read(buffer)
    }
}
