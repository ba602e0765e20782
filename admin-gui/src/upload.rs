//! Bytes to the repository: in pieces, from where the last try stopped, invisible until they are published.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, stream};
use protocol::author::UploadState;
use tuf::Digest;

use crate::limits::{CHUNK, PIECE, UPLOAD_TRIES, UPLOAD_WAIT, UPLOAD_WAIT_MAX};
use crate::progress::{Progress, Sink};
use crate::repository::{ClientError, Piece, Repository};

/// Why an upload did not end. What has arrived stays at the repository for the next try.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The repository or the way to it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The repository has all bytes, and they are not the file's.
    #[error(
        "the repository received {length} bytes of {}, but their digest is not {digest}: was the file changed \
         meanwhile? publish it again",
        path.display()
    )]
    Different {
        /// The file.
        path: PathBuf,
        /// Its length.
        length: u64,
        /// What was announced.
        digest: Digest,
    },
    /// It keeps saying different offsets.
    #[error("the repository does not get on with the upload of {}: stuck at {received} of {length} bytes", path.display())]
    Stuck {
        /// The file.
        path: PathBuf,
        /// Bytes that are there.
        received: u64,
        /// Bytes in all.
        length: u64,
    },
}

/// How long a broken upload is picked up again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Tries without a byte of progress.
    pub tries: u32,
    /// First wait between two; doubles, with full jitter.
    pub wait: Duration,
    /// Longest wait.
    pub longest: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            tries: UPLOAD_TRIES,
            wait: UPLOAD_WAIT,
            longest: UPLOAD_WAIT_MAX,
        }
    }
}

impl Patience {
    /// Full jitter: anything from nothing to the doubled wait.
    fn wait(self, tries: u32) -> Duration {
        let most = self.wait.saturating_mul(1 << tries.min(10)).min(self.longest);
        let mut bytes = [0; 2];
        // Without randomness the longest wait is as good.
        let part = match getrandom::fill(&mut bytes) {
            Ok(()) => f64::from(u16::from_le_bytes(bytes)) / f64::from(u16::MAX),
            Err(_) => 1.0,
        };
        most.mul_f64(part)
    }
}

/// What is to be uploaded.
#[derive(Debug, Clone)]
pub struct Cargo<'a> {
    /// The file.
    pub path: &'a Path,
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub length: u64,
}

/// Brings the file to the repository; gives the number of bytes that had to be sent.
///
/// # Errors
/// [`UploadError`]; passing ones only after as many tries as `patience` has without a byte of progress.
pub async fn upload(
    repository: &Repository,
    cargo: &Cargo<'_>,
    patience: Patience,
    sink: &Sink,
) -> Result<u64, UploadError> {
    let mut sent = 0;
    let mut tries = 0;
    let mut furthest = 0;
    let mut known: Option<UploadState> = None;
    loop {
        let outcome = match known.take() {
            Some(state) => Ok(state),
            None => repository.upload_state(&cargo.digest).await,
        };
        let outcome = match outcome {
            Ok(state) if state.complete => {
                sink(&Progress::Uploading {
                    done: cargo.length,
                    total: cargo.length,
                });
                return Ok(sent);
            }
            Ok(state) if state.received >= cargo.length => return Err(different(cargo)),
            Ok(state) => {
                if state.received > furthest {
                    (furthest, tries) = (state.received, 0);
                }
                send_piece(repository, cargo, state.received, &mut sent, sink).await
            }
            Err(error) => Err(UploadError::Client(error)),
        };
        tries += 1;
        match outcome {
            Ok(Piece::Stored(state)) => known = Some(state),
            // Another publish of the same file may run, or an answer was lost: go where it says.
            Ok(Piece::Elsewhere(state)) if tries < patience.tries => known = Some(state),
            Ok(Piece::Elsewhere(state)) => {
                let (path, length) = (cargo.path.to_owned(), cargo.length);
                return Err(UploadError::Stuck {
                    path,
                    received: state.received,
                    length,
                });
            }
            Err(UploadError::Client(error)) if error.is_passing() && tries < patience.tries => {
                sink(&Progress::Trouble(error.to_string()));
                tokio::time::sleep(patience.wait(tries)).await;
            }
            Err(UploadError::Client(error)) if error.word() == "upload-corrupt" => {
                return Err(different(cargo));
            }
            Err(error) => return Err(error),
        }
    }
}

fn different(cargo: &Cargo<'_>) -> UploadError {
    UploadError::Different {
        path: cargo.path.to_owned(),
        length: cargo.length,
        digest: cargo.digest,
    }
}

async fn send_piece(
    repository: &Repository,
    cargo: &Cargo<'_>,
    offset: u64,
    sent: &mut u64,
    sink: &Sink,
) -> Result<Piece, UploadError> {
    let read = |source| UploadError::Read {
        path: cargo.path.to_owned(),
        source,
    };
    let mut file = File::open(cargo.path).map_err(read)?;
    file.seek(SeekFrom::Start(offset)).map_err(read)?;
    let count = PIECE.min(cargo.length - offset);
    let pieces = chunks(file, count, offset, cargo.length, Arc::clone(sink));
    let piece = repository
        .upload_piece(&cargo.digest, cargo.length, offset, count, pieces)
        .await?;
    if let Piece::Stored(state) = &piece {
        *sent += state.received.saturating_sub(offset);
    }
    Ok(piece)
}

/// The next `count` bytes of the file, read away from the async threads; tells how far it has got.
fn chunks(
    file: File,
    count: u64,
    offset: u64,
    total: u64,
    sink: Sink,
) -> impl Stream<Item = std::io::Result<Bytes>> + Send + 'static {
    stream::try_unfold((file, count, offset), move |(file, left, done)| {
        let sink = Arc::clone(&sink);
        async move {
            if left == 0 {
                return Ok(None);
            }
            let (file, bytes) = tokio::task::spawn_blocking(move || read_chunk(file, left))
                .await
                .map_err(std::io::Error::other)??;
            let count = bytes.len() as u64;
            if count == 0 {
                return Err(std::io::Error::new(
                    std::io::ErrorKind::UnexpectedEof,
                    "the file became shorter",
                ));
            }
            let done = done + count;
            sink(&Progress::Uploading { done, total });
            Ok(Some((bytes, (file, left - count, done))))
        }
    })
}

fn read_chunk(mut file: File, left: u64) -> std::io::Result<(File, Bytes)> {
    let want = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
    let mut buffer = vec![0; want];
    let count = loop {
        match file.read(&mut buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    buffer.truncate(count);
    Ok((file, buffer.into()))
}
