//! Which files of the mirror are being sent, so that none of them is removed meanwhile.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tuf::Digest;

/// The files that are being sent, and those that are being removed: never the same one. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sends(Arc<Mutex<Files>>);

#[derive(Debug, Default)]
struct Files {
    /// With the number of those who send it: as many as there are requests under way.
    sent: HashMap<Digest, usize>,
    going: HashSet<Digest>,
}

/// A file that stays until this is dropped.
#[derive(Debug)]
pub(crate) struct Sending(Sends, Digest);

/// A file that nobody begins to send until this is dropped.
#[derive(Debug)]
pub(crate) struct Removing(Sends, Digest);

impl Sends {
    fn files(&self) -> MutexGuard<'_, Files> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody is about to send a file; none while it is being removed.
    pub(crate) fn send(&self, digest: &Digest) -> Option<Sending> {
        let mut files = self.files();
        if files.going.contains(digest) {
            return None;
        }
        *files.sent.entry(*digest).or_default() += 1;
        Some(Sending(self.clone(), *digest))
    }

    /// A file is about to be removed; none while somebody sends it.
    pub(crate) fn remove(&self, digest: &Digest) -> Option<Removing> {
        let mut files = self.files();
        if files.sent.contains_key(digest) || !files.going.insert(*digest) {
            return None;
        }
        Some(Removing(self.clone(), *digest))
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        let mut files = self.0.files();
        if let Some(count) = files.sent.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                files.sent.remove(&self.1);
            }
        }
    }
}

impl Drop for Removing {
    fn drop(&mut self) {
        self.0.files().going.remove(&self.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_sent_or_removed_and_never_both() {
        let sends = Sends::default();
        let (file, other) = (Digest::of(b"file"), Digest::of(b"other"));
        let (first, second) = (sends.send(&file).unwrap(), sends.send(&file).unwrap());
        assert!(sends.remove(&file).is_none());
        assert!(sends.remove(&other).is_some());
        drop(first);
        assert!(sends.remove(&file).is_none(), "another one still sends it");
        drop(second);
        let going = sends.remove(&file).unwrap();
        assert!(sends.send(&file).is_none() && sends.remove(&file).is_none());
        drop(going);
        assert!(sends.send(&file).is_some());
        assert!(sends.files().sent.is_empty() && sends.files().going.is_empty());
    }
}
