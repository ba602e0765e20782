//! Files named by their SHA-256.
//!
//! No name from outside reaches the disk. A file is in the store only whole, verified and
//! flushed. Receiving one resumes after a break: what has arrived stays in `DIGEST.part` and is
//! hashed again before more is added.
//!
//! ```text
//! DIR/DIGEST              a verified file
//! DIR/DIGEST.part         one on its way, locked by its receiver
//! DIR/quarantine/DIGEST   the last few whose bytes were not what their name says
//! ```

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use tuf::Digest;

use crate::error::Error;
use crate::files::{Files, is_still_at};
use crate::hash::{Hasher, feed, hash_file};
use crate::limits;

/// A folder of verified files.
#[derive(Debug, Clone)]
pub struct Store {
    files: Files,
    dir: PathBuf,
}

/// A file in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Its name and SHA-256.
    pub digest: Digest,
    /// Its length in bytes.
    pub length: u64,
}

/// A file that has just come into the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Its name and SHA-256.
    pub digest: Digest,
    /// Its length in bytes.
    pub length: u64,
    /// Where it lies.
    pub path: PathBuf,
    /// Bytes that were already there when receiving began.
    pub resumed_from: u64,
}

/// What the store refuses.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk refused.
    #[error(transparent)]
    File(#[from] Error),
    /// Already there.
    #[error("{digest} is already in the store")]
    Held {
        /// The file.
        digest: Digest,
    },
    /// Someone else is receiving the same file.
    #[error("{digest} is being received already")]
    Busy {
        /// The file.
        digest: Digest,
    },
    /// More bytes than announced.
    #[error("{digest} is longer than the announced {length} bytes")]
    TooLong {
        /// The file.
        digest: Digest,
        /// The announced length.
        length: u64,
    },
    /// Fewer bytes than announced; what has arrived is kept.
    #[error("{digest} has only {have} of {length} bytes")]
    Incomplete {
        /// The file.
        digest: Digest,
        /// Bytes that have arrived.
        have: u64,
        /// The announced length.
        length: u64,
    },
    /// Not the file that was asked for.
    #[error("expected {expected}, the received bytes are {got}")]
    WrongDigest {
        /// What was asked for.
        expected: Digest,
        /// What has arrived.
        got: Digest,
        /// Bytes kept from an earlier try. If not 0 the fault may be here (a power cut can
        /// damage the end of a part): try once more from the start before blaming the sender.
        resumed_from: u64,
        /// Where the wrong file was put for a person to look at.
        quarantined: Option<PathBuf>,
    },
    /// Not in the store.
    #[error("{digest} is not in the store")]
    Missing {
        /// The file.
        digest: Digest,
    },
    /// In the store, but changed since it was verified.
    #[error("{digest} has been changed on this disk (now {got}): remove it and fetch it again")]
    Damaged {
        /// Its name.
        digest: Digest,
        /// What its bytes hash to.
        got: Digest,
    },
}

impl Store {
    /// Opens the store in `dir`, creating it (mode 0700).
    ///
    /// # Errors
    /// Those of the disk.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, StoreError> {
        Self::open_on(Files::real(), dir)
    }

    /// [`Self::open`] on a disk of the caller's choice.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn open_on(files: Files, dir: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let dir = dir.into();
        files.create_dir(&dir, 0o700)?;
        files.collect_leftovers(&dir)?;
        Ok(Self { files, dir })
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where a file lies or would lie.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(digest.to_string())
    }

    fn part_path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(format!("{digest}.part"))
    }

    /// The length of a file that is in the store.
    pub fn has(&self, digest: &Digest) -> Option<u64> {
        let found = fs::symlink_metadata(self.path(digest)).ok()?;
        found.is_file().then_some(found.len())
    }

    /// Bytes of a file that have arrived and would be kept by [`Self::begin`].
    pub fn arrived(&self, digest: &Digest) -> u64 {
        fs::symlink_metadata(self.part_path(digest)).map_or(0, |found| found.len())
    }

    /// Opens a stored file for reading.
    ///
    /// # Errors
    /// [`StoreError::Missing`]; those of the disk.
    pub fn open_file(&self, digest: &Digest) -> Result<File, StoreError> {
        let path = self.path(digest);
        match self.files.disk().open_read(&path) {
            Ok(file) => Ok(file),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(StoreError::Missing { digest: *digest }),
            Err(e) => Err(Error::io("read", &path, e).into()),
        }
    }

    /// Hashes a stored file again; gives its length.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::Damaged`]; those of the disk.
    pub fn verify(&self, digest: &Digest) -> Result<u64, StoreError> {
        let file = self.open_file(digest)?;
        let (got, length) = hash_file(file).map_err(|e| Error::io("read", &self.path(digest), e))?;
        if got == *digest {
            Ok(length)
        } else {
            Err(StoreError::Damaged { digest: *digest, got })
        }
    }

    /// Removes a file and what has arrived of it; `false` if there was none.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn remove(&self, digest: &Digest) -> Result<bool, StoreError> {
        let whole = self.files.unlink(&self.path(digest))?;
        let part = self.files.unlink(&self.part_path(digest))?;
        if whole || part {
            self.files.sync_parent(&self.path(digest))?;
        }
        Ok(whole || part)
    }

    /// All whole files, in the order of their digests.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn list(&self) -> Result<Vec<Stored>, StoreError> {
        let mut found = Vec::new();
        for (name, length) in self.entries()? {
            if let Ok(digest) = name.parse() {
                found.push(Stored { digest, length });
            }
        }
        found.sort_by_key(|stored| stored.digest);
        Ok(found)
    }

    /// Plain files in the folder with their lengths.
    fn entries(&self) -> Result<Vec<(String, u64)>, Error> {
        let failed = |e| Error::io("list", &self.dir, e);
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            match entry.metadata() {
                Ok(meta) if meta.is_file() => found.push((name, meta.len())),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(failed(e)),
            }
        }
        Ok(found)
    }

    /// Removes every file, and every part nobody is receiving, whose digest is not in `keep`.
    /// Gives the bytes freed.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn collect(&self, keep: &HashSet<Digest>) -> Result<u64, StoreError> {
        let mut freed = 0;
        for (name, length) in self.entries()? {
            let stem = name.strip_suffix(".part").unwrap_or(&name);
            let Ok(digest) = stem.parse::<Digest>() else {
                continue;
            };
            if keep.contains(&digest) {
                continue;
            }
            let path = self.dir.join(&name);
            let in_use = stem.len() != name.len() && is_locked(&path);
            if !in_use && self.files.unlink(&path)? {
                freed += length;
            }
        }
        if freed > 0 {
            self.files.sync_parent(&self.dir.join("_"))?;
        }
        Ok(freed)
    }

    /// Puts bytes that are at hand into the store; nothing happens if they are there. Two flushes.
    ///
    /// # Errors
    /// Those of the disk; [`StoreError::Busy`].
    pub fn put(&self, bytes: &[u8]) -> Result<Stored, StoreError> {
        let stored = Stored {
            digest: Digest::of(bytes),
            length: bytes.len() as u64,
        };
        if self.has(&stored.digest) == Some(stored.length) {
            return Ok(stored);
        }
        let mut incoming = self.begin(stored.digest, stored.length)?;
        incoming.restart()?;
        incoming.write(bytes)?;
        incoming.finish()?;
        Ok(stored)
    }

    /// Starts or resumes receiving the file `digest` of `length` bytes, and reserves the room.
    ///
    /// # Errors
    /// [`StoreError::Held`], [`StoreError::Busy`]; a full disk and other faults of it.
    pub fn begin(&self, digest: Digest, length: u64) -> Result<Incoming, StoreError> {
        let mut part = self.open_part(digest, length)?;
        loop {
            match part.take_up(u64::MAX)? {
                TakenUp::All(incoming) => return Ok(incoming),
                TakenUp::Some(rest) => part = rest,
            }
        }
    }

    /// [`Self::begin`] in steps, for who cannot wait until a large part is hashed: [`Part::take_up`].
    ///
    /// # Errors
    /// [`StoreError::Held`], [`StoreError::Busy`]; those of the disk.
    pub fn open_part(&self, digest: Digest, length: u64) -> Result<Part, StoreError> {
        if self.has(&digest).is_some() {
            return Err(StoreError::Held { digest });
        }
        let path = self.part_path(&digest);
        let file = self.lock_part(&path, digest)?;
        let left = file.metadata().map_err(|e| Error::io("look at", &path, e))?.len();
        let incoming = Incoming {
            store: self.clone(),
            file,
            path,
            digest,
            length,
            hasher: Hasher::new(),
            resumed_from: 0,
        };
        Ok(Part { incoming, left })
    }

    fn lock_part(&self, path: &Path, digest: Digest) -> Result<File, StoreError> {
        for _ in 0..limits::TEMP_TRIES {
            let file = match self.files.disk().create_new(path, 0o600) {
                Ok(file) => file,
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                    match self.files.disk().open_write(path) {
                        Ok(file) => file,
                        Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                        Err(e) => return Err(Error::io("open", path, e).into()),
                    }
                }
                Err(e) => return Err(Error::io("create", path, e).into()),
            };
            match file.try_lock() {
                Ok(()) if is_still_at(&file, path) => return Ok(file),
                Ok(()) => {}
                Err(fs::TryLockError::WouldBlock) => return Err(StoreError::Busy { digest }),
                Err(fs::TryLockError::Error(e)) => return Err(Error::io("lock", path, e).into()),
            }
        }
        Err(Error::Contended {
            path: path.to_owned(),
        }
        .into())
    }

    /// Moves a wrong file aside; keeps the newest [`limits::QUARANTINED_FILES`].
    fn quarantine(&self, part: &Path, digest: &Digest) -> Result<PathBuf, Error> {
        let dir = self.dir.join("quarantine");
        self.files.create_dir(&dir, 0o700)?;
        let to = dir.join(digest.to_string());
        self.files.rename_dir(part, &to)?;
        let failed = |e| Error::io("list", &dir, e);
        let mut found = Vec::new();
        for entry in fs::read_dir(&dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let changed = entry
                .metadata()
                .and_then(|meta| meta.modified())
                .map_err(failed)?;
            found.push((entry.path() == to, changed, entry.path()));
        }
        found.sort();
        let too_many = found.len().saturating_sub(limits::QUARANTINED_FILES);
        for (_, _, path) in found.into_iter().take(too_many) {
            self.files.unlink(&path)?;
        }
        Ok(to)
    }
}

fn is_locked(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| matches!(file.try_lock(), Err(fs::TryLockError::WouldBlock)))
}

/// What an earlier try left of a file, to be hashed before more is added. Dropped, it stays for the next try.
#[derive(Debug)]
pub struct Part {
    incoming: Incoming,
    /// Bytes in the file when it was opened.
    left: u64,
}

/// How far a part is taken up.
#[derive(Debug)]
pub enum TakenUp {
    /// There is more to hash.
    Some(Part),
    /// The next bytes can come.
    All(Incoming),
}

impl Part {
    /// Hashes at most `max` bytes (at least one) more of what is there; starts over if that is more than there can be. At
    /// the end it reserves the room for the rest.
    ///
    /// # Errors
    /// A full disk and other faults of it.
    pub fn take_up(mut self, max: u64) -> Result<TakenUp, StoreError> {
        let incoming = &mut self.incoming;
        if self.left > incoming.length {
            incoming.restart()?;
        } else if self.left > 0 {
            let before = incoming.offset();
            feed((&incoming.file).take(max), &mut incoming.hasher)
                .map_err(|e| Error::io("read", &incoming.path, e))?;
            if incoming.offset() - before == max {
                return Ok(TakenUp::Some(self));
            }
            incoming.resumed_from = incoming.offset();
        }
        let disk = incoming.store.files.disk();
        if let Err(e) = disk.reserve(&incoming.file, incoming.length) {
            if incoming.offset() == 0 {
                incoming.store.files.unlink(&incoming.path)?;
            }
            return Err(Error::io("reserve room for", &incoming.path, e).into());
        }
        Ok(TakenUp::All(self.incoming))
    }
}

/// A file on its way into the store. Dropped, it keeps what has arrived for the next try.
#[derive(Debug)]
pub struct Incoming {
    store: Store,
    file: File,
    path: PathBuf,
    digest: Digest,
    length: u64,
    /// Has taken exactly the bytes that are in the file.
    hasher: Hasher,
    resumed_from: u64,
}

impl Incoming {
    /// Bytes that are here: the next one to fetch.
    pub fn offset(&self) -> u64 {
        self.hasher.length()
    }

    /// The announced length.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// What is being received.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Whether all bytes are here.
    pub fn is_complete(&self) -> bool {
        self.offset() == self.length
    }

    /// Throws away what has arrived and begins again.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn restart(&mut self) -> Result<(), StoreError> {
        let disk = self.store.files.disk();
        disk.truncate(&self.file, 0)
            .map_err(|e| Error::io("empty", &self.path, e))?;
        self.file
            .seek(SeekFrom::Start(0))
            .map_err(|e| Error::io("rewind", &self.path, e))?;
        self.hasher = Hasher::new();
        self.resumed_from = 0;
        Ok(())
    }

    /// Takes the next bytes. After an error [`Self::offset`] still says what is here.
    ///
    /// # Errors
    /// [`StoreError::TooLong`], nothing of `bytes` taken; those of the disk, part of it taken.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), StoreError> {
        if bytes.len() as u64 > self.length.saturating_sub(self.offset()) {
            return Err(StoreError::TooLong {
                digest: self.digest,
                length: self.length,
            });
        }
        while !bytes.is_empty() {
            match self.store.files.disk().write(&self.file, bytes) {
                Ok(0) => return Err(Error::io("write", &self.path, io::ErrorKind::WriteZero.into()).into()),
                Ok(count) => {
                    let (done, rest) = bytes.split_at_checked(count).unwrap_or((bytes, &[]));
                    self.hasher.update(done);
                    bytes = rest;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::io("write", &self.path, e).into()),
            }
        }
        Ok(())
    }

    /// Flushes what has arrived, so that [`Self::finish`] has little left to do. One flush.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn flush(&mut self) -> Result<(), StoreError> {
        let disk = self.store.files.disk();
        disk.sync_file(&self.file)
            .map_err(|e| Error::io("flush", &self.path, e))?;
        Ok(())
    }

    /// Verifies the whole and puts it into the store, durable on return. Two flushes.
    ///
    /// # Errors
    /// [`StoreError::Incomplete`] keeps the part; [`StoreError::WrongDigest`] moves it aside, or
    /// removes it if it was resumed; those of the disk keep the part.
    pub fn finish(self) -> Result<Finished, StoreError> {
        if !self.is_complete() {
            return Err(StoreError::Incomplete {
                digest: self.digest,
                have: self.offset(),
                length: self.length,
            });
        }
        let got = self.hasher.clone().finish();
        if got != self.digest {
            let (expected, resumed_from) = (self.digest, self.resumed_from);
            let quarantined = if resumed_from == 0 {
                Some(self.quarantine()?)
            } else {
                self.abort()?;
                None
            };
            return Err(StoreError::WrongDigest {
                expected,
                got,
                resumed_from,
                quarantined,
            });
        }
        let files = &self.store.files;
        let path = self.store.path(&self.digest);
        files
            .disk()
            .sync_file(&self.file)
            .map_err(|e| Error::io("flush", &self.path, e))?;
        files
            .disk()
            .rename(&self.path, &path)
            .map_err(|e| Error::io("rename", &self.path, e))?;
        files.sync_parent(&path)?;
        Ok(Finished {
            digest: self.digest,
            length: self.length,
            path,
            resumed_from: self.resumed_from,
        })
    }

    /// Gives up and removes what has arrived.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn abort(self) -> Result<(), StoreError> {
        self.store.files.unlink(&self.path)?;
        Ok(())
    }

    /// Moves what has arrived aside, for a person to look at; only the last few are kept.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn quarantine(self) -> Result<PathBuf, StoreError> {
        Ok(self.store.quarantine(&self.path, &self.digest)?)
    }
}
