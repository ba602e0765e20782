//! What must never go back: versions, release counters, time. Small, and kept twice.
//!
//! The floors stand in the state and in a copy of their own, so that a torn or replaced file takes away at
//! most one of them; [`Floors::merge`] takes the higher of both. A floor belongs to the key set that
//! signed what raised it. Only a newer root that changes that key set takes the floor down (the
//! specification's fast-forward recovery, 5.3.11), because then the numbers before may be the thief's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::schema::{RoleKeys, Root, Snapshot, Timestamp};
use crate::{Digest, Error, UnixTime};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Floors {
    /// The newest root version seen.
    pub(crate) root: u64,
    /// When this program was built; an input, never a clock.
    pub(crate) built: Option<UnixTime>,
    /// Raised by timestamps, tied to the timestamp keys.
    pub(crate) timestamp: TimestampFloor,
    /// The snapshot version that a timestamp named, tied to the keys of both roles.
    pub(crate) announced: VersionFloor,
    /// Raised by snapshots, tied to the snapshot keys.
    pub(crate) snapshot: SnapshotFloor,
    /// By component; raised when a release is committed.
    pub(crate) releases: BTreeMap<String, ReleaseFloor>,
}

/// The key set a floor is tied to, and the root version since which it has been in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tie {
    pub(crate) keys: Digest,
    pub(crate) since: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TimestampFloor {
    pub(crate) tie: Tie,
    pub(crate) version: u64,
    /// The newest `signed_at` of a timestamp whose whole chain was verified.
    pub(crate) signed_at: Option<UnixTime>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VersionFloor {
    pub(crate) tie: Tie,
    pub(crate) version: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SnapshotFloor {
    pub(crate) tie: Tie,
    pub(crate) version: u64,
    /// By file name as the snapshot lists it.
    pub(crate) roles: BTreeMap<String, RoleFloor>,
}

/// Two heights of one targets role.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RoleFloor {
    /// The newest version a verified snapshot named: newer snapshots must not go below.
    pub(crate) named: u64,
    /// The newest version held: an older stored copy is not served.
    pub(crate) held: u64,
}

/// Ordered by epoch first: a signed epoch reset (later) makes a burnt counter harmless.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReleaseFloor {
    pub(crate) epoch: u64,
    pub(crate) counter: u64,
}

/// The key sets that the floors are tied to under one root.
struct KeySets {
    timestamp: Digest,
    snapshot: Digest,
    both: Digest,
}

impl KeySets {
    fn of(root: &Root) -> Self {
        let set = RoleKeys::digest;
        let (timestamp, snapshot) = (set(&root.timestamp), set(&root.snapshot));
        let both = Digest::of(&[*timestamp.as_bytes(), *snapshot.as_bytes()].concat());
        Self {
            timestamp,
            snapshot,
            both,
        }
    }
}

impl Floors {
    /// Nothing seen yet but this root.
    pub(crate) fn new(root: &Root, built: Option<UnixTime>) -> Self {
        let sets = KeySets::of(root);
        let tie = |keys| Tie {
            keys,
            since: root.version,
        };
        Self {
            root: root.version,
            built,
            timestamp: TimestampFloor {
                tie: tie(sets.timestamp),
                version: 0,
                signed_at: None,
            },
            announced: VersionFloor {
                tie: tie(sets.both),
                version: 0,
            },
            snapshot: SnapshotFloor {
                tie: tie(sets.snapshot),
                version: 0,
                roles: BTreeMap::new(),
            },
            releases: BTreeMap::new(),
        }
    }

    /// A newer root was accepted: floors whose keys it changes start again from nothing.
    ///
    /// A root that has been seen before (an old copy of the state was put back) changes nothing.
    pub(crate) fn accept_root(&mut self, root: &Root) {
        if root.version <= self.root {
            return;
        }
        let fresh = Self::new(root, self.built);
        if self.timestamp.tie.keys != fresh.timestamp.tie.keys {
            self.timestamp = fresh.timestamp;
        }
        if self.announced.tie.keys != fresh.announced.tie.keys {
            self.announced = fresh.announced;
        }
        if self.snapshot.tie.keys != fresh.snapshot.tie.keys {
            self.snapshot = fresh.snapshot;
        }
        self.root = root.version;
    }

    /// The state's root stands where the floors do; only then may anything below it be judged.
    pub(crate) fn check_root(&self, root: &Root) -> Result<(), Error> {
        if root.version < self.root {
            return Err(Error::RootBehind {
                floor: self.root,
                found: root.version,
            });
        }
        let sets = KeySets::of(root);
        let fits = self.timestamp.tie.keys == sets.timestamp
            && self.announced.tie.keys == sets.both
            && self.snapshot.tie.keys == sets.snapshot;
        if !fits {
            return Err(Error::damaged(
                "the floors belong to other keys than the trusted root names",
            ));
        }
        Ok(())
    }

    /// Nothing older than what was seen (specification, 5.4.3).
    pub(crate) fn check_timestamp(&self, timestamp: &Timestamp, file: &str) -> Result<(), Error> {
        not_below(file, "timestamp", self.timestamp.version, timestamp.version)?;
        let snapshot = self.announced.version.max(self.snapshot.version);
        not_below(file, "snapshot", snapshot, timestamp.snapshot.version)
    }

    pub(crate) fn accept_timestamp(&mut self, timestamp: &Timestamp) {
        self.timestamp.version = self.timestamp.version.max(timestamp.version);
        self.announced.version = self.announced.version.max(timestamp.snapshot.version);
    }

    /// No role removed, no version lower (specification, 5.5.5).
    pub(crate) fn check_snapshot(&self, snapshot: &Snapshot, file: &str) -> Result<(), Error> {
        not_below(file, "snapshot", self.snapshot.version, snapshot.version)?;
        for (role, floor) in &self.snapshot.roles {
            let entry = snapshot.meta.get(role).ok_or_else(|| Error::RoleRemoved {
                file: file.to_owned(),
                role: role.clone(),
            })?;
            not_below(file, role, floor.named, entry.version)?;
        }
        Ok(())
    }

    pub(crate) fn accept_snapshot(&mut self, snapshot: &Snapshot) {
        self.snapshot.version = self.snapshot.version.max(snapshot.version);
        for (role, entry) in &snapshot.meta {
            let floor = self.snapshot.roles.entry(role.clone()).or_default();
            floor.named = floor.named.max(entry.version);
        }
    }

    /// `role` by its name in the snapshot.
    pub(crate) fn accept_targets(&mut self, role: &str, version: u64) {
        let floor = self.snapshot.roles.entry(role.to_owned()).or_default();
        floor.held = floor.held.max(version);
        floor.named = floor.named.max(version);
    }

    pub(crate) fn held(&self, role: &str) -> u64 {
        self.snapshot.roles.get(role).map_or(0, |floor| floor.held)
    }

    pub(crate) fn named(&self, role: &str) -> u64 {
        self.snapshot.roles.get(role).map_or(0, |floor| floor.named)
    }

    pub(crate) fn accept_signed_at(&mut self, signed_at: UnixTime) {
        self.timestamp.signed_at = self.timestamp.signed_at.max(Some(signed_at));
    }

    pub(crate) fn not_before(&self) -> Option<UnixTime> {
        self.built.max(self.timestamp.signed_at)
    }

    /// The higher of both copies, floor by floor; where the keys differ, the one under the newer root.
    pub(crate) fn merge(self, other: Self) -> Result<Self, Error> {
        let mut releases = self.releases;
        for (component, floor) in other.releases {
            let mine = releases.entry(component).or_default();
            *mine = floor.max(*mine);
        }
        Ok(Self {
            root: self.root.max(other.root),
            built: self.built.max(other.built),
            timestamp: merge_tied(
                self.timestamp,
                other.timestamp,
                |floor| floor.tie,
                |a, b| TimestampFloor {
                    tie: later(a.tie, b.tie),
                    version: a.version.max(b.version),
                    signed_at: a.signed_at.max(b.signed_at),
                },
            )?,
            announced: merge_tied(
                self.announced,
                other.announced,
                |floor| floor.tie,
                |a, b| VersionFloor {
                    tie: later(a.tie, b.tie),
                    version: a.version.max(b.version),
                },
            )?,
            snapshot: merge_tied(
                self.snapshot,
                other.snapshot,
                |floor| floor.tie,
                |a, b| SnapshotFloor {
                    tie: later(a.tie, b.tie),
                    version: a.version.max(b.version),
                    roles: merge_roles(a.roles, b.roles),
                },
            )?,
            releases,
        })
    }
}

fn not_below(file: &str, subject: &str, floor: u64, found: u64) -> Result<(), Error> {
    if found < floor {
        return Err(Error::Rollback {
            file: file.to_owned(),
            subject: subject.to_owned(),
            floor,
            found,
        });
    }
    Ok(())
}

fn later(a: Tie, b: Tie) -> Tie {
    if a.since >= b.since { a } else { b }
}

fn merge_tied<T>(a: T, b: T, tie: impl Fn(&T) -> Tie, highest: impl Fn(T, T) -> T) -> Result<T, Error> {
    let (tie_a, tie_b) = (tie(&a), tie(&b));
    if tie_a.keys == tie_b.keys {
        return Ok(highest(a, b));
    }
    match tie_a.since.cmp(&tie_b.since) {
        std::cmp::Ordering::Greater => Ok(a),
        std::cmp::Ordering::Less => Ok(b),
        std::cmp::Ordering::Equal => Err(Error::damaged(
            "the two copies of the floors belong to different roots",
        )),
    }
}

fn merge_roles(
    a: BTreeMap<String, RoleFloor>,
    b: BTreeMap<String, RoleFloor>,
) -> BTreeMap<String, RoleFloor> {
    let mut roles = a;
    for (name, floor) in b {
        let mine = roles.entry(name).or_default();
        mine.named = mine.named.max(floor.named);
        mine.held = mine.held.max(floor.held);
    }
    roles
}
