//! A disk that fails on purpose, for tests: the n-th operation does not succeed.
//!
//! ```
//! use durable::faulty::{Faulty, Fault};
//! use std::sync::Arc;
//! let disk = Arc::new(Faulty::new(Fault::NoSpace, 3));
//! let files = durable::Files::on(disk.clone());
//! // ... run the code under test with `files`; then `disk.fired()` says whether it got there.
//! ```
//! Run the code with `at` = 1, 2, 3, … until [`Faulty::fired`] is false: then every operation
//! has failed once.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rustix::fs::Timestamps;
use rustix::io::Errno;

use crate::disk::{Disk, RealDisk};

/// How the chosen operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `EIO`, once: the medium is bad there; what comes after works.
    Io,
    /// `ENOSPC` from the chosen operation on for everything that needs room; removing still works.
    NoSpace,
    /// A write takes half of the bytes, once; other operations are not touched.
    ShortWrite,
    /// The process ends in the middle of the operation (half of a write is done) and nothing
    /// after it happens either: what `kill -9` leaves.
    Killed,
    /// The process ends right after the operation.
    KilledAfter,
}

/// One operation that was asked of the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Op {
    /// The method's name.
    pub name: &'static str,
    /// The path, where the method has one; for `rename` the new name.
    pub path: Option<PathBuf>,
}

#[derive(Debug, Default)]
struct Seen {
    ops: Vec<Op>,
    fired: bool,
    dead: bool,
}

/// The real disk, but for one operation.
#[derive(Debug)]
pub struct Faulty {
    fault: Fault,
    at: u64,
    seen: Mutex<Seen>,
}

enum Verdict {
    Go,
    Fail(io::Error),
    Half,
    HalfThenFail(io::Error),
    GoThenFail(io::Error),
}

impl Faulty {
    /// Fails the operation number `at`, counted from 1; 0 never fails and only records.
    pub fn new(fault: Fault, at: u64) -> Self {
        Self {
            fault,
            at,
            seen: Mutex::default(),
        }
    }

    /// Whether the chosen operation was reached.
    pub fn fired(&self) -> bool {
        self.lock().fired
    }

    /// Every operation asked for, in order.
    pub fn ops(&self) -> Vec<Op> {
        self.lock().ops.clone()
    }

    /// How many flushes (of files and folders) were asked for.
    pub fn flushes(&self) -> usize {
        self.lock()
            .ops
            .iter()
            .filter(|op| op.name.starts_with("sync_"))
            .count()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn judge(&self, name: &'static str, path: Option<&Path>) -> Verdict {
        let mut seen = self.lock();
        seen.ops.push(Op {
            name,
            path: path.map(Path::to_owned),
        });
        if seen.dead {
            return Verdict::Fail(killed());
        }
        let reached = self.at != 0 && seen.ops.len() as u64 >= self.at;
        let here = seen.ops.len() as u64 == self.at;
        seen.fired |= here;
        let write = name == "write";
        match self.fault {
            Fault::Io if here => Verdict::Fail(Errno::IO.into()),
            Fault::NoSpace if reached && needs_room(name) => Verdict::Fail(Errno::NOSPC.into()),
            Fault::ShortWrite if here && write => Verdict::Half,
            Fault::Killed if here => {
                seen.dead = true;
                if write {
                    Verdict::HalfThenFail(killed())
                } else {
                    Verdict::Fail(killed())
                }
            }
            Fault::KilledAfter if here => {
                seen.dead = true;
                Verdict::GoThenFail(killed())
            }
            _ => Verdict::Go,
        }
    }

    fn run<T>(
        &self,
        name: &'static str,
        path: Option<&Path>,
        go: impl FnOnce(&RealDisk) -> io::Result<T>,
    ) -> io::Result<T> {
        match self.judge(name, path) {
            Verdict::Go | Verdict::Half => go(&RealDisk),
            Verdict::Fail(e) | Verdict::HalfThenFail(e) => Err(e),
            Verdict::GoThenFail(e) => {
                go(&RealDisk)?;
                Err(e)
            }
        }
    }
}

fn killed() -> io::Error {
    io::Error::other("the test ended the process here")
}

fn needs_room(name: &str) -> bool {
    matches!(
        name,
        "create_new"
            | "open_append"
            | "write"
            | "reserve"
            | "link"
            | "symlink"
            | "create_dir"
            | "sync_file"
            | "sync_data"
    )
}

impl Disk for Faulty {
    fn create_new(&self, path: &Path, mode: u32) -> io::Result<File> {
        self.run("create_new", Some(path), |d| d.create_new(path, mode))
    }

    fn open_write(&self, path: &Path) -> io::Result<File> {
        self.run("open_write", Some(path), |d| d.open_write(path))
    }

    fn open_append(&self, path: &Path, mode: u32) -> io::Result<File> {
        self.run("open_append", Some(path), |d| d.open_append(path, mode))
    }

    fn open_read(&self, path: &Path) -> io::Result<File> {
        self.run("open_read", Some(path), |d| d.open_read(path))
    }

    fn write(&self, file: &File, bytes: &[u8]) -> io::Result<usize> {
        let half = &bytes[..bytes.len().div_ceil(2)];
        match self.judge("write", None) {
            Verdict::Go => RealDisk.write(file, bytes),
            Verdict::Half => RealDisk.write(file, half),
            Verdict::Fail(e) => Err(e),
            Verdict::HalfThenFail(e) => {
                RealDisk.write(file, half)?;
                Err(e)
            }
            Verdict::GoThenFail(e) => {
                RealDisk.write(file, bytes)?;
                Err(e)
            }
        }
    }

    fn truncate(&self, file: &File, length: u64) -> io::Result<()> {
        self.run("truncate", None, |d| d.truncate(file, length))
    }

    fn reserve(&self, file: &File, length: u64) -> io::Result<()> {
        self.run("reserve", None, |d| d.reserve(file, length))
    }

    fn set_mode(&self, file: &File, mode: u32) -> io::Result<()> {
        self.run("set_mode", None, |d| d.set_mode(file, mode))
    }

    fn sync_file(&self, file: &File) -> io::Result<()> {
        self.run("sync_file", None, |d| d.sync_file(file))
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        self.run("sync_data", None, |d| d.sync_data(file))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.run("sync_dir", Some(path), |d| d.sync_dir(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.run("rename", Some(to), |d| d.rename(from, to))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.run("link", Some(to), |d| d.link(from, to))
    }

    fn share_blocks(&self, to: &File, from: &File) -> io::Result<()> {
        self.run("share_blocks", None, |d| d.share_blocks(to, from))
    }

    fn symlink(&self, target: &Path, path: &Path) -> io::Result<()> {
        self.run("symlink", Some(path), |d| d.symlink(target, path))
    }

    fn set_owner(&self, path: &Path, user: u32, group: u32) -> io::Result<()> {
        self.run("set_owner", Some(path), |d| d.set_owner(path, user, group))
    }

    fn set_times(&self, path: &Path, times: &Timestamps) -> io::Result<()> {
        self.run("set_times", Some(path), |d| d.set_times(path, times))
    }

    fn create_dir(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.run("create_dir", Some(path), |d| d.create_dir(path, mode))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.run("remove_file", Some(path), |d| d.remove_file(path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.run("remove_dir", Some(path), |d| d.remove_dir(path))
    }
}
