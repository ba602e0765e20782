//! The downloader: checks the repository by timer and by event, verifies, and fills the mirror.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use durable::{RefreshError, StoreError};
use protocol::author::{Recover, RoleFile};
use protocol::control::DownloadEntry;
use protocol::device::Refresh;
use protocol::{Step, messages};
use tokio::sync::{Notify, watch};
use tuf::{Attack, Digest, Limits, TrustedState, UnixTime};

use crate::catalog::{Catalog, Offer};
use crate::gateway::{Gateway, Metadata};
use crate::journal::Level;
use crate::limits;
use crate::repository::{RemoteError, Repository};

/// The downloader's switches and what it says of itself.
#[derive(Debug)]
pub(crate) struct Downloader {
    running: watch::Sender<bool>,
    wake: Notify,
    status: Mutex<Status>,
    breakers: Mutex<HashMap<Digest, Breaker>>,
    /// One check at a time; holds the trusted state.
    state: tokio::sync::Mutex<Option<TrustedState>>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Status {
    pub(crate) text: String,
    pub(crate) next_check: Option<Instant>,
    pub(crate) last_refresh: Option<UnixTime>,
    pub(crate) events_connected: bool,
}

/// A file that arrived wrong or not at all: when it may be asked for again.
#[derive(Debug, Clone)]
struct Breaker {
    until: Instant,
    wait: Duration,
}

/// What a check found.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) changed: bool,
    pub(crate) message: String,
}

impl Downloader {
    pub(crate) fn new(state: TrustedState) -> Self {
        Self {
            running: watch::channel(true).0,
            wake: Notify::new(),
            status: Mutex::default(),
            breakers: Mutex::default(),
            state: tokio::sync::Mutex::new(Some(state)),
        }
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

    pub(crate) fn is_running(&self) -> bool {
        *self.running.borrow()
    }

    pub(crate) fn status(&self) -> Status {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn tell(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn may_fetch(&self, digest: &Digest) -> bool {
        let breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        breakers
            .get(digest)
            .is_none_or(|breaker| breaker.until <= Instant::now())
    }

    fn trip(&self, digest: Digest, first: Duration, most: Duration) {
        let mut breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        if breakers.len() >= limits::BREAKERS {
            breakers.retain(|_, breaker| breaker.until > Instant::now());
        }
        let wait = breakers
            .get(&digest)
            .map_or(first, |breaker| (breaker.wait * 2).clamp(first, most));
        breakers.insert(
            digest,
            Breaker {
                until: Instant::now() + jittered(wait),
                wait,
            },
        );
    }

    fn heal(&self, digest: &Digest) {
        self.breakers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(digest);
    }
}

/// Between half and the whole of `wait`.
fn jittered(wait: Duration) -> Duration {
    let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX / 2);
    Duration::from_millis(millis / 2 + crate::secrets::jitter() % (millis / 2 + 1))
}

/// Checks for ever, while the timer is switched on.
pub(crate) async fn run(gateway: Arc<Gateway>, repositories: Vec<Repository>) {
    let mut running = gateway.downloader.running.subscribe();
    let mut failures: u32 = 0;
    loop {
        if running.wait_for(|on| *on).await.is_err() {
            return;
        }
        match check(&gateway, &repositories).await {
            Ok(_) => failures = 0,
            Err(_) => failures = failures.saturating_add(1),
        }
        // Nothing polls faster because it failed.
        let poll = Duration::from_secs(gateway.config.poll_seconds);
        let wait = jittered(poll * 2).min(poll) + back_off(failures);
        gateway
            .downloader
            .tell(|status| status.next_check = Some(Instant::now() + wait));
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = gateway.downloader.wake.notified() => {}
            _ = running.wait_for(|on| !*on) => gateway.downloader.tell(|status| status.next_check = None),
        }
    }
}

fn back_off(failures: u32) -> Duration {
    if failures < 2 {
        return Duration::ZERO;
    }
    let most = Duration::from_secs(1 << failures.min(16)).min(limits::CHECK_BACKOFF_MAX);
    let millis = u64::try_from(most.as_millis()).unwrap_or(u64::MAX).max(1);
    Duration::from_millis(crate::secrets::jitter() % millis)
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
        tokio::time::sleep(Duration::from_millis(200) + back_off(failures)).await;
    }
}

/// One check now: metadata from the first repository that has good ones, then the files.
pub(crate) async fn check(gateway: &Arc<Gateway>, repositories: &[Repository]) -> Result<Checked, String> {
    let mut held = gateway.downloader.state.lock().await;
    let mut failures = Vec::new();
    for (index, repository) in repositories.iter().enumerate() {
        let state = match held.take() {
            Some(state) => state,
            None => gateway.trust.load().map_err(|error| chain(&error))?,
        };
        let before = state.timestamp().map_or(0, |timestamp| timestamp.version);
        let (state, outcome) = refresh(gateway, state, repository).await;
        let rolled_back =
            matches!(&outcome, Err(RefreshError::Verify(error)) if error.attack() == Attack::Rollback);
        let recovering = matches!(&outcome, Err(RefreshError::Fetch(error)) if error.is_recovering());
        if rolled_back || recovering {
            hand_back(gateway, &state, repository).await;
        }
        let after = state.timestamp().map_or(0, |timestamp| timestamp.version);
        let stale = state.stale_since(gateway.now());
        *gateway.stale_since.lock().unwrap_or_else(PoisonError::into_inner) = stale;
        let outcome = outcome.map_err(|error| chain(&error));
        let catalog = Catalog::read(&state, |digest, length| {
            gateway.mirror.has(digest) == Some(length)
        });
        *held = Some(state);
        match outcome {
            Ok(()) => {
                gateway.journal.clear("repository");
                gateway.downloader.tell(|status| {
                    status.text = "up to date".into();
                    status.last_refresh = Some(gateway.now());
                });
                gateway.catalog.send_replace(Arc::new(catalog));
                let order: Vec<&Repository> = repositories[index..]
                    .iter()
                    .chain(&repositories[..index])
                    .collect();
                let fetched = fetch_all(gateway, &order).await;
                let changed = after != before || fetched > 0;
                let message = if changed {
                    format!("metadata version {after}, {fetched} files fetched")
                } else {
                    "nothing new".to_owned()
                };
                return Ok(Checked { changed, message });
            }
            Err(message) => failures.push(format!("{}: {message}", repository.base())),
        }
    }
    let message = failures.join("; ");
    gateway.downloader.tell(|status| status.text.clone_from(&message));
    gateway.journal.alarm(gateway.now(), "repository", &message);
    Err(message)
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// Refreshes the trusted state and, at the end, replaces what devices are served as a whole.
async fn refresh(
    gateway: &Gateway,
    state: TrustedState,
    repository: &Repository,
) -> (TrustedState, Result<(), RefreshError<RemoteError>>) {
    let before = state.timestamp().map_or(0, |timestamp| timestamp.version);
    let mut roots = Vec::new();
    let (state, outcome) = durable::refresh_with(
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
    let after = state.timestamp().map_or(0, |timestamp| timestamp.version);
    if outcome.is_ok() && (after != before || !roots.is_empty()) {
        serve_metadata(gateway, &state);
    }
    (state, outcome)
}

/// Replaces the metadata that devices are served, and tells them.
pub(crate) fn serve_metadata(gateway: &Gateway, state: &TrustedState) {
    let mut files = std::collections::BTreeMap::new();
    for (file, bytes) in state.roles() {
        let version = match file.as_str() {
            "timestamp.json" => None,
            "root.json" => Some(state.root().version),
            "snapshot.json" => state.snapshot().map(|role| role.version),
            "targets.json" => state.targets().map(|role| role.version),
            delegated => state
                .snapshot()
                .and_then(|role| role.meta.get(delegated))
                .map(|entry| entry.version),
        };
        let name = version.map_or_else(|| file.clone(), |version| format!("{version}.{file}"));
        files.insert(name, Bytes::copy_from_slice(bytes));
    }
    let timestamp = state.timestamp().map_or(0, |role| role.version);
    // Generations before stay for devices in the middle of a refresh; versions tell the files apart.
    let mut generations = gateway.metadata().generations.clone();
    generations.push_front(files.clone());
    generations.truncate(limits::KEPT_GENERATIONS);
    for (name, bytes) in generations.iter().skip(1).flatten() {
        files.entry(name.clone()).or_insert_with(|| bytes.clone());
    }
    let served = Arc::new(Metadata {
        files,
        timestamp,
        generations,
    });
    *gateway.metadata.write().unwrap_or_else(PoisonError::into_inner) = served;
    gateway.fleet.refresh_all(Refresh { timestamp });
}

/// Fetches every file that the catalog names and the mirror lacks; says how many came.
async fn fetch_all(gateway: &Arc<Gateway>, repositories: &[&Repository]) -> usize {
    let mut fetched = 0;
    let mut again = false;
    for offer in gateway.catalog().offers() {
        if offer.mirrored || !gateway.downloader.may_fetch(&offer.digest) {
            continue;
        }
        gateway.step(Step::Noticed, offer, None, None);
        if fetch(gateway, repositories, offer).await {
            fetched += 1;
            again = true;
            mirrored(gateway, &offer.digest);
            order(gateway);
        }
    }
    if !again {
        order(gateway);
    }
    fetched
}

/// Marks a file of the catalog as here.
fn mirrored(gateway: &Gateway, digest: &Digest) {
    gateway.catalog.send_modify(|catalog| {
        let mut next = Catalog::clone(catalog);
        for offer in next.newest.values_mut().flatten() {
            offer.mirrored |= offer.digest == *digest;
        }
        *catalog = Arc::new(next);
    });
}

/// Orders what is there to every connected device that should have it.
pub(crate) fn order(gateway: &Gateway) {
    for ordered in gateway.fleet.order_all(&gateway.catalog()) {
        gateway.step(Step::Offered, &ordered.offer, Some(&ordered.device), None);
    }
}

/// Fetches one file from the first repository that has it right.
async fn fetch(gateway: &Arc<Gateway>, repositories: &[&Repository], offer: &Offer) -> bool {
    let name = format!("{}_{}", offer.release.component, offer.release.version);
    gateway
        .downloader
        .tell(|status| status.text = format!("downloading {name}"));
    gateway.step(Step::FetchStarted, offer, None, None);
    let mut wrong = None;
    for repository in repositories {
        let begun = Instant::now();
        let outcome = transfer(gateway, repository, offer).await;
        let elapsed = begun.elapsed();
        match outcome {
            Ok(bytes) => {
                record(
                    gateway,
                    offer,
                    repository.base(),
                    bytes,
                    elapsed,
                    "verified".into(),
                );
                gateway.downloader.heal(&offer.digest);
                gateway.journal.clear(&format!("file:{}", offer.digest));
                gateway
                    .journal
                    .say(gateway.now(), Level::Info, messages::DOWNLOADED, &name, "");
                gateway
                    .journal
                    .say(gateway.now(), Level::Info, messages::VERIFIED, &name, "");
                return true;
            }
            Err(TransferError::Wrong { bytes, reason }) => {
                record(gateway, offer, repository.base(), bytes, elapsed, reason.clone());
                wrong = Some(format!(
                    "{name} from {} is not the file that was signed: {reason}",
                    repository.base()
                ));
            }
            Err(TransferError::Passing(reason)) => {
                tracing::warn!(target: "drover", reason, base = repository.base(), "a download was interrupted");
            }
        }
    }
    match wrong {
        Some(reason) => {
            // Reported once, kept aside by the store, and not asked for again every ten seconds (R-004-57).
            gateway
                .downloader
                .trip(offer.digest, limits::WRONG_FILE_WAIT, limits::WRONG_FILE_WAIT_MAX);
            gateway
                .journal
                .say(gateway.now(), Level::Error, messages::CORRUPTED, "", &reason);
            gateway.journal.say(
                gateway.now(),
                Level::Info,
                messages::DELETED,
                &name,
                "kept aside in quarantine",
            );
            gateway
                .journal
                .alarm(gateway.now(), &format!("file:{}", offer.digest), &reason);
        }
        None => gateway
            .downloader
            .trip(offer.digest, limits::FETCH_BACKOFF, limits::FETCH_BACKOFF_MAX),
    }
    false
}

enum TransferError {
    /// The bytes are not the file's.
    Wrong { bytes: u64, reason: String },
    /// Interrupted; what has arrived stays for the next try.
    Passing(String),
}

/// Streams one file into the mirror, resuming what is there; gives the bytes that crossed the wire.
async fn transfer(
    gateway: &Arc<Gateway>,
    repository: &Repository,
    offer: &Offer,
) -> Result<u64, TransferError> {
    let passing = |error: &dyn std::error::Error| TransferError::Passing(chain(error));
    // A part that is resumed is hashed again first: that may take seconds.
    let (mirror, digest, length) = (gateway.clone(), offer.digest, offer.length);
    let begun = tokio::task::spawn_blocking(move || mirror.mirror.begin(digest, length)).await;
    let mut incoming = match begun.map_err(|error| passing(&error))? {
        Ok(incoming) => incoming,
        Err(StoreError::Held { .. }) => return Ok(0),
        Err(error) => return Err(passing(&error)),
    };
    let mut bytes = 0;
    if !incoming.is_complete() {
        let asked = repository
            .target(offer.target.as_str(), &offer.digest, incoming.offset())
            .await;
        let (from, mut response) = asked.map_err(|error| passing(&error))?;
        if from != incoming.offset() {
            incoming.restart().map_err(|error| passing(&error))?;
        }
        let begun = Instant::now();
        loop {
            let chunk = tokio::time::timeout(limits::STALL, response.chunk()).await;
            let chunk = chunk.map_err(|_| TransferError::Passing("no byte for too long".into()))?;
            let Some(chunk) = chunk.map_err(|error| passing(&error))? else {
                break;
            };
            bytes += chunk.len() as u64;
            let slow = begun.elapsed() > limits::FLOOR_AFTER
                && bytes < limits::FLOOR_RATE * begun.elapsed().as_secs();
            if slow {
                return Err(TransferError::Passing(
                    "slower than the floor rate (slow retrieval)".into(),
                ));
            }
            match incoming.write(&chunk) {
                Ok(()) => {}
                Err(error @ StoreError::TooLong { .. }) => {
                    let reason = format!("{error} (endless data)");
                    // What is there is as long as it should be; it is not what was signed.
                    let _ = incoming.quarantine();
                    return Err(TransferError::Wrong { bytes, reason });
                }
                Err(error) => return Err(passing(&error)),
            }
        }
    }
    if !incoming.is_complete() {
        return Err(TransferError::Passing(format!(
            "it broke off at {} bytes",
            incoming.offset()
        )));
    }
    gateway.step(Step::Fetched, offer, None, Some(bytes));
    gateway.step(Step::MirrorVerifyStarted, offer, None, None);
    let finished = tokio::task::spawn_blocking(move || incoming.finish()).await;
    match finished {
        Ok(Ok(_)) => {
            gateway.step(Step::MirrorVerified, offer, None, None);
            Ok(bytes)
        }
        Ok(Err(error @ StoreError::WrongDigest { resumed_from: 0, .. })) => Err(TransferError::Wrong {
            bytes,
            reason: chain(&error),
        }),
        Ok(Err(error)) => Err(passing(&error)),
        Err(error) => Err(passing(&error)),
    }
}

fn record(gateway: &Gateway, offer: &Offer, source: &str, bytes: u64, elapsed: Duration, outcome: String) {
    let entry = DownloadEntry {
        at: gateway.now(),
        component: offer.release.component.clone(),
        version: offer.release.version.clone(),
        released: offer.release.released,
        source: source.to_owned(),
        digest: offer.digest,
        bytes,
        length: offer.length,
        milliseconds: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
        outcome,
    };
    let text = format!(
        "Release Time: {}; Application Name: {}; Version Number: {}; Download Time: {}; from {}; {} of {} bytes \
         in {} ms; {}; {}",
        entry.released,
        entry.component,
        entry.version,
        entry.at,
        entry.source,
        entry.bytes,
        entry.length,
        entry.milliseconds,
        entry.digest,
        entry.outcome
    );
    if let Err(error) = gateway.downloads.append(&entry, &text) {
        tracing::warn!(error = chain(&error), "the download record could not be written");
    }
}

/// Hands a repository that has gone back what it has forgotten (DESIGN section 4): newest roles, then files.
async fn hand_back(gateway: &Arc<Gateway>, state: &TrustedState, repository: &Repository) {
    gateway.journal.alarm(
        gateway.now(),
        "repository",
        &format!(
            "{} has forgotten releases; this gateway hands them back",
            repository.base()
        ),
    );
    let role_file = |name: String, bytes: &[u8]| {
        Some(RoleFile {
            name,
            body: String::from_utf8(bytes.to_vec()).ok()?,
        })
    };
    let Some(targets) = state.targets().zip(state.raw(&tuf::Role::Targets)) else {
        return;
    };
    let targets = role_file(format!("{}.targets.json", targets.0.version), targets.1);
    let mut roots = Vec::new();
    for version in 1..=state.root().version.min(limits::ROOTS as u64) {
        let name = format!("{version}.root.json");
        if let Ok(bytes) = durable::read_limited(gateway.paths.roots().join(&name), limits::SITE_FILE_BYTES) {
            roots.extend(role_file(name, &bytes));
        }
    }
    let recover = Recover {
        roots,
        targets: targets.into_iter().collect(),
        snapshot: state.snapshot().map_or(0, |role| role.version),
        timestamp: state.timestamp().map_or(0, |role| role.version),
    };
    for _ in 0..limits::RECOVER_ROUNDS {
        match repository.recover(&recover).await {
            Ok(answer) if answer.missing.is_empty() => {
                gateway.downloader.wake.notify_one();
                return;
            }
            Ok(answer) => {
                for digest in answer.missing {
                    if let Err(error) = upload(gateway, repository, digest).await {
                        tracing::warn!(target: "drover", error = format!("{error:#}"), "a file could not be handed back");
                    }
                }
            }
            Err(error) => {
                tracing::warn!(target: "drover", error = chain(&error), "the repository does not take it back");
                return;
            }
        }
    }
}

async fn upload(gateway: &Gateway, repository: &Repository, digest: Digest) -> anyhow::Result<()> {
    use std::io::{Read as _, Seek as _};
    let length = gateway
        .mirror
        .has(&digest)
        .ok_or_else(|| anyhow::anyhow!("{digest} is not in the mirror"))?;
    let mut offset = repository.upload_state(&digest).await?.received;
    let mut file = gateway.mirror.open_file(&digest)?;
    while offset < length {
        file.seek(std::io::SeekFrom::Start(offset))?;
        let mut piece = Vec::new();
        (&mut file).take(limits::ANSWER_BYTES).read_to_end(&mut piece)?;
        let state = repository.upload(&digest, length, offset, piece).await?;
        anyhow::ensure!(state.received > offset, "the repository does not take the bytes");
        offset = state.received;
    }
    Ok(())
}
