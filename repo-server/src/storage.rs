//! Where target files are: named by their SHA-256, whole and verified, or not there.
//!
//! A trait, so that an object store can take the place of the disk later.

use std::collections::HashSet;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use durable::{Incoming, Store, StoreError};
use tuf::Digest;

/// A place for target files. Calls block; callers use blocking threads.
pub trait Storage: Send + Sync + std::fmt::Debug {
    /// Length of a file that is here, whole.
    fn length(&self, digest: &Digest) -> Option<u64>;
    /// Bytes of a file that have arrived and would be resumed.
    fn arrived(&self, digest: &Digest) -> u64;
    /// A piece of a file; the range lies within it.
    ///
    /// # Errors
    /// The file is not here; those of the disk.
    fn read(&self, digest: &Digest, range: Range<u64>) -> Result<Box<dyn Read + Send>, StoreError>;
    /// Starts or resumes receiving a file.
    ///
    /// # Errors
    /// [`StoreError::Held`], [`StoreError::Busy`]; those of the disk.
    fn begin(&self, digest: Digest, length: u64) -> Result<Box<dyn Receiving>, StoreError>;
    /// Removes everything but what is in `keep` or being received; says how many bytes that freed.
    ///
    /// # Errors
    /// Those of the disk.
    fn collect(&self, keep: &HashSet<Digest>) -> Result<u64, StoreError>;
}

/// A file on its way in. Dropped, what has arrived stays for the next try.
pub trait Receiving: Send {
    /// Bytes that are here.
    fn offset(&self) -> u64;
    /// The announced length.
    fn length(&self) -> u64;
    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`StoreError::TooLong`]; those of the disk.
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError>;
    /// Checks the whole and makes it part of the store, durable on return.
    ///
    /// # Errors
    /// [`StoreError::Incomplete`], [`StoreError::WrongDigest`]; those of the disk.
    fn finish(self: Box<Self>) -> Result<(), StoreError>;
}

/// Files in a folder, through `durable`.
#[derive(Debug)]
pub struct Folder(Store);

impl Folder {
    /// Opens the folder, creating it; removes what a killed writer left.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        Ok(Self(Store::open(dir)?))
    }
}

impl Storage for Folder {
    fn length(&self, digest: &Digest) -> Option<u64> {
        self.0.has(digest)
    }

    fn arrived(&self, digest: &Digest) -> u64 {
        self.0.arrived(digest)
    }

    fn read(&self, digest: &Digest, range: Range<u64>) -> Result<Box<dyn Read + Send>, StoreError> {
        let mut file = self.0.open_file(digest)?;
        let failed = |source: io::Error| {
            StoreError::File(durable::Error::Io {
                action: "read",
                path: self.0.path(digest),
                source,
            })
        };
        file.seek(SeekFrom::Start(range.start)).map_err(failed)?;
        Ok(Box::new(file.take(range.end.saturating_sub(range.start))))
    }

    fn begin(&self, digest: Digest, length: u64) -> Result<Box<dyn Receiving>, StoreError> {
        Ok(Box::new(self.0.begin(digest, length)?))
    }

    fn collect(&self, keep: &HashSet<Digest>) -> Result<u64, StoreError> {
        self.0.collect(keep)
    }
}

impl Receiving for Incoming {
    fn offset(&self) -> u64 {
        Incoming::offset(self)
    }

    fn length(&self) -> u64 {
        Incoming::length(self)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        Incoming::write(self, bytes)
    }

    fn finish(self: Box<Self>) -> Result<(), StoreError> {
        Incoming::finish(*self).map(drop)
    }
}
