//! One connection from its first byte to its last.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::server::Acceptor;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::Listener;
use super::body::{Inbound, Outbound};
use super::limits::{SILENCE_SECONDS, STREAM_BUFFER};
use super::meter::{Meter, Metered};
use super::peer::{Never, Peer, PeerFacts};
use super::registry::Waiting;
use crate::identity::{identity_of, key_fingerprint};
use crate::{EXPORTER_LABEL, EXPORTER_LENGTH, HTTP_2, Refusal};

type Tls = TlsStream<Metered>;

/// Everything that happens on one accepted socket. Errors end it; the listener has noted them.
pub(crate) async fn run(listener: Arc<Listener>, socket: TcpStream, addr: SocketAddr, waiting: Waiting) {
    let meter = Meter::new();
    // Boxed: the handshake's state is large, and ten thousand connections that are past it should not keep it.
    let handshake = Box::pin(handshake(&listener, socket, addr, &meter));
    let outcome = tokio::select! {
        biased;
        () = listener.shutdown.cancelled() => return,
        outcome = handshake => outcome,
    };
    let (tls, peer) = match outcome {
        Ok(Some(opened)) => opened,
        Ok(None) => return,
        Err(reason) => return listener.refuse(addr, reason),
    };
    let admitted = match listener
        .connections
        .admit(&peer, listener.id, Arc::clone(&meter), &listener.limits)
    {
        Ok(admitted) => admitted,
        Err(reason) => return listener.refuse(addr, reason),
    };
    // Who has shown who it is no longer counts against its address.
    let waiting = peer.identity.is_none().then_some(waiting);
    let is_http2 = tls.get_ref().1.alpn_protocol() == Some(HTTP_2.as_bytes());
    meter.open(!is_http2);
    let cut = admitted.cut.clone();
    if is_http2 {
        Box::pin(serve_http2(&listener, tls, peer, meter, cut)).await;
    } else {
        Box::pin(serve_http1(&listener, tls, peer, meter, cut)).await;
    }
    drop((admitted, waiting));
}

/// Does the TLS handshake; `None` if the peer went away without a word (port scans, health checks).
async fn handshake(
    listener: &Listener,
    socket: TcpStream,
    addr: SocketAddr,
    meter: &Arc<Meter>,
) -> Result<Option<(Tls, Peer)>, Refusal> {
    tune(&socket);
    let limit = listener.limits.handshake();
    let io = Metered::new(socket, Arc::clone(meter));
    // The peer has to say hello before it gets a turn: silence costs us a socket, nothing more.
    let hello = match timeout(limit, LazyConfigAcceptor::new(Acceptor::default(), io)).await {
        Err(_) => return Err(Refusal::TooSlow),
        Ok(Err(error)) => return broken(&error),
        Ok(Ok(hello)) => hello,
    };
    let Ok(Ok(turn)) = timeout(limit, listener.turns.acquire()).await else {
        return Err(Refusal::TooMany(
            "its turn for the handshake did not come in time",
        ));
    };
    let config = listener.tls.borrow().clone();
    let tls = match timeout(limit, hello.into_stream(config)).await {
        Err(_) => return Err(Refusal::TooSlow),
        Ok(Err(error)) => return broken(&error),
        Ok(Ok(tls)) => tls,
    };
    drop(turn);
    let peer = peer(listener, &tls, addr)?;
    Ok(Some((tls, peer)))
}

/// Sorts what TLS refuses from peers that merely went away.
fn broken<T>(error: &io::Error) -> Result<Option<T>, Refusal> {
    match Refusal::find(error) {
        Some(reason) => Err(reason),
        None => Ok(None),
    }
}

fn peer(listener: &Listener, tls: &Tls, addr: SocketAddr) -> Result<Peer, Refusal> {
    let (_, state) = tls.get_ref();
    let mut sent = state.peer_certificates().unwrap_or_default().iter().cloned();
    let (certificate, between) = (sent.next(), sent.collect());
    let (identity, key) = match &certificate {
        Some(leaf) => (Some(identity_of(leaf)?), Some(key_fingerprint(leaf)?)),
        None => (None, None),
    };
    let exporter = state
        .export_keying_material([0; EXPORTER_LENGTH], EXPORTER_LABEL, None)
        .map_err(|error| Refusal::from_tls(&error))?;
    let id = listener.connections.number();
    Ok(Peer::new(PeerFacts {
        id,
        addr,
        identity,
        key,
        certificate,
        between,
        exporter,
    }))
}

/// Small answers leave at once, and a peer that vanished is noticed. A socket that refuses is served anyway.
fn tune(socket: &TcpStream) {
    use rustix::net::sockopt;
    use std::time::Duration;
    let silence = Duration::from_secs(u64::from(SILENCE_SECONDS));
    let _ = socket.set_nodelay(true);
    let _ = sockopt::set_socket_keepalive(socket, true);
    let _ = sockopt::set_tcp_keepidle(socket, silence);
    let _ = sockopt::set_tcp_keepintvl(socket, silence / 3);
    let _ = sockopt::set_tcp_keepcnt(socket, 3);
    let _ = sockopt::set_tcp_user_timeout(socket, SILENCE_SECONDS * 1000);
}

async fn serve_http1(listener: &Listener, tls: Tls, peer: Peer, meter: Arc<Meter>, cut: CancellationToken) {
    let app = listener.app.clone();
    let service = service_fn(move |request| answer(app.clone(), peer.clone(), Arc::clone(&meter), request));
    let connection = http1::Builder::new()
        .header_read_timeout(None)
        .max_buf_size(listener.limits.header_bytes)
        .max_headers(listener.limits.headers)
        .serve_connection(TokioIo::new(tls), service);
    drive(
        pin!(connection),
        http1::Connection::graceful_shutdown,
        &cut,
        &listener.shutdown,
    )
    .await;
}

async fn serve_http2(listener: &Listener, tls: Tls, peer: Peer, meter: Arc<Meter>, cut: CancellationToken) {
    let app = listener.app.clone();
    let service = service_fn(move |request| answer(app.clone(), peer.clone(), Arc::clone(&meter), request));
    let limits = &listener.limits;
    let connection = http2::Builder::new(CutWith(cut.clone()))
        .timer(TokioTimer::new())
        .keep_alive_interval(std::time::Duration::from_secs(u64::from(SILENCE_SECONDS)))
        .max_concurrent_streams(limits.streams)
        .max_send_buf_size(STREAM_BUFFER)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .serve_connection(TokioIo::new(tls), service);
    drive(
        pin!(connection),
        http2::Connection::graceful_shutdown,
        &cut,
        &listener.shutdown,
    )
    .await;
}

/// One request through the application.
async fn answer(
    app: Router,
    peer: Peer,
    meter: Arc<Meter>,
    request: Request<Incoming>,
) -> Result<Response<Outbound>, Never> {
    let in_flight = meter.request_begins();
    let mut request = request.map(|body| Inbound::wrap(body, &meter));
    request.extensions_mut().insert(peer);
    let response = app.oneshot(request).await?;
    Ok(response.map(|body| Outbound::new(body, in_flight)))
}

/// Runs a connection until it ends, is cut, or has finished what it was doing at shutdown. When it is cut, it
/// is dropped where it stands: the socket closes, and so do the requests that ran in it.
async fn drive<C, E>(
    mut connection: Pin<&mut C>,
    finish: fn(Pin<&mut C>),
    cut: &CancellationToken,
    shutdown: &CancellationToken,
) where
    C: Future<Output = Result<(), E>>,
{
    tokio::select! {
        biased;
        () = cut.cancelled() => return,
        _ = connection.as_mut() => return,
        () = shutdown.cancelled() => {}
    }
    finish(connection.as_mut());
    tokio::select! {
        biased;
        () = cut.cancelled() => {}
        _ = connection => {}
    }
}

/// Runs the streams of an HTTP/2 connection as tasks that end when the connection is cut.
#[derive(Clone)]
struct CutWith(CancellationToken);

impl<F> hyper::rt::Executor<F> for CutWith
where
    F: Future + Send + 'static,
{
    fn execute(&self, stream: F) {
        let cut = self.0.clone();
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = cut.cancelled() => {}
                _ = stream => {}
            }
        });
    }
}
