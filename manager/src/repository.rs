//! The repository as the gateway sees it: metadata, target files, events, reports.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures_util::StreamExt as _;
use http::{StatusCode, header};
use protocol::author::{Recover, Recovered, RelayedReport, UploadState};
use protocol::device::{Problem, ReportsTaken};
use reqwest::{Client, Response, Url};
use serde::de::DeserializeOwned;
use tuf::Digest;

use crate::limits;

/// Why the repository did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RemoteError {
    /// Not reached, or broken off.
    #[error("the repository {base} does not answer")]
    Unreachable {
        base: String,
        #[source]
        source: reqwest::Error,
    },
    /// Not ours, or we are not its own.
    #[error("no connection to the repository {base}, because of a certificate")]
    Untrusted {
        base: String,
        #[source]
        source: mtls::Refusal,
    },
    /// Too slow.
    #[error("the repository {0} was too slow")]
    Slow(String),
    /// It said no.
    #[error("the repository refused ({status}, {code}): {message}")]
    Refused {
        status: StatusCode,
        code: String,
        message: String,
    },
    /// More than was announced.
    #[error("the repository sends more than {0} bytes: it looks like endless data")]
    TooLarge(u64),
    /// Not what was agreed.
    #[error("the repository's answer cannot be read")]
    Malformed(#[source] serde_json::Error),
}

impl RemoteError {
    /// The repository has read what was sent and will never take it.
    pub(crate) fn is_verdict(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if matches!(*status,
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY))
    }

    /// The repository was restored from a backup and waits for what it has forgotten.
    pub(crate) fn is_recovering(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code == "recovering")
    }
}

/// One repository address.
#[derive(Debug, Clone)]
pub(crate) struct Repository {
    /// Another one as soon as the gateway has a new certificate; shared by all clones.
    http: Arc<RwLock<Client>>,
    base: Url,
}

fn client(tls: mtls::ClientConfig) -> Result<Client, reqwest::Error> {
    Client::builder()
        .tls_backend_preconfigured(tls)
        .http1_only()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(limits::CONNECT)
        .tcp_nodelay(true)
        .build()
}

impl Repository {
    pub(crate) fn new(base: Url, tls: mtls::ClientConfig) -> Result<Self, reqwest::Error> {
        let http = Arc::new(RwLock::new(client(tls)?));
        Ok(Self { http, base })
    }

    /// New connections are made like this from now on.
    pub(crate) fn dial_with(&self, tls: mtls::ClientConfig) -> Result<(), reqwest::Error> {
        *self.http.write().unwrap_or_else(PoisonError::into_inner) = client(tls)?;
        Ok(())
    }

    fn http(&self) -> Client {
        self.http.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn base(&self) -> &str {
        self.base.as_str()
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn failed(&self, source: reqwest::Error) -> RemoteError {
        if let Some(refusal) = mtls::Refusal::find(&source) {
            RemoteError::Untrusted {
                base: self.base.to_string(),
                source: refusal,
            }
        } else if source.is_timeout() {
            RemoteError::Slow(self.base.to_string())
        } else {
            RemoteError::Unreachable {
                base: self.base.to_string(),
                source,
            }
        }
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Response, RemoteError> {
        match tokio::time::timeout(limits::ANSWER, request.send()).await {
            Ok(sent) => self.accepted(sent.map_err(|error| self.failed(error))?).await,
            Err(_) => Err(RemoteError::Slow(self.base.to_string())),
        }
    }

    async fn accepted(&self, response: Response) -> Result<Response, RemoteError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = self
            .body(response, limits::ANSWER_BYTES)
            .await
            .unwrap_or_default();
        let problem: Problem = serde_json::from_slice(&body).unwrap_or_else(|_| Problem {
            code: String::new(),
            message: status.canonical_reason().unwrap_or("no reason given").to_owned(),
        });
        Err(RemoteError::Refused {
            status,
            code: problem.code,
            message: problem.message,
        })
    }

    async fn body(&self, mut response: Response, max: u64) -> Result<Vec<u8>, RemoteError> {
        let read = async {
            let mut all = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(|error| self.failed(error))? {
                // One byte too many is kept: the verdict is then "too long", not "cut off".
                if (all.len() + chunk.len()) as u64 > max.saturating_add(1) {
                    return Err(RemoteError::TooLarge(max));
                }
                all.extend_from_slice(&chunk);
            }
            Ok(all)
        };
        match tokio::time::timeout(limits::ANSWER, read).await {
            Ok(result) => result,
            Err(_) => Err(RemoteError::Slow(self.base.to_string())),
        }
    }

    async fn json<T: DeserializeOwned>(&self, response: Response) -> Result<T, RemoteError> {
        let body = self.body(response, limits::ANSWER_BYTES).await?;
        serde_json::from_slice(&body).map_err(RemoteError::Malformed)
    }

    /// A target's bytes from `offset` on. The answer says whether the offset was honoured.
    pub(crate) async fn target(
        &self,
        name: &str,
        digest: &Digest,
        offset: u64,
    ) -> Result<Response, RemoteError> {
        let path = tuf::target_path(name, digest);
        let mut request = self.http().get(self.url(&format!("targets/{path}")));
        if offset > 0 {
            request = request.header(header::RANGE, format!("bytes={offset}-"));
        }
        self.send(request).await
    }

    /// The repository's events: calls `wake` for each; ends when the stream does.
    pub(crate) async fn events(&self, wake: impl Fn() + Send) -> Result<(), RemoteError> {
        let request = self
            .http()
            .get(self.url("events"))
            .header(header::ACCEPT, "text/event-stream");
        let response = self.send(request).await?;
        wake(); // What was published before the stream began.
        let silence = Duration::from_secs(3 * protocol::limits::KEEP_ALIVE_SECONDS);
        let mut stream = response.bytes_stream();
        let mut line = Vec::new();
        loop {
            let chunk = match tokio::time::timeout(silence, stream.next()).await {
                Err(_) => return Err(RemoteError::Slow(self.base.to_string())),
                Ok(None) => return Ok(()),
                Ok(Some(chunk)) => chunk.map_err(|error| self.failed(error))?,
            };
            for byte in chunk {
                if byte != b'\n' {
                    line.push(byte);
                    if line.len() > limits::EVENT_LINE {
                        return Err(RemoteError::TooLarge(limits::EVENT_LINE as u64));
                    }
                    continue;
                }
                if line.starts_with(b"data:") {
                    wake();
                }
                line.clear();
            }
        }
    }

    pub(crate) async fn reports(&self, batch: &[RelayedReport]) -> Result<ReportsTaken, RemoteError> {
        let response = self
            .send(self.http().post(self.url("api/v1/reports")).json(batch))
            .await?;
        self.json(response).await
    }

    pub(crate) async fn recover(&self, recover: &Recover) -> Result<Recovered, RemoteError> {
        let response = self
            .send(self.http().post(self.url("api/v1/recover")).json(recover))
            .await?;
        self.json(response).await
    }

    pub(crate) async fn upload_state(&self, digest: &Digest) -> Result<UploadState, RemoteError> {
        let response = self
            .send(self.http().get(self.url(&format!("api/v1/uploads/{digest}"))))
            .await?;
        self.json(response).await
    }

    pub(crate) async fn upload(
        &self,
        digest: &Digest,
        length: u64,
        offset: u64,
        bytes: Vec<u8>,
    ) -> Result<UploadState, RemoteError> {
        let url = self.url(&format!("api/v1/uploads/{digest}?length={length}"));
        let request = self.http().patch(url).header("Upload-Offset", offset).body(bytes);
        let response = self.send(request).await?;
        self.json(response).await
    }
}

impl durable::Fetch for Repository {
    type Error = RemoteError;

    async fn metadata(&self, path: &str, max: u64) -> Result<Option<Vec<u8>>, RemoteError> {
        match self
            .send(self.http().get(self.url(&format!("metadata/{path}"))))
            .await
        {
            Ok(response) => Ok(Some(self.body(response, max).await?)),
            Err(RemoteError::Refused {
                status: StatusCode::NOT_FOUND,
                ..
            }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
