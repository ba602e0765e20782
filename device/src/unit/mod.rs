//! One component: keeps its program running and takes it through its install life.
//!
//! The only task that touches the component's program and slot. Judging and preparing an order run beside
//! it, so that the old version is looked after meanwhile; from stopping the old one until the new one is
//! committed or undone it does nothing else, but hears a person who wants the old one back.

mod activate;
mod data;
mod live;
mod module;
pub(crate) mod own;
mod program;
mod prove;
mod wait;

use std::future::pending;
use std::sync::Arc;

use protocol::device::{Activate, Activity, Order, Problem};
use protocol::{Outcome, Step, UpdateId, messages};
use release::Component;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until};
use tuf::Digest;

use crate::backoff::BackOff;
use crate::bus::Teller;
use crate::hub::{Hub, Unfollowed};
use crate::limits::{BACK_OFF_CAP, RESTART_BASE, RESTART_CAP, RETRY_BASE, RETRY_CAP};
use crate::live::Stand;
use crate::machine::{Answers, Attempt, Cause, Happening, Life, Slot};
use crate::order::{Plan, Verdict};
use crate::prepare::{Unprepared, judge, misfit_here, prepare};
use crate::settings::Mode;
use crate::world::{CutOff, Point};
pub(crate) use data::{data_disk, transforms};
use program::{Program, Unstarted};
use prove::{problem, turn_away};
pub(crate) use wait::{moment, taint, watch_interlocks};

/// What others ask of a component.
#[derive(Debug)]
pub enum Command {
    /// The manager's order.
    Order(Box<Order>),
    /// The order was judged.
    Judged(Box<Order>, Verdict, Option<Digest>),
    /// The release was brought here, or not.
    Prepared(UpdateId, Result<(), Unprepared>),
    /// A person wants the previous version back.
    RollBack(Reply),
    /// A person lifts the hold and forgives what failed.
    Release(Reply),
    /// A person says that what waits is to be installed; `true`: although conditions are not met.
    Activate(bool, Reply),
    /// The same, said at the gateway.
    ActivateForGateway(Activate),
    /// Whether nothing is under way, asked by who waits for that.
    AtRest(oneshot::Sender<bool>),
    /// The agent is about to end: what is being prepared waits for the next one. Answered when that is written down.
    PutOff(oneshot::Sender<()>),
}

/// Where a person's request is answered.
pub type Reply = oneshot::Sender<Result<(), Problem>>;

/// One component's task.
#[derive(Debug)]
pub struct Unit {
    hub: Arc<Hub>,
    component: Component,
    mailbox: mpsc::Sender<Command>,
    commands: mpsc::Receiver<Command>,
    slot: Slot,
    program: Option<Program>,
    /// Where its programs report, if they are live.
    stand: Option<Stand>,
    teller: Option<Arc<Teller>>,
    plan: Option<Plan>,
    job: Option<Job>,
    /// Processes of an earlier agent were looked for.
    swept: bool,
    /// Calls of its update module by an earlier agent were looked for.
    calls_swept: bool,
    /// The release whose files were just found to be as they should be.
    verified: Option<Digest>,
    /// Why the program could not be started.
    start_failure: Option<Unstarted>,
    wait: BackOff,
    restart_at: Option<Instant>,
    /// Something could not be written or reported; when to try again.
    mend_at: Option<Instant>,
    told_end: bool,
    /// The install record has no line of that end yet.
    line_due: bool,
    /// The manager is to be asked what comes next, once nothing is under way.
    hello_due: bool,
    /// The manager is to be told what is waited for, once it is shown.
    hello_when_shown: bool,
    /// What waits, and when that is looked at.
    looks: wait::Looks,
    /// Rises when there may be a reason for what waits to go on.
    wake: watch::Receiver<u64>,
    /// Who rolled back a version on probation; answered when that is done.
    took_back: Option<Reply>,
    /// The update that failed here last, and when it may be tried again.
    retry: Option<(UpdateId, Instant)>,
    retry_wait: BackOff,
    /// What that waiting grows for: another update begins with a short one.
    retries: Option<UpdateId>,
}

/// Work beside the unit; dropped, it ends.
#[derive(Debug)]
struct Job {
    update: UpdateId,
    task: JoinHandle<()>,
}

impl Drop for Job {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What woke the unit.
enum Turn {
    Command(Option<Command>),
    ProgramEnded(crate::supervise::process::Exit),
    RestartDue,
    MendDue,
    RetryDue,
    WokenUp,
    LookDue,
    Shutdown,
}

impl Unit {
    /// The unit of `component`, which takes commands from `commands`.
    #[must_use]
    pub fn new(
        hub: Arc<Hub>,
        component: Component,
        mailbox: mpsc::Sender<Command>,
        commands: mpsc::Receiver<Command>,
    ) -> Self {
        let slot = hub.generation.slot(&component);
        // Shown before the first hello can be said: what is installed, not that nothing is.
        let activity = if slot.current.is_some() {
            Activity::Running
        } else {
            Activity::Empty
        };
        hub.show(&component, &slot, activity, None, None);
        Self {
            wake: hub.wake.subscribe(),
            looks: wait::Looks::default(),
            hello_when_shown: false,
            hub,
            component,
            mailbox,
            commands,
            slot,
            program: None,
            stand: None,
            teller: None,
            plan: None,
            job: None,
            swept: false,
            calls_swept: false,
            verified: None,
            start_failure: None,
            wait: BackOff::new(RESTART_BASE, RESTART_CAP),
            restart_at: None,
            mend_at: None,
            told_end: false,
            line_due: false,
            hello_due: false,
            took_back: None,
            retry: None,
            retry_wait: BackOff::new(RETRY_BASE, RETRY_CAP),
            retries: None,
        }
    }

    /// Looks after the component until the agent ends.
    ///
    /// # Errors
    /// [`CutOff`], in tests.
    pub async fn run(mut self) -> Result<(), CutOff> {
        if let Some(attempt) = self.slot.attempt.clone() {
            self.teller = Some(self.new_teller(&attempt));
        }
        self.settle_data().await;
        if let Some(attempt) = &self.slot.attempt
            && self.slot.life == Life::Preparing
            && self.hub.store.has(&attempt.to.digest).is_none()
        {
            self.happen(Happening::Fetching).await?;
        }
        let first = match self.settle_handing().await {
            Some(handed) => Some(handed),
            None => self.awoken().await,
        };
        if let Some(first) = first {
            self.happen(first).await?;
        }
        loop {
            match self.turn().await {
                Turn::Command(Some(command)) => self.obey(command).await?,
                Turn::ProgramEnded(exit) => self.program_ended(exit).await,
                Turn::RestartDue => {
                    self.restart_at = None;
                    self.start_current().await;
                    self.show_resting();
                }
                Turn::MendDue => self.mend().await?,
                Turn::RetryDue => {
                    self.retry = None;
                    self.hub.hello_due.notify_one();
                }
                Turn::WokenUp => self.look_soon(),
                Turn::LookDue => {
                    self.looks.at = None;
                    self.happen(Happening::LookDue).await?;
                }
                Turn::Shutdown | Turn::Command(None) => break,
            }
        }
        self.put_off().await?;
        self.stop_program().await;
        Ok(())
    }

    /// An end in good order is not held against what was being prepared.
    async fn put_off(&mut self) -> Result<(), CutOff> {
        self.job = None;
        if self.slot.life == Life::Preparing {
            self.happen(Happening::PutOff).await?;
        }
        Ok(())
    }

    async fn turn(&mut self) -> Turn {
        let waits = self.slot.is_waiting();
        let program = &self.program;
        let ended = async {
            match program {
                Some(program) => program.process.ended().await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = self.hub.shutdown.cancelled() => Turn::Shutdown,
            command = self.commands.recv() => Turn::Command(command),
            exit = ended => Turn::ProgramEnded(exit),
            () = until(self.restart_at) => Turn::RestartDue,
            () = until(self.mend_at) => Turn::MendDue,
            () = until(self.retry.map(|(_, at)| at)) => Turn::RetryDue,
            () = until(self.looks.at) => Turn::LookDue,
            // The sender lives in the hub.
            Ok(()) = self.wake.changed(), if waits => Turn::WokenUp,
        }
    }

    async fn obey(&mut self, command: Command) -> Result<(), CutOff> {
        match command {
            Command::Order(order) => self.take_order(order).await,
            Command::Judged(order, verdict, digest) => self.take_verdict(&order, verdict, digest).await,
            Command::Prepared(update, outcome) => {
                if self.job.as_ref().is_none_or(|job| job.update != update) {
                    return Ok(());
                }
                self.job = None;
                self.happen(match outcome {
                    Ok(()) => Happening::Prepared,
                    Err(Unprepared { reason, bad }) => Happening::NotPrepared { reason, bad },
                })
                .await
            }
            Command::RollBack(reply) => {
                let done = self.roll_back_by_hand().await?;
                reply.send(done).ok();
                Ok(())
            }
            Command::Activate(overriding, reply) => self.activate(overriding, reply).await,
            Command::ActivateForGateway(told) => self.activate_for_gateway(&told).await,
            Command::AtRest(reply) => {
                // An end that cannot be written down is tried again, by the next agent too.
                let ended = matches!(self.slot.life, Life::Ended(_)) && self.mend_at.is_some();
                let idle = self.slot.is_at_rest() && self.job.is_none();
                reply.send(idle || ended).ok();
                Ok(())
            }
            Command::PutOff(reply) => {
                self.put_off().await?;
                reply.send(()).ok();
                Ok(())
            }
            Command::Release(reply) if self.slot.life == Life::Preparing => {
                let message = format!(
                    "{} is being updated: try again when that has ended",
                    self.component
                );
                turn_away(Command::Release(reply), message);
                Ok(())
            }
            Command::Release(reply) => {
                self.happen(Happening::Released).await?;
                // The next hello must tell of it, or the manager still believes in the hold.
                self.show_resting();
                self.retry = None;
                // An order that is being judged by what was held against it comes again with that hello.
                self.job = None;
                self.hub.refused.with(|refused| refused.remove(&self.component));
                self.hub.hello_due.notify_one();
                reply.send(Ok(())).ok();
                Ok(())
            }
        }
    }

    async fn take_order(&mut self, order: Box<Order>) -> Result<(), CutOff> {
        let under_way = self.job.as_ref().map(|job| job.update);
        let failed = self.retry.map(|(update, _)| update);
        if under_way == Some(order.update) || failed == Some(order.update) {
            return Ok(());
        }
        match &self.slot.life {
            Life::Idle => {}
            // Judged first: what cannot be followed takes the place of nothing.
            _ if self.slot.is_waiting() => {
                let waiting = self.slot.attempt.as_ref().map(|attempt| attempt.update);
                if waiting == Some(order.update) {
                    return Ok(());
                }
            }
            Life::Preparing => {
                // A newer order: what is on the way is not wanted any more.
                self.job = None;
                let reason = format!("superseded by the order of {}", order.version);
                self.happen(Happening::NotPrepared { reason, bad: false }).await?;
            }
            // It comes again with the next hello.
            _ => return Ok(()),
        }
        let (hub, slot, mailbox) = (Arc::clone(&self.hub), self.slot.clone(), self.mailbox.clone());
        let update = order.update;
        let task = tokio::spawn(async move {
            let (verdict, digest) = judge(&hub, &order, &slot).await;
            mailbox.send(Command::Judged(order, verdict, digest)).await.ok();
        });
        self.job = Some(Job { update, task });
        Ok(())
    }

    async fn take_verdict(
        &mut self,
        order: &Order,
        verdict: Verdict,
        digest: Option<Digest>,
    ) -> Result<(), CutOff> {
        if self.job.as_ref().is_none_or(|job| job.update != order.update) || !self.slot.is_at_rest() {
            return Ok(());
        }
        self.job = None;
        let (outcome, reason) = match verdict {
            Verdict::Ready(plan) => {
                let superseded = format!("superseded by the order of {}", order.version);
                if !self.drop_waiting(superseded).await? {
                    return Ok(());
                }
                let attempt = plan.attempt.clone();
                let teller = self.new_teller(&attempt);
                teller.tell(Step::Ordered);
                self.teller = Some(teller);
                self.plan = Some(*plan);
                self.told_end = false;
                let site = self.hub.settings.install.of(&self.component);
                return self
                    .happen(match site.mode {
                        Mode::Notify => Happening::Announced(attempt),
                        Mode::Automatic | Mode::Download => Happening::Ordered(attempt),
                    })
                    .await;
            }
            Verdict::AlreadyDone => (Outcome::Committed, None),
            Verdict::Refused(reason) => (Outcome::Refused, Some(reason)),
            Verdict::Failed(reason) => (Outcome::Failed, Some(reason)),
        };
        if outcome == Outcome::Failed {
            self.retry_later(order.update);
        }
        let digest = digest.unwrap_or_else(|| Digest::from_bytes([0; 32]));
        self.hub
            .end_order(&Unfollowed {
                order,
                digest,
                outcome,
                reason,
            })
            .await;
        Ok(())
    }

    /// Ends what waits, without holding it against the release; whether nothing is under way then.
    async fn drop_waiting(&mut self, reason: String) -> Result<bool, CutOff> {
        if self.slot.is_waiting() {
            self.happen(Happening::NotCleared { reason }).await?;
        }
        // An end that cannot be written down holds the next order back: it comes again.
        Ok(self.slot.life == Life::Idle)
    }

    /// An order that failed comes again with the next hello; it is looked at again after a while only.
    fn retry_later(&mut self, update: UpdateId) {
        if self.retries.replace(update) != Some(update) {
            self.retry_wait.reset();
        }
        let pause = self.retry_wait.next(&*self.hub.world.random);
        self.retry = Some((update, Instant::now() + pause));
    }

    /// Starts bringing the release here, beside this task.
    fn start_preparing(&mut self) {
        let (Some(plan), Some(teller)) = (self.plan.take(), self.teller.clone()) else {
            return;
        };
        let (hub, mailbox) = (Arc::clone(&self.hub), self.mailbox.clone());
        self.hub.show_coming(&self.component, &plan.release);
        let update = plan.attempt.update;
        let task = tokio::spawn(async move {
            let outcome = prepare(&hub, &plan, &teller).await;
            mailbox.send(Command::Prepared(update, outcome)).await.ok();
        });
        self.job = Some(Job { update, task });
    }

    async fn roll_back_by_hand(&mut self) -> Result<Result<(), Problem>, CutOff> {
        let refuse = |code: &str, message: String| Ok(Err(problem(code, message)));
        if !self.slot.is_at_rest() {
            let message = format!("{} is being updated: try again in a moment", self.component);
            return refuse("busy", message);
        }
        let (Some(current), Some(previous)) = (self.slot.current.clone(), self.slot.previous.clone()) else {
            let message = format!("{} has no previous version to go back to", self.component);
            return refuse("no-previous", message);
        };
        // The others may have been updated since it ran: nothing is stopped for what does not suit them.
        if let Some(reason) = misfit_here(&self.hub, &self.component, previous.digest).await {
            let message = format!(
                "{} cannot go back to {}: {reason}; change that one first",
                self.component, previous.version
            );
            return refuse("misfit", message);
        }
        let data = match self.data_for(previous.digest).await {
            Ok(data) => data,
            Err(reason) => {
                let message = format!(
                    "{} cannot go back to {}: {reason}",
                    self.component, previous.version
                );
                return refuse("other-data", message);
            }
        };
        self.job = None;
        if !self
            .drop_waiting("superseded by a roll back by hand".into())
            .await?
        {
            return refuse(
                "busy",
                format!("{} cannot be changed now: look at its status", self.component),
            );
        }
        let attempt = Attempt {
            update: current.update,
            cause: Cause::ByHand,
            to: previous.clone(),
            from: Some(current.clone()),
            restarts: 0,
            began: mtls::stamp(),
            events: Vec::new(),
            answers: Answers::default(),
            wait: None,
            word: None,
            data,
            note: None,
            handed_over: None,
            excuse: None,
        };
        let teller = Teller::new(
            Arc::clone(&self.hub.bus),
            current.update,
            self.component.clone(),
            current.version,
            Vec::new(),
        );
        self.teller = Some(Arc::new(teller));
        self.told_end = false;
        self.happen(Happening::RolledBackByHand(attempt)).await?;
        if self.slot.current.as_ref() == Some(&previous) {
            return Ok(Ok(()));
        }
        let message = format!(
            "{} could not go back to {}: see the install record",
            self.component, previous.version
        );
        refuse("not-rolled-back", message)
    }

    fn new_teller(&self, attempt: &Attempt) -> Arc<Teller> {
        Arc::new(Teller::new(
            Arc::clone(&self.hub.bus),
            attempt.update,
            self.component.clone(),
            attempt.to.version.clone(),
            attempt.events.clone(),
        ))
    }

    /// Writes the slot; `Ok(Err(reason))`: it is not on disk.
    async fn write(&mut self, slot: &Slot) -> Result<Result<(), String>, CutOff> {
        let life = slot.life.name();
        self.hub.world.pass(Point::BeforeWriting(life))?;
        let mut slot = slot.clone();
        if let (Some(attempt), Some(teller)) = (slot.attempt.as_mut(), self.teller.as_ref()) {
            attempt.events = teller.told();
        }
        // What only waits goes on waiting on a disk that is full.
        let insist = !slot.life.needs_writing() || goes_on_waiting(&self.slot, &slot);
        let (hub, component) = (Arc::clone(&self.hub), self.component.clone());
        let saved = spawn_blocking(move || hub.generation.write(&component, &slot, insist)).await;
        self.hub.world.pass(Point::AfterWriting(life))?;
        Ok(match saved {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(crate::trust::chain(&error)),
            Err(error) => Err(error.to_string()),
        })
    }

    /// Tries again what could not be written or reported.
    async fn mend(&mut self) -> Result<(), CutOff> {
        self.mend_at = None;
        let hub = Arc::clone(&self.hub);
        if let Ok(Err(error)) = spawn_blocking(move || hub.generation.save()).await {
            tracing::warn!(target: "drover", error = %crate::trust::chain(&error), "the state still cannot be written");
            self.mend_later();
            return Ok(());
        }
        match self.report_end().await {
            Some(happening) => self.happen(happening).await,
            None => {
                self.drop_kept_data().await;
                Ok(())
            }
        }
    }

    fn mend_later(&mut self) {
        self.mend_at =
            Some(Instant::now() + crate::backoff::about(BACK_OFF_CAP / 10, &*self.hub.world.random));
    }

    fn show(&self, activity: Activity) {
        let since = self.program.as_ref().map(|program| program.process.since());
        if let Some(program) = &self.program {
            self.hub.show_running(&self.component, &program.release);
        }
        let waiting = self.looks.shown.clone().filter(|_| self.slot.is_waiting());
        self.hub
            .show(&self.component, &self.slot, activity, since, waiting);
    }

    /// Tells a person that nothing runs, in the document's words.
    fn say_nothing_runs(&self) {
        self.hub.bus.say(&messages::NOTHING_RUNNING, "");
    }
}

/// Whether a slot that is written takes no step.
fn goes_on_waiting(before: &Slot, after: &Slot) -> bool {
    after.is_waiting() && before.life == after.life
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => pending().await,
    }
}
