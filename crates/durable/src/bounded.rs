//! A file that something is appended to without end: when it is full it is set aside, over the one before.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::files::{Files, is_still_at};

/// The newest bytes of what is written: at most `max` in `NAME`, and the `max` before them in `NAME.1`.
///
/// Nothing is flushed: what a program writes may be lost in a power cut, and must not cost a flush. A file that was
/// removed, cut or set aside by somebody else is no error: the next bytes begin a new one.
#[derive(Debug)]
pub struct Bounded {
    files: Files,
    path: PathBuf,
    max: u64,
    mode: u32,
    open: Option<File>,
}

impl Bounded {
    /// Appends to `path`, made with `mode` when there is something to write.
    pub fn new(files: Files, path: impl Into<PathBuf>, max: u64, mode: u32) -> Self {
        Self {
            files,
            path: path.into(),
            max: max.max(1),
            mode,
            open: None,
        }
    }

    /// Where the bytes before the newest lie.
    pub fn older(path: &Path) -> PathBuf {
        let mut name = path.as_os_str().to_owned();
        name.push(".1");
        PathBuf::from(name)
    }

    /// Appends, whatever it takes of new files.
    ///
    /// # Errors
    /// Those of the disk; some of `bytes` may be there, and the next call begins with the file anew.
    pub fn append(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let done = self.append_some(bytes).inspect_err(|_| self.open = None)?;
            bytes = bytes.get(done..).unwrap_or_default();
        }
        Ok(())
    }

    fn append_some(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        let disk = self.files.disk();
        let file = match self.open.take() {
            Some(file) => file,
            None => disk
                .open_append(&self.path, self.mode)
                .map_err(|e| Error::io("open", &self.path, e))?,
        };
        // Asked each time: another writer may append to the same file.
        let length = file
            .metadata()
            .map_err(|e| Error::io("look at", &self.path, e))?
            .len();
        let room = usize::try_from(self.max.saturating_sub(length)).unwrap_or(usize::MAX);
        if room == 0 {
            return self.set_aside(&file).map(|()| 0);
        }
        let piece = bytes.get(..room).unwrap_or(bytes);
        let done = match disk.write(&file, piece) {
            Ok(0) => return Err(Error::io("write", &self.path, io::ErrorKind::WriteZero.into())),
            Ok(done) => done,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => 0,
            Err(e) => return Err(Error::io("write", &self.path, e)),
        };
        self.open = Some(file);
        Ok(done)
    }

    /// Without a flush: after a power cut the old name may be back, with no more bytes than it had.
    fn set_aside(&self, full: &File) -> Result<(), Error> {
        if !is_still_at(full, &self.path) {
            return Ok(());
        }
        match self.files.disk().rename(&self.path, &Self::older(&self.path)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            renamed => renamed.map_err(|e| Error::io("rename", &self.path, e)),
        }
    }
}
