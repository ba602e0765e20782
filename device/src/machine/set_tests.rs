//! Every state that 1 to 4 members can come to, by whatever happens and by restarts at every step.

use std::collections::{BTreeSet, VecDeque};

use super::*;
use Standing as S;

/// One record as it lies on the disk, and what this test knows by itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct State {
    members: Vec<S>,
    decision: Decision,
    /// Something failed before all was decided: then the old versions are the right answer.
    failed: bool,
}

impl State {
    fn new(members: &[S]) -> Self {
        let written = Self {
            members: members.to_vec(),
            decision: Decision::Open,
            failed: false,
        };
        written.with(0, members[0])
    }

    /// The record with one member standing elsewhere.
    fn with(&self, place: usize, standing: S) -> Self {
        let mut next = self.clone();
        next.members[place] = standing;
        next.decision = decide(next.decision, &next.members);
        next
    }

    fn failing(&self, place: usize, standing: S) -> Self {
        Self {
            failed: true,
            ..self.with(place, standing)
        }
    }

    /// What follows without anything going wrong. Modules are at the odd places.
    fn forward(&self) -> Vec<Self> {
        let mut next = Vec::new();
        for (place, member) in self.members.iter().enumerate() {
            let proved = S::Proved {
                last_call: place % 2 == 1,
            };
            match member {
                S::Coming => next.push(self.with(place, S::Ready)),
                S::Moving => next.push(self.with(place, proved)),
                S::Calling => next.push(self.with(place, S::Proved { last_call: false })),
                S::Undoing => next.push(self.with(place, S::Undone)),
                _ => {}
            }
            match next_move(self.decision, &self.members, place) {
                Move::GoOn => {}
                Move::WaitFor(other) => assert_ne!(other, place, "{self:?}"),
                Move::Switch => {
                    self.may_switch(place);
                    next.push(self.with(place, S::Moving));
                }
                Move::LastCall => {
                    let proved = |member: &S| matches!(member, S::Done | S::Proved { .. });
                    assert!(self.members.iter().all(proved), "{self:?}");
                    next.push(self.with(place, S::Calling));
                }
                Move::Commit => next.push(self.with(place, S::Committed)),
                Move::Undo => {
                    self.may_undo(place);
                    next.push(self.with(place, S::Undoing));
                }
                Move::GiveUp => next.push(self.with(place, S::Undone)),
            }
        }
        next
    }

    /// What a fault, a person or a restart of the agent makes of it.
    fn faults(&self) -> Vec<Self> {
        let mut next = Vec::new();
        for (place, member) in self.members.iter().enumerate() {
            match member {
                // It cannot be fetched, is withdrawn, or is dropped for a newer order.
                S::Coming if self.decision == Decision::Open => next.push(self.failing(place, S::Undone)),
                S::Ready if self.decision == Decision::Open => {
                    next.push(self.failing(place, S::Undone));
                    next.push(self.with(place, S::Coming));
                }
                S::Moving => {
                    next.push(self.failing(place, S::Failed));
                    // Cut off before the pointer names the new version.
                    next.push(self.with(place, S::Ready));
                }
                S::Calling => next.push(self.failing(place, S::Failed)),
                S::Proved { .. } if self.decision != Decision::Commit => {
                    next.push(self.failing(place, S::Failed));
                    // After a restart it proves itself again.
                    next.push(self.with(place, S::Moving));
                }
                _ => {}
            }
        }
        next
    }

    fn may_switch(&self, place: usize) {
        let (before, after) = self.members.split_at(place);
        let proved = |member: &S| matches!(member, S::Done | S::Proved { .. });
        assert!(before.iter().all(proved), "{place} out of turn: {self:?}");
        let first = before.iter().all(|member| *member == S::Done);
        assert!(
            !first || !after[1..].contains(&S::Coming) || self.begun(),
            "{place} too early: {self:?}"
        );
        assert!(!self.failed, "{place} after a failure: {self:?}");
    }

    fn begun(&self) -> bool {
        let old = |member: &S| matches!(member, S::Done | S::Coming | S::Ready);
        !self.members.iter().all(old)
    }

    fn may_undo(&self, place: usize) {
        let old = |member: &S| matches!(member, S::Done | S::Coming | S::Ready | S::Undone);
        assert!(
            self.members[place + 1..].iter().all(old),
            "{place} out of turn: {self:?}"
        );
    }

    /// What holds in every state, and at rest.
    fn check(&self) {
        let has = |wanted: S| self.members.contains(&wanted);
        if has(S::Committed) {
            let whole =
                |member: &S| matches!(member, S::Done | S::Committed | S::Proved { last_call: false });
            assert!(
                self.members.iter().all(whole) && !self.failed,
                "a mixture: {self:?}"
            );
        }
        if self.forward().is_empty() {
            let right = if self.failed { S::Undone } else { S::Committed };
            let ended = |member: &S| *member == S::Done || *member == right;
            assert!(self.members.iter().all(ended), "at rest: {self:?}");
        }
    }
}

/// Every mixture of members that come and members that are done, at least one of which comes.
fn beginnings(count: u32) -> impl Iterator<Item = Vec<S>> {
    (1..1_u32 << count).map(move |comes| {
        let member = |place| {
            if comes >> place & 1 == 1 {
                S::Coming
            } else {
                S::Done
            }
        };
        (0..count).map(member).collect()
    })
}

#[test]
fn whatever_happens_a_set_ends_all_new_or_all_old() {
    let (mut all_new, mut all_old) = (0, 0);
    for begun in (1..=4).flat_map(beginnings) {
        let first = State::new(&begun);
        let mut seen = BTreeSet::from([first.clone()]);
        let mut waiting = VecDeque::from([first]);
        while let Some(state) = waiting.pop_front() {
            state.check();
            let forward = state.forward();
            match (forward.is_empty(), state.failed) {
                (true, false) => all_new += 1,
                (true, true) => all_old += 1,
                (false, _) => {}
            }
            for next in forward.into_iter().chain(state.faults()) {
                if seen.insert(next.clone()) {
                    waiting.push_back(next);
                }
            }
        }
    }
    // One end of each kind for each of the 1 + 3 + 7 + 15 beginnings.
    assert_eq!((all_new, all_old), (26, 26));
}

#[test]
fn without_faults_every_way_ends_soon() {
    for begun in (1..=4).flat_map(beginnings) {
        let mut states = BTreeSet::from([State::new(&begun)]);
        // Ready, moving, proved, calling, proved and committed, of each.
        for _ in 0..begun.len() * 6 + 1 {
            states = states.iter().flat_map(State::forward).collect();
        }
        assert_eq!(states, BTreeSet::new(), "{begun:?}");
    }
}

#[test]
fn a_member_is_told_for_whom_it_waits() {
    let proved = S::Proved { last_call: false };
    for (members, place, right) in [
        ([S::Ready, S::Ready, S::Coming], 0, Move::WaitFor(2)),
        ([S::Ready, S::Ready, S::Ready], 0, Move::Switch),
        ([S::Moving, S::Ready, S::Ready], 1, Move::WaitFor(0)),
        ([proved, S::Ready, S::Coming], 1, Move::Switch),
        ([proved, S::Moving, S::Ready], 0, Move::WaitFor(1)),
    ] {
        assert_eq!(next_move(Decision::Open, &members, place), right, "{members:?}");
    }
    let members = [proved, proved, S::Failed];
    assert_eq!(decide(Decision::Open, &members), Decision::Undo);
    assert_eq!(next_move(Decision::Undo, &members, 0), Move::WaitFor(2));
    assert_eq!(next_move(Decision::Undo, &members, 2), Move::Undo);
}
