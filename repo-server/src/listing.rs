//! What the targets roles list, the author's and the teams', and which changes of it are allowed.
//!
//! A published version never changes its bytes or its description; it can be withdrawn or taken off the list.
//! What is added is newer than what is there, by version number and by release counter: a counter that went back
//! would be refused by every device that runs the newer release.

use std::collections::{BTreeMap, BTreeSet};

use protocol::limits::MAX_TARGET;
use release::{Component, Release, TargetPath, Version};
use tuf::{Digest, Role, TargetFile, TrustedState};

use crate::Refusal;
use crate::repository::TeamFile;

/// The targets of all roles, read as releases.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Listing {
    /// By target name.
    pub entries: BTreeMap<String, Entry>,
}

/// One target.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// `COMPONENT/VERSION/FILE`.
    pub name: String,
    /// Bytes.
    pub length: u64,
    /// SHA-256.
    pub sha256: Digest,
    /// SHA-512 in hexadecimal, if it is listed.
    pub sha512: Option<String>,
    /// The signed description.
    pub release: Release,
}

/// What differs between two listings.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Changes {
    /// Names that are new.
    pub added: Vec<String>,
    /// Names that are withdrawn now and were not.
    pub withdrawn: Vec<String>,
    /// Names that are gone.
    pub removed: Vec<String>,
}

impl Listing {
    /// Reads what clients would find in all targets roles; every target must be a release of ours. `fresh` are the
    /// teams whose role is new.
    ///
    /// What a team listed while it might, and may not any more, is left out: it is nobody's release now.
    ///
    /// # Errors
    /// [`Refusal::BadRelease`] names the target and what is wrong with it, [`Refusal::NotYours`] what a fresh role lists
    /// without being asked for it.
    pub fn read(state: &TrustedState, fresh: &[TeamFile]) -> Result<Self, Refusal> {
        for (team, _, _) in fresh {
            let role = Role::Delegated(team.clone());
            let names = state
                .delegated(team)
                .into_iter()
                .flat_map(|list| list.targets.keys());
            for name in names {
                match state.target_and_role(name) {
                    // The author may have taken a release over; the team's own entry then says nothing.
                    Some((found, _)) if found == role || found == Role::Targets => {}
                    _ => {
                        return Err(Refusal::NotYours {
                            team: team.clone(),
                            target: name.clone(),
                        });
                    }
                }
            }
        }
        let entries = state
            .all_targets()
            .map(|(name, target)| {
                let entry = Entry::read(name, target).map_err(|reason| Refusal::BadRelease {
                    target: name.to_owned(),
                    reason,
                })?;
                Ok((name.to_owned(), entry))
            })
            .collect::<Result<_, Refusal>>()?;
        Ok(Self { entries })
    }

    /// Components in alphabetical order with their releases, newest first.
    #[must_use]
    pub fn components(&self) -> Vec<(&Component, Vec<&Entry>)> {
        let mut found: BTreeMap<&str, (&Component, Vec<&Entry>)> = BTreeMap::new();
        for entry in self.entries.values() {
            let component = &entry.release.component;
            found
                .entry(component.as_str())
                .or_insert((component, Vec::new()))
                .1
                .push(entry);
        }
        for (_, entries) in found.values_mut() {
            entries.sort_by(|a, b| {
                b.release
                    .version
                    .cmp(&a.release.version)
                    .then(a.name.cmp(&b.name))
            });
        }
        found.into_values().collect()
    }

    fn of<'a>(&'a self, component: &'a Component) -> impl Iterator<Item = &'a Entry> {
        self.entries
            .values()
            .filter(move |entry| entry.release.component == *component)
    }

    /// The newest version of a component that is not withdrawn.
    #[must_use]
    pub fn newest<'a>(&'a self, component: &'a Component) -> Option<&'a Version> {
        let offered = self
            .of(component)
            .filter(|entry| entry.release.withdrawn.is_none());
        offered.map(|entry| &entry.release.version).max()
    }

    /// Whether `next` may follow this listing, and what it changes.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn step(&self, next: &Self) -> Result<Changes, Refusal> {
        let mut changes = Changes::default();
        for (name, entry) in &next.entries {
            match self.entries.get(name) {
                None => {
                    self.check_added(entry)?;
                    changes.added.push(name.clone());
                }
                Some(old) if old == entry => {}
                Some(old) if old.withdrawn_as(entry) => changes.withdrawn.push(name.clone()),
                Some(_) => return Err(Refusal::Changed { target: name.clone() }),
            }
        }
        let gone = self
            .entries
            .keys()
            .filter(|name| !next.entries.contains_key(*name));
        changes.removed = gone.cloned().collect();
        Ok(changes)
    }

    /// A new entry against what was there before; entries that come together may share a version.
    fn check_added(&self, entry: &Entry) -> Result<(), Refusal> {
        let Release {
            component,
            version,
            counter,
            ..
        } = &entry.release;
        // A further file of a version that is here already: for another processor or other hardware.
        let same: Vec<&Entry> = self
            .of(component)
            .filter(|old| old.release.version == *version)
            .collect();
        let sibling = !same.is_empty()
            && same.iter().all(|old| {
                old.release.counter == *counter
                    && (old.release.arch != entry.release.arch
                        || old.release.hardware != entry.release.hardware)
            });
        if sibling {
            return Ok(());
        }
        if let Some(newest) = self.newest(component).filter(|newest| *newest >= version) {
            return Err(Refusal::NotNewer {
                component: component.clone(),
                version: version.clone(),
                newest: newest.clone(),
            });
        }
        match self.of(component).map(|old| old.release.counter).max() {
            Some(floor) if *counter <= floor => Err(Refusal::Counter {
                component: component.clone(),
                version: version.clone(),
                counter: *counter,
                floor,
            }),
            _ => Ok(()),
        }
    }

    /// Digests of all files.
    #[must_use]
    pub fn digests(&self) -> BTreeSet<Digest> {
        self.entries.values().map(|entry| entry.sha256).collect()
    }
}

impl Entry {
    fn read(name: &str, target: &TargetFile) -> Result<Self, String> {
        let path: TargetPath = name.parse().map_err(|error| format!("its name: {error}"))?;
        let sha256 = target.sha256().ok_or("it lists no SHA-256")?;
        if target.length > MAX_TARGET {
            return Err(format!("it has {} bytes: {MAX_TARGET} at most", target.length));
        }
        let custom = target.custom.as_ref().ok_or("it has no description (custom)")?;
        let release = Release::from_custom(custom)
            .map_err(|error| format!("its description: {}", crate::refusal::chain(&error)))?;
        let agrees = path.component() == &release.component
            && path.version() == &release.version
            && path.file_name() == release.file_name;
        if !agrees {
            return Err(format!(
                "its description is of {} {} in {:?}, which its name does not say",
                release.component, release.version, release.file_name
            ));
        }
        let sha512 = target.hashes.0.get("sha512").cloned();
        Ok(Self {
            name: name.to_owned(),
            length: target.length,
            sha256,
            sha512,
            release,
        })
    }

    /// Whether `next` is this entry with nothing but a withdrawal added.
    fn withdrawn_as(&self, next: &Self) -> bool {
        let mut before = self.clone();
        before.release.withdrawn.clone_from(&next.release.withdrawn);
        self.release.withdrawn.is_none() && next.release.withdrawn.is_some() && before == *next
    }
}
