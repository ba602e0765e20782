//! What can happen to a component, and what is to be done about it.

use super::{Attempt, Awake, Reboot, Wait, Word};

/// What can happen to a component.
#[derive(Debug, Clone)]
pub enum Happening {
    /// An order passed every check that needs no bytes.
    Ordered(Attempt),
    /// The same where the site wants to be asked before anything is fetched.
    Announced(Attempt),
    /// A person wants the previous version back.
    RolledBackByHand(Attempt),
    /// The new release is on disk, whole and durable.
    Prepared,
    /// An agent that has just started found that not all bytes of the release are here yet.
    Fetching,
    /// It could not be brought here; `bad`: because of what it is, not because of where we are.
    NotPrepared {
        /// Why.
        reason: String,
        /// Whether its digest is to be remembered as bad.
        bad: bool,
    },
    /// Checked against the newest metadata: it may still be activated.
    Cleared,
    /// Checked too: not yet, because of its conditions, or because a person has not spoken.
    Waits(Wait),
    /// What it waits for may have changed.
    LookDue,
    /// A person says that it is to be installed.
    Said(Word),
    /// Its conditions did not come true in time, and its author gives it up then.
    GivenUp {
        /// Which ones.
        reason: String,
    },
    /// The staged release must not be activated: withdrawn, changed on disk, or not to be written down.
    NotCleared {
        /// Why.
        reason: String,
    },
    /// The version that was to be stopped is gone.
    Stopped,
    /// The running program gave all it has to the new version's, which serves.
    HandedOver {
        /// What the report says of it.
        note: String,
        /// Milliseconds in which nobody was served; none: that was not measured.
        pause_ms: Option<u64>,
    },
    /// It did not come to that: the old program serves as before. `bad`: because of what the release is.
    NotHandedOver {
        /// Why.
        reason: String,
        /// Whether its digest is to be remembered as bad.
        bad: bool,
    },
    /// The running program cannot hand over: it is stopped instead.
    CannotHandOver {
        /// What the report says of it.
        note: String,
    },
    /// The new version's data are ready, whole and durable.
    Saved,
    /// They could not be made; the old version's are as they were. `bad`: because of what the release is.
    NotSaved {
        /// Why.
        reason: String,
        /// Whether its digest is to be remembered as bad.
        bad: bool,
    },
    /// The new version's data are in place, the old one's set aside.
    Applied,
    /// They could not take their place.
    NotApplied {
        /// Why.
        reason: String,
    },
    /// The old version's data are where they were.
    Restored,
    /// The new one was healthy through its probation.
    Passed,
    /// The new one could not be started, died, or was not healthy.
    Unhealthy {
        /// What it did, with its last words.
        reason: String,
    },
    /// The new one did not come to be well, but this device is to blame: its disk was full or failed.
    Hindered {
        /// What went wrong.
        reason: String,
    },
    /// The module has its files; `undoes`: it can roll back what it will do with them.
    Fetched {
        /// Its answer to `SupportsRollback`.
        undoes: bool,
    },
    /// The module was called for its phase and ended well; in the phase of installing, with what it then wants.
    Did {
        /// Its answer to `NeedsArtifactReboot`.
        reboot: Reboot,
    },
    /// The module failed in its phase, or could not be called.
    DidNot {
        /// What it did, with its last words.
        reason: String,
    },
    /// A person does not want the new one, while it still proves itself.
    TakenBack,
    /// The agent ends in good order before the release is here.
    PutOff,
    /// The report is in the queue.
    Reported,
    /// The agent has started and read the slot.
    Restarted,
    /// The same, where the slot is about the agent itself.
    Awoke(Awake),
    /// A person lifts the hold and forgives what failed.
    Released,
}

/// What the driver has to do, in order, once the slot is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Download, verify, stage; then `Prepared` or `NotPrepared`.
    Prepare,
    /// Check against the newest metadata, the conditions and the disk; then `Cleared`, `Waits`, `GivenUp` or `NotCleared`.
    Recheck,
    /// Stop whatever runs; then `Stopped`.
    Stop,
    /// Make the new version's data; then `Saved` or `NotSaved`.
    Save,
    /// Put them in place; then `Applied` or `NotApplied`.
    Apply,
    /// Put the old version's data back, however long it takes; then `Restored`.
    PutBack,
    /// Start what the pointer names, or keep it if it runs.
    Start,
    /// Watch the new one through start, health and probation; then `Passed`, `Unhealthy`, `Hindered` or `TakenBack`.
    Prove,
    /// Let the module have its files; then `Fetched` or `NotCleared`.
    Fetch,
    /// Call the module for its phase; then `Did` or `DidNot`.
    Call,
    /// Let the module clean up, if it was called at all, and remove what it was given.
    CleanUp,
    /// Raise the component's release floor to the current one's counter.
    RaiseFloor,
    /// Put the signed report into the queue; then `Reported`.
    Report,
    /// Remove releases that nothing names any more.
    Collect,
}

impl Happening {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Ordered(_) => "an order",
            Self::Announced(_) => "an announced order",
            Self::RolledBackByHand(_) => "a roll back by hand",
            Self::Prepared => "the end of preparing",
            Self::Fetching => "a download that was cut off",
            Self::NotPrepared { .. } => "a failure to prepare",
            Self::Cleared => "a clearance",
            Self::Waits(_) => "a condition that is not met",
            Self::LookDue => "another look",
            Self::Said(_) => "a person's word",
            Self::GivenUp { .. } => "the end of waiting",
            Self::NotCleared { .. } => "a refused clearance",
            Self::Stopped => "the end of the old version",
            Self::HandedOver { .. } => "a handing over",
            Self::NotHandedOver { .. } => "a failure to hand over",
            Self::CannotHandOver { .. } => "a program that cannot hand over",
            Self::Saved => "data that are ready",
            Self::NotSaved { .. } => "a failure to save data",
            Self::Applied => "data in place",
            Self::NotApplied { .. } => "a failure to apply data",
            Self::Restored => "data put back",
            Self::Passed => "the end of probation",
            Self::Unhealthy { .. } => "a failed health check",
            Self::Hindered { .. } => "a start that the device hindered",
            Self::Fetched { .. } => "files for a module",
            Self::Did { .. } => "a module's success",
            Self::DidNot { .. } => "a module's failure",
            Self::TakenBack => "a roll back by hand on probation",
            Self::PutOff => "an orderly end",
            Self::Reported => "a queued report",
            Self::Restarted | Self::Awoke(_) => "a restart",
            Self::Released => "a release of the hold",
        }
    }
}
