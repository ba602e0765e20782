//! A rehearsal: the whole update of one version to the next on this machine, before anything is signed.
//!
//! The real `device` program, a site made for the occasion and thrown away afterwards, the author's real packages: the old
//! version is installed, the new one takes over its data, goes back by hand, fails and is rolled back, and is killed at
//! every step. What was found is told; nothing outside of one folder is touched, and no key of the author's is used.

#[cfg(target_os = "linux")]
mod agent;
#[cfg(target_os = "linux")]
mod data;
#[cfg(target_os = "linux")]
mod parts;
#[cfg(target_os = "linux")]
mod site;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use protocol::chain;
use protocol::control::{Finding, Level};
use release::{Component, Version};
use serde::{Deserialize, Serialize};

use crate::draft::DraftError;
use crate::stop::{Stop, Stopped};

/// What is to be rehearsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The package that is to be published: a file or a folder.
    pub new: PathBuf,
    /// The package that devices run now.
    pub old: PathBuf,
    /// The device program; none: the one beside this program, else in the search path.
    pub device: Option<PathBuf>,
    /// Data that the old version shall find, a folder; none: what it makes itself.
    pub data: Option<PathBuf>,
    /// Variables of the programs' environment, as a device's `[env]` gives them.
    pub env: Vec<(String, String)>,
    /// How long it may take in all.
    pub limit: Duration,
    /// Whether its folder stays afterwards.
    pub keep: bool,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rehearsed {
    /// The component.
    pub component: Component,
    /// The version that was updated.
    pub old: Version,
    /// The version that was rehearsed.
    pub new: Version,
    /// One line for each part, in order.
    pub findings: Vec<Finding>,
    /// Where its folder is, if it was kept.
    pub folder: Option<PathBuf>,
}

/// Hears of each finding as it is made.
pub type Hears = Arc<dyn Fn(&Finding) + Send + Sync>;

/// Why it could not be rehearsed at all.
#[derive(Debug, thiserror::Error)]
pub enum RehearseError {
    /// Another platform.
    #[error("an update can be rehearsed on Linux only, where devices run")]
    NotHere,
    /// A package cannot be read.
    #[error(transparent)]
    Draft(#[from] DraftError),
    /// A package would not be published.
    #[error("{} cannot be rehearsed: {why}", path.display())]
    Unfit {
        /// The package.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// There is no device program.
    #[error("no device program was found beside this one or in the search path: name it with --device PATH")]
    NoDevice,
    /// A program cannot be started.
    #[error("cannot run {}", program.display())]
    Run {
        /// Which.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A program did not do its part.
    #[error("{}: {what}: {said}", program.display())]
    Silent {
        /// Which.
        program: PathBuf,
        /// What it did not do.
        what: &'static str,
        /// Its last words.
        said: String,
    },
    /// The site for the rehearsal.
    #[error("the site for the rehearsal cannot be made: {0}")]
    Site(String),
    /// The disk.
    #[error("the folder for the rehearsal cannot be used")]
    Disk(#[from] durable::Error),
    /// A person ended it.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl RehearseError {
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    pub(crate) fn of_site(error: impl std::error::Error + 'static) -> Self {
        Self::Site(chain(&error))
    }
}

impl Rehearsed {
    /// Whether something was found that speaks against publishing it.
    #[must_use]
    pub fn is_bad(&self) -> bool {
        self.findings.iter().any(|finding| finding.level == Level::Error)
    }
}

/// Rehearses.
///
/// # Errors
/// [`RehearseError`]: it could not be tried. What was tried and went wrong is a finding.
#[cfg(target_os = "linux")]
pub async fn rehearse(
    asked: &Asked,
    senses: &crate::desk::Senses,
    hears: &Hears,
    stop: &Stop,
) -> Result<Rehearsed, RehearseError> {
    parts::rehearse(asked, senses, hears, stop).await
}

/// Says that it cannot be done here.
///
/// # Errors
/// [`RehearseError::NotHere`], always.
#[cfg(not(target_os = "linux"))]
pub async fn rehearse(
    _asked: &Asked,
    _senses: &crate::desk::Senses,
    _hears: &Hears,
    _stop: &Stop,
) -> Result<Rehearsed, RehearseError> {
    Err(RehearseError::NotHere)
}

/// The device program beside this one, else the first in the search path.
#[must_use]
pub fn find_device() -> Option<PathBuf> {
    let own = std::env::current_exe().ok();
    let beside = own
        .as_deref()
        .and_then(Path::parent)
        .map(|dir| dir.join("device"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|dir| dir.join("device"));
    beside.into_iter().chain(in_path).find(|file| file.is_file())
}
