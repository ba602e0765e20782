//! Delegations: which other roles may name which targets.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{RoleKeys, check_keys, check_name, present};
use crate::{Digest, Error, KeyId, Limits, PublicKey};

/// Who else may name targets, in order of precedence.
#[derive(Debug, Clone)]
pub struct Delegations {
    /// Every key named by the roles.
    pub keys: BTreeMap<KeyId, PublicKey>,
    /// In the order in which they are asked.
    pub roles: Vec<DelegatedRole>,
}

/// One delegation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelegatedRole {
    /// The role's name; its file is named after it.
    pub name: String,
    /// Its keys.
    #[serde(flatten)]
    pub keys: RoleKeys,
    /// Whether the search ends here for targets that match.
    pub terminating: bool,
    /// Shell patterns of target names; `*` and `?` stay within one path segment.
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    pub paths: Option<Vec<String>>,
    /// Or: prefixes of the SHA-256 (hexadecimal) of the target name.
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    pub path_hash_prefixes: Option<Vec<String>>,
}

impl DelegatedRole {
    /// Whether this role may name `target`.
    #[must_use]
    pub fn covers(&self, target: &str) -> bool {
        match (&self.paths, &self.path_hash_prefixes) {
            (Some(paths), None) => paths.iter().any(|pattern| matches(pattern, target)),
            (None, Some(prefixes)) => {
                let hash = Digest::of(target.as_bytes()).to_string();
                prefixes.iter().any(|prefix| hash.starts_with(prefix.as_str()))
            }
            _ => false,
        }
    }
}

/// Segment by segment, as many segments in the pattern as in the name (specification, section 4.5).
fn matches(pattern: &str, name: &str) -> bool {
    let (mut patterns, mut names) = (pattern.split('/'), name.split('/'));
    loop {
        match (patterns.next(), names.next()) {
            (None, None) => return true,
            (Some(pattern), Some(name)) if matches_segment(pattern, name) => {}
            _ => return false,
        }
    }
}

/// `*` and `?` only; linear in practice because a later star forgets the earlier one.
fn matches_segment(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&c) if c == '?' || c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((at, from)) = star else { return false };
                star = Some((at, from + 1));
                p = at + 1;
                n = from + 1;
            }
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

pub(super) fn read_delegations(
    wire: super::wire::Delegations,
    file: &str,
    limits: &Limits,
) -> Result<Delegations, Error> {
    let super::wire::Delegations { keys, roles } = wire;
    check_keys(&keys, file, limits)?;
    if roles.len() > limits.roles as usize {
        return Err(Error::TooMany {
            file: file.to_owned(),
            what: "delegated roles",
            limit: limits.roles,
        });
    }
    let mut names = BTreeSet::new();
    for role in &roles {
        role.keys.check(file, limits)?;
        check_name(&role.name, file, limits)?;
        for pattern in role.paths.iter().flatten() {
            check_name(pattern, file, limits)?;
        }
        if !names.insert(role.name.as_str()) {
            return Err(Error::malformed(
                file,
                format!("two delegations are named {:?}", role.name),
            ));
        }
        if ["", "root", "timestamp", "snapshot", "targets"].contains(&role.name.as_str()) {
            return Err(Error::malformed(
                file,
                format!("{:?} cannot be delegated to", role.name),
            ));
        }
        if role.paths.is_some() == role.path_hash_prefixes.is_some() {
            let name = &role.name;
            return Err(Error::malformed(
                file,
                format!("{name:?} needs either paths or path_hash_prefixes"),
            ));
        }
    }
    Ok(Delegations { keys, roles })
}
