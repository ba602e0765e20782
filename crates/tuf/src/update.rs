//! One refresh as a state machine that asks for files and never fetches (specification, section 5.3 to 5.6).

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::schema::{MetaFile, Metadata, Snapshot, Targets, Timestamp};
use crate::state::Held;
use crate::walk::{Rules, Walk};
use crate::{Error, Limits, Role, TrustedState, UnixTime};

/// A file the refresh needs next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Whose file.
    pub role: Role,
    /// The version in its name, where names carry versions.
    pub version: Option<u64>,
    /// Its path below the repository's metadata folder, percent-encoded: one segment.
    pub path: String,
    /// Not one byte more is to be read than this.
    pub max_length: u64,
}

impl Request {
    pub(crate) fn check_length(&self, bytes: &[u8]) -> Result<(), Error> {
        if bytes.len() as u64 > self.max_length {
            return Err(Error::TooLong {
                file: self.path.clone(),
                limit: self.max_length,
            });
        }
        Ok(())
    }
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Fetch this file, then call [`Update::supply`] or [`Update::missing`].
    Fetch(Request),
    /// The refresh is over: complete, or stopped by an error that was returned before.
    Done,
}

/// A file that was verified and is now part of the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Its name in the repository, for a mirror: `3.root.json`.
    pub file: String,
    /// Whose file.
    pub role: Role,
    /// Its version.
    pub version: u64,
    /// False when the state did not change: the timestamp was held already, or a delegated role was refused
    /// ([`Update::problems`]).
    pub changed: bool,
}

/// One refresh at one fixed time.
///
/// Save [`state`](Self::state) after every accepted root and at the end, also after an error: what was accepted
/// before the error stays accepted.
#[derive(Debug, Clone)]
pub struct Update {
    state: TrustedState,
    now: UnixTime,
    limits: Limits,
    step: Step,
    roots: u32,
    delegations: bool,
    walk: Option<Walk>,
    problems: Vec<(Role, Error)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Root,
    Timestamp,
    Snapshot,
    Targets,
    Delegations,
    Done,
    Failed,
}

impl Update {
    /// Begins a refresh. `now` is the believed time ([`crate::clock::believe`]); it stays fixed, and is never
    /// taken to be before [`TrustedState::not_before`].
    #[must_use]
    pub fn start(state: TrustedState, now: UnixTime, limits: Limits) -> Self {
        let now = state.not_before().map_or(now, |floor| floor.max(now));
        Self {
            state,
            now,
            limits,
            step: Step::Root,
            roots: 0,
            delegations: false,
            walk: None,
            problems: Vec::new(),
        }
    }

    /// Also brings in every delegated role, not only the top-level ones.
    ///
    /// A delegated role that is refused or missing does not end the refresh: one team's lapse must not stop the
    /// others. It is listed in [`problems`](Self::problems), and its targets are not served.
    #[must_use]
    pub fn with_delegations(mut self) -> Self {
        self.delegations = true;
        self
    }

    /// Delegated roles that were left out, and why.
    #[must_use]
    pub fn problems(&self) -> &[(Role, Error)] {
        &self.problems
    }

    /// The file needed next.
    #[must_use]
    pub fn next(&self) -> Next {
        match self.step {
            Step::Root => {
                let version = self.state.root().version.saturating_add(1);
                Next::Fetch(Request {
                    path: Role::Root.versioned_file_name(version),
                    role: Role::Root,
                    version: Some(version),
                    max_length: self.limits.root_length,
                })
            }
            Step::Timestamp => Next::Fetch(Request {
                path: Role::Timestamp.file_name(),
                role: Role::Timestamp,
                version: None,
                max_length: self.limits.timestamp_length,
            }),
            Step::Snapshot => self.named(Role::Snapshot),
            Step::Targets => self.named(Role::Targets),
            Step::Delegations => {
                let request = self
                    .walk
                    .as_ref()
                    .and_then(|walk| walk.request(&self.state, &self.limits));
                request.map_or(Next::Done, Next::Fetch)
            }
            Step::Done | Step::Failed => Next::Done,
        }
    }

    /// A request for a file that its parent describes.
    fn named(&self, role: Role) -> Next {
        let cap = if role == Role::Snapshot {
            self.limits.snapshot_length
        } else {
            self.limits.targets_length
        };
        let consistent = self.state.root().consistent_snapshot;
        match self.entry(&role) {
            Ok(entry) => Next::Fetch(request_for(role, entry, consistent, cap)),
            Err(_) => Next::Done,
        }
    }

    /// How the parent describes a role's file.
    fn entry(&self, role: &Role) -> Result<&MetaFile, Error> {
        let entry = match role {
            Role::Snapshot => self.state.timestamp().map(|timestamp| &timestamp.snapshot),
            _ => self
                .state
                .snapshot()
                .and_then(|snapshot| snapshot.meta.get(&role.meta_name())),
        };
        entry.ok_or_else(|| Error::NotInSnapshot {
            role: role.to_string(),
        })
    }

    /// Takes the bytes of the file asked for.
    ///
    /// # Errors
    /// Why the file is refused. The refresh is over then; the state keeps what was accepted before.
    pub fn supply(&mut self, bytes: &[u8]) -> Result<Accepted, Error> {
        let Next::Fetch(request) = self.next() else {
            return Err(Error::NotAskedFor {
                reason: "the refresh is over",
            });
        };
        let verdict = self.judge(&request, bytes);
        if verdict.is_err() {
            self.step = Step::Failed;
        }
        verdict
    }

    fn judge(&mut self, request: &Request, bytes: &[u8]) -> Result<Accepted, Error> {
        request.check_length(bytes)?;
        match self.step {
            Step::Root => self.take_root(&request.path, bytes),
            Step::Timestamp => self.take_timestamp(&request.path, bytes),
            Step::Snapshot => self.take_snapshot(&request.path, bytes),
            Step::Delegations => self.take_delegated(request, bytes),
            _ => self.take_targets(&request.path, bytes),
        }
    }

    /// Says that the repository does not have the file asked for.
    ///
    /// For the next root this is the normal end of the chain; the trusted root must then not have expired.
    ///
    /// # Errors
    /// [`Error::Missing`], or the verdict over the final root. The refresh is over then.
    pub fn missing(&mut self) -> Result<(), Error> {
        let verdict = match (self.step, self.next()) {
            (Step::Root, _) => self.end_of_roots(),
            (Step::Delegations, Next::Fetch(request)) => {
                self.problems
                    .push((request.role, Error::Missing { file: request.path }));
                self.walk_on();
                Ok(())
            }
            (_, Next::Fetch(request)) => Err(Error::Missing { file: request.path }),
            (_, Next::Done) => Err(Error::NotAskedFor {
                reason: "the refresh is over",
            }),
        };
        if verdict.is_err() {
            self.step = Step::Failed;
        }
        verdict
    }

    /// The state so far.
    #[must_use]
    pub fn state(&self) -> &TrustedState {
        &self.state
    }

    /// The state at the end.
    #[must_use]
    pub fn into_state(self) -> TrustedState {
        self.state
    }

    /// The time this refresh verifies with.
    #[must_use]
    pub fn now(&self) -> UnixTime {
        self.now
    }

    /// Sections 5.3.4 to 5.3.8: signed by the old and the new threshold, exactly the next version.
    fn take_root(&mut self, file: &str, bytes: &[u8]) -> Result<Accepted, Error> {
        if self.roots >= self.limits.root_rotations {
            let version = self.state.root().version;
            return Err(Error::TooManyRoots {
                limit: self.limits.root_rotations,
                version,
            });
        }
        let version = self.state.accept_root(file, bytes, &self.limits)?;
        self.roots += 1;
        Ok(accepted(file, Role::Root, version))
    }

    /// Sections 5.3.9 to 5.3.10: only the final root's expiry counts.
    fn end_of_roots(&mut self) -> Result<(), Error> {
        let root = self.state.root();
        self.state.floors.check_root(root)?;
        check_fresh(&Role::Root.versioned_file_name(root.version), root, self.now)?;
        self.step = Step::Timestamp;
        Ok(())
    }

    /// Section 5.4.
    fn take_timestamp(&mut self, file: &str, bytes: &[u8]) -> Result<Accepted, Error> {
        let held: Held<Timestamp> = self.verified_by_root(&Role::Timestamp, file, bytes)?;
        let offered = &held.signed;
        self.state.floors.check_timestamp(offered, file)?;
        let known = self
            .state
            .timestamp()
            .is_some_and(|timestamp| timestamp.version == offered.version);
        // The same version again: what is held stays, whatever else the new file says (5.4.3.1).
        let judged = if known {
            self.state.timestamp().unwrap_or(offered)
        } else {
            offered
        };
        check_fresh(file, judged, self.now)?;
        check_signed_at(judged, "timestamp", judged.expires)?;
        check_signed_at(judged, "root", self.state.root().expires)?;
        let version = judged.version;
        if !known {
            self.state.floors.accept_timestamp(&held.signed);
            self.state.timestamp = Some(Arc::new(held));
        }
        self.after_timestamp()?;
        Ok(Accepted {
            changed: !known,
            ..accepted(file, Role::Timestamp, version)
        })
    }

    /// The snapshot held may be the one the timestamp names.
    fn after_timestamp(&mut self) -> Result<(), Error> {
        self.step = Step::Snapshot;
        let entry = self.entry(&Role::Snapshot)?;
        let held = self.state.snapshot.as_deref();
        if held.is_some_and(|held| is_current(held, entry, self.now)) {
            return self.after_snapshot();
        }
        Ok(())
    }

    /// Section 5.5.
    fn take_snapshot(&mut self, file: &str, bytes: &[u8]) -> Result<Accepted, Error> {
        let entry = self.entry(&Role::Snapshot)?.clone();
        entry.check(bytes, file)?;
        let held: Held<Snapshot> = self.verified_by_root(&Role::Snapshot, file, bytes)?;
        check_version(file, &entry, held.signed.version)?;
        self.state.floors.check_snapshot(&held.signed, file)?;
        check_fresh(file, &held.signed, self.now)?;
        self.state.floors.accept_snapshot(&held.signed);
        self.state.snapshot = Some(Arc::new(held));
        self.after_snapshot()?;
        Ok(accepted(file, Role::Snapshot, entry.version))
    }

    fn after_snapshot(&mut self) -> Result<(), Error> {
        self.step = Step::Targets;
        let entry = self.entry(&Role::Targets)?;
        let held = self.state.targets.as_deref();
        if held.is_some_and(|held| is_current(held, entry, self.now)) {
            return self.after_targets();
        }
        Ok(())
    }

    /// Section 5.6.
    fn take_targets(&mut self, file: &str, bytes: &[u8]) -> Result<Accepted, Error> {
        let entry = self.entry(&Role::Targets)?.clone();
        entry.check(bytes, file)?;
        let held: Held<Targets> = self.verified_by_root(&Role::Targets, file, bytes)?;
        check_version(file, &entry, held.signed.version)?;
        check_fresh(file, &held.signed, self.now)?;
        self.state
            .floors
            .accept_targets(&Role::Targets.meta_name(), entry.version);
        self.state.targets = Some(Arc::new(held));
        self.after_targets()?;
        Ok(accepted(file, Role::Targets, entry.version))
    }

    /// The whole chain is verified; only now does the timestamp's word about time count.
    fn after_targets(&mut self) -> Result<(), Error> {
        if let (Some(timestamp), Some(targets)) = (self.state.timestamp(), self.state.targets()) {
            check_signed_at(timestamp, "targets", targets.expires)?;
            if let Some(signed_at) = timestamp.signed_at {
                self.state.floors.accept_signed_at(signed_at);
            }
        }
        self.step = Step::Done;
        if self.delegations {
            self.step = Step::Delegations;
            self.walk = Some(Walk::begin(None, &self.state));
            self.walk_on();
        }
        Ok(())
    }

    /// Section 5.6.7, for every delegation at once.
    fn take_delegated(&mut self, request: &Request, bytes: &[u8]) -> Result<Accepted, Error> {
        let rules = Rules {
            now: self.now,
            limits: &self.limits,
        };
        let walk = self.walk.as_mut().ok_or(Error::NotAskedFor {
            reason: "no delegated role is wanted",
        })?;
        let (version, changed) = match walk.take(&request.path, bytes, &mut self.state, rules) {
            Ok(version) => (version, true),
            Err(error) => {
                self.problems.push((request.role.clone(), error));
                (0, false)
            }
        };
        self.walk_on();
        Ok(Accepted {
            changed,
            ..accepted(&request.path, request.role.clone(), version)
        })
    }

    /// To the next delegated file that must be fetched, or to the end.
    fn walk_on(&mut self) {
        let rules = Rules {
            now: self.now,
            limits: &self.limits,
        };
        let Some(walk) = self.walk.as_mut() else { return };
        while let Err(problem) = walk.advance(&mut self.state, rules) {
            self.problems.push(problem);
        }
        if walk.wanted().is_none() {
            // Roles that nobody delegates to any more are not kept.
            let visited: BTreeSet<_> = walk.visited().collect();
            self.state
                .delegated
                .retain(|name, _| visited.contains(name.as_str()));
            self.step = Step::Done;
        }
    }

    fn verified_by_root<T: Metadata>(&self, role: &Role, file: &str, bytes: &[u8]) -> Result<Held<T>, Error> {
        let root = self.state.root();
        let keys = root.role(role).ok_or(Error::NotAskedFor {
            reason: "no top-level role",
        })?;
        let delegator = format!("root version {}", root.version);
        Held::verify(bytes, file, &self.limits, keys, &root.keys, &delegator)
    }
}

/// A request for a file that its parent describes.
pub(crate) fn request_for(role: Role, entry: &MetaFile, consistent: bool, cap: u64) -> Request {
    let version = consistent.then_some(entry.version);
    let path = version.map_or_else(|| role.file_name(), |version| role.versioned_file_name(version));
    let max_length = entry.length.map_or(cap, |length| length.min(cap));
    Request {
        role,
        version,
        path,
        max_length,
    }
}

/// Whether a file held is exactly the one its parent names, and need not be fetched again.
pub(crate) fn is_current<T: Metadata>(held: &Held<T>, entry: &MetaFile, now: UnixTime) -> bool {
    held.signed.version() == entry.version
        && held.signed.expires() > now
        && entry.check(held.raw.as_bytes(), "").is_ok()
}

pub(crate) fn check_fresh<T: Metadata>(file: &str, signed: &T, now: UnixTime) -> Result<(), Error> {
    if signed.expires() <= now {
        return Err(Error::Expired {
            file: file.to_owned(),
            expires: signed.expires(),
            now,
        });
    }
    Ok(())
}

fn accepted(file: &str, role: Role, version: u64) -> Accepted {
    Accepted {
        file: file.to_owned(),
        role,
        version,
        changed: true,
    }
}

pub(crate) fn check_version(file: &str, entry: &MetaFile, found: u64) -> Result<(), Error> {
    if found != entry.version {
        return Err(Error::VersionMismatch {
            file: file.to_owned(),
            expected: entry.version,
            found,
        });
    }
    Ok(())
}

/// A thief of the timestamp key must not push time beyond what the offline keys vouch for.
fn check_signed_at(timestamp: &Timestamp, role: &str, expires: UnixTime) -> Result<(), Error> {
    match timestamp.signed_at {
        Some(signed_at) if signed_at > expires => Err(Error::SignedPastExpiry {
            signed_at,
            role: role.to_owned(),
            expires,
        }),
        _ => Ok(()),
    }
}
