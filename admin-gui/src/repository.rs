//! The repository as the author sees it: metadata to read, bytes to upload, roles to publish, reports to
//! read back. One HTTPS connection with the author's certificate, kept open between requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use http::StatusCode;
use protocol::author::{Publish, Receipt, Recover, Recovered, ReportPage, UploadState};
use protocol::device::Problem;
use reqwest::{Body, Client, RequestBuilder, Response};
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use tuf::Digest;

use crate::limits::{ANSWER_BYTES, CONNECT, READ, REPORT_PAGE_BYTES};

/// The last cause of a failure: what a library puts around it says the same again.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Cause(String);

impl Cause {
    fn of(error: &dyn std::error::Error) -> Self {
        let mut last = error;
        while let Some(source) = last.source() {
            last = source;
        }
        Self(last.to_string())
    }
}

/// Why the repository did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is not one.
    #[error("{0:?} is not an address of a repository: write https://HOST:PORT")]
    Address(String),
    /// The connection cannot be set up on this side.
    #[error("cannot prepare connections to the repository")]
    Setup(#[source] reqwest::Error),
    /// Nobody answers, or not as our repository.
    #[error("cannot reach the repository at {base}: start it, or mend `repository` in author.toml")]
    Unreachable {
        /// Its address.
        base: String,
        /// Why.
        #[source]
        source: Cause,
    },
    /// Not our repository, or we are not its author.
    #[error("no connection to the repository at {base}, because of a certificate")]
    Untrusted {
        /// Its address.
        base: String,
        /// Whose, and what is wrong with it.
        #[source]
        source: mtls::Refusal,
    },
    /// The connection broke in the middle.
    #[error("the connection to the repository broke during {what}: try again, what has arrived is kept")]
    Broken {
        /// Which request.
        what: &'static str,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// No byte moved for too long.
    #[error("the repository has been silent for {} s during {what}: try again, what has arrived is kept", READ.as_secs())]
    Silent {
        /// Which request.
        what: &'static str,
    },
    /// It said no.
    #[error("the repository refused {what} ({status}): {message}")]
    Refused {
        /// Which request.
        what: &'static str,
        /// HTTP status.
        status: StatusCode,
        /// Its stable word, if it sent one.
        code: String,
        /// Its sentence.
        message: String,
    },
    /// More bytes than the answer may have.
    #[error("the repository's answer to {what} is larger than {max} bytes: it looks like endless data")]
    TooLarge {
        /// Which request.
        what: &'static str,
        /// The limit.
        max: usize,
    },
    /// Not what was agreed.
    #[error("the repository's answer to {what} cannot be read: is it a Drover repository of this version?")]
    Malformed {
        /// Which request.
        what: &'static str,
        /// Where it breaks.
        #[source]
        source: serde_json::Error,
    },
}

impl ClientError {
    /// Whether the same request may work a moment later.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Broken { .. } | Self::Silent { .. } => true,
            Self::Refused { status, .. } => {
                // 423: an earlier request for the same file has not ended yet.
                matches!(
                    *status,
                    StatusCode::TOO_MANY_REQUESTS
                        | StatusCode::SERVICE_UNAVAILABLE
                        | StatusCode::REQUEST_TIMEOUT
                        | StatusCode::LOCKED
                )
            }
            _ => false,
        }
    }

    /// Somebody else was faster: the versions moved on.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                status: StatusCode::CONFLICT,
                ..
            }
        )
    }

    /// The connection failed, so that it is not known what the repository has heard.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        matches!(self, Self::Broken { .. } | Self::Silent { .. })
    }

    /// The repository's stable word for its refusal; empty if there is none.
    #[must_use]
    pub fn word(&self) -> &str {
        match self {
            Self::Refused { code, .. } => code,
            _ => "",
        }
    }

    /// The repository has no room left.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                status: StatusCode::INSUFFICIENT_STORAGE,
                ..
            }
        )
    }
}

/// A repository and how to talk to it.
#[derive(Debug, Clone)]
pub struct Repository {
    http: Client,
    base: String,
}

/// What came of a piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// It is there.
    Stored(UploadState),
    /// The repository is at another offset: go on from there.
    Elsewhere(UploadState),
}

impl Repository {
    /// A repository at `base` (`https://HOST:PORT`); no connection is made yet.
    ///
    /// # Errors
    /// `base` is not such an address; TLS cannot be set up.
    pub fn new(base: &str, tls: mtls::ClientConfig) -> Result<Self, ClientError> {
        let address = || ClientError::Address(base.to_owned());
        let url = reqwest::Url::parse(base).map_err(|_| address())?;
        if url.scheme() != "https" || url.host_str().is_none() || !matches!(url.path(), "" | "/") {
            return Err(address());
        }
        let http = Client::builder()
            .tls_backend_preconfigured(tls)
            .http1_only()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .build()
            .map_err(ClientError::Setup)?;
        Ok(Self {
            http,
            base: base.trim_end_matches('/').to_owned(),
        })
    }

    /// Its address.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    fn api(&self, path: &str) -> String {
        format!("{}/api/v1/{path}", self.base)
    }

    /// A metadata file; none if the repository has none of this name.
    ///
    /// # Errors
    /// [`ClientError`]; a file beyond `max` bytes is not read to its end.
    pub async fn metadata(&self, path: &str, max: u64) -> Result<Option<Vec<u8>>, ClientError> {
        let what = "reading metadata";
        let response = self
            .send(what, self.http.get(format!("{}/metadata/{path}", self.base)))
            .await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let response = accepted(what, response).await?;
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        Ok(Some(body(what, response, max).await?))
    }

    /// How much of a target has arrived.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn upload_state(&self, digest: &Digest) -> Result<UploadState, ClientError> {
        let what = "asking for the state of an upload";
        let response = self
            .send(what, self.http.get(self.api(&format!("uploads/{digest}"))))
            .await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(UploadState {
                received: 0,
                complete: false,
            });
        }
        json(what, accepted(what, response).await?, ANSWER_BYTES).await
    }

    /// Sends `count` bytes of a target that has `length` in all, beginning at `offset`.
    ///
    /// There is no deadline, only one for silence: a slow link is not an error.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn upload_piece<S>(
        &self,
        digest: &Digest,
        length: u64,
        offset: u64,
        count: u64,
        pieces: S,
    ) -> Result<Piece, ClientError>
    where
        S: Stream<Item = std::io::Result<Bytes>> + Send + 'static,
    {
        let what = "an upload";
        let url = self.api(&format!("uploads/{digest}?length={length}"));
        let alive = Alive::new();
        let request = self
            .http
            .patch(url)
            .header("Upload-Offset", offset)
            .header(http::header::CONTENT_LENGTH, count)
            .header(http::header::CONTENT_TYPE, "application/octet-stream")
            .body(Body::wrap_stream(alive.watch(pieces)));
        let response = tokio::select! {
            sent = request.send() => sent.map_err(|source| self.failed(what, source))?,
            () = alive.silence() => return Err(ClientError::Silent { what }),
        };
        if response.status() == StatusCode::CONFLICT {
            return Ok(Piece::Elsewhere(json(what, response, ANSWER_BYTES).await?));
        }
        Ok(Piece::Stored(
            json(what, accepted(what, response).await?, ANSWER_BYTES).await?,
        ))
    }

    /// Makes a new state visible.
    ///
    /// # Errors
    /// [`ClientError::is_conflict`] if `expects` is no longer current.
    pub async fn publish(&self, publish: &Publish) -> Result<Receipt, ClientError> {
        let what = "publishing";
        let response = self
            .send(what, self.http.post(self.api("publish")).json(publish))
            .await?;
        json(what, accepted(what, response).await?, ANSWER_BYTES).await
    }

    /// Hands back what a restored repository has forgotten.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn recover(&self, recover: &Recover) -> Result<Recovered, ClientError> {
        let what = "recovering";
        let response = self
            .send(what, self.http.post(self.api("recover")).json(recover))
            .await?;
        json(what, accepted(what, response).await?, ANSWER_BYTES).await
    }

    /// A page of reports.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn reports(&self, after: u64, limit: u64, newest: u64) -> Result<ReportPage, ClientError> {
        let what = "reading reports";
        let url = self.api(&format!("reports?after={after}&limit={limit}&newest={newest}"));
        let response = self.send(what, self.http.get(url)).await?;
        json(what, accepted(what, response).await?, REPORT_PAGE_BYTES).await
    }

    async fn send(&self, what: &'static str, request: RequestBuilder) -> Result<Response, ClientError> {
        match tokio::time::timeout(CONNECT + READ, request.send()).await {
            Ok(sent) => sent.map_err(|source| self.failed(what, source)),
            Err(_) => Err(ClientError::Silent { what }),
        }
    }

    fn failed(&self, what: &'static str, source: reqwest::Error) -> ClientError {
        if let Some(refusal) = mtls::Refusal::find(&source) {
            ClientError::Untrusted {
                base: self.base.clone(),
                source: refusal,
            }
        } else if source.is_connect() {
            ClientError::Unreachable {
                base: self.base.clone(),
                source: Cause::of(&source),
            }
        } else {
            ClientError::Broken { what, source }
        }
    }
}

impl durable::Fetch for Repository {
    type Error = ClientError;

    async fn metadata(&self, path: &str, max: u64) -> Result<Option<Vec<u8>>, ClientError> {
        self.metadata(path, max).await
    }
}

/// The answer, or its problem as an error.
async fn accepted(what: &'static str, response: Response) -> Result<Response, ClientError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let text = body(what, response, ANSWER_BYTES).await.unwrap_or_default();
    let problem = serde_json::from_slice::<Problem>(&text).unwrap_or_else(|_| Problem {
        code: String::new(),
        message: status.canonical_reason().unwrap_or("no reason given").to_owned(),
    });
    Err(ClientError::Refused {
        what,
        status,
        code: problem.code,
        message: problem.message,
    })
}

async fn json<T: DeserializeOwned>(
    what: &'static str,
    response: Response,
    max: usize,
) -> Result<T, ClientError> {
    let text = body(what, response, max).await?;
    serde_json::from_slice(&text).map_err(|source| ClientError::Malformed { what, source })
}

/// Reads an answer to its end, but not past `max` bytes and not through silence.
async fn body(what: &'static str, mut response: Response, max: usize) -> Result<Vec<u8>, ClientError> {
    let mut all = Vec::new();
    loop {
        let chunk = tokio::time::timeout(READ, response.chunk()).await;
        let chunk = chunk.map_err(|_| ClientError::Silent { what })?;
        match chunk.map_err(|source| ClientError::Broken { what, source })? {
            None => return Ok(all),
            Some(chunk) if all.len() + chunk.len() > max => return Err(ClientError::TooLarge { what, max }),
            Some(chunk) => all.extend_from_slice(&chunk),
        }
    }
}

/// Notices when an upload stands still.
#[derive(Clone)]
struct Alive {
    since: Instant,
    last_ms: Arc<AtomicU64>,
}

impl Alive {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            last_ms: Arc::new(AtomicU64::new(0)),
        }
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn watch<S>(&self, pieces: S) -> impl Stream<Item = std::io::Result<Bytes>> + Send + 'static
    where
        S: Stream<Item = std::io::Result<Bytes>> + Send + 'static,
    {
        let alive = self.clone();
        futures_util::StreamExt::inspect(pieces, move |_| {
            alive.last_ms.store(alive.elapsed_ms(), Ordering::Relaxed);
        })
    }

    /// Ends when no piece was taken for [`READ`].
    async fn silence(&self) {
        loop {
            let last = Duration::from_millis(self.last_ms.load(Ordering::Relaxed));
            if self.since.elapsed() > last + READ {
                return;
            }
            tokio::time::sleep_until(self.since + last + READ + Duration::from_millis(1)).await;
        }
    }
}
