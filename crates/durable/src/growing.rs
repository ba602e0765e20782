//! A file of the caller's own format that only grows, and the lock of a folder.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::error::Error;
use crate::files::Files;

/// A file that only grows: a journal. What belongs together is one [`Growing::append`]; the reader must know by itself
/// (a length, a checksum) where a last piece was torn by a cut.
#[derive(Debug)]
pub struct Growing {
    files: Files,
    path: PathBuf,
    file: File,
    length: u64,
}

impl Growing {
    /// Opens `path` to go on at its end; creates it with `mode`. The name of a created file is not flushed: make it
    /// with [`Files::replace`] where that matters.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn open(files: Files, path: &Path, mode: u32) -> Result<Self, Error> {
        let opened = files.disk().open_append(path, mode);
        let opened = opened.and_then(|file| file.metadata().map(|found| (file, found.len())));
        let (file, length) = opened.map_err(|e| Error::io("open", path, e))?;
        Ok(Self {
            files,
            path: path.to_owned(),
            file,
            length,
        })
    }

    /// Adds `bytes`; when this returns they are on the disk. One flush.
    ///
    /// # Errors
    /// Those of the disk. Some of the bytes may then be there: nothing may be added any more, or a later reader
    /// finds a torn piece in the middle.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.files.write_all(&self.file, &self.path, bytes)?;
        let flushed = self.files.disk().sync_data(&self.file);
        flushed.map_err(|e| Error::io("flush", &self.path, e))?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Its length in bytes, as far as this process knows.
    pub fn length(&self) -> u64 {
        self.length
    }
}

impl Files {
    /// Locks the file `path`, made if there is none, for as long as the descriptor, or one that was made from it, is
    /// open in any process; `None` if somebody else has it.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn lock(&self, path: &Path) -> Result<Option<File>, Error> {
        let failed = |e| Error::io("lock", path, e);
        let file = self.disk().open_append(path, 0o600).map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(failed(errno.into())),
        }
    }
}
