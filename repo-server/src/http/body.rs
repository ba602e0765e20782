//! Bodies from outside: bounded in size, and cut when they come too slowly.

use axum::body::{Body, BodyDataStream};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_LENGTH;
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};

use crate::{Limits, Refusal};

/// A body that is read piece by piece.
pub(crate) struct Paced {
    body: BodyDataStream,
    received: u64,
    in_window: u64,
    window_end: Instant,
    limits: Limits,
}

impl Paced {
    pub(crate) fn new(body: Body, limits: &Limits) -> Self {
        Self {
            body: body.into_data_stream(),
            received: 0,
            in_window: 0,
            window_end: Instant::now() + limits.pace_window,
            limits: limits.clone(),
        }
    }

    /// The next piece; none at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        loop {
            match timeout_at(self.window_end, self.body.next()).await {
                Ok(None) => return Ok(None),
                Ok(Some(Ok(bytes))) => {
                    self.received += bytes.len() as u64;
                    self.in_window += bytes.len() as u64;
                    if Instant::now() >= self.window_end {
                        self.end_window()?;
                    }
                    return Ok(Some(bytes));
                }
                Ok(Some(Err(_))) => {
                    return Err(Refusal::BodyCut {
                        received: self.received,
                    });
                }
                Err(_) => self.end_window()?,
            }
        }
    }

    /// The disk's time is not held against the peer: a window ends only while we wait for it.
    fn end_window(&mut self) -> Result<(), Refusal> {
        if self.in_window < self.limits.pace_bytes {
            let Limits {
                pace_bytes: bytes,
                pace_window: window,
                ..
            } = self.limits;
            return Err(Refusal::BodySlow { bytes, window });
        }
        self.in_window = 0;
        self.window_end = Instant::now() + self.limits.pace_window;
        Ok(())
    }
}

/// Refuses by its header what announces too much.
pub(crate) fn check_length(headers: &HeaderMap, max: u64) -> Result<(), Refusal> {
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    match announced {
        Some(length) if length > max => Err(Refusal::BodyTooLarge { max }),
        _ => Ok(()),
    }
}

/// A whole JSON body.
pub(crate) async fn json<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Body,
    max: usize,
    limits: &Limits,
) -> Result<T, Refusal> {
    check_length(headers, max as u64)?;
    let mut paced = Paced::new(body, limits);
    let mut whole = Vec::new();
    while let Some(bytes) = paced.next().await? {
        if whole.len() + bytes.len() > max {
            return Err(Refusal::BodyTooLarge { max: max as u64 });
        }
        whole.extend_from_slice(&bytes);
    }
    serde_json::from_slice(&whole)
        .map_err(|error| Refusal::Malformed(format!("the body is not the JSON that belongs here: {error}")))
}
