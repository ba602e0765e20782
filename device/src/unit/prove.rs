//! Proving a new version, with an ear for who asks meanwhile: a probation may take an hour or a day.

use protocol::Step;
use protocol::device::Problem;
use release::Component;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::program::{Program, Unstarted};
use super::{Command, Reply, Unit};
use crate::limits::{DISK_RESERVE, PROBATION_FAILURES, PROBATION_PROBE};
use crate::machine::{Happening, Slot};
use crate::machine_info::free_bytes;
use crate::supervise::health::Check;

impl Unit {
    /// Watches the new version through start, health and probation; a person may end that at once. None: the
    /// agent is to end first.
    pub(super) async fn prove(&mut self) -> Option<Happening> {
        let failure = self.start_failure.take();
        let Some(program) = &self.program else {
            let failure = failure.unwrap_or_else(|| Unstarted::of_release("it could not be started"));
            return Some(self.blamed(failure.reason, failure.hindered));
        };
        let proving = async {
            first_health(program).await?;
            if let Some(teller) = &self.teller {
                teller.tell(Step::Healthy);
            }
            probation(program).await
        };
        tokio::select! {
            () = self.hub.shutdown.cancelled() => None,
            reply = taken_back(&mut self.commands, &self.component, &self.slot) => {
                self.took_back = reply;
                self.took_back.is_some().then_some(Happening::TakenBack)
            }
            proved = proving => Some(match proved {
                Ok(()) => Happening::Passed,
                Err(reason) => self.blamed(program.with_last_words(&reason).await, false),
            }),
        }
    }

    /// A failure, and who is to blame: a program that finds no room for what it writes cannot be held to anything.
    fn blamed(&self, reason: String, hindered: bool) -> Happening {
        let free = free_bytes(self.hub.layout.root());
        if free < DISK_RESERVE {
            let reason = format!("the disk is full ({free} bytes are free): {reason}");
            return Happening::Hindered { reason };
        }
        if hindered {
            Happening::Hindered { reason }
        } else {
            Happening::Unhealthy { reason }
        }
    }

    /// The roll back that a person ordered during probation is over.
    pub(super) fn answer_who_took_back(&mut self) {
        let Some(reply) = self.took_back.take() else {
            return;
        };
        let done = match (&self.slot.current, &self.program) {
            (Some(old), None) => {
                let why = self
                    .start_failure
                    .as_ref()
                    .map_or("it ended", |failure| &failure.reason);
                let message = format!(
                    "{} went back to {}, which does not run: {why}",
                    self.component, old.version
                );
                Err(problem("not-running", message))
            }
            _ => Ok(()),
        };
        reply.send(done).ok();
    }

    /// Answers who asked while a version was being taken back: a roll back that came too late would go one
    /// version further than anybody wants.
    pub(super) fn turn_away_waiting(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            let message = format!(
                "{} has just gone back to its version before: look at its status",
                self.component
            );
            turn_away(command, message);
        }
    }
}

/// Answers what comes while a version proves itself; returns when a person wants the old one back, or when
/// nobody is left to ask.
pub(super) async fn taken_back(
    commands: &mut mpsc::Receiver<Command>,
    component: &Component,
    slot: &Slot,
) -> Option<Reply> {
    let version = slot
        .current
        .as_ref()
        .map_or_else(String::new, |now| now.version.to_string());
    loop {
        match commands.recv().await? {
            Command::RollBack(reply) if slot.tries_an_order() => return Some(reply),
            other => {
                let message = if slot.tries_an_order() {
                    format!("{component} {version} is on probation: wait for its end, or roll it back")
                } else {
                    format!("{component} is going back to {version} by hand already: wait for its end")
                };
                turn_away(other, message);
            }
        }
    }
}

/// Says that it cannot be done now. An order needs no answer: it comes again with the next hello.
pub(super) fn turn_away(command: Command, message: String) {
    match command {
        Command::RollBack(reply) | Command::Release(reply) | Command::Activate(_, reply) => {
            reply.send(Err(problem("busy", message))).ok();
        }
        Command::AtRest(reply) => drop(reply.send(false)),
        Command::PutOff(reply) => drop(reply.send(())),
        Command::Order(_) | Command::Judged(..) | Command::Prepared(..) | Command::ActivateForGateway(_) => {}
    }
}

pub(super) fn problem(code: &str, message: String) -> Problem {
    Problem {
        code: code.to_owned(),
        message,
    }
}

/// From the start to the first healthy answer.
async fn first_health(program: &Program) -> Result<(), String> {
    let check = program.check.as_ref().map_err(Clone::clone)?;
    let mut patience = std::time::Duration::from_secs(u64::from(program.release.start_seconds));
    if let Check::Alive(after) = check {
        patience = patience.max(*after + PROBATION_PROBE);
    }
    let deadline = program.started + patience;
    loop {
        let why = tokio::select! {
            exit = program.process.ended() => return Err(format!("{exit} before it was healthy")),
            answer = check.ask(program.started) => match answer {
                Ok(()) => return Ok(()),
                Err(why) => why,
            },
        };
        if Instant::now() >= deadline {
            return Err(format!(
                "it was not healthy within {} s of its start: {why}",
                patience.as_secs()
            ));
        }
        tokio::select! {
            exit = program.process.ended() => return Err(format!("{exit} before it was healthy")),
            () = sleep(check.pause(program.started)) => {}
        }
    }
}

/// From the first healthy answer on: it has to stay up and well.
async fn probation(program: &Program) -> Result<(), String> {
    let check = program.check.as_ref().map_err(Clone::clone)?;
    let seconds = program.release.probation_seconds;
    let until = Instant::now() + std::time::Duration::from_secs(u64::from(seconds));
    let died = |exit| format!("{exit} within its first {seconds} s of good health");
    let mut failures = 0;
    loop {
        let now = Instant::now();
        if now >= until && failures == 0 {
            return Ok(());
        }
        let pause = if now < until {
            PROBATION_PROBE.min(until - now)
        } else {
            PROBATION_PROBE
        };
        let answer = tokio::select! {
            exit = program.process.ended() => return Err(died(exit)),
            answer = async { sleep(pause).await; check.ask(program.started).await } => answer,
        };
        match answer {
            Ok(()) => failures = 0,
            Err(why) => {
                failures += 1;
                if failures >= PROBATION_FAILURES {
                    return Err(format!("it became unhealthy on probation: {why}"));
                }
            }
        }
    }
}
