//! The states of an update module, as the install life knows them.
//!
//! Source: Mender's Update Module protocol, version 3 (`Documentation/update-modules-v3-file-api.md`).

use protocol::Outcome;
use serde::{Deserialize, Serialize};

use super::{Action, Cause, Slot, end, remember_bad, why_failed};
use crate::limits::MAX_MODULE_RESTARTS;

/// What an update module is being called for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// `ArtifactInstall`, then `NeedsArtifactReboot`.
    Install,
    /// `ArtifactReboot`, or the agent reboots the machine.
    Reboot,
    /// `ArtifactVerifyReboot`.
    Verify,
    /// `ArtifactCommit`.
    Commit,
    /// `ArtifactRollback`.
    Undo,
    /// `ArtifactRollbackReboot`, or the agent reboots the machine.
    UndoReboot,
    /// `ArtifactVerifyRollbackReboot`.
    UndoVerify,
    /// `ArtifactFailure`.
    Failure,
}

/// A module's answer to `NeedsArtifactReboot`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reboot {
    /// Nothing is rebooted.
    #[default]
    No,
    /// The module reboots what it must when it is called for it.
    Yes,
    /// The agent reboots the machine.
    Automatic,
}

/// What an update module has said during one change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answers {
    /// It can roll back (`SupportsRollback`).
    #[serde(default)]
    pub undoes: bool,
    /// What it wanted rebooted once it had installed.
    #[serde(default)]
    pub reboot: Reboot,
    /// How often was rebooted to roll back.
    #[serde(default)]
    pub undo_reboots: u32,
    /// Why it could not roll back.
    #[serde(default)]
    pub broken: Option<String>,
}

impl Phase {
    /// The state's name in the protocol.
    #[must_use]
    pub fn state(self) -> &'static str {
        match self {
            Self::Install => "ArtifactInstall",
            Self::Reboot => "ArtifactReboot",
            Self::Verify => "ArtifactVerifyReboot",
            Self::Commit => "ArtifactCommit",
            Self::Undo => "ArtifactRollback",
            Self::UndoReboot => "ArtifactRollbackReboot",
            Self::UndoVerify => "ArtifactVerifyRollbackReboot",
            Self::Failure => "ArtifactFailure",
        }
    }

    /// The name of the life in which it is called.
    pub(super) fn life(self) -> &'static str {
        match self {
            Self::Install => "module-install",
            Self::Reboot => "module-reboot",
            Self::Verify => "module-verify",
            Self::Commit => "module-commit",
            Self::Undo => "module-undo",
            Self::UndoReboot => "module-undo-reboot",
            Self::UndoVerify => "module-undo-verify",
            Self::Failure => "module-failure",
        }
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.state())
    }
}

/// What a restart in the middle of a module's work leads to, by the protocol: after a reboot it is asked whether that
/// went well; everything else that was cut off has failed; what undoes is done again.
pub(super) fn resume(mut slot: Slot, phase: Phase, restarts: u32) -> (Slot, Vec<Action>) {
    match phase {
        Phase::Install | Phase::Verify | Phase::Commit => {
            let reason = format!("the machine or the agent restarted in its {phase}");
            fail(slot, &reason)
        }
        Phase::Reboot => slot.call(Phase::Verify),
        Phase::Failure if restarts > MAX_MODULE_RESTARTS => give_up(slot),
        Phase::Undo | Phase::UndoReboot | Phase::UndoVerify if restarts > MAX_MODULE_RESTARTS => {
            let broken = format!("given up after {restarts} restarts in its {phase}");
            slot.answered(|answers| answers.broken = Some(broken));
            slot.call(Phase::Failure)
        }
        Phase::UndoReboot => {
            slot.answered(|answers| answers.undo_reboots = answers.undo_reboots.saturating_add(1));
            slot.call(Phase::UndoVerify)
        }
        Phase::Undo | Phase::UndoVerify | Phase::Failure => slot.call(phase),
    }
}

/// The module failed before its work was committed: it undoes it, if it can.
pub(super) fn fail(mut slot: Slot, reason: &str) -> (Slot, Vec<Action>) {
    remember_bad(&mut slot, reason);
    let next = if slot.answers().undoes {
        Phase::Undo
    } else {
        Phase::Failure
    };
    slot.call(next)
}

/// The module has nothing more to do: the pointer goes back, or names nothing where nobody knows what is installed.
pub(super) fn give_up(mut slot: Slot) -> (Slot, Vec<Action>) {
    let attempt = slot.attempt.clone();
    let why = why_failed(&slot);
    let answers = slot.answers();
    let unknown = match answers.broken {
        Some(broken) => Some(format!("rolling back failed too: {broken}")),
        None if !answers.undoes => Some("its module cannot roll back".to_owned()),
        None => None,
    };
    if let Some(unknown) = unknown {
        slot.current = None;
        let reason = format!("{why}; {unknown}; what is installed now is inconsistent");
        return end(slot, Outcome::Failed, Some(reason), vec![Action::Report]);
    }
    let outcome = match attempt.as_ref().map(|attempt| attempt.cause) {
        Some(Cause::ByHand) => Outcome::Failed,
        _ => Outcome::RolledBack,
    };
    slot.current = attempt.and_then(|attempt| attempt.from);
    let reason = match &slot.current {
        Some(old) => format!("{why}; its module rolled back to {}", old.version),
        None => format!("{why}; its module rolled back, nothing was installed before"),
    };
    end(slot, outcome, Some(reason), vec![Action::Report])
}
