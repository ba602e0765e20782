//! The agent's own release: gives its place to a new agent, and as the new one proves itself.

use std::sync::Arc;
use std::time::Duration;

use protocol::Step;
use protocol::device::Activity;
use release::{Component, Kind};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use super::prove::{taken_back, turn_away};
use super::{Command, Unit};
use crate::hub::Hub;
use crate::launcher::slots::{Program, Slots, Trial};
use crate::limits::{AGENT_HEARD, AGENT_LOOK, MAX_PROVE, TRIAL_GRACE};
use crate::machine::{Awake, Happening, Life};
use crate::stage::{self, Staged};
use crate::trust::chain;

impl Unit {
    /// What the agent finds when it starts; none: it is to end at once, nothing asked for it.
    pub(super) async fn awoken(&mut self) -> Option<Happening> {
        if !self.slot.is_own() {
            return Some(Happening::Restarted);
        }
        let me = self.hub.world.place.slot;
        let slots = self.slots().await.unwrap_or_else(|reason| {
            tracing::warn!(target: "drover", reason, "the launcher's record cannot be read");
            Slots::default()
        });
        if self.hub.on_trial.get() {
            let current = self.slot.current.as_ref().map(|current| current.digest);
            let expected = matches!(self.slot.life, Life::Switching | Life::Trying | Life::Returning);
            if !expected && current != me {
                self.give_place_back("no change to it was under way").await;
                return None;
            }
            if !expected && !self.settle_own().await {
                tracing::warn!(target: "drover", "the launcher does not know yet that this agent was committed");
            }
        }
        Some(Happening::Awoke(Awake {
            me,
            failed: slots.failed.map(|failed| (failed.release, failed.reason)),
            now: mtls::stamp(),
        }))
    }

    /// Ends this agent: for the new one, or for the one before if this is the new one. None: it ends.
    pub(super) async fn leave(&mut self) -> Option<Happening> {
        if self.slot.life == Life::Returning {
            self.show(Activity::RollingBack);
            let failed = self.slot.attempt.as_ref().map(|attempt| attempt.to.digest);
            let reason = failed.and_then(|failed| self.slot.bad_reason(&failed).map(str::to_owned));
            self.give_place_back(reason.as_deref().unwrap_or("it gave itself up"))
                .await;
            return None;
        }
        self.show(Activity::Switching);
        if let Err(reason) = self.hub.world.place.can_switch() {
            return Some(Happening::NotCleared { reason });
        }
        let hub = Arc::clone(&self.hub);
        let own = self.component.clone();
        let rested = tokio::select! {
            () = hub.shutdown.cancelled() => false,
            () = turn_all_away(&mut self.commands, &self.component) => false,
            () = others_rest(&hub, &own) => true,
        };
        if !rested {
            return None;
        }
        match self.write_trial().await {
            Ok(()) => {
                let version = self
                    .slot
                    .attempt
                    .as_ref()
                    .map(|attempt| attempt.to.version.to_string());
                tracing::info!(target: "drover", version, "ends for a new agent; the programs run on");
                self.hub.leave.cancel();
                None
            }
            Err(reason) => Some(Happening::NotCleared { reason }),
        }
    }

    /// Writes down for the launcher what it is to try.
    async fn write_trial(&self) -> Result<(), String> {
        let attempt = self
            .slot
            .attempt
            .as_ref()
            .ok_or("there is nothing to switch to")?;
        let (digest, heard) = (attempt.to.digest, self.hub.link.get().up);
        let hub = Arc::clone(&self.hub);
        let written = spawn_blocking(move || {
            let staged =
                stage::load(&hub.world.files, &hub.layout, &digest).map_err(|error| chain(&error))?;
            let (start, probation) = times(&staged);
            let heard_seconds = if heard { AGENT_HEARD } else { Duration::ZERO };
            let seconds = (probation + heard_seconds).as_secs() + TRIAL_GRACE;
            let mut slots = hub.slots.load().map_err(|error| chain(&error))?;
            slots.failed = None;
            slots.trial = Some(Trial {
                program: program_of(&staged, digest)?,
                start_seconds: start.as_secs(),
                seconds,
                heard,
                starts: 0,
                alive: false,
                last: None,
            });
            hub.slots.save(&slots).map_err(|error| chain(&error))
        });
        written.await.map_err(|error| error.to_string())?
    }

    /// This agent gives itself up: what ran before is started again.
    async fn give_place_back(&self, reason: &str) {
        let reason = reason.to_owned();
        tracing::warn!(target: "drover", reason, "this agent gives itself up");
        let hub = Arc::clone(&self.hub);
        let written = spawn_blocking(move || {
            let mut slots = hub.slots.load()?;
            slots.give_up(&reason);
            hub.slots.save(&slots)
        });
        if let Ok(Err(error)) = written.await {
            // The launcher sees an agent on trial that ends: that is a failure too.
            tracing::warn!(target: "drover", error = %chain(&error), "the launcher cannot be told why");
        }
        self.hub.leave.cancel();
    }

    /// Proves the new agent: it has read all state, taken over what runs, can be asked, and hears the manager if the
    /// agent before it did. None: it is to end first.
    pub(super) async fn prove_own(&mut self) -> Option<Happening> {
        self.show(Activity::Probation);
        let (hub, own, teller) = (Arc::clone(&self.hub), self.component.clone(), self.teller.clone());
        let tell = |step| {
            if let Some(teller) = &teller {
                teller.tell(step);
            }
        };
        tell(Step::Switched);
        tell(Step::Started);
        let slots = self.slots().await;
        let staged = self.own_release().await;
        let proving = async {
            let (slots, staged) = (slots?, staged?);
            let (start, probation) = times(&staged);
            let seconds = start.as_secs();
            timeout(start, taken_over(&hub, &own))
                .await
                .map_err(|_| format!("it had not taken over what runs here within {seconds} s"))?;
            timeout(start, can_be_asked(&hub))
                .await
                .map_err(|_| format!("its control socket was not open within {seconds} s"))?;
            say_alive(&hub).await?;
            if slots.trial.is_some_and(|trial| trial.heard) {
                timeout(AGENT_HEARD, hears(&hub)).await.map_err(|_| {
                    let problem = hub.link.get().problem;
                    let seconds = AGENT_HEARD.as_secs();
                    format!(
                        "the agent before it heard the manager, it does not within {seconds} s: {problem}"
                    )
                })?;
            }
            tell(Step::Healthy);
            sleep(probation).await;
            Ok(())
        };
        tokio::select! {
            () = self.hub.shutdown.cancelled() => None,
            reply = taken_back(&mut self.commands, &self.component, &self.slot) => {
                // Answered now: the agent that goes on does not know who asked.
                reply.map(|reply| {
                    reply.send(Ok(())).ok();
                    Happening::TakenBack
                })
            }
            proved = proving => Some(match proved {
                Ok(()) => Happening::Passed,
                Err(reason) => Happening::Unhealthy { reason },
            }),
        }
    }

    /// Tells the launcher that this agent was committed; whether it is on disk, or need not be.
    pub(super) async fn settle_own(&self) -> bool {
        let me = self.hub.world.place.slot;
        let current = self.slot.current.as_ref().map(|current| current.digest);
        let Some(me) = me.filter(|me| Some(*me) == current) else {
            return true;
        };
        let hub = Arc::clone(&self.hub);
        let settled = spawn_blocking(move || {
            let mut slots = hub.slots.load()?;
            if slots.trial_of(&me).is_some() {
                slots.commit();
                hub.slots.save(&slots)?;
            }
            hub.on_trial.set(false);
            Ok::<_, durable::RecordError>(())
        });
        match settled.await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::warn!(target: "drover", error = %chain(&error), "the launcher's record is not yet on disk");
                false
            }
            Err(_) => false,
        }
    }

    async fn slots(&self) -> Result<Slots, String> {
        let hub = Arc::clone(&self.hub);
        match spawn_blocking(move || hub.slots.load()).await {
            Ok(slots) => slots.map_err(|error| chain(&error)),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn own_release(&self) -> Result<Staged, String> {
        let attempt = self.slot.attempt.as_ref().ok_or("nothing is being tried")?;
        let (hub, digest) = (Arc::clone(&self.hub), attempt.to.digest);
        match spawn_blocking(move || stage::load(&hub.world.files, &hub.layout, &digest)).await {
            Ok(staged) => staged.map_err(|error| chain(&error)),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// How long a new agent may take to start, and has to stay well then.
fn times(staged: &Staged) -> (Duration, Duration) {
    let bounded = |seconds: u32| Duration::from_secs(u64::from(seconds)).min(MAX_PROVE);
    let release = &staged.release;
    (bounded(release.start_seconds), bounded(release.probation_seconds))
}

fn program_of(staged: &Staged, release: tuf::Digest) -> Result<Program, String> {
    let run = staged
        .release
        .run
        .as_ref()
        .ok_or("the release names no program")?;
    let path = format!("payload/{}", run.program);
    let file = staged.files.iter().find(|file| file.path == path);
    let file = file.ok_or_else(|| format!("the release has no file {path}"))?;
    Ok(Program {
        release,
        file: run.program.clone(),
        sha256: file.digest,
    })
}

/// Why the agent here cannot give its place to a release of `component`; none: it can, or the release is no agent.
pub(crate) fn agent_stays(hub: &Hub, component: &Component, kind: &Kind) -> Option<String> {
    if *kind != Kind::Agent {
        return None;
    }
    let generation = hub.generation.get();
    let other = generation
        .components
        .iter()
        .find(|(name, slot)| *name != component && slot.is_own());
    if let Some((other, _)) = other {
        return Some(format!(
            "the agent of this device is the component {other} already: a device has one"
        ));
    }
    hub.world.place.can_switch().err()
}

/// Until no other component has anything under way.
async fn others_rest(hub: &Hub, own: &Component) {
    loop {
        let mut all = true;
        for (component, mailbox) in hub.units.get() {
            if component != *own {
                let (reply, answer) = oneshot::channel();
                mailbox.send(Command::AtRest(reply)).await.ok();
                all &= answer.await.unwrap_or(true);
            }
        }
        if all {
            return;
        }
        sleep(AGENT_LOOK).await;
    }
}

/// Until every other component has been looked after: its program is adopted or started.
async fn taken_over(hub: &Hub, own: &Component) {
    for (component, mailbox) in hub.units.get() {
        if component != *own {
            let (reply, answer) = oneshot::channel();
            mailbox.send(Command::AtRest(reply)).await.ok();
            answer.await.ok();
        }
    }
}

/// Tells the launcher that what is left to prove may take longer.
async fn say_alive(hub: &Arc<Hub>) -> Result<(), String> {
    let hub = Arc::clone(hub);
    let said = spawn_blocking(move || {
        let mut slots = hub.slots.load()?;
        if let Some(trial) = &mut slots.trial {
            trial.alive = true;
            hub.slots.save(&slots)?;
        }
        Ok::<_, durable::RecordError>(())
    });
    match said.await {
        Ok(said) => said.map_err(|error| chain(&error)),
        Err(error) => Err(error.to_string()),
    }
}

/// Until somebody could ask this agent.
async fn can_be_asked(hub: &Hub) {
    while UnixStream::connect(hub.layout.control()).await.is_err() {
        sleep(AGENT_LOOK).await;
    }
}

/// Until the manager has answered.
async fn hears(hub: &Hub) {
    while hub.hellos.with(|hellos| hellos.answered) == 0 {
        sleep(AGENT_LOOK).await;
    }
}

/// Answers what comes while the agent is about to end; returns when nobody is left to ask.
async fn turn_all_away(commands: &mut mpsc::Receiver<Command>, component: &Component) {
    while let Some(command) = commands.recv().await {
        let message = format!("{component} takes this agent's place: wait for that");
        turn_away(command, message);
    }
}
