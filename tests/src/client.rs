//! A client that shows whatever it has, as an attacker would: any certificate or none, any header.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use mtls::{Credentials, HTTP_1_1, Refusal, SiteCa, SystemClock, client_config};
use protocol::{Name, Role};

use crate::process::patience;

/// An answer: status and body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// An open connection.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
}

/// Connects to a server of role `expect` of the site whose authority is in `ca`, showing `own` unchecked.
///
/// # Errors
/// What TLS said.
///
/// # Panics
/// If nobody listens there.
pub async fn connect(
    address: SocketAddr,
    ca: &Path,
    site: &str,
    expect: Role,
    own: Option<&Credentials>,
) -> Result<Connection, Refusal> {
    let ca = SiteCa::load(ca).expect("the site's certificate authority");
    let site: Name = site.parse().expect("a name");
    let mut config =
        client_config(None, &ca, &site, expect, &[HTTP_1_1], Arc::new(SystemClock)).expect("a configuration");
    if let Some(own) = own {
        // Without the usual check of one's own certificate: the other side has to notice.
        let key = rustls::crypto::aws_lc_rs::default_provider()
            .key_provider
            .load_private_key(own.key().clone_key())
            .expect("a key");
        let certified = rustls::sign::CertifiedKey::new(own.chain().to_vec(), key);
        config.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(certified));
    }
    let host = address.ip().to_string();
    let dialled = mtls::dial::dial(&host, address.port(), Arc::new(config), patience())
        .await
        .map_err(|error| match error {
            mtls::dial::DialError::Refused { source, .. } => source,
            other => Refusal::find(&other).unwrap_or_else(|| panic!("{other:?}")),
        })?;
    let (sender, connection) = handshake(TokioIo::new(dialled.stream))
        .await
        .map_err(|error| found(&error))?;
    tokio::spawn(connection);
    Ok(Connection { sender })
}

impl Connection {
    /// One request.
    ///
    /// # Errors
    /// What TLS said: a server that wants a certificate says so only when it has seen what we showed.
    ///
    /// # Panics
    /// If the request cannot be made.
    pub async fn ask(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer, Refusal> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "plant");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).expect("a request");
        let response = self
            .sender
            .send_request(request)
            .await
            .map_err(|error| found(&error))?;
        let status = response.status().as_u16();
        let body = response
            .into_body()
            .collect()
            .await
            .map_err(|error| found(&error))?;
        Ok(Answer {
            status,
            body: body.to_bytes().to_vec(),
        })
    }

    /// Sends a GET and waits for the head only: for streams.
    ///
    /// # Errors
    /// What TLS said.
    ///
    /// # Panics
    /// If the request cannot be made.
    pub async fn open(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<hyper::Response<hyper::body::Incoming>, Refusal> {
        let mut request = Request::get(path).header("host", "plant");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::default()).expect("a request");
        self.sender
            .send_request(request)
            .await
            .map_err(|error| found(&error))
    }
}

fn found(error: &hyper::Error) -> Refusal {
    Refusal::find(error).unwrap_or_else(|| Refusal::Tls(format!("{error:?}")))
}
