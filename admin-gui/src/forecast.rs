//! What would become of a package on a device: the planner's dry run at the author's desk, before anything is signed.
//!
//! Held against the facts of a device (`device plan --json`), against an older package, or against a device where nothing
//! of it runs.

use std::fmt;
use std::path::{Path, PathBuf};

use release::plan::{Facts, Plan, Rest, Unit, plan};
use release::{Component, Manifest, Version};
use serde::{Deserialize, Serialize};

use crate::draft::{Draft, DraftError, Options};
use crate::limits::FACTS_BYTES;
use crate::progress;
use crate::stop::Stop;

/// What the package is held against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Against {
    /// A device where nothing of it runs.
    Nothing,
    /// A device that runs this package.
    Old(PathBuf),
    /// A device that told what it is: a file with the answer of `device plan --json`, or its `facts` alone.
    Facts(PathBuf),
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Forecast {
    /// The component.
    pub component: Component,
    /// The version.
    pub version: Version,
    /// How it would come to run, why, and for how long nobody would be served.
    pub plan: Plan,
    /// When its author wants it to happen, in words.
    pub policy: String,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ForecastError {
    /// A package or file cannot be read.
    #[error(transparent)]
    Draft(#[from] DraftError),
    /// What it is, is not known.
    #[error("{} does not say what it is: add an update.toml, or --component and --version; `admin-gui inspect` tells more", .0.display())]
    Unknown(PathBuf),
    /// Another component.
    #[error("{} is {found}, not {wanted}: compare two versions of one component", path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: Component,
        /// What is planned.
        wanted: Component,
    },
    /// The file of facts cannot be read.
    #[error("cannot read the facts of the device")]
    Read(#[from] durable::Error),
    /// The file of facts is none.
    #[error("{} holds no facts of a device: it is made by `device plan COMPONENT --json`", path.display())]
    Facts {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// Plans.
///
/// # Errors
/// [`ForecastError`].
pub fn forecast(path: &Path, options: &Options, against: &Against) -> Result<Forecast, ForecastError> {
    let (manifest, length) = manifest_of(path, options)?;
    let facts = match against {
        Against::Nothing => Facts::default(),
        Against::Old(old) => {
            let (running, _) = manifest_of(old, &Options::default())?;
            if running.component != manifest.component {
                return Err(ForecastError::Other {
                    path: old.clone(),
                    found: running.component,
                    wanted: manifest.component,
                });
            }
            Facts {
                running: vec![Unit {
                    component: running.component,
                    cooperates: Rest::of(&running.kind),
                }],
                recovery: true,
                ..Facts::default()
            }
        }
        Against::Facts(file) => read_facts(file)?,
    };
    let machine = facts.machine.as_ref();
    let limit = manifest.run.as_ref().and_then(|run| run.limits.memory_bytes);
    let facts = Facts {
        // Of this package, not of the one that the device was asked about.
        takes_over: Rest::of(&manifest.kind).is_some(),
        needs_bytes: limit.unwrap_or(length),
        lacks: machine
            .and_then(|machine| machine.lacks(manifest.arch, &manifest.hardware, &manifest.requires)),
        ..facts
    };
    Ok(Forecast {
        plan: plan(manifest.nature.as_ref(), &facts),
        policy: manifest.policy.to_string(),
        component: manifest.component,
        version: manifest.version,
    })
}

fn manifest_of(path: &Path, options: &Options) -> Result<(Manifest, u64), ForecastError> {
    let draft = Draft::look(path, options, &progress::nobody(), &Stop::default())?;
    let manifest = draft
        .manifest
        .ok_or_else(|| ForecastError::Unknown(path.to_owned()))?;
    Ok((manifest, draft.length))
}

/// A device's whole answer, or its facts alone.
#[derive(Deserialize)]
#[serde(untagged)]
enum Told {
    Answer { facts: Facts },
    Facts(Facts),
}

fn read_facts(path: &Path) -> Result<Facts, ForecastError> {
    let bytes = durable::read_limited(path, FACTS_BYTES)?;
    let told = serde_json::from_slice(&bytes).map_err(|source| ForecastError::Facts {
        path: path.to_owned(),
        source,
    })?;
    Ok(match told {
        Told::Answer { facts } | Told::Facts(facts) => facts,
    })
}

impl fmt::Display for Forecast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {}", self.component, self.version)?;
        writeln!(f, "  answer   {}", self.plan.answer.word())?;
        for why in &self.plan.reasons {
            writeln!(f, "  why      {why}")?;
        }
        if let Some(pause) = self.plan.pause {
            let from = match pause.measured {
                0 => "an estimate".to_owned(),
                many => format!("from {many} measured there"),
            };
            writeln!(f, "  pause    about {} ms, {from}", pause.expected_ms)?;
        }
        writeln!(f, "  when     {}", self.policy)
    }
}
