//! A component's data while its version changes: copied for the new one, set aside for the old one, put back.
//!
//! Names alone say how far it is, so that a cut at any point is gone on from:
//!
//! ```text
//! data/COMPONENT               the data of the version that the pointer names, or part/of/them
//! data/.kept/COMPONENT/
//!     work/[part/of/them]      being made for the new version; no one else looks there
//!     before/                  those of the old version, exactly as it left them
//!     after/                   those of a new version that failed, on their way out
//!     change.rec               whose `before` is, and which part of the data folder
//! ```
//!
//! Applying moves `data → before`, then `work → data`; putting back moves `data → after`, then `before → data`. Each is a
//! rename that is durable before the next, and neither version runs meanwhile.

use std::fs;
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::{Path, PathBuf};

use durable::{Files, Measured, Record, RecordError, TreeLimits};
use release::{Component, PayloadPath};
use serde::{Deserialize, Serialize};
use tuf::Digest;

use crate::layout::Layout;
use crate::limits::{DATA_ENTRY_BYTES, MAX_DATA_BYTES, MAX_DATA_ENTRIES, TRANSFORM_GROWTH};

/// Why data cannot be saved, applied or put back.
#[derive(Debug, thiserror::Error)]
pub enum DataFault {
    /// The disk refused, or there is too much of them.
    #[error(transparent)]
    Disk(#[from] durable::Error),
    /// The record of whose they are.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A link where the folder of the data should be: it could lead anywhere.
    #[error("{} is not a folder: data are saved from folders of their own only", .0.display())]
    NoFolder(PathBuf),
    /// Another disk.
    #[error("{} is on another file system than {}: data that are saved must be on one", .0.display(), .1.display())]
    Apart(PathBuf, PathBuf),
    /// What was to be applied is not there.
    #[error("the data that were made for the new version are not in {}", .0.display())]
    Gone(PathBuf),
    /// Something made a folder where the data were moved away.
    #[error("{} was made anew while its data were being changed: end what writes there", .0.display())]
    MadeAnew(PathBuf),
    /// The disk refused.
    #[error("cannot look at {}", path.display())]
    Look {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Whose data are set aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    /// The version that they belong to.
    of: Digest,
    /// The part of the data folder that they are; none: all of it.
    #[serde(default)]
    folder: Option<PayloadPath>,
}

/// The data of one component, or the part of them that counts.
#[derive(Debug, Clone)]
pub struct Data {
    files: Files,
    /// The component's data folder.
    base: PathBuf,
    /// The part that is saved, below it.
    folder: Option<PayloadPath>,
    kept: PathBuf,
}

impl Data {
    /// The data of `component`; `folder`: the part that counts, none for all.
    #[must_use]
    pub fn new(files: &Files, layout: &Layout, component: &Component, folder: Option<&PayloadPath>) -> Self {
        Self {
            files: files.clone(),
            base: layout.data(component),
            folder: folder.cloned(),
            kept: layout.kept_data(component),
        }
    }

    /// What takes the place of the component's data folder while a program transforms them.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.kept.join("work")
    }

    fn below(&self, top: PathBuf) -> PathBuf {
        match &self.folder {
            Some(folder) => top.join(folder.as_str()),
            None => top,
        }
    }

    fn live(&self) -> PathBuf {
        self.below(self.base.clone())
    }

    fn copy_of_them(&self) -> PathBuf {
        self.below(self.work())
    }

    fn before(&self) -> PathBuf {
        self.kept.join("before")
    }

    fn after(&self) -> PathBuf {
        self.kept.join("after")
    }

    fn record(&self) -> Record<Kept> {
        let path = self.kept.join("change.rec");
        Record::on(self.files.clone(), path, "data-change", 1)
    }

    /// How much there is to copy.
    ///
    /// # Errors
    /// They cannot be saved: too much, a link in the way, another disk.
    pub fn measure(&self) -> Result<Measured, DataFault> {
        self.check_place()?;
        let live = self.live();
        if !exists(&live)? {
            return Ok(Measured::default());
        }
        Ok(self.files.measure_tree(&live, &limits(&|| true))?)
    }

    /// Folders of the agent's own down to the data: a link could lead out, another disk lets nothing be renamed.
    fn check_place(&self) -> Result<(), DataFault> {
        let parts = self.folder.iter().flat_map(|folder| folder.as_str().split('/'));
        let mut at = self.base.clone();
        let top = self.base.parent().unwrap_or(&self.base).to_owned();
        for part in std::iter::once("").chain(parts) {
            if !part.is_empty() {
                at.push(part);
            }
            if !exists(&at)? {
                return Ok(());
            }
            let found = look_at(&at)?;
            if !found.is_dir() {
                return Err(DataFault::NoFolder(at));
            }
            if found.dev() != look_at_target(&top)?.dev() {
                return Err(DataFault::Apart(at, top));
            }
        }
        Ok(())
    }

    /// Copies the data for the new version, throwing away what an earlier try has left. `of`: whose they are.
    ///
    /// # Errors
    /// [`DataFault`]; the data are as they were.
    pub fn copy(&self, of: Digest, goes_on: &dyn Fn() -> bool) -> Result<Measured, DataFault> {
        self.check_place()?;
        self.drop_kept()?;
        // A program of another user has to find its way into the copy.
        self.files.create_dir(&self.kept, 0o711)?;
        let live = self.live();
        self.files.create_dir(&live, 0o750)?;
        let copy = self.copy_of_them();
        if let Some(parent) = copy.parent().filter(|_| self.folder.is_some()) {
            self.files.create_dir(parent, 0o750)?;
        }
        let copied = self.files.copy_tree(&live, &copy, &limits(goes_on))?;
        let kept = Kept {
            of,
            folder: self.folder.clone(),
        };
        self.record().save(&kept)?;
        Ok(copied)
    }

    /// Makes the copy durable: nothing of it changes any more.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn finish(&self) -> Result<(), DataFault> {
        Ok(self.files.sync_tree(&self.work())?)
    }

    /// What the copy takes now, to see whether a program makes too much of it; `was`: what was copied.
    ///
    /// # Errors
    /// It takes more than it may.
    pub fn check_growth(&self, was: u64) -> Result<(), DataFault> {
        let most = TreeLimits {
            bytes: transformed_most(was),
            entries: MAX_DATA_ENTRIES,
            goes_on: &|| true,
        };
        Ok(self.files.measure_tree(&self.work(), &most).map(drop)?)
    }

    /// Sets the old version's data aside and puts the new one's in their place; goes on where it was cut off.
    ///
    /// # Errors
    /// [`DataFault`]: [`Self::put_back`] undoes what was done.
    pub fn apply(&self) -> Result<(), DataFault> {
        self.check_place()?;
        let (live, before, copy) = (self.live(), self.before(), self.copy_of_them());
        let made = exists(&copy)?;
        if !exists(&before)? {
            if !made {
                return Err(DataFault::Gone(copy));
            }
            self.files.rename_dir(&live, &before)?;
        }
        match (exists(&live)?, made) {
            (true, false) => {}
            // The copy is still where it was made: what is here is nobody's data.
            (true, true) => return Err(DataFault::MadeAnew(live)),
            (false, true) => self.files.rename_dir(&copy, &live)?,
            (false, false) => return Err(DataFault::Gone(copy)),
        }
        Ok(())
    }

    /// Puts the old version's data back exactly as it left them, if they were set aside, and drops what was made for
    /// the new one; can be called again and again.
    ///
    /// # Errors
    /// Those of the disk: to be tried again before anything starts.
    pub fn put_back(&self) -> Result<(), DataFault> {
        if !exists(&self.kept)? {
            return Ok(());
        }
        let (live, before, after) = (self.live(), self.before(), self.after());
        if exists(&before)? {
            self.clear_way()?;
            if exists(&live)? {
                self.files.remove_tree(&after)?;
                self.files.rename_dir(&live, &after)?;
            }
            self.files.rename_dir(&before, &live)?;
        }
        // A restart must not find a copy that could be taken for the newest.
        self.files.remove_tree(&self.work())?;
        if let Err(error) = self.files.remove_tree(&after) {
            tracing::warn!(target: "drover", error = %crate::trust::chain(&error), "data of a failed version cannot be removed yet");
        }
        Ok(())
    }

    /// The folders that the old version's data lie in, as a failed version may have removed them, or put a file or a link in
    /// their place.
    fn clear_way(&self) -> Result<(), DataFault> {
        let live = self.live();
        let own = look_at(&self.before())?;
        let above = live.ancestors().skip(1);
        let mut way: Vec<&Path> = above.take_while(|at| at.starts_with(&self.base)).collect();
        way.reverse();
        for at in way.into_iter().chain([live.as_path()]) {
            if exists(at)? && !look_at(at)?.is_dir() {
                self.files.remove_file(at)?;
            }
            if at != live && !exists(at)? {
                self.files.create_dir(at, 0o750)?;
                let made = look_at(at)?;
                if (made.uid(), made.gid()) != (own.uid(), own.gid()) {
                    lchown(at, Some(own.uid()), Some(own.gid())).map_err(|source| durable::Error::Io {
                        action: "set the owner of",
                        path: at.to_owned(),
                        source,
                    })?;
                }
            }
        }
        Ok(())
    }

    /// Whether the old version's data are set aside.
    #[must_use]
    pub fn are_kept(&self) -> bool {
        exists(&self.before()).unwrap_or(false)
    }

    /// Whether the new version's data are in place and the old one's set aside: nothing was put back, not by half.
    #[must_use]
    pub fn are_applied(&self) -> bool {
        self.are_kept() && exists(&self.live()).unwrap_or(false)
    }

    /// Removes all that was kept: once the change has ended.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn drop_kept(&self) -> Result<(), DataFault> {
        self.files.remove_tree(&self.kept)?;
        Ok(())
    }
}

/// Puts the data of `current` back that were set aside for a version that the pointer does not name: where the record
/// of what is installed was damaged and an older one counts.
///
/// # Errors
/// Those of the disk.
pub fn settle(
    files: &Files,
    layout: &Layout,
    component: &Component,
    current: &Digest,
) -> Result<bool, DataFault> {
    let data = Data::new(files, layout, component, None);
    if !data.are_kept() {
        return Ok(false);
    }
    let Some(kept) = data.record().load()?.filter(|kept| kept.of == *current) else {
        return Ok(false);
    };
    Data::new(files, layout, component, kept.folder.as_ref()).put_back()?;
    Ok(true)
}

/// Bytes of the disk that saving takes: the copy, and what a program may make of it.
#[must_use]
pub fn room(measured: &Measured, transforms: bool) -> u64 {
    let entries = u64::try_from(measured.entries).unwrap_or(u64::MAX);
    let copy = measured
        .bytes
        .saturating_add(entries.saturating_mul(DATA_ENTRY_BYTES));
    if transforms {
        copy.max(transformed_most(copy))
    } else {
        copy
    }
}

/// Bytes that transformed data may take.
fn transformed_most(was: u64) -> u64 {
    was.saturating_mul(2).saturating_add(TRANSFORM_GROWTH)
}

fn limits(goes_on: &dyn Fn() -> bool) -> TreeLimits<'_> {
    TreeLimits {
        bytes: MAX_DATA_BYTES,
        entries: MAX_DATA_ENTRIES,
        goes_on,
    }
}

fn exists(path: &Path) -> Result<bool, DataFault> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(DataFault::Look {
            path: path.to_owned(),
            source,
        }),
    }
}

fn look_at(path: &Path) -> Result<fs::Metadata, DataFault> {
    fs::symlink_metadata(path).map_err(|source| DataFault::Look {
        path: path.to_owned(),
        source,
    })
}

fn look_at_target(path: &Path) -> Result<fs::Metadata, DataFault> {
    fs::metadata(path).map_err(|source| DataFault::Look {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A component whose first version keeps `1` in `state/book/page`, copied for the second.
    fn site() -> (tempfile::TempDir, Data) {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path()).unwrap();
        let (component, folder) = ("app".parse().unwrap(), "state/book".parse().unwrap());
        let data = Data::new(&Files::real(), &layout, &component, Some(&folder));
        fs::create_dir_all(data.live()).unwrap();
        fs::write(data.live().join("page"), "1").unwrap();
        data.copy(Digest::from_bytes([1; 32]), &|| true).unwrap();
        (dir, data)
    }

    fn page(data: &Data) -> String {
        fs::read_to_string(data.live().join("page")).unwrap()
    }

    #[test]
    fn a_folder_that_something_made_anew_is_not_taken_for_the_new_versions_data() {
        let (_dir, data) = site();
        // Cut off between the two renames; then something writes where the data were.
        fs::rename(data.live(), data.before()).unwrap();
        fs::create_dir(data.live()).unwrap();
        assert!(matches!(data.apply(), Err(DataFault::MadeAnew(_))));
        data.put_back().unwrap();
        assert_eq!(page(&data), "1");
    }

    #[test]
    fn data_come_back_whatever_a_failed_version_left_on_the_way_there() {
        type Leave = fn(&Path, &Path);
        let leaves: [Leave; 5] = [
            |state, _| fs::remove_dir_all(state).unwrap(),
            |state, _| fs::remove_dir_all(state.parent().unwrap()).unwrap(),
            |state, _| {
                fs::remove_dir_all(state).unwrap();
                fs::write(state, "a file").unwrap();
            },
            |state, outside| {
                fs::remove_dir_all(state).unwrap();
                symlink(outside, state).unwrap();
            },
            |state, outside| {
                fs::remove_dir_all(state.join("book")).unwrap();
                symlink(outside, state.join("book")).unwrap();
            },
        ];
        for leave in leaves {
            let (dir, data) = site();
            let outside = dir.path().join("outside");
            fs::create_dir_all(outside.join("book")).unwrap();
            data.apply().unwrap();
            leave(&data.base.join("state"), &outside);
            data.put_back().unwrap();
            assert_eq!(page(&data), "1");
            assert!(!exists(&data.work()).unwrap() && outside.join("book").is_dir());
        }
    }
}
