//! A program's data before and after: which files there are, and what is in them.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use tuf::Digest;

use crate::limits::REHEARSAL_FILES;

/// Files by their path below the data folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Data {
    files: BTreeMap<String, Digest>,
    /// There were more than are looked at.
    more: bool,
}

impl Data {
    /// What lies in a folder now; what cannot be read is not there.
    pub(super) fn of(folder: &Path) -> Self {
        let mut data = Self::default();
        data.take(folder, folder);
        data
    }

    fn take(&mut self, top: &Path, folder: &Path) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if self.files.len() >= REHEARSAL_FILES {
                self.more = true;
                return;
            }
            let path = entry.path();
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                self.take(top, &path);
            } else if kind.is_file()
                && let Ok((digest, _)) = File::open(&path).and_then(durable::hash_file)
            {
                let name = path.strip_prefix(top).unwrap_or(&path);
                self.files.insert(name.to_string_lossy().into_owned(), digest);
            }
        }
    }

    /// How many files.
    pub(super) fn count(&self) -> usize {
        self.files.len()
    }

    /// Files of this that are not in `later`.
    pub(super) fn missing_in(&self, later: &Self) -> Vec<&str> {
        if later.more {
            return Vec::new();
        }
        let names = self.files.keys().filter(|name| !later.files.contains_key(*name));
        names.map(String::as_str).collect()
    }

    /// Files that are in both with other contents.
    pub(super) fn changed_in(&self, later: &Self) -> usize {
        let same = |(name, digest): &(&String, &Digest)| later.files.get(*name) == Some(*digest);
        let kept = self
            .files
            .iter()
            .filter(|(name, _)| later.files.contains_key(*name));
        kept.filter(|pair| !same(pair)).count()
    }
}
