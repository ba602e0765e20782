//! The walk over delegated roles: pre-order, depth first, in the order of precedence (specification, 5.6.7).
//!
//! A role is checked against the one that delegates to it here and now: a file that one parent vouches for
//! says nothing for another parent (the "diamond").

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::schema::{Metadata, RoleKeys, Targets};
use crate::state::{Held, asked_for};
use crate::update::{check_fresh, check_version, is_current, request_for};
use crate::{Error, Limits, Request, Role, TrustedState, UnixTime};

/// One delegation on the way.
#[derive(Debug, Clone)]
struct Edge {
    child: String,
    keys: RoleKeys,
    parent: Role,
}

/// What a walk verifies with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules<'a> {
    pub(crate) now: UnixTime,
    pub(crate) limits: &'a Limits,
}

/// Where a walk stands.
#[derive(Debug, Clone)]
pub(crate) struct Walk {
    /// Only roles that may name this target; without one, every role.
    target: Option<String>,
    ahead: Vec<Edge>,
    visited: BTreeSet<(String, Option<crate::Digest>)>,
    /// The edge whose file is to be fetched.
    wanted: Option<Edge>,
    pub(crate) found: Option<Role>,
}

impl Walk {
    /// Begins at the top-level targets, which must be verified.
    pub(crate) fn begin(target: Option<String>, state: &TrustedState) -> Self {
        let mut walk = Self {
            target,
            ahead: Vec::new(),
            visited: BTreeSet::new(),
            wanted: None,
            found: None,
        };
        walk.enter(Role::Targets, state);
        walk
    }

    /// The file wanted now.
    pub(crate) fn request(&self, state: &TrustedState, limits: &Limits) -> Option<Request> {
        let role = Role::Delegated(self.wanted.as_ref()?.child.clone());
        let entry = state.snapshot()?.meta.get(&role.meta_name())?;
        Some(request_for(
            role,
            entry,
            state.root().consistent_snapshot,
            limits.targets_length,
        ))
    }

    /// The role whose file is wanted now.
    pub(crate) fn wanted(&self) -> Option<Role> {
        self.wanted
            .as_ref()
            .map(|edge| Role::Delegated(edge.child.clone()))
    }

    /// Goes on until a file must be fetched or the walk is over. A role in error is left out of the walk; calling
    /// again goes on behind it.
    pub(crate) fn advance(
        &mut self,
        state: &mut TrustedState,
        rules: Rules<'_>,
    ) -> Result<(), (Role, Error)> {
        self.wanted = None;
        while self.found.is_none() {
            let Some(edge) = self.ahead.pop() else {
                return Ok(());
            };
            // A lookup sees each role once; a full walk sees each role once for each key set that vouches for it.
            let keys = self.target.is_none().then(|| edge.keys.digest());
            if !self.visited.insert((edge.child.clone(), keys)) {
                continue;
            }
            let role = Role::Delegated(edge.child.clone());
            if self.visited.len() > rules.limits.delegations as usize {
                self.ahead.clear();
                let (file, limit) = (Role::Targets.file_name(), rules.limits.delegations);
                return Err((
                    role,
                    Error::TooMany {
                        file,
                        what: "delegated roles to visit",
                        limit,
                    },
                ));
            }
            if self.visit(edge, state, rules).map_err(|error| (role, error))? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// True when the role's file must be fetched first.
    fn visit(&mut self, edge: Edge, state: &mut TrustedState, rules: Rules<'_>) -> Result<bool, Error> {
        let role = Role::Delegated(edge.child.clone());
        let entry = state
            .snapshot()
            .and_then(|snapshot| snapshot.meta.get(&role.meta_name()))
            .ok_or_else(|| Error::NotInSnapshot {
                role: role.to_string(),
            })?;
        match state.delegated.get(&edge.child) {
            Some(held) if is_current(held, entry, rules.now) => {
                if !held.authorised.contains(&edge.keys.digest()) {
                    let again = verify(held.raw.as_bytes(), &role.file_name(), &edge, state, rules.limits)?;
                    add(state, &edge.child, again);
                }
                self.enter(role, state);
                Ok(false)
            }
            _ => {
                self.wanted = Some(edge);
                Ok(true)
            }
        }
    }

    /// Takes the file wanted. Returns its version.
    pub(crate) fn take(
        &mut self,
        file: &str,
        bytes: &[u8],
        state: &mut TrustedState,
        rules: Rules<'_>,
    ) -> Result<u64, Error> {
        let edge = self.wanted.take().ok_or(Error::NotAskedFor {
            reason: "no delegated role is wanted",
        })?;
        let role = Role::Delegated(edge.child.clone());
        let meta_name = role.meta_name();
        let entry = state
            .snapshot()
            .and_then(|snapshot| snapshot.meta.get(&meta_name))
            .ok_or_else(|| Error::NotInSnapshot {
                role: role.to_string(),
            })?;
        entry.check(bytes, file)?;
        let held = verify(bytes, file, &edge, state, rules.limits)?;
        check_version(file, entry, held.signed.version())?;
        check_fresh(file, &held.signed, rules.now)?;
        let version = held.signed.version();
        state.floors.accept_targets(&meta_name, version);
        add(state, &edge.child, held);
        self.enter(role, state);
        Ok(version)
    }

    /// Looks at a verified role and lines up the ones it delegates to.
    fn enter(&mut self, role: Role, state: &TrustedState) {
        let Some(targets) = state.targets_of(&role) else {
            return;
        };
        if self
            .target
            .as_ref()
            .is_some_and(|target| targets.targets.contains_key(target))
        {
            self.found = Some(role);
            return;
        }
        let Some(delegations) = &targets.delegations else {
            return;
        };
        let (children, terminating) = match &self.target {
            Some(target) => asked_for(delegations, target),
            None => (delegations.roles.iter().collect(), false),
        };
        if terminating {
            self.ahead.clear();
        }
        let edges = children.into_iter().rev().map(|child| Edge {
            child: child.name.clone(),
            keys: child.keys.clone(),
            parent: role.clone(),
        });
        self.ahead.extend(edges);
    }

    /// Names of all roles seen.
    pub(crate) fn visited(&self) -> impl Iterator<Item = &str> {
        self.visited.iter().map(|(name, _)| name.as_str())
    }
}

fn verify(
    bytes: &[u8],
    file: &str,
    edge: &Edge,
    state: &TrustedState,
    limits: &Limits,
) -> Result<Held<Targets>, Error> {
    let parent = state
        .targets_of(&edge.parent)
        .and_then(|targets| targets.delegations.as_ref());
    let delegations = parent.ok_or(Error::NotAskedFor {
        reason: "the delegating role is gone",
    })?;
    Held::verify(
        bytes,
        file,
        limits,
        &edge.keys,
        &delegations.keys,
        &edge.parent.to_string(),
    )
}

/// Keeps a verified role; key sets that vouched for the very same bytes before still do.
fn add(state: &mut TrustedState, name: &str, mut held: Held<Targets>) {
    if let Some(old) = state.delegated.get(name).filter(|old| old.raw == held.raw) {
        held.authorised.extend(&old.authorised);
    }
    state.delegated.insert(name.to_owned(), Arc::new(held));
}
