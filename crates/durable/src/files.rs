//! Single steps on files and folders, each durable when it returns.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, RealDisk};
use crate::error::Error;
use crate::limits;

/// The way files are changed, on a disk of the caller's choice.
#[derive(Debug, Clone)]
pub struct Files {
    disk: Arc<dyn Disk>,
}

impl Default for Files {
    fn default() -> Self {
        Self::real()
    }
}

impl Files {
    /// On the machine's own file system.
    pub fn real() -> Self {
        Self {
            disk: Arc::new(RealDisk),
        }
    }

    /// On `disk`; tests pass a [`crate::faulty::Faulty`].
    pub fn on(disk: Arc<dyn Disk>) -> Self {
        Self { disk }
    }

    pub(crate) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    /// Puts `bytes` at `path`, whole or not at all, with the permission bits `mode`.
    ///
    /// Two flushes. Writers of the same path, also from other processes, take turns; a temporary
    /// file left by a killed one is removed by the next.
    ///
    /// # Errors
    /// Those of the disk. The old file is then still there, unless only the last flush of the
    /// folder failed: then the new one is, and a power cut may bring back the old.
    pub fn replace(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
        self.replace_all(&[(path, bytes)], mode)
    }

    /// [`Self::replace`] for several files of one folder: they are renamed in the order given and
    /// share the flush of the folder. Each is whole or untouched; a cut can fall between two.
    ///
    /// # Errors
    /// As for [`Self::replace`]; files named before the one that failed may be new already.
    pub fn replace_all(&self, changes: &[(&Path, &[u8])], mode: u32) -> Result<(), Error> {
        let mut temps = Vec::with_capacity(changes.len());
        for (path, bytes) in changes {
            let temp = Temp::create(self.disk(), path, mode)?;
            temp.fill(bytes)?;
            temps.push(temp);
        }
        for temp in temps {
            temp.rename()?;
        }
        if let Some((path, _)) = changes.first() {
            self.sync_parent(path)?;
        }
        Ok(())
    }

    /// Creates a folder and its missing parents with the permission bits `mode`, whatever the
    /// umask. One flush for each folder made. A folder that exists keeps its bits.
    ///
    /// # Errors
    /// Those of the disk; something else than a folder at `path`.
    pub fn create_dir(&self, path: &Path, mode: u32) -> Result<(), Error> {
        let mut missing = Vec::new();
        let mut at = path;
        loop {
            match fs::metadata(at) {
                Ok(found) if found.is_dir() => break,
                Ok(_) => {
                    return Err(Error::WrongType {
                        path: at.to_owned(),
                        expected: "folder",
                    });
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => missing.push(at),
                Err(e) => return Err(Error::io("look at", at, e)),
            }
            match at.parent() {
                Some(parent) if parent.as_os_str().is_empty() => break,
                Some(parent) => at = parent,
                None => break,
            }
        }
        for dir in missing.into_iter().rev() {
            self.create_one_dir(dir, mode)?;
        }
        Ok(())
    }

    fn create_one_dir(&self, dir: &Path, mode: u32) -> Result<(), Error> {
        match self.disk.create_dir(dir, mode) {
            Ok(()) => {
                let open = self.disk.open_read(dir).map_err(|e| Error::io("open", dir, e))?;
                self.disk
                    .set_mode(&open, mode)
                    .map_err(|e| Error::io("set the mode of", dir, e))?;
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(Error::io("create", dir, e)),
        }
        self.sync_parent(dir)
    }

    /// Removes a file; `false` if there was none. One flush.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn remove_file(&self, path: &Path) -> Result<bool, Error> {
        if !self.unlink(path)? {
            return Ok(false);
        }
        self.sync_parent(path)?;
        Ok(true)
    }

    pub(crate) fn unlink(&self, path: &Path) -> Result<bool, Error> {
        match self.disk.remove_file(path) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(Error::io("remove", path, e)),
        }
    }

    /// Removes a folder with all that is in it; `false` if there was none. One flush.
    ///
    /// The folder disappears at once, under its name, and then piece by piece under a hidden
    /// one: a cut in the middle leaves no half of it. What is left is removed by the next
    /// `remove_tree` of the same name or by [`Self::collect_leftovers`].
    ///
    /// # Errors
    /// Those of the disk; something else than a folder at `path`.
    pub fn remove_tree(&self, path: &Path) -> Result<bool, Error> {
        let hidden = hidden_name(path, REMOVED)?;
        self.delete_tree(&hidden, &hidden, 0)?;
        match fs::symlink_metadata(path) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => {
                return Err(Error::WrongType {
                    path: path.to_owned(),
                    expected: "folder",
                });
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(Error::io("look at", path, e)),
        }
        self.disk
            .rename(path, &hidden)
            .map_err(|e| Error::io("move away", path, e))?;
        self.sync_parent(path)?;
        self.delete_tree(&hidden, &hidden, 0)?;
        Ok(true)
    }

    /// Flushes every file and folder of a tree that was written without flushing.
    ///
    /// The name of the tree itself is not flushed: [`Self::rename_dir`], which puts it in its
    /// place, does that. Links are left alone.
    ///
    /// # Errors
    /// Those of the disk; a tree beyond [`limits::TREE_DEPTH`] or [`limits::TREE_ENTRIES`].
    pub fn sync_tree(&self, path: &Path) -> Result<(), Error> {
        let mut left = limits::TREE_ENTRIES;
        self.sync_subtree(path, 0, &mut left)
    }

    fn sync_subtree(&self, dir: &Path, depth: usize, left: &mut usize) -> Result<(), Error> {
        if depth > limits::TREE_DEPTH {
            return Err(too_deep(dir));
        }
        for entry in fs::read_dir(dir).map_err(|e| Error::io("list", dir, e))? {
            let entry = entry.map_err(|e| Error::io("list", dir, e))?;
            let path = entry.path();
            *left = left.checked_sub(1).ok_or_else(|| Error::TreeTooLarge {
                path: dir.to_owned(),
                max: limits::TREE_ENTRIES,
                what: "entries",
            })?;
            let kind = entry.file_type().map_err(|e| Error::io("look at", &path, e))?;
            if kind.is_dir() {
                self.sync_subtree(&path, depth + 1, left)?;
            } else if kind.is_file() {
                let file = self
                    .disk
                    .open_read(&path)
                    .map_err(|e| Error::io("open", &path, e))?;
                self.disk
                    .sync_file(&file)
                    .map_err(|e| Error::io("flush", &path, e))?;
            }
        }
        self.disk.sync_dir(dir).map_err(|e| Error::io("flush", dir, e))
    }

    /// Renames a folder or file. One flush, two when the parents differ. An existing folder at
    /// `to` is replaced only when it is empty.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn rename_dir(&self, from: &Path, to: &Path) -> Result<(), Error> {
        self.disk
            .rename(from, to)
            .map_err(|e| Error::io("rename", from, e))?;
        self.sync_parent(to)?;
        if parent(from) != parent(to) {
            self.sync_parent(from)?;
        }
        Ok(())
    }

    /// Puts a file under a second name that is free: as a link, so that it lies on the disk once, or as a copy where
    /// there are no links. Nothing is flushed: [`Self::sync_tree`] does, once all is in place.
    ///
    /// # Errors
    /// Those of the disk; what was copied then is for the caller to remove.
    pub fn link_or_copy(&self, from: &Path, to: &Path, mode: u32) -> Result<(), Error> {
        let at = |action: &'static str, path: &Path| {
            let path = path.to_owned();
            move |e| Error::io(action, &path, e)
        };
        if self.disk.link(from, to).is_ok() {
            let file = self.disk.open_read(to).map_err(at("open", to))?;
            return self.disk.set_mode(&file, mode).map_err(at("set the mode of", to));
        }
        let mut source = self.disk.open_read(from).map_err(at("open", from))?;
        let copy = self.disk.create_new(to, mode).map_err(at("create", to))?;
        self.disk
            .set_mode(&copy, mode)
            .map_err(at("set the mode of", to))?;
        let mut buffer = vec![0; limits::READ_BUFFER_BYTES];
        loop {
            match source.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => write_all(&*self.disk, &copy, to, buffer.get(..count).unwrap_or_default())?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::io("read", from, e)),
            }
        }
    }

    /// Removes what killed writers left in `dir`: temporary files nobody holds, half-removed
    /// trees. Says how many. Call it when a program starts to own a folder.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn collect_leftovers(&self, dir: &Path) -> Result<usize, Error> {
        let mut count = 0;
        for entry in fs::read_dir(dir).map_err(|e| Error::io("list", dir, e))? {
            let entry = entry.map_err(|e| Error::io("list", dir, e))?;
            let path = entry.path();
            let kind = entry.file_type().map_err(|e| Error::io("look at", &path, e))?;
            let name = entry.file_name();
            if kind.is_file() && is_hidden(&name, TEMP) {
                count += usize::from(self.collect_temp(&path)?);
            } else if kind.is_dir() && is_hidden(&name, REMOVED) {
                self.delete_tree(&path, &path, 0)?;
                count += 1;
            }
        }
        Ok(count)
    }

    fn collect_temp(&self, path: &Path) -> Result<bool, Error> {
        match self.disk.open_write(path) {
            Ok(file) if file.try_lock().is_ok() => self.unlink(path),
            Ok(_) => Ok(false),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(Error::io("open", path, e)),
        }
    }

    /// Reads a secret: a plain file of this user (or root) that nobody else may read.
    ///
    /// # Errors
    /// [`Error::NotPrivate`] names the file and the command that mends it; those of the disk.
    pub fn read_private(&self, path: &Path) -> Result<Vec<u8>, Error> {
        let file = self.open_plain(path)?;
        let found = file.metadata().map_err(|e| Error::io("look at", path, e))?;
        let mode = found.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(Error::NotPrivate {
                path: path.to_owned(),
                mode,
            });
        }
        let owner = found.uid();
        if owner != 0 && owner != rustix::process::geteuid().as_raw() {
            return Err(Error::WrongOwner {
                path: path.to_owned(),
                owner,
            });
        }
        read_all(file, path, limits::PRIVATE_FILE_BYTES)
    }

    /// Reads a plain file of at most `max` bytes.
    ///
    /// # Errors
    /// [`Error::TooLarge`]; those of the disk.
    pub fn read_limited(&self, path: &Path, max: u64) -> Result<Vec<u8>, Error> {
        read_all(self.open_plain(path)?, path, max)
    }

    fn open_plain(&self, path: &Path) -> Result<File, Error> {
        let file = self
            .disk
            .open_read(path)
            .map_err(|e| Error::io("read", path, e))?;
        let found = file.metadata().map_err(|e| Error::io("look at", path, e))?;
        if found.is_file() {
            Ok(file)
        } else {
            Err(Error::WrongType {
                path: path.to_owned(),
                expected: "plain file",
            })
        }
    }

    pub(crate) fn write_all(&self, file: &File, path: &Path, bytes: &[u8]) -> Result<(), Error> {
        write_all(self.disk(), file, path, bytes)
    }

    pub(crate) fn sync_parent(&self, path: &Path) -> Result<(), Error> {
        let dir = parent(path);
        self.disk.sync_dir(dir).map_err(|e| Error::io("flush", dir, e))
    }
}

/// The temporary file of a path: `.NAME.tmp` beside it, locked while it is written, so that
/// there is at most one and a leftover is known by not being locked.
struct Temp<'a> {
    disk: &'a dyn Disk,
    file: File,
    path: PathBuf,
    target: &'a Path,
    /// Removes the file when dropped; off once it has been renamed.
    armed: bool,
}

impl<'a> Temp<'a> {
    fn create(disk: &'a dyn Disk, target: &'a Path, mode: u32) -> Result<Self, Error> {
        let path = hidden_name(target, TEMP)?;
        for _ in 0..limits::TEMP_TRIES {
            match disk.create_new(&path, mode) {
                Ok(file) => {
                    lock(&file, &path)?;
                    if is_still_at(&file, &path) {
                        let temp = Self {
                            disk,
                            file,
                            path,
                            target,
                            armed: true,
                        };
                        disk.set_mode(&temp.file, mode)
                            .map_err(|e| Error::io("set the mode of", &temp.path, e))?;
                        return Ok(temp);
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => clear_stale(disk, &path)?,
                Err(e) => return Err(Error::io("create", &path, e)),
            }
        }
        Err(Error::Contended {
            path: target.to_owned(),
        })
    }

    fn fill(&self, bytes: &[u8]) -> Result<(), Error> {
        write_all(self.disk, &self.file, &self.path, bytes)?;
        self.disk
            .sync_file(&self.file)
            .map_err(|e| Error::io("flush", &self.path, e))
    }

    fn rename(mut self) -> Result<(), Error> {
        self.disk
            .rename(&self.path, self.target)
            .map_err(|e| Error::io("replace", self.target, e))?;
        self.armed = false;
        Ok(())
    }
}

impl Drop for Temp<'_> {
    fn drop(&mut self) {
        if self.armed && is_still_at(&self.file, &self.path) {
            // Best effort: the next writer of this path collects it otherwise.
            let _ = self.disk.remove_file(&self.path);
        }
    }
}

/// Waits until the writer that holds the temporary file is done, then removes what it left.
fn clear_stale(disk: &dyn Disk, path: &Path) -> Result<(), Error> {
    let file = match disk.open_write(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::io("open", path, e)),
    };
    lock(&file, path)?;
    if is_still_at(&file, path) {
        match disk.remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Error::io("remove", path, e)),
            _ => {}
        }
    }
    Ok(())
}

fn lock(file: &File, path: &Path) -> Result<(), Error> {
    file.lock().map_err(|e| Error::io("lock", path, e))
}

/// Whether `path` still names this open file: another writer may have renamed or removed it
/// between our opening and our lock.
pub(crate) fn is_still_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

pub(crate) fn write_all(disk: &dyn Disk, file: &File, path: &Path, mut bytes: &[u8]) -> Result<(), Error> {
    while !bytes.is_empty() {
        match disk.write(file, bytes) {
            Ok(0) => return Err(Error::io("write", path, io::ErrorKind::WriteZero.into())),
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::io("write", path, e)),
        }
    }
    Ok(())
}

fn read_all(file: File, path: &Path, max: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    file.take(max.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|e| Error::io("read", path, e))?;
    if bytes.len() as u64 > max {
        return Err(Error::TooLarge {
            path: path.to_owned(),
            max,
        });
    }
    Ok(bytes)
}

const TEMP: &str = ".tmp";
const REMOVED: &str = ".removed";

fn hidden_name(path: &Path, suffix: &str) -> Result<PathBuf, Error> {
    let name = path.file_name().ok_or_else(|| Error::NoName {
        path: path.to_owned(),
    })?;
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(suffix);
    Ok(path.with_file_name(hidden))
}

fn is_hidden(name: &OsStr, suffix: &str) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b".") && name.ends_with(suffix.as_bytes()) && name.len() > suffix.len() + 1
}

pub(crate) fn too_deep(path: &Path) -> Error {
    Error::TreeTooLarge {
        path: path.to_owned(),
        max: limits::TREE_DEPTH,
        what: "levels",
    }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

/// [`Files::replace`] on the real disk.
///
/// # Errors
/// As there.
pub fn replace(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>, mode: u32) -> Result<(), Error> {
    Files::real().replace(path.as_ref(), bytes.as_ref(), mode)
}

/// [`Files::create_dir`] on the real disk.
///
/// # Errors
/// As there.
pub fn create_dir(path: impl AsRef<Path>, mode: u32) -> Result<(), Error> {
    Files::real().create_dir(path.as_ref(), mode)
}

/// [`Files::remove_file`] on the real disk.
///
/// # Errors
/// As there.
pub fn remove_file(path: impl AsRef<Path>) -> Result<bool, Error> {
    Files::real().remove_file(path.as_ref())
}

/// [`Files::remove_tree`] on the real disk.
///
/// # Errors
/// As there.
pub fn remove_tree(path: impl AsRef<Path>) -> Result<bool, Error> {
    Files::real().remove_tree(path.as_ref())
}

/// [`Files::sync_tree`] on the real disk.
///
/// # Errors
/// As there.
pub fn sync_tree(path: impl AsRef<Path>) -> Result<(), Error> {
    Files::real().sync_tree(path.as_ref())
}

/// [`Files::rename_dir`] on the real disk.
///
/// # Errors
/// As there.
pub fn rename_dir(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<(), Error> {
    Files::real().rename_dir(from.as_ref(), to.as_ref())
}

/// [`Files::collect_leftovers`] on the real disk.
///
/// # Errors
/// As there.
pub fn collect_leftovers(dir: impl AsRef<Path>) -> Result<usize, Error> {
    Files::real().collect_leftovers(dir.as_ref())
}

/// [`Files::read_private`] on the real disk.
///
/// # Errors
/// As there.
pub fn read_private(path: impl AsRef<Path>) -> Result<Vec<u8>, Error> {
    Files::real().read_private(path.as_ref())
}

/// [`Files::read_limited`] on the real disk.
///
/// # Errors
/// As there.
pub fn read_limited(path: impl AsRef<Path>, max: u64) -> Result<Vec<u8>, Error> {
    Files::real().read_limited(path.as_ref(), max)
}
