//! The install life of one component, as a pure state machine.
//!
//! One match over (life, happening); everything that is not in it is refused. The driver (`unit`) writes
//! the slot down before it carries out the actions, so that after a crash [`Happening::Restarted`] finishes
//! or undoes from whatever was written: the old or the new version runs, never neither and never both.
//!
//! ```text
//! idle → (notified →) preparing → staged → switching → trying → ended → idle
//!            │           │          │         │          └──→ returning ──→ ended
//!            └───────────┴──────────┴─────────┴───────────────────────────→ ended
//! ```
//!
//! A release waits in `staged` until its conditions are met ([`Happening::Waits`]), and in `notified`, before anything is
//! fetched, where the site wants to be asked first. Meanwhile the old version is looked after as ever.
//!
//! What an update module installs runs no program: from `switching` on it goes through the module's states instead
//! (`Life::Module`), where each call of the module is an action and its outcome a happening.
//!
//! ```text
//! switching → install → (reboot → verify →) commit → ended
//!                │           any of these, failed or cut off
//!                └→ (undo → (undo-reboot → undo-verify →)) failure → ended
//! ```
//!
//! What the agent itself is installs nobody looks after but its launcher (`own`): the old agent ends in `switching`, the
//! new one goes on in `trying`.
//!
//! Where the release has a `[state]`, the data are saved between `switching` and `trying` (`machine::data`).
//!
//! A live program hands over to its next version between `switching` and `trying`, where it can (`machine::live`); its way
//! back is the same.
//!
//! The pointer (`current`) names the new version from `trying` on; it is in the same record as the life, so
//! they can never disagree.

mod data;
mod happening;
mod live;
mod module;
mod own;
pub mod set;
mod slot;
mod tries;
mod wait;

use protocol::{Event, Outcome, Stamp, UpdateId};
use release::{Kind, TargetPath, Version};
use serde::{Deserialize, Serialize};
use tuf::Digest;

use crate::limits::{MAX_BAD, MAX_RESTARTS, MAX_UNDO_REBOOTS};
pub use data::DataChange;
pub use happening::{Action, Happening};
pub use module::{Answers, Phase, Reboot};
use module::{fail, give_up, resume};
pub use own::Awake;
use tries::{cut_off, excuse};
pub use wait::{Wait, Word};

/// A release that is, was, or is to be installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// SHA-256 of its target; names its folder.
    pub digest: Digest,
    /// Its version.
    pub version: Version,
    /// Its release counter.
    pub counter: u64,
    /// The author's id of the update that brought it.
    pub update: UpdateId,
    /// Its name in the signed metadata.
    pub target: TargetPath,
    /// How it is installed.
    #[serde(default)]
    pub kind: Kind,
}

/// Why a version that a person rolled back on its probation is remembered as bad.
const BY_HAND: &str = "rolled back by hand";

/// A digest that failed here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bad {
    /// Which.
    pub digest: Digest,
    /// The version it carried.
    pub version: Version,
    /// What it did.
    pub reason: String,
}

/// Who wants the change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The manager ordered it.
    Order,
    /// A person went back by hand.
    ByHand,
}

/// A change under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Its id in all programs.
    pub update: UpdateId,
    /// Who wants it.
    pub cause: Cause,
    /// What shall run.
    pub to: Installed,
    /// What ran before, and runs again if the new one fails.
    pub from: Option<Installed>,
    /// How often the agent or the machine has restarted meanwhile.
    pub restarts: u32,
    /// When it began.
    pub began: Stamp,
    /// Its steps so far, for the report.
    pub events: Vec<Event>,
    /// What its update module has said so far, if one installs it.
    #[serde(default)]
    pub answers: Answers,
    /// Since when it waits, or has waited, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Wait>,
    /// What a person has said of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub word: Option<Word>,
    /// What becomes of its data; none: they are left alone.
    #[serde(default)]
    pub data: Option<DataChange>,
    /// What else the report tells: how a live program was handed over, or why it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The program before gave all it had to this one's while it ran; none: it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handed_over: Option<HandedOver>,
    /// Why it failed, where that is not held against the release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excuse: Option<String>,
}

/// A program gave all it had to its next version's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandedOver {
    /// Milliseconds in which nobody was served, rounded up; none: that was not measured.
    #[serde(default)]
    pub pause_ms: Option<u64>,
}

/// How a change ended, kept until its report is in the queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// How.
    pub outcome: Outcome,
    /// Why, where it did not end well.
    pub reason: Option<String>,
}

/// Where a component stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Life {
    /// Nothing under way.
    #[default]
    Idle,
    /// Ordered and told; nothing is fetched until a person says so.
    Notified,
    /// Bytes arrive, are verified and unpacked; the running version is not touched.
    Preparing,
    /// The new release is on disk, whole and durable; the old one runs.
    Staged,
    /// The old one is being stopped; the pointer still names it.
    Switching,
    /// Neither runs; the new version's data are being made beside the old one's. The pointer names the old one.
    Saving,
    /// Neither runs; the new version's data take the place of the old one's. The pointer names the old one.
    Applying,
    /// The pointer names the new one, which has to prove itself.
    Trying,
    /// The new one failed and is being stopped; the pointer still names it.
    Returning,
    /// Neither runs; the old version's data take their place again. Why, where the new one is not to blame.
    Restoring(Option<String>),
    /// The pointer names the new one, which its update module installs or undoes.
    Module(Phase),
    /// Decided; the report is not yet in the queue.
    Ended(Ended),
}

/// All that is remembered of one component.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// The pointer: what runs.
    pub current: Option<Installed>,
    /// What a roll back by hand would return to.
    pub previous: Option<Installed>,
    /// Where it stands.
    pub life: Life,
    /// The change under way; none while idle.
    pub attempt: Option<Attempt>,
    /// What failed here, newest last.
    #[serde(default)]
    pub bad: Vec<Bad>,
    /// Rolled back by hand and held there.
    #[serde(default)]
    pub held: bool,
    /// How often preparing this update was cut off by a restart once all of it was fetched.
    #[serde(default)]
    pub interrupted: Option<(UpdateId, u32)>,
    /// How often this update failed without being to blame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excused: Option<(UpdateId, u32)>,
}

/// A happening that has no place in this life.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{happening} has no place while {life}")]
pub struct Misplaced {
    life: String,
    happening: &'static str,
}

/// A slot that changed, and what to do about it.
pub type Stepped = Result<(Slot, Vec<Action>), Misplaced>;

/// One step of the life: the only place where a slot's life, pointer and memory change.
///
/// # Errors
/// The happening does not fit the life; nothing is to be done.
pub fn step(mut slot: Slot, happening: Happening) -> Stepped {
    use Action as A;
    use Happening as H;
    match (slot.life.clone(), happening) {
        (Life::Idle, H::Ordered(attempt)) => {
            if slot
                .interrupted
                .is_some_and(|(update, _)| update != attempt.update)
            {
                slot.interrupted = None;
            }
            slot.attempt = Some(Attempt {
                from: slot.current.clone(),
                ..attempt
            });
            slot.life = Life::Preparing;
            Ok((slot, vec![A::Prepare]))
        }
        (Life::Idle, H::Announced(attempt)) => {
            slot.attempt = Some(Attempt {
                from: slot.current.clone(),
                ..attempt
            });
            slot.life = Life::Notified;
            Ok((slot, vec![A::Recheck]))
        }
        (Life::Notified, H::Cleared) => {
            slot.life = Life::Preparing;
            Ok((slot, vec![A::Prepare]))
        }
        (Life::Notified | Life::Staged, H::Waits(wait)) => {
            if let Some(attempt) = &mut slot.attempt {
                attempt.wait = Some(wait);
                // The look before the switch came to its end: no restart is held against it.
                attempt.restarts = 0;
            }
            Ok((slot, vec![]))
        }
        (Life::Notified | Life::Staged, H::LookDue) if slot.is_waiting() => Ok((slot, vec![A::Recheck])),
        (Life::Notified | Life::Staged, H::Said(word)) if slot.is_waiting() => {
            if let Some(attempt) = &mut slot.attempt {
                attempt.word = Some(word);
            }
            Ok((slot, vec![A::Recheck]))
        }
        // Its author does not want it any more, as long as nobody allows updates again.
        (Life::Notified | Life::Staged, H::GivenUp { reason }) => {
            remember_bad(&mut slot, &reason);
            let actions = vec![A::Start, A::Report];
            Ok(end(slot, Outcome::Refused, Some(reason), actions))
        }
        (Life::Idle, H::RolledBackByHand(attempt)) => {
            slot.attempt = Some(Attempt {
                from: slot.current.clone(),
                ..attempt
            });
            slot.life = Life::Staged;
            Ok((slot, vec![A::Recheck]))
        }
        (Life::Preparing, H::Prepared) => {
            slot.life = Life::Staged;
            Ok((slot, vec![A::Recheck]))
        }
        // Of bytes that nobody has looked at none is what cuts the agent off, however often the power goes.
        (Life::Preparing, H::Fetching) => {
            slot.interrupted = None;
            Ok((slot, vec![]))
        }
        (Life::Preparing, H::NotPrepared { reason, bad }) => {
            if bad {
                remember_bad(&mut slot, &reason);
            }
            Ok(end(slot, Outcome::Failed, Some(reason), vec![A::Report]))
        }
        // Unlike after a crash nothing speaks against the release: its order comes again.
        (Life::Preparing, H::PutOff) => {
            if !back_to_notified(&mut slot) {
                slot.life = Life::Idle;
                slot.attempt = None;
            }
            Ok((slot, vec![]))
        }
        (Life::Staged, H::Cleared) => {
            slot.life = Life::Switching;
            let next = if slot.has_module() { A::Fetch } else { A::Stop };
            Ok((slot, vec![next]))
        }
        (Life::Notified | Life::Staged | Life::Switching, H::NotCleared { reason }) => Ok(end(
            slot,
            Outcome::Failed,
            Some(reason),
            vec![A::Start, A::Report],
        )),
        (Life::Switching, H::HandedOver { note, pause_ms }) => Ok(live::handed_over(slot, note, pause_ms)),
        (Life::Switching, H::NotHandedOver { reason, bad }) => Ok(live::not_handed_over(slot, reason, bad)),
        (Life::Switching, H::CannotHandOver { note }) => Ok(live::cannot(slot, note)),
        (Life::Switching, H::Stopped) if slot.data_change().is_some() => Ok(data::save(slot)),
        (Life::Saving, H::Saved) => Ok(data::apply(slot)),
        (Life::Saving, H::NotSaved { reason, bad }) => Ok(data::not_saved(slot, reason, bad)),
        (Life::Applying, H::NotApplied { reason }) => Ok(data::put_back(slot, Some(reason))),
        (Life::Restoring(reason), H::Restored) => Ok(data::restored(slot, reason)),
        (Life::Switching, H::Stopped) | (Life::Applying, H::Applied) => {
            slot.current = slot.attempt.as_ref().map(|attempt| attempt.to.clone());
            slot.life = Life::Trying;
            Ok((slot, vec![A::Start, A::Prove]))
        }
        (Life::Switching, H::Fetched { undoes }) if slot.has_module() => {
            if let Some(attempt) = &mut slot.attempt {
                attempt.answers = Answers {
                    undoes,
                    ..Answers::default()
                };
                slot.current = Some(attempt.to.clone());
            }
            Ok(slot.call(Phase::Install))
        }
        (Life::Module(Phase::Install), H::Did { reboot: Reboot::No }) => Ok(slot.call(Phase::Commit)),
        (Life::Module(Phase::Install), H::Did { reboot }) => {
            slot.answered(|answers| answers.reboot = reboot);
            Ok(slot.call(Phase::Reboot))
        }
        (Life::Module(Phase::Reboot), H::Did { .. }) => Ok(slot.call(Phase::Verify)),
        (Life::Module(Phase::Verify), H::Did { .. }) => Ok(slot.call(Phase::Commit)),
        (Life::Module(Phase::Commit), H::Did { .. }) => Ok(commit(slot)),
        (
            Life::Module(Phase::Install | Phase::Reboot | Phase::Verify | Phase::Commit),
            H::DidNot { reason },
        ) => Ok(fail(slot, &reason)),
        (Life::Module(Phase::Undo), H::Did { .. }) if slot.answers().reboot != Reboot::No => {
            Ok(slot.call(Phase::UndoReboot))
        }
        // What a reboot did is asked after it, however it ended.
        (Life::Module(Phase::UndoReboot), H::Did { .. } | H::DidNot { .. }) => {
            slot.answered(|answers| answers.undo_reboots = answers.undo_reboots.saturating_add(1));
            Ok(slot.call(Phase::UndoVerify))
        }
        (Life::Module(Phase::UndoVerify), H::DidNot { .. })
            if slot.answers().undo_reboots < MAX_UNDO_REBOOTS =>
        {
            Ok(slot.call(Phase::UndoReboot))
        }
        (Life::Module(Phase::Undo | Phase::UndoVerify), H::Did { .. }) => Ok(slot.call(Phase::Failure)),
        (Life::Module(Phase::Undo | Phase::UndoVerify), H::DidNot { reason }) => {
            slot.answered(|answers| answers.broken = Some(reason));
            Ok(slot.call(Phase::Failure))
        }
        (Life::Module(Phase::Failure), H::Did { .. } | H::DidNot { .. }) => Ok(give_up(slot)),
        (Life::Trying, H::Passed) => Ok(commit(slot)),
        (Life::Trying, H::Unhealthy { reason }) => {
            remember_bad(&mut slot, &reason);
            slot.life = Life::Returning;
            Ok((slot, vec![A::Stop]))
        }
        // Its order comes again, but not for ever: each time the old version is stopped for it.
        (Life::Trying, H::Hindered { reason }) => {
            if !excuse(&mut slot, &reason) {
                remember_bad(&mut slot, &reason);
            }
            slot.life = Life::Returning;
            Ok((slot, vec![A::Stop]))
        }
        (Life::Trying, H::TakenBack) if slot.tries_an_order() => {
            remember_bad(&mut slot, BY_HAND);
            slot.held = true;
            slot.life = Life::Returning;
            Ok((slot, vec![A::Stop]))
        }
        (Life::Returning, H::Stopped) if slot.data_change().is_some() => Ok(data::put_back(slot, None)),
        (Life::Returning, H::Stopped) => Ok(give_back(slot)),
        (Life::Ended(_), H::Reported) => {
            slot.life = Life::Idle;
            slot.attempt = None;
            Ok((slot, vec![A::Collect]))
        }
        (_, H::Restarted) => Ok(recover(slot)),
        (_, H::Awoke(awake)) => Ok(own::awake(slot, &awake)),
        (Life::Idle | Life::Notified | Life::Staged | Life::Ended(_), H::Released) => {
            slot.held = false;
            slot.bad.clear();
            (slot.interrupted, slot.excused) = (None, None);
            Ok((slot, vec![]))
        }
        (life, happening) => Err(Misplaced {
            life: life.to_string(),
            happening: happening.name(),
        }),
    }
}

/// What a start of the agent makes of what it finds.
fn recover(mut slot: Slot) -> (Slot, Vec<Action>) {
    use Action as A;
    let restarts = slot.attempt.as_mut().map_or(0, |attempt| {
        attempt.restarts = attempt.restarts.saturating_add(1);
        attempt.restarts
    });
    match slot.life.clone() {
        Life::Idle => (slot, vec![A::Start, A::Collect]),
        Life::Notified => (slot, vec![A::Start, A::Recheck]),
        Life::Preparing => cut_off(slot),
        Life::Staged | Life::Switching | Life::Saving if restarts > MAX_RESTARTS => {
            let reason = format!("given up after {restarts} restarts in the middle of switching");
            end(slot, Outcome::Failed, Some(reason), vec![A::Start, A::Report])
        }
        Life::Staged | Life::Switching | Life::Saving => {
            slot.life = Life::Staged;
            (slot, vec![A::Start, A::Recheck])
        }
        Life::Applying => data::resume(slot, restarts),
        Life::Restoring(reason) => data::put_back(slot, reason),
        Life::Trying if restarts > MAX_RESTARTS => {
            let reason =
                format!("the machine or the agent restarted {restarts} times while it was on probation");
            remember_bad(&mut slot, &reason);
            slot.life = Life::Returning;
            (slot, vec![A::Stop])
        }
        Life::Trying => (slot, vec![A::Start, A::Prove]),
        Life::Returning => (slot, vec![A::Stop]),
        Life::Module(phase) => resume(slot, phase, restarts),
        // The floor may not have been raised yet; raising it twice does no harm.
        Life::Ended(Ended {
            outcome: Outcome::Committed,
            ..
        }) => with_clean_up(slot, vec![A::Start, A::RaiseFloor, A::Report]),
        Life::Ended(_) => with_clean_up(slot, vec![A::Start, A::Report]),
    }
}

fn with_clean_up(slot: Slot, mut actions: Vec<Action>) -> (Slot, Vec<Action>) {
    if slot.has_module() {
        actions.insert(0, Action::CleanUp);
    }
    (slot, actions)
}

/// What a person has let in before it was fetched needs no second word: preparing begins anew from there.
fn back_to_notified(slot: &mut Slot) -> bool {
    let told = slot
        .attempt
        .as_ref()
        .is_some_and(|attempt| attempt.wait.is_some());
    if told {
        slot.life = Life::Notified;
    }
    told
}

fn commit(mut slot: Slot) -> (Slot, Vec<Action>) {
    let Some(attempt) = slot.attempt.clone() else {
        return end(slot, Outcome::Committed, None, vec![Action::Report]);
    };
    slot.interrupted = None;
    match attempt.cause {
        Cause::Order => {
            slot.previous = attempt.from;
            slot.bad.retain(|bad| bad.digest != attempt.to.digest);
            end(
                slot,
                Outcome::Committed,
                None,
                vec![Action::RaiseFloor, Action::Report],
            )
        }
        Cause::ByHand => {
            slot.previous = None;
            slot.held = true;
            let reason = format!(
                "rolled back by hand to {}; held there until it is released",
                attempt.to.version
            );
            end(slot, Outcome::RolledBack, Some(reason), vec![Action::Report])
        }
    }
}

/// The pointer goes back to what ran before; nothing, if nothing did.
fn give_back(mut slot: Slot) -> (Slot, Vec<Action>) {
    let attempt = slot.attempt.clone();
    let why = why_failed(&slot);
    let outcome = match &attempt {
        Some(attempt) if attempt.cause == Cause::ByHand || attempt.excuse.is_some() => Outcome::Failed,
        _ => Outcome::RolledBack,
    };
    slot.current = attempt.and_then(|attempt| attempt.from);
    let reason = match &slot.current {
        Some(old) if slot.held => {
            format!(
                "{why}; {} runs again, held there until it is released",
                old.version
            )
        }
        Some(old) => format!("{why}; {} runs again", old.version),
        None => {
            let runs = own::back_to(&slot).unwrap_or("nothing was installed before, so nothing runs");
            format!("{why}; {runs}")
        }
    };
    end(slot, outcome, Some(reason), vec![Action::Start, Action::Report])
}

/// Why the version that was tried is remembered as bad, or is not.
fn why_failed(slot: &Slot) -> String {
    if let Some(excuse) = slot.attempt.as_ref().and_then(|attempt| attempt.excuse.clone()) {
        return excuse;
    }
    let failed = slot.attempt.as_ref().map(|attempt| attempt.to.digest);
    slot.bad
        .iter()
        .rev()
        .find(|bad| Some(bad.digest) == failed)
        .map_or_else(|| "the new version failed".to_owned(), |bad| bad.reason.clone())
}

fn end(
    mut slot: Slot,
    outcome: Outcome,
    reason: Option<String>,
    actions: Vec<Action>,
) -> (Slot, Vec<Action>) {
    slot.life = Life::Ended(Ended { outcome, reason });
    with_clean_up(slot, actions)
}

fn remember_bad(slot: &mut Slot, reason: &str) {
    let Some(to) = slot.attempt.as_ref().map(|attempt| attempt.to.clone()) else {
        return;
    };
    slot.bad.retain(|bad| bad.digest != to.digest);
    slot.bad.push(Bad {
        digest: to.digest,
        version: to.version,
        reason: reason.to_owned(),
    });
    let surplus = slot.bad.len().saturating_sub(MAX_BAD);
    slot.bad.drain(..surplus);
}

#[cfg(test)]
#[path = "machine/data_tests.rs"]
mod data_tests;
#[cfg(test)]
#[path = "machine/excuse_tests.rs"]
mod excuse_tests;
#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
#[cfg(test)]
#[path = "machine_wait_tests.rs"]
mod wait_tests;
