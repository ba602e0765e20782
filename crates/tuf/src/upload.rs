//! What a repository checks before it publishes: the author's new files, by the client's own rules.

use crate::schema::{Root, Targets};
use crate::state::Held;
use crate::{Error, Limits, Role, TrustedState, UnixTime};

/// New files from an author, in the order in which they take effect.
#[derive(Debug, Clone, Copy, Default)]
pub struct NewFiles<'a> {
    /// Roots, each the successor of the one before; the first follows the state's root.
    pub roots: &'a [Vec<u8>],
    /// Top-level targets, signed by the keys of the last root.
    pub targets: Option<&'a [u8]>,
}

/// An upload that a client would accept once snapshot and timestamp name it.
#[derive(Debug, Clone)]
pub struct Upload {
    /// The roots by version, raw bytes.
    pub roots: Vec<(u64, Vec<u8>)>,
    /// The root in force after the upload.
    pub root: Root,
    /// The targets in force after the upload; none when there never were any.
    pub targets: Option<Targets>,
    /// Whether the targets are new with this upload.
    pub targets_changed: bool,
    /// What a client would hold after these files: roots and targets, but no snapshot or timestamp of them yet.
    /// For checking only; the repository's own state advances through [`crate::Update`].
    pub state: TrustedState,
}

/// Checks an author's upload against what the repository trusts.
///
/// Roots follow the same rules as in a refresh; the last one must not have expired. Targets must be signed by
/// that root's keys, must not have expired, and must be strictly newer than the ones held or ever held. When
/// only roots come, the targets held must still be vouched for by the new root.
///
/// # Errors
/// The first rule that is broken.
pub fn verify_upload(
    state: &TrustedState,
    new: NewFiles<'_>,
    now: UnixTime,
    limits: &Limits,
) -> Result<Upload, Error> {
    let mut after = state.clone();
    let mut roots = Vec::new();
    for bytes in new.roots {
        let file = Role::Root.versioned_file_name(after.root().version.saturating_add(1));
        check_length(&file, bytes, limits.root_length)?;
        let version = after.accept_root(&file, bytes, limits)?;
        roots.push((version, bytes.clone()));
    }
    let root = after.root().clone();
    check_fresh(&Role::Root.versioned_file_name(root.version), root.expires, now)?;
    match new.targets {
        Some(bytes) => take_targets(&mut after, state, bytes, now, limits)?,
        None if state.targets().is_some() && after.targets().is_none() => {
            return Err(Error::Missing {
                file: "targets.json signed by the new root's keys".to_owned(),
            });
        }
        None => {}
    }
    let targets = after.targets().cloned();
    Ok(Upload {
        roots,
        root,
        targets,
        targets_changed: new.targets.is_some(),
        state: after,
    })
}

fn take_targets(
    after: &mut TrustedState,
    before: &TrustedState,
    bytes: &[u8],
    now: UnixTime,
    limits: &Limits,
) -> Result<(), Error> {
    let file = Role::Targets.file_name();
    check_length(&file, bytes, limits.targets_length)?;
    let root = after.root();
    let delegator = format!("root version {}", root.version);
    let held: Held<Targets> = Held::verify(bytes, &file, limits, &root.targets, &root.keys, &delegator)?;
    let found = held.signed.version;
    let seen = before
        .floors
        .snapshot
        .roles
        .get(&Role::Targets.meta_name())
        .map_or(0, |floor| floor.named);
    // A new root with new snapshot keys may begin again below (fast-forward recovery).
    let recovering = after.floors.snapshot.tie != before.floors.snapshot.tie;
    let current = before.targets().map_or(0, |targets| targets.version).max(seen);
    if found <= current && !recovering {
        return Err(Error::NotNewer { file, current, found });
    }
    check_fresh(&file, held.signed.expires, now)?;
    after.targets = Some(std::sync::Arc::new(held));
    Ok(())
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

fn check_fresh(file: &str, expires: UnixTime, now: UnixTime) -> Result<(), Error> {
    if expires <= now {
        return Err(Error::Expired {
            file: file.to_owned(),
            expires,
            now,
        });
    }
    Ok(())
}
