//! Carrying out what the state machine says.

use std::sync::Arc;

use protocol::device::Activity;
use protocol::{Outcome, Step, messages};
use tokio::task::spawn_blocking;

use super::program::Unstarted;
use super::{Unit, goes_on_waiting};
use crate::backoff::BackOff;
use crate::bus::Teller;
use crate::hub::Tried;
use crate::limits::{RESTART_BASE, RESTART_CAP};
use crate::machine::{Action, Attempt, Cause, Ended, Happening, Life, Word, step};
use crate::order::{Plan, misfit};
use crate::prepare::{misfit_here, surroundings};
use crate::stage;
use crate::trust::{TrustFault, chain};
use crate::world::{CutOff, Point};

impl Unit {
    /// Lets something happen: writes the changed slot down, then carries out what follows from it.
    pub(super) async fn happen(&mut self, first: Happening) -> Result<(), CutOff> {
        self.carry_out(first).await?;
        self.answer_who_took_back();
        Ok(())
    }

    async fn carry_out(&mut self, first: Happening) -> Result<(), CutOff> {
        let mut next = Some(first);
        while let Some(happening) = next.take() {
            let (slot, actions) = match step(self.slot.clone(), happening) {
                Ok(stepped) => stepped,
                Err(misplaced) => {
                    tracing::warn!(target: "drover", component = %self.component, "{misplaced}");
                    return Ok(());
                }
            };
            if slot != self.slot
                && let Err(reason) = self.write(&slot).await?
            {
                if slot.life.needs_writing() && !goes_on_waiting(&self.slot, &slot) {
                    next = self.not_written(&reason);
                    continue;
                }
                tracing::warn!(target: "drover", component = %self.component, reason, "the state cannot be written, it is kept in memory");
                self.mend_later();
            }
            self.slot = slot;
            self.show_waiting();
            // Only now: an order that comes while the end is being written down is not taken.
            if self.slot.life == Life::Idle && std::mem::take(&mut self.hello_due) {
                self.hub.hello_due.notify_one();
            }
            for action in actions {
                if let Some(happening) = self.act(action).await? {
                    next = Some(happening);
                }
                self.hub.world.pass(Point::After(action.name()))?;
            }
        }
        Ok(())
    }

    /// Shows that a release waits, or that none does any more, beside what runs.
    fn show_waiting(&mut self) {
        if self.slot.is_waiting() && self.looks.shown.is_some() {
            self.show_resting();
            if std::mem::take(&mut self.hello_when_shown) {
                self.hub.hello_due.notify_one();
            }
        } else if self.slot.attempt.is_none() || self.slot.life != Life::Staged {
            self.waits_no_more();
        }
    }

    /// A step forward that cannot be written is not taken: the old version stays.
    fn not_written(&mut self, reason: &str) -> Option<Happening> {
        let reason = format!("the next step cannot be written down: {reason}");
        match self.slot.life {
            Life::Preparing => Some(Happening::NotPrepared { reason, bad: false }),
            Life::Notified | Life::Staged | Life::Switching => Some(Happening::NotCleared { reason }),
            Life::Module(_) => Some(Happening::DidNot { reason }),
            Life::Saving => Some(Happening::NotSaved { reason, bad: false }),
            Life::Applying => Some(Happening::NotApplied { reason }),
            _ => {
                if let Some(teller) = self.teller.take() {
                    self.hub
                        .bus
                        .warn(&messages::INSTALL_FAILED, &self.component, &reason);
                    teller.tell_why(Step::Failed, &reason);
                }
                self.show_resting();
                None
            }
        }
    }

    async fn act(&mut self, action: Action) -> Result<Option<Happening>, CutOff> {
        match action {
            Action::Prepare => {
                self.show(Activity::Downloading);
                self.start_preparing();
            }
            Action::Recheck => return Ok(Some(self.recheck().await)),
            Action::Stop if self.slot.is_own() => return Ok(self.leave().await),
            Action::Prove if self.slot.is_own() => return Ok(self.prove_own().await),
            Action::Stop if self.slot.hands_over() => return Ok(Some(self.hand_over().await)),
            Action::Stop => {
                self.stop_for_switch().await;
                return Ok(Some(Happening::Stopped));
            }
            Action::Save => return Ok(self.save_data().await),
            Action::Apply => return Ok(Some(self.apply_data().await)),
            Action::PutBack => return Ok(self.put_back_data().await),
            Action::Start => self.start_for_life().await,
            Action::Prove => {
                let proved = self.prove().await;
                return Ok(proved);
            }
            Action::Fetch => return Ok(self.fetch_for_module().await),
            Action::Call => return Ok(self.call_module().await),
            Action::CleanUp => self.clean_up().await,
            // Where it is not on disk, the report's end waits for it.
            Action::RaiseFloor => drop(self.raise_floor().await),
            Action::Report => return Ok(self.report_end().await),
            Action::Collect => self.collect().await,
        }
        Ok(None)
    }

    /// The last look before anything is stopped, or fetched: still wanted by its author, its conditions met, unchanged on
    /// this disk.
    async fn recheck(&mut self) -> Happening {
        let Some(attempt) = self.slot.attempt.clone() else {
            return Happening::NotCleared {
                reason: "there is nothing to switch to".into(),
            };
        };
        if attempt.cause == Cause::Order {
            match self.hub.trust.look_up(&attempt.to.target).await {
                Ok(found) if found.digest != attempt.to.digest => {
                    return self.drop_staged("its author replaced it meanwhile".into()).await;
                }
                Ok(found) => {
                    if let Some(withdrawn) = &found.release.withdrawn {
                        if let Some(teller) = &self.teller {
                            teller.tell_why(Step::Withdrawn, &withdrawn.reason);
                        }
                        return self
                            .drop_staged(format!(
                                "withdrawn by its author while it was {}: {}",
                                self.slot.life, withdrawn.reason
                            ))
                            .await;
                    }
                    // Others may have changed since it was ordered.
                    let (neighbours, _) = surroundings(&self.hub, &self.component).await;
                    if let Some(reason) = misfit(&found.release, &neighbours) {
                        return Happening::NotCleared { reason };
                    }
                    if let Some(happening) = self.hold_back(&attempt, &found).await {
                        return happening;
                    }
                    if self.slot.life == Life::Notified {
                        self.hub.show_coming(&self.component, &found.release);
                        self.plan = Some(Plan {
                            attempt,
                            length: found.length,
                            release: found.release,
                        });
                        return Happening::Cleared;
                    }
                }
                Err(fault) => return self.drop_staged(chain(&fault)).await,
            }
        } else if let Some(reason) = misfit_here(&self.hub, &self.component, attempt.to.digest).await {
            // Another may have begun to change while the roll back was written down.
            return Happening::NotCleared { reason };
        }
        self.show(Activity::Staging);
        if let Some(reason) = self.data_objection().await {
            return Happening::NotCleared { reason };
        }
        let (hub, digest) = (Arc::clone(&self.hub), attempt.to.digest);
        let checked = spawn_blocking(move || stage::verify(&hub.world.files, &hub.layout, &digest).map(drop));
        match checked.await {
            Ok(Ok(())) => {
                self.verified = Some(digest);
                Happening::Cleared
            }
            Ok(Err(error)) => self.drop_staged(chain(&error)).await,
            Err(error) => Happening::NotCleared {
                reason: error.to_string(),
            },
        }
    }

    /// What must not be activated does not stay, unless it is what a person could roll back to.
    async fn drop_staged(&mut self, reason: String) -> Happening {
        let to = self
            .slot
            .attempt
            .as_ref()
            .filter(|a| a.cause == Cause::Order && self.slot.life != Life::Notified)
            .map(|a| a.to.digest);
        if let Some(digest) = to {
            let removed = self
                .hub
                .long_work(move |hub| hub.world.files.remove_tree(&hub.layout.release(&digest)));
            if let Ok(Err(error)) = removed.await {
                tracing::warn!(target: "drover", error = %chain(&error), "a staged release cannot be removed");
            }
        }
        Happening::NotCleared { reason }
    }

    async fn stop_for_switch(&mut self) {
        let returning = self.slot.life == Life::Returning;
        self.show(if returning {
            Activity::RollingBack
        } else {
            Activity::Switching
        });
        let runs = self.program.is_some();
        let teller = self.teller.clone().filter(|_| runs && !returning);
        if let Some(teller) = &teller {
            teller.tell(Step::Stopping);
        }
        if !returning || !self.hand_back().await {
            self.stop_program().await;
        }
        if returning {
            self.turn_away_waiting();
        }
        // Another version: what the last one did is not held against it.
        self.wait = BackOff::new(RESTART_BASE, RESTART_CAP);
        if let Some(teller) = &teller {
            teller.tell(Step::Stopped);
        }
    }

    async fn start_for_life(&mut self) {
        let trying = self.slot.life == Life::Trying;
        self.restart_at = None;
        if trying && let Some(teller) = &self.teller {
            teller.tell(Step::Switched);
        }
        if trying && self.lacks_data().await {
            self.stop_program().await;
            self.start_failure = Some(Unstarted::of_device(
                "the data that were made for it are not in place",
            ));
        } else {
            self.start_current().await;
        }
        if !trying {
            self.show_resting();
            return;
        }
        // On probation the state machine decides, not the supervisor.
        self.restart_at = None;
        self.show(Activity::Probation);
        if self.program.is_some()
            && let Some(teller) = &self.teller
        {
            teller.tell(Step::Started);
        }
    }

    /// Whether it is on disk, or need not be: where the trusted state is damaged, its repair raises it.
    async fn raise_floor(&mut self) -> bool {
        let Some(current) = &self.slot.current else {
            return true;
        };
        let raised = self
            .hub
            .trust
            .raise_floor(self.component.as_str(), current.counter)
            .await;
        let Err(fault) = raised else { return true };
        tracing::warn!(target: "drover", error = %chain(&fault), "the release floor is not yet on disk");
        !matches!(fault, TrustFault::Keep(_))
    }

    /// Tells how the attempt ended, holds it open until the floor of what was committed is on disk, records and reports
    /// it; none if something must be tried again.
    pub(super) async fn report_end(&mut self) -> Option<Happening> {
        let Life::Ended(ended) = self.slot.life.clone() else {
            return None;
        };
        self.show_resting();
        // Of an attempt that was found to have failed when the agent started nothing was told yet.
        if let (Some(attempt), None) = (&self.slot.attempt, &self.teller) {
            self.teller = Some(self.new_teller(attempt));
        }
        let reported = (self.slot.attempt.clone(), self.teller.clone());
        if let (Some(attempt), Some(_)) = &reported
            && !std::mem::replace(&mut self.told_end, true)
        {
            self.tell_end(attempt, &ended.outcome, ended.reason.as_deref());
            self.line_due = true;
        }
        let settled = !self.slot.is_own() || self.settle_own().await;
        if !settled || ended.outcome == Outcome::Committed && !self.raise_floor().await {
            self.mend_later();
            return None;
        }
        if let (Some(attempt), Some(teller)) = &reported
            && !self.report_attempt(attempt, &ended, teller).await
        {
            self.mend_later();
            return None;
        }
        Some(Happening::Reported)
    }

    /// Whether the report is in the queue.
    async fn report_attempt(&mut self, attempt: &Attempt, ended: &Ended, teller: &Teller) -> bool {
        let line = std::mem::take(&mut self.line_due).then(|| Tried {
            component: self.component.clone(),
            version: attempt.to.version.clone(),
            from: attempt.from.as_ref().map(|from| from.version.clone()),
            digest: attempt.to.digest,
            handed_over: attempt.handed_over,
        });
        let note = attempt.word.as_ref().and_then(Word::note);
        let notes = note.into_iter().chain(attempt.note.clone());
        let reason: Vec<String> = notes.chain(ended.reason.clone()).collect();
        let reason = (!reason.is_empty()).then(|| reason.join("; "));
        let end = (attempt.update, ended.outcome, reason);
        if let Err(error) = self.hub.write_down(line, end, teller).await {
            tracing::warn!(target: "drover", error = %chain(&error), "the report cannot be kept, it is tried again");
            return false;
        }
        self.teller = None;
        match ended.outcome {
            Outcome::Failed if attempt.cause == Cause::Order => self.retry_later(attempt.update),
            _ => {
                self.retry_wait.reset();
                self.hello_due = true;
            }
        }
        true
    }

    fn tell_end(&self, attempt: &Attempt, outcome: &Outcome, reason: Option<&str>) {
        let Some(teller) = &self.teller else { return };
        let what = format!("{} {}", self.component, attempt.to.version);
        let step = match outcome {
            Outcome::Committed => Step::Committed,
            Outcome::RolledBack => Step::RolledBack,
            Outcome::Failed => Step::Failed,
            Outcome::Refused => Step::Refused,
        };
        match reason {
            None => {
                self.hub.bus.say(&messages::INSTALLED, what);
                teller.tell(step);
            }
            Some(reason) => {
                let by_hand = self.slot.held && *outcome == Outcome::RolledBack;
                let gone = match attempt.cause {
                    Cause::Order => Some(&attempt.to),
                    Cause::ByHand => attempt.from.as_ref(),
                };
                match gone.filter(|_| by_hand) {
                    Some(gone) => {
                        let what = format!("{} {}", self.component, gone.version);
                        self.hub.bus.warn(&messages::ROLLED_BACK_BY_HAND, what, reason);
                    }
                    None => self.hub.bus.warn(&messages::INSTALL_FAILED, what, reason),
                }
                teller.tell_why(step, reason);
            }
        }
    }

    async fn collect(&mut self) {
        let collected = self.hub.long_work(|hub| {
            let mut needed = hub.generation.needed();
            needed.extend(hub.slots.load().map_err(|error| chain(&error))?.releases());
            stage::collect(&hub.world.files, &hub.layout, &needed).map_err(|error| chain(&error))?;
            hub.store.collect(&needed).map_err(|error| chain(&error))?;
            hub.generation.save_copy().map_err(|error| chain(&error))
        });
        if let Ok(Err(error)) = collected.await {
            tracing::warn!(target: "drover", error, "old releases cannot be collected");
            return;
        }
        if !self.drop_kept_data().await {
            self.mend_later();
        }
    }

    /// What a component shows when nothing is under way.
    pub(super) fn show_resting(&self) {
        let activity = match (&self.slot.current, &self.program) {
            (None, _) => Activity::Empty,
            // It is there; no program of it runs here.
            (Some(current), _) if !current.kind.is_supervised() => Activity::Running,
            (Some(_), Some(_)) if self.wait.failures() < crate::limits::LOOP_BREAKER => Activity::Running,
            (Some(_), _) => Activity::Failing,
        };
        self.show(activity);
    }
}

impl Action {
    /// Its name, for tests that cut after it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Recheck => "recheck",
            Self::Stop => "stop",
            Self::Save => "save",
            Self::Apply => "apply",
            Self::PutBack => "put-back",
            Self::Start => "start",
            Self::Prove => "prove",
            Self::Fetch => "fetch",
            Self::Call => "call",
            Self::CleanUp => "clean-up",
            Self::RaiseFloor => "raise-floor",
            Self::Report => "report",
            Self::Collect => "collect",
        }
    }
}
