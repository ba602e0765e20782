//! What becomes of a slot whose program hands over to its next version while it runs.
//!
//! ```text
//! switching → trying → ended            the new program serves
//!    │  │        └──→ returning → …     handed back, where that can be
//!    │  └──────────────────→ ended      the old program serves as before
//!    └→ switching → …                   it cannot hand over: it is stopped, as any other
//! ```

use protocol::Outcome;
use release::Kind;

use super::{Action, HandedOver, Life, Slot, end, remember_bad};

impl Slot {
    /// Whether the program that runs is to hand over to the one that is to run, rather than be stopped for it.
    #[must_use]
    pub fn hands_over(&self) -> bool {
        let live = |kind: &Kind| *kind == Kind::Live;
        self.life == Life::Switching
            && self.current.as_ref().is_some_and(|current| live(&current.kind))
            && self
                .attempt
                .as_ref()
                .is_some_and(|attempt| live(&attempt.to.kind) && attempt.note.is_none())
    }
}

fn note_down(slot: &mut Slot, note: String) {
    if let Some(attempt) = &mut slot.attempt {
        attempt.note = Some(note);
    }
}

/// The new program serves: it has to prove itself as one that was started.
pub(super) fn handed_over(mut slot: Slot, note: String, pause_ms: Option<u64>) -> (Slot, Vec<Action>) {
    note_down(&mut slot, note);
    if let Some(attempt) = &mut slot.attempt {
        attempt.handed_over = Some(HandedOver { pause_ms });
    }
    slot.current = slot.attempt.as_ref().map(|attempt| attempt.to.clone());
    slot.life = Life::Trying;
    (slot, vec![Action::Start, Action::Prove])
}

/// The old program serves, and has never ceased to.
pub(super) fn not_handed_over(mut slot: Slot, reason: String, bad: bool) -> (Slot, Vec<Action>) {
    let actions = vec![Action::Start, Action::Report];
    if !bad {
        return end(slot, Outcome::Failed, Some(reason), actions);
    }
    remember_bad(&mut slot, &reason);
    let goes_on = slot.current.as_ref().map(|old| old.version.to_string());
    let reason = format!("{reason}; {} goes on", goes_on.unwrap_or_default());
    end(slot, Outcome::RolledBack, Some(reason), actions)
}

/// It is stopped, and the new one started.
pub(super) fn cannot(mut slot: Slot, note: String) -> (Slot, Vec<Action>) {
    note_down(&mut slot, note);
    (slot, vec![Action::Stop])
}

#[cfg(test)]
mod tests {
    use super::super::tests::{attempt, installed};
    use super::super::{Attempt, Cause, Ended, Happening, Installed, step};
    use super::*;

    fn live(number: u8) -> Installed {
        Installed {
            kind: Kind::Live,
            ..installed(number)
        }
    }

    fn switching() -> Slot {
        let attempt = Attempt {
            from: Some(live(1)),
            to: live(2),
            ..attempt(Cause::Order, 2)
        };
        Slot {
            current: Some(live(1)),
            life: Life::Switching,
            attempt: Some(attempt),
            ..Slot::default()
        }
    }

    #[test]
    fn a_program_that_handed_over_is_on_trial_and_says_so_in_the_report() {
        assert!(switching().hands_over());
        let note = "paused for 1 ms".to_owned();
        let happening = Happening::HandedOver {
            note: note.clone(),
            pause_ms: Some(1),
        };
        let (slot, actions) = step(switching(), happening).unwrap();
        assert_eq!(slot.life, Life::Trying);
        assert_eq!(slot.current, Some(live(2)));
        let attempt = slot.attempt.unwrap();
        assert_eq!(attempt.note, Some(note));
        assert_eq!(attempt.handed_over.unwrap().pause_ms, Some(1));
        assert_eq!(actions, [Action::Start, Action::Prove]);
    }

    #[test]
    fn a_program_that_did_not_hand_over_goes_on() {
        for (bad, outcome) in [(true, Outcome::RolledBack), (false, Outcome::Failed)] {
            let reason = "it was not alive in time".to_owned();
            let (slot, actions) = step(switching(), Happening::NotHandedOver { reason, bad }).unwrap();
            assert!(matches!(&slot.life, Life::Ended(Ended { outcome: found, .. }) if *found == outcome));
            assert_eq!((slot.current, slot.bad.len()), (Some(live(1)), usize::from(bad)));
            assert_eq!(actions, [Action::Start, Action::Report]);
        }
    }

    #[test]
    fn a_program_that_cannot_hand_over_is_stopped_and_asked_no_more() {
        let note = "stopped and started: it does not speak".to_owned();
        let (slot, actions) = step(switching(), Happening::CannotHandOver { note }).unwrap();
        assert_eq!(
            (slot.life.clone(), actions),
            (Life::Switching, vec![Action::Stop])
        );
        assert!(!slot.hands_over());
        let (slot, _) = step(slot, Happening::Stopped).unwrap();
        assert_eq!(slot.life, Life::Trying);
    }
}
