//! `device run`: starts the agent, from a slot where one was installed, and goes back to the old one where a new one
//! fails.
//!
//! A device whose agent was never replaced has no launcher: `device run` is the agent itself. The first new agent makes
//! it one: the agent writes the [`slots`] record, leaves every program running and begins `device run` again in the
//! same process, which starts the new one as its child. From then on an agent that wants to be replaced ends with
//! [`SWITCH`]. The launcher knows nothing but the record, the file's digest, and how its child ends; whether a new agent
//! is well, the agent says itself, by committing the record. docs/decisions/006-the-agent-replaces-itself.md

mod child;
pub mod slots;

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use durable::{Files, hash_file};
use rustix::process::{Pid, Signal, getpid, getppid, kill_process_group};
use tuf::Digest;

use crate::agent::hold;
use crate::backoff::BackOff;
use crate::layout::Layout;
use crate::limits::{BACK_OFF_CAP, KILL_WAIT, RESTART_BASE, STABLE_AFTER, STRAYS_PAUSE};
use crate::random::SystemRandom;
use crate::supervise::adopt::marked;
use crate::supervise::launch::MARK;
use crate::supervise::output::with_words;
use crate::trust::chain;
use child::{Child, End, How, Proof, Signals};
use slots::{Next, Program, SlotRecord, Slots, Trial};

/// The hidden command under which a launcher starts an agent: `device agent --dir DIR --slot DIGEST --launcher PID`. It
/// keeps its form for good, as an old launcher starts agents that are newer.
pub const AGENT: &str = "agent";
/// The code with which an agent ends that wants the record to be looked at again.
pub const SWITCH: u8 = 85;
/// A panic's exit code: as little of a decision as a signal.
const PANICKED: u8 = 101;

/// How this agent came to run, and who starts the next one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place {
    /// The release that this executable belongs to; none: the device was delivered with it.
    pub slot: Option<Digest>,
    /// Who starts the next one.
    pub starter: Starter,
}

/// Who starts the next agent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Starter {
    /// Nobody: it runs once only.
    #[default]
    Nobody,
    /// This process begins again as a launcher.
    Itself,
    /// The launcher with this process id.
    Launcher(i32),
}

impl Place {
    /// Whether another agent can take this one's place.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub fn can_switch(&self) -> Result<(), String> {
        match self.starter {
            Starter::Itself => Ok(()),
            Starter::Launcher(pid) if getppid().map(Pid::as_raw_pid) == Some(pid) => Ok(()),
            Starter::Launcher(_) => Err("its launcher has ended: start `device run` again".to_owned()),
            Starter::Nobody => {
                Err("the agent is replaced by `device run` only, not by `device apply --once`".to_owned())
            }
        }
    }
}

/// What `device run` is to do.
#[derive(Debug)]
pub enum Launched {
    /// Be the agent: no other one is installed. Held, the file keeps a second one away.
    Own(File),
    /// End with this code.
    Ended(ExitCode),
}

/// Keeps others away from the device in `layout`, ends what a dead launcher left, and starts agents until it is asked
/// to end; returns at once where no other agent is installed.
///
/// # Errors
/// Another one runs; the record is damaged in both its copies; those of the system.
pub fn launch(layout: &Layout, files: &Files, log: &str) -> anyhow::Result<Launched> {
    let lock = hold(layout)?;
    end_left_over(layout);
    let record = SlotRecord::new(files, layout);
    let slots = record.load().unwrap_or_else(|error| {
        // Rather an old agent than none: it says so in its status.
        tracing::error!(target: "drover", error = %chain(&error), "the agent's record cannot be read; the agent that the device was delivered with is started");
        Slots::default()
    });
    if slots.next(&[]) == Next::Own {
        return Ok(Launched::Own(lock));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the launcher")?;
    let code = runtime.block_on(async {
        let mut launcher = Launcher {
            signals: Signals::new().context("cannot listen for signals")?,
            wait: BackOff::new(RESTART_BASE, BACK_OFF_CAP),
            skipped: Vec::new(),
            known: slots,
            layout,
            record,
            log,
        };
        anyhow::Ok(launcher.run().await)
    })?;
    Ok(code.map_or(Launched::Own(lock), |code| Launched::Ended(ExitCode::from(code))))
}

/// The executable of the agent that has proved itself; none: this one.
///
/// # Errors
/// It is not what it was, or the record cannot be read.
pub fn settled(layout: &Layout, files: &Files) -> anyhow::Result<Option<(PathBuf, Digest)>> {
    let mut slots = SlotRecord::new(files, layout).load()?;
    slots.trial = None;
    match slots.next(&[]) {
        Next::Settled(program) => {
            let path = check(layout, &program).map_err(anyhow::Error::msg)?;
            Ok(Some((path, program.release)))
        }
        Next::Trial(_) | Next::Own => Ok(None),
    }
}

/// The agents of a launcher that is gone: a trial that hangs may have outlived it.
fn end_left_over(layout: &Layout) {
    let mark = format!("{MARK}={}", layout.agent_slots().display());
    let until = Instant::now() + KILL_WAIT;
    loop {
        let groups = marked(&mark);
        if groups.is_empty() || Instant::now() >= until {
            return;
        }
        for group in groups {
            if let Some(group) = Pid::from_raw(group) {
                kill_process_group(group, Signal::KILL).ok();
            }
        }
        std::thread::sleep(STRAYS_PAUSE);
    }
}

/// The executable, with the bytes that were verified when it was installed.
fn check(layout: &Layout, program: &Program) -> Result<PathBuf, String> {
    let path = layout
        .release(&program.release)
        .join("payload")
        .join(program.file.as_str());
    let found = File::open(&path)
        .and_then(hash_file)
        .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    if found.0 == program.sha256 {
        Ok(path)
    } else {
        Err(format!("{} was changed on this disk", path.display()))
    }
}

struct Launcher<'a> {
    signals: Signals,
    wait: BackOff,
    /// What failed and could not be written down.
    skipped: Vec<Digest>,
    /// What the record said when it could be read last.
    known: Slots,
    layout: &'a Layout,
    record: SlotRecord,
    log: &'a str,
}

/// What follows from an agent's end.
enum Then {
    Again,
    End(u8),
}

impl Launcher<'_> {
    /// Starts agents until it is to end, with its code; none: it is to be the agent itself.
    async fn run(&mut self) -> Option<u8> {
        loop {
            match self.record.load() {
                Ok(slots) => self.known = slots,
                Err(error) => {
                    tracing::error!(target: "drover", error = %chain(&error), "the agent's record cannot be read; what it said before counts");
                }
            }
            let slots = self.known.clone();
            let then = match slots.next(&self.skipped) {
                Next::Own => return None,
                Next::Trial(_) => self.try_new(slots).await,
                Next::Settled(program) => self.run_settled(slots, &program).await,
            };
            if let Then::End(code) = then {
                return Some(code);
            }
        }
    }

    async fn try_new(&mut self, mut slots: Slots) -> Then {
        let begun = slots.begin();
        let Some(trial) = slots.trial.clone() else {
            return Then::Again;
        };
        if let Err(why) = begun {
            return self.give_up(&trial, &why);
        }
        // A start that is not counted could be repeated for ever.
        if !self.save(&slots, &trial.program) {
            return Then::Again;
        }
        tracing::info!(target: "drover", release = %trial.program.release, start = trial.starts, "a new agent is tried");
        let child = match self.start(&trial.program, true) {
            Ok(child) => child,
            Err(why) => return self.give_up(&trial, &why),
        };
        let release = trial.program.release;
        let record = self.record.clone();
        let proof = move || match record.load() {
            Ok(slots) => match slots.trial_of(&release) {
                Some(trial) if trial.alive => Proof::Begun(Duration::from_secs(trial.seconds)),
                Some(_) => Proof::Missing,
                None => Proof::Given,
            },
            Err(_) => Proof::Missing,
        };
        let patience = Some(Duration::from_secs(trial.start_seconds));
        let end = child.ended(&mut self.signals, patience, &proof).await;
        if proof() == Proof::Given {
            return self.ended(&end, Duration::ZERO).await;
        }
        self.trial_ended(trial, &end)
    }

    fn trial_ended(&mut self, mut trial: Trial, end: &End) -> Then {
        let said = |how: String| with_words(&how, &end.words);
        match end.how {
            How::Code(code) if end.asked => Then::End(code),
            How::Signal(signal) if end.asked => Then::End(ended_by(signal)),
            How::Late => {
                let seconds = trial.start_seconds;
                let why = said(format!(
                    "it had not taken over within {seconds} s of its start, or did not decide in time whether it is well"
                ));
                self.give_up(&trial, &why)
            }
            How::Code(code) => self.give_up(&trial, &said(format!("it ended with code {code} on trial"))),
            How::Signal(signal) => {
                let how = said(format!("it was ended by signal {signal} on trial"));
                tracing::warn!(target: "drover", "the new agent: {how}");
                let program = trial.program.clone();
                trial.last = Some(how);
                if let Ok(mut slots) = self.record.load()
                    && slots.trial_of(&program.release).is_some()
                {
                    slots.trial = Some(trial);
                    self.save(&slots, &program);
                }
                Then::Again
            }
        }
    }

    fn give_up(&mut self, trial: &Trial, why: &str) -> Then {
        tracing::warn!(target: "drover", release = %trial.program.release, "the new agent is given up: {why}");
        if let Ok(mut slots) = self.record.load() {
            slots.give_up(why);
            self.save(&slots, &trial.program);
        } else {
            self.skipped.push(trial.program.release);
        }
        Then::Again
    }

    async fn run_settled(&mut self, mut slots: Slots, program: &Program) -> Then {
        match self.start(program, false) {
            Ok(child) => {
                let since = Instant::now();
                let end = child.ended(&mut self.signals, None, || Proof::Given).await;
                self.ended(&end, since.elapsed()).await
            }
            Err(why) => {
                tracing::error!(target: "drover", release = %program.release, "the agent cannot be started: {why}");
                slots.fall_back(program, &why);
                self.save(&slots, program);
                Then::Again
            }
        }
    }

    /// What follows from the end of an agent that has proved itself: what it decided is its launcher's code too, from
    /// anything else it recovers.
    async fn ended(&mut self, end: &End, ran: Duration) -> Then {
        match end.how {
            How::Code(SWITCH) if !end.asked => {
                self.wait.reset();
                Then::Again
            }
            How::Code(code) if end.asked || code != PANICKED => Then::End(code),
            How::Signal(signal) if end.asked => Then::End(ended_by(signal)),
            how => {
                if ran >= STABLE_AFTER {
                    self.wait.reset();
                }
                let pause = self.wait.next(&SystemRandom);
                tracing::warn!(target: "drover", ?how, ?pause, "the agent ended and is started again");
                if self.signals.asked_within(pause).await {
                    return Then::End(0);
                }
                Then::Again
            }
        }
    }

    fn start(&self, program: &Program, listen: bool) -> Result<Child, String> {
        let path = check(self.layout, program)?;
        let (slot, own) = (program.release.to_string(), getpid().as_raw_pid().to_string());
        let args: [&OsStr; 9] = [
            "--log".as_ref(),
            self.log.as_ref(),
            AGENT.as_ref(),
            "--dir".as_ref(),
            self.layout.root().as_ref(),
            "--slot".as_ref(),
            slot.as_ref(),
            "--launcher".as_ref(),
            own.as_ref(),
        ];
        Child::spawn(&path, &args, &self.layout.agent_slots(), listen).map_err(|error| explain(&path, &error))
    }

    /// Whether it is on disk; if not, what it is about is not started by this launcher again.
    fn save(&mut self, slots: &Slots, about: &Program) -> bool {
        match self.record.save(slots) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(target: "drover", error = %chain(&error), "the agent's record cannot be written");
                self.skipped.push(about.release);
                false
            }
        }
    }
}

fn explain(path: &Path, error: &std::io::Error) -> String {
    format!("{} cannot be started on this machine: {error}", path.display())
}

/// The code of a shell for an end by a signal.
fn ended_by(signal: u8) -> u8 {
    signal.saturating_add(128)
}
