//! Everything a verifier must remember, as one value: bytes in, bytes out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::envelope::{Envelope, Keys};
use crate::floors::{Floors, ReleaseFloor};
use crate::schema::{Delegations, Metadata, RoleKeys, Root, Snapshot, TargetFile, Targets, Timestamp};
use crate::{Digest, Error, Limits, Role, UnixTime};

/// The first word of a stored state and of a stored copy of the floors, with the version of their form.
const STATE_HEAD: &str = "drover-trusted-state 1";
const FLOORS_HEAD: &str = "drover-trusted-floors 1";

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

/// The form of the state on disk.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    root: String,
    timestamp: Option<String>,
    snapshot: Option<String>,
    targets: Option<String>,
    delegated: BTreeMap<String, StoredRole>,
    floors: Floors,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredRole {
    raw: String,
    /// Key sets that signed it; checked when it was accepted, compared at each use.
    authorised: BTreeSet<Digest>,
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

    /// The documented way back when the state is lost or damaged and the copy of the floors is not: the
    /// author's root again, and nothing older than what the floors remember.
    ///
    /// # Errors
    /// As [`init`](Self::init), or when the floors are damaged too.
    pub fn recover(
        root: &[u8],
        floors: &[u8],
        built: Option<UnixTime>,
        limits: &Limits,
    ) -> Result<Self, Error> {
        let mut state = Self::init(root, built, limits)?;
        state.floors = state.floors.merge(open(FLOORS_HEAD, floors)?)?;
        Ok(state)
    }

    /// The whole state, to be stored.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let text = |raw: &str| raw.to_owned();
        let delegated = self.delegated.iter().map(|(name, held)| {
            (
                name.clone(),
                StoredRole {
                    raw: text(&held.raw),
                    authorised: held.authorised.clone(),
                },
            )
        });
        seal(
            STATE_HEAD,
            &Stored {
                root: text(&self.root.raw),
                timestamp: self.timestamp.as_ref().map(|held| text(&held.raw)),
                snapshot: self.snapshot.as_ref().map(|held| text(&held.raw)),
                targets: self.targets.as_ref().map(|held| text(&held.raw)),
                delegated: delegated.collect(),
                floors: self.floors.clone(),
            },
        )
    }

    /// The second copy of the floors, to be stored before the state.
    #[must_use]
    pub fn floors_bytes(&self) -> Vec<u8> {
        seal(FLOORS_HEAD, &self.floors)
    }

    /// What was stored. The floors are the higher of both copies; stored files below them are dropped.
    ///
    /// Every file is verified again from the root. Pass `None` for the floors only where there never was a
    /// second copy.
    ///
    /// # Errors
    /// [`Error::StateDamaged`] when either part is not exactly what was written.
    pub fn from_parts(state: &[u8], floors: Option<&[u8]>) -> Result<Self, Error> {
        let stored: Stored = open(STATE_HEAD, state)?;
        let limits = Limits::of_own_state();
        let root = verify_first_root(stored.root.as_bytes(), &limits).map_err(damaged)?;
        let merged = match floors {
            Some(bytes) => stored.floors.merge(open(FLOORS_HEAD, bytes)?)?,
            None => stored.floors,
        };
        let again = Reader {
            root: &root,
            limits: &limits,
        };
        let mut loaded = Self {
            timestamp: again.read(&Role::Timestamp, stored.timestamp.as_deref())?,
            snapshot: again.read(&Role::Snapshot, stored.snapshot.as_deref())?,
            targets: again.read(&Role::Targets, stored.targets.as_deref())?,
            delegated: again.read_delegated(stored.delegated)?,
            root: Arc::new(root),
            floors: merged,
        };
        loaded.drop_below_floors()?;
        Ok(loaded)
    }

    /// An old copy of the state may have been put back: what lies below a floor is not served as trusted.
    fn drop_below_floors(&mut self) -> Result<(), Error> {
        if let Err(error) = self.floors.check_root(&self.root.signed) {
            if matches!(error, Error::StateDamaged { .. }) {
                return Err(error);
            }
            self.timestamp = None;
            self.snapshot = None;
            self.targets = None;
            self.delegated.clear();
            return Ok(());
        }
        let floors = &self.floors;
        self.timestamp = self
            .timestamp
            .take()
            .filter(|held| floors.check_timestamp(&held.signed, "").is_ok());
        self.snapshot = self
            .snapshot
            .take()
            .filter(|held| floors.check_snapshot(&held.signed, "").is_ok());
        let held = |role: &Role, targets: &Targets| targets.version >= floors.held(&role.meta_name());
        self.targets = self
            .targets
            .take()
            .filter(|targets| held(&Role::Targets, &targets.signed));
        self.delegated
            .retain(|name, targets| held(&Role::Delegated(name.clone()), &targets.signed));
        Ok(())
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
fn verify_first_root(bytes: &[u8], limits: &Limits) -> Result<Held<Root>, Error> {
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

/// Reads stored files back, each verified from the root.
struct Reader<'a> {
    root: &'a Held<Root>,
    limits: &'a Limits,
}

impl Reader<'_> {
    fn read<T: Metadata>(&self, role: &Role, raw: Option<&str>) -> Result<Option<Arc<Held<T>>>, Error> {
        let Some(raw) = raw else { return Ok(None) };
        let root = &self.root.signed;
        let keys = root
            .role(role)
            .ok_or_else(|| Error::damaged("a delegated role in a top-level place"))?;
        let held = Held::verify(
            raw.as_bytes(),
            &role.file_name(),
            self.limits,
            keys,
            &root.keys,
            "the stored root",
        )
        .map_err(damaged)?;
        Ok(Some(Arc::new(held)))
    }

    fn read_delegated(
        &self,
        stored: BTreeMap<String, StoredRole>,
    ) -> Result<BTreeMap<String, Arc<Held<Targets>>>, Error> {
        let read = |(name, stored): (String, StoredRole)| {
            let file = Role::Delegated(name.clone()).file_name();
            let envelope = Envelope::parse(stored.raw.as_bytes(), &file, Targets::TYPE, self.limits)?;
            let signed = envelope.read(self.limits)?;
            let held = Held {
                raw: stored.raw.into(),
                signed,
                authorised: stored.authorised,
            };
            Ok((name, Arc::new(held)))
        };
        stored
            .into_iter()
            .map(read)
            .collect::<Result<_, Error>>()
            .map_err(damaged)
    }
}

fn damaged(error: Error) -> Error {
    match error {
        Error::StateDamaged { .. } => error,
        other => Error::damaged(other.to_string()),
    }
}

/// One line with the kind, the version of the form and the SHA-256 of the body; then the body.
fn seal<T: Serialize>(head: &str, body: &T) -> Vec<u8> {
    // Maps with text keys and no floats: this cannot fail; an empty body would not be read back.
    let body = serde_json::to_vec(body).unwrap_or_default();
    let mut bytes = format!("{head} {}\n", Digest::of(&body)).into_bytes();
    bytes.extend_from_slice(&body);
    bytes
}

fn open<T: for<'de> Deserialize<'de>>(head: &str, bytes: &[u8]) -> Result<T, Error> {
    let wrong = |what: &str| Error::damaged(format!("{head}: {what}"));
    let end = bytes
        .iter()
        .position(|&b| b == b'\n')
        .ok_or_else(|| wrong("no first line"))?;
    let (line, body) = (&bytes[..end], &bytes[end + 1..]);
    let line = std::str::from_utf8(line).map_err(|_| wrong("the first line is no text"))?;
    let sum = line
        .strip_prefix(head)
        .and_then(|rest| rest.strip_prefix(' '))
        .ok_or_else(|| wrong("another kind of record"))?;
    if sum.parse() != Ok(Digest::of(body)) {
        return Err(wrong("the content does not have its checksum"));
    }
    serde_json::from_slice(body).map_err(|e| wrong(&e.to_string()))
}
