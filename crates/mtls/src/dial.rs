//! Dialling a peer by hand, for callers that need the TLS exporter value or the server's identity.
//!
//! (An HTTP client that takes a `rustls::ClientConfig` is enough for everything else.)

use std::io;
use std::sync::Arc;
use std::time::Duration;

use protocol::Identity;
use rustls::ClientConfig;
use rustls_pki_types::{CertificateDer, ServerName};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::identity::identity_of;
use crate::refusal::Refusal;
use crate::{EXPORTER_LABEL, EXPORTER_LENGTH};

/// Why a connection did not come about.
#[derive(Debug, Error)]
pub enum DialError {
    /// Nobody answers there.
    #[error("cannot connect to {address}")]
    Connect {
        /// `host:port`.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// No answer in time.
    #[error("{address} did not answer within {seconds} seconds")]
    Slow {
        /// `host:port`.
        address: String,
        /// How long was waited.
        seconds: u64,
    },
    /// The server is not who it should be, or it does not want us.
    #[error("refused {address}")]
    Refused {
        /// `host:port`.
        address: String,
        /// Why.
        source: Refusal,
    },
    /// The connection broke during the handshake.
    #[error("the TLS handshake with {address} broke")]
    Handshake {
        /// `host:port`.
        address: String,
        /// What the system says.
        source: io::Error,
    },
}

/// A TLS connection to a verified server.
pub struct Dialled {
    /// The connection.
    pub stream: TlsStream<TcpStream>,
    /// Who the server is.
    pub server: Identity,
    /// What it sent, leaf first; on the joining port the site's root is among them.
    pub certificates: Vec<CertificateDer<'static>>,
    /// The exporter value that both sides of this channel share ([`EXPORTER_LABEL`], no context).
    pub exporter: [u8; EXPORTER_LENGTH],
}

/// Connects to `host` (a name or an address) and `port` and does the handshake, all within `limit`.
pub async fn dial(
    host: &str,
    port: u16,
    config: Arc<ClientConfig>,
    limit: Duration,
) -> Result<Dialled, DialError> {
    let address = format!("{host}:{port}");
    match timeout(limit, connect(host, port, &address, config)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(DialError::Slow {
            address,
            seconds: limit.as_secs(),
        }),
    }
}

async fn connect(
    host: &str,
    port: u16,
    address: &str,
    config: Arc<ClientConfig>,
) -> Result<Dialled, DialError> {
    let failed = |source| DialError::Connect {
        address: address.to_owned(),
        source,
    };
    let name = ServerName::try_from(host.to_owned())
        .map_err(|bad| failed(io::Error::new(io::ErrorKind::InvalidInput, bad)))?;
    let socket = TcpStream::connect((host, port)).await.map_err(failed)?;
    socket.set_nodelay(true).map_err(failed)?;
    let stream =
        TlsConnector::from(config)
            .connect(name, socket)
            .await
            .map_err(|source| match Refusal::find(&source) {
                Some(refusal) => DialError::Refused {
                    address: address.to_owned(),
                    source: refusal,
                },
                None => DialError::Handshake {
                    address: address.to_owned(),
                    source,
                },
            })?;
    facts(stream).map_err(|source| DialError::Refused {
        address: address.to_owned(),
        source,
    })
}

fn facts(stream: TlsStream<TcpStream>) -> Result<Dialled, Refusal> {
    let (_, tls) = stream.get_ref();
    let certificates: Vec<_> = tls.peer_certificates().unwrap_or_default().to_vec();
    let server = identity_of(certificates.first().ok_or(Refusal::NoCertificate)?)?;
    let exporter = tls
        .export_keying_material([0; EXPORTER_LENGTH], EXPORTER_LABEL, None)
        .map_err(|error| Refusal::from_tls(&error))?;
    Ok(Dialled {
        stream,
        server,
        certificates,
        exporter,
    })
}
