//! Who of a set of releases may move next, so that all of them change or none does. Pure; the units do not ask it yet.
//!
//! Members are listed in the order in which they are activated. Where each stands and what is decided are meant to lie in
//! one record, written as one: [`decide`] is applied to each record before it is written, [`next_move`] to what was written.
//!
//! ```text
//! coming → ready → moving → proved → (calling → proved →) committed
//!    │       │        └───────┴── failed → undoing → undone
//!    └───────┴──────────────────────────────────────→ undone
//! ```
//!
//! Nothing is touched before every member is ready. A member moves once those before it are proved. What is proved is
//! committed only when all are, by one decision; what failed waits until those after it are undone.

/// Where a member of a set stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Standing {
    /// Its release ran here before the set was ordered.
    Done,
    /// Not all of it is here, or its own conditions are not met.
    Coming,
    /// On disk, and nothing of its own speaks against it. The old version runs.
    Ready,
    /// From stopping the old version to the end of the new one's probation.
    Moving,
    /// The new version was well through its probation; what it takes to go back is kept.
    Proved {
        /// Its update module is still to be called for `ArtifactCommit`.
        last_call: bool,
    },
    /// That call is under way.
    Calling,
    /// It did not come to be well, or is not any more; what it takes to go back is kept.
    Failed,
    /// It is being undone.
    Undoing,
    /// The old version is in place, and this attempt over.
    Undone,
    /// The new version is in place for good.
    Committed,
}

/// What is decided of a set; never taken back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Decision {
    /// Nothing yet.
    #[default]
    Open,
    /// All of it stays.
    Commit,
    /// All of it goes back.
    Undo,
}

/// What a member may do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// What it does already; nothing, where it has ended.
    GoOn,
    /// Nothing, until this member has moved.
    WaitFor(usize),
    /// Stop the old version, start the new one.
    Switch,
    /// Let its update module commit.
    LastCall,
    /// Forget the way back.
    Commit,
    /// Go back to the old version.
    Undo,
    /// End without having touched anything.
    GiveUp,
}

impl Standing {
    /// Whether the old version may not be in place.
    fn is_touched(self) -> bool {
        matches!(
            self,
            Self::Moving | Self::Proved { .. } | Self::Calling | Self::Failed | Self::Undoing
        )
    }

    /// Whether the members after it need not wait for it any more.
    fn lets_pass(self) -> bool {
        matches!(self, Self::Done | Self::Proved { .. } | Self::Committed)
    }

    /// Whether nothing of it stands in the way of committing.
    fn is_finished(self) -> bool {
        self.lets_pass() && self != Self::Proved { last_call: true }
    }
}

/// What is decided, once the members stand so: the first decision counts.
#[must_use]
pub fn decide(before: Decision, members: &[Standing]) -> Decision {
    if before != Decision::Open || members.is_empty() {
        return before;
    }
    let over = |member: &Standing| matches!(member, Standing::Failed | Standing::Undoing | Standing::Undone);
    if members.iter().any(over) {
        Decision::Undo
    } else if members.iter().all(|member| member.is_finished()) {
        Decision::Commit
    } else {
        Decision::Open
    }
}

/// What the member at `place` may do now.
#[must_use]
pub fn next_move(decision: Decision, members: &[Standing], place: usize) -> Move {
    let Some(me) = members.get(place) else {
        return Move::GoOn;
    };
    match (decision, me) {
        (Decision::Commit, Standing::Proved { .. }) => Move::Commit,
        (Decision::Undo, Standing::Coming | Standing::Ready) => Move::GiveUp,
        // In reverse: the last that was touched is undone first.
        (Decision::Undo, Standing::Proved { .. } | Standing::Failed) => {
            let last = members.iter().rposition(|member| member.is_touched());
            wait_or(last.filter(|last| *last > place), Move::Undo)
        }
        (Decision::Open, Standing::Ready) => wait_or(in_the_way(members, place), Move::Switch),
        (Decision::Open, Standing::Proved { last_call: true }) => {
            let unproved = members.iter().position(|member| !member.lets_pass());
            let before = || {
                members
                    .iter()
                    .take(place)
                    .position(|member| !member.is_finished())
            };
            wait_or(unproved.or_else(before), Move::LastCall)
        }
        (Decision::Open, Standing::Proved { last_call: false }) => {
            let unfinished = members.iter().position(|member| !member.is_finished());
            wait_or(unfinished, Move::GoOn)
        }
        _ => Move::GoOn,
    }
}

/// For whom a member that is ready waits: before anything is touched for all that come, then for those before it.
fn in_the_way(members: &[Standing], place: usize) -> Option<usize> {
    let begun = members.iter().any(|member| member.is_touched());
    let coming = members.iter().position(|member| *member == Standing::Coming);
    let before = || members.iter().take(place).position(|member| !member.lets_pass());
    coming.filter(|_| !begun).or_else(before)
}

fn wait_or(other: Option<usize>, otherwise: Move) -> Move {
    other.map_or(otherwise, Move::WaitFor)
}

#[cfg(test)]
#[path = "set_tests.rs"]
mod tests;
