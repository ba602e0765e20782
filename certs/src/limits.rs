//! The size of everything that comes from outside, each with its reason.

/// Most scrypt memory (128·N·r bytes) that a key file may ask for.
pub const SCRYPT_MEMORY_LIMIT: u64 = 1 << 30;
/// Most scrypt passes (p) that a key file may ask for.
pub const SCRYPT_PASSES_LIMIT: u64 = 64;
/// Most PBKDF2 rounds that a key file may ask for.
pub const PBKDF2_LIMIT: u32 = 20_000_000;
/// Longest key file in bytes: an RSA key of 16384 bits is under 10 KiB.
pub const KEY_LIMIT: usize = 32 * 1024;
/// Longest certificate request in bytes: ours has under 400.
pub const REQUEST_LIMIT: usize = 8 * 1024;
/// Most certificates that are read from one text: a chain has three.
pub const CERTIFICATES: usize = 16;
/// Longest passphrase in bytes.
pub const PASSPHRASE_LIMIT: usize = 1024;
/// Fewest characters of a new passphrase.
pub const PASSPHRASE_LEAST: usize = 8;
/// Longest certificate file that is read, in bytes.
pub const FILE_LIMIT: u64 = 64 * 1024;
