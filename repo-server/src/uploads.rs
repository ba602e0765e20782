//! Files on their way in: resumable, one sender at a time, invisible until metadata lists them.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use durable::StoreError;
use protocol::author::UploadState;
use protocol::limits::{MAX_TARGET, MAX_UPLOAD_PIECE};
use protocol::{Identity, Role};
use tuf::Digest;

use crate::limits::{OPEN_UPLOADS, WAITING_BYTES, WAITING_UPLOADS};
use crate::storage::Receiving;
use crate::{Refusal, Repository};

/// Uploads that are open in this process.
#[derive(Default)]
pub(crate) struct Uploads {
    slots: Mutex<Slots>,
}

#[derive(Default)]
struct Slots {
    open: HashMap<Digest, Slot>,
    /// Rises with every return, so that the longest unused one can be found.
    turn: u64,
}

enum Slot {
    /// A request writes to it.
    Busy,
    /// Kept so that the next piece goes on without hashing again.
    Idle(Box<dyn Receiving>, u64),
}

impl std::fmt::Debug for Uploads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Uploads").finish_non_exhaustive()
    }
}

impl Uploads {
    /// Marks a digest as busy and gives what was kept of it.
    fn take(&self, digest: Digest) -> Result<Option<Box<dyn Receiving>>, Refusal> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        match slots.open.insert(digest, Slot::Busy) {
            Some(Slot::Busy) => Err(Refusal::UploadBusy { digest }),
            Some(Slot::Idle(receiving, _)) => Ok(Some(receiving)),
            None => Ok(None),
        }
    }

    /// Ends a request: keeps the file open for the next piece, or forgets it.
    fn put_back(&self, digest: Digest, receiving: Option<Box<dyn Receiving>>) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.turn += 1;
        let turn = slots.turn;
        match receiving {
            Some(receiving) => slots.open.insert(digest, Slot::Idle(receiving, turn)),
            None => slots.open.remove(&digest),
        };
        let idle = |slot: &Slot| match slot {
            Slot::Idle(_, turn) => Some(*turn),
            Slot::Busy => None,
        };
        let turns: Vec<u64> = slots.open.values().filter_map(idle).collect();
        if turns.len() > OPEN_UPLOADS
            && let Some(oldest) = turns.into_iter().min()
        {
            slots.open.retain(|_, slot| idle(slot) != Some(oldest));
        }
    }

    /// Closes what is kept open of files that nobody waits for any more.
    pub(crate) fn close_idle_but(&self, keep: &HashSet<Digest>) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots
            .open
            .retain(|digest, slot| matches!(slot, Slot::Busy) || keep.contains(digest));
    }
}

/// One request that adds to a file. Dropped at any point, the file stays resumable.
pub(crate) struct Piece {
    repository: Arc<Repository>,
    digest: Digest,
    receiving: Option<Box<dyn Receiving>>,
}

impl std::fmt::Debug for Piece {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Piece")
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.repository
            .uploads
            .put_back(self.digest, self.receiving.take());
    }
}

/// What a piece may be added to.
pub(crate) enum Opened {
    /// It is here already.
    Complete(UploadState),
    /// Write here.
    Piece(Piece),
}

impl Repository {
    /// How much of a file is here.
    #[must_use]
    pub fn upload_state(&self, digest: &Digest) -> UploadState {
        match self.storage.length(digest) {
            Some(length) => UploadState {
                received: length,
                complete: true,
            },
            None => UploadState {
                received: self.storage.arrived(digest),
                complete: false,
            },
        }
    }

    /// Opens a file for the bytes from `offset` on.
    pub(crate) fn open_upload(
        self: &Arc<Self>,
        peer: &Identity,
        digest: Digest,
        length: u64,
        offset: u64,
    ) -> Result<Opened, Refusal> {
        if length > MAX_TARGET {
            return Err(Refusal::BodyTooLarge { max: MAX_TARGET });
        }
        let kept = self.uploads.take(digest)?;
        // From here on the slot is given back whatever happens.
        let mut piece = Piece {
            repository: Arc::clone(self),
            digest,
            receiving: None,
        };
        // Noted before it is looked for: what is noted is not collected.
        self.note_upload(peer.role, digest, length)?;
        if let Some(length) = self.storage.length(&digest) {
            return Ok(Opened::Complete(UploadState {
                received: length,
                complete: true,
            }));
        }
        let kept = kept.filter(|receiving| receiving.length() == length);
        let receiving = match kept {
            Some(receiving) => receiving,
            None => self.storage.begin(digest, length)?,
        };
        let received = receiving.offset();
        piece.receiving = Some(receiving);
        if received != offset {
            return Err(Refusal::UploadOffset {
                state: UploadState {
                    received,
                    complete: false,
                },
            });
        }
        Ok(Opened::Piece(piece))
    }

    /// Notes that a file waits for its metadata, within what may wait. A manager brings only what a verified
    /// targets role lists and this repository has asked for.
    fn note_upload(&self, role: Role, digest: Digest, length: u64) -> Result<(), Refusal> {
        let now = self.now();
        let mut core = self.core();
        if core.listing.entries.values().any(|entry| entry.sha256 == digest) {
            return Ok(());
        }
        if role == Role::Manager && core.wanted.get(&digest) != Some(&length) {
            return Err(Refusal::NotWanted { digest });
        }
        let (waiting, bytes) = core.database.waiting(role, &digest)?;
        if waiting >= WAITING_UPLOADS as u64 || bytes.saturating_add(length) > WAITING_BYTES {
            return Err(Refusal::UploadQuota);
        }
        let change = core.database.begin()?;
        change.note_upload(&digest, length, role, now)?;
        Ok(change.commit()?)
    }
}

impl Piece {
    /// Bytes this request may bring.
    pub(crate) fn room(&self) -> u64 {
        let left = self
            .receiving
            .as_ref()
            .map_or(0, |file| file.length().saturating_sub(file.offset()));
        left.min(MAX_UPLOAD_PIECE)
    }

    /// Takes the next bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        match &mut self.receiving {
            Some(receiving) => receiving.write(bytes).map_err(|error| match error {
                StoreError::TooLong { length, .. } => Refusal::BodyTooLarge { max: length },
                other => other.into(),
            }),
            None => Err(Refusal::UploadBusy { digest: self.digest }),
        }
    }

    /// Ends the request; a file that is whole is checked and stored, durable on return.
    pub(crate) fn end(mut self) -> Result<UploadState, Refusal> {
        let Some(receiving) = self.receiving.take() else {
            return Err(Refusal::UploadBusy { digest: self.digest });
        };
        let received = receiving.offset();
        if received < receiving.length() {
            self.receiving = Some(receiving);
            return Ok(UploadState {
                received,
                complete: false,
            });
        }
        receiving.finish()?;
        Ok(UploadState {
            received,
            complete: true,
        })
    }
}
