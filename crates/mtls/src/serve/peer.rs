//! Who is at the other end of a connection.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use protocol::Identity;
use rustls_pki_types::CertificateDer;
use tuf::Digest;

use crate::{EXPORTER_LENGTH, Refusal};

/// The other end of a connection; cheap to clone. In the extensions of every request, and an axum extractor.
#[derive(Clone)]
pub struct Peer(Arc<PeerFacts>);

/// What is known about a peer.
pub struct PeerFacts {
    /// Number of the connection, unique within its [`Connections`](super::Connections).
    pub id: u64,
    /// Where it comes from.
    pub addr: SocketAddr,
    /// Who it is; none on listeners that do not ask, or if it showed no certificate where that is optional.
    pub identity: Option<Identity>,
    /// SHA-256 of its public key.
    pub key: Option<Digest>,
    /// Its certificate.
    pub certificate: Option<CertificateDer<'static>>,
    /// The certificates that it sent beside its own: a device's has the one that vouches for it.
    pub between: Vec<CertificateDer<'static>>,
    /// The TLS exporter value that both ends of this channel share ([`EXPORTER_LABEL`](crate::EXPORTER_LABEL),
    /// no context): binds a proof of a key to this channel.
    pub exporter: [u8; EXPORTER_LENGTH],
}

impl Peer {
    /// A peer with these facts, also for tests of handlers without a network.
    pub fn new(facts: PeerFacts) -> Self {
        Self(Arc::new(facts))
    }
}

impl Deref for Peer {
    type Target = PeerFacts;

    fn deref(&self) -> &PeerFacts {
        &self.0
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the exporter value: it is as good as a key of this channel.
        f.debug_struct("Peer")
            .field("id", &self.id)
            .field("addr", &self.addr)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

impl<S: Sync> FromRequestParts<S> for Peer {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, StatusCode> {
        // Missing only where a router is served by something other than `serve`.
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

/// A connection that was not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Where it came from.
    pub addr: SocketAddr,
    /// Why.
    pub reason: Refusal,
}

/// What is never an error for hyper.
pub(crate) type Never = Infallible;
