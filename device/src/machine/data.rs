//! What becomes of a component's data when its version changes.
//!
//! ```text
//! switching → saving → applying → trying → ended
//!                │         │         └──→ returning → restoring → ended
//!                └─────────┴─────────────────────────→ restoring → ended
//! ```
//!
//! The new version gets a copy; what the old one left is set aside as it is until the new one is committed, and takes
//! its place again before the old one starts. Saving and applying happen while neither runs. Cut off while it saves, the
//! agent throws the copy away and begins again with the old version; cut off later it goes on where it was.

use protocol::Outcome;
use release::PayloadPath;
use serde::{Deserialize, Serialize};

use super::{Action, Life, Slot, end, give_back, remember_bad};
use crate::limits::MAX_RESTARTS;

/// A change of the data that goes with a change of the version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataChange {
    /// The part of the data folder that is saved; none: all of it.
    #[serde(default)]
    pub folder: Option<PayloadPath>,
    /// The schema that the old version writes.
    pub from: u32,
    /// The schema that the new version writes.
    pub to: u32,
}

impl Slot {
    /// The change of data that goes with what is under way.
    #[must_use]
    pub fn data_change(&self) -> Option<&DataChange> {
        self.attempt.as_ref()?.data.as_ref()
    }
}

/// The old version has stopped: its data are looked after before the new one starts.
pub(super) fn save(mut slot: Slot) -> (Slot, Vec<Action>) {
    slot.life = Life::Saving;
    (slot, vec![Action::Save])
}

/// The new version's data are whole and durable beside the old one's.
pub(super) fn apply(mut slot: Slot) -> (Slot, Vec<Action>) {
    slot.life = Life::Applying;
    (slot, vec![Action::Apply])
}

/// There are no data for the new version: what was made of them goes away, the old version's are as they were.
pub(super) fn not_saved(mut slot: Slot, reason: String, bad: bool) -> (Slot, Vec<Action>) {
    if bad {
        remember_bad(&mut slot, &reason);
        return put_back(slot, None);
    }
    put_back(slot, Some(reason))
}

/// The old version's data take their place again; `reason`: why, where the new version is not to blame.
pub(super) fn put_back(mut slot: Slot, reason: Option<String>) -> (Slot, Vec<Action>) {
    slot.life = Life::Restoring(reason);
    (slot, vec![Action::PutBack])
}

/// The old version's data are where they were.
pub(super) fn restored(slot: Slot, reason: Option<String>) -> (Slot, Vec<Action>) {
    match reason {
        None => give_back(slot),
        Some(_) => {
            let actions = vec![Action::Start, Action::Report];
            end(slot, Outcome::Failed, reason, actions)
        }
    }
}

/// What a restart while data were applied leads to.
pub(super) fn resume(slot: Slot, restarts: u32) -> (Slot, Vec<Action>) {
    if restarts > MAX_RESTARTS {
        let reason = format!("given up after {restarts} restarts in the middle of changing its data");
        return put_back(slot, Some(reason));
    }
    (slot, vec![Action::Apply])
}
