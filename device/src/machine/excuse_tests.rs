//! Failures that are this device's own: not held against a release, but not for ever either.

use super::tests::{at_rest, attempt, installed};
use super::*;
use crate::limits::{MAX_EXCUSES, MAX_RESTARTS};

fn hindered(slot: Slot) -> Slot {
    let trying = Slot {
        current: Some(installed(2)),
        life: Life::Trying,
        attempt: Some(Attempt {
            from: Some(installed(1)),
            ..attempt(Cause::Order, 2)
        }),
        ..slot
    };
    let reason = "the disk is full".to_owned();
    let (slot, actions) = step(trying, Happening::Hindered { reason }).unwrap();
    assert_eq!(actions, [Action::Stop]);
    let (slot, _) = step(slot, Happening::Stopped).unwrap();
    assert_eq!(slot.current, Some(installed(1)), "the old version is back");
    slot
}

#[test]
fn what_the_device_is_to_blame_for_is_tried_again_a_few_times() {
    let mut slot = at_rest(Some(1));
    for _ in 0..MAX_EXCUSES {
        let ended = hindered(slot);
        let Life::Ended(end) = &ended.life else {
            panic!("{ended:?}")
        };
        assert_eq!(end.outcome, Outcome::Failed, "its order comes again");
        assert!(
            end.reason.as_ref().unwrap().contains("the disk is full"),
            "{end:?}"
        );
        assert!(ended.bad.is_empty(), "{:?}", ended.bad);
        (slot, _) = step(ended, Happening::Reported).unwrap();
    }
    let ended = hindered(slot);
    let Life::Ended(end) = &ended.life else {
        panic!("{ended:?}")
    };
    assert_eq!(end.outcome, Outcome::RolledBack);
    assert_eq!(
        ended.bad.len(),
        1,
        "each try stops the old version: no more of them"
    );
    let (slot, _) = step(ended, Happening::Reported).unwrap();
    let (slot, _) = step(slot, Happening::Released).unwrap();
    assert_eq!(slot.excused, None, "a person lets it try anew");
}

#[test]
fn another_update_has_excuses_of_its_own() {
    let mut slot = at_rest(Some(1));
    slot.excused = Some((UpdateId::from_random([9; 16]), MAX_EXCUSES));
    assert!(hindered(slot).bad.is_empty());
}

/// The power goes again and again within one long download, and then while what it brought is prepared.
#[test]
fn a_download_is_never_given_up_however_often_it_is_cut() {
    let mut slot = at_rest(Some(1));
    let order = || Happening::Ordered(attempt(Cause::Order, 2));
    for _ in 0..MAX_RESTARTS * 4 {
        (slot, _) = step(slot, order()).unwrap();
        (slot, _) = step(slot, Happening::Fetching).unwrap();
        (slot, _) = step(slot, Happening::Restarted).unwrap();
        assert_eq!(slot.life, Life::Idle, "its order comes again");
        assert!(slot.bad.is_empty());
    }
    let mut cuts = 0;
    while slot.bad.is_empty() {
        cuts += 1;
        assert!(cuts <= MAX_RESTARTS + 1, "what cannot be prepared is given up");
        (slot, _) = step(slot, order()).unwrap();
        (slot, _) = step(slot, Happening::Restarted).unwrap();
    }
    assert!(cuts >= MAX_RESTARTS, "the download counts for nothing");
}
