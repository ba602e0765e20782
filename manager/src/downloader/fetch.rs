//! Target files: from the first repository that has them right into the mirror.

use std::sync::Arc;
use std::time::{Duration, Instant};

use durable::{Incoming, StoreError};
use http::{StatusCode, header};
use protocol::control::{DownloadEntry, Fetching};
use protocol::{Step, messages};
use reqwest::Response;

use super::chain;
use crate::catalog::{Catalog, Offer};
use crate::gateway::Gateway;
use crate::journal::Level;
use crate::limits;
use crate::repository::{RemoteError, Repository};

/// Fetches whatever is missing, each time it is told to or a wait is over, for ever.
pub(crate) async fn run(gateway: Arc<Gateway>, repositories: Vec<Repository>) {
    check_mirror(&gateway).await;
    loop {
        let now = Instant::now();
        let due = gateway.downloader.breakers().next(now);
        let due = due.map_or(limits::FETCH_BACKOFF_MAX, |at| at.duration_since(now));
        let waits = gateway.downloader.is_running();
        tokio::select! {
            () = gateway.downloader.missing.notified() => {}
            () = tokio::time::sleep(due), if waits => {}
        }
        fetch_all(&gateway, &repositories).await;
    }
}

/// Hashes what is offered once more: a disk may have changed while nobody looked. What is damaged is fetched anew.
async fn check_mirror(gateway: &Arc<Gateway>) {
    let (catalog, stopped) = (gateway.catalog(), gateway.fleet.all_stopped());
    for offer in catalog.sought(&stopped).filter(|offer| offer.mirrored) {
        let (store, digest) = (gateway.mirror.clone(), offer.digest);
        let checked = tokio::task::spawn_blocking(move || match store.verify(&digest) {
            Err(StoreError::Damaged { .. }) => store.remove(&digest).map(|_| true),
            Err(error) => Err(error),
            Ok(_) => Ok(false),
        })
        .await;
        match checked {
            Ok(Ok(false)) => {}
            Ok(Ok(true)) => {
                mark(gateway, offer, false);
                let text = format!("{} was damaged on this disk and is fetched anew", name(offer));
                gateway
                    .journal
                    .alarm(gateway.now(), &format!("file:{digest}"), &text);
                gateway.downloader.missing.notify_one();
            }
            Ok(Err(error)) => {
                tracing::warn!(error = chain(&error), "a file of the mirror could not be checked");
            }
            Err(error) => tracing::warn!(%error, "a file of the mirror could not be checked"),
        }
    }
}

/// Fetches every file that the catalog names, the mirror lacks and no breaker holds back; says how many came.
pub(super) async fn fetch_all(gateway: &Arc<Gateway>, repositories: &[Repository]) -> usize {
    let _alone = gateway.downloader.fetching.lock().await;
    let mut fetched = 0;
    // The catalog may change meanwhile: look anew after each file.
    let mut tried = Vec::new();
    loop {
        let catalog = gateway.catalog();
        let stopped = gateway.fleet.all_stopped();
        let next = catalog.sought(&stopped).find(|offer| {
            let open = gateway
                .downloader
                .breakers()
                .allows(&offer.digest, Instant::now());
            !offer.mirrored && open && !tried.contains(&offer.digest)
        });
        let Some(offer) = next else { break };
        tried.push(offer.digest);
        if fetch(gateway, repositories, offer).await {
            fetched += 1;
            mark(gateway, offer, true);
            super::order(gateway);
        }
        gateway
            .downloader
            .tell(|status| (status.text, status.fetching) = ("up to date".into(), None));
    }
    fetched
}

/// Notes in the catalog whether a file is here.
fn mark(gateway: &Gateway, known: &Offer, here: bool) {
    gateway.catalog.send_modify(|catalog| {
        let mut next = Catalog::clone(catalog);
        for offer in next.all_mut() {
            if offer.digest == known.digest {
                offer.mirrored = here;
            }
        }
        *catalog = Arc::new(next);
    });
}

fn name(offer: &Offer) -> String {
    format!("{}_{}", offer.release.component, offer.release.version)
}

/// Fetches one file from the first repository that has it right, the preferred one first.
async fn fetch(gateway: &Arc<Gateway>, repositories: &[Repository], offer: &Offer) -> bool {
    let name = name(offer);
    gateway
        .downloader
        .tell(|status| status.text = format!("downloading {name}"));
    gateway.step(Step::FetchStarted, offer, None, None);
    let (before, after) = repositories.split_at(gateway.downloader.preferred().min(repositories.len()));
    let (mut wrong, mut passing) = (Vec::new(), false);
    for repository in after.iter().chain(before) {
        let begun = Instant::now();
        let mut outcome = transfer(gateway, repository, offer).await;
        if matches!(outcome, Err(TransferError::Stale)) {
            // What was kept from an earlier try did not fit; it is gone now.
            outcome = transfer(gateway, repository, offer).await;
        }
        let done = |bytes, outcome: String| {
            record(gateway, offer, repository.base(), bytes, begun.elapsed(), outcome);
        };
        match outcome {
            Ok(bytes) => {
                done(bytes, "verified".into());
                arrived(gateway, offer, &name);
                return true;
            }
            Err(TransferError::Wrong { bytes, reason }) => {
                done(bytes, reason.clone());
                wrong.push(format!("{} ({reason})", repository.base()));
            }
            Err(TransferError::Stale) => passing = true,
            Err(TransferError::Passing(reason)) => {
                passing = true;
                tracing::warn!(target: "drover", reason, base = repository.base(), "a download was interrupted");
            }
        }
    }
    let (first, most) = if wrong.is_empty() || passing {
        (limits::FETCH_BACKOFF, limits::FETCH_BACKOFF_MAX)
    } else {
        (limits::WRONG_FILE_WAIT, limits::WRONG_FILE_WAIT_MAX)
    };
    let (now, random) = (Instant::now(), crate::secrets::jitter());
    gateway
        .downloader
        .breakers()
        .trip(offer.digest, first, most, now, random);
    if !wrong.is_empty() {
        corrupted(gateway, offer, &name, &wrong.join("; "));
    }
    false
}

fn arrived(gateway: &Gateway, offer: &Offer, name: &str) {
    gateway.downloader.breakers().heal(&offer.digest);
    gateway.journal.clear(&format!("file:{}", offer.digest));
    for message in [messages::DOWNLOADED, messages::VERIFIED] {
        gateway.journal.say(gateway.now(), Level::Info, message, name, "");
    }
}

/// Said and reported once; the store has put the bytes aside, the breaker keeps it from being asked for every ten
/// seconds (R-004-56, R-004-57).
fn corrupted(gateway: &Gateway, offer: &Offer, name: &str, reason: &str) {
    let text = format!("{name} is not the file that was signed: {reason}");
    if !gateway
        .journal
        .alarm(gateway.now(), &format!("file:{}", offer.digest), &text)
    {
        return;
    }
    gateway.failed(offer, &text);
    let now = gateway.now();
    gateway
        .journal
        .say(now, Level::Error, messages::CORRUPTED, "", &text);
    gateway.journal.say(
        now,
        Level::Info,
        messages::DELETED,
        name,
        "kept aside in quarantine",
    );
}

/// What the windows show of a file that is arriving.
fn fetching(gateway: &Gateway, offer: &Offer, bytes: u64) {
    let fetching = Fetching {
        component: offer.release.component.clone(),
        version: offer.release.version.clone(),
        bytes,
        total: offer.length,
    };
    gateway.downloader.tell(|status| status.fetching = Some(fetching));
}

#[derive(Debug)]
enum TransferError {
    /// The bytes are not the file's.
    Wrong { bytes: u64, reason: String },
    /// What was kept from an earlier try does not fit what the repository has; it was thrown away.
    Stale,
    /// Interrupted; what has arrived stays for the next try.
    Passing(String),
}

fn passing(error: &dyn std::error::Error) -> TransferError {
    TransferError::Passing(chain(error))
}

/// Streams one file into the mirror, resuming what is there; gives the bytes that crossed the wire.
async fn transfer(
    gateway: &Arc<Gateway>,
    repository: &Repository,
    offer: &Offer,
) -> Result<u64, TransferError> {
    let (store, digest, length) = (gateway.mirror.clone(), offer.digest, offer.length);
    // Hashes what is there already: on a thread that may block.
    let begun = tokio::task::spawn_blocking(move || store.begin(digest, length)).await;
    let mut incoming = match begun.map_err(|error| passing(&error))? {
        Ok(incoming) => incoming,
        Err(StoreError::Held { .. }) => return Ok(0),
        Err(error) => return Err(passing(&error)),
    };
    let mut bytes = 0;
    if !incoming.is_complete() {
        let resumed = incoming.offset();
        let asked = repository.target(offer.target.as_str(), &digest, resumed).await;
        let response = match asked {
            Ok(response) => response,
            Err(RemoteError::Refused { status, .. }) if status == StatusCode::RANGE_NOT_SATISFIABLE => {
                incoming.restart().map_err(|error| passing(&error))?;
                return Err(TransferError::Stale);
            }
            Err(error) => return Err(passing(&error)),
        };
        announced(&response, &mut incoming)?;
        bytes = stream(response, &mut incoming, &|bytes| fetching(gateway, offer, bytes)).await?;
        if !incoming.is_complete() {
            // The answer came to its proper end: the repository's file is that short.
            let reason = format!("truncated: {} of {length} bytes", incoming.offset());
            return Err(if resumed > 0 && incoming.offset() > bytes {
                incoming.restart().map_err(|error| passing(&error))?;
                TransferError::Stale
            } else {
                put_aside(incoming, bytes, reason)
            });
        }
    }
    gateway.step(Step::Fetched, offer, None, Some(bytes));
    gateway.step(Step::MirrorVerifyStarted, offer, None, None);
    match tokio::task::spawn_blocking(move || incoming.finish()).await {
        Ok(Ok(_)) => {
            gateway.step(Step::MirrorVerified, offer, None, None);
            Ok(bytes)
        }
        Ok(Err(error @ StoreError::WrongDigest { resumed_from: 0, .. })) => {
            let reason = chain(&error);
            Err(TransferError::Wrong { bytes, reason })
        }
        Ok(Err(StoreError::WrongDigest { .. })) => Err(TransferError::Stale),
        Ok(Err(error)) => Err(passing(&error)),
        Err(error) => Err(passing(&error)),
    }
}

/// Moves wrong bytes aside for a person to look at.
fn put_aside(incoming: Incoming, bytes: u64, reason: String) -> TransferError {
    if let Err(error) = incoming.quarantine() {
        tracing::warn!(error = chain(&error), "a wrong file could not be put aside");
    }
    TransferError::Wrong { bytes, reason }
}

/// What the answer's head says of the file: where it starts, and how long it is. A file that cannot be right is
/// refused before its first byte.
fn announced(response: &Response, incoming: &mut Incoming) -> Result<(), TransferError> {
    let start = match content_range(response) {
        Some((start, total)) if start == incoming.offset() && total == incoming.length() => start,
        Some(_) => {
            incoming.restart().map_err(|error| passing(&error))?;
            return Err(TransferError::Stale);
        }
        None => {
            if incoming.offset() > 0 {
                incoming.restart().map_err(|error| passing(&error))?;
            }
            0
        }
    };
    match response.content_length() {
        Some(rest) if start.saturating_add(rest) > incoming.length() => {
            let total = start.saturating_add(rest);
            let reason = format!(
                "announced with {total} bytes instead of {} (endless data)",
                incoming.length()
            );
            Err(TransferError::Wrong { bytes: 0, reason })
        }
        _ => Ok(()),
    }
}

/// Start and whole length of a partial answer.
fn content_range(response: &Response) -> Option<(u64, u64)> {
    if response.status() != StatusCode::PARTIAL_CONTENT {
        return None;
    }
    let text = response.headers().get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    // A partial answer that does not say of what is not the one that was asked for.
    Some((
        start.parse().unwrap_or(u64::MAX),
        total.parse().unwrap_or(u64::MAX),
    ))
}

/// Takes the answer's bytes as they come, within the limits of time and length.
async fn stream(
    mut response: Response,
    incoming: &mut Incoming,
    told: &(dyn Fn(u64) + Sync),
) -> Result<u64, TransferError> {
    let (begun, mut bytes) = (Instant::now(), 0);
    loop {
        let chunk = tokio::time::timeout(limits::STALL, response.chunk()).await;
        let chunk = chunk.map_err(|_| TransferError::Passing("no byte for too long".into()))?;
        let Some(chunk) = chunk.map_err(|error| passing(&error))? else {
            return Ok(bytes);
        };
        bytes += chunk.len() as u64;
        let elapsed = begun.elapsed();
        if elapsed > limits::FLOOR_AFTER && bytes < limits::FLOOR_RATE * elapsed.as_secs() {
            let reason = "slower than the floor rate (slow retrieval)";
            return Err(TransferError::Passing(reason.into()));
        }
        match incoming.write(&chunk) {
            Ok(()) => told(incoming.offset()),
            Err(error @ StoreError::TooLong { .. }) => {
                let reason = format!("{error} (endless data)");
                incoming.restart().map_err(|error| passing(&error))?;
                return Err(TransferError::Wrong { bytes, reason });
            }
            Err(error) => return Err(passing(&error)),
        }
    }
}

/// The download record (R-004-59).
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
