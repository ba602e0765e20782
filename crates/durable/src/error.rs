//! What can go wrong with a file, with the file's name and what to do.

use std::io;
use std::path::{Path, PathBuf};

/// A file operation that did not happen. The state before it is still there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, as a verb: "write", "rename".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A secret that others may read.
    #[error("{0} can be read by other users (mode {mode:04o}): run chmod 600 {0}", path.display())]
    NotPrivate {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A secret that someone else may change at will.
    #[error("{} belongs to user {owner}: it must belong to the user this program runs as, or to root", path.display())]
    WrongOwner {
        /// The file.
        path: PathBuf,
        /// Its owner's user id.
        owner: u32,
    },
    /// More than the reader accepts.
    #[error("{} is larger than {max} bytes: this is not the file that belongs there", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The reader's limit.
        max: u64,
    },
    /// A folder, socket or device where a plain file belongs, or the reverse.
    #[error("{} is not a {expected}", path.display())]
    WrongType {
        /// The path.
        path: PathBuf,
        /// "plain file" or "folder".
        expected: &'static str,
    },
    /// A tree deeper or larger than any of ours.
    #[error("{} has more than {max} {what}", path.display())]
    TreeTooLarge {
        /// The tree's top.
        path: PathBuf,
        /// The limit.
        max: usize,
        /// "levels" or "entries".
        what: &'static str,
    },
    /// More bytes in a tree than may be copied.
    #[error("{} has more than {max} bytes", path.display())]
    TreeTooHeavy {
        /// The tree's top.
        path: PathBuf,
        /// The limit.
        max: u64,
    },
    /// Another disk begins inside a tree.
    #[error("{} is on another file system than the folder that it is in: unmount it there", path.display())]
    OtherDisk {
        /// Where.
        path: PathBuf,
    },
    /// A file that was replaced while it was read.
    #[error("{} was changed meanwhile", path.display())]
    Changed {
        /// Which.
        path: PathBuf,
    },
    /// The caller wants no more of it.
    #[error("copying {} was ended before it was done", path.display())]
    Ended {
        /// The tree's top.
        path: PathBuf,
    },
    /// A path without a file name or parent.
    #[error("{} does not name a file in a folder", path.display())]
    NoName {
        /// The path.
        path: PathBuf,
    },
    /// Other writers of the same file did not let this one through.
    #[error("too many writers at {}: stop the other program that writes there", path.display())]
    Contended {
        /// The file.
        path: PathBuf,
    },
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }

    /// The file or folder was not there.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// The disk, or the user's share of it, is full.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Io { source, .. }
            if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }
}
