//! What a repository checks before it publishes: the author's new files, by the client's own rules.

use std::sync::Arc;

use crate::schema::{Metadata, Root, Targets};
use crate::state::Held;
use crate::update::check_fresh;
use crate::{Error, Limits, Role, TrustedState, UnixTime};

/// New files from an author, in the order in which they take effect.
#[derive(Debug, Clone, Copy, Default)]
pub struct NewFiles<'a> {
    /// Roots, each the successor of the one before; the first follows the state's root.
    pub roots: &'a [Vec<u8>],
    /// Top-level targets, signed by the keys of the last root.
    pub targets: Option<&'a [u8]>,
    /// Delegated roles by name, parents before children.
    pub delegated: &'a [(String, Vec<u8>)],
}

/// An upload that a client would accept once snapshot and timestamp name it.
#[derive(Debug, Clone)]
pub struct Upload {
    /// The new roots by version, raw bytes.
    pub roots: Vec<(u64, Vec<u8>)>,
    /// The root in force after the upload.
    pub root: Root,
    /// The targets in force after the upload; none when there never were any.
    pub targets: Option<Targets>,
    /// Whether the targets are new with this upload.
    pub targets_changed: bool,
    /// The delegated roles that are new with this upload.
    pub delegated: Vec<(String, Targets)>,
    /// What a client would hold after these files: root and targets roles, but no snapshot or timestamp of them
    /// yet. For checking only; the repository's own state advances through [`crate::Update`].
    pub state: TrustedState,
}

/// Checks an author's upload against what the repository trusts.
///
/// Roots follow the same rules as in a refresh; the last one must not have expired. Targets must be signed by
/// that root's keys, must not have expired, and must be strictly newer than the ones held or ever named. When
/// only roots come, the targets held must still be vouched for by the new root. A delegated role must be signed
/// by the keys that some targets role in force names for it, and be strictly newer too.
///
/// # Errors
/// The first rule that is broken.
pub fn verify_upload(
    state: &TrustedState,
    new: NewFiles<'_>,
    now: UnixTime,
    limits: &Limits,
) -> Result<Upload, Error> {
    let mut upload = Intake {
        before: state,
        after: state.clone(),
        now,
        limits,
    };
    let roots = new
        .roots
        .iter()
        .map(|bytes| upload.take_root(bytes))
        .collect::<Result<_, _>>()?;
    let root = upload.after.root().clone();
    check_fresh(&Role::Root.versioned_file_name(root.version), &root, now)?;
    match new.targets {
        Some(bytes) => upload.take_targets(bytes)?,
        None if state.targets().is_some() && upload.after.targets().is_none() => {
            return Err(Error::Missing {
                file: "targets.json signed by the new root's keys".to_owned(),
            });
        }
        None => {}
    }
    let delegated = new
        .delegated
        .iter()
        .map(|(name, bytes)| upload.take_delegated(name, bytes))
        .collect::<Result<_, _>>()?;
    let state = upload.after;
    let targets = state.targets().cloned();
    Ok(Upload {
        roots,
        root,
        targets,
        targets_changed: new.targets.is_some(),
        delegated,
        state,
    })
}

/// An upload on its way through the rules.
struct Intake<'a> {
    before: &'a TrustedState,
    after: TrustedState,
    now: UnixTime,
    limits: &'a Limits,
}

impl Intake<'_> {
    fn take_root(&mut self, bytes: &[u8]) -> Result<(u64, Vec<u8>), Error> {
        let file = Role::Root.versioned_file_name(self.after.root().version.saturating_add(1));
        check_length(&file, bytes, self.limits.root_length)?;
        let version = self.after.accept_root(&file, bytes, self.limits)?;
        Ok((version, bytes.to_vec()))
    }

    fn take_targets(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let file = Role::Targets.file_name();
        check_length(&file, bytes, self.limits.targets_length)?;
        let root = self.after.root();
        let delegator = format!("root version {}", root.version);
        let held = Held::verify(bytes, &file, self.limits, &root.targets, &root.keys, &delegator)?;
        self.check_newer(&Role::Targets, self.before.targets(), &held)?;
        self.after.targets = Some(Arc::new(held));
        Ok(())
    }

    fn take_delegated(&mut self, name: &str, bytes: &[u8]) -> Result<(String, Targets), Error> {
        let role = Role::Delegated(name.to_owned());
        let file = role.file_name();
        check_length(&file, bytes, self.limits.targets_length)?;
        let parents = self
            .after
            .targets()
            .into_iter()
            .chain(self.after.delegated.values().map(|held| &held.signed));
        let mut verdict = Err(Error::Threshold {
            file: file.clone(),
            delegator: "no role".into(),
            valid: 0,
            needed: 1,
        });
        for delegations in parents.filter_map(|parent| parent.delegations.as_ref()) {
            let Some(edge) = delegations.roles.iter().find(|edge| edge.name == name) else {
                continue;
            };
            verdict = Held::verify(
                bytes,
                &file,
                self.limits,
                &edge.keys,
                &delegations.keys,
                "its delegation",
            );
            if verdict.is_ok() {
                break;
            }
        }
        let held = verdict?;
        self.check_newer(&role, self.before.delegated(name), &held)?;
        let targets = held.signed.clone();
        self.after.delegated.insert(name.to_owned(), Arc::new(held));
        Ok((name.to_owned(), targets))
    }

    fn check_newer(&self, role: &Role, before: Option<&Targets>, new: &Held<Targets>) -> Result<(), Error> {
        let found = new.signed.version();
        let named = self.after.floors.named(&role.meta_name());
        // New snapshot keys let versions begin again below (fast-forward recovery); their floor is empty then.
        let recovering = self.after.floors.snapshot.tie != self.before.floors.snapshot.tie;
        let held = before
            .filter(|_| !recovering)
            .map_or(0, |targets| targets.version);
        let current = held.max(named);
        if found <= current {
            return Err(Error::NotNewer {
                file: role.file_name(),
                current,
                found,
            });
        }
        check_fresh(&role.file_name(), &new.signed, self.now)
    }
}

fn check_length(file: &str, bytes: &[u8], limit: u64) -> Result<(), Error> {
    if bytes.len() as u64 > limit {
        return Err(Error::TooLong {
            file: file.to_owned(),
            limit,
        });
    }
    Ok(())
}
