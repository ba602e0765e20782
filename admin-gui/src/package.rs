//! Folders as packages: packed into `drafts/` or into a file.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use durable::{Disk as _, Hasher, Store, StoreError};
use tuf::Digest;

use crate::draft::DraftError;
use crate::limits::DRAFTS;
use crate::progress::{Progress, Sink};
use crate::stop::Stop;

/// Packs again, into the store; the store refuses if the folder has changed meanwhile.
pub(crate) fn keep(
    folder: &Path,
    digest: Digest,
    length: u64,
    drafts: &Path,
    stop: &Stop,
) -> Result<PathBuf, DraftError> {
    let store = Store::open(drafts)?;
    if store.has(&digest) == Some(length) {
        return Ok(store.path(&digest));
    }
    forget_old(&store)?;
    let changed = || DraftError::Changed(folder.to_owned());
    let mut incoming = store.begin(digest, length)?;
    incoming.restart()?;
    let mut failed = None;
    let packed = release::pack(
        folder,
        Kept {
            incoming: &mut incoming,
            failed: &mut failed,
            stop,
        },
    );
    stop.check()?;
    let kept = match failed {
        Some(error) => Err(error),
        None => {
            packed.map_err(|_| changed())?;
            incoming.finish().map(|finished| finished.path)
        }
    };
    kept.map_err(|error| match error {
        StoreError::TooLong { .. } | StoreError::Incomplete { .. } | StoreError::WrongDigest { .. } => {
            changed()
        }
        other => other.into(),
    })
}

/// Packs a folder into a file that does not exist yet: the same bytes that publishing the folder would send.
///
/// # Errors
/// The folder is no package, or the file cannot be written; nothing is left of it then.
pub fn pack(folder: &Path, out: &Path) -> Result<release::Packed, PackFileError> {
    let failed = |source| PackFileError::Write {
        path: out.to_owned(),
        source,
    };
    let file = durable::RealDisk.create_new(out, 0o644).map_err(failed)?;
    let mut writer = io::BufWriter::new(file);
    let packed = release::pack(folder, &mut writer).map_err(PackFileError::from);
    let packed = packed.and_then(|packed| {
        let file = writer.into_inner().map_err(|error| failed(error.into_error()))?;
        file.sync_all().map_err(failed)?;
        Ok(packed)
    });
    if packed.is_err() {
        // The first error is the one to tell.
        let _ = durable::remove_file(out);
    }
    packed
}

/// Why a folder was not packed into a file.
#[derive(Debug, thiserror::Error)]
pub enum PackFileError {
    /// The file.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The folder.
    #[error("the folder cannot be packed")]
    Folder(#[from] release::PackError),
}

/// Keeps the drafts folder small: packing again costs seconds, a full disk costs an afternoon.
fn forget_old(store: &Store) -> Result<(), DraftError> {
    let mut found: Vec<_> = store.list()?.into_iter().map(|stored| stored.digest).collect();
    found.sort_by_key(|digest| {
        std::fs::metadata(store.path(digest))
            .and_then(|meta| meta.modified())
            .ok()
    });
    let too_many = (found.len() + 1).saturating_sub(DRAFTS);
    for digest in found.iter().take(too_many) {
        store.remove(digest)?;
    }
    Ok(())
}

/// Hashes and counts what is written to it, tells how far it is, and ends when it is told to.
pub(crate) struct Counted<'a> {
    pub(crate) hasher: Hasher,
    sink: &'a Sink,
    stop: &'a Stop,
    total: u64,
}

impl<'a> Counted<'a> {
    pub(crate) fn new(folder: &Path, sink: &'a Sink, stop: &'a Stop) -> Self {
        let mut entries = release::UnpackLimits::default().entries;
        Self {
            hasher: Hasher::new(),
            sink,
            stop,
            total: bytes_in(folder, &mut entries),
        }
    }
}

/// About how many bytes lie in a folder, for a bar: what cannot be read shows when it is packed.
fn bytes_in(folder: &Path, entries: &mut usize) -> u64 {
    let mut sum = 0;
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        *entries = entries.saturating_sub(1);
        if *entries == 0 {
            break;
        }
        sum += match entry.metadata() {
            Ok(meta) if meta.is_dir() => bytes_in(&entry.path(), entries),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        };
    }
    sum
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stop.check().map_err(io::Error::other)?;
        self.hasher.update(bytes);
        let done = self.hasher.length();
        (self.sink)(&Progress::Reading {
            done,
            total: self.total.max(done),
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes into the store and remembers the store's own error, which says more than an `io::Error`.
struct Kept<'a> {
    incoming: &'a mut durable::Incoming,
    failed: &'a mut Option<StoreError>,
    stop: &'a Stop,
}

impl Write for Kept<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stop.check().map_err(io::Error::other)?;
        match self.incoming.write(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(error) => {
                *self.failed = Some(error);
                Err(io::Error::other("the drafts folder refused"))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
