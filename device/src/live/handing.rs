//! One handing over: what is on disk of it, and how its processes are started and ended.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use durable::{Files, Record};
use handoff::{Desk, Journal, Outcome, Process, Starter, Successor};
use protocol::UpdateId;
use release::Component;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};

use crate::layout::Layout;
use crate::limits::{HANDING_LOOK, MAX_DECISION};
use crate::supervise::adopt::Run;
use crate::supervise::process::{group_is_gone, stat};
use crate::trust::chain;

/// Who hands over to whom, written down before either is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Handing {
    /// In which update.
    pub(crate) update: UpdateId,
    /// The program that serves.
    pub(crate) old: Run,
    /// The one that stands by.
    pub(crate) new: Run,
}

/// The record of a component's last handing over.
pub(crate) fn record(files: &Files, layout: &Layout, component: &Component) -> Record<Handing> {
    let path = layout.runs().join(format!("{component}.handing.rec"));
    Record::on(files.clone(), path, "handing", 1)
}

fn decision(layout: &Layout, component: &Component) -> PathBuf {
    layout.runs().join(format!("{component}.decided"))
}

/// Whether an earlier agent decided this handing over: of use only where neither program is left to tell.
pub(crate) fn decided(layout: &Layout, component: &Component, update: UpdateId) -> bool {
    durable::read_limited(decision(layout, component), MAX_DECISION)
        .is_ok_and(|bytes| bytes == update.to_string().as_bytes())
}

/// The journal of a handing over.
pub(crate) struct Notes {
    files: Files,
    record: Record<Handing>,
    decision: PathBuf,
    handing: Handing,
}

impl Notes {
    pub(crate) fn new(files: &Files, layout: &Layout, component: &Component, handing: Handing) -> Self {
        Self {
            files: files.clone(),
            record: record(files, layout, component),
            decision: decision(layout, component),
            handing,
        }
    }
}

impl Journal for Notes {
    fn intend(&mut self, _update: &str, _units: &[String]) -> Result<(), String> {
        self.files
            .remove_file(&self.decision)
            .map_err(|error| chain(&error))?;
        self.record.save(&self.handing).map_err(|error| chain(&error))
    }

    fn decide(&mut self, update: &str) -> Result<(), String> {
        // Not through `durable`: in the pause nothing waits for the disk, and what a power cut takes ends both programs too.
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&self.decision);
        let written = file.and_then(|mut file| file.write_all(update.as_bytes()));
        written.map_err(|error| format!("{}: {error}", self.decision.display()))
    }

    fn end(&mut self, _update: &str, _outcome: &Outcome) {}
}

/// A new program that was started already, and has yet to report.
pub(crate) struct StandsBy {
    pub(crate) desk: Arc<Desk>,
    pub(crate) token: String,
    pub(crate) group: Group,
}

impl Starter for StandsBy {
    fn start(&mut self, _unit: &str, until: Instant) -> Result<Successor, String> {
        loop {
            let look = until.min(Instant::now() + HANDING_LOOK);
            if let Some(guest) = self.desk.take(&self.token, look) {
                if guest.serving {
                    self.group.end();
                    return Err("it does not wait for what it is to take over".to_owned());
                }
                let process = Box::new(self.group);
                return Ok(Successor { guest, process });
            }
            let ended = !self.group.is_alive();
            if ended || Instant::now() >= until {
                self.group.end();
                return Err(if ended {
                    "it ended before it stood by".to_owned()
                } else {
                    "it does not report to the agent".to_owned()
                });
            }
        }
    }
}

/// The process group of a program that the agent has started and not yet waited for, so that its number is its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Group(pub(crate) i32);

impl Group {
    fn is_alive(self) -> bool {
        stat(self.0).is_some_and(|found| found.state != 'Z')
    }
}

impl Process for Group {
    fn end(&mut self) {
        let Some(pid) = Pid::from_raw(self.0) else { return };
        // One that the kernel holds is waited for, however long: as long as it is there it might serve.
        loop {
            kill_process_group(pid, Signal::KILL).ok();
            if group_is_gone(self.0) {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
