//! The trusted state on disk: two records, each with its own checksum, verified again when they are read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::envelope::Envelope;
use crate::floors::Floors;
use crate::schema::{Metadata, Root, Targets};
use crate::state::{Held, verify_first_root};
use crate::{Digest, Error, Limits, Role, TrustedState, UnixTime};

/// The first word of a stored state and of a stored copy of the floors, with the version of their form.
const STATE_HEAD: &str = "drover-trusted-state 1";
const FLOORS_HEAD: &str = "drover-trusted-floors 1";

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
    /// The documented way back when one part is lost or damaged, or both are what they should not be: the author's
    /// root again, and nothing older than what either part that can be read remembers.
    ///
    /// A stored state that is whole, and whose root is this one or a newer one, is kept as it is.
    ///
    /// # Errors
    /// As [`init`](Self::init); [`Error::StateDamaged`] when neither part can be read, or when both can and belong to
    /// different repositories.
    pub fn recover(
        root: &[u8],
        state: Option<&[u8]>,
        floors: Option<&[u8]>,
        built: Option<UnixTime>,
        limits: &Limits,
    ) -> Result<Self, Error> {
        let mut fresh = Self::init(root, built, limits)?;
        let stored: Option<Stored> = state.and_then(|bytes| open(STATE_HEAD, bytes).ok());
        let copy: Option<Floors> = floors.and_then(|bytes| open(FLOORS_HEAD, bytes).ok());
        let whole = state.and_then(|bytes| Self::from_parts(bytes, floors.filter(|_| copy.is_some())).ok());
        if let Some(mut whole) = whole
            .filter(|whole| whole.root().version > fresh.root().version || whole.root.raw == fresh.root.raw)
        {
            whole.floors.built = whole.floors.built.max(built);
            return Ok(whole);
        }
        let mut remembered = stored.map(|stored| stored.floors).into_iter().chain(copy);
        let first = remembered
            .next()
            .ok_or_else(|| Error::damaged("neither the state nor the copy of the floors can be read"))?;
        let highest = remembered.try_fold(first, Floors::merge)?;
        fresh.floors = fresh.floors.merge(highest)?;
        Ok(fresh)
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
