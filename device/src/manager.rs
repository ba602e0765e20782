//! What the agent asks of its manager.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::Full;
use protocol::device::{
    BOOT_HEADER, EVENTS, HELLO, Hello, METADATA, PROGRESS, Problem, RENEW, REPORTS, ReportsTaken, TARGETS,
    Welcome,
};
use protocol::enroll::{Enrolled, RENEW_EXPIRED, Renew, RenewExpired};
use protocol::{Event, Name, Secret, SignedReport};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tuf::Digest;
use zeroize::Zeroizing;

use crate::http::{Answer, HttpError, Pool, Streaming};
use crate::limits::MAX_ANSWER;

/// Why the manager did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ManagerError {
    /// No answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// Not on the list, or not any more.
    #[error("the manager does not let this device in: {0}")]
    NotOnTheList(String),
    /// It is busy; how long it asks to wait.
    #[error("the manager is busy")]
    Busy(Option<Duration>),
    /// It refuses.
    #[error("the manager answers {status}: {message}")]
    Refused {
        /// Status code.
        status: u16,
        /// Its own words, shortened.
        message: String,
    },
    /// Its answer is not what the protocol says.
    #[error("the manager's answer cannot be read")]
    Malformed(#[source] serde_json::Error),
    /// The value has no JSON form.
    #[error("the request cannot be written")]
    Encode(#[source] serde_json::Error),
}

impl ManagerError {
    /// How long the manager asked to wait.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy(wait) => *wait,
            _ => None,
        }
    }
}

/// The manager, over one pool of connections.
#[derive(Debug)]
pub struct Manager {
    pool: Pool,
    token: Secret,
}

impl Manager {
    /// The manager behind `pool`, which lets in who has `token`.
    #[must_use]
    pub fn new(pool: Pool, token: Secret) -> Self {
        Self { pool, token }
    }

    /// The connections.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Says who this is and what it runs.
    ///
    /// # Errors
    /// [`ManagerError`], as for all of these.
    pub async fn hello(&self, hello: &Hello) -> Result<Welcome, ManagerError> {
        read(&self.post(HELLO, hello).await?)
    }

    /// Opens the event stream, on a connection of its own.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub async fn events(&self) -> Result<Streaming, ManagerError> {
        let request = self.request(Method::GET, EVENTS, Bytes::new(), |builder| {
            builder
                .header(header::ACCEPT, "text/event-stream")
                .header(BOOT_HEADER, mtls::stamp().boot_id)
        })?;
        let streaming = self.pool.stream_apart(request).await?;
        self.check_stream(streaming).await
    }

    /// A metadata file; none if there is none. Of a longer one only `max` bytes and some more are read, so
    /// that the verifier sees that it is too long.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub async fn metadata(&self, name: &str, max: u64) -> Result<Option<Vec<u8>>, ManagerError> {
        let request = self.request(Method::GET, &format!("{METADATA}{name}"), Bytes::new(), |b| b)?;
        let answer = self.pool.call_up_to(request, max).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        Ok(Some(check(answer)?.body.to_vec()))
    }

    /// A target's bytes from `offset` on.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub async fn target(&self, digest: &Digest, offset: u64) -> Result<Streaming, ManagerError> {
        let request = self.request(
            Method::GET,
            &format!("{TARGETS}{digest}"),
            Bytes::new(),
            |builder| {
                if offset > 0 {
                    builder.header(header::RANGE, format!("bytes={offset}-"))
                } else {
                    builder
                }
            },
        )?;
        let streaming = self.pool.stream(request).await?;
        self.check_stream(streaming).await
    }

    /// Tells steps as they happen; may be lost.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub async fn progress(&self, events: &[Event]) -> Result<(), ManagerError> {
        self.post(PROGRESS, events).await.map(drop)
    }

    /// Hands over signed reports.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub async fn reports(&self, reports: &[SignedReport]) -> Result<ReportsTaken, ManagerError> {
        read(&self.post(REPORTS, reports).await?)
    }

    /// Asks for a new certificate for the same key.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub async fn renew(&self, renew: &Renew) -> Result<Enrolled, ManagerError> {
        read(&self.post(RENEW, renew).await?)
    }

    /// Asks for a new certificate for the same key at the joining port, whose pool `joining` is: for when the old one
    /// has run out. `sign` signs with the enrolled key.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub async fn renew_expired(
        &self,
        joining: &Pool,
        device: Name,
        csr: String,
        sign: impl FnOnce(&[u8]) -> Option<Vec<u8>> + Send,
    ) -> Result<Enrolled, ManagerError> {
        let token = self.token.clone();
        let make = move |exporter: &[u8; mtls::EXPORTER_LENGTH]| {
            let proof = sign(&RenewExpired::message(exporter, &csr)).unwrap_or_default();
            let ask = RenewExpired {
                device,
                token,
                csr,
                proof: hex::encode(proof),
            };
            // A plain structure: it has a JSON form.
            let body = Zeroizing::new(serde_json::to_vec(&ask).unwrap_or_default());
            Request::builder()
                .method(Method::POST)
                .uri(RENEW_EXPIRED)
                .header(header::CONTENT_TYPE, "application/json")
                .body(Full::new(Bytes::copy_from_slice(&body)))
                .map_err(HttpError::from)
        };
        read(&check(joining.call_bound(make, MAX_ANSWER).await?)?)
    }

    async fn post<T: Serialize + ?Sized>(&self, path: &str, value: &T) -> Result<Answer, ManagerError> {
        let body = serde_json::to_vec(value).map_err(ManagerError::Encode)?;
        let request = self.request(Method::POST, path, body.into(), |builder| {
            builder.header(header::CONTENT_TYPE, "application/json")
        })?;
        check(self.pool.call(request, MAX_ANSWER).await?)
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        more: impl FnOnce(http::request::Builder) -> http::request::Builder,
    ) -> Result<Request<Full<Bytes>>, ManagerError> {
        let builder = Request::builder()
            .method(method)
            .uri(path)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token.reveal()));
        Ok(more(builder).body(Full::new(body)).map_err(HttpError::from)?)
    }

    async fn check_stream(&self, mut streaming: Streaming) -> Result<Streaming, ManagerError> {
        if streaming.status.is_success() {
            return Ok(streaming);
        }
        let (status, headers) = (streaming.status, streaming.headers.clone());
        let body = streaming
            .next_within(crate::limits::ANSWER_TIME)
            .await?
            .unwrap_or_default();
        Err(
            match check(Answer {
                status,
                headers,
                body,
            }) {
                Err(error) => error,
                Ok(_) => ManagerError::Refused {
                    status: status.as_u16(),
                    message: String::new(),
                },
            },
        )
    }
}

/// Turns what is no success into an error.
pub(crate) fn check(answer: Answer) -> Result<Answer, ManagerError> {
    if answer.status.is_success() {
        return Ok(answer);
    }
    let message = match serde_json::from_slice::<Problem>(&answer.body) {
        Ok(problem) => problem
            .message
            .chars()
            .take(protocol::limits::MAX_REASON)
            .collect(),
        Err(_) => answer.status.canonical_reason().unwrap_or_default().to_owned(),
    };
    Err(match answer.status {
        StatusCode::UNAUTHORIZED => ManagerError::NotOnTheList(message),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            let seconds = answer
                .headers
                .get(header::RETRY_AFTER)
                .and_then(|v| v.to_str().ok()?.parse().ok());
            ManagerError::Busy(seconds.map(Duration::from_secs))
        }
        status => ManagerError::Refused {
            status: status.as_u16(),
            message,
        },
    })
}

/// Reads a JSON answer.
pub(crate) fn read<T: DeserializeOwned>(answer: &Answer) -> Result<T, ManagerError> {
    serde_json::from_slice(&answer.body).map_err(ManagerError::Malformed)
}
