//! Target files: from the first repository that has them right into the mirror.

use std::sync::Arc;
use std::time::{Duration, Instant};

use durable::{Incoming, StoreError};
use http::{StatusCode, header};
use protocol::control::{DownloadEntry, Fetching};
use protocol::limits::MAX_REASON;
use protocol::{Step, messages};
use reqwest::Response;
use tuf::Digest;

use super::chain;
use super::missing::{self, Failure, Kind};
use crate::catalog::{Catalog, Offer};
use crate::gateway::Gateway;
use crate::limits;
use crate::repository::{RemoteError, Repository};
use protocol::control::Level;

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
        fetch_all(&gateway, &repositories, false).await;
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
                mark(gateway, |found| *found == digest, false);
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

/// What came of fetching what was missing.
#[derive(Debug, Default)]
pub(super) struct Fetched {
    /// Files that came.
    pub(super) count: usize,
    /// What is to be said of each that did not.
    pub(super) failed: Vec<String>,
}

/// Fetches every file that the catalog names, the mirror lacks and no breaker holds back; `anyway`: those too that a
/// breaker holds back, because a person wants it so.
pub(super) async fn fetch_all(gateway: &Arc<Gateway>, repositories: &[Repository], anyway: bool) -> Fetched {
    let _alone = gateway.downloader.fetching.lock().await;
    if anyway {
        gateway.downloader.breakers().reopen(Instant::now());
    }
    let mut fetched = Fetched::default();
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
            fetched.count += 1;
            mark(gateway, |found| *found == offer.digest, true);
            super::order(gateway);
        } else {
            fetched.failed.extend(missing::said(gateway, offer));
        }
        gateway
            .downloader
            .tell(|status| (status.busy, status.fetching) = (None, None));
    }
    missing::forget(gateway);
    fetched
}

/// Notes in the catalog whether files are here.
pub(super) fn mark(gateway: &Gateway, which: impl Fn(&Digest) -> bool, here: bool) {
    gateway.catalog.send_modify(|catalog| {
        let mut next = Catalog::clone(catalog);
        for offer in next.all_mut().filter(|offer| which(&offer.digest)) {
            offer.mirrored = here;
        }
        *catalog = Arc::new(next);
    });
}

pub(super) fn name(offer: &Offer) -> String {
    format!("{}_{}", offer.release.component, offer.release.version)
}

/// Fetches one file from the first repository that has it right, the preferred one first.
async fn fetch(gateway: &Arc<Gateway>, repositories: &[Repository], offer: &Offer) -> bool {
    let name = name(offer);
    gateway
        .downloader
        .tell(|status| status.busy = Some(format!("downloading {name}")));
    gateway.step(Step::FetchStarted, offer, None, None);
    let (before, after) = repositories.split_at(gateway.downloader.preferred().min(repositories.len()));
    let mut failures = Vec::new();
    for repository in after.iter().chain(before) {
        let begun = Instant::now();
        let mut outcome = transfer(gateway, repository, offer).await;
        if matches!(outcome, Err(TransferError::Stale)) {
            // What was kept from an earlier try did not fit; it is gone now.
            outcome = transfer(gateway, repository, offer).await;
        }
        let (bytes, kind, reason) = match outcome {
            Ok(bytes) => {
                let source = repository.base();
                record(gateway, offer, source, bytes, begun.elapsed(), "verified".into());
                arrived(gateway, offer, &name);
                return true;
            }
            Err(TransferError::Wrong { bytes, reason }) => (bytes, Kind::Wrong, reason),
            Err(TransferError::Passing { bytes, reason, full }) => {
                tracing::warn!(target: "drover", reason, base = repository.base(), "a download was interrupted");
                (bytes, if full { Kind::Full } else { Kind::Passing }, reason)
            }
            Err(TransferError::Stale) => {
                let reason = "the repository changes its mind about where the file begins";
                (0, Kind::Passing, reason.to_owned())
            }
        };
        failures.push(Failure {
            source: repository.base().to_owned(),
            kind,
            reason: reason.chars().take(MAX_REASON).collect(),
            bytes,
            elapsed: begun.elapsed(),
        });
    }
    missing::note(gateway, offer, &failures);
    false
}

fn arrived(gateway: &Gateway, offer: &Offer, name: &str) {
    missing::arrived(gateway, &offer.digest);
    for message in [messages::DOWNLOADED, messages::VERIFIED] {
        gateway.journal.say(gateway.now(), Level::Info, message, name, "");
    }
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
    /// Interrupted; what has arrived stays for the next try. `full`: there is no room for it.
    Passing { bytes: u64, reason: String, full: bool },
}

fn passing(bytes: u64, error: &dyn std::error::Error) -> TransferError {
    TransferError::Passing {
        bytes,
        reason: chain(error),
        full: false,
    }
}

/// What this machine's disk refused.
fn disk(bytes: u64, error: &StoreError) -> TransferError {
    TransferError::Passing {
        bytes,
        reason: chain(error),
        full: matches!(error, StoreError::File(error) if error.is_full()),
    }
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
    let mut incoming = match begun.map_err(|error| passing(0, &error))? {
        Ok(incoming) => incoming,
        Err(StoreError::Held { .. }) => return Ok(0),
        Err(error) => return Err(disk(0, &error)),
    };
    let mut bytes = 0;
    if !incoming.is_complete() {
        let resumed = incoming.offset();
        let asked = repository.target(offer.target.as_str(), &digest, resumed).await;
        let response = match asked {
            Ok(response) => response,
            Err(RemoteError::Refused { status, .. }) if status == StatusCode::RANGE_NOT_SATISFIABLE => {
                incoming.restart().map_err(|error| disk(0, &error))?;
                return Err(TransferError::Stale);
            }
            Err(error) => return Err(passing(0, &error)),
        };
        announced(&response, &mut incoming)?;
        bytes = stream(response, &mut incoming, &|bytes| fetching(gateway, offer, bytes)).await?;
        if !incoming.is_complete() {
            // The answer came to its proper end: the repository's file is that short.
            let reason = format!("truncated: {} of {length} bytes", incoming.offset());
            return Err(if resumed > 0 && incoming.offset() > bytes {
                incoming.restart().map_err(|error| disk(bytes, &error))?;
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
        Ok(Err(error)) => Err(disk(bytes, &error)),
        Err(error) => Err(passing(bytes, &error)),
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
            incoming.restart().map_err(|error| disk(0, &error))?;
            return Err(TransferError::Stale);
        }
        None => {
            if incoming.offset() > 0 {
                incoming.restart().map_err(|error| disk(0, &error))?;
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
    let slow = |bytes, reason: &str| TransferError::Passing {
        bytes,
        reason: reason.to_owned(),
        full: false,
    };
    loop {
        let chunk = tokio::time::timeout(limits::STALL, response.chunk()).await;
        let chunk = chunk.map_err(|_| slow(bytes, "no byte for too long"))?;
        let Some(chunk) = chunk.map_err(|error| passing(bytes, &error))? else {
            return Ok(bytes);
        };
        bytes += chunk.len() as u64;
        let elapsed = begun.elapsed();
        if elapsed > limits::FLOOR_AFTER && bytes < limits::FLOOR_RATE * elapsed.as_secs() {
            return Err(slow(bytes, "slower than the floor rate (slow retrieval)"));
        }
        match incoming.write(&chunk) {
            Ok(()) => told(incoming.offset()),
            Err(error @ StoreError::TooLong { .. }) => {
                let reason = format!("{error} (endless data)");
                incoming.restart().map_err(|error| disk(bytes, &error))?;
                return Err(TransferError::Wrong { bytes, reason });
            }
            Err(error) => return Err(disk(bytes, &error)),
        }
    }
}

/// The download record (R-004-59).
pub(super) fn record(
    gateway: &Gateway,
    offer: &Offer,
    source: &str,
    bytes: u64,
    elapsed: Duration,
    outcome: String,
) {
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
