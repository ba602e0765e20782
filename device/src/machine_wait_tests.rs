//! A release that waits: what may happen to it, and what stays of it.

use super::tests::{at_rest, attempt, installed};
use super::*;
use tuf::UnixTime;

fn stamp() -> Stamp {
    Stamp {
        wall_ns: 0,
        boot_ns: 0,
        boot_id: "a".into(),
    }
}

fn wait() -> Wait {
    Wait::begin(UnixTime(1_800_000_000), &stamp())
}

fn waiting(life: Life) -> Slot {
    Slot {
        life,
        attempt: Some(Attempt {
            from: Some(installed(1)),
            wait: Some(wait()),
            ..attempt(Cause::Order, 2)
        }),
        ..at_rest(Some(1))
    }
}

fn because() -> String {
    "because".to_owned()
}

#[test]
fn what_waits_is_at_rest_and_needs_its_files() {
    for life in [Life::Staged, Life::Notified] {
        let slot = waiting(life);
        assert!(slot.is_waiting() && slot.is_at_rest());
        assert!(slot.needed().any(|digest| digest == installed(2).digest));
    }
    let mut begun = waiting(Life::Switching);
    assert!(!begun.is_waiting() && !begun.is_at_rest());
    begun.life = Life::Staged;
    begun.attempt = Some(attempt(Cause::Order, 2));
    assert!(!begun.is_waiting(), "it has not been looked at yet");
    for happening in [Happening::LookDue, Happening::Said(Word::Go)] {
        step(begun.clone(), happening).unwrap_err();
    }
}

#[test]
fn a_staged_release_waits_until_it_is_cleared_and_no_restart_is_held_against_it() {
    let mut slot = at_rest(Some(1));
    slot = step(slot, Happening::Ordered(attempt(Cause::Order, 2)))
        .unwrap()
        .0;
    slot = step(slot, Happening::Prepared).unwrap().0;
    for _ in 0..10 * MAX_RESTARTS {
        let (waits, actions) = step(slot, Happening::Waits(wait())).unwrap();
        assert!(waits.is_waiting() && actions.is_empty());
        let (again, actions) = step(waits, Happening::Restarted).unwrap();
        assert_eq!(actions, [Action::Start, Action::Recheck]);
        slot = again;
    }
    assert_eq!(slot.current, Some(installed(1)), "the old one runs meanwhile");
    let (slot, actions) = step(slot, Happening::LookDue).unwrap();
    assert_eq!(actions, [Action::Recheck]);
    let (slot, actions) = step(slot, Happening::Cleared).unwrap();
    assert_eq!((slot.life, &actions[..]), (Life::Switching, &[Action::Stop][..]));
}

#[test]
fn a_look_that_kills_the_agent_is_given_up() {
    let mut slot = waiting(Life::Staged);
    for _ in 0..MAX_RESTARTS {
        slot = step(slot, Happening::Restarted).unwrap().0;
        assert!(slot.is_waiting());
    }
    slot = step(slot, Happening::Restarted).unwrap().0;
    assert!(matches!(slot.life, Life::Ended(_)));
}

#[test]
fn where_the_site_is_asked_first_nothing_is_fetched_before_a_word() {
    let (slot, actions) = step(at_rest(Some(1)), Happening::Announced(attempt(Cause::Order, 2))).unwrap();
    assert_eq!(
        (&slot.life, &actions[..]),
        (&Life::Notified, &[Action::Recheck][..])
    );
    let (slot, actions) = step(slot, Happening::Waits(wait())).unwrap();
    assert!(slot.is_waiting() && actions.is_empty());
    let (slot, actions) = step(slot, Happening::Restarted).unwrap();
    assert_eq!(actions, [Action::Start, Action::Recheck]);
    let (slot, actions) = step(slot, Happening::Said(Word::Go)).unwrap();
    assert_eq!(
        (&slot.life, &actions[..]),
        (&Life::Notified, &[Action::Recheck][..])
    );
    let (slot, actions) = step(slot, Happening::Cleared).unwrap();
    assert_eq!(
        (&slot.life, &actions[..]),
        (&Life::Preparing, &[Action::Prepare][..])
    );
    // Cut off, or ended in good order, while it is fetched: no second word is needed.
    for (happening, next) in [
        (Happening::Restarted, &[Action::Start, Action::Recheck][..]),
        (Happening::PutOff, &[][..]),
    ] {
        let (again, actions) = step(slot.clone(), happening).unwrap();
        assert_eq!((&again.life, &actions[..]), (&Life::Notified, next));
        assert_eq!(again.attempt.unwrap().word, Some(Word::Go));
    }
    // A release that kills the agent while it is prepared is still given up.
    let mut again = slot;
    for _ in 0..=MAX_RESTARTS {
        again.life = Life::Preparing;
        again = step(again, Happening::Restarted).unwrap().0;
    }
    assert!(matches!(again.life, Life::Ended(_)) && again.bad_reason(&installed(2).digest).is_some());
}

#[test]
fn what_is_superseded_or_withdrawn_is_no_bad_release_and_what_is_given_up_is_not_tried_again() {
    for life in [Life::Staged, Life::Notified] {
        let (dropped, actions) =
            step(waiting(life.clone()), Happening::NotCleared { reason: because() }).unwrap();
        assert_eq!(actions, [Action::Start, Action::Report]);
        assert_eq!(dropped.current, Some(installed(1)));
        assert!(dropped.bad.is_empty());
        let (given_up, actions) = step(waiting(life), Happening::GivenUp { reason: because() }).unwrap();
        assert_eq!(actions, [Action::Start, Action::Report]);
        let Life::Ended(ended) = &given_up.life else {
            panic!()
        };
        assert_eq!(ended.outcome, Outcome::Refused);
        assert_eq!(given_up.bad_reason(&installed(2).digest), Some("because"));
        assert_eq!(given_up.current, Some(installed(1)));
    }
}

/// What an agent before this one wrote has neither a wait nor a word.
#[test]
fn an_older_record_is_read() {
    let mut value = serde_json::to_value(waiting(Life::Staged)).unwrap();
    let attempt = value["attempt"].as_object_mut().unwrap();
    attempt.remove("wait").unwrap();
    assert!(attempt.get("word").is_none());
    let slot: Slot = serde_json::from_value(value).unwrap();
    assert!(!slot.is_waiting());
    let (slot, actions) = step(slot, Happening::Restarted).unwrap();
    assert_eq!(
        (slot.life, &actions[..]),
        (Life::Staged, &[Action::Start, Action::Recheck][..])
    );
}
