//! Finding again what an earlier agent started.
//!
//! A run record names the process (pid, start time, boot id) and what it runs. A process that was started
//! but not yet recorded when the agent died carries the mark of its component in its environment.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use durable::{Files, Record};
use release::Component;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;
use tuf::Digest;

use super::launch::MARK;
use super::output::Copier;
use super::process::{Process, processes, stat};
use crate::layout::Layout;

/// Which process runs which release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Process id.
    pub pid: i32,
    /// Its start in clock ticks since boot.
    pub start_ticks: u64,
    /// The boot in which it was started.
    pub boot_id: String,
    /// The release that it runs.
    pub digest: Digest,
    /// Pid and start of the process that copies its output; none if an agent that knew no copiers started it.
    #[serde(default)]
    pub copier: Option<(i32, u64)>,
    /// Under which a live program reports; none: it was not told where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// The run record of a component.
#[must_use]
pub fn record(files: &Files, layout: &Layout, component: &Component) -> Record<Run> {
    Record::on(
        files.clone(),
        layout.runs().join(format!("{component}.rec")),
        "run",
        1,
    )
}

impl Run {
    /// What is to be recorded of a process.
    #[must_use]
    pub fn of(process: &Process, digest: Digest, copier: &Copier) -> Self {
        Self {
            pid: process.pid(),
            start_ticks: process.start_ticks(),
            boot_id: mtls::stamp().boot_id,
            digest,
            copier: Some(copier.found_by()),
            token: None,
        }
    }

    /// The process, if it still runs.
    #[must_use]
    pub fn find(&self) -> Option<Process> {
        let same_boot = self.boot_id == mtls::stamp().boot_id;
        let alive = stat(self.pid).is_some_and(|found| found.state != 'Z');
        (same_boot && alive)
            .then(|| Process::find(self.pid, self.start_ticks))
            .flatten()
    }
}

impl Run {
    /// The process that copies its output, if it still runs.
    #[must_use]
    pub fn find_copier(&self) -> Option<Copier> {
        let (pid, start_ticks) = self.copier?;
        Process::find(pid, start_ticks).map(Copier::watch)
    }
}

/// Ancestors that are looked at of one process.
const MAX_ANCESTORS: usize = 64;

/// Ends every process of a component, in whatever group or session it is: two versions never run side by side.
///
/// Program `spare`, its group and what descends from it are left alone. `patience` is for each group.
pub async fn end_strays(data: &Path, spare: Option<i32>, patience: Duration) {
    let mark = format!("{MARK}={}", data.display());
    // All of /proc is read: beside the agent's thread. Cut off, the agent ends.
    let groups = spawn_blocking(move || strays(&mark, spare))
        .await
        .unwrap_or_default();
    for group in groups {
        match Process::find_now(group) {
            Some(process) => {
                process.stop(patience).await;
            }
            // Its first process is gone: nobody is left to be asked.
            None => {
                if let Some(group) = Pid::from_raw(group) {
                    kill_process_group(group, Signal::KILL).ok();
                }
            }
        }
    }
}

/// The groups of the processes that carry this entry in their environment.
pub(crate) fn marked(mark: &str) -> HashSet<i32> {
    strays(mark, None)
}

/// The groups of the processes that carry the mark, `spare` and its own aside; those in a group of another user are ended
/// at once, by themselves.
fn strays(mark: &str, spare: Option<i32>) -> HashSet<i32> {
    let mut groups = HashSet::new();
    for pid in processes() {
        let Some(found) = stat(pid).filter(|found| found.state != 'Z' && Some(found.group) != spare) else {
            continue;
        };
        if has_mark(pid, mark) && !spare.is_some_and(|spare| descends(pid, spare)) {
            if is_anothers(found.group, pid, mark) {
                tracing::warn!(target: "drover", pid, group = found.group, "a process that a program left behind is in a group of another user: it is ended alone");
                if let Some(pid) = Pid::from_raw(pid) {
                    kill_process(pid, Signal::KILL).ok();
                }
                continue;
            }
            tracing::info!(target: "drover", pid, "ending a process that a program left behind");
            groups.insert(found.group);
        }
    }
    // Never the agent's own group, should something odd carry the mark there.
    if let Some(own) = stat(rustix::process::getpid().as_raw_pid()) {
        groups.remove(&own.group);
    }
    // A group whose leader is in another namespace has no number here, and 0 would be the agent's own.
    groups.remove(&0);
    groups
}

/// Whether the group is of another user and not of this component: any process may join a group of its session, and must not
/// bring the agent to end it.
fn is_anothers(group: i32, pid: i32, mark: &str) -> bool {
    let leader = user(group);
    group != pid && leader.is_some() && leader != user(pid) && !has_mark(group, mark)
}

/// The real user of a process; the owner of its files in /proc is root for whoever wants it (prctl(2), `PR_SET_DUMPABLE`).
fn user(pid: i32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Whether `ancestor` started this process, or started what started it.
fn descends(pid: i32, ancestor: i32) -> bool {
    let parents = std::iter::successors(Some(pid), |pid| stat(*pid).map(|found| found.parent));
    parents.take(MAX_ANCESTORS).any(|pid| pid == ancestor)
}

fn has_mark(pid: i32, mark: &str) -> bool {
    std::fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environ| {
        environ
            .split(|byte| *byte == 0)
            .any(|entry| entry == mark.as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_of_another_user_is_left_alone_whoever_joins_it() {
        use std::os::unix::process::CommandExt;
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let start = |group: i32, mark: &str, user: u32| {
            let mut command = std::process::Command::new("sleep");
            command.arg("1000").process_group(group).uid(user).gid(user);
            command.env_clear().env("PATH", "/usr/bin:/bin");
            if !mark.is_empty() {
                command.env(MARK, mark);
            }
            command.spawn().unwrap()
        };
        let id = |child: &std::process::Child| i32::try_from(child.id()).unwrap();
        let victim = start(0, "", 0);
        let mut stray = start(id(&victim), "/joins", 65_534);
        let own = start(id(&victim), "/own", 0);
        let groups = [
            strays("DROVER_DATA=/joins", None),
            strays("DROVER_DATA=/own", None),
        ];
        let ids = HashSet::from([id(&victim)]);
        let alone = stray.wait().unwrap();
        for mut child in [victim, own] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert_eq!(groups, [HashSet::new(), ids]);
        assert!(!alone.success(), "ended by itself");
    }
}
