//! One agent as the launcher's child: started, listened to, ended.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::signal::unix::{self, SignalKind};
use tokio::time::{Instant, sleep_until};

use crate::limits::{LAST_PIECES, OUTPUT_PIECE, REASON_TAIL, TRIAL_LOOK};
use crate::supervise::launch::MARK;
use crate::supervise::output::quote;

/// Signals that the launcher hears.
pub(super) struct Signals {
    child: unix::Signal,
    terminate: unix::Signal,
    interrupt: unix::Signal,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            child: unix::signal(SignalKind::child())?,
            terminate: unix::signal(SignalKind::terminate())?,
            interrupt: unix::signal(SignalKind::interrupt())?,
        })
    }

    /// Waits, or until the launcher is asked to end: whether it is.
    pub(super) async fn asked_within(&mut self, pause: Duration) -> bool {
        tokio::select! {
            () = tokio::time::sleep(pause) => false,
            _ = self.terminate.recv() => true,
            _ = self.interrupt.recv() => true,
        }
    }
}

/// How an agent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Code(u8),
    Signal(u8),
    /// It had not proved itself in time.
    Late,
}

/// How far an agent is with proving itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    Missing,
    /// It has taken over; this long it may take for the rest.
    Begun(Duration),
    Given,
}

/// An agent's end.
pub(super) struct End {
    pub(super) how: How,
    /// The launcher was asked to end meanwhile.
    pub(super) asked: bool,
    /// What it wrote last.
    pub(super) words: String,
}

/// A running agent.
pub(super) struct Child {
    pid: Pid,
    words: Option<pipe::Receiver>,
    tail: Vec<u8>,
}

enum Woke {
    Child,
    Asked(Signal),
    Words(io::Result<usize>),
    Look,
}

impl Child {
    /// Starts `program`; `mark` finds it again. What it writes to its standard error is passed on, and with `listen`
    /// also kept for a reason.
    pub(super) fn spawn(
        program: &Path,
        args: &[&std::ffi::OsStr],
        mark: &Path,
        listen: bool,
    ) -> io::Result<Self> {
        let mut command = Command::new(program);
        command
            .arg0("device")
            .args(args)
            .env(MARK, mark)
            .stdin(Stdio::null())
            // A signal from the terminal comes to the launcher, which passes it on.
            .process_group(0);
        let words = if listen {
            let (reader, writer) = io::pipe()?;
            command.stderr(writer);
            Some(pipe::Receiver::from_owned_fd(OwnedFd::from(reader))?)
        } else {
            None
        };
        let child = command.spawn()?;
        Ok(Self {
            pid: Pid::from_child(&child),
            words,
            tail: Vec::new(),
        })
    }

    /// Sees the agent through to its end; after `patience` its `proof` has to be there, or it is ended.
    pub(super) async fn ended(
        mut self,
        signals: &mut Signals,
        patience: Option<Duration>,
        proof: impl Fn() -> Proof,
    ) -> End {
        let mut until = patience.map(|patience| Instant::now() + patience);
        let mut buffer = vec![0; OUTPUT_PIECE];
        let (mut asked, mut late, mut begun) = (false, false, false);
        loop {
            // It may have ended before the signal was listened for; and others' children end here too.
            if let Some(how) = self.reap() {
                self.drain(&mut buffer);
                let how = if late { How::Late } else { how };
                return End {
                    how,
                    asked,
                    words: quote(&self.tail),
                };
            }
            let look = until.map(|until| until.min(Instant::now() + TRIAL_LOOK));
            let woke = tokio::select! {
                _ = signals.child.recv() => Woke::Child,
                _ = signals.terminate.recv() => Woke::Asked(Signal::TERM),
                _ = signals.interrupt.recv() => Woke::Asked(Signal::INT),
                read = read(self.words.as_mut(), &mut buffer) => Woke::Words(read),
                () = at(look) => Woke::Look,
            };
            match woke {
                Woke::Child => {}
                Woke::Asked(signal) => {
                    asked = true;
                    kill_process(self.pid, signal).ok();
                }
                Woke::Words(Ok(count @ 1..)) => self.take(buffer.get(..count).unwrap_or_default()),
                Woke::Words(_) => self.words = None,
                Woke::Look => match proof() {
                    Proof::Given => until = None,
                    Proof::Begun(more) if !begun => {
                        begun = true;
                        until = Some(Instant::now() + more);
                    }
                    _ if until.is_some_and(|until| Instant::now() >= until) => {
                        late = true;
                        until = None;
                        kill_process(self.pid, Signal::KILL).ok();
                    }
                    _ => {}
                },
            }
        }
    }

    /// Takes the exit status of everything that has ended: programs that an agent in this very process started are
    /// children of the launcher too.
    fn reap(&self) -> Option<How> {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if pid != self.pid {
                continue;
            }
            let byte = |number: i32| u8::try_from(number).unwrap_or(u8::MAX);
            match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => return Some(How::Code(byte(code))),
                (_, Some(signal)) => return Some(How::Signal(byte(signal))),
                _ => {}
            }
        }
        None
    }

    fn take(&mut self, bytes: &[u8]) {
        io::stderr().write_all(bytes).ok();
        self.tail.extend_from_slice(bytes);
        let most = usize::try_from(REASON_TAIL).unwrap_or(usize::MAX);
        let surplus = self.tail.len().saturating_sub(most);
        self.tail.drain(..surplus);
    }

    fn drain(&mut self, buffer: &mut [u8]) {
        let Some(words) = self.words.take() else { return };
        let Ok(mut words) = words.into_nonblocking_fd().map(File::from) else {
            return;
        };
        // Something else may hold the pipe and go on writing: what is not here yet is not waited for.
        for _ in 0..LAST_PIECES {
            match words.read(buffer) {
                Ok(count @ 1..) => self.take(buffer.get(..count).unwrap_or_default()),
                _ => return,
            }
        }
    }
}

async fn read(words: Option<&mut pipe::Receiver>, buffer: &mut [u8]) -> io::Result<usize> {
    match words {
        Some(words) => words.read(buffer).await,
        None => std::future::pending().await,
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
