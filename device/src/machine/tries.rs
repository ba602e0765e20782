//! How often an update was tried in vain, and what is not held against it.

use protocol::{Outcome, UpdateId};

use super::{Action, Life, Slot, back_to_notified, end, remember_bad};
use crate::limits::{MAX_EXCUSES, MAX_RESTARTS};

/// What was noted of this update; nothing of another.
fn noted<T: Default>(note: Option<(UpdateId, T)>, update: UpdateId) -> T {
    note.filter(|(known, _)| *known == update)
        .map(|(_, value)| value)
        .unwrap_or_default()
}

/// Nothing was touched yet: the order will come again; but not for ever, if preparing it kills the agent.
pub(super) fn cut_off(mut slot: Slot) -> (Slot, Vec<Action>) {
    let Some(update) = slot.attempt.as_ref().map(|attempt| attempt.update) else {
        slot.life = Life::Idle;
        return (slot, vec![Action::Start, Action::Collect]);
    };
    let count = noted(slot.interrupted, update).saturating_add(1);
    slot.interrupted = Some((update, count));
    if count > MAX_RESTARTS {
        let reason = format!("the agent was cut off {count} times while preparing this release");
        remember_bad(&mut slot, &reason);
        return end(
            slot,
            Outcome::Failed,
            Some(reason),
            vec![Action::Start, Action::Report],
        );
    }
    if back_to_notified(&mut slot) {
        return (slot, vec![Action::Start, Action::Recheck]);
    }
    slot.life = Life::Idle;
    slot.attempt = None;
    (slot, vec![Action::Start])
}

/// Whether a failure is not held against the release: a few times for one update.
pub(super) fn excuse(slot: &mut Slot, reason: &str) -> bool {
    let Some(attempt) = &mut slot.attempt else {
        return false;
    };
    let before = noted(slot.excused, attempt.update);
    if before >= MAX_EXCUSES {
        return false;
    }
    slot.excused = Some((attempt.update, before + 1));
    attempt.excuse = Some(reason.to_owned());
    true
}
