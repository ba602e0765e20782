//! The operations that change a disk, as a trait: the real one and, in [`crate::faulty`],
//! one that fails at the n-th operation.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Timestamps, utimensat};

/// What this crate asks of a disk. Each method is one operation that can fail alone.
///
/// Methods have no default and no buffering: one call is one system call, so that "the n-th
/// operation fails" covers every point at which a program can be cut off.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Creates a file that does not exist yet, for reading and writing; never follows a link.
    fn create_new(&self, path: &Path, mode: u32) -> io::Result<File>;
    /// Opens an existing plain file for reading and writing; never follows a link.
    fn open_write(&self, path: &Path) -> io::Result<File>;
    /// Opens a file for appending, creating it with `mode`; never follows a link.
    fn open_append(&self, path: &Path, mode: u32) -> io::Result<File>;
    /// Opens a file for reading.
    fn open_read(&self, path: &Path) -> io::Result<File>;
    /// Writes some of `bytes` and says how many: callers loop.
    fn write(&self, file: &File, bytes: &[u8]) -> io::Result<usize>;
    /// Cuts the file to `length` bytes.
    fn truncate(&self, file: &File, length: u64) -> io::Result<()>;
    /// Reserves room for `length` bytes without changing the file's length. A file system that
    /// cannot reserve says `Ok`.
    fn reserve(&self, file: &File, length: u64) -> io::Result<()>;
    /// Sets permission bits, whatever the process's umask.
    fn set_mode(&self, file: &File, mode: u32) -> io::Result<()>;
    /// Flushes a file, its length included.
    fn sync_file(&self, file: &File) -> io::Result<()>;
    /// Flushes a file's bytes, and its length if it has grown, but not its times: half the cost, for files that only grow.
    fn sync_data(&self, file: &File) -> io::Result<()>;
    /// Flushes a folder: the names in it.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Renames, replacing a file at `to`.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file a second name; fails if there is something of that name.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes `to`, which is empty, share the blocks of `from`; an error where the file system has no such thing.
    fn share_blocks(&self, to: &File, from: &File) -> io::Result<()>;
    /// Creates a symbolic link.
    fn symlink(&self, target: &Path, path: &Path) -> io::Result<()>;
    /// Sets owner and group; of a symbolic link itself.
    fn set_owner(&self, path: &Path, user: u32, group: u32) -> io::Result<()>;
    /// Sets the times of the last access and change; of a symbolic link itself.
    fn set_times(&self, path: &Path, times: &Timestamps) -> io::Result<()>;
    /// Creates one folder.
    fn create_dir(&self, path: &Path, mode: u32) -> io::Result<()>;
    /// Removes one file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes one empty folder.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
}

/// The machine's file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

/// `O_NOFOLLOW`: a link planted where a file of ours belongs is an error, not a detour.
fn no_follow() -> i32 {
    rustix::fs::OFlags::NOFOLLOW.bits().cast_signed()
}

impl Disk for RealDisk {
    fn create_new(&self, path: &Path, mode: u32) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(mode)
            .custom_flags(no_follow())
            .open(path)
    }

    fn open_write(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(no_follow())
            .open(path)
    }

    fn open_append(&self, path: &Path, mode: u32) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(mode)
            .custom_flags(no_follow())
            .open(path)
    }

    fn open_read(&self, path: &Path) -> io::Result<File> {
        // A pipe is opened, and refused for what it is, without waiting for somebody who writes into it.
        let at_once = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        OpenOptions::new().read(true).custom_flags(at_once).open(path)
    }

    fn write(&self, mut file: &File, bytes: &[u8]) -> io::Result<usize> {
        file.write(bytes)
    }

    #[allow(clippy::disallowed_methods)] // the one place that cuts files
    fn truncate(&self, file: &File, length: u64) -> io::Result<()> {
        file.set_len(length)
    }

    fn reserve(&self, file: &File, length: u64) -> io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        use rustix::io::Errno;
        if length == 0 {
            return Ok(());
        }
        match fallocate(file, FallocateFlags::KEEP_SIZE, 0, length) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) | Ok(()) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    fn set_mode(&self, file: &File, mode: u32) -> io::Result<()> {
        file.set_permissions(Permissions::from_mode(mode))
    }

    fn sync_file(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    #[allow(clippy::disallowed_methods)] // the one place that renames
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    #[allow(clippy::disallowed_methods)] // the one place that links
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn share_blocks(&self, to: &File, from: &File) -> io::Result<()> {
        Ok(rustix::fs::ioctl_ficlone(to, from)?)
    }

    fn symlink(&self, target: &Path, path: &Path) -> io::Result<()> {
        std::os::unix::fs::symlink(target, path)
    }

    fn set_owner(&self, path: &Path, user: u32, group: u32) -> io::Result<()> {
        std::os::unix::fs::lchown(path, Some(user), Some(group))
    }

    fn set_times(&self, path: &Path, times: &Timestamps) -> io::Result<()> {
        Ok(utimensat(CWD, path, times, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    fn create_dir(&self, path: &Path, mode: u32) -> io::Result<()> {
        DirBuilder::new().mode(mode).create(path)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }
}
