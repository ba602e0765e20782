//! What a slot and a life say of themselves.

use tuf::Digest;

use super::{Action, Answers, Attempt, Cause, Installed, Life, Phase, Slot};

impl Slot {
    /// Why this digest is not tried again, if it failed here.
    #[must_use]
    pub fn bad_reason(&self, digest: &Digest) -> Option<&str> {
        self.bad
            .iter()
            .find(|bad| bad.digest == *digest)
            .map(|bad| bad.reason.as_str())
    }

    /// Whether an update module installs what is under way.
    #[must_use]
    pub fn has_module(&self) -> bool {
        let attempt = self.attempt.as_ref();
        attempt.is_some_and(|attempt| attempt.to.kind.module().is_some())
    }

    /// What the module of the change under way has said so far.
    #[must_use]
    pub fn answers(&self) -> Answers {
        let attempt = self.attempt.as_ref();
        attempt.map(|attempt| attempt.answers.clone()).unwrap_or_default()
    }

    pub(super) fn answered(&mut self, change: impl FnOnce(&mut Answers)) {
        if let Some(attempt) = &mut self.attempt {
            change(&mut attempt.answers);
        }
    }

    /// The module is to be called for this phase next.
    pub(super) fn call(mut self, phase: Phase) -> (Self, Vec<Action>) {
        self.life = Life::Module(phase);
        (self, vec![Action::Call])
    }

    /// Whether a release waits, for its conditions or for a person: nothing is under way then, and a newer order, a
    /// withdrawal or a roll back by hand ends it.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        matches!(self.life, Life::Notified | Life::Staged)
            && self
                .attempt
                .as_ref()
                .is_some_and(|attempt| attempt.wait.is_some())
    }

    /// Whether nothing changes here without a reason from outside.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.life == Life::Idle || self.is_waiting()
    }

    /// Whether a version that was ordered proves itself: a roll back by hand can end that at once.
    #[must_use]
    pub fn tries_an_order(&self) -> bool {
        let ordered = |attempt: &Attempt| attempt.cause == Cause::Order;
        self.life == Life::Trying && self.attempt.as_ref().is_some_and(ordered)
    }

    /// What a roll back by hand would return to now.
    #[must_use]
    pub fn way_back(&self) -> Option<&Installed> {
        match (&self.life, &self.attempt) {
            (Life::Trying, Some(attempt)) if attempt.cause == Cause::Order => attempt.from.as_ref(),
            (Life::Trying | Life::Returning | Life::Restoring(_) | Life::Module(_), _) => None,
            _ => self.previous.as_ref(),
        }
    }

    /// Every release that this slot still needs on disk.
    pub fn needed(&self) -> impl Iterator<Item = Digest> + '_ {
        let under_way = self
            .attempt
            .iter()
            .flat_map(|attempt| attempt.from.iter().chain([&attempt.to]));
        self.current
            .iter()
            .chain(&self.previous)
            .chain(under_way)
            .map(|installed| installed.digest)
    }
}

impl Life {
    /// Whether the attempt's release may come to run without another order.
    #[must_use]
    pub fn may_come_to_run(&self) -> bool {
        matches!(
            self,
            Self::Staged
                | Self::Switching
                | Self::Saving
                | Self::Applying
                | Self::Trying
                | Self::Returning
                | Self::Restoring(_)
                | Self::Module(_)
        )
    }

    /// Whether a slot that enters this life must be on disk before the driver goes on: towards the new
    /// version nothing happens that is not written down; on the way back the old version comes first.
    #[must_use]
    pub fn needs_writing(&self) -> bool {
        matches!(
            self,
            Self::Preparing
                | Self::Staged
                | Self::Switching
                | Self::Saving
                | Self::Applying
                | Self::Trying
                | Self::Module(Phase::Install | Phase::Reboot | Phase::Verify | Phase::Commit)
        )
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Notified => "notified",
            Self::Preparing => "preparing",
            Self::Staged => "staged",
            Self::Switching => "switching",
            Self::Saving => "saving",
            Self::Applying => "applying",
            Self::Trying => "trying",
            Self::Returning => "returning",
            Self::Restoring(_) => "restoring",
            Self::Module(phase) => phase.life(),
            Self::Ended(_) => "ended",
        }
    }
}

impl std::fmt::Display for Life {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
