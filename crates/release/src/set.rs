//! Several releases that are installed together or not at all.
//!
//! The form of a set and what can be checked of it without a device. [`Release`] does not carry one yet: as long as no
//! program installs sets, none may be signed.

use std::collections::{BTreeMap, BTreeSet};

use semver::VersionReq;
use serde::{Deserialize, Serialize};
use tuf::Digest;

use crate::custom::Release;
use crate::kind::Kind;
use crate::limits;
use crate::name::{Component, TargetPath};
use crate::version::Version;

/// What ties the releases of one set; the same in each of them.
///
/// An unknown field makes it malformed: what cannot be checked must not count as met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseSet {
    /// 32 lower-case hexadecimal digits, made at the click; each member keeps an update id of its own.
    pub id: String,
    /// In the order in which they are activated; they are undone in reverse.
    pub members: Vec<Member>,
}

/// One release of a set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// What it is a version of.
    pub component: Component,
    /// Which version.
    pub version: Version,
    /// Its release counter.
    pub counter: u64,
    /// Where its file lies in the repository.
    pub target: TargetPath,
    /// The file's SHA-256.
    pub sha256: Digest,
}

/// Why a set is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// The id is not 32 lower-case hexadecimal digits.
    #[error("the set's id is malformed: it must be 32 lower-case hexadecimal digits")]
    Id,
    /// Too few or too many members.
    #[error("the set has {0} members: it must have 2 to {max}", max = limits::SET_MEMBERS)]
    Size(usize),
    /// A component twice.
    #[error("{0} is in the set twice: a set has one version of a component")]
    Twice(Component),
    /// A member's counter is beyond what every JSON reader takes for a whole number.
    #[error("the counter of {0} in the set is too large")]
    Counter(Component),
    /// A member's target path is another release's.
    #[error("the set says that {component} lies at {}: the path must begin with the member's component and version", target.as_str())]
    Path {
        /// The member's component.
        component: Component,
        /// Its path.
        target: TargetPath,
    },
    /// A release whose set does not list it.
    #[error("{component} {version} with counter {counter} is not listed in its own set")]
    Stranger {
        /// The release's component.
        component: Component,
        /// Its version.
        version: Version,
        /// Its counter.
        counter: u64,
    },
    /// An agent.
    #[error("{0} is an agent: it is updated alone, take it out of the set")]
    Agent(Component),
}

/// What stays beside a set on a device, or is replaced by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beside {
    /// The version that runs.
    pub version: Version,
    /// What that version requires of other components.
    pub requires: BTreeMap<Component, VersionReq>,
}

/// A requirement that would not be met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmet {
    /// Who requires it.
    pub component: Component,
    /// Which version of it.
    pub version: Version,
    /// What is required.
    pub needs: Component,
    /// In which versions.
    pub wanted: VersionReq,
    /// Which there would be; none: it would not be installed.
    pub found: Option<Version>,
}

impl std::fmt::Display for Unmet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            component,
            version,
            needs,
            wanted,
            found,
        } = self;
        write!(f, "{component} {version} requires {needs} {wanted}, ")?;
        match found {
            Some(found) => write!(f, "with the set it would be {found}"),
            None => write!(f, "which neither is in the set nor installed"),
        }
    }
}

impl ReleaseSet {
    /// What can be said of a set alone.
    ///
    /// # Errors
    /// The first fault, with the member named.
    pub fn check(&self) -> Result<(), SetError> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if self.id.len() != 32 || !self.id.bytes().all(hex) {
            return Err(SetError::Id);
        }
        if !(2..=limits::SET_MEMBERS).contains(&self.members.len()) {
            return Err(SetError::Size(self.members.len()));
        }
        let mut seen = BTreeSet::new();
        for member in &self.members {
            let component = &member.component;
            if !seen.insert(component) {
                return Err(SetError::Twice(component.clone()));
            }
            if member.counter > limits::COUNTER {
                return Err(SetError::Counter(component.clone()));
            }
            if member.target.component() != component || *member.target.version() != member.version {
                return Err(SetError::Path {
                    component: component.clone(),
                    target: member.target.clone(),
                });
            }
        }
        Ok(())
    }

    /// Whether the set is sound and a release can be a member of it.
    ///
    /// # Errors
    /// A fault of the set, or why the release is none of its members.
    pub fn check_release(&self, release: &Release) -> Result<(), SetError> {
        self.check()?;
        if release.kind == Kind::Agent {
            return Err(SetError::Agent(release.component.clone()));
        }
        let is_listed = self.members.iter().any(|member| {
            member.component == release.component
                && member.version == release.version
                && member.counter == release.counter
                && member.target.file_name() == release.file_name
        });
        is_listed.then_some(()).ok_or_else(|| SetError::Stranger {
            component: release.component.clone(),
            version: release.version.clone(),
            counter: release.counter,
        })
    }
}

/// Every requirement between components that would not be met once all of these releases are installed.
///
/// Where a component is both among the releases and installed, its new version counts, and only what the new version
/// requires. What stays may require something of a new version too.
#[must_use]
pub fn unmet(releases: &[&Release], installed: &BTreeMap<Component, Beside>) -> Vec<Unmet> {
    let mut after: BTreeMap<_, _> = installed
        .iter()
        .map(|(component, here)| (component, (&here.version, &here.requires)))
        .collect();
    let new = releases.iter().map(|release| {
        let requires = &release.requires.components;
        (&release.component, (&release.version, requires))
    });
    after.extend(new);
    let mut unmet = Vec::new();
    for (component, (version, requires)) in &after {
        for (needs, wanted) in *requires {
            let found = after.get(needs).map(|(found, _)| *found);
            if !found.is_some_and(|found| wanted.matches(found.semver())) {
                unmet.push(Unmet {
                    component: (*component).clone(),
                    version: (*version).clone(),
                    needs: needs.clone(),
                    wanted: wanted.clone(),
                    found: found.cloned(),
                });
            }
        }
    }
    unmet
}

#[cfg(test)]
#[path = "set_tests.rs"]
mod tests;
