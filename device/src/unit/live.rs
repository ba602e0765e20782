//! Handing the program over to another version while it runs, forward and back, and finding out who serves after a cut.

use std::sync::Arc;
use std::time::Duration;

use handoff::{Outcome, State, Terms, Transform, Update};
use protocol::{Step, UpdateId};
use release::plan::{Answer, plan};
use release::{Live, Release, Way};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};

use super::Unit;
use super::program::{Program, Unstarted};
use crate::dry_run::facts;
use crate::limits::{HANDING_LOOK, LIVE_REPORT, LIVE_SETTLE};
use crate::live::{Change, Group, Handing, Notes, Stand, StandsBy, decided, record};
use crate::machine::{Attempt, Cause, Happening, Installed, Life};
use crate::stage;
use crate::supervise::adopt::{Run, end_strays};
use crate::supervise::output::Output;

/// What came of the wish to hand over.
enum Handed {
    /// The new program serves; how long nobody did.
    Over(Option<Duration>),
    /// The running program does not want to now.
    Refused(String),
    /// It serves as before; whether the new version is to blame.
    Not { reason: String, bad: bool },
    /// It cannot: it has to be stopped.
    Cannot(String),
}

impl Unit {
    /// The socket at which this version's program reports; none: it is not live, or there can be none.
    pub(super) fn stand(&mut self, installed: &Installed) -> Option<Stand> {
        if installed.kind != release::Kind::Live {
            return None;
        }
        if self.stand.is_none() {
            let (files, layout) = (&self.hub.world.files, &self.hub.layout);
            let account = self.hub.settings.programs.account(&self.component);
            let opened = account.and_then(|account| Stand::open(files, layout, &self.component, account));
            match opened {
                Ok(stand) => self.stand = Some(stand),
                Err(reason) => {
                    tracing::warn!(target: "drover", component = %self.component, reason, "there is no socket for handing over: the next version will stop this one");
                }
            }
        }
        self.stand.clone()
    }

    /// Replaces the running program by the attempt's, without its clients' noticing.
    pub(super) async fn hand_over(&mut self) -> Happening {
        let Some(attempt) = self.slot.attempt.clone() else {
            return Happening::Stopped;
        };
        if let Some(why) = self.planned_otherwise(&attempt).await {
            return Happening::CannotHandOver {
                note: format!("stopped and started, not handed over: {why}"),
            };
        }
        if let Some(teller) = &self.teller {
            teller.tell(Step::Stopping);
        }
        match self.exchange(&attempt.to, attempt.update).await {
            Handed::Over(pause) => {
                if let Some(teller) = &self.teller {
                    teller.tell(Step::Stopped);
                }
                let words = pause.map_or_else(String::new, |pause| {
                    format!(": nobody was served for {:.1} ms", pause.as_secs_f64() * 1000.0)
                });
                let pause_ms = pause.map(|pause| pause.as_micros().div_ceil(1000));
                Happening::HandedOver {
                    note: format!("handed over while it ran{words}"),
                    pause_ms: pause_ms.and_then(|ms| u64::try_from(ms).ok()),
                }
            }
            Handed::Refused(reason) => Happening::NotCleared {
                reason: format!("the running program refuses to hand over now: {reason}"),
            },
            Handed::Not { reason, bad } => {
                tracing::warn!(target: "drover", component = %self.component, reason, "not handed over: the old version goes on");
                Happening::NotHandedOver { reason, bad }
            }
            Handed::Cannot(reason) => Happening::CannotHandOver {
                note: format!("stopped and started, not handed over: {reason}"),
            },
        }
    }

    /// Why the planner would have it stopped and started; none: it is to hand over.
    async fn planned_otherwise(&self, attempt: &Attempt) -> Option<String> {
        let (hub, digest) = (Arc::clone(&self.hub), attempt.to.digest);
        let loaded = spawn_blocking(move || stage::load(&hub.world.files, &hub.layout, &digest)).await;
        let Ok(Ok(staged)) = loaded else {
            return Some("its files cannot be read".into());
        };
        let length = staged.files.iter().map(|file| file.size).sum();
        let facts = facts(&self.hub, &self.slot, &staged.release, length, None).await;
        // On the way back it is the change that is undone which counts.
        let nature = match (attempt.cause, &self.program) {
            (Cause::ByHand, Some(program)) => program.release.nature.as_ref(),
            _ => staged.release.nature.as_ref(),
        };
        let plan = plan(nature, &facts);
        (plan.answer != Answer::Live).then(|| plan.reasons.join("; "))
    }

    /// On the way back: lets the version before take over from the one on trial; whether it serves.
    pub(super) async fn hand_back(&mut self) -> bool {
        let Some(attempt) = self.slot.attempt.clone() else {
            return false;
        };
        let on_trial = self.slot.current.as_ref().map(|current| current.kind.clone());
        let Some(from) = attempt.from.filter(|from| Some(&from.kind) == on_trial.as_ref()) else {
            return false;
        };
        if from.kind != release::Kind::Live || self.program.is_none() {
            return false;
        }
        match self.exchange(&from, attempt.update).await {
            Handed::Over(_) => {
                tracing::info!(target: "drover", component = %self.component, "handed back to the version before");
                true
            }
            Handed::Refused(reason) | Handed::Not { reason, .. } | Handed::Cannot(reason) => {
                tracing::info!(target: "drover", component = %self.component, reason, "not handed back: stopped and started");
                false
            }
        }
    }

    async fn exchange(&mut self, to: &Installed, update: UpdateId) -> Handed {
        if self.slot.data_change().is_some() {
            return Handed::Cannot("its data on disk are saved while neither version runs".into());
        }
        let Some((old_run, old_release)) = self
            .program
            .as_ref()
            .map(|program| (program.run.clone(), program.release.clone()))
        else {
            return Handed::Cannot("nothing runs".into());
        };
        let (Some(stand), Some(token)) = (self.stand(to), old_run.token.clone()) else {
            return Handed::Cannot("the running program was not told where to report".into());
        };
        let staged = match self.checked(to.digest).await {
            Ok(staged) => staged,
            Err(reason) => return Handed::Cannot(reason),
        };
        let (given, taken) = (live_of(&old_release), live_of(&staged.release));
        let Some(way) = given.way(&taken) else {
            return Handed::Cannot(format!(
                "{} does not take over a state of schema {}",
                to.version, given.schema
            ));
        };
        let found = take(&stand, &token, LIVE_REPORT).await;
        let Some(old) = found.filter(|guest| guest.serving) else {
            return Handed::Cannot("the running program does not report to the agent".into());
        };
        let transform = match way {
            Way::AsItIs => Ok(None),
            Way::Forward => {
                self.change(to, &staged.release, (given.schema, taken.schema))
                    .await
            }
            Way::Back => {
                let from = self.slot.current.clone();
                let from = from.as_ref().unwrap_or(to);
                self.change(from, &old_release, (given.schema, taken.schema))
                    .await
            }
        };
        let transform = match transform {
            Ok(transform) => transform,
            Err(unstarted) => return put_back(&stand, &token, old, unstarted),
        };
        let mut new = match self.spawn(to, staged.release.clone(), true).await {
            Ok(new) => new,
            Err(unstarted) => return put_back(&stand, &token, old, unstarted),
        };
        let new_token = new.run.token.clone().unwrap_or_default();
        let terms = terms_of(update, to, &staged.release, &taken);
        let (files, layout) = (&self.hub.world.files, &self.hub.layout);
        let handing = Handing {
            update,
            old: old_run,
            new: new.run.clone(),
        };
        let mut notes = Notes::new(files, layout, &self.component, handing);
        let mut starter = StandsBy {
            desk: Arc::clone(&stand.desk),
            token: new_token.clone(),
            group: Group(new.process.pid()),
        };
        let unit = handoff::Unit {
            name: self.component.to_string(),
            old,
            transform,
        };
        // A thread of its own: nothing else that the agent does may make the programs wait.
        let run = spawn_blocking(move || {
            let mut passed = |phase, at| tracing::debug!(target: "drover", ?phase, ?at, "handing over");
            Update::run(terms, vec![unit], &mut notes, &mut starter, &mut passed)
        });
        let (outcome, ended) = match run.await {
            Ok((outcome, mut ended)) => (outcome, ended.pop()),
            Err(error) => (
                Outcome::Resumed {
                    reason: error.to_string(),
                    blames_new: false,
                },
                None,
            ),
        };
        let (old, successor, pause) = match ended {
            Some(ended) => (ended.old, ended.new, ended.pause),
            None => (None, None, None),
        };
        if outcome == Outcome::Committed {
            if let Some(successor) = successor {
                stand.desk.put(&new_token, successor.guest);
            }
            stand.desk.forget(&token);
            new.started = Instant::now();
            self.serve_with(new).await;
            return Handed::Over(pause);
        }
        if let Some(old) = old {
            stand.desk.put(&token, old);
        }
        stand.desk.forget(&new_token);
        self.not_handed(new, outcome).await
    }

    /// The new program serves: it is the one that is looked after, and the old one ends.
    async fn serve_with(&mut self, new: Program) {
        self.record_run(new.run.clone()).await;
        let pid = new.process.pid();
        let data = self.hub.layout.data(&self.component);
        let Some(mut old) = self.program.replace(new) else {
            return;
        };
        // It is not asked to: what it would do in good order, such as shutting connections down, would be done to the new
        // one's too.
        let patience = old.patience();
        timeout(patience, old.process.ended()).await.ok();
        old.process.clear_group().await;
        end_strays(&data, Some(pid), patience).await;
        if let Some(copier) = old.copier.take() {
            copier.done().await;
        }
    }

    /// The old program goes on: nothing of the new one is left.
    async fn not_handed(&mut self, new: Program, outcome: Outcome) -> Handed {
        new.process.clear_group().await;
        let spare = self.program.as_ref().map(|program| program.process.pid());
        end_strays(&self.hub.layout.data(&self.component), spare, new.patience()).await;
        match outcome {
            Outcome::Refused { reason, .. } => Handed::Refused(reason),
            Outcome::Resumed { reason, blames_new } if blames_new => Handed::Not {
                reason: new.with_last_words(&reason).await,
                bad: true,
            },
            Outcome::Resumed { reason, .. } => Handed::Not { reason, bad: false },
            Outcome::Committed => Handed::Over(None),
        }
    }

    /// Starts the program of `release` that makes one schema of another.
    async fn change(
        &self,
        installed: &Installed,
        release: &Release,
        schemas: (u32, u32),
    ) -> Result<Option<Transform>, Unstarted> {
        let live = live_of(release);
        let Some((program, words)) = live.transformer() else {
            return Ok(None);
        };
        let launch = self
            .launch_of(installed, release)
            .map_err(Unstarted::of_release)?;
        let output = Output::new(self.hub.layout.output_of(&self.component));
        let failed =
            |error: std::io::Error| Unstarted::of_device(format!("{program} cannot be started: {error}"));
        // The copier ends with the program that it copies.
        let (_, errors) = output.copier(&self.hub.world.copier).await.map_err(failed)?;
        let command = launch
            .change_command(&program, words, schemas, errors)
            .map_err(failed)?;
        let started = Change::start(command, program.to_string(), schemas.0, schemas.1);
        let mut change = started.map_err(|error| {
            Unstarted::of_release(format!("{program}, which is to transform its state: {error}"))
        })?;
        let transform = move |state: &State, until| change.of(state, until);
        Ok(Some(Box::new(transform)))
    }

    /// When the agent starts: where the one before died while a program handed over, whichever serves is found out.
    pub(super) async fn settle_handing(&mut self) -> Option<Happening> {
        let (Life::Switching, Some(attempt)) = (&self.slot.life, self.slot.attempt.clone()) else {
            return None;
        };
        if !self.slot.hands_over() {
            return None;
        }
        let files = self.hub.world.files.clone();
        let handing = record(&files, &self.hub.layout, &self.component)
            .load()
            .ok()
            .flatten();
        let handing = handing
            .filter(|handing| handing.update == attempt.update && handing.new.digest == attempt.to.digest)?;
        let stand = self.stand(&attempt.to)?;
        let serves = self.who_serves(&stand, &handing).await?;
        if serves.digest != attempt.to.digest {
            return None;
        }
        self.record_run(serves).await;
        Some(Happening::HandedOver {
            note: "handed over while it ran; the agent was started again meanwhile".into(),
            pause_ms: None,
        })
    }

    /// The program that serves, by its own word; none: neither says so.
    async fn who_serves(&self, stand: &Stand, handing: &Handing) -> Option<Run> {
        for token in [&handing.old, &handing.new]
            .into_iter()
            .filter_map(|run| run.token.as_ref())
        {
            stand.desk.expect(token);
        }
        let until = Instant::now() + LIVE_SETTLE;
        loop {
            let mut alive = 0;
            for run in [&handing.new, &handing.old] {
                let Some(token) = run.token.as_ref().filter(|_| run.find().is_some()) else {
                    continue;
                };
                alive += 1;
                let Some(guest) = stand.desk.take(token, std::time::Instant::now()) else {
                    continue;
                };
                // A new one that still stands by ends when it hears that its agent is another.
                if guest.serving {
                    stand.desk.put(token, guest);
                    return Some(run.clone());
                }
            }
            if alive == 0 {
                // Neither can tell: what was decided counts, and that version starts anew.
                return decided(&self.hub.layout, &self.component, handing.update)
                    .then(|| handing.new.clone());
            }
            if Instant::now() >= until {
                tracing::error!(target: "drover", component = %self.component, "no program says that it serves after a handing over: the old version starts anew");
                return None;
            }
            sleep(HANDING_LOOK).await;
        }
    }
}

async fn take(stand: &Stand, token: &str, within: Duration) -> Option<handoff::Guest> {
    let (desk, token) = (Arc::clone(&stand.desk), token.to_owned());
    let until = std::time::Instant::now() + within;
    spawn_blocking(move || desk.take(&token, until))
        .await
        .ok()
        .flatten()
}

fn put_back(stand: &Stand, token: &str, old: handoff::Guest, unstarted: Unstarted) -> Handed {
    stand.desk.put(token, old);
    Handed::Not {
        reason: unstarted.reason,
        bad: !unstarted.hindered,
    }
}

fn live_of(release: &Release) -> Live {
    release.live.clone().unwrap_or_default()
}

fn terms_of(update: UpdateId, to: &Installed, release: &Release, live: &Live) -> Terms {
    let seconds = |seconds: u32| Duration::from_secs(u64::from(seconds));
    let word = |value: Option<String>| value.unwrap_or_default();
    let nature = release.nature.as_ref();
    Terms {
        update: update.to_string(),
        to: to.version.to_string(),
        nature: word(nature.map(|nature| nature.category.to_string())),
        stillness: word(nature.map(|nature| nature.stillness.to_string())),
        start: seconds(release.start_seconds),
        ready: seconds(live.ready_seconds),
        still: seconds(live.still_seconds),
        serve: seconds(live.still_seconds),
    }
}
