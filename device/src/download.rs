//! A target's bytes, from the manager's cache into the store: resumed, hashed as they stream, never more
//! than the signed length, never slower than a floor for long.

use durable::{Store, StoreError};
use http::{StatusCode, header};
use protocol::Step;
use tokio::time::{Instant, sleep};
use tuf::Digest;

use crate::backoff::BackOff;
use crate::bus::Teller;
use crate::http::{HttpError, Streaming};
use crate::limits::{
    BACK_OFF_BASE, BACK_OFF_CAP, DOWNLOAD_FLOOR_BYTES, DOWNLOAD_TIME, DOWNLOAD_TRIES, DOWNLOAD_WINDOW,
    PROGRESS_EVERY,
};
use crate::manager::{Manager, ManagerError};
use crate::random::Random;
use crate::trust::chain;
use crate::writer::{DiskError, Writer, begin};

/// Why a target did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// The disk: full, a wrong digest, too many bytes.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The manager does not deliver.
    #[error("the download failed {tries} times, the last time because {last}")]
    GaveUp {
        /// Tries.
        tries: u32,
        /// The last error with its causes.
        last: String,
    },
}

/// One try's failure that another try may mend.
#[derive(Debug, thiserror::Error)]
enum TryError {
    #[error(transparent)]
    Manager(#[from] ManagerError),
    #[error("the answer is for another range than asked")]
    Range,
    #[error("fewer than {DOWNLOAD_FLOOR_BYTES} bytes came in {} seconds", DOWNLOAD_WINDOW.as_secs())]
    Slow,
    #[error("the download takes longer than {} seconds", DOWNLOAD_TIME.as_secs())]
    Long,
    #[error("the connection ended after {have} of {length} bytes")]
    Short { have: u64, length: u64 },
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl From<HttpError> for TryError {
    fn from(error: HttpError) -> Self {
        Self::Manager(error.into())
    }
}

/// Fetches `digest` of `length` bytes into the store; nothing to do if it is there. All disk work is done in the
/// blocking pool, in pieces: dropped, it leaves one piece there at most.
///
/// # Errors
/// [`DownloadError`]. What has arrived is kept for the next order, unless the disk is full.
pub async fn download(
    manager: &Manager,
    store: &Store,
    digest: Digest,
    length: u64,
    teller: &Teller,
    random: &dyn Random,
) -> Result<(), DownloadError> {
    let incoming = match begin(store, digest, length).await {
        Ok(incoming) => incoming,
        Err(DiskError::Store(StoreError::Held { .. })) => return Ok(()),
        Err(other) => return Err(other.into()),
    };
    let mut writer = Writer::new(incoming);
    teller.tell_bytes(Step::DownloadStarted, writer.offset(), length);
    let mut wait = BackOff::new(BACK_OFF_BASE, BACK_OFF_CAP);
    while !writer.is_complete() {
        let before = writer.offset();
        let tried = one_try(manager, &mut writer, teller).await;
        // What came before a break is written before anything is asked again.
        let settled = writer.settle().await;
        let error = match tried.and_then(|()| settled.map_err(TryError::from)) {
            Ok(()) => continue,
            Err(TryError::Disk(error)) => {
                writer.give_up(&error).await;
                return Err(error.into());
            }
            Err(error) => error,
        };
        // A try that got somewhere does not count against the next.
        if writer.offset() > before {
            wait.reset();
        }
        let pause = wait.next(random);
        if wait.failures() >= DOWNLOAD_TRIES {
            return Err(DownloadError::GaveUp {
                tries: wait.failures(),
                last: chain(&error),
            });
        }
        tracing::info!(target: "drover", error = %chain(&error), offset = writer.offset(), "download interrupted, it will be resumed");
        let asked = match &error {
            TryError::Manager(error) => error.retry_after(),
            _ => None,
        };
        sleep(asked.map_or(pause, |asked| asked.min(BACK_OFF_CAP).max(pause))).await;
    }
    teller.tell_bytes(Step::Downloaded, length, length);
    teller.tell(Step::VerifyStarted);
    writer.finish().await?;
    teller.tell(Step::Verified);
    Ok(())
}

async fn one_try(manager: &Manager, writer: &mut Writer, teller: &Teller) -> Result<(), TryError> {
    let mut answer = manager.target(&writer.digest(), writer.offset()).await?;
    if answer.status == StatusCode::PARTIAL_CONTENT {
        check_range(&answer, writer.offset())?;
    } else if writer.offset() > 0 {
        // The whole comes again: so it is taken whole.
        writer.restart().await?;
    }
    receive(&mut answer, writer, teller).await?;
    if !writer.is_complete() {
        return Err(TryError::Short {
            have: writer.offset(),
            length: writer.length(),
        });
    }
    // At the end of the body the connection is free for the next request; a byte too many is refused.
    if answer
        .next_within(DOWNLOAD_WINDOW)
        .await?
        .is_some_and(|more| !more.is_empty())
    {
        return Err(writer.too_long().into());
    }
    manager.pool().keep(answer);
    Ok(())
}

async fn receive(answer: &mut Streaming, writer: &mut Writer, teller: &Teller) -> Result<(), TryError> {
    let begun = Instant::now();
    let mut told = begun;
    let (mut window, mut in_window) = (begun, 0_u64);
    while !writer.is_complete() {
        if !writer.has_room() {
            writer.written().await?;
            // The disk was waited for, not the manager.
            (window, in_window) = (Instant::now(), 0);
            continue;
        }
        let came = tokio::select! {
            came = answer.next_within(DOWNLOAD_WINDOW) => came?,
            written = writer.written(), if writer.is_writing() => {
                written?;
                continue;
            }
        };
        let Some(bytes) = came else { return Ok(()) };
        writer.take(&bytes)?;
        in_window = in_window.saturating_add(bytes.len() as u64);
        let now = Instant::now();
        if now - window > DOWNLOAD_WINDOW {
            if in_window < DOWNLOAD_FLOOR_BYTES {
                return Err(TryError::Slow);
            }
            (window, in_window) = (now, 0);
        }
        if now - begun > DOWNLOAD_TIME {
            return Err(TryError::Long);
        }
        if now - told > PROGRESS_EVERY {
            told = now;
            teller.tell_bytes(Step::Downloading, writer.offset(), writer.length());
        }
    }
    Ok(())
}

/// RFC 9110 section 14.4: `bytes FIRST-LAST/LENGTH`.
fn check_range(answer: &Streaming, offset: u64) -> Result<(), TryError> {
    let range = answer
        .headers
        .get(header::CONTENT_RANGE)
        .and_then(|value| value.to_str().ok());
    let first = range
        .and_then(|range| range.strip_prefix("bytes "))
        .and_then(|range| range.split('-').next())
        .and_then(|first| first.parse::<u64>().ok());
    if first == Some(offset) {
        Ok(())
    } else {
        Err(TryError::Range)
    }
}
