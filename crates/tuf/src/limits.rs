//! Every cap of the verifier in one place, each with its reason.

/// What a verifier is willing to read and do. A repository can be hostile until its files are verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one root file. A root with 64 RSA keys is about 60 KB; python-tuf caps at 512,000.
    pub root_length: u64,
    /// Bytes of a timestamp: one line about one file, and the only file read before any length is known.
    pub timestamp_length: u64,
    /// Bytes of a snapshot, when the timestamp names no length; about 16,000 roles.
    pub snapshot_length: u64,
    /// Bytes of a targets file, when the snapshot names no length; about 8,000 releases of 1 KB each.
    pub targets_length: u64,
    /// Root files accepted in one refresh: decades of monthly rotations; the next refresh goes on from there.
    pub root_rotations: u32,
    /// Delegated roles visited for one lookup or one refresh; python-tuf visits 32 for a lookup.
    pub delegations: u32,
    /// Keys in one root or one delegating role: an m-of-n of dozens of people.
    pub keys: u32,
    /// Signatures on one file: each known one costs a verification (0.1 ms for RSA on a desk, 2 ms on a Pi).
    pub signatures: u32,
    /// Entries in a snapshot, and delegated roles in one targets file.
    pub roles: u32,
    /// Bytes of a target's or role's name and of a path pattern; ours have 256 at most. A pattern of stars costs the
    /// product of both lengths.
    pub name_length: u32,
    /// Nested arrays and objects in a file: ours need 7, a target's `custom` has the rest.
    pub json_depth: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            root_length: 512 * 1024,
            timestamp_length: 16 * 1024,
            snapshot_length: 2 * 1024 * 1024,
            targets_length: 8 * 1024 * 1024,
            root_rotations: 1024,
            delegations: 256,
            keys: 128,
            signatures: 128,
            roles: 16 * 1024,
            name_length: 1024,
            json_depth: 32,
        }
    }
}

impl Limits {
    /// For what this program itself has verified and stored before: only the depth still matters.
    pub(crate) fn of_own_state() -> Self {
        Self {
            root_length: u64::MAX,
            timestamp_length: u64::MAX,
            snapshot_length: u64::MAX,
            targets_length: u64::MAX,
            root_rotations: u32::MAX,
            delegations: u32::MAX,
            keys: u32::MAX,
            signatures: u32::MAX,
            roles: u32::MAX,
            name_length: u32::MAX,
            json_depth: 120,
        }
    }
}
