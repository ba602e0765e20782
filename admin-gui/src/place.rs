//! Where a new site goes: all of it or nothing, also where the power goes away in between.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::init::InitError;

/// A site that is being made in a folder which a service listens in already.
const INSIDE: &str = ".drover-unfinished";
/// The service's own folder.
const CONTROL: &str = "control";
/// The author's folder last: it is what makes a folder a site.
const PARTS: [&str; 3] = ["repository", "manager", "author"];

/// Where a site is built, and how it gets to its place.
pub(crate) enum Place {
    /// Beside a folder that does not exist or is empty: one move.
    Beside { unfinished: PathBuf, dir: PathBuf },
    /// In a folder that has nothing but the control socket of a service: three moves, the author's the last.
    Inside { unfinished: PathBuf, dir: PathBuf },
}

impl Place {
    /// Finds the place and clears away what an interrupted run has left: nobody has got any of its keys yet.
    pub(crate) fn find(dir: &Path) -> Result<Self, InitError> {
        let mut hidden = OsString::from(".");
        hidden.push(dir.file_name().ok_or_else(|| InitError::NoName(dir.to_owned()))?);
        hidden.push(".unfinished");
        let names = names_in(dir).ok_or_else(|| InitError::Exists(dir.to_owned()))?;
        let place = if names.is_empty() {
            let (unfinished, dir) = (dir.with_file_name(hidden), dir.to_owned());
            Self::Beside { unfinished, dir }
        } else if is_ours(&names) {
            let (unfinished, dir) = (dir.join(INSIDE), dir.to_owned());
            for part in PARTS.iter().filter(|_| unfinished.exists()) {
                durable::remove_tree(dir.join(part))?;
            }
            Self::Inside { unfinished, dir }
        } else {
            return Err(InitError::Exists(dir.to_owned()));
        };
        durable::remove_tree(place.unfinished())?;
        Ok(place)
    }

    /// The folder to build in.
    pub(crate) fn unfinished(&self) -> &Path {
        match self {
            Self::Beside { unfinished, .. } | Self::Inside { unfinished, .. } => unfinished,
        }
    }

    /// Moves what was built to its place.
    pub(crate) fn finish(&self) -> Result<(), InitError> {
        durable::sync_tree(self.unfinished())?;
        match self {
            Self::Beside { unfinished, dir } => durable::rename_dir(unfinished, dir)?,
            Self::Inside { unfinished, dir } => {
                for part in PARTS {
                    durable::rename_dir(unfinished.join(part), dir.join(part))?;
                }
                // The site is there; an empty folder that stays does no harm.
                let _ = durable::remove_tree(unfinished);
            }
        }
        Ok(())
    }

    /// Removes what was built; what led here is the error to tell.
    pub(crate) fn give_up(&self) {
        if let Self::Inside { dir, .. } = self {
            for part in PARTS {
                let _ = durable::remove_tree(dir.join(part));
            }
        }
        let _ = durable::remove_tree(self.unfinished());
    }
}

/// The names in a folder; none if it cannot be read, nothing if it does not exist.
fn names_in(dir: &Path) -> Option<Vec<OsString>> {
    match std::fs::read_dir(dir) {
        Ok(entries) => entries.map(|entry| Some(entry.ok()?.file_name())).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some(Vec::new()),
        Err(_) => None,
    }
}

/// Whether there is nothing but a service's socket, and perhaps an interrupted run of ours without an author.
fn is_ours(names: &[OsString]) -> bool {
    let has = |name: &str| names.iter().any(|found| found == name);
    let interrupted = has(INSIDE);
    let known = |name: &OsString| {
        name == CONTROL || (interrupted && (name == INSIDE || name == PARTS[0] || name == PARTS[1]))
    };
    has(CONTROL) && names.iter().all(known)
}
