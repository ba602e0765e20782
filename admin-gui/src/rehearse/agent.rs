//! The device program of this machine in a folder of its own: one bounded run at a time, killed where it is wanted.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use control::Client;
use durable::Files;
use protocol::control::DeviceRequest;
use protocol::{Event, Outcome, Step};
use release::{Component, Version};
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::RehearseError;
use crate::limits::{REHEARSAL_ANSWER, REHEARSAL_LOG, REHEARSAL_LOOK};

/// The device.
pub(super) struct Device {
    program: PathBuf,
    scratch: PathBuf,
    component: Component,
    /// How long one run may take.
    run: Duration,
    /// How long its program may take to stop.
    stop: Duration,
}

/// What one run did: the answer of `device apply --once --json`.
#[derive(Debug, Deserialize)]
pub(super) struct Applied {
    /// In one word.
    pub(super) result: String,
    /// Everything that ended.
    pub(super) ended: Vec<End>,
    /// What is installed and does not run.
    pub(super) failing: Vec<Component>,
    /// What is wrong with the connection, if anything.
    pub(super) connection: String,
}

/// How one order ended.
#[derive(Debug, Deserialize)]
pub(super) struct End {
    pub(super) version: Version,
    pub(super) outcome: Outcome,
    pub(super) reason: Option<String>,
}

impl Applied {
    /// How the order of a version ended, and why.
    pub(super) fn end_of(&self, version: &Version) -> Option<&End> {
        self.ended.iter().find(|end| end.version == *version)
    }

    /// What went wrong, for a person.
    pub(super) fn told(&self) -> String {
        let ended = self.ended.iter().map(|end| match &end.reason {
            Some(reason) => format!("{} {}: {reason}", end.version, end.outcome),
            None => format!("{} {}", end.version, end.outcome),
        });
        let failing = self.failing.iter().map(|name| format!("{name} does not run"));
        let all: Vec<String> = ended.chain(failing).collect();
        match (all.is_empty(), self.connection.is_empty()) {
            (false, _) => all.join("; "),
            (true, false) => format!("{}: {}", self.result, self.connection),
            (true, true) => self.result.clone(),
        }
    }
}

impl Device {
    /// In `scratch/device`, by the device program `program`.
    pub(super) fn new(
        program: PathBuf,
        scratch: &Path,
        component: Component,
        run: Duration,
        stop: Duration,
    ) -> Self {
        Self {
            program,
            scratch: scratch.to_owned(),
            component,
            run,
            stop,
        }
    }

    /// Its folder.
    pub(super) fn dir(&self) -> PathBuf {
        self.scratch.join("device")
    }

    /// Where its program's data lie.
    pub(super) fn data(&self) -> PathBuf {
        self.dir().join("data").join(self.component.as_str())
    }

    fn start(&self, words: &[&str], answers: bool) -> Result<Child, RehearseError> {
        let log = self.scratch.join("device.log");
        let io = |source| RehearseError::Run {
            program: self.program.clone(),
            source,
        };
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .map_err(io)?;
        let out = if answers { Stdio::piped() } else { Stdio::null() };
        Command::new(&self.program)
            .args(words)
            .arg("--dir")
            .arg(self.dir())
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .map_err(io)
    }

    fn start_run(&self) -> Result<Child, RehearseError> {
        let limit = self.run.as_secs().to_string();
        self.start(&["apply", "--once", "--json", "--limit", &limit], true)
    }

    /// One run to its end.
    pub(super) async fn apply(&self) -> Result<Applied, RehearseError> {
        let child = self.start_run()?;
        // It keeps its own limit; what hangs nevertheless is killed.
        let ended = timeout(self.run * 2, child.wait_with_output()).await;
        let output = ended
            .map_err(|_| self.silent("it did not end"))?
            .map_err(|source| RehearseError::Run {
                program: self.program.clone(),
                source,
            })?;
        serde_json::from_slice(&output.stdout).map_err(|_| self.silent("it gave no answer"))
    }

    fn silent(&self, what: &'static str) -> RehearseError {
        let last = durable::read_limited(self.scratch.join("device.log"), REHEARSAL_LOG).unwrap_or_default();
        let last = String::from_utf8_lossy(&last).into_owned();
        RehearseError::Silent {
            program: self.program.clone(),
            what,
            said: last.lines().last().unwrap_or_default().to_owned(),
        }
    }

    /// One run that is killed as soon as it tells a step of a version; whether it came so far.
    pub(super) async fn apply_until(&self, step: Step, version: &Version) -> Result<bool, RehearseError> {
        let mut child = self.start_run()?;
        let reached = timeout(self.run * 2, async {
            tokio::select! {
                reached = self.reach(step, version) => reached,
                _ = child.wait() => false,
            }
        });
        let reached = reached.await.unwrap_or(false);
        child.start_kill().ok();
        child.wait().await.ok();
        Ok(reached)
    }

    /// Waits for a step; false: the agent is gone.
    async fn reach(&self, step: Step, version: &Version) -> bool {
        loop {
            if let Some(mut client) = self.connect().await
                && client.send(&DeviceRequest::Watch).await.is_ok()
            {
                while let Ok(Some(event)) = client.next::<Event>().await {
                    if event.step == step && event.version == *version {
                        return true;
                    }
                }
                return false;
            }
            sleep(REHEARSAL_LOOK).await;
        }
    }

    async fn connect(&self) -> Option<Client> {
        let socket = self.dir().join("control").join("socket");
        Client::connect(&socket, "the device agent").await.ok()
    }

    /// Rolls back by hand, with an agent that runs meanwhile; the inner error: it was refused, and why.
    pub(super) async fn roll_back(&self) -> Result<Result<(), String>, RehearseError> {
        let mut child = self.start(&["run"], false)?;
        let asked = timeout(self.run, async {
            let mut client = loop {
                match self.connect().await {
                    Some(client) => break client,
                    None => sleep(REHEARSAL_LOOK).await,
                }
            };
            let request = DeviceRequest::Rollback {
                component: self.component.clone(),
            };
            client
                .call::<()>(&request)
                .await
                .map_err(|error| error.to_string())
        })
        .await;
        child.start_kill().ok();
        child.wait().await.ok();
        asked.map_err(|_| self.silent("it did not roll back in time"))
    }

    /// Process groups of the programs that this device has started: whose environment names its data folder.
    pub(super) fn programs(&self) -> Vec<Pid> {
        let mark = format!("DROVER_DATA={}", self.data().display());
        let mut groups = Vec::new();
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
                continue;
            };
            let environ = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            let marked = environ
                .split(|byte| *byte == 0)
                .any(|entry| entry == mark.as_bytes());
            let group = marked.then(|| group_of(pid)).flatten();
            if let Some(group) = group.filter(|group| !groups.contains(group)) {
                groups.push(group);
            }
        }
        groups
    }

    /// Ends its programs: asked first, then killed.
    pub(super) async fn end_programs(&self) {
        let until = Instant::now() + self.stop;
        let mut signal = Signal::TERM;
        loop {
            let groups = self.programs();
            if groups.is_empty() {
                return;
            }
            for group in groups {
                kill_process_group(group, signal).ok();
            }
            if Instant::now() > until + REHEARSAL_ANSWER {
                return;
            }
            if Instant::now() > until {
                signal = Signal::KILL;
            }
            sleep(REHEARSAL_LOOK).await;
        }
    }

    /// Keeps the device as it lies there; nothing of it runs.
    pub(super) async fn keep(&self) -> Result<(), RehearseError> {
        self.copy(&self.dir(), &self.scratch.join("before")).await
    }

    /// Puts back what was kept.
    pub(super) async fn restore(&self) -> Result<(), RehearseError> {
        self.end_programs().await;
        Files::real().remove_tree(&self.dir())?;
        self.copy(&self.scratch.join("before"), &self.dir()).await
    }

    /// Puts data where the program finds them, in the place of what is there.
    pub(super) async fn give_data(&self, data: &Path) -> Result<(), RehearseError> {
        Files::real().remove_tree(&self.data())?;
        self.copy(data, &self.data()).await
    }

    async fn copy(&self, from: &Path, to: &Path) -> Result<(), RehearseError> {
        let program = PathBuf::from("cp");
        let copied = Command::new(&program)
            .arg("-a")
            .arg(from)
            .arg(to)
            .output()
            .await
            .map_err(|source| RehearseError::Run {
                program: program.clone(),
                source,
            })?;
        if copied.status.success() {
            return Ok(());
        }
        Err(RehearseError::Silent {
            program,
            what: "the device's folder could not be copied",
            said: String::from_utf8_lossy(&copied.stderr).trim().to_owned(),
        })
    }
}

/// The process group of a process that lives.
fn group_of(pid: i32) -> Option<Pid> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit(')').next()?.split_whitespace();
    let state = fields.next()?;
    let group = fields.nth(1)?.parse().ok()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    Pid::from_raw(group)
}
