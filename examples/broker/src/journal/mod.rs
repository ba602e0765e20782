//! What must survive `kill -9` and a power cut, as a file that only grows: sessions that are to be remembered, with
//! everything that was acknowledged for them.
//!
//! It holds events, not the state, so it is the same in every version of the broker. What one turn of the broker's
//! loop adds is one group with one checksum and one flush; a group torn by a cut is dropped whole. When the file has
//! grown it is written anew with what is still true.

mod record;
mod replay;

use std::path::{Path, PathBuf};

use durable::{Files, Growing};

pub use record::Record;
pub use replay::{replay, snapshot};

use crate::layout::Layout;
use crate::limits;
use crate::state::State;

const MAGIC: [u8; 10] = *b"drjournal1";
const GROUP_HEADER: usize = 8;

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk.
    #[error("the journal cannot be kept")]
    Disk(#[from] durable::Error),
    /// Something that no cut can have done.
    #[error(
        "the journal {path} is damaged at byte {at}: {what}; restore it, or move it away and lose what clients were \
         promised"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        at: usize,
        /// How.
        what: &'static str,
    },
}

/// The open journal.
#[derive(Debug)]
pub struct Journal {
    files: Files,
    path: PathBuf,
    file: Growing,
    rewrite_at: u64,
    group: Vec<u8>,
}

impl Journal {
    /// Opens the journal at `path`, making an empty one if there is none, and says what it has kept.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn open<L: Layout>(files: Files, path: &Path) -> Result<(Self, State<L>), JournalError> {
        let bytes = match files.read_limited(path, limits::JOURNAL_READ_BYTES) {
            Err(error) if error.is_missing() => MAGIC.to_vec(),
            read => read?,
        };
        let damaged = |(at, what)| JournalError::Damaged {
            path: path.to_owned(),
            at,
            what,
        };
        let state = replay(&whole_groups(&bytes).map_err(damaged)?).map_err(damaged)?;
        // What is written anew ends in no torn group, and a start is the moment for it.
        Ok((Self::anew(files, path, &state)?, state))
    }

    /// Goes on with a journal that another process has written and left.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn resume(files: Files, path: &Path) -> Result<Self, JournalError> {
        let file = Growing::open(files.clone(), path, 0o600)?;
        Ok(Self {
            files,
            path: path.to_owned(),
            rewrite_at: limits::JOURNAL_BYTES.max(file.length() * 2),
            file,
            group: Vec::new(),
        })
    }

    /// A journal of what `state` holds and nothing else.
    fn anew<L: Layout>(files: Files, path: &Path, state: &State<L>) -> Result<Self, JournalError> {
        let mut bytes = MAGIC.to_vec();
        for group in snapshot(state) {
            put_group(&group, &mut bytes);
        }
        files.replace(path, &bytes, 0o600)?;
        Self::resume(files, path)
    }

    /// Adds `records` as one group. When this returns they are on the disk.
    ///
    /// # Errors
    /// Those of the disk. The group may or may not be there: nothing of it may be told to anyone, and the broker
    /// must end.
    pub fn append(&mut self, records: &[u8]) -> Result<(), JournalError> {
        if records.is_empty() {
            return Ok(());
        }
        self.group.clear();
        put_group(records, &mut self.group);
        Ok(self.file.append(&self.group)?)
    }

    /// Writes the journal anew if it has grown: what `state` holds is all that is true.
    ///
    /// # Errors
    /// Those of the disk; the old journal is then still there.
    pub fn tidy<L: Layout>(&mut self, state: &State<L>) -> Result<(), JournalError> {
        if self.file.length() >= self.rewrite_at {
            *self = Self::anew(self.files.clone(), &self.path, state)?;
        }
        Ok(())
    }
}

fn put_group(records: &[u8], out: &mut Vec<u8>) {
    let length = u32::try_from(records.len()).unwrap_or(u32::MAX);
    debug_assert!(records.len() <= limits::GROUP_BYTES);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(records).to_le_bytes());
    out.extend_from_slice(records);
}

/// The records of all groups that are whole. A last group that is not was torn by a cut; what is wrong before the
/// last group is damage.
fn whole_groups(bytes: &[u8]) -> Result<Vec<&[u8]>, (usize, &'static str)> {
    let mut rest = bytes
        .strip_prefix(&MAGIC)
        .ok_or((0, "this is no journal of a broker"))?;
    let mut groups = Vec::new();
    while !rest.is_empty() {
        let at = bytes.len() - rest.len();
        if rest.iter().all(|byte| *byte == 0) {
            break; // The length reached the disk, the bytes did not.
        }
        let Some((header, body)) = rest.split_at_checked(GROUP_HEADER) else {
            break;
        };
        let (length, checksum) = header.split_at(4);
        let length = length.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes)) as usize;
        if length == 0 || length > limits::GROUP_BYTES {
            return Err((at, "a group has an impossible length"));
        }
        let Some((group, next)) = body.split_at_checked(length) else {
            break;
        };
        if checksum != crc32fast::hash(group).to_le_bytes() {
            if next.is_empty() {
                break;
            }
            return Err((at, "the checksum of a group is wrong"));
        }
        groups.push(group);
        rest = next;
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal() -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        put_group(b"first", &mut bytes);
        put_group(b"second", &mut bytes);
        bytes
    }

    #[test]
    fn a_torn_last_group_is_dropped_and_nothing_else() {
        let bytes = journal();
        let second = bytes.len() - b"second".len() - GROUP_HEADER;
        for end in second..bytes.len() {
            assert_eq!(whole_groups(&bytes[..end]).unwrap(), [b"first"], "cut at {end}");
            let mut zeroed = bytes.clone();
            zeroed[end..].fill(0);
            assert_eq!(whole_groups(&zeroed).unwrap(), [b"first"], "zeros from {end}");
        }
        assert_eq!(whole_groups(&bytes).unwrap(), [b"first".as_slice(), b"second"]);
    }

    #[test]
    fn damage_before_the_last_group_is_an_error() {
        let good = journal();
        for place in 0..good.len() - b"second".len() - GROUP_HEADER {
            let mut bytes = good.clone();
            bytes[place] ^= 1;
            // A length that reaches beyond the end looks torn; anything else is found.
            if let Ok(groups) = whole_groups(&bytes) {
                assert!(groups.is_empty(), "{place}: {groups:?}");
            }
        }
    }
}
