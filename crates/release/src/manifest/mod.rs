//! `update.toml`: a release described by its author.
//!
//! ```toml
//! format = 1
//! component = "thermostat"
//! version = "1.2.0"
//! kind = "app"              # a process that the agent supervises; or "live", "module:NAME", see below
//! # counter = 7             # who keeps the release counter; else the publisher counts
//!
//! [run]
//! how = "exec"              # or "jar", "python"
//! program = "thermostat"    # below payload/
//! args = ["--quiet"]
//! env = { MODE = "heat" }
//! stop_seconds = 10
//!
//! [health]
//! http = "http://127.0.0.1:${PORT}/health"   # or: command = ["./check"]  or: alive_seconds = 3
//! start_seconds = 30
//! probation_seconds = 5
//!
//! [requires]
//! arch = "x86-64"
//! hardware = ["rpi-4"]
//! agent = ">=0.1"
//! memory_bytes = 64_000_000
//! disk_bytes = 10_000_000
//!
//! [requires.components]     # what else must run on the device, in which versions
//! broker = ">=2.1, <3"
//!
//! [state]                   # data that outlives a version
//! folder = "settings"       # the part of $DROVER_DATA that counts; left out: all of it
//! from = [1, 2]             # schemas that this version can take over
//! to = 3                    # the schema that it writes
//! transform = ["migrate"]   # a program below payload/ and its words, which makes data of another schema its own
//! transform_seconds = 60    # 1 to 3600
//!
//! [nature]
//! category = "disk"         # unit, protocol, data, algorithm, disk, hardware
//! stillness = "data"        # what must be at rest: none, unit, protocol, data, system, reboot
//! transfer = "needed"       # what is carried over then: none, needed, imprecise, impossible
//! free_at = "system"        # a greater stillness, at which nothing has to be
//! idle = ["write"]          # protocols or operations that must be at rest all at once, inner ones and those around them
//! catch_up = true           # data on disk are converted beside the running program
//! # never_kept = "accesses since creation"   # what it must know and no version ever kept: it cannot be installed
//!
//! [policy]
//! urgency = "soak"          # immediate, idle, window, soak, by-hand
//! soak_days = 10
//! windows = ["mon-fri 22:00-04:00", "sat,sun 00:00-24:00"]   # the device's local time
//! load_below_percent = 50
//! power_above_percent = 30
//! place = "depot"
//! interlock = "door-open"
//! tainted = "recoverable"   # where what runs was changed by hand or does not run: recoverable, ask, install
//! wait_hours = 720
//! otherwise = "ask"         # ask, install, refuse
//!
//! [about]
//! vendor = "…"              # developer, location, license, description
//! ```
//! A release of kind `module:NAME` has plain files in `payload/`, no folders, and neither `[run]`, `[health]` nor
//! `[state]`: the device's update module NAME is given the files and installs them.
//!
//! With `[state]` a device saves the data between the old version's end and the new one's start, and puts them back as
//! they were if it goes back before the new version is committed; the copy goes away with the commit. Without it nothing
//! is saved. `transform` is called, where the schema changes, in a copy of the data, with `DROVER_STATE` (that folder),
//! `DROVER_SCHEMA_FROM`, `DROVER_SCHEMA_TO` and otherwise the program's own environment; code 0 says that it is done.
//! Without `transform` the new version starts with the data as they are.
//!
//! A release of kind `live` is a program that speaks docs/handoff.md, and may have one more table:
//! ```toml
//! [live]                    # only for kind = "live": what it hands over to its next version while it runs
//! schema = 2                # of the state that it hands over
//! from = [1]                # other schemas that it takes over
//! back = [1]                # schemas that it makes of its own, should the version before have to take over again
//! transform = ["change"]    # a program below payload/ that makes one schema of another, from its input to its output
//! ready_seconds = 10        # in which the running version stands still and has handed over
//! still_seconds = 5         # in which the new one can then serve; 1 to 600 each
//! ```
//! Where the version that runs is of that kind too, and the planner says so of its `[nature]`, the new one takes over its
//! state and its connections; else, and where the author's schemas do not fit, the one is stopped and the other started. `transform` gets `DROVER_SCHEMA_FROM` and `DROVER_SCHEMA_TO`, and otherwise the program's own environment.
//!
//! `format`, `component`, `version` and, for an application, `[run]` are required. Without `[health]` a program is well
//! when it is still there after three seconds; without `[policy]` it is installed at once.

mod fields;
mod form;

use serde::{Deserialize, Serialize};
use toml::de::DeTable;
use tuf::UnixTime;

use crate::arch::Arch;
use crate::custom::{self, Form, Release, Requires, default_health};
use crate::kind::Kind;
use crate::limits;
use crate::live::Live;
use crate::name::Component;
use crate::nature::Nature;
use crate::policy::Policy;
use crate::run::{Health, Run};
use crate::state::State;
use crate::text;
use crate::version::Version;
use fields::{Faults, Table};

/// A release as its author describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// What it is a version of.
    pub component: Component,
    /// Which version.
    pub version: Version,
    /// The release counter, if the author keeps it; else the publisher counts.
    pub counter: Option<u64>,
    /// How it is installed.
    pub kind: Kind,
    /// How it runs; none: a module installs it, and it runs nothing of its own.
    pub run: Option<Run>,
    /// How one knows that an application is well; a module says so itself.
    pub health: Health,
    /// Seconds from start to the first healthy answer, at most.
    pub start_seconds: u32,
    /// Seconds it must then stay healthy.
    pub probation_seconds: u32,
    /// The processor it is built for; none: any.
    pub arch: Option<Arch>,
    /// Hardware it fits; empty: any.
    pub hardware: Vec<String>,
    /// What it needs of the device.
    pub requires: Requires,
    /// Where its data lies and in which form; none: it keeps none that matters.
    pub state: Option<State>,
    /// What it hands over while it runs; only for kind `live`.
    pub live: Option<Live>,
    /// What kind of change it is, if the author says so.
    pub nature: Option<Nature>,
    /// When it may be activated.
    pub policy: Policy,
    /// For people.
    pub about: About,
}

/// What a release says to people.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// Who sells it.
    #[serde(
        default,
        deserialize_with = "text::text",
        skip_serializing_if = "Option::is_none"
    )]
    pub vendor: Option<String>,
    /// Who wrote it.
    #[serde(
        default,
        deserialize_with = "text::text",
        skip_serializing_if = "Option::is_none"
    )]
    pub developer: Option<String>,
    /// Where it is meant to run.
    #[serde(
        default,
        deserialize_with = "text::text",
        skip_serializing_if = "Option::is_none"
    )]
    pub location: Option<String>,
    /// Under which terms.
    #[serde(
        default,
        deserialize_with = "text::text",
        skip_serializing_if = "Option::is_none"
    )]
    pub license: Option<String>,
    /// What it is and what is new.
    #[serde(
        default,
        deserialize_with = "text::text",
        skip_serializing_if = "Option::is_none"
    )]
    pub description: Option<String>,
}

/// One fault of an `update.toml`: where, what, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
    /// What is wrong and what to do about it.
    pub message: String,
}

/// What is wrong in an `update.toml`: all that was found, at most [`limits::FAULTS`], in the file's order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("update.toml {}", told(faults))]
pub struct ManifestError {
    /// At least one.
    pub faults: Vec<Fault>,
}

fn told(faults: &[Fault]) -> String {
    let one = |fault: &Fault| format!("line {}, column {}: {}", fault.line, fault.column, fault.message);
    faults.iter().map(one).collect::<Vec<_>>().join("; ")
}

impl Manifest {
    /// A manifest for a single file, with defaults for all that is not given.
    pub fn new(component: Component, version: Version, run: Run) -> Self {
        Self {
            component,
            version,
            counter: None,
            kind: Kind::App,
            run: Some(run),
            health: default_health(),
            start_seconds: custom::default_start_seconds(),
            probation_seconds: custom::default_probation_seconds(),
            arch: None,
            hardware: Vec::new(),
            requires: Requires::default(),
            state: None,
            live: None,
            nature: None,
            policy: Policy::default(),
            about: About::default(),
        }
    }

    /// Reads an `update.toml`.
    ///
    /// # Errors
    /// [`ManifestError`] with the place of each fault. Fields that do not exist are errors: a misspelt one
    /// must not be ignored.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        let mut faults = Faults::new(text);
        if text.len() as u64 > limits::MANIFEST_BYTES {
            faults.add(
                0,
                "the file is longer than 64 KiB: put long texts into files of the package",
            );
            return Err(ManifestError {
                faults: faults.finish(),
            });
        }
        let (file, broken) = DeTable::parse_recoverable(text);
        for error in &broken {
            let at = error.span().map_or(text.len(), |span| span.start);
            faults.add(at, error.message());
        }
        // What was repaired to go on reading would only bring faults that are none.
        let manifest = if broken.is_empty() {
            form::read(Table::root(file.get_ref()), &mut faults)
        } else {
            None
        };
        let faults = faults.finish();
        match manifest {
            Some(manifest) if faults.is_empty() => Ok(manifest),
            _ => Err(ManifestError { faults }),
        }
    }

    /// Reads the bytes of an `update.toml`.
    ///
    /// # Errors
    /// As for [`Self::parse`]; bytes that are not UTF-8 are a fault with a place too.
    pub fn parse_bytes(bytes: &[u8]) -> Result<Self, ManifestError> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::parse(text),
            Err(error) => {
                let (good, _) = bytes.split_at(error.valid_up_to());
                let mut faults = Faults::new(std::str::from_utf8(good).unwrap_or_default());
                faults.add(good.len(), "this is not UTF-8: save the file as UTF-8");
                let faults = faults.finish();
                Err(ManifestError { faults })
            }
        }
    }

    /// The signed description of this release.
    ///
    /// `update_id` is made at the click, `counter` is used unless the manifest has one.
    pub fn release(
        &self,
        update_id: String,
        counter: u64,
        form: Form,
        file_name: String,
        released: UnixTime,
    ) -> Release {
        let about = self.about.clone();
        Release {
            format: Release::FORMAT,
            update_id,
            component: self.component.clone(),
            version: self.version.clone(),
            counter: self.counter.unwrap_or(counter),
            kind: self.kind.clone(),
            form,
            file_name,
            arch: self.arch,
            hardware: self.hardware.clone(),
            requires: self.requires.clone(),
            state: self.state.clone(),
            live: self.live.clone(),
            nature: self.nature.clone(),
            policy: self.policy.clone(),
            run: self.run.clone(),
            health: self.health.clone(),
            start_seconds: self.start_seconds,
            probation_seconds: self.probation_seconds,
            released,
            vendor: about.vendor,
            developer: about.developer,
            location: about.location,
            license: about.license,
            description: about.description,
            withdrawn: None,
        }
    }
}

#[cfg(test)]
mod tests;
