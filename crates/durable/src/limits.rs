//! Every cap of this crate, each with its reason.

/// A private key, token or passphrase file: the largest is an encrypted 4096-bit RSA key, 4 KiB.
pub const PRIVATE_FILE_BYTES: u64 = 64 * 1024;

/// One record: the largest holds all trusted role files of a repository with thousands of targets.
pub const RECORD_BYTES: u64 = 64 * 1024 * 1024;

/// First line of a record: magic, kind, version, digest.
pub const RECORD_HEADER_BYTES: usize = 256;

/// One line of a record log in JSON; a report with its reasons stays far below.
pub const LOG_JSON_LINE_BYTES: usize = 64 * 1024;

/// One line of a record log for people.
pub const LOG_TEXT_LINE_BYTES: usize = 4 * 1024;

/// Most files a record log sets aside of each form.
pub const LOG_KEPT_FILES: u32 = 64;

/// Most lines given back by one read of a record log.
pub const LOG_READ_LINES: usize = 10_000;

/// Wrong files kept aside for a person to look at; the oldest goes first.
pub const QUARANTINED_FILES: usize = 4;

/// Deepest folder walked by `sync_tree`, `remove_tree` and `copy_tree`: deeper is nothing of ours.
pub const TREE_DEPTH: usize = 32;

/// Most entries walked by `sync_tree`: above what a package may hold.
pub const TREE_ENTRIES: usize = 100_000;

/// Tries to get the temporary file of a path while other writers of the same path come and go.
pub const TEMP_TRIES: u32 = 1_000;

/// Piece in which files are read back for hashing: memory stays constant whatever the file.
pub const READ_BUFFER_BYTES: usize = 64 * 1024;

/// Files left out of a copied tree that are named; more are counted.
pub const NAMED_LEFT_OUT: usize = 8;
