//! A site with its certificates, a listener and a client.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use certs::{DeviceAuthority, Issued, SiteAuthority, flawed, life};
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use mtls::serve::{Connections, Limits, Peer, serve};
use mtls::{ClientAuth, Clock, Credentials, HTTP_1_1, HTTP_2, Refusal, ServerConfig, SiteCa, client_config};
use protocol::{Name, Role};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tuf::UnixTime;
use tuf::clock::Believed;

/// 2027-01-15T08:00:00Z, whatever the machine's clock says.
pub const NOW: UnixTime = UnixTime(1_800_000_000);
pub const WAIT: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct At(pub Believed);

impl Clock for At {
    fn now(&self) -> Believed {
        self.0
    }
}

pub fn at(now: UnixTime) -> Arc<dyn Clock> {
    Arc::new(At(Believed { now, known: true }))
}

pub fn unknown(now: UnixTime) -> Arc<dyn Clock> {
    Arc::new(At(Believed { now, known: false }))
}

pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub struct Site {
    pub name: Name,
    pub root: SiteAuthority,
    pub devices: DeviceAuthority,
    pub ca: SiteCa,
}

impl Site {
    pub fn new() -> Self {
        let name = name("plant");
        let root = SiteAuthority::create(&name, NOW).unwrap();
        let devices = root.device_authority(NOW).unwrap();
        let ca = SiteCa::from_pem(root.certificate_pem()).unwrap();
        Self {
            name,
            root,
            devices,
            ca,
        }
    }

    pub fn issued(&self, role: Role) -> Issued {
        match role {
            Role::Device => flawed::device(&self.devices, &name("pump-7"), NOW).unwrap(),
            other => self
                .root
                .issue(other, &name("one"), &[], life::LEAF, NOW)
                .unwrap(),
        }
    }

    pub fn credentials(&self, role: Role) -> Credentials {
        credentials(&self.issued(role))
    }

    pub fn server(&self, role: Role, auth: ClientAuth, accept: &[Role]) -> ServerConfig {
        self.server_with(&self.credentials(role), auth, accept, at(NOW))
    }

    pub fn server_with(
        &self,
        own: &Credentials,
        auth: ClientAuth,
        accept: &[Role],
        clock: Arc<dyn Clock>,
    ) -> ServerConfig {
        mtls::server_config(
            own,
            &self.ca,
            &self.name,
            auth,
            accept,
            &[HTTP_2, HTTP_1_1],
            clock,
        )
        .unwrap()
    }

    pub fn client(&self, own: Option<&Credentials>, expect: Role) -> Arc<mtls::ClientConfig> {
        self.client_at(own, expect, HTTP_1_1, at(NOW))
    }

    pub fn client_at(
        &self,
        own: Option<&Credentials>,
        expect: Role,
        alpn: &str,
        clock: Arc<dyn Clock>,
    ) -> Arc<mtls::ClientConfig> {
        Arc::new(client_config(own, &self.ca, &self.name, expect, &[alpn], clock).unwrap())
    }
}

pub fn credentials(issued: &Issued) -> Credentials {
    Credentials::from_pem(&issued.chain, &issued.key).unwrap()
}

pub struct Running {
    pub addr: SocketAddr,
    pub connections: Connections,
    pub shutdown: CancellationToken,
    pub tls: watch::Sender<Arc<ServerConfig>>,
    pub task: tokio::task::JoinHandle<()>,
}

impl Running {
    /// The reason of the one refusal that must come.
    pub async fn refusal(&self) -> Refusal {
        let asked = tokio::time::Instant::now();
        loop {
            if let Some(refused) = self.connections.refusals().last() {
                return refused.reason.clone();
            }
            assert!(asked.elapsed() < WAIT, "nobody was refused");
            tokio::task::yield_now().await;
        }
    }

    /// Waits until the number of live connections is `count`.
    pub async fn live(&self, count: usize) {
        let asked = tokio::time::Instant::now();
        while self.connections.counts().live != count {
            assert!(
                asked.elapsed() < WAIT,
                "{:?}, wanted {count} live",
                self.connections.counts()
            );
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

pub async fn start(config: ServerConfig) -> Running {
    start_with(config, Limits::default()).await
}

pub async fn start_with(config: ServerConfig, limits: Limits) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let connections = Connections::new();
    let shutdown = CancellationToken::new();
    let (tls, receiver) = watch::channel(Arc::new(config));
    let serving = serve(
        listener,
        receiver,
        app(),
        limits,
        connections.clone(),
        shutdown.clone(),
    );
    Running {
        addr,
        connections,
        shutdown,
        tls,
        task: tokio::spawn(serving),
    }
}

/// `/who` says who is asking, `/events` never ends, `/echo` waits for its body, `/big` is larger than any
/// buffer on the way.
fn app() -> Router {
    Router::new()
        .route(
            "/who",
            get(async |peer: Peer| {
                peer.identity
                    .as_ref()
                    .map_or("nobody".to_owned(), ToString::to_string)
            }),
        )
        .route("/exporter", get(async |peer: Peer| peer.exporter.to_vec()))
        .route(
            "/events",
            get(async || axum::body::Body::new(Endless { first: true })),
        )
        .route("/echo", post(async |body: axum::body::Bytes| body))
        .route("/big", get(async || vec![7_u8; 64 << 20]))
}

/// Says hello and then nothing, for ever.
struct Endless {
    first: bool,
}

impl hyper::body::Body for Endless {
    type Data = axum::body::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Self::Data>, Self::Error>>> {
        if std::mem::take(&mut self.first) {
            let hello = axum::body::Bytes::from_static(b"data: hello\n\n");
            return std::task::Poll::Ready(Some(Ok(hyper::body::Frame::data(hello))));
        }
        std::task::Poll::Pending
    }
}

pub type Sender = hyper::client::conn::http1::SendRequest<Empty<axum::body::Bytes>>;

/// A connection on which requests can be sent.
pub async fn open(addr: SocketAddr, config: Arc<mtls::ClientConfig>) -> Result<(Sender, [u8; 32]), Refusal> {
    let dialled = mtls::dial::dial("127.0.0.1", addr.port(), config, WAIT)
        .await
        .map_err(|error| {
            Refusal::find(&error).unwrap_or_else(|| match error {
                mtls::dial::DialError::Refused { source, .. } => source,
                other => panic!("{other:?}"),
            })
        })?;
    let exporter = dialled.exporter;
    let io = TokioIo::new(dialled.stream);
    let (sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    Ok((sender, exporter))
}

/// One request; the answer's text.
pub async fn ask(sender: &mut Sender, path: &str) -> Result<Vec<u8>, Refusal> {
    let request = Request::get(path)
        .header("host", "plant")
        .body(Empty::new())
        .unwrap();
    let broken = |error: hyper::Error| Refusal::find(&error).unwrap_or(Refusal::Tls(format!("{error:?}")));
    let response = sender.send_request(request).await.map_err(broken)?;
    assert_eq!(response.status(), 200);
    Ok(response
        .into_body()
        .collect()
        .await
        .map_err(broken)?
        .to_bytes()
        .to_vec())
}

pub async fn who(addr: SocketAddr, config: Arc<mtls::ClientConfig>) -> Result<String, Refusal> {
    let (mut sender, _) = open(addr, config).await?;
    Ok(String::from_utf8(ask(&mut sender, "/who").await?).unwrap())
}

pub async fn who_http2(addr: SocketAddr, config: Arc<mtls::ClientConfig>) -> (String, hyper::Version) {
    let dialled = mtls::dial::dial("127.0.0.1", addr.port(), config, WAIT)
        .await
        .unwrap();
    let io = TokioIo::new(dialled.stream);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = Request::get("https://plant/who")
        .body(Empty::<axum::body::Bytes>::new())
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    let version = response.version();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (String::from_utf8(body.to_vec()).unwrap(), version)
}
