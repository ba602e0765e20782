//! The life of the agent's own release, which no supervisor looks after: the launcher starts the new agent, and each
//! agent reads from what it is itself how far a change came.
//!
//! ```text
//! switching, in the old agent: the record is written, the agent ends
//!     → in the new agent: trying → committed, or returning: the agent ends
//!     → in the old agent again: rolled back
//! ```

use protocol::{Outcome, Stamp};
use release::Kind;
use tuf::Digest;

use super::{Action, Answers, Attempt, Cause, Life, Slot, cut_off, give_back, recover, remember_bad};

/// What an agent knows when it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Awake {
    /// The release that it is itself; none: the device was delivered with it.
    pub me: Option<Digest>,
    /// The agent that was given up last, and why.
    pub failed: Option<(Digest, String)>,
    /// Now.
    pub now: Stamp,
}

impl Awake {
    /// Why the launcher gave up this release, if it did.
    fn why_gone(&self, release: Digest) -> Option<&str> {
        let failed = self.failed.as_ref()?;
        (failed.0 == release).then_some(failed.1.as_str())
    }
}

impl Slot {
    /// Whether what is under way, or what the pointer names, is an agent.
    #[must_use]
    pub fn is_own(&self) -> bool {
        let to = self.attempt.as_ref().map(|attempt| &attempt.to);
        to.into_iter()
            .chain(&self.current)
            .any(|installed| installed.kind == Kind::Agent)
    }
}

/// What an agent makes of its own slot when it starts.
pub(super) fn awake(mut slot: Slot, awake: &Awake) -> (Slot, Vec<Action>) {
    let to = slot.attempt.as_ref().map(|attempt| attempt.to.digest);
    let is_new = to.is_some() && awake.me == to;
    let why_gone = to.and_then(|to| awake.why_gone(to)).map(str::to_owned);
    match (slot.life.clone(), why_gone) {
        (Life::Switching | Life::Trying, _) if is_new => {
            slot.current = slot.attempt.as_ref().map(|attempt| attempt.to.clone());
            slot.life = Life::Trying;
            (slot, vec![Action::Prove])
        }
        // It ends once more: the launcher has not heard of it yet.
        (Life::Returning, _) if is_new => (slot, vec![Action::Stop]),
        (Life::Switching | Life::Trying, Some(why)) => {
            remember_bad(&mut slot, &why);
            give_back(slot)
        }
        (Life::Returning, _) => give_back(slot),
        // It was not tried yet.
        (Life::Trying, None) => {
            slot.current = slot.attempt.as_ref().and_then(|attempt| attempt.from.clone());
            slot.life = Life::Switching;
            recover(slot)
        }
        (Life::Preparing, _) => {
            let (slot, actions) = cut_off(slot);
            displaced(slot, awake, actions)
        }
        (Life::Idle | Life::Ended(_), _) => {
            let (slot, actions) = recover(slot);
            displaced(slot, awake, actions)
        }
        _ => recover(slot),
    }
}

/// The pointer names another agent than the one that runs: its file could not be started, or a person took it away.
fn displaced(mut slot: Slot, awake: &Awake, actions: Vec<Action>) -> (Slot, Vec<Action>) {
    let gone = match (&slot.current, &slot.life) {
        (Some(current), Life::Idle) if awake.me != Some(current.digest) => current.clone(),
        (Some(current), Life::Ended(ended))
            if awake.me != Some(current.digest) && ended.outcome == Outcome::Committed =>
        {
            current.clone()
        }
        _ => return (slot, actions),
    };
    let before = [
        &slot.previous,
        &slot.attempt.as_ref().and_then(|attempt| attempt.from.clone()),
    ]
    .into_iter()
    .flatten()
    .find(|installed| awake.me == Some(installed.digest))
    .cloned();
    let why = awake
        .why_gone(gone.digest)
        .unwrap_or("another agent was started in its place")
        .to_owned();
    slot.attempt = Some(Attempt {
        update: gone.update,
        cause: Cause::Order,
        to: gone,
        from: before,
        restarts: 0,
        began: awake.now.clone(),
        events: Vec::new(),
        answers: Answers::default(),
        data: None,
        wait: None,
        word: None,
        note: None,
        handed_over: None,
        excuse: None,
    });
    remember_bad(&mut slot, &why);
    slot.previous = None;
    give_back(slot)
}

/// What a person reads of an agent that went back.
pub(super) fn back_to(slot: &Slot) -> Option<&'static str> {
    let own = slot
        .attempt
        .as_ref()
        .is_some_and(|attempt| attempt.to.kind == Kind::Agent);
    (own && slot.current.is_none()).then_some("the agent that this device was delivered with runs again")
}

#[cfg(test)]
mod tests {
    use super::super::{Bad, Happening, Installed, step};
    use super::*;

    fn installed(version: &str, byte: u8) -> Installed {
        Installed {
            digest: Digest::from_bytes([byte; 32]),
            version: version.parse().unwrap(),
            counter: byte.into(),
            update: "ab".repeat(16).parse().unwrap(),
            target: format!("drover-agent/{version}/device").parse().unwrap(),
            kind: Kind::Agent,
        }
    }

    /// 1.0.0 runs, 2.0.0 is on its way.
    fn slot(life: Life) -> Slot {
        let (old, new) = (installed("1.0.0", 1), installed("2.0.0", 2));
        let is_new = matches!(life, Life::Trying | Life::Returning);
        let mut slot = Slot {
            current: Some(if is_new { new.clone() } else { old.clone() }),
            attempt: Some(Attempt {
                update: new.update,
                cause: Cause::Order,
                to: new,
                from: Some(old),
                restarts: 0,
                began: mtls::stamp(),
                events: Vec::new(),
                answers: Answers::default(),
                data: None,
                wait: None,
                word: None,
                note: None,
                handed_over: None,
                excuse: None,
            }),
            ..Slot::default()
        };
        if life == Life::Returning {
            slot.bad.push(Bad {
                digest: Digest::from_bytes([2; 32]),
                version: "2.0.0".parse().unwrap(),
                reason: "it did not hear the manager".to_owned(),
            });
        }
        slot.life = life;
        slot
    }

    fn woke(slot: Slot, me: u8, failed: Option<&str>) -> (Slot, Vec<Action>) {
        let awake = Awake {
            me: Some(Digest::from_bytes([me; 32])),
            failed: failed.map(|why| (Digest::from_bytes([2; 32]), why.to_owned())),
            now: mtls::stamp(),
        };
        step(slot, Happening::Awoke(awake)).unwrap()
    }

    fn reason(slot: &Slot) -> (Outcome, String) {
        match &slot.life {
            Life::Ended(ended) => (ended.outcome, ended.reason.clone().unwrap_or_default()),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn the_new_agent_proves_itself_from_wherever_the_old_one_stopped() {
        for life in [Life::Switching, Life::Trying] {
            let (slot, actions) = woke(slot(life), 2, None);
            assert_eq!((slot.life.clone(), actions), (Life::Trying, vec![Action::Prove]));
            assert_eq!(slot.current, Some(installed("2.0.0", 2)));
        }
        let (slot, actions) = woke(slot(Life::Returning), 2, None);
        assert_eq!((slot.life, actions), (Life::Returning, vec![Action::Stop]));
    }

    #[test]
    fn the_old_agent_reports_why_the_new_one_is_gone_and_remembers_it() {
        for life in [Life::Switching, Life::Trying] {
            let (slot, actions) = woke(slot(life), 1, Some("it ended with code 1"));
            let (outcome, why) = reason(&slot);
            assert_eq!(outcome, Outcome::RolledBack);
            assert_eq!(why, "it ended with code 1; 1.0.0 runs again");
            assert_eq!(slot.current, Some(installed("1.0.0", 1)));
            assert!(slot.bad_reason(&Digest::from_bytes([2; 32])).is_some());
            assert!(actions.contains(&Action::Report));
        }
        // What the new one said of itself is stronger than how it ended.
        let (slot, _) = woke(slot(Life::Returning), 1, Some("it ended with code 85"));
        assert_eq!(reason(&slot).1, "it did not hear the manager; 1.0.0 runs again");
    }

    #[test]
    fn an_old_agent_that_finds_its_successor_untried_tries_again_and_not_for_ever() {
        for life in [Life::Switching, Life::Trying] {
            let mut slot = slot(life);
            for _ in 0..crate::limits::MAX_RESTARTS {
                let (next, actions) = woke(slot, 1, None);
                assert_eq!(
                    (next.life.clone(), actions),
                    (Life::Staged, vec![Action::Start, Action::Recheck])
                );
                assert_eq!(next.current, Some(installed("1.0.0", 1)));
                slot = Slot {
                    life: Life::Switching,
                    ..next
                };
            }
            let (slot, _) = woke(slot, 1, None);
            assert_eq!(reason(&slot).0, Outcome::Failed);
        }
    }

    #[test]
    fn an_agent_that_stands_in_for_a_committed_one_takes_the_pointer_back() {
        let idle = Slot {
            current: Some(installed("2.0.0", 2)),
            previous: Some(installed("1.0.0", 1)),
            ..Slot::default()
        };
        let (same, actions) = woke(idle.clone(), 2, None);
        assert_eq!((&same, actions), (&idle, vec![Action::Start, Action::Collect]));
        let (back, _) = woke(idle, 1, Some("its file was changed"));
        assert_eq!(
            reason(&back),
            (
                Outcome::RolledBack,
                "its file was changed; 1.0.0 runs again".to_owned()
            )
        );
        assert_eq!((back.current, back.previous), (Some(installed("1.0.0", 1)), None));
    }
}
