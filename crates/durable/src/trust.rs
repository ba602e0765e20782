//! What a verifier has verified, kept over power cuts and against replays.
//!
//! Two files in a folder of their own: `state.rec` holds every role file, floors and release counters;
//! `floors.rec` is a second copy of the floors. Both carry a checksum. What counts is the higher of both
//! floors, so an old copy of either file put back alone brings no old metadata back. A folder without
//! one of them, or with a damaged one, is damaged, never new: it fails closed, and
//! [`TrustStore::recover`] is the way back.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tuf::{Digest, Limits, TrustedState, UnixTime};

use crate::error::Error;
use crate::files::Files;
use crate::limits;

pub(crate) const STATE: &str = "state.rec";
pub(crate) const FLOORS: &str = "floors.rec";

/// Why there is no trusted state.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The disk refused.
    #[error(transparent)]
    File(#[from] Error),
    /// Nothing was ever trusted here.
    #[error("there is no trusted state in {}: it is made from the author's root, once", .0.display())]
    Missing(PathBuf),
    /// Something is there already: trust is not begun anew by accident.
    #[error("{} holds a trusted state already", .0.display())]
    Exists(PathBuf),
    /// The author's root does not verify.
    #[error("the author's root is not acceptable")]
    Root(#[source] tuf::Error),
    /// A file is missing, torn or changed.
    #[error(
        "the trusted state in {} is damaged: recover it with the author's root, nothing new is accepted until then",
        dir.display()
    )]
    StateDamaged {
        /// The folder.
        dir: PathBuf,
        /// What is wrong.
        #[source]
        source: tuf::Error,
    },
}

/// The folder of a trusted state. One process writes.
#[derive(Debug)]
pub struct TrustStore {
    files: Files,
    dir: PathBuf,
    /// What lies on the disk: a refresh that brought nothing new writes nothing, and one that began
    /// before another change does not undo it.
    saved: Mutex<Option<Saved>>,
}

/// The newest state that was loaded or saved.
#[derive(Debug)]
struct Saved {
    state: TrustedState,
    /// SHA-256 of its bytes, if they are on the disk: not after a failed save, when that may hold this or the one that
    /// failed, and not where a copy was behind.
    on_disk: Option<Digest>,
}

impl TrustStore {
    /// Begins with the author's first root. `built`: the build time, a lower bound of time.
    ///
    /// # Errors
    /// [`TrustError::Exists`], [`TrustError::Root`]; those of the disk. Nothing is begun then.
    pub fn create(dir: impl AsRef<Path>, root: &[u8], built: Option<UnixTime>) -> Result<Self, TrustError> {
        Self::create_on(Files::real(), dir, root, built)
    }

    /// [`Self::create`] on a disk of the caller's choice.
    ///
    /// # Errors
    /// As there.
    pub fn create_on(
        files: Files,
        dir: impl AsRef<Path>,
        root: &[u8],
        built: Option<UnixTime>,
    ) -> Result<Self, TrustError> {
        let dir = dir.as_ref();
        let state = TrustedState::init(root, built, &Limits::default()).map_err(TrustError::Root)?;
        if holds_something(dir)? {
            return Err(TrustError::Exists(dir.to_owned()));
        }
        // Beside its place first: a cut in between must not leave half a state, a damaged one.
        let unfinished = unfinished(dir)?;
        files.remove_tree(&unfinished)?;
        files.create_dir(&unfinished, 0o700)?;
        let store = Self::at(files, unfinished);
        store.save(&state)?;
        store.files.rename_dir(&store.dir, dir)?;
        Ok(Self {
            dir: dir.to_owned(),
            ..store
        })
    }

    /// Takes up a state that exists.
    ///
    /// # Errors
    /// [`TrustError::Missing`] if there never was one. Damage shows when it is loaded.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, TrustError> {
        Self::open_on(Files::real(), dir)
    }

    /// [`Self::open`] on a disk of the caller's choice.
    ///
    /// # Errors
    /// As there.
    pub fn open_on(files: Files, dir: impl AsRef<Path>) -> Result<Self, TrustError> {
        let dir = dir.as_ref();
        if !dir.is_dir() {
            return Err(TrustError::Missing(dir.to_owned()));
        }
        Ok(Self::at(files, dir.to_owned()))
    }

    /// The way back from damage: the author's root again, and nothing older than what either file that can
    /// be read remembers; a state that is whole stays as it is.
    ///
    /// # Errors
    /// [`TrustError::StateDamaged`] if both are damaged: then only a person who knows that nobody shows
    /// old states may remove the folder and begin anew.
    pub fn recover(
        dir: impl AsRef<Path>,
        root: &[u8],
        built: Option<UnixTime>,
    ) -> Result<(Self, TrustedState), TrustError> {
        let store = Self::open(dir)?;
        let limits = Limits::default();
        TrustedState::init(root, built, &limits).map_err(TrustError::Root)?;
        let whole_or_none = |name| match store.read(name) {
            Err(TrustError::StateDamaged { .. }) => Ok(None),
            other => other.map(Some),
        };
        let (state, floors) = (whole_or_none(STATE)?, whole_or_none(FLOORS)?);
        let recovered = TrustedState::recover(root, state.as_deref(), floors.as_deref(), built, &limits);
        let state = store.save(&recovered.map_err(|e| store.damaged(e))?)?;
        Ok((store, state))
    }

    fn at(files: Files, dir: PathBuf) -> Self {
        let saved = Mutex::default();
        Self { files, dir, saved }
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What was saved last, with the higher of both floors. Writes nothing: see [`Self::take_up`].
    ///
    /// # Errors
    /// [`TrustError::StateDamaged`]; those of the disk.
    pub fn load(&self) -> Result<TrustedState, TrustError> {
        let (floors, state) = (self.read(FLOORS)?, self.read(STATE)?);
        let loaded = TrustedState::from_parts(&state, Some(&floors)).map_err(|e| self.damaged(e))?;
        *self.lock() = Some(Saved {
            on_disk: (state == loaded.to_bytes() && floors == loaded.floors_bytes())
                .then(|| Digest::of(&state)),
            state: loaded.clone(),
        });
        Ok(loaded)
    }

    /// [`Self::load`] for the one process that writes: a copy that lags behind is written anew before anything is
    /// judged, so that old copies put back one after the other find the newest one each time.
    ///
    /// # Errors
    /// As for [`Self::load`]. A disk that takes no new copy is no error: the next save tries again.
    pub fn take_up(&self) -> Result<TrustedState, TrustError> {
        let loaded = self.load()?;
        match self.save(&loaded) {
            Ok(saved) => Ok(saved),
            Err(TrustError::File(error)) => {
                tracing::warn!(%error, "an old copy of the trusted state cannot be replaced yet");
                Ok(loaded)
            }
            Err(error) => Err(error),
        }
    }

    /// Saves a state, durable on return; three flushes, none if nothing changed. A cut in between leaves
    /// the new floors with the old state: nothing older than either is accepted then.
    ///
    /// Gives what is saved now: the newer of this state and the one saved or loaded before, with the
    /// higher of both floors. A refresh that ran while a release was committed does not lower its floor.
    ///
    /// # Errors
    /// Those of the disk; [`TrustError::StateDamaged`] for a state of another repository.
    pub fn save(&self, state: &TrustedState) -> Result<TrustedState, TrustError> {
        let mut saved = self.lock();
        let state = match saved.as_ref() {
            Some(before) => merge(&before.state, state).map_err(|e| self.damaged(e))?,
            None => state.clone(),
        };
        let bytes = state.to_bytes();
        let digest = Some(Digest::of(&bytes));
        if let Some(before) = saved.as_mut() {
            if before.on_disk == digest {
                return Ok(state);
            }
            before.on_disk = None;
        }
        let (floors, whole, floors_bytes) =
            (self.dir.join(FLOORS), self.dir.join(STATE), state.floors_bytes());
        self.files
            .replace_all(&[(&floors, &floors_bytes), (&whole, &bytes)], 0o600)?;
        *saved = Some(Saved {
            state: state.clone(),
            on_disk: digest,
        });
        Ok(state)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Saved>> {
        self.saved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, TrustError> {
        match self
            .files
            .read_limited(&self.dir.join(name), limits::RECORD_BYTES)
        {
            Ok(bytes) => Ok(bytes),
            Err(error) if !error.is_missing() => Err(error.into()),
            Err(_) if !self.dir.is_dir() => Err(TrustError::Missing(self.dir.clone())),
            Err(_) => Err(self.damaged(tuf::Error::StateDamaged {
                reason: format!("{name} is missing"),
            })),
        }
    }

    fn damaged(&self, source: tuf::Error) -> TrustError {
        TrustError::StateDamaged {
            dir: self.dir.clone(),
            source,
        }
    }
}

/// The newer of two states of one repository, with the higher of both floors.
fn merge(before: &TrustedState, after: &TrustedState) -> Result<TrustedState, tuf::Error> {
    if before.floors_bytes() == after.floors_bytes() {
        // Every accepted file raises a floor: only an earlier load can differ, by what it dropped.
        return Ok(after.clone());
    }
    let versions = |state: &TrustedState| {
        (
            state.root().version,
            state.timestamp().map(|timestamp| timestamp.version),
            state.snapshot().map(|snapshot| snapshot.version),
            state.targets().map(|targets| targets.version),
        )
    };
    let (newer, other) = if versions(before) > versions(after) {
        (before, after)
    } else {
        (after, before)
    };
    TrustedState::from_parts(&newer.to_bytes(), Some(&other.floors_bytes()))
}

fn unfinished(dir: &Path) -> Result<PathBuf, Error> {
    let name = dir
        .file_name()
        .ok_or_else(|| Error::NoName { path: dir.to_owned() })?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(".unfinished");
    Ok(dir.with_file_name(hidden))
}

fn holds_something(dir: &Path) -> Result<bool, Error> {
    match std::fs::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io("list", dir, error)),
    }
}
