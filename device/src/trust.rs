//! The device's own verdict: its own pinned root, its own state, its own verification.

use std::sync::Arc;

use durable::{Fetch, Files, Keep, Lapse, RefreshError, TrustError, TrustStore};
use mtls::{Clock, FlooredClock};
use release::{Component, Release, ReleaseError, TargetPath, Version};
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use tuf::{Digest, Limits, TrustedState, UnixTime};

use crate::layout::Layout;
use crate::manager::{Manager, ManagerError};
use crate::sync::Shared;
pub use protocol::chain;

/// What a person does about damaged trusted state.
const WAY_BACK: &str = "nothing new is installed until it is repaired: stop the agent and run \
                        `device repair-trust --dir DIR --root ROOT.json` with the author's root file";

/// The trusted state and what was wrong with it.
#[derive(Debug)]
pub struct Trust {
    held: Mutex<Option<Held>>,
    trouble: Shared<Option<String>>,
    /// When the first of the metadata expires.
    fresh_until: Shared<Option<UnixTime>>,
    /// Delegated roles that the last refresh left out.
    lapses: Shared<Vec<Lapse>>,
    clock: Arc<FlooredClock>,
}

#[derive(Debug)]
struct Held {
    store: Beside,
    state: TrustedState,
}

/// The store on disk, written beside the agent's thread.
#[derive(Debug, Clone)]
struct Beside(Arc<TrustStore>);

impl Keep for Beside {
    async fn keep(&self, state: &TrustedState) -> Result<TrustedState, TrustError> {
        let (store, state) = (Arc::clone(&self.0), state.clone());
        let saved = spawn_blocking(move || store.save(&state)).await;
        saved.unwrap_or_else(|cut_off| {
            Err(TrustError::from(durable::Error::Io {
                action: "write",
                path: self.0.dir().to_owned(),
                source: std::io::Error::other(cut_off),
            }))
        })
    }
}

/// A target as the device's own verified metadata describe it.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its length in bytes.
    pub length: u64,
    /// Its SHA-256.
    pub digest: Digest,
    /// What its author says of it.
    pub release: Release,
}

/// Why the device does not believe.
#[derive(Debug, thiserror::Error)]
pub enum TrustFault {
    /// Its own state cannot be used.
    #[error("{0}")]
    Trouble(String),
    /// The metadata did not come.
    #[error("the metadata cannot be fetched")]
    Fetch(#[source] ManagerError),
    /// The metadata are not believed.
    #[error("the metadata are refused ({attack}): {source}")]
    Refused {
        /// What it looks like.
        attack: String,
        /// Which check.
        source: tuf::Error,
    },
    /// The verified metadata cannot be kept.
    #[error("the verified metadata cannot be kept")]
    Keep(#[source] TrustError),
    /// The verified metadata know no such target.
    #[error("{0} is not in the verified metadata")]
    NoSuchTarget(String),
    /// The role that would know it was refused.
    #[error("{target} is not taken: {role} is refused ({attack}): {source}")]
    LeftOut {
        /// The target.
        target: String,
        /// The role.
        role: String,
        /// What it looks like.
        attack: String,
        /// Which check.
        source: tuf::Error,
    },
    /// A target without a SHA-256.
    #[error("{0} has no SHA-256 in the verified metadata")]
    NoDigest(String),
    /// Its description cannot be used.
    #[error("the description of {target} cannot be used: {source}")]
    Description {
        /// The target.
        target: String,
        /// Why.
        source: ReleaseError,
    },
}

struct FromManager<'a>(&'a Manager);

impl Fetch for FromManager<'_> {
    type Error = ManagerError;

    async fn metadata(&self, path: &str, max: u64) -> Result<Option<Vec<u8>>, ManagerError> {
        self.0.metadata(path, max).await
    }
}

impl Trust {
    /// Takes up the trusted state. Damage is not an error here: the programs run on, nothing new comes.
    #[must_use]
    pub fn open(files: &Files, layout: &Layout, clock: Arc<FlooredClock>) -> Self {
        let opened = TrustStore::open_on(files.clone(), layout.trust()).and_then(|store| {
            let state = store.take_up()?;
            let store = Beside(Arc::new(store));
            Ok(Held { store, state })
        });
        let (held, trouble) = match opened {
            Ok(held) => (Some(held), None),
            Err(error) => (None, Some(format!("{}; {WAY_BACK}", chain(&error)))),
        };
        let trust = Self {
            trouble: Shared::new(trouble),
            fresh_until: Shared::default(),
            lapses: Shared::default(),
            clock,
            held: Mutex::new(None),
        };
        if let Some(held) = held {
            trust.note(&held.state);
            return Self {
                held: Mutex::new(Some(held)),
                ..trust
            };
        }
        trust
    }

    /// Why nothing new is accepted, and what to do about it.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.trouble.get()
    }

    /// Since when the metadata have been expired.
    #[must_use]
    pub fn stale_since(&self) -> Option<UnixTime> {
        let now = self.clock.now().now;
        self.fresh_until.get().filter(|until| *until <= now)
    }

    fn note(&self, state: &TrustedState) {
        // Whatever was verified raises the floor of the clock that TLS uses too.
        self.clock.set_floor(state.not_before().max(Some(crate::BUILT)));
        // What expires first; that day may come without anything else to verify.
        self.fresh_until.set(state.stale_since(UnixTime(i64::MAX)));
    }

    /// Gets the newest metadata and verifies them from the pinned root.
    ///
    /// # Errors
    /// [`TrustFault`]; what was accepted before the fault is kept.
    pub async fn refresh(&self, manager: &Manager) -> Result<(), TrustFault> {
        let mut guard = self.held.lock().await;
        let held = guard.as_mut().ok_or_else(|| self.fault())?;
        let now = self.clock.now().now;
        let fetch = FromManager(manager);
        let (state, outcome) = durable::refresh_all(
            &held.store,
            held.state.clone(),
            &fetch,
            now,
            Limits::default(),
            |_, _| {},
        )
        .await;
        self.note(&state);
        held.state = state;
        match outcome {
            Ok(lapses) => {
                self.lapses.set(lapses);
                Ok(())
            }
            Err(RefreshError::Fetch(error)) => Err(TrustFault::Fetch(error)),
            Err(RefreshError::Trust(error)) => Err(TrustFault::Keep(error)),
            Err(RefreshError::Verify(source)) => Err(TrustFault::Refused {
                attack: source.attack().to_string(),
                source,
            }),
        }
    }

    /// The newest timestamp version that was verified.
    pub async fn timestamp(&self) -> u64 {
        let guard = self.held.lock().await;
        guard
            .as_ref()
            .and_then(|held| held.state.timestamp())
            .map_or(0, |timestamp| timestamp.version)
    }

    /// The same for a target that is to be taken as new: not from a role that the last refresh left out.
    ///
    /// # Errors
    /// [`TrustFault`].
    pub async fn look_up_new(&self, target: &TargetPath) -> Result<Found, TrustFault> {
        let lapses = self.lapses.get();
        let guard = self.held.lock().await;
        let held = guard.as_ref().ok_or_else(|| self.fault())?;
        let named = held.state.target_and_role(target.as_str()).map(|(role, _)| role);
        let lapse = match &named {
            Some(named) => lapses.into_iter().find(|(role, _)| role == named),
            // Whose it is, is not known then: any of them may have hidden it.
            None => lapses.into_iter().next(),
        };
        drop(guard);
        match lapse {
            Some((role, source)) => Err(TrustFault::LeftOut {
                target: target.to_string(),
                role: role.to_string(),
                attack: source.attack().to_string(),
                source,
            }),
            None => self.look_up(target).await,
        }
    }

    /// What the verified metadata say of a target, expired or not.
    ///
    /// # Errors
    /// [`TrustFault`].
    pub async fn look_up(&self, target: &TargetPath) -> Result<Found, TrustFault> {
        let guard = self.held.lock().await;
        let held = guard.as_ref().ok_or_else(|| self.fault())?;
        let name = target.to_string();
        let file = held
            .state
            .target(target.as_str())
            .ok_or_else(|| TrustFault::NoSuchTarget(name.clone()))?;
        let digest = file.sha256().ok_or_else(|| TrustFault::NoDigest(name.clone()))?;
        let custom = file.custom.clone().unwrap_or_default();
        let release = Release::from_custom(&custom)
            .map_err(|source| TrustFault::Description { target: name, source })?;
        Ok(Found {
            length: file.length,
            digest,
            release,
        })
    }

    /// The release of a component with the highest counter, or of one version, with its target; none: there is no such
    /// one. What cannot be read or was withdrawn is passed over, unless it is asked for by its version.
    ///
    /// # Errors
    /// [`TrustFault`]: the trusted state cannot be used.
    pub async fn newest(
        &self,
        component: &Component,
        version: Option<&Version>,
    ) -> Result<Option<(TargetPath, Found)>, TrustFault> {
        let names: Vec<TargetPath> = {
            let guard = self.held.lock().await;
            let held = guard.as_ref().ok_or_else(|| self.fault())?;
            let names = held.state.all_targets().filter_map(|(name, _)| name.parse().ok());
            let wanted = |path: &TargetPath| {
                path.component() == component && version.is_none_or(|version| path.version() == version)
            };
            names.filter(wanted).collect()
        };
        let mut newest: Option<(TargetPath, Found)> = None;
        for name in names {
            let Ok(found) = self.look_up(&name).await else {
                continue;
            };
            let offered = version.is_some() || found.release.withdrawn.is_none();
            let newer = newest
                .as_ref()
                .is_none_or(|(_, other)| other.release.counter < found.release.counter);
            if offered && newer {
                newest = Some((name, found));
            }
        }
        Ok(newest)
    }

    /// The counter below which nothing of this component is installed.
    pub async fn release_floor(&self, component: &str) -> u64 {
        let guard = self.held.lock().await;
        guard
            .as_ref()
            .map_or(0, |held| held.state.release_floor(component))
    }

    /// Raises it, at commit.
    ///
    /// # Errors
    /// [`TrustFault`]: then it is raised in memory only, and on disk with the next refresh.
    pub async fn raise_floor(&self, component: &str, counter: u64) -> Result<(), TrustFault> {
        let mut guard = self.held.lock().await;
        let held = guard.as_mut().ok_or_else(|| self.fault())?;
        held.state.raise_release_floor(component, counter);
        held.state = held.store.keep(&held.state).await.map_err(TrustFault::Keep)?;
        Ok(())
    }

    /// Every component's floor, for a device that lost the record of what it runs.
    #[must_use]
    pub fn floors(&self) -> Vec<(String, u64)> {
        let Ok(guard) = self.held.try_lock() else {
            return Vec::new();
        };
        let floors = guard.iter().flat_map(|held| held.state.release_floors());
        floors
            .map(|(component, counter)| (component.to_owned(), counter))
            .collect()
    }

    fn fault(&self) -> TrustFault {
        TrustFault::Trouble(self.trouble().unwrap_or_else(|| WAY_BACK.to_owned()))
    }
}
