//! One supervised process: a process group of its own, watched through a pidfd.
//!
//! Works the same for a child of this agent and for one that an earlier agent left behind. Dropping a
//! [`Process`] leaves it running: the programs outlive the agent.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, test_kill_process_group,
    waitid,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};

use crate::limits::KILL_WAIT;

/// Tries to start a file that another process still has open for writing (`ETXTBSY`): the window between
/// that process's fork and exec.
const BUSY_TRIES: u32 = 20;
/// Pause between two of them, and between two looks at a dying process group.
const SHORT_PAUSE: Duration = Duration::from_millis(5);

/// Clock ticks in a second, as `/proc` counts them on every platform of ours (`USER_HZ`).
const TICKS: u64 = 100;

/// A running program.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    fd: AsyncFd<OwnedFd>,
    start_ticks: u64,
    since: Instant,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// With this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// It was not our child: only its end is known.
    Unknown,
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "it ended with code {code}"),
            Self::Signal(signal) => write!(f, "it was ended by signal {signal}"),
            Self::Unknown => f.write_str("it ended"),
        }
    }
}

impl Process {
    /// Starts a command in a process group of its own.
    ///
    /// # Errors
    /// Those of the system, such as a missing file or a wrong binary format.
    pub async fn spawn(mut command: Command) -> io::Result<Self> {
        command.process_group(0);
        let mut tries = 0;
        let child = loop {
            match command.spawn() {
                Err(e) if e.kind() == io::ErrorKind::ExecutableFileBusy && tries < BUSY_TRIES => {
                    tries += 1;
                    sleep(SHORT_PAUSE).await;
                }
                other => break other?,
            }
        };
        let pid = Pid::from_child(&child);
        match Self::watch(pid) {
            Ok(process) => Ok(process),
            Err(e) => {
                kill_process_group(pid, Signal::KILL).ok();
                Err(e)
            }
        }
    }

    /// Finds a process again by its pid and start time; none if it has ended or the pid is another's by now.
    #[must_use]
    pub fn find(pid: i32, start_ticks: u64) -> Option<Self> {
        // The pidfd first: what it holds cannot be replaced by another process between the two looks.
        let process = Self::watch(Pid::from_raw(pid)?).ok()?;
        let age = mtls::since_boot()
            .saturating_sub(Duration::from_millis(start_ticks.saturating_mul(1000 / TICKS)));
        let since = Instant::now().checked_sub(age).unwrap_or(process.since);
        (process.start_ticks == start_ticks).then_some(Self { since, ..process })
    }

    /// The process that has this pid now.
    #[must_use]
    pub fn find_now(pid: i32) -> Option<Self> {
        Self::watch(Pid::from_raw(pid)?).ok()
    }

    // Deprecated for descriptors that may be closed meanwhile; an `OwnedFd` is ours alone, and the
    // replacement is an unsafe function.
    #[allow(deprecated)]
    fn watch(pid: Pid) -> io::Result<Self> {
        let fd = pidfd_open(pid, PidfdFlags::NONBLOCK)?;
        let start_ticks = start_ticks(pid.as_raw_pid()).ok_or(io::ErrorKind::NotFound)?;
        let fd = AsyncFd::with_interest(fd, Interest::READABLE)?;
        Ok(Self {
            pid,
            fd,
            start_ticks,
            since: Instant::now(),
        })
    }

    /// Its process id, which is also its group's.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_pid()
    }

    /// Its start in clock ticks since boot: with the pid and the boot id it names a process for good.
    #[must_use]
    pub fn start_ticks(&self) -> u64 {
        self.start_ticks
    }

    /// Since when it has been watched here.
    #[must_use]
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        let same = |found: Stat| found.state != 'Z' && found.start_ticks == self.start_ticks;
        stat(self.pid()).is_some_and(same)
    }

    /// Waits for its end. Can be called again and again, and dropped in between.
    pub async fn ended(&self) -> Exit {
        loop {
            match self.fd.readable().await {
                Ok(guard) => {
                    if let Some(exit) = self.reap() {
                        return exit;
                    }
                    drop(guard);
                    sleep(SHORT_PAUSE).await;
                }
                Err(_) => return Exit::Unknown,
            }
        }
    }

    /// Takes the exit status if it has ended.
    fn reap(&self) -> Option<Exit> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        match waitid(WaitId::PidFd(self.fd.get_ref().as_fd()), options) {
            Ok(Some(status)) => Some(match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => Exit::Code(code),
                (None, Some(signal)) => Exit::Signal(signal),
                (None, None) => Exit::Unknown,
            }),
            Ok(None) => None,
            // Not our child, or reaped before: readable means that it has ended.
            Err(_) => Some(Exit::Unknown),
        }
    }

    /// Asks it to end (SIGTERM to the group), waits `patience`, then ends the whole group with SIGKILL.
    ///
    /// On return neither the program nor a process of its group is left, save one that the kernel holds.
    pub async fn stop(self, patience: Duration) -> Exit {
        kill_process_group(self.pid, Signal::TERM).ok();
        let exit = match timeout(patience, self.ended()).await {
            Ok(exit) => Some(exit),
            Err(_) => {
                kill_process_group(self.pid, Signal::KILL).ok();
                timeout(KILL_WAIT, self.ended()).await.ok()
            }
        };
        self.clear_group().await;
        exit.unwrap_or(Exit::Unknown)
    }

    /// Reads all of /proc, beside the agent's thread.
    async fn group_is_gone(&self) -> bool {
        let group = self.pid();
        spawn_blocking(move || group_is_gone(group)).await.unwrap_or(true)
    }

    /// Ends what the program left behind in its group, so that no port stays taken.
    pub async fn clear_group(&self) {
        let until = Instant::now() + KILL_WAIT;
        while test_kill_process_group(self.pid).is_ok() {
            kill_process_group(self.pid, Signal::KILL).ok();
            if self.group_is_gone().await || Instant::now() > until {
                return;
            }
            sleep(SHORT_PAUSE).await;
        }
    }
}

/// Whether only zombies, which hold nothing any more, are left of a group.
pub(crate) fn group_is_gone(group: i32) -> bool {
    processes().all(|pid| match stat(pid) {
        Some(found) => found.group != group || found.state == 'Z',
        None => true,
    })
}

/// All process ids of this machine.
pub(crate) fn processes() -> impl Iterator<Item = i32> {
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse().ok()))
}

/// What `/proc/PID/stat` says.
pub(crate) struct Stat {
    pub(crate) state: char,
    pub(crate) group: i32,
    pub(crate) parent: i32,
    start_ticks: u64,
}

/// Reads `/proc/PID/stat`; none if there is no such process.
pub(crate) fn stat(pid: i32) -> Option<Stat> {
    parse_stat(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(text: &str) -> Option<Stat> {
    // The name in brackets may hold anything; the fields after its end are numbers (proc(5), fields 3, 4, 5, 22).
    let fields: Vec<&str> = text
        .get(text.rfind(')')? + 1..)?
        .split_ascii_whitespace()
        .collect();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        start_ticks: fields.get(19)?.parse().ok()?,
    })
}

fn start_ticks(pid: i32) -> Option<u64> {
    stat(pid).map(|stat| stat.start_ticks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_shift_the_fields() {
        let text = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2";
        let stat = parse_stat(text).unwrap();
        assert_eq!((stat.state, stat.group, stat.start_ticks), ('S', 7, 98765));
    }

    #[tokio::test]
    async fn an_end_is_told_with_its_code_and_again_when_asked_again() {
        let process = Process::spawn(sh("exit 3")).await.unwrap();
        assert_eq!(process.ended().await, Exit::Code(3));
        assert_eq!(process.ended().await, Exit::Unknown);
    }

    #[tokio::test]
    async fn a_program_that_ends_when_asked_is_not_killed() {
        let process = Process::spawn(sh("trap 'exit 7' TERM; while :; do sleep 0.01; done"))
            .await
            .unwrap();
        sleep(Duration::from_millis(100)).await;
        assert_eq!(process.stop(Duration::from_secs(10)).await, Exit::Code(7));
    }

    #[tokio::test]
    async fn a_program_that_does_not_listen_is_killed_with_its_whole_group() {
        let process = Process::spawn(sh("trap '' TERM; sleep 1000 & sleep 1000"))
            .await
            .unwrap();
        sleep(Duration::from_millis(100)).await;
        let group = process.pid();
        assert_eq!(process.stop(Duration::from_millis(50)).await, Exit::Signal(9));
        assert!(group_is_gone(group));
    }

    #[tokio::test]
    async fn a_dropped_process_runs_on_and_is_found_again() {
        let process = Process::spawn(sh("sleep 1000")).await.unwrap();
        let (pid, ticks) = (process.pid(), process.start_ticks());
        drop(process);
        assert!(
            Process::find(pid, ticks + 1).is_none(),
            "another start time is another process"
        );
        let found = Process::find(pid, ticks).unwrap();
        found.stop(Duration::from_secs(5)).await;
        assert!(Process::find(pid, ticks).is_none());
    }
}
