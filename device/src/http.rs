//! HTTP/1.1 to the manager: few connections, kept and used again, every answer bounded.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use mtls::dial::{DialError, dial};
use mtls::{EXPORTER_LENGTH, Refusal};
use rustls::ClientConfig;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::limits::{ANSWER_TIME, BODY_TIME, DIAL_TIME, MAX_REQUEST_CONNECTIONS};
use crate::sync::Shared;

/// Why a request had no useful answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address is not `host:port`.
    #[error("{0:?} is not host:port: correct `manager` in device.toml")]
    Address(String),
    /// No connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The connection broke.
    #[error("the connection to the manager broke")]
    Broken(#[source] hyper::Error),
    /// The manager ended the connection when it saw our certificate: in TLS 1.3 its first answer says so.
    #[error("no connection to the manager, because of a certificate")]
    Refused(#[source] Refusal),
    /// No answer in time.
    #[error("the manager did not answer within {0} seconds")]
    Slow(u64),
    /// More bytes than such an answer may have.
    #[error("the manager's answer is longer than {0} bytes")]
    TooLong(u64),
    /// A request that cannot be written down.
    #[error("the request cannot be made")]
    Request(#[from] http::Error),
}

impl From<hyper::Error> for HttpError {
    fn from(source: hyper::Error) -> Self {
        match Refusal::find(&source) {
            Some(refusal @ Refusal::ByPeer(_)) => Self::Refused(refusal),
            _ => Self::Broken(source),
        }
    }
}

/// Dials one address and keeps what it dialled.
#[derive(Debug)]
pub struct Pool {
    host: String,
    port: u16,
    tls: Shared<Arc<ClientConfig>>,
    idle: Shared<Option<Connection>>,
    permits: Arc<Semaphore>,
}

/// A connection that is not in use.
#[derive(Debug)]
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    _driver: Driver,
    /// The configuration it was made with: a renewed certificate makes a new connection.
    tls: Arc<ClientConfig>,
    exporter: [u8; EXPORTER_LENGTH],
}

/// Drives a connection; dropped, it closes it.
#[derive(Debug)]
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A small answer, whole.
#[derive(Debug)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Head.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

/// An answer whose body is still arriving. Dropped before its end, it closes its connection.
#[derive(Debug)]
pub struct Streaming {
    /// Status.
    pub status: StatusCode,
    /// Head.
    pub headers: HeaderMap,
    body: Incoming,
    connection: Connection,
    _permit: Option<OwnedSemaphorePermit>,
}

/// `host:port` in two parts; an IPv6 address stands in brackets.
///
/// # Errors
/// [`HttpError::Address`].
pub fn host_and_port(address: &str) -> Result<(String, u16), HttpError> {
    let wrong = || HttpError::Address(address.chars().take(100).collect());
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    let host = host.trim_matches(['[', ']']);
    let port = port.parse().map_err(|_| wrong())?;
    if host.is_empty() {
        return Err(wrong());
    }
    Ok((host.to_owned(), port))
}

impl Pool {
    /// A pool for `host:port`.
    ///
    /// # Errors
    /// [`HttpError::Address`].
    pub fn new(address: &str, tls: Arc<ClientConfig>) -> Result<Self, HttpError> {
        let (host, port) = host_and_port(address)?;
        Ok(Self {
            host,
            port,
            tls: Shared::new(tls),
            idle: Shared::new(None),
            permits: Arc::new(Semaphore::new(MAX_REQUEST_CONNECTIONS)),
        })
    }

    /// Uses another certificate for connections from now on.
    pub fn set_tls(&self, tls: Arc<ClientConfig>) {
        self.tls.set(tls);
        self.idle.set(None);
    }

    /// Sends a request and reads the whole answer, at most `max` bytes of it.
    ///
    /// # Errors
    /// [`HttpError`].
    pub async fn call(&self, request: Request<Full<Bytes>>, max: u64) -> Result<Answer, HttpError> {
        let answer = self.call_up_to(request, max).await?;
        if answer.body.len() as u64 > max {
            return Err(HttpError::TooLong(max));
        }
        Ok(answer)
    }

    /// [`Self::call`] that stops reading a little after `max` bytes and gives what it has.
    ///
    /// # Errors
    /// [`HttpError`].
    pub async fn call_up_to(&self, request: Request<Full<Bytes>>, max: u64) -> Result<Answer, HttpError> {
        let streaming = self.stream(request).await?;
        self.read(streaming, max).await
    }

    async fn read(&self, mut streaming: Streaming, max: u64) -> Result<Answer, HttpError> {
        let whole = async {
            let mut body = Vec::new();
            while let Some(bytes) = streaming.next().await? {
                body.extend_from_slice(&bytes);
                if body.len() as u64 > max {
                    return Ok((body, false));
                }
            }
            Ok::<_, HttpError>((body, true))
        };
        let read = timeout(BODY_TIME, whole)
            .await
            .map_err(|_| HttpError::Slow(BODY_TIME.as_secs()))?;
        let (body, at_end) = read?;
        let (status, headers) = (streaming.status, std::mem::take(&mut streaming.headers));
        if at_end {
            self.keep(streaming);
        }
        Ok(Answer {
            status,
            headers,
            body: body.into(),
        })
    }

    /// Sends a request and gives the answer's head; the caller reads the body and then calls [`Self::keep`].
    ///
    /// # Errors
    /// [`HttpError`].
    pub async fn stream(&self, request: Request<Full<Bytes>>) -> Result<Streaming, HttpError> {
        // The semaphore is never closed.
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok();
        if let Some(kept) = self.take_idle().await {
            match self.send(kept, request.clone(), None).await {
                Ok(answer) => {
                    return Ok(Streaming {
                        _permit: permit,
                        ..answer
                    });
                }
                // The manager may just have closed it: nothing was lost, a new one is dialled.
                Err(HttpError::Broken(_) | HttpError::Refused(_)) => {}
                Err(other) => return Err(other),
            }
        }
        let connection = self.dial().await?;
        self.send(connection, request, permit).await
    }

    /// Sends a request over a connection of its own, beside the pool: for the event stream.
    ///
    /// # Errors
    /// [`HttpError`].
    pub async fn stream_apart(&self, request: Request<Full<Bytes>>) -> Result<Streaming, HttpError> {
        let connection = self.dial().await?;
        self.send(connection, request, None).await
    }

    /// Keeps the connection of an answer that was read to its end.
    pub fn keep(&self, streaming: Streaming) {
        if !streaming.connection.sender.is_closed() {
            self.idle.set(Some(streaming.connection));
        }
    }

    /// Sends a request that is made for its channel, which is a new one: `make` gets its TLS exporter value. Reads the
    /// answer, at most `max` bytes.
    ///
    /// # Errors
    /// [`HttpError`], also from `make`.
    pub async fn call_bound(
        &self,
        make: impl FnOnce(&[u8; EXPORTER_LENGTH]) -> Result<Request<Full<Bytes>>, HttpError> + Send,
        max: u64,
    ) -> Result<Answer, HttpError> {
        let connection = self.dial().await?;
        let request = make(&connection.exporter)?;
        let streaming = self.send(connection, request, None).await?;
        let answer = self.read(streaming, max).await?;
        if answer.body.len() as u64 > max {
            return Err(HttpError::TooLong(max));
        }
        Ok(answer)
    }

    async fn take_idle(&self) -> Option<Connection> {
        let mut kept = self.idle.take()?;
        let ready = Arc::ptr_eq(&kept.tls, &self.tls.get()) && kept.sender.ready().await.is_ok();
        ready.then_some(kept)
    }

    async fn dial(&self) -> Result<Connection, HttpError> {
        let tls = self.tls.get();
        let dialled = dial(&self.host, self.port, Arc::clone(&tls), DIAL_TIME).await?;
        let exporter = dialled.exporter;
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_BUFFER)
            .handshake(TokioIo::new(dialled.stream))
            .await?;
        let driver = Driver(tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(target: "drover", %error, "a connection to the manager ended");
            }
        }));
        Ok(Connection {
            sender,
            _driver: driver,
            tls,
            exporter,
        })
    }

    async fn send(
        &self,
        mut connection: Connection,
        mut request: Request<Full<Bytes>>,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Result<Streaming, HttpError> {
        let host = format!("{}:{}", self.host, self.port);
        if let Ok(host) = host.parse() {
            request.headers_mut().insert(header::HOST, host);
        }
        let sent = timeout(ANSWER_TIME, connection.sender.send_request(request)).await;
        let answer = sent.map_err(|_| HttpError::Slow(ANSWER_TIME.as_secs()))??;
        let (head, body) = answer.into_parts();
        Ok(Streaming {
            status: head.status,
            headers: head.headers,
            body,
            connection,
            _permit: permit,
        })
    }
}

/// Bytes of hyper's read buffer: downloads arrive in pieces of at most this.
const MAX_BUFFER: usize = 64 << 10;

impl Streaming {
    /// The next bytes; none at the end.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn next(&mut self) -> Result<Option<Bytes>, HttpError> {
        while let Some(frame) = self.body.frame().await {
            if let Ok(bytes) = frame?.into_data() {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    /// [`Self::next`], at most `patience` long.
    ///
    /// # Errors
    /// As there; no byte in time.
    pub async fn next_within(&mut self, patience: Duration) -> Result<Option<Bytes>, HttpError> {
        timeout(patience, self.next())
            .await
            .map_err(|_| HttpError::Slow(patience.as_secs()))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_all_kinds_are_split() {
        assert_eq!(
            host_and_port("gateway:7101").unwrap(),
            ("gateway".to_owned(), 7101)
        );
        assert_eq!(host_and_port("[::1]:7101").unwrap(), ("::1".to_owned(), 7101));
        for bad in ["gateway", ":7101", "gateway:", "gateway:99999"] {
            assert!(host_and_port(bad).is_err(), "{bad} was accepted");
        }
    }
}
