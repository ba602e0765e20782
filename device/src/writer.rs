//! A file on its way into the store, hashed and written beside the agent's one thread: while one piece is on its way
//! to the disk the next arrives. What waits is bounded, and a slow disk slows the network down.

use std::mem;

use durable::{Incoming, Store, StoreError, TakenUp};
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tokio::time::sleep;
use tuf::Digest;

use crate::limits::{FLUSH_EVERY, HASH_PIECE, PART_PAUSE, PART_TRIES, WRITE_PIECE};
use crate::trust::chain;

/// What the disk did not do.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The store refuses: a full disk, a wrong digest, too many bytes.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The agent ends.
    #[error("the work on the disk was cut off")]
    CutOff(#[from] JoinError),
}

/// Starts or resumes receiving a file: what is there of it is hashed piece by piece.
///
/// # Errors
/// [`DiskError`]; [`StoreError::Held`] if the file is there.
pub async fn begin(store: &Store, digest: Digest, length: u64) -> Result<Incoming, DiskError> {
    let mut tries = 0;
    let mut part = loop {
        let store = store.clone();
        match spawn_blocking(move || store.open_part(digest, length)).await? {
            // A download that was given up just now still has its last piece under way.
            Err(StoreError::Busy { .. }) if tries < PART_TRIES => {
                tries += 1;
                sleep(PART_PAUSE).await;
            }
            opened => break opened?,
        }
    };
    loop {
        match spawn_blocking(move || part.take_up(HASH_PIECE)).await?? {
            TakenUp::All(incoming) => return Ok(incoming),
            TakenUp::Some(rest) => part = rest,
        }
    }
}

/// Writes what arrives.
#[derive(Debug)]
pub struct Writer {
    hand: Hand,
    /// What has arrived and is not yet on its way to the disk.
    waiting: Vec<u8>,
    digest: Digest,
    length: u64,
    /// Bytes that have arrived, those that wait included.
    offset: u64,
}

/// Where the file is.
#[derive(Debug)]
enum Hand {
    Idle(Sheet),
    Writing(JoinHandle<(Sheet, Result<(), StoreError>)>),
    /// It went down with the blocking pool.
    Lost,
}

/// The file and what belongs to it while it is written.
#[derive(Debug)]
struct Sheet {
    incoming: Incoming,
    /// Bytes written since the last flush.
    unflushed: u64,
}

impl Sheet {
    fn write(&mut self, piece: &[u8]) -> Result<(), StoreError> {
        self.incoming.write(piece)?;
        self.unflushed = self.unflushed.saturating_add(piece.len() as u64);
        if self.unflushed >= FLUSH_EVERY {
            self.unflushed = 0;
            self.incoming.flush()?;
        }
        Ok(())
    }
}

impl Writer {
    /// Goes on with `incoming`.
    #[must_use]
    pub fn new(incoming: Incoming) -> Self {
        Self {
            digest: incoming.digest(),
            length: incoming.length(),
            offset: incoming.offset(),
            waiting: Vec::new(),
            hand: Hand::Idle(Sheet {
                incoming,
                unflushed: 0,
            }),
        }
    }

    /// Bytes that have arrived: the next one to fetch.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The announced length.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// What is being received.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Whether all bytes have arrived.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.offset == self.length
    }

    /// Whether more may arrive before the disk has caught up.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.waiting.len() < WRITE_PIECE
    }

    /// Whether a piece is on its way to the disk.
    #[must_use]
    pub fn is_writing(&self) -> bool {
        matches!(self.hand, Hand::Writing(_))
    }

    /// More bytes than announced.
    #[must_use]
    pub fn too_long(&self) -> DiskError {
        let (digest, length) = (self.digest, self.length);
        StoreError::TooLong { digest, length }.into()
    }

    /// Takes the next bytes; they are on their way to the disk as soon as it is free.
    ///
    /// # Errors
    /// [`StoreError::TooLong`], nothing of `bytes` taken.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(), DiskError> {
        if bytes.len() as u64 > self.length.saturating_sub(self.offset) {
            return Err(self.too_long());
        }
        self.offset = self.offset.saturating_add(bytes.len() as u64);
        self.waiting.extend_from_slice(bytes);
        self.start();
        Ok(())
    }

    /// Sends what waits to the disk, if that is free.
    fn start(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        match mem::replace(&mut self.hand, Hand::Lost) {
            Hand::Idle(mut sheet) => {
                let piece = mem::take(&mut self.waiting);
                self.hand = Hand::Writing(spawn_blocking(move || {
                    let written = sheet.write(&piece);
                    (sheet, written)
                }));
            }
            other => self.hand = other,
        }
    }

    /// Waits for the piece under way, and starts the next. May be dropped and called again.
    ///
    /// # Errors
    /// Those of the disk: then [`Self::offset`] is what is there.
    pub async fn written(&mut self) -> Result<(), DiskError> {
        let Hand::Writing(writing) = &mut self.hand else {
            return Ok(());
        };
        let ended = writing.await;
        self.hand = Hand::Lost;
        let (sheet, written) = ended?;
        if written.is_err() {
            self.waiting.clear();
            self.offset = sheet.incoming.offset();
        }
        self.hand = Hand::Idle(sheet);
        written?;
        self.start();
        Ok(())
    }

    /// Waits until all that has arrived is written.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn settle(&mut self) -> Result<(), DiskError> {
        while self.is_writing() {
            self.written().await?;
        }
        Ok(())
    }

    /// Does something with the file, once all is written.
    async fn with<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(Incoming) -> T + Send + 'static,
    ) -> Result<T, DiskError> {
        self.settle().await?;
        match mem::replace(&mut self.hand, Hand::Lost) {
            Hand::Idle(sheet) => Ok(spawn_blocking(move || work(sheet.incoming)).await?),
            Hand::Writing(_) | Hand::Lost => Err(self.gone().into()),
        }
    }

    /// A file that went down with the blocking pool has no more bytes than were kept.
    fn gone(&self) -> StoreError {
        StoreError::Missing { digest: self.digest }
    }

    /// Throws away what has arrived and begins again.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn restart(&mut self) -> Result<(), DiskError> {
        let restarted = self
            .with(|mut incoming| incoming.restart().map(|()| incoming))
            .await??;
        *self = Self::new(restarted);
        Ok(())
    }

    /// Verifies the whole and puts it into the store, durable on return.
    ///
    /// # Errors
    /// As [`Incoming::finish`].
    pub async fn finish(mut self) -> Result<(), DiskError> {
        self.with(|incoming| incoming.finish().map(drop)).await??;
        Ok(())
    }

    /// A full disk needs every byte back; all else is worth keeping.
    pub async fn give_up(mut self, error: &DiskError) {
        if !matches!(error, DiskError::Store(StoreError::File(file)) if file.is_full()) {
            return;
        }
        if let Ok(Err(error)) = self.with(Incoming::abort).await {
            tracing::warn!(target: "drover", error = %chain(&error), "what has arrived cannot be removed");
        }
    }
}
