//! Everything a verifier must remember, as one value: bytes in, bytes out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::envelope::{Envelope, Keys};
use crate::floors::{Floors, ReleaseFloor};
use crate::schema::{Delegations, Metadata, RoleKeys, Root, Snapshot, TargetFile, Targets, Timestamp};
use crate::{Digest, Error, Limits, Role, UnixTime};

/// A verified file: its bytes as received, and what they say.
#[derive(Debug)]
pub(crate) struct Held<T> {
    pub(crate) raw: Box<str>,
    pub(crate) signed: T,
    /// Digests of the key sets that were seen to have signed it.
    pub(crate) authorised: BTreeSet<Digest>,
}

impl<T: Metadata> Held<T> {
    /// Reads `bytes` and checks them against the keys of a role.
    pub(crate) fn verify(
        bytes: &[u8],
        file: &str,
        limits: &Limits,
        role: &RoleKeys,
        keys: &Keys,
        delegator: &str,
    ) -> Result<Self, Error> {
        let envelope = Envelope::parse(bytes, file, T::TYPE, limits)?;
        envelope.verify(role, keys, delegator)?;
        Self::new(bytes, &envelope, role, limits)
    }

    fn new(bytes: &[u8], envelope: &Envelope, role: &RoleKeys, limits: &Limits) -> Result<Self, Error> {
        let signed = envelope.read(limits)?;
        let raw = std::str::from_utf8(bytes).map_err(|e| Error::malformed(&envelope.file, e.to_string()))?;
        Ok(Self {
            raw: raw.into(),
            signed,
            authorised: BTreeSet::from([role.digest()]),
        })
    }
}

/// The trusted root, the newest verified files, and the floors below which nothing is accepted again.
///
/// Cloning is cheap. Keep [`to_bytes`](Self::to_bytes) and [`floors_bytes`](Self::floors_bytes) in two
/// records, the floors written first; a lost or damaged state is an error, never a first use.
#[derive(Debug, Clone)]
pub struct TrustedState {
    pub(crate) root: Arc<Held<Root>>,
    pub(crate) timestamp: Option<Arc<Held<Timestamp>>>,
    pub(crate) snapshot: Option<Arc<Held<Snapshot>>>,
    pub(crate) targets: Option<Arc<Held<Targets>>>,
    pub(crate) delegated: BTreeMap<String, Arc<Held<Targets>>>,
    pub(crate) floors: Floors,
}

impl TrustedState {
    /// First use: trusts `root`, which must come from the author on a way of its own.
    ///
    /// It must be signed by its own threshold; it may have expired (a newer one is asked for first).
    /// `built` is the time this program was built, the first lower bound of time.
    ///
    /// # Errors
    /// When the file is no root or is not signed by itself.
    pub fn init(root: &[u8], built: Option<UnixTime>, limits: &Limits) -> Result<Self, Error> {
        let root = verify_first_root(root, limits)?;
        let floors = Floors::new(&root.signed, built);
        Ok(Self {
            root: Arc::new(root),
            timestamp: None,
            snapshot: None,
            targets: None,
            delegated: BTreeMap::new(),
            floors,
        })
    }

    /// The trusted root.
    #[must_use]
    pub fn root(&self) -> &Root {
        &self.root.signed
    }

    /// The newest verified timestamp.
    #[must_use]
    pub fn timestamp(&self) -> Option<&Timestamp> {
        self.timestamp.as_deref().map(|held| &held.signed)
    }

    /// The newest verified snapshot.
    #[must_use]
    pub fn snapshot(&self) -> Option<&Snapshot> {
        self.snapshot.as_deref().map(|held| &held.signed)
    }

    /// The newest verified top-level targets. They may be older than the snapshot names when a refresh
    /// stopped half way, see [`is_complete`](Self::is_complete).
    #[must_use]
    pub fn targets(&self) -> Option<&Targets> {
        self.targets.as_deref().map(|held| &held.signed)
    }

    /// A verified delegated role's targets.
    #[must_use]
    pub fn delegated(&self, name: &str) -> Option<&Targets> {
        self.delegated.get(name).map(|held| &held.signed)
    }

    /// Names of the delegated roles at hand, whether or not anybody delegates to them now.
    pub fn delegated_names(&self) -> impl Iterator<Item = &str> {
        self.delegated.keys().map(String::as_str)
    }

    pub(crate) fn targets_of(&self, role: &Role) -> Option<&Targets> {
        match role {
            Role::Targets => self.targets(),
            Role::Delegated(name) => self.delegated(name),
            _ => None,
        }
    }

    /// The bytes of a role's newest verified file, exactly as received.
    #[must_use]
    pub fn raw(&self, role: &Role) -> Option<&[u8]> {
        let raw = match role {
            Role::Root => Some(&self.root.raw),
            Role::Timestamp => self.timestamp.as_ref().map(|held| &held.raw),
            Role::Snapshot => self.snapshot.as_ref().map(|held| &held.raw),
            Role::Targets => self.targets.as_ref().map(|held| &held.raw),
            Role::Delegated(name) => self.delegated.get(name).map(|held| &held.raw),
        };
        raw.map(|text| text.as_bytes())
    }

    /// Every verified file: its name without a version (`root.json`, safe as a file name) and its bytes.
    pub fn roles(&self) -> impl Iterator<Item = (String, &[u8])> {
        let top = [Role::Root, Role::Timestamp, Role::Snapshot, Role::Targets];
        let delegated = self.delegated.keys().cloned().map(Role::Delegated);
        top.into_iter()
            .chain(delegated)
            .filter_map(|role| self.raw(&role).map(|bytes| (role.file_name(), bytes)))
    }

    /// Nothing verified is older than this: the build time or the newest `signed_at` of a fully verified
    /// chain, never a clock.
    #[must_use]
    pub fn not_before(&self) -> Option<UnixTime> {
        self.floors.not_before()
    }

    /// The release counter of `component` below which nothing is installed; 0 when none was committed.
    #[must_use]
    pub fn release_floor(&self, component: &str) -> u64 {
        self.floors
            .releases
            .get(component)
            .map_or(0, |floor| floor.counter)
    }

    /// Raises a component's floor to `counter`, at commit; it never falls.
    pub fn raise_release_floor(&mut self, component: &str, counter: u64) {
        let floor = self.floors.releases.entry(component.to_owned()).or_default();
        *floor = (*floor).max(ReleaseFloor {
            epoch: floor.epoch,
            counter,
        });
    }

    /// Every component with a release floor.
    pub fn release_floors(&self) -> impl Iterator<Item = (&str, u64)> {
        self.floors
            .releases
            .iter()
            .map(|(component, floor)| (component.as_str(), floor.counter))
    }

    /// Whether timestamp, snapshot and targets belong together: the last refresh came to its end.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let (Some(timestamp), Some(snapshot), Some(targets)) =
            (self.timestamp(), self.snapshot(), self.targets())
        else {
            return false;
        };
        let named = snapshot
            .meta
            .get(&Role::Targets.meta_name())
            .map(|entry| entry.version);
        snapshot.version == timestamp.snapshot.version && named == Some(targets.version)
    }

    /// The earliest expiry of a top-level role that has passed: nothing new is to be accepted since then.
    ///
    /// None says nothing about roles that are not at hand; ask [`is_complete`](Self::is_complete) too.
    #[must_use]
    pub fn stale_since(&self, now: UnixTime) -> Option<UnixTime> {
        [
            Some(self.root().expires),
            self.timestamp().map(|t| t.expires),
            self.snapshot().map(|s| s.expires),
            self.targets().map(|t| t.expires),
        ]
        .into_iter()
        .flatten()
        .filter(|expires| *expires <= now)
        .min()
    }

    /// What the verified metadata says about a target, asked in the order of precedence.
    ///
    /// None also when a role that comes first for this name is not at hand: a later one must not answer for it.
    #[must_use]
    pub fn target(&self, name: &str) -> Option<&TargetFile> {
        self.target_and_role(name).map(|(_, target)| target)
    }

    /// The same, with the role that names it.
    #[must_use]
    pub fn target_and_role(&self, name: &str) -> Option<(Role, &TargetFile)> {
        let mut visited = BTreeSet::new();
        let mut ahead: Vec<&str> = Vec::new();
        let mut role = Role::Targets;
        let mut targets = self.targets()?;
        loop {
            if let Some(target) = targets.targets.get(name) {
                return Some((role, target));
            }
            let (children, terminating) = targets
                .delegations
                .as_ref()
                .map_or_else(Default::default, |d| asked_for(d, name));
            if terminating {
                ahead.clear();
            }
            // Every child is checked against the role that delegates here and now.
            for child in children.iter().rev() {
                let authorised = self
                    .delegated
                    .get(&child.name)
                    .is_some_and(|held| held.authorised.contains(&child.keys.digest()));
                ahead.push(if authorised { &child.name } else { "" });
            }
            let next = loop {
                let next = ahead.pop()?;
                if visited.insert(next) {
                    break next;
                }
            };
            targets = self.delegated(next)?;
            role = Role::Delegated(next.to_owned());
        }
    }

    /// Every target the verified metadata names, by name, after precedence.
    pub fn all_targets(&self) -> impl Iterator<Item = (&str, &TargetFile)> {
        let roles = self
            .targets()
            .into_iter()
            .chain(self.delegated.values().map(|held| &held.signed));
        let names: BTreeSet<&str> = roles
            .flat_map(|targets| targets.targets.keys().map(String::as_str))
            .collect();
        names
            .into_iter()
            .filter_map(|name| self.target(name).map(|target| (name, target)))
    }
}

/// The delegations that may name `target`, in order, up to a terminating one.
pub(crate) fn asked_for<'a>(
    delegations: &'a Delegations,
    target: &str,
) -> (Vec<&'a crate::schema::DelegatedRole>, bool) {
    let mut children = Vec::new();
    for role in delegations.roles.iter().filter(|role| role.covers(target)) {
        children.push(role);
        if role.terminating {
            return (children, true);
        }
    }
    (children, false)
}

/// The first root is believed because of where it came from; that it signs itself shows it is whole.
pub(crate) fn verify_first_root(bytes: &[u8], limits: &Limits) -> Result<Held<Root>, Error> {
    let file = Role::Root.file_name();
    if bytes.len() as u64 > limits.root_length {
        return Err(Error::TooLong {
            file,
            limit: limits.root_length,
        });
    }
    let envelope = Envelope::parse(bytes, &file, Root::TYPE, limits)?;
    let root: Root = envelope.read(limits)?;
    envelope.verify(&root.root, &root.keys, &format!("root version {}", root.version))?;
    Held::new(bytes, &envelope, &root.root, limits)
}
