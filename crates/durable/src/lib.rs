//! Files that survive `kill -9` and power cuts.
//!
//! The only crate of the suite that writes, renames and removes files. What a function here
//! has done when it returns `Ok` is on the disk; what it failed to do left the old state in
//! place. The way is always the same, the only one of those measured that is durable when the
//! call returns: a temporary file in the same folder, `fsync`, `rename`, `fsync` of the folder.
//!
//! - [`replace`], [`create_dir`], [`remove_tree`], …: single steps on files and folders.
//! - [`Files::copy_tree`]: what somebody else keeps, copied as it is.
//! - [`Record`]: one checked, versioned value in one file.
//! - [`Store`]: files named by their SHA-256, received in pieces, hashed while they stream.
//! - [`Bounded`]: the newest bytes of something that does not end, unflushed.
//! - [`Growing`]: a journal in a format of one's own.
//! - [`RecordLog`]: append-only lines for people and for programs, bounded by rotation.
//! - [`TrustStore`], [`refresh()`], [`look_up`]: what a verifier has verified, how it gets newer and is asked.
//! - [`Disk`]: what all of them stand on; [`faulty`] is a disk that fails on purpose.
//!
//! Cost in flushes to the disk, the slowest thing a device does: `replace` 2, a finished
//! download 2, `create_dir` 1 a level, `remove_file` and `remove_tree` 1, a log line 2,
//! an append to a [`Growing`] 1.
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::disallowed_methods
    )
)]

mod bounded;
mod disk;
mod error;
pub mod faulty;
mod files;
mod growing;
mod hash;
pub mod limits;
mod log;
mod record;
mod refresh;
mod search;
mod store;
mod tree;
mod trust;

pub use bounded::Bounded;
pub use disk::{Disk, RealDisk};
pub use error::Error;
pub use files::{
    Files, collect_leftovers, create_dir, read_limited, read_private, remove_file, remove_tree, rename_dir,
    replace, sync_tree,
};
pub use growing::Growing;
pub use hash::{Hasher, HashingReader, hash_file};
pub use log::{LogLimits, RecordLog};
pub use record::{Record, RecordError};
pub use refresh::{Fetch, Keep, Lapse, RefreshError, refresh, refresh_all, refresh_with};
pub use search::{Found, look_up};
pub use store::{Finished, Incoming, Part, Store, StoreError, Stored, TakenUp};
pub use tree::{Measured, OpenFolder, TreeLimits};
pub use trust::{TrustError, TrustStore};
