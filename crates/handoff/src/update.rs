//! The agent's side: one update of several units, from the start of the new programs to the end of the old ones.
//!
//! What takes time or must be on disk comes before the first unit stands still. Between `ready` and `serving` lie only
//! messages, the transformation of the state, and a line in the journal that need not have reached the disk: losing it
//! takes a power cut, and that ends all of these programs as well.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use crate::message::{brief, millis};
use crate::seat::{Fault, Seat, told};
use crate::wire::wait_for;
use crate::{Decision, Directives, Error, Guest, Message, State, Verdict, limits};

/// Makes a state that the new version understands of one that the old version gave. Given the state, when it must have ended.
pub type Transform = Box<dyn FnMut(&State, Instant) -> Result<State, String> + Send>;

/// One program that is replaced.
pub struct Unit {
    /// Its name.
    pub name: String,
    /// The program that serves.
    pub old: Guest,
    /// What is to be done to its state; none: the new version takes it as it is.
    pub transform: Option<Transform>,
}

/// What holds for all units of an update.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Its id.
    pub update: String,
    /// The version that takes over.
    pub to: String,
    /// The category of the change.
    pub nature: String,
    /// How still the programs must stand.
    pub stillness: String,
    /// How long a new program may take until it stands by. Nobody stands still for it.
    pub start: Duration,
    /// How long an old program may take until it stands still and has given its state.
    pub ready: Duration,
    /// How long they may stand still altogether, before the decision.
    pub still: Duration,
    /// How long a new program may take from the decision until it serves.
    pub serve: Duration,
}

/// Where the agent writes down how far it has come.
pub trait Journal {
    /// Before anything is asked of a running program. On return it is on disk.
    ///
    /// # Errors
    /// It is not: the update does not begin.
    fn intend(&mut self, update: &str, units: &[String]) -> Result<(), String>;
    /// While the programs stand still, right before the decision is made. On return it outlives the agent's process; it
    /// need not be on disk.
    ///
    /// # Errors
    /// It does not: the old programs go on.
    fn decide(&mut self, update: &str) -> Result<(), String>;
    /// How it ended, when nobody stands still any more.
    fn end(&mut self, update: &str, outcome: &Outcome);
}

/// How new programs are started.
pub trait Starter {
    /// Starts the new program of a unit and waits until it stands by (`until` at the latest).
    ///
    /// # Errors
    /// It cannot be started, has ended, or does not report. Nothing of it is left.
    fn start(&mut self, unit: &str, until: Instant) -> Result<Successor, String>;
}

/// A process that can be ended.
pub trait Process: Send {
    /// Ends it at once. On return it runs no more.
    fn end(&mut self);
}

/// A new program that stands by.
pub struct Successor {
    /// Its connection.
    pub guest: Guest,
    /// Its process.
    pub process: Box<dyn Process>,
}

/// How far an update is, for those who watch it, and for those who break it off here to see what happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The new programs stand by.
    Started,
    /// It is written down what is about to happen.
    Intended,
    /// The old programs are asked to prepare.
    Asked,
    /// They stand still and have given everything.
    Ready,
    /// The new programs are given everything.
    Given,
    /// They could serve.
    Alive,
    /// It is written down that they shall.
    Journalled,
    /// It is decided.
    Decided,
    /// They serve.
    Serving,
    /// The old programs are told to end.
    Released,
}

impl Phase {
    /// All, in order.
    pub const ALL: [Self; 10] = [
        Self::Started,
        Self::Intended,
        Self::Asked,
        Self::Ready,
        Self::Given,
        Self::Alive,
        Self::Journalled,
        Self::Decided,
        Self::Serving,
        Self::Released,
    ];
}

/// Called when a phase is over, with the time since the update began.
pub type Passed<'a> = &'a mut dyn FnMut(Phase, Duration);

/// How an update ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The new programs serve.
    Committed,
    /// The old programs go on where they were.
    Resumed {
        /// Why.
        reason: String,
        /// Whether a new version is to blame: it could not be started, or did not take over what it was given.
        blames_new: bool,
    },
    /// An old program does not want to be updated now; all go on.
    Refused {
        /// Which.
        unit: String,
        /// Why.
        reason: String,
        /// When it is worth asking again, if it knows.
        again: Option<Duration>,
    },
}

/// What became of a unit.
pub struct Ended {
    /// Its name.
    pub name: String,
    /// The old program; none: it has hung up. After a commit it was told to end.
    pub old: Option<Guest>,
    /// The new program, if it serves; its process is then the caller's to watch. Otherwise it has been ended.
    pub new: Option<Successor>,
    /// From the question until it stood still.
    pub stilled: Option<Duration>,
    /// How long nobody served, by the programs' own clocks.
    pub pause: Option<Duration>,
}

/// An update under way.
pub struct Update<'a> {
    terms: Terms,
    seats: Vec<Seat>,
    verdict: Verdict,
    journal: &'a mut dyn Journal,
    passed: Passed<'a>,
    began: Instant,
}

impl Update<'_> {
    /// Carries an update out: either all new programs serve at its end, or all old ones do. Blocks; run it on a thread of
    /// its own, so that nothing else makes the programs wait.
    pub fn run(
        terms: Terms,
        units: Vec<Unit>,
        journal: &mut dyn Journal,
        starter: &mut dyn Starter,
        passed: Passed<'_>,
    ) -> (Outcome, Vec<Ended>) {
        let seats: Vec<Seat> = units.into_iter().map(Seat::new).collect();
        let verdict = match Verdict::new() {
            Ok(verdict) if seats.len() <= limits::UNITS => verdict,
            Ok(_) => return (resumed("too many units in one update"), ended(seats)),
            Err(error) => return (resumed(&told(&error)), ended(seats)),
        };
        let mut update = Update {
            terms,
            seats,
            verdict,
            journal,
            passed,
            began: Instant::now(),
        };
        let outcome = match update.until_decided(starter) {
            Ok(()) => update.after_commit(),
            Err(fault) => update.go_back(fault),
        };
        let id = update.terms.update.clone();
        update.journal.end(&id, &outcome);
        (outcome, ended(update.seats))
    }

    fn pass(&mut self, phase: Phase) {
        (self.passed)(phase, self.began.elapsed());
    }

    /// All phases in which the old programs can still go on.
    fn until_decided(&mut self, starter: &mut dyn Starter) -> Result<(), Fault> {
        let until = Instant::now() + self.terms.start;
        for seat in &mut self.seats {
            let successor = starter.start(&seat.name, until);
            seat.new = Some(successor.map_err(|reason| seat.new_fault("cannot be started", &reason))?);
        }
        self.pass(Phase::Started);
        let names: Vec<String> = self.seats.iter().map(|seat| seat.name.clone()).collect();
        let intended = self.journal.intend(&self.terms.update, &names);
        intended.map_err(|reason| Fault::Failed(format!("it cannot be written down: {reason}")))?;
        self.pass(Phase::Intended);
        self.ask()?;
        self.pass(Phase::Asked);
        let until = Instant::now() + self.terms.ready;
        self.pump(until, "it did not stand still in time", |seat| {
            seat.given.state.is_some()
        })?;
        self.pass(Phase::Ready);
        let until = Instant::now() + self.terms.still;
        self.hand_over(until)?;
        self.pass(Phase::Given);
        self.pump(until, "the new version was not alive in time", |seat| seat.alive)?;
        self.pass(Phase::Alive);
        let written = self.journal.decide(&self.terms.update);
        written.map_err(|reason| Fault::Failed(format!("the decision cannot be written down: {reason}")))?;
        self.pass(Phase::Journalled);
        match self.verdict.decide(Decision::Commit) {
            Ok(Decision::Commit) => {}
            Ok(Decision::Resume) => return Err(Fault::Failed("a program went on by itself".into())),
            Err(error) => return Err(Fault::Failed(told(&error))),
        }
        self.pass(Phase::Decided);
        Ok(())
    }

    fn ask(&mut self) -> Result<(), Fault> {
        let terms = &self.terms;
        let directives = Directives {
            update: terms.update.clone(),
            to: terms.to.clone(),
            nature: terms.nature.clone(),
            stillness: terms.stillness.clone(),
            ready_ms: millis(terms.ready),
            hold_ms: millis(terms.ready + terms.still),
        };
        for seat in &mut self.seats {
            let prepare = Message::Prepare(directives.clone());
            let until = Instant::now() + terms.ready;
            let sent = match &seat.old {
                Some(old) => old.channel.send(&prepare, &[self.verdict.as_fd()], until),
                None => Err(Error::Gone),
            };
            sent.map_err(|error| seat.fault("cannot be asked to prepare", &told(&error)))?;
            seat.asked = Some(Instant::now());
        }
        Ok(())
    }

    fn hand_over(&mut self, until: Instant) -> Result<(), Fault> {
        for seat in &mut self.seats {
            let (Some(given), Some(new)) = (seat.given.state.take(), &seat.new) else {
                return Err(Fault::Failed("nothing was given".into()));
            };
            let state = match &mut seat.transform {
                Some(transform) => transform(&given, until).map_err(|reason| {
                    Fault::NewFailed(format!(
                        "the state of {} cannot be transformed: {reason}",
                        seat.name
                    ))
                })?,
                None => given,
            };
            let take = Message::Take {
                update: self.terms.update.clone(),
                schema: state.schema(),
                length: state.length(),
                descriptors: u64::try_from(seat.given.descriptors.len()).unwrap_or(u64::MAX),
                hold_ms: millis(self.terms.still),
            };
            let channel = &new.guest.channel;
            let sent = channel
                .send_all(&self.terms.update, &seat.given.descriptors, until)
                .and_then(|()| channel.send(&take, &[state.as_fd(), self.verdict.as_fd()], until));
            // What a dead program still said is more than that it is dead.
            if let Err(error) = sent {
                return Err(seat.new_fault("does not take over", &told(&error)));
            }
        }
        Ok(())
    }

    /// Listens to all programs until all units are as wanted.
    fn pump(&mut self, until: Instant, late: &str, wanted: impl Fn(&Seat) -> bool) -> Result<(), Fault> {
        loop {
            if self.seats.iter().all(&wanted) {
                return Ok(());
            }
            let fds: Vec<BorrowedFd<'_>> = self.seats.iter().flat_map(Seat::fds).collect();
            match wait_for(&fds, PollFlags::IN, until) {
                Ok(true) => {}
                Ok(false) => {
                    let slow = self.seats.iter().find(|seat| !wanted(seat));
                    let name = slow.map_or("", |seat| &seat.name);
                    let reason = format!("{name}: {late}");
                    let gave = slow.is_some_and(|seat| seat.given.stopped_ns > 0);
                    return Err(if gave {
                        Fault::NewFailed(reason)
                    } else {
                        Fault::Failed(reason)
                    });
                }
                Err(error) => return Err(Fault::Failed(told(&error))),
            }
            for seat in &mut self.seats {
                seat.hear_old(&self.terms.update)?;
                seat.hear_new(&self.terms.update)?;
            }
        }
    }

    /// It is decided: the new programs serve. One that died before it could is replaced by the old one, if no other unit
    /// has changed.
    fn after_commit(&mut self) -> Outcome {
        for seat in &self.seats {
            seat.tell_new(&Message::Serve {
                update: self.terms.update.clone(),
            });
        }
        let until = Instant::now() + self.terms.serve;
        let served = self.pump(until, "the new version did not serve in time", |seat| {
            seat.serving || seat.new.is_none()
        });
        let alone = self.seats.len() == 1;
        let mut reason = None;
        for seat in &mut self.seats {
            if seat.serving {
                continue;
            }
            // Only of a dead program is it known that it will never serve; what it said before is still there.
            if let Some(new) = &mut seat.new {
                new.process.end();
            }
            while seat.new.is_some() && seat.hear_new(&self.terms.update).is_ok_and(|heard| heard) {}
            seat.new = None;
            if !seat.serving && alone && seat.old.is_some() {
                let why = match &served {
                    Err(Fault::Failed(why) | Fault::NewFailed(why)) => why.clone(),
                    _ => "the new version ended before it served".to_owned(),
                };
                seat.tell_old(&Message::Resume {
                    update: self.terms.update.clone(),
                    reason: brief(&why),
                });
                reason = Some(why);
            }
        }
        if let Some(reason) = reason {
            return Outcome::Resumed {
                reason,
                blames_new: true,
            };
        }
        self.pass(Phase::Serving);
        for seat in &self.seats {
            seat.tell_old(&Message::Released {
                update: self.terms.update.clone(),
            });
        }
        self.pass(Phase::Released);
        Outcome::Committed
    }

    /// Nothing comes of it: the old programs go on, the new ones end.
    fn go_back(&mut self, fault: Fault) -> Outcome {
        let outcome = match fault {
            Fault::Refused { unit, reason, again } => Outcome::Refused { unit, reason, again },
            Fault::Failed(reason) => resumed(&reason),
            Fault::NewFailed(reason) => Outcome::Resumed {
                reason,
                blames_new: true,
            },
        };
        // Before anybody is told: from here on none of the new programs can begin to serve.
        self.verdict.decide(Decision::Resume).ok();
        let reason = match &outcome {
            Outcome::Refused { unit, reason, .. } => format!("{unit} refuses: {reason}"),
            Outcome::Resumed { reason, .. } => reason.clone(),
            Outcome::Committed => String::new(),
        };
        let resume = Message::Resume {
            update: self.terms.update.clone(),
            reason: brief(&reason),
        };
        for seat in self.seats.iter().filter(|seat| seat.asked.is_some()) {
            seat.tell_old(&resume);
        }
        for seat in &mut self.seats {
            if let Some(mut new) = seat.new.take() {
                new.process.end();
            }
        }
        outcome
    }
}

fn resumed(reason: &str) -> Outcome {
    Outcome::Resumed {
        reason: reason.to_owned(),
        blames_new: false,
    }
}

fn ended(seats: Vec<Seat>) -> Vec<Ended> {
    seats.into_iter().map(Seat::into_ended).collect()
}

impl fmt::Debug for Unit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Unit")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Successor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Successor")
            .field("guest", &self.guest)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Ended {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Ended")
            .field("name", &self.name)
            .field("old", &self.old)
            .field("new", &self.new)
            .field("pause", &self.pause)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Update<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Update")
            .field("terms", &self.terms)
            .finish_non_exhaustive()
    }
}
