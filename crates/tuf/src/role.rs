//! Names: of roles, of their files in a repository, of targets behind their hash.

use std::fmt;

/// A role of the framework.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Says which keys sign for every other role.
    Root,
    /// Says which snapshot is the newest.
    Timestamp,
    /// Says which version of each targets role belongs together.
    Snapshot,
    /// Says which targets exist and who else may say so.
    Targets,
    /// A targets role that another one delegates to.
    Delegated(String),
}

impl Role {
    /// The name in the metadata.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Root => "root",
            Self::Timestamp => "timestamp",
            Self::Snapshot => "snapshot",
            Self::Targets => "targets",
            Self::Delegated(name) => name,
        }
    }

    /// The name of its file: `root.json`, percent-encoded so that it is one safe path segment everywhere.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("{}.json", percent_encode(self.name()))
    }

    /// The name of its file with the version in front: `3.root.json`.
    #[must_use]
    pub fn versioned_file_name(&self, version: u64) -> String {
        format!("{version}.{}", self.file_name())
    }

    /// The key of its entry in a snapshot, not encoded: `targets.json`.
    #[must_use]
    pub fn meta_name(&self) -> String {
        format!("{}.json", self.name())
    }

    /// The value of its files' field `_type`.
    #[must_use]
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Timestamp => "timestamp",
            Self::Snapshot => "snapshot",
            Self::Targets | Self::Delegated(_) => "targets",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delegated(name) => write!(f, "delegated role {name:?}"),
            _ => f.write_str(self.name()),
        }
    }
}

/// Everything but the unreserved characters of RFC 3986 becomes `%XX`; python's `quote(name, "")` agrees.
fn percent_encode(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Where a target lies below the repository's `targets/` with consistent snapshots:
/// `<dir>/<hash>.<file>` (specification, section 6.2); the hash is the SHA-256 where there is one.
#[must_use]
pub fn target_path(name: &str, hash: &impl fmt::Display) -> String {
    match name.rsplit_once('/') {
        Some((folder, file)) => format!("{folder}/{hash}.{file}"),
        None => format!("{hash}.{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Digest;

    #[test]
    fn no_role_name_escapes_its_file_name() {
        for (name, file) in [
            ("team-a", "team-a.json"),
            ("../up", "..%2Fup.json"),
            ("/abs", "%2Fabs.json"),
            ("?#", "%3F%23.json"),
            ("é", "%C3%A9.json"),
            ("a\0", "a%00.json"),
        ] {
            assert_eq!(Role::Delegated(name.to_owned()).file_name(), file);
        }
        assert_eq!(Role::Root.versioned_file_name(3), "3.root.json");
    }

    #[test]
    fn a_target_lies_behind_its_hash_in_its_own_folder() {
        let digest = Digest::of(b"x");
        assert_eq!(target_path("a/b/c.tar", &digest), format!("a/b/{digest}.c.tar"));
        assert_eq!(target_path("c.tar", &digest), format!("{digest}.c.tar"));
    }
}
