//! The install record: what was installed or tried, when, from what, how long it took and how it ended.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use durable::{Files, LogLimits, RecordError, RecordLog};
use protocol::control::InstallEntry;
use protocol::messages::Message;
use protocol::{Event, Step};
use serde::Serialize;

use crate::layout::Layout;
use crate::machine::HandedOver;
use crate::sync::Shared;

pub(crate) const NAME: &str = "install";

/// The append-only record in `records/install.log` and `.jsonl`.
#[derive(Debug)]
pub struct InstallLog {
    files: Files,
    dir: PathBuf,
    /// Opened when it is first needed: a full disk keeps no program from starting.
    log: Shared<Option<RecordLog>>,
    added: AtomicU64,
}

/// One line: the entry, and what each stage took.
#[derive(Debug, Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    entry: &'a InstallEntry,
    update: String,
    download_ms: Option<u64>,
    verify_ms: Option<u64>,
    stage_ms: Option<u64>,
    restart_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    live_ms: Option<u64>,
}

impl InstallLog {
    /// The record of this device.
    #[must_use]
    pub fn new(files: &Files, layout: &Layout) -> Self {
        Self {
            files: files.clone(),
            dir: layout.records(),
            log: Shared::default(),
            added: AtomicU64::new(0),
        }
    }

    /// Adds an entry; `events` are the steps of the attempt, `handed_over` whether a program that ran gave place.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn add(
        &self,
        entry: &InstallEntry,
        update: String,
        events: &[Event],
        handed_over: Option<HandedOver>,
    ) -> Result<(), RecordError> {
        let restart_ms = between(events, Step::Stopping, Step::Healthy)
            .or_else(|| between(events, Step::Switched, Step::Healthy));
        let line = Line {
            entry,
            update,
            download_ms: between(events, Step::DownloadStarted, Step::Downloaded),
            verify_ms: between(events, Step::VerifyStarted, Step::Verified),
            stage_ms: between(events, Step::InstallStarted, Step::Staged),
            // Nothing stopped where a program that ran gave place.
            restart_ms: restart_ms.filter(|_| handed_over.is_none()),
            live_ms: handed_over.and_then(|handed| handed.pause_ms),
        };
        let from = entry
            .from
            .as_ref()
            .map_or_else(|| "nothing".to_owned(), ToString::to_string);
        let reason = entry
            .reason
            .as_ref()
            .map_or_else(String::new, |reason| format!(": {reason}"));
        let text = format!(
            "{} {} {} from {from}, {} after {} ms, digest {}{reason}",
            entry.at, entry.component, entry.version, entry.outcome, entry.milliseconds, entry.digest
        );
        self.log.with(|log| {
            let log = match log {
                Some(log) => log,
                None => log.insert(RecordLog::open_on(
                    self.files.clone(),
                    &self.dir,
                    NAME,
                    LogLimits::default(),
                )?),
            };
            log.append(&line, &text)
        })?;
        self.added.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Entries added since the agent's start.
    #[must_use]
    pub fn added(&self) -> u64 {
        self.added.load(Ordering::Relaxed)
    }

    /// The newest entries, oldest first.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn last(&self, last: usize) -> Result<Vec<InstallEntry>, durable::Error> {
        Self::read(&self.dir, last)
    }

    /// The same from another process.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn read(dir: &Path, last: usize) -> Result<Vec<InstallEntry>, durable::Error> {
        RecordLog::read_in(dir, NAME, last)
    }
}

/// Milliseconds from the first `from` to the last `to`.
#[must_use]
pub fn between(events: &[Event], from: Step, to: Step) -> Option<u64> {
    let first = events.iter().find(|event| event.step == from)?;
    let last = events.iter().rev().find(|event| event.step == to)?;
    u64::try_from(last.at.since_ns(&first.at) / 1_000_000).ok()
}

/// Logs one of the document's messages, with its id for programs.
pub fn say(message: &Message, fact: impl std::fmt::Display) {
    tracing::info!(target: "drover", id = message.id, "{}", message.with(fact));
}

/// [`say`] for what went wrong.
pub fn warn(message: &Message, fact: impl std::fmt::Display, reason: &str) {
    tracing::warn!(target: "drover", id = message.id, reason, "{}", message.with(fact));
}
