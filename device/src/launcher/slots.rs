//! Which agent is started, as a small record of its own.
//!
//! The launcher is as old as the device and the agents it starts are not, so this record keeps its form for good: an
//! agent of any version reads and writes format 1, adds no field that an older launcher needs, and takes none away.
//! Agent and launcher write it in turns: the agent while it runs, the launcher while none does.

use durable::{Files, Record, RecordError};
use release::PayloadPath;
use serde::{Deserialize, Serialize};
use tuf::Digest;

use crate::layout::Layout;
use crate::limits::MAX_TRIAL_STARTS;
use crate::trust::chain;

/// An agent's executable in the folder of its release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// SHA-256 of the release's target; names the folder.
    pub release: Digest,
    /// The file below `payload/`.
    pub file: PayloadPath,
    /// SHA-256 of that file.
    pub sha256: Digest,
}

/// A new agent that has to prove itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// Which.
    pub program: Program,
    /// Seconds from each of its starts until it says that it has taken over.
    pub start_seconds: u64,
    /// Seconds from then until it commits itself.
    pub seconds: u64,
    /// Whether the agent before it heard the manager when it ended: then it has to hear it too.
    pub heard: bool,
    /// How often it was started.
    pub starts: u32,
    /// Whether it has taken over since its last start.
    #[serde(default)]
    pub alive: bool,
    /// How its last start ended, where that was no verdict.
    #[serde(default)]
    pub last: Option<String>,
}

/// An agent that was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// Its release.
    pub release: Digest,
    /// What it did, with its last words.
    pub reason: String,
}

/// What the launcher knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slots {
    /// The agent that is started; none: the launcher's own executable.
    pub current: Option<Program>,
    /// The one before, started where the file of the current one is damaged.
    pub previous: Option<Program>,
    /// The one that is being tried.
    pub trial: Option<Trial>,
    /// The last one that was given up, for the agent that goes on to report it.
    pub failed: Option<Failed>,
}

/// What is to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// A new one, on trial.
    Trial(Trial),
    /// One that has proved itself.
    Settled(Program),
    /// The launcher's own executable: the agent that the device was delivered with.
    Own,
}

impl Slots {
    /// What is to be started, `skipped` aside: what failed and could not be written down.
    #[must_use]
    pub fn next(&self, skipped: &[Digest]) -> Next {
        let usable = |program: &Program| !skipped.contains(&program.release);
        if let Some(trial) = self.trial.as_ref().filter(|trial| usable(&trial.program)) {
            return Next::Trial(trial.clone());
        }
        let proven = self.current.iter().chain(&self.previous).find(|&p| usable(p));
        proven.map_or(Next::Own, |program| Next::Settled(program.clone()))
    }

    /// The trial of this release, if it is open.
    #[must_use]
    pub fn trial_of(&self, release: &Digest) -> Option<&Trial> {
        self.trial
            .as_ref()
            .filter(|trial| trial.program.release == *release)
    }

    /// Another start of what is being tried; why there is none.
    ///
    /// # Errors
    /// It was started too often.
    pub fn begin(&mut self) -> Result<(), String> {
        let Some(trial) = &mut self.trial else {
            return Ok(());
        };
        if trial.starts >= MAX_TRIAL_STARTS {
            let how = trial
                .last
                .clone()
                .unwrap_or_else(|| "the machine or its launcher went down".to_owned());
            return Err(format!("{how}; it was started {} times on trial", trial.starts));
        }
        trial.starts += 1;
        trial.alive = false;
        Ok(())
    }

    /// What was tried is given up: what ran before is started again.
    pub fn give_up(&mut self, reason: &str) {
        if let Some(trial) = self.trial.take() {
            self.failed = Some(Failed {
                release: trial.program.release,
                reason: reason.to_owned(),
            });
        }
    }

    /// What was tried has proved itself.
    pub fn commit(&mut self) {
        if let Some(trial) = self.trial.take() {
            self.previous = self.current.replace(trial.program);
            self.failed = None;
        }
    }

    /// The file of a proven agent cannot be started: the one before it is.
    pub fn fall_back(&mut self, program: &Program, reason: &str) {
        for place in [&mut self.current, &mut self.previous] {
            if place.as_ref() == Some(program) {
                *place = None;
            }
        }
        if self.current.is_none() {
            self.current = self.previous.take();
        }
        self.failed = Some(Failed {
            release: program.release,
            reason: reason.to_owned(),
        });
    }

    /// Every release that may be started.
    pub fn releases(&self) -> impl Iterator<Item = Digest> + '_ {
        let tried = self.trial.as_ref().map(|trial| &trial.program);
        self.current
            .iter()
            .chain(&self.previous)
            .chain(tried)
            .map(|program| program.release)
    }
}

/// The record on disk, and its copy.
#[derive(Debug, Clone)]
pub struct SlotRecord {
    record: Record<Slots>,
    copy: Record<Slots>,
}

impl SlotRecord {
    /// The record of the device in `layout`.
    #[must_use]
    pub fn new(files: &Files, layout: &Layout) -> Self {
        let at = |path| Record::on(files.clone(), path, "agent", 1);
        Self {
            record: at(layout.agent_slots()),
            copy: at(layout.state().join("agent.copy.rec")),
        }
    }

    /// What it says; of a record that cannot be read what its copy says; nothing where no agent was ever replaced.
    ///
    /// # Errors
    /// Both are damaged, or of another format; those of the disk.
    pub fn load(&self) -> Result<Slots, RecordError> {
        let found = self.record.load().or_else(|error| match self.copy.load() {
            Ok(Some(copy)) => Ok(Some(copy)),
            _ => Err(error),
        });
        Ok(found?.unwrap_or_default())
    }

    /// Replaces it, durable on return.
    ///
    /// # Errors
    /// Those of the disk; the old value is then still the saved one.
    pub fn save(&self, slots: &Slots) -> Result<(), RecordError> {
        self.record.save(slots)?;
        if let Err(error) = self.copy.save(slots) {
            tracing::warn!(target: "drover", error = %chain(&error), "the copy of the agent's record cannot be written");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(byte: u8) -> Program {
        Program {
            release: Digest::from_bytes([byte; 32]),
            file: "device".parse().unwrap(),
            sha256: Digest::from_bytes([byte; 32]),
        }
    }

    fn trying(byte: u8) -> Slots {
        Slots {
            current: Some(program(1)),
            trial: Some(Trial {
                program: program(byte),
                start_seconds: 30,
                seconds: 60,
                heard: false,
                starts: 0,
                alive: false,
                last: None,
            }),
            ..Slots::default()
        }
    }

    #[test]
    fn a_trial_is_started_a_few_times_and_then_given_up_for_what_ran_before() {
        let mut slots = trying(2);
        for _ in 0..MAX_TRIAL_STARTS {
            assert!(matches!(slots.next(&[]), Next::Trial(_)));
            slots.begin().unwrap();
        }
        let why = slots.begin().unwrap_err();
        assert!(why.contains("3 times"), "{why}");
        slots.give_up(&why);
        assert_eq!(slots.next(&[]), Next::Settled(program(1)));
        assert_eq!(slots.failed.as_ref().unwrap().release, program(2).release);
    }

    #[test]
    fn what_is_committed_is_started_and_what_ran_before_stands_in_for_it() {
        let mut slots = trying(2);
        slots.commit();
        assert_eq!(slots.next(&[]), Next::Settled(program(2)));
        assert_eq!(slots.next(&[program(2).release]), Next::Settled(program(1)));
        slots.fall_back(&program(2), "its file was changed");
        assert_eq!(slots.next(&[]), Next::Settled(program(1)));
        slots.fall_back(&program(1), "its file is gone");
        assert_eq!(slots.next(&[]), Next::Own);
    }

    #[test]
    fn a_damaged_or_unreadable_record_is_read_from_its_copy_and_never_taken_for_none() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path()).unwrap();
        std::fs::create_dir(layout.state()).unwrap();
        let record = SlotRecord::new(&Files::real(), &layout);
        assert_eq!(record.load().unwrap(), Slots::default());
        record.save(&trying(2)).unwrap();
        std::fs::write(layout.agent_slots(), "torn").unwrap();
        assert_eq!(record.load().unwrap(), trying(2));
        // The disk does not give it.
        std::fs::remove_file(layout.agent_slots()).unwrap();
        std::fs::create_dir(layout.agent_slots()).unwrap();
        assert_eq!(record.load().unwrap(), trying(2));
        std::fs::write(layout.state().join("agent.copy.rec"), "torn").unwrap();
        assert!(record.load().is_err());
    }

    /// What a launcher of the first version reads: this text must be readable for good.
    #[test]
    fn the_form_of_the_record_does_not_change() {
        let digest = "02".repeat(32);
        let text = format!(
            r#"{{"current": null, "previous": null, "failed": {{"release": "{digest}", "reason": "no"}},
            "trial": {{"program": {{"release": "{digest}", "file": "bin/device", "sha256": "{digest}"}},
            "start_seconds": 30, "seconds": 60, "heard": true, "starts": 1, "more": "of a newer agent"}}}}"#
        );
        let slots: Slots = serde_json::from_str(&text).unwrap();
        assert_eq!(slots.trial.unwrap().program.file.as_str(), "bin/device");
    }
}
