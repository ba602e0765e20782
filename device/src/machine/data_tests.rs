//! A version with a `[state]` takes over: whatever is cut, cannot be written or is lost, old data go with the old
//! version and new data with the new one.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::tests::{at_rest, attempt, installed};
use super::*;

const OLD: u8 = 1;
const NEW: u8 = 2;

fn with_data(cause: Cause, to: u8) -> Attempt {
    Attempt {
        data: Some(DataChange {
            folder: None,
            from: OLD.into(),
            to: to.into(),
        }),
        ..attempt(cause, to)
    }
}

/// Data: which version's form they have, and how often each version has changed them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Content {
    form: u8,
    by_old: u32,
    by_new: u32,
}

#[derive(Debug, Clone, Default)]
struct Disk {
    slot: Slot,
    /// The second record, renewed at rest.
    copy: Slot,
    live: Option<Content>,
    work: Option<Content>,
    /// Begun and not whole.
    half: bool,
    before: Option<Content>,
}

struct Cut;

struct Sim {
    disk: Disk,
    memory: Slot,
    /// Memory is what the disk has.
    on_disk: bool,
    running: Option<u8>,
    choices: VecDeque<u8>,
    to: u8,
    by_old: u32,
    by_new: u32,
    preparing: bool,
    outcomes: Vec<Outcome>,
    /// The record was damaged and an older one counted.
    damaged: bool,
}

impl Sim {
    fn new(choices: Vec<u8>, to: u8) -> Self {
        let slot = at_rest(Some(OLD));
        let live = Content {
            form: OLD,
            by_old: 1,
            by_new: 0,
        };
        Self {
            disk: Disk {
                slot: slot.clone(),
                copy: slot.clone(),
                live: Some(live),
                ..Disk::default()
            },
            memory: slot,
            on_disk: true,
            running: Some(OLD),
            choices: choices.into(),
            to,
            by_old: 1,
            by_new: 0,
            preparing: false,
            outcomes: Vec::new(),
            damaged: false,
        }
    }

    /// Good luck when the choices are used up.
    fn choose(&mut self, among: u8) -> u8 {
        self.choices.pop_front().unwrap_or(0) % among
    }

    fn pass(&mut self) -> Result<(), Cut> {
        match self.choose(12) {
            10 => Err(Cut),
            11 => {
                self.running = None;
                Err(Cut)
            }
            _ => Ok(()),
        }
    }

    fn drive(&mut self, first: Happening) {
        let mut next = Some(first);
        loop {
            while let Some(happening) = next.take() {
                if self.happen(happening).is_err() {
                    self.restart();
                    next = Some(Happening::Restarted);
                }
            }
            if !std::mem::take(&mut self.preparing) {
                return;
            }
            next = Some(Happening::Prepared);
        }
    }

    fn restart(&mut self) {
        self.preparing = false;
        self.memory = self.disk.slot.clone();
        if self.choose(16) == 15 {
            // Mended with it, or read as damaged again.
            self.memory = self.disk.copy.clone();
            self.disk.slot = self.memory.clone();
            self.damaged = true;
        }
        self.on_disk = true;
        let owns = matches!(
            self.memory.life,
            Life::Idle | Life::Preparing | Life::Staged | Life::Switching | Life::Saving | Life::Ended(_)
        );
        // Only the version that an update began with has data that are set aside.
        if owns && self.memory.current == Some(installed(OLD)) && self.disk.before.is_some() {
            self.running = None;
            self.put_back();
        }
    }

    fn happen(&mut self, first: Happening) -> Result<(), Cut> {
        let mut next = Some(first);
        while let Some(happening) = next.take() {
            let (slot, actions) = step(self.memory.clone(), happening).unwrap();
            self.pass()?;
            if slot != self.memory {
                match self.choose(10) {
                    // It fails, and is there nevertheless; or it is not.
                    kind @ (8 | 9) => {
                        if kind == 8 {
                            self.disk.slot = slot.clone();
                        }
                        self.on_disk = false;
                        if slot.life.needs_writing() {
                            next = self.not_written();
                            continue;
                        }
                    }
                    _ => {
                        self.disk.slot = slot.clone();
                        self.on_disk = true;
                    }
                }
            }
            self.memory = slot;
            self.pass()?;
            for action in actions {
                if let Some(happening) = self.act(action)? {
                    next = Some(happening);
                }
                self.pass()?;
            }
        }
        Ok(())
    }

    /// As the driver has it.
    fn not_written(&self) -> Option<Happening> {
        let reason = "the disk is full".to_owned();
        match self.memory.life {
            Life::Preparing => Some(Happening::NotPrepared { reason, bad: false }),
            Life::Staged | Life::Switching => Some(Happening::NotCleared { reason }),
            Life::Saving => Some(Happening::NotSaved { reason, bad: false }),
            Life::Applying => Some(Happening::NotApplied { reason }),
            _ => None,
        }
    }

    fn act(&mut self, action: Action) -> Result<Option<Happening>, Cut> {
        match action {
            Action::Prepare => self.preparing = true,
            Action::Recheck => return Ok(Some(Happening::Cleared)),
            Action::Stop => {
                self.running = None;
                return Ok(Some(Happening::Stopped));
            }
            Action::Save => return self.save().map(Some),
            Action::Apply => return self.apply().map(Some),
            Action::PutBack => {
                self.running = None;
                // Cut between two renames, or before what was made is gone.
                match self.choose(8) {
                    6 if self.disk.before.is_some() => {
                        self.disk.live = None;
                        return Err(Cut);
                    }
                    7 => {
                        if let Some(before) = self.disk.before.take() {
                            self.disk.live = Some(before);
                        }
                        return Err(Cut);
                    }
                    _ => {}
                }
                self.put_back();
                return Ok(Some(Happening::Restored));
            }
            Action::Start => self.start(),
            Action::Prove => {
                let good = self.running.is_some() && self.running == self.pointed();
                return Ok(Some(match self.choose(4) {
                    3 => Happening::Unhealthy {
                        reason: "died".into(),
                    },
                    2 if self.memory.tries_an_order() => Happening::TakenBack,
                    _ if good => Happening::Passed,
                    _ => Happening::Unhealthy {
                        reason: "no start".into(),
                    },
                }));
            }
            Action::RaiseFloor => {}
            Action::Report => {
                let Life::Ended(ended) = &self.memory.life else {
                    panic!()
                };
                self.outcomes.push(ended.outcome);
                return Ok(Some(Happening::Reported));
            }
            Action::Collect => {
                if self.on_disk {
                    self.disk.copy = self.memory.clone();
                    self.disk.work = None;
                    self.disk.half = false;
                    self.disk.before = None;
                }
            }
            Action::Fetch | Action::Call | Action::CleanUp => panic!("no module here"),
        }
        Ok(None)
    }

    fn pointed(&self) -> Option<u8> {
        let current = self.memory.current.as_ref()?;
        [0, OLD, NEW]
            .into_iter()
            .find(|number| installed(*number) == *current)
    }

    fn save(&mut self) -> Result<Happening, Cut> {
        assert_eq!(self.running, None, "data are copied while nothing writes them");
        self.disk.before = None;
        self.disk.work = None;
        self.disk.half = true;
        match self.choose(8) {
            4 => return Err(Cut),
            5 => {
                return Ok(Happening::NotSaved {
                    reason: "full".into(),
                    bad: false,
                });
            }
            6 => {
                return Ok(Happening::NotSaved {
                    reason: "exit 3".into(),
                    bad: true,
                });
            }
            _ => {}
        }
        let live = self.disk.live.expect("data to copy");
        self.disk.half = false;
        self.disk.work = Some(Content {
            form: self.to,
            ..live
        });
        Ok(Happening::Saved)
    }

    fn apply(&mut self) -> Result<Happening, Cut> {
        // The driver ends what runs: a step back may not have been written down.
        self.running = None;
        let failed = || Ok(Happening::NotApplied { reason: "no".into() });
        if self.disk.half {
            panic!("half a copy is applied");
        }
        if self.disk.before.is_none() {
            if self.disk.work.is_none() {
                return failed();
            }
            if self.choose(8) == 6 {
                return failed();
            }
            self.disk.before = self.disk.live.take();
        }
        match self.choose(8) {
            6 => return Err(Cut),
            7 => return failed(),
            _ => {}
        }
        if self.disk.live.is_none() {
            self.disk.live = self.disk.work.take();
        }
        Ok(Happening::Applied)
    }

    fn put_back(&mut self) {
        if let Some(before) = self.disk.before.take() {
            self.disk.live = Some(before);
        }
        self.disk.work = None;
        self.disk.half = false;
    }

    fn start(&mut self) {
        let pointed = self.pointed();
        if self.memory.life == Life::Trying && (self.disk.before.is_none() || self.disk.live.is_none()) {
            self.running = None;
            return;
        }
        if self.running == pointed {
            return;
        }
        self.running = pointed;
        let live = self.disk.live.as_mut().expect("data to start with");
        if pointed == Some(OLD) {
            let left = Content {
                form: OLD,
                by_old: self.by_old,
                by_new: 0,
            };
            assert_eq!(*live, left, "the old version finds its data as it left them");
            self.by_old += 1;
            self.by_new = 0;
            live.by_old += 1;
        } else {
            assert_eq!(live.form, self.to, "the new version finds data of its own form");
            assert_eq!(live.by_old, self.by_old, "and all that the old one did");
            live.by_new += 1;
            self.by_new += 1;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn old_data_go_with_the_old_version_and_new_data_with_the_new(
        choices in prop::collection::vec(any::<u8>(), 0..80),
        by_hand: bool,
    ) {
        let to = if by_hand { 0 } else { NEW };
        let mut sim = Sim::new(choices, to);
        sim.drive(if by_hand {
            Happening::RolledBackByHand(with_data(Cause::ByHand, to))
        } else {
            Happening::Ordered(with_data(Cause::Order, to))
        });
        sim.choices.clear();
        // An agent that ends and starts again finds all as it is.
        let running = sim.running.filter(|_| sim.on_disk);
        sim.restart();
        sim.drive(Happening::Restarted);
        if running.is_some() && !sim.damaged {
            prop_assert_eq!(sim.running, running);
        }
        prop_assert_eq!(&sim.memory.life, &Life::Idle);
        let now = sim.pointed();
        prop_assert_eq!(sim.running, now);
        let live = sim.disk.live.unwrap();
        prop_assert_eq!(live.form, now.unwrap());
        prop_assert_eq!((sim.disk.work, sim.disk.before), (None, None));
    }
}

#[test]
fn a_transformation_that_is_cut_off_again_and_again_is_given_up() {
    let mut slot = Slot {
        life: Life::Staged,
        attempt: Some(with_data(Cause::Order, NEW)),
        ..at_rest(Some(OLD))
    };
    let mut restarts = 0;
    while !matches!(slot.life, Life::Ended(_)) {
        let (cleared, _) = step(slot, Happening::Cleared).unwrap();
        let (saving, actions) = step(cleared, Happening::Stopped).unwrap();
        assert_eq!((&saving.life, &actions[..]), (&Life::Saving, &[Action::Save][..]));
        // The old version runs again meanwhile.
        let (again, actions) = step(saving, Happening::Restarted).unwrap();
        assert_eq!(actions.first(), Some(&Action::Start));
        slot = again;
        restarts += 1;
    }
    assert_eq!(restarts, MAX_RESTARTS + 1);
    assert_eq!(slot.current, Some(installed(OLD)));
}

#[test]
fn a_release_whose_transformation_fails_is_remembered_as_bad_and_one_on_a_full_disk_is_not() {
    for (bad, outcome) in [(true, Outcome::RolledBack), (false, Outcome::Failed)] {
        let slot = Slot {
            life: Life::Saving,
            attempt: Some(Attempt {
                from: Some(installed(OLD)),
                ..with_data(Cause::Order, NEW)
            }),
            ..at_rest(Some(OLD))
        };
        let reason = "exit 3".to_owned();
        let (slot, actions) = step(slot, Happening::NotSaved { reason, bad }).unwrap();
        assert_eq!(actions, [Action::PutBack]);
        let (slot, actions) = step(slot, Happening::Restored).unwrap();
        assert_eq!(actions, [Action::Start, Action::Report]);
        assert_eq!(slot.current, Some(installed(OLD)));
        assert_eq!(slot.bad_reason(&installed(NEW).digest).is_some(), bad);
        let Life::Ended(ended) = slot.life else { panic!() };
        assert_eq!(ended.outcome, outcome);
        assert!(ended.reason.unwrap().starts_with("exit 3"));
    }
}

#[test]
fn what_an_older_agent_wrote_has_no_change_of_data() {
    let mut written = serde_json::to_value(attempt(Cause::Order, NEW)).unwrap();
    written.as_object_mut().unwrap().remove("data").unwrap();
    let read: Attempt = serde_json::from_value(written).unwrap();
    assert_eq!(read, attempt(Cause::Order, NEW));
}
