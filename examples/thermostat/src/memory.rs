//! What outlives a restart and an update.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What is remembered, as it is written. Fields may be added, never change their meaning: an older version
/// may have to read it after a roll back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Remembered {
    starts: u64,
    readings: u64,
    setpoint_celsius: f64,
}

/// The file `thermostat.json` in the data folder.
#[derive(Debug, Clone)]
pub(crate) struct Memory {
    path: PathBuf,
    now: Remembered,
}

impl Memory {
    /// In the folder `DROVER_DATA`, or the current one.
    pub(crate) fn open() -> Result<Self, String> {
        let dir = std::env::var_os("DROVER_DATA").map_or_else(|| PathBuf::from("."), PathBuf::from);
        Self::open_in(dir.join("thermostat.json"))
    }

    fn open_in(path: PathBuf) -> Result<Self, String> {
        let now = match fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|e| format!("{} is malformed: {e}", path.display()))?
            }
            Err(e) if e.kind() == ErrorKind::NotFound => Remembered {
                starts: 0,
                readings: 0,
                setpoint_celsius: 21.0,
            },
            Err(e) => return Err(format!("cannot read {}: {e}", path.display())),
        };
        Ok(Self { path, now })
    }

    /// Counts this start.
    pub(crate) fn begin(&mut self) -> Result<(), String> {
        self.now.starts += 1;
        self.keep()
    }

    pub(crate) fn starts(&self) -> u64 {
        self.now.starts
    }

    pub(crate) fn readings(&self) -> u64 {
        self.now.readings
    }

    pub(crate) fn setpoint_celsius(&self) -> f64 {
        self.now.setpoint_celsius
    }

    /// Takes the number of readings so far.
    pub(crate) fn measured(&mut self, readings: u64) {
        self.now.readings = readings;
    }

    /// Writes it: beside its place, flushed, then in its place, so that a cut leaves the old or the new.
    pub(crate) fn keep(&self) -> Result<(), String> {
        let beside = self.path.with_extension("json.new");
        let written = serde_json::to_vec(&self.now)
            .map_err(std::io::Error::from)
            .and_then(|bytes| {
                let mut file = OpenOptions::new()
                    .write(true)
                    .create(true)
                    .truncate(true)
                    .open(&beside)?;
                file.write_all(&bytes)?;
                file.sync_all()?;
                #[expect(
                    clippy::disallowed_methods,
                    reason = "a program that is updated, not one of the suite"
                )]
                fs::rename(&beside, &self.path)
            });
        written.map_err(|e| format!("cannot write {}: {e}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_there_after_a_restart() {
        let dir = std::env::temp_dir().join(format!("thermostat-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("thermostat.json");
        for start in 1..=3 {
            let mut memory = Memory::open_in(path.clone()).unwrap();
            assert_eq!(memory.readings(), (start - 1) * 10);
            memory.begin().unwrap();
            assert_eq!(memory.starts(), start);
            memory.measured(start * 10);
            memory.keep().unwrap();
        }
        fs::remove_dir_all(&dir).unwrap();
    }
}
