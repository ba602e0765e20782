//! Every life × happening, and every way to be cut off: old or new runs, never neither, never both.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::limits::MAX_MODULE_RESTARTS;

pub(super) fn installed(number: u8) -> Installed {
    let version = Version::new(1, u64::from(number), 0);
    Installed {
        digest: Digest::of(&[number]),
        target: TargetPath::new(&"thermostat".parse().unwrap(), &version, "t.sh").unwrap(),
        version,
        counter: u64::from(number),
        update: UpdateId::from_random([number; 16]),
        kind: Kind::App,
    }
}

/// A version that an update module installs.
fn modular(number: u8) -> Installed {
    Installed {
        kind: "module:deb".parse().unwrap(),
        ..installed(number)
    }
}

pub(super) fn attempt(cause: Cause, to: u8) -> Attempt {
    Attempt {
        update: UpdateId::from_random([to; 16]),
        cause,
        to: installed(to),
        from: None,
        restarts: 0,
        began: Stamp {
            wall_ns: 0,
            boot_ns: 0,
            boot_id: String::new(),
        },
        events: Vec::new(),
        answers: Answers::default(),
        wait: None,
        word: None,
        data: None,
        note: None,
        handed_over: None,
        excuse: None,
    }
}

pub(super) fn at_rest(current: Option<u8>) -> Slot {
    Slot {
        current: current.map(installed),
        previous: Some(installed(0)),
        ..Slot::default()
    }
}

/// One slot in each life, with an attempt where there is one.
fn every_life() -> Vec<Slot> {
    let ended = Life::Ended(Ended {
        outcome: Outcome::Committed,
        reason: None,
    });
    let lives = [
        Life::Preparing,
        Life::Staged,
        Life::Switching,
        Life::Saving,
        Life::Applying,
        Life::Trying,
        Life::Returning,
        Life::Restoring(None),
        ended,
    ];
    let mut slots = vec![at_rest(Some(1))];
    for life in lives {
        let mut slot = at_rest(Some(1));
        slot.attempt = Some(Attempt {
            from: Some(installed(1)),
            ..attempt(Cause::Order, 2)
        });
        if matches!(
            life,
            Life::Trying | Life::Returning | Life::Restoring(_) | Life::Ended(_)
        ) {
            slot.current = Some(installed(2));
        }
        slots.push(Slot { life, ..slot });
    }
    slots.extend(EVERY_PHASE.map(|phase| in_module(Life::Module(phase), Answers::default())));
    slots
}

const EVERY_PHASE: [Phase; 8] = [
    Phase::Install,
    Phase::Reboot,
    Phase::Verify,
    Phase::Commit,
    Phase::Undo,
    Phase::UndoReboot,
    Phase::UndoVerify,
    Phase::Failure,
];

/// Version 2 is being installed by a module in place of version 1.
fn in_module(life: Life, answers: Answers) -> Slot {
    Slot {
        current: Some(modular(2)),
        life,
        attempt: Some(Attempt {
            to: modular(2),
            from: Some(modular(1)),
            answers,
            ..attempt(Cause::Order, 2)
        }),
        ..at_rest(Some(1))
    }
}

fn every_happening() -> Vec<Happening> {
    let reason = || "because".to_owned();
    vec![
        Happening::Ordered(attempt(Cause::Order, 2)),
        Happening::RolledBackByHand(attempt(Cause::ByHand, 0)),
        Happening::Prepared,
        Happening::NotPrepared {
            reason: reason(),
            bad: true,
        },
        Happening::Cleared,
        Happening::NotCleared { reason: reason() },
        Happening::Stopped,
        Happening::Saved,
        Happening::NotSaved {
            reason: reason(),
            bad: true,
        },
        Happening::Applied,
        Happening::NotApplied { reason: reason() },
        Happening::Restored,
        Happening::Passed,
        Happening::Unhealthy { reason: reason() },
        Happening::Fetched { undoes: true },
        Happening::Did { reboot: Reboot::No },
        Happening::DidNot { reason: reason() },
        Happening::TakenBack,
        Happening::PutOff,
        Happening::Reported,
        Happening::Restarted,
        Happening::Released,
    ]
}

#[test]
fn only_what_fits_a_life_is_accepted() {
    let mut accepted = Vec::new();
    for slot in every_life() {
        let fits: Vec<&str> = every_happening()
            .into_iter()
            .filter(|happening| step(slot.clone(), happening.clone()).is_ok())
            .map(|happening| happening.name())
            .collect();
        accepted.push(format!("{}: {}", slot.life, fits.join(", ")));
    }
    assert_eq!(
        accepted,
        [
            "idle: an order, a roll back by hand, a restart, a release of the hold",
            "preparing: the end of preparing, a failure to prepare, an orderly end, a restart",
            "staged: a clearance, a refused clearance, a restart, a release of the hold",
            "switching: a refused clearance, the end of the old version, a restart",
            "saving: data that are ready, a failure to save data, a restart",
            "applying: data in place, a failure to apply data, a restart",
            "trying: the end of probation, a failed health check, a roll back by hand on probation, a restart",
            "returning: the end of the old version, a restart",
            "restoring: data put back, a restart",
            "ended: a queued report, a restart, a release of the hold",
            "module-install: a module's success, a module's failure, a restart",
            "module-reboot: a module's success, a module's failure, a restart",
            "module-verify: a module's success, a module's failure, a restart",
            "module-commit: a module's success, a module's failure, a restart",
            "module-undo: a module's success, a module's failure, a restart",
            "module-undo-reboot: a module's success, a module's failure, a restart",
            "module-undo-verify: a module's success, a module's failure, a restart",
            "module-failure: a module's success, a module's failure, a restart",
        ]
    );
}

#[test]
fn a_refused_happening_changes_nothing_and_names_both_sides() {
    let error = step(at_rest(Some(1)), Happening::Passed).unwrap_err();
    assert_eq!(error.to_string(), "the end of probation has no place while idle");
}

#[test]
fn a_roll_back_by_hand_holds_and_forgets_the_way_forward() {
    let mut sim = Sim::new(Some(2));
    sim.drive(Happening::RolledBackByHand(attempt(Cause::ByHand, 0)));
    assert_eq!(sim.memory.current, Some(installed(0)));
    assert!(sim.memory.held && sim.memory.previous.is_none());
    assert_eq!(sim.reports, [Outcome::RolledBack]);
    assert!(
        !sim.floor_raised,
        "a roll back by hand leaves the floor where it is"
    );
}

#[test]
fn a_version_taken_back_on_probation_is_held_and_remembered_as_bad() {
    let mut slot = at_rest(Some(2));
    slot.life = Life::Trying;
    slot.attempt = Some(Attempt {
        from: Some(installed(1)),
        ..attempt(Cause::Order, 2)
    });
    assert_eq!(slot.way_back(), Some(&installed(1)));
    let (slot, actions) = step(slot, Happening::TakenBack).unwrap();
    assert_eq!(
        (&slot.life, &actions[..]),
        (&Life::Returning, &[Action::Stop][..])
    );
    // A restart now finds all it needs on disk.
    let (slot, _) = step(slot, Happening::Restarted).unwrap();
    let (slot, _) = step(slot, Happening::Stopped).unwrap();
    assert!(slot.held);
    assert_eq!(slot.current, Some(installed(1)));
    assert_eq!(slot.bad_reason(&installed(2).digest), Some("rolled back by hand"));
    let Life::Ended(ended) = &slot.life else {
        panic!("{}", slot.life)
    };
    assert_eq!(ended.outcome, Outcome::RolledBack);
    let reason = ended.reason.as_ref().unwrap();
    assert!(
        reason.starts_with("rolled back by hand; 1.1.0 runs again"),
        "{reason}"
    );
}

#[test]
fn what_a_person_went_back_to_is_not_taken_back_itself() {
    let mut slot = at_rest(Some(0));
    slot.life = Life::Trying;
    slot.attempt = Some(Attempt {
        from: Some(installed(1)),
        ..attempt(Cause::ByHand, 0)
    });
    assert_eq!(slot.way_back(), None);
    step(slot, Happening::TakenBack).unwrap_err();
}

#[test]
fn a_failed_digest_is_remembered_and_the_oldest_forgotten() {
    let mut slot = at_rest(Some(1));
    for number in 0..=u8::try_from(MAX_BAD).unwrap() {
        slot.attempt = Some(attempt(Cause::Order, number));
        remember_bad(&mut slot, "died");
    }
    assert_eq!(slot.bad.len(), MAX_BAD);
    assert!(slot.bad_reason(&installed(0).digest).is_none());
    assert_eq!(slot.bad_reason(&installed(1).digest), Some("died"));
}

#[test]
fn a_release_that_kills_the_agent_while_it_is_prepared_is_given_up() {
    let mut slot = at_rest(Some(1));
    for _ in 0..=MAX_RESTARTS {
        assert_eq!(slot.life, Life::Idle);
        slot = step(slot, Happening::Ordered(attempt(Cause::Order, 2)))
            .unwrap()
            .0;
        slot = step(slot, Happening::Restarted).unwrap().0;
    }
    assert!(matches!(&slot.life, Life::Ended(ended) if ended.outcome == Outcome::Failed));
    assert!(slot.bad_reason(&installed(2).digest).is_some());
}

#[test]
fn a_floor_that_a_cut_kept_from_rising_rises_after_the_restart() {
    let ended = Life::Ended(Ended {
        outcome: Outcome::Committed,
        reason: None,
    });
    let slot = Slot {
        life: ended,
        attempt: Some(attempt(Cause::Order, 2)),
        ..at_rest(Some(2))
    };
    let (_, actions) = step(slot, Happening::Restarted).unwrap();
    assert_eq!(actions, [Action::Start, Action::RaiseFloor, Action::Report]);
}

/// Where a module stands next, by the protocol's own words; the answers are those of the change so far.
#[test]
fn a_module_goes_through_the_states_of_its_protocol() {
    let did = |reboot| Happening::Did { reboot };
    let failed = || Happening::DidNot {
        reason: "exit 7".into(),
    };
    let plain = Answers::default();
    let undoes = Answers {
        undoes: true,
        ..plain.clone()
    };
    let rebooted = Answers {
        reboot: Reboot::Yes,
        ..undoes.clone()
    };
    let often = Answers {
        undo_reboots: MAX_UNDO_REBOOTS,
        ..rebooted.clone()
    };
    for (answers, from, happening, to) in [
        (&plain, Phase::Install, did(Reboot::No), "module-commit"),
        (&plain, Phase::Install, did(Reboot::Yes), "module-reboot"),
        (&plain, Phase::Install, did(Reboot::Automatic), "module-reboot"),
        (&plain, Phase::Reboot, did(Reboot::No), "module-verify"),
        (&plain, Phase::Verify, did(Reboot::No), "module-commit"),
        (&plain, Phase::Commit, did(Reboot::No), "ended"),
        (&plain, Phase::Install, failed(), "module-failure"),
        (&plain, Phase::Commit, failed(), "module-failure"),
        (&undoes, Phase::Install, failed(), "module-undo"),
        (&undoes, Phase::Reboot, failed(), "module-undo"),
        (&undoes, Phase::Verify, failed(), "module-undo"),
        (&undoes, Phase::Commit, failed(), "module-undo"),
        (&undoes, Phase::Undo, did(Reboot::No), "module-failure"),
        (&rebooted, Phase::Undo, did(Reboot::No), "module-undo-reboot"),
        (&rebooted, Phase::Undo, failed(), "module-failure"),
        (
            &rebooted,
            Phase::UndoReboot,
            did(Reboot::No),
            "module-undo-verify",
        ),
        (&rebooted, Phase::UndoReboot, failed(), "module-undo-verify"),
        (&rebooted, Phase::UndoVerify, did(Reboot::No), "module-failure"),
        (&rebooted, Phase::UndoVerify, failed(), "module-undo-reboot"),
        (&often, Phase::UndoVerify, failed(), "module-failure"),
        (&undoes, Phase::Failure, did(Reboot::No), "ended"),
        (&undoes, Phase::Failure, failed(), "ended"),
        // Cut off: after a reboot it is asked how that went, what installs has failed, what undoes is done again.
        (&plain, Phase::Install, Happening::Restarted, "module-failure"),
        (&undoes, Phase::Install, Happening::Restarted, "module-undo"),
        (&undoes, Phase::Reboot, Happening::Restarted, "module-verify"),
        (&undoes, Phase::Verify, Happening::Restarted, "module-undo"),
        (&undoes, Phase::Commit, Happening::Restarted, "module-undo"),
        (&undoes, Phase::Undo, Happening::Restarted, "module-undo"),
        (
            &rebooted,
            Phase::UndoReboot,
            Happening::Restarted,
            "module-undo-verify",
        ),
        (
            &rebooted,
            Phase::UndoVerify,
            Happening::Restarted,
            "module-undo-verify",
        ),
        (&undoes, Phase::Failure, Happening::Restarted, "module-failure"),
    ] {
        let slot = in_module(Life::Module(from), answers.clone());
        let (next, actions) = step(slot, happening.clone()).unwrap();
        assert_eq!(next.life.name(), to, "{from} and {}", happening.name());
        let first = if to == "ended" {
            Action::CleanUp
        } else {
            Action::Call
        };
        assert_eq!(actions.first(), Some(&first), "{from} and {}", happening.name());
        assert_eq!(
            actions.contains(&Action::RaiseFloor),
            from == Phase::Commit && to == "ended"
        );
    }
}

#[test]
fn what_a_module_could_not_undo_names_nothing_as_installed() {
    let broken = Answers {
        undoes: true,
        broken: Some("disk".into()),
        ..Answers::default()
    };
    let undone = Answers {
        undoes: true,
        ..Answers::default()
    };
    for (answers, current, outcome, words) in [
        (
            undone,
            Some(modular(1)),
            Outcome::RolledBack,
            "its module rolled back to 1.1.0",
        ),
        (
            broken,
            None,
            Outcome::Failed,
            "rolling back failed too: disk; what is installed now is inconsistent",
        ),
        (
            Answers::default(),
            None,
            Outcome::Failed,
            "its module cannot roll back",
        ),
    ] {
        let mut slot = in_module(Life::Module(Phase::Failure), answers);
        remember_bad(&mut slot, "exit 7");
        let (slot, actions) = step(slot, Happening::Did { reboot: Reboot::No }).unwrap();
        assert_eq!(actions, [Action::CleanUp, Action::Report]);
        assert_eq!(slot.current, current);
        let Life::Ended(ended) = slot.life else { panic!() };
        assert_eq!(ended.outcome, outcome);
        let reason = ended.reason.unwrap();
        assert!(
            reason.starts_with("exit 7; ") && reason.contains(words),
            "{reason}"
        );
    }
}

#[test]
fn a_module_whose_machine_restarts_for_ever_is_given_up() {
    for phase in [Phase::Undo, Phase::UndoReboot, Phase::UndoVerify, Phase::Failure] {
        let mut slot = in_module(
            Life::Module(phase),
            Answers {
                undoes: true,
                ..Answers::default()
            },
        );
        let mut restarts = 0;
        while !matches!(slot.life, Life::Ended(_)) {
            slot = step(slot, Happening::Restarted).unwrap().0;
            restarts += 1;
            assert!(restarts <= MAX_MODULE_RESTARTS + 2, "{phase}");
        }
        assert!(restarts > MAX_MODULE_RESTARTS, "{phase}");
    }
}

#[test]
fn a_version_for_a_module_is_fetched_before_the_pointer_names_it() {
    let mut slot = in_module(Life::Staged, Answers::default());
    slot.current = Some(modular(1));
    let (slot, actions) = step(slot, Happening::Cleared).unwrap();
    assert_eq!(actions, [Action::Fetch]);
    // Cut off in Download: once more from the beginning, as nothing was installed.
    let (again, actions) = step(slot.clone(), Happening::Restarted).unwrap();
    assert_eq!(
        (again.life, &actions[..]),
        (Life::Staged, &[Action::Start, Action::Recheck][..])
    );
    let (failed, actions) = step(slot.clone(), Happening::NotCleared { reason: "no".into() }).unwrap();
    assert_eq!(failed.current, Some(modular(1)));
    assert_eq!(actions, [Action::CleanUp, Action::Start, Action::Report]);
    let (slot, actions) = step(slot, Happening::Fetched { undoes: true }).unwrap();
    assert_eq!(
        (slot.life.name(), &actions[..]),
        ("module-install", &[Action::Call][..])
    );
    assert_eq!(slot.current, Some(modular(2)));
    assert!(slot.answers().undoes);
}

/// What a machine does with the actions: a disk, at most one process, and cuts where the choices say so.
struct Sim {
    disk: Slot,
    memory: Slot,
    running: Option<Digest>,
    choices: VecDeque<u8>,
    reports: Vec<Outcome>,
    floor_raised: bool,
    preparing: bool,
    /// A person took it back on probation; a cut may forget that.
    taken_back: bool,
}

/// The agent ends here.
struct Cut;

impl Sim {
    fn new(current: Option<u8>) -> Self {
        let slot = at_rest(current);
        Self {
            running: slot.current.as_ref().map(|now| now.digest),
            disk: slot.clone(),
            memory: slot,
            choices: VecDeque::new(),
            reports: Vec::new(),
            floor_raised: false,
            preparing: false,
            taken_back: false,
        }
    }

    /// Good luck when the choices are used up.
    fn choose(&mut self) -> u8 {
        self.choices.pop_front().unwrap_or(0)
    }

    /// Perhaps the agent is killed (the program runs on), perhaps the power goes away (it does not).
    fn pass(&mut self) -> Result<(), Cut> {
        match self.choose() % 8 {
            6 => Err(Cut),
            7 => {
                self.running = None;
                Err(Cut)
            }
            _ => Ok(()),
        }
    }

    /// Lets something happen and starts again after every cut, until nothing is under way.
    fn drive(&mut self, first: Happening) {
        let mut next = Some(first);
        loop {
            while let Some(happening) = next.take() {
                if self.happen(happening).is_err() {
                    self.memory = self.disk.clone();
                    self.preparing = false;
                    next = Some(Happening::Restarted);
                }
            }
            if !std::mem::take(&mut self.preparing) {
                assert_eq!(self.memory.life, Life::Idle);
                return;
            }
            next = Some(match self.choose() % 4 {
                2 => Happening::NotPrepared {
                    reason: "no".into(),
                    bad: false,
                },
                3 => Happening::NotPrepared {
                    reason: "no".into(),
                    bad: true,
                },
                _ => Happening::Prepared,
            });
        }
    }

    fn happen(&mut self, first: Happening) -> Result<(), Cut> {
        let mut next = Some(first);
        while let Some(happening) = next.take() {
            let (slot, actions) = step(self.memory.clone(), happening).unwrap();
            self.pass()?;
            self.disk = slot.clone();
            self.memory = slot;
            self.pass()?;
            for action in actions {
                if let Some(happening) = self.act(action) {
                    next = Some(happening);
                }
                self.pass()?;
            }
        }
        Ok(())
    }

    fn act(&mut self, action: Action) -> Option<Happening> {
        let pointed = self.memory.current.as_ref().map(|now| now.digest);
        match action {
            Action::Prepare => self.preparing = true,
            Action::Recheck if self.choose() % 4 == 3 => {
                return Some(Happening::NotCleared {
                    reason: "withdrawn".into(),
                });
            }
            Action::Recheck => return Some(Happening::Cleared),
            Action::Stop => {
                self.running = None;
                return Some(Happening::Stopped);
            }
            Action::Start => {
                // The driver ends what runs and is not pointed at before it starts what is.
                self.running = pointed;
            }
            Action::Prove => {
                assert_eq!(self.running, pointed, "what is proved is what the pointer names");
                return Some(match self.choose() % 5 {
                    4 => Happening::Hindered {
                        reason: "full".into(),
                    },
                    3 => Happening::Unhealthy {
                        reason: "died".into(),
                    },
                    2 if self.memory.tries_an_order() => {
                        self.taken_back = true;
                        Happening::TakenBack
                    }
                    _ => Happening::Passed,
                });
            }
            Action::RaiseFloor => self.floor_raised = true,
            Action::Report => {
                let Life::Ended(ended) = &self.memory.life else {
                    panic!("a report of nothing")
                };
                self.reports.push(ended.outcome);
                return Some(Happening::Reported);
            }
            Action::Collect => {}
            Action::Fetch | Action::Call | Action::CleanUp => panic!("no module here"),
            Action::Save | Action::Apply | Action::PutBack => panic!("no data here"),
        }
        None
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_cut_old_or_new_runs_in_the_end(
        choices in prop::collection::vec(any::<u8>(), 0..60),
        had_old: bool,
        by_hand: bool,
    ) {
        let old = had_old.then_some(1);
        let mut sim = Sim::new(old);
        sim.choices = choices.into();
        let by_hand = by_hand && had_old;
        let (to, first) = if by_hand {
            (0, Happening::RolledBackByHand(attempt(Cause::ByHand, 0)))
        } else {
            (2, Happening::Ordered(attempt(Cause::Order, 2)))
        };
        sim.drive(first);
        // A cut between the last step and rest leaves nothing to do but to start what is pointed at.
        if sim.running.is_none() {
            sim.drive(Happening::Restarted);
        }
        let now = sim.memory.current.clone();
        prop_assert!(now == old.map(installed) || now == Some(installed(to)));
        prop_assert_eq!(sim.running, now.as_ref().map(|now| now.digest));
        prop_assert_eq!(&sim.disk, &sim.memory);
        prop_assert!(sim.memory.attempt.is_none());
        // What is committed was proved; what was not committed left the floor alone.
        let committed = now == Some(installed(to)) && !by_hand;
        prop_assert_eq!(sim.floor_raised, committed);
        let gone_back = now != Some(installed(to));
        if sim.memory.held {
            prop_assert!(gone_back != by_hand && (by_hand || sim.taken_back));
        }
    }
}
