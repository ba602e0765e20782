//! A tree of somebody else's files, copied as it is: what a program keeps.
//!
//! Bytes, permission bits, owners, times and symbolic links are kept; links are never followed, holes stay holes.
//! Blocks are shared where the file system can. A file with several names becomes several files; sockets, pipes and
//! devices are left out, extended attributes too.
//!
//! Whoever owns the tree may rename in it meanwhile: every folder is opened once, never through a link, and what is in it
//! is reached through the open folder only ([`OpenFolder`]).

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use crate::error::Error;
use crate::files::{Files, too_deep};
use crate::limits;

/// Bytes of a block, as `stat` counts them on every platform of ours.
const BLOCK: u64 = 512;

/// How much of a tree is copied or looked at.
pub struct TreeLimits<'a> {
    /// Bytes that lie on the disk; holes do not count.
    pub bytes: u64,
    /// Files, folders and links.
    pub entries: usize,
    /// Asked again and again: whether to go on.
    pub goes_on: &'a dyn Fn() -> bool,
}

/// What was found in a tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Measured {
    /// Bytes that lie on the disk; holes do not count.
    pub bytes: u64,
    /// Files, folders and links.
    pub entries: usize,
    /// Sockets, pipes and devices, which no copy has: the first few.
    pub left_out: Vec<PathBuf>,
    /// How many of them there are.
    pub left_out_count: usize,
}

/// A folder that is open, so that nobody can put another one in its place.
#[derive(Debug)]
pub struct OpenFolder {
    file: File,
}

impl OpenFolder {
    /// Opens the folder at `path`, which is not a link itself.
    ///
    /// # Errors
    /// Those of the system; what is there is no folder.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(flags.bits().cast_signed());
        Ok(Self {
            file: options.open(path)?,
        })
    }

    /// A path to this very folder, as long as it is open (proc(5)).
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }
}

impl Files {
    /// Deletes without care for the order: nobody looks under this name any more. `way` leads to `dir`.
    pub(crate) fn delete_tree(&self, dir: &Path, way: &Path, depth: usize) -> Result<(), Error> {
        if depth > limits::TREE_DEPTH {
            return Err(too_deep(dir));
        }
        let mode = Permissions::from_mode(0o700);
        let opened = match OpenFolder::open(way) {
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                // A program may keep folders that nobody may read. Never so where the agent is root.
                fs::set_permissions(way, mode.clone())
                    .ok()
                    .map_or(Err(e), |()| OpenFolder::open(way))
            }
            other => other,
        };
        let folder = match opened {
            Ok(folder) => folder,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(Error::io("list", dir, e)),
        };
        let found = folder.file.metadata().map_err(|e| Error::io("look at", dir, e))?;
        if found.mode() & 0o700 != 0o700 {
            // Or write.
            folder.file.set_permissions(mode).ok();
        }
        let inside = folder.path();
        for entry in fs::read_dir(&inside).map_err(|e| Error::io("list", dir, e))? {
            let entry = entry.map_err(|e| Error::io("list", dir, e))?;
            let (path, way) = (dir.join(entry.file_name()), inside.join(entry.file_name()));
            let kind = entry.file_type().map_err(|e| Error::io("look at", &path, e))?;
            if kind.is_dir() {
                self.delete_tree(&path, &way, depth + 1)?;
            } else {
                self.unlink(&way)?;
            }
        }
        let disk = self.disk();
        disk.remove_dir(way).map_err(|e| Error::io("remove", dir, e))
    }

    /// Copies the folder `from` to `to`, which must not exist. Nothing is flushed: [`Self::sync_tree`] does, once all is
    /// in place.
    ///
    /// # Errors
    /// Those of the disk; [`Error::TreeTooLarge`], [`Error::TreeTooHeavy`], [`Error::OtherDisk`]. What was copied then is
    /// for the caller to remove.
    pub fn copy_tree(&self, from: &Path, to: &Path, limits: &TreeLimits<'_>) -> Result<Measured, Error> {
        let mut walk = Walk::new(self, from, limits, true)?;
        walk.folder(from, from, to, 0)?;
        Ok(walk.done)
    }

    /// What [`Self::copy_tree`] would copy.
    ///
    /// # Errors
    /// As there, for what can be said without copying.
    pub fn measure_tree(&self, path: &Path, limits: &TreeLimits<'_>) -> Result<Measured, Error> {
        let mut walk = Walk::new(self, path, limits, false)?;
        walk.folder(path, path, path, 0)?;
        Ok(walk.done)
    }
}

/// One walk through a tree.
struct Walk<'a> {
    files: &'a Files,
    limits: &'a TreeLimits<'a>,
    top: &'a Path,
    device: u64,
    copies: bool,
    done: Measured,
}

impl<'a> Walk<'a> {
    fn new(files: &'a Files, top: &'a Path, limits: &'a TreeLimits<'a>, copies: bool) -> Result<Self, Error> {
        let found = look_at(top)?;
        if !found.is_dir() {
            return Err(Error::WrongType {
                path: top.to_owned(),
                expected: "folder",
            });
        }
        Ok(Self {
            files,
            limits,
            top,
            device: found.dev(),
            copies,
            done: Measured::default(),
        })
    }

    /// `way` leads to `from`, which is what people call it.
    fn folder(&mut self, from: &Path, way: &Path, to: &Path, depth: usize) -> Result<(), Error> {
        if depth > limits::TREE_DEPTH {
            return Err(too_deep(self.top));
        }
        let opened = OpenFolder::open(way).map_err(|e| Error::io("open", from, e))?;
        let found = opened.file.metadata();
        let found = found.map_err(|e| Error::io("look at", from, e))?;
        if found.dev() != self.device {
            return Err(Error::OtherDisk {
                path: from.to_owned(),
            });
        }
        if self.copies {
            let disk = self.files.disk();
            disk.create_dir(to, 0o700)
                .map_err(|e| Error::io("create", to, e))?;
        }
        let inside = opened.path();
        for entry in fs::read_dir(&inside).map_err(|e| Error::io("list", from, e))? {
            let entry = entry.map_err(|e| Error::io("list", from, e))?;
            let name = entry.file_name();
            self.entry(&from.join(&name), &inside.join(&name), &to.join(&name), depth)?;
        }
        // Only now: the bits may forbid to fill it, and filling it sets its time.
        self.dress(to, &found)
    }

    fn entry(&mut self, from: &Path, way: &Path, to: &Path, depth: usize) -> Result<(), Error> {
        if !(self.limits.goes_on)() {
            return Err(Error::Ended {
                path: self.top.to_owned(),
            });
        }
        self.done.entries += 1;
        if self.done.entries > self.limits.entries {
            return Err(Error::TreeTooLarge {
                path: self.top.to_owned(),
                max: self.limits.entries,
                what: "entries",
            });
        }
        let found = fs::symlink_metadata(way).map_err(|e| Error::io("look at", from, e))?;
        if found.is_dir() {
            self.folder(from, way, to, depth + 1)
        } else if found.is_file() {
            self.file(from, way, to, &found)
        } else if found.is_symlink() {
            self.symlink(from, way, to, &found)
        } else {
            self.done.left_out_count += 1;
            if self.done.left_out.len() < limits::NAMED_LEFT_OUT {
                self.done.left_out.push(from.to_owned());
            }
            Ok(())
        }
    }

    fn symlink(&mut self, from: &Path, way: &Path, to: &Path, found: &Metadata) -> Result<(), Error> {
        if !self.copies {
            return Ok(());
        }
        let target = fs::read_link(way).map_err(|e| Error::io("read", from, e))?;
        let disk = self.files.disk();
        disk.symlink(&target, to)
            .map_err(|e| Error::io("create", to, e))?;
        self.dress(to, found)
    }

    fn file(&mut self, from: &Path, way: &Path, to: &Path, found: &Metadata) -> Result<(), Error> {
        self.weigh(found.len().min(found.blocks().saturating_mul(BLOCK)))?;
        if !self.copies {
            return Ok(());
        }
        let disk = self.files.disk();
        let source = disk.open_read(way).map_err(|e| Error::io("open", from, e))?;
        let opened = source.metadata().map_err(|e| Error::io("look at", from, e))?;
        if (opened.dev(), opened.ino()) != (found.dev(), found.ino()) {
            return Err(Error::Changed {
                path: from.to_owned(),
            });
        }
        let copy = disk
            .create_new(to, 0o600)
            .map_err(|e| Error::io("create", to, e))?;
        if disk.share_blocks(&copy, &source).is_err() {
            self.pour(&source, from, &copy, to, found.len())?;
        }
        self.dress(to, found)
    }

    /// Copies what is there between the holes.
    fn pour(
        &mut self,
        mut source: &File,
        from: &Path,
        mut copy: &File,
        to: &Path,
        length: u64,
    ) -> Result<(), Error> {
        let mut buffer = vec![0; limits::READ_BUFFER_BYTES];
        let mut at = 0;
        while let Some((begin, end)) =
            next_data(source, at, length).map_err(|e| Error::io("read", from, e))?
        {
            source
                .seek(SeekFrom::Start(begin))
                .map_err(|e| Error::io("read", from, e))?;
            copy.seek(SeekFrom::Start(begin))
                .map_err(|e| Error::io("write", to, e))?;
            let mut rest = source.take(end - begin);
            loop {
                match rest.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(count) => {
                        let piece = buffer.get(..count).unwrap_or_default();
                        self.files.write_all(copy, to, piece)?;
                    }
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(Error::io("read", from, e)),
                }
                if !(self.limits.goes_on)() {
                    return Err(Error::Ended {
                        path: self.top.to_owned(),
                    });
                }
            }
            at = end;
        }
        let written = copy.metadata().map_err(|e| Error::io("look at", to, e))?;
        if written.len() < length {
            let disk = self.files.disk();
            disk.truncate(copy, length)
                .map_err(|e| Error::io("lengthen", to, e))?;
        }
        Ok(())
    }

    fn weigh(&mut self, bytes: u64) -> Result<(), Error> {
        self.done.bytes = self.done.bytes.saturating_add(bytes);
        if self.done.bytes > self.limits.bytes {
            return Err(Error::TreeTooHeavy {
                path: self.top.to_owned(),
                max: self.limits.bytes,
            });
        }
        Ok(())
    }

    /// Gives a copy owner, permission bits and times; in this order, because each may change what follows.
    fn dress(&self, to: &Path, like: &Metadata) -> Result<(), Error> {
        if !self.copies {
            return Ok(());
        }
        let disk = self.files.disk();
        let made = look_at(to)?;
        if (made.uid(), made.gid()) != (like.uid(), like.gid()) {
            disk.set_owner(to, like.uid(), like.gid())
                .map_err(|e| Error::io("set the owner of", to, e))?;
        }
        if !like.is_symlink() {
            let open = disk.open_read(to).map_err(|e| Error::io("open", to, e))?;
            disk.set_mode(&open, like.mode() & 0o7777)
                .map_err(|e| Error::io("set the mode of", to, e))?;
        }
        let times = Timestamps {
            last_access: moment(like.atime(), like.atime_nsec()),
            last_modification: moment(like.mtime(), like.mtime_nsec()),
        };
        disk.set_times(to, &times)
            .map_err(|e| Error::io("set the times of", to, e))
    }
}

/// The next piece of a file that is no hole; none: only a hole is left.
fn next_data(file: &File, at: u64, length: u64) -> io::Result<Option<(u64, u64)>> {
    use rustix::fs::{SeekFrom, seek};
    if at >= length {
        return Ok(None);
    }
    let begin = match seek(file, SeekFrom::Data(at)) {
        Ok(begin) if begin >= length => return Ok(None),
        Ok(begin) => begin,
        Err(Errno::NXIO) => return Ok(None),
        // A file system that knows no holes.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Some((at, length))),
        Err(error) => return Err(error.into()),
    };
    let end = seek(file, SeekFrom::Hole(begin)).unwrap_or(length);
    Ok(Some((begin, end.min(length))))
}

fn moment(seconds: i64, nanoseconds: i64) -> Timespec {
    Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    }
}

fn look_at(path: &Path) -> Result<Metadata, Error> {
    fs::symlink_metadata(path).map_err(|e| Error::io("look at", path, e))
}
