//! The real disk, with an ear for what is asked of it.

use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;

use durable::{Disk, RealDisk};
use rustix::fs::Timestamps;

/// An operation that some test wants to hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    Write,
    /// For a download: at the end of taking up what an earlier try left, in the same piece of work as the hashing.
    Reserve,
    Flush,
    Rename,
}

/// Hears of an operation before it happens, and may refuse it or take its time.
pub trait Ear: Debug + Send + Sync {
    fn hear(&self, op: Op, path: &Path) -> io::Result<()>;
}

/// A disk with an ear.
#[derive(Debug)]
pub struct Heard<E>(pub Arc<E>);

impl<E: Ear> Heard<E> {
    fn hear(&self, op: Op, file: &File) -> io::Result<()> {
        let path = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        self.0.hear(op, &path)
    }
}

impl<E: Ear> Disk for Heard<E> {
    fn create_new(&self, path: &Path, mode: u32) -> io::Result<File> {
        RealDisk.create_new(path, mode)
    }
    fn open_write(&self, path: &Path) -> io::Result<File> {
        RealDisk.open_write(path)
    }
    fn open_append(&self, path: &Path, mode: u32) -> io::Result<File> {
        RealDisk.open_append(path, mode)
    }
    fn open_read(&self, path: &Path) -> io::Result<File> {
        RealDisk.open_read(path)
    }
    fn write(&self, file: &File, bytes: &[u8]) -> io::Result<usize> {
        self.hear(Op::Write, file)?;
        RealDisk.write(file, bytes)
    }
    fn truncate(&self, file: &File, length: u64) -> io::Result<()> {
        RealDisk.truncate(file, length)
    }
    fn reserve(&self, file: &File, length: u64) -> io::Result<()> {
        self.hear(Op::Reserve, file)?;
        RealDisk.reserve(file, length)
    }
    fn set_mode(&self, file: &File, mode: u32) -> io::Result<()> {
        RealDisk.set_mode(file, mode)
    }
    fn sync_file(&self, file: &File) -> io::Result<()> {
        self.hear(Op::Flush, file)?;
        RealDisk.sync_file(file)
    }
    fn sync_data(&self, file: &File) -> io::Result<()> {
        self.hear(Op::Flush, file)?;
        RealDisk.sync_data(file)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.sync_dir(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.hear(Op::Rename, to)?;
        RealDisk.rename(from, to)
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.link(from, to)
    }
    fn share_blocks(&self, to: &File, from: &File) -> io::Result<()> {
        RealDisk.share_blocks(to, from)
    }
    fn symlink(&self, target: &Path, path: &Path) -> io::Result<()> {
        RealDisk.symlink(target, path)
    }
    fn set_owner(&self, path: &Path, user: u32, group: u32) -> io::Result<()> {
        RealDisk.set_owner(path, user, group)
    }
    fn set_times(&self, path: &Path, times: &Timestamps) -> io::Result<()> {
        RealDisk.set_times(path, times)
    }
    fn create_dir(&self, path: &Path, mode: u32) -> io::Result<()> {
        RealDisk.create_dir(path, mode)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove_file(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove_dir(path)
    }
}
