//! The downloader: checks the repository by timer and by event, verifies, and fills the mirror.

mod fetch;
mod missing;
mod pace;
mod prune;
mod recover;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use durable::{Lapse, RefreshError};
use protocol::Step;
use protocol::control::Fetching;
use protocol::device::Refresh;
use tokio::sync::{Notify, watch};
use tuf::{Attack, Limits, TrustedState, UnixTime};

use crate::catalog::Catalog;
use crate::database::{meta, set_meta};
use crate::gateway::{Gateway, Metadata};
use crate::repository::{RemoteError, Repository};
use crate::secrets::jitter;
use pace::Breakers;

pub(crate) use fetch::run as fetch;
pub(crate) use protocol::chain;

/// Where the database keeps that an operator has stopped the timer.
const SWITCH: &str = "downloader";

/// The downloader's switches and what it says of itself.
#[derive(Debug)]
pub(crate) struct Downloader {
    running: watch::Sender<bool>,
    wake: Notify,
    /// Rung when the catalog may name files that the mirror lacks.
    missing: Notify,
    status: Mutex<Status>,
    breakers: Mutex<Breakers>,
    /// Which repository has answered last.
    preferred: AtomicUsize,
    /// One check at a time; holds the trusted state.
    state: tokio::sync::Mutex<Option<TrustedState>>,
    /// One file at a time.
    fetching: tokio::sync::Mutex<()>,
    /// When the mirror is looked through again for what it need not keep; none: with the next check.
    prune_at: Mutex<Option<Instant>>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Status {
    /// What came of the last check; empty before the first one.
    checked: String,
    /// What is done just now.
    busy: Option<String>,
    pub(crate) next_check: Option<Instant>,
    pub(crate) last_refresh: Option<UnixTime>,
    pub(crate) events_connected: bool,
    pub(crate) fetching: Option<Fetching>,
}

/// What came of the last check when it went well.
const UP_TO_DATE: &str = "up to date";

/// What a check found.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) changed: bool,
    pub(crate) message: String,
    /// Whether a file could not be had.
    pub(crate) failed: bool,
}

impl Downloader {
    pub(crate) fn new(state: TrustedState, running: bool) -> Self {
        Self {
            running: watch::channel(running).0,
            wake: Notify::new(),
            missing: Notify::new(),
            status: Mutex::default(),
            breakers: Mutex::default(),
            preferred: AtomicUsize::new(0),
            state: tokio::sync::Mutex::new(Some(state)),
            fetching: tokio::sync::Mutex::new(()),
            prune_at: Mutex::default(),
        }
    }

    /// Whether the timer ran when the gateway was last told to start or stop it.
    pub(crate) fn was_running(db: &rusqlite::Connection) -> rusqlite::Result<bool> {
        Ok(meta(db, SWITCH)?.is_none_or(|value| value != "stopped"))
    }

    /// Starts or stops the timer; devices stay served (R-004-60). False if it was so already.
    pub(crate) fn switch(&self, on: bool) -> bool {
        let changed = self
            .running
            .send_if_modified(|running| std::mem::replace(running, on) != on);
        if changed && on {
            self.wake.notify_one();
        }
        changed
    }

    /// The catalog may name files that the mirror lacks.
    pub(crate) fn look_for_missing(&self) {
        self.missing.notify_one();
    }

    pub(crate) fn is_running(&self) -> bool {
        *self.running.borrow()
    }

    pub(crate) fn status(&self) -> Status {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn tell(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn breakers(&self) -> MutexGuard<'_, Breakers> {
        self.breakers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn prune_at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.prune_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn preferred(&self) -> usize {
        self.preferred.load(Ordering::Relaxed)
    }
}

/// Checks for ever, while the timer is switched on; an operator's switch is kept over restarts.
pub(crate) async fn run(gateway: Arc<Gateway>, repositories: Vec<Repository>) {
    let mut running = gateway.downloader.running.subscribe();
    let mut failures: u32 = 0;
    loop {
        if !*running.borrow_and_update() {
            gateway.downloader.tell(|status| status.next_check = None);
            if running.changed().await.is_err() {
                return;
            }
            keep_switch(&gateway).await;
            continue;
        }
        match refresh_any(&gateway, &repositories).await {
            Ok(_) => {
                failures = 0;
                gateway.downloader.missing.notify_one();
            }
            Err(_) => failures = failures.saturating_add(1),
        }
        // Nothing polls faster because it failed.
        let every = Duration::from_secs(gateway.config.poll_seconds);
        let wait = pace::poll(every, jitter()) + pace::back_off(failures, jitter());
        gateway
            .downloader
            .tell(|status| status.next_check = Some(Instant::now() + wait));
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = gateway.downloader.wake.notified() => {}
            changed = running.changed() => match changed {
                Ok(()) => keep_switch(&gateway).await,
                Err(_) => return,
            },
        }
    }
}

async fn keep_switch(gateway: &Gateway) {
    let value = if gateway.downloader.is_running() {
        "running"
    } else {
        "stopped"
    };
    let kept = gateway.database.run(move |db| set_meta(db, SWITCH, value)).await;
    if let Err(error) = kept {
        tracing::warn!(
            error = chain(&error),
            "that the downloader was switched could not be written down"
        );
    }
}

/// Listens to the repositories' events in turn, for ever; each one wakes the downloader.
pub(crate) async fn listen(gateway: Arc<Gateway>, repositories: Vec<Repository>) {
    let mut failures: u32 = 1;
    loop {
        for repository in &repositories {
            let wake = || {
                gateway.downloader.tell(|status| status.events_connected = true);
                if gateway.downloader.is_running() {
                    gateway.downloader.wake.notify_one();
                }
            };
            let begun = Instant::now();
            let outcome = repository.events(wake).await;
            gateway.downloader.tell(|status| status.events_connected = false);
            if begun.elapsed() > Duration::from_secs(protocol::limits::KEEP_ALIVE_SECONDS) {
                failures = 1;
            }
            if let Err(error) = outcome {
                tracing::debug!(%error, base = repository.base(), "the event stream ended");
            }
        }
        failures = failures.saturating_add(1);
        tokio::time::sleep(Duration::from_millis(200) + pace::back_off(failures, jitter())).await;
    }
}

/// One check now, by hand: metadata from the first repository that has good ones, then the files, whatever was wrong
/// with them a moment ago.
pub(crate) async fn check(gateway: &Arc<Gateway>, repositories: &[Repository]) -> Result<Checked, String> {
    let (changed, version) = refresh_any(gateway, repositories).await?;
    let fetched = fetch::fetch_all(gateway, repositories, true).await;
    let (changed, failed) = (changed || fetched.count > 0, !fetched.failed.is_empty());
    let mut said = if changed {
        vec![format!(
            "metadata version {version}, {} files fetched",
            fetched.count
        )]
    } else if failed {
        Vec::new()
    } else {
        vec!["nothing new".to_owned()]
    };
    said.extend(fetched.failed);
    Ok(Checked {
        changed,
        message: said.join("; "),
        failed,
    })
}

/// What the downloader does, or what keeps it from having everything.
pub(crate) fn said(gateway: &Gateway) -> String {
    let status = gateway.downloader.status();
    if let Some(busy) = status.busy {
        return busy;
    }
    let missing = missing::all(gateway);
    if status.checked == UP_TO_DATE && !missing.is_empty() {
        return missing.join("; ");
    }
    status.checked
}

/// Metadata from the first repository that has good ones: whether they are new, and their version.
async fn refresh_any(gateway: &Arc<Gateway>, repositories: &[Repository]) -> Result<(bool, u64), String> {
    let mut held = gateway.downloader.state.lock().await;
    let mut failures = Vec::new();
    for (index, repository) in repositories.iter().enumerate() {
        let state = match held.take() {
            Some(state) => state,
            None => gateway.trust.load().map_err(|error| chain(&error))?,
        };
        let before = versions(&state);
        let (state, outcome) = refresh(gateway, state, repository).await;
        let rolled_back =
            matches!(&outcome, Err(RefreshError::Verify(error)) if error.attack() == Attack::Rollback);
        let recovering = matches!(&outcome, Err(RefreshError::Fetch(error)) if error.is_recovering());
        if rolled_back || recovering {
            recover::hand_back(gateway, &state, repository).await;
        }
        let after = versions(&state);
        *gateway.stale_since.lock().unwrap_or_else(PoisonError::into_inner) =
            state.stale_since(gateway.now());
        match outcome.map_err(|error| chain(&error)) {
            Ok(lapses) => {
                tell_lapses(gateway, &lapses);
                gateway.downloader.preferred.store(index, Ordering::Relaxed);
                accepted(gateway, &state, before.targets != after.targets).await;
                *held = Some(state);
                return Ok((before.timestamp != after.timestamp, after.timestamp));
            }
            Err(message) => failures.push(format!("{}: {message}", repository.base())),
        }
        *held = Some(state);
    }
    let message = failures.join("; ");
    gateway
        .downloader
        .tell(|status| status.checked.clone_from(&message));
    gateway.journal.alarm(gateway.now(), "repository", &message);
    Err(message)
}

/// Teams whose list is refused: theirs alone is not offered, and somebody should know.
fn tell_lapses(gateway: &Gateway, lapses: &[Lapse]) {
    if lapses.is_empty() {
        gateway.journal.clear("team");
        return;
    }
    let told: Vec<_> = lapses
        .iter()
        .map(|(role, error)| format!("{role} is left out: {}", chain(error)))
        .collect();
    gateway.journal.alarm(gateway.now(), "team", &told.join("; "));
}

struct Versions {
    timestamp: u64,
    targets: Vec<u64>,
}

fn versions(state: &TrustedState) -> Versions {
    let targets = state
        .snapshot()
        .map(|role| role.meta.values().map(|entry| entry.version).collect());
    Versions {
        timestamp: state.timestamp().map_or(0, |role| role.version),
        targets: targets.unwrap_or_default(),
    }
}

/// What good metadata mean for catalog, mirror and devices.
async fn accepted(gateway: &Arc<Gateway>, state: &TrustedState, new_targets: bool) {
    gateway.journal.clear("repository");
    gateway.downloader.tell(|status| {
        status.checked = UP_TO_DATE.into();
        status.last_refresh = Some(gateway.now());
    });
    let catalog = Catalog::read(state, |digest, length| gateway.mirror.has(digest) == Some(length));
    let old = gateway.catalog.send_replace(Arc::new(catalog));
    if new_targets {
        gateway.downloader.breakers().reopen(Instant::now());
        for offer in gateway.catalog().offers() {
            let known = old.offers().any(|known| known.digest == offer.digest);
            if !known && !offer.mirrored {
                gateway.step(Step::Noticed, offer, None, None);
            }
        }
        missing::forget(gateway);
        *gateway.downloader.prune_at() = None;
    }
    prune::prune(gateway, state).await;
    order(gateway);
}

/// Refreshes the trusted state and, at the end, replaces what devices are served as a whole.
async fn refresh(
    gateway: &Gateway,
    state: TrustedState,
    repository: &Repository,
) -> (TrustedState, Result<Vec<Lapse>, RefreshError<RemoteError>>) {
    let before = versions(&state).timestamp;
    let mut roots = Vec::new();
    let (state, outcome) = durable::refresh_all(
        &gateway.trust,
        state,
        repository,
        gateway.now(),
        Limits::default(),
        |file, bytes| {
            if file.ends_with(".root.json") {
                roots.push((file.to_owned(), bytes.to_vec()));
            }
        },
    )
    .await;
    gateway.clock.set_floor(state.not_before());
    for (file, bytes) in &roots {
        if let Err(error) = durable::replace(gateway.paths.roots().join(file), bytes, 0o644) {
            tracing::warn!(error = chain(&error), "a root file could not be kept for devices");
        }
    }
    let after = versions(&state).timestamp;
    if outcome.is_ok() && (after != before || !roots.is_empty()) {
        serve_metadata(gateway, &state);
    }
    (state, outcome)
}

/// Every verified file under its name in the repository: `3.targets.json`.
fn versioned(state: &TrustedState) -> impl Iterator<Item = (String, &[u8])> {
    state.roles().map(|(file, bytes)| {
        let version = match file.as_str() {
            "timestamp.json" => None,
            // Its own: the snapshot may name a newer one that was refused.
            _ => tuf::unverified_version(bytes),
        };
        (
            version.map_or_else(|| file.clone(), |version| format!("{version}.{file}")),
            bytes,
        )
    })
}

/// Replaces the metadata that devices are served, and tells them.
pub(crate) fn serve_metadata(gateway: &Gateway, state: &TrustedState) {
    let files = versioned(state).map(|(name, bytes)| (name, Bytes::copy_from_slice(bytes)));
    let timestamp = state.timestamp().map_or(0, |role| role.version);
    let served = Metadata::after(&gateway.metadata(), files.collect(), timestamp);
    *gateway.metadata.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(served);
    gateway.fleet.refresh_all(Refresh { timestamp });
}

/// Orders what is there to every connected device that should have it.
pub(crate) fn order(gateway: &Gateway) {
    for ordered in gateway.fleet.order_all(&gateway.catalog()) {
        gateway.step(Step::Offered, &ordered.offer, Some(&ordered.device), None);
    }
}
