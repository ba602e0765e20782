//! A listener: accepts, does the TLS handshake, serves HTTP, keeps its limits.
//!
//! ```no_run
//! # async fn example(listener: tokio::net::TcpListener, config: mtls::ServerConfig, app: axum::Router) {
//! use mtls::serve::{Connections, Limits, serve};
//! let (_keep, tls) = tokio::sync::watch::channel(std::sync::Arc::new(config));
//! let shutdown = tokio_util::sync::CancellationToken::new();
//! serve(listener, tls, app, Limits::default(), Connections::new(), shutdown).await;
//! # }
//! ```
//!
//! HTTP/1.1 or 2 is chosen by ALPN. Every request carries its [`Peer`]; who may do what is the application's
//! business, beyond the roles that the configuration lets in.

mod body;
mod connection;
pub mod limits;
mod meter;
mod peer;
mod registry;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use axum::Router;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

pub use limits::Limits;
pub use peer::{Peer, PeerFacts, Refused};
pub use registry::{Connections, Counts};

use crate::Refusal;

/// What all connections of one listener share.
pub(crate) struct Listener {
    pub(crate) id: u64,
    pub(crate) tls: watch::Receiver<Arc<ServerConfig>>,
    pub(crate) app: Router,
    pub(crate) limits: Limits,
    pub(crate) connections: Connections,
    pub(crate) turns: Semaphore,
    pub(crate) shutdown: CancellationToken,
    log: Mutex<Throttle>,
}

/// Serves `app` on `listener` until `shutdown`; then requests in flight get
/// [`drain_seconds`](Limits::drain_seconds), and what is left is cut. Returns when all connections are gone.
///
/// `tls` is read at each handshake, so a replaced configuration holds from the next connection on. `cut` lists
/// the live connections and closes them on demand; it may be shared with other listeners.
pub async fn serve(
    listener: TcpListener,
    tls: watch::Receiver<Arc<ServerConfig>>,
    app: Router,
    limits: Limits,
    cut: Connections,
    shutdown: CancellationToken,
) {
    let shared = Arc::new(Listener {
        id: cut.number(),
        tls,
        app,
        turns: Semaphore::new(limits.handshakes.min(Semaphore::MAX_PERMITS)),
        limits,
        connections: cut,
        shutdown,
        log: Mutex::new(Throttle::default()),
    });
    let tasks = TaskTracker::new();
    tokio::select! {
        () = shared.shutdown.cancelled() => {}
        () = accept(&listener, &shared, &tasks) => {}
        () = sweep(&shared) => {}
    }
    drop(listener);
    tasks.close();
    let drained = Duration::from_secs(shared.limits.drain_seconds);
    if timeout(drained, tasks.wait()).await.is_err() {
        shared.connections.close_listener(shared.id);
        // Handshakes are not on the list yet; they end by their own limit or with the runtime.
        let _ = timeout(drained, tasks.wait()).await;
    }
}

/// Accepts for ever.
async fn accept(listener: &TcpListener, shared: &Arc<Listener>, tasks: &TaskTracker) {
    let mut pause = limits::BACK_OFF.0;
    loop {
        match listener.accept().await {
            Ok((socket, addr)) => {
                pause = limits::BACK_OFF.0;
                admit(shared, tasks, socket, addr);
            }
            Err(error) if is_of_one_connection(&error) => {
                debug!(%error, "a connection broke before it began");
            }
            Err(error) => {
                // Descriptors or memory are exhausted: the connection stays in the queue, and asking again at
                // once would only spin.
                shared.log(|| warn!(%error, "no further connection can be accepted for now"));
                sleep(pause).await;
                pause = (pause * 2).min(limits::BACK_OFF.1);
            }
        }
    }
}

fn admit(shared: &Arc<Listener>, tasks: &TaskTracker, socket: TcpStream, addr: SocketAddr) {
    if tasks.len() >= shared.limits.connections {
        return shared.refuse(addr, Refusal::TooMany("the listener has its share of them"));
    }
    match shared.connections.wait(addr, &shared.limits) {
        Ok(waiting) => {
            tasks.spawn(connection::run(Arc::clone(shared), socket, addr, waiting));
        }
        Err(reason) => shared.refuse(addr, reason),
    }
}

/// Errors of accept(2) that concern the one connection only.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionAborted | Kind::ConnectionReset | Kind::ConnectionRefused | Kind::Interrupted
    )
}

/// Looks after slow connections for ever.
async fn sweep(shared: &Arc<Listener>) {
    let mut ticks = interval(limits::SWEEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for (peer, why) in shared.connections.sweep(shared.id, &shared.limits) {
            debug!(?peer, why, "connection closed");
        }
    }
}

impl Listener {
    /// Notes that a connection was turned away, and why.
    pub(crate) fn refuse(&self, addr: SocketAddr, reason: Refusal) {
        self.log(|| warn!(%addr, %reason, "connection refused"));
        self.connections.note_refused(addr, reason);
    }

    /// Writes a line unless too many were written this second.
    fn log(&self, line: impl FnOnce()) {
        let Ok(mut throttle) = self.log.lock() else { return };
        match throttle.allow(Instant::now()) {
            Verdict::Quiet => {}
            Verdict::Speak { missed: 0 } => line(),
            Verdict::Speak { missed } => {
                line();
                warn!(missed, "further lines like this were left out");
            }
        }
    }
}

/// At most [`LOG_LINES`](limits::LOG_LINES) a second.
#[derive(Debug, Default)]
struct Throttle {
    second: Option<Instant>,
    lines: u32,
    missed: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Speak { missed: u64 },
    Quiet,
}

impl Throttle {
    fn allow(&mut self, now: Instant) -> Verdict {
        if self
            .second
            .is_none_or(|second| now.duration_since(second) >= Duration::from_secs(1))
        {
            self.second = Some(now);
            self.lines = 0;
        }
        if self.lines == limits::LOG_LINES {
            self.missed += 1;
            return Verdict::Quiet;
        }
        self.lines += 1;
        Verdict::Speak {
            missed: std::mem::take(&mut self.missed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_refusals_is_counted_but_not_written() {
        let mut throttle = Throttle::default();
        let now = Instant::now();
        let spoken = (0..1000)
            .filter(|_| throttle.allow(now) != Verdict::Quiet)
            .count();
        assert_eq!(spoken, limits::LOG_LINES as usize);
        let later = now + Duration::from_secs(1);
        assert_eq!(
            throttle.allow(later),
            Verdict::Speak {
                missed: 1000 - u64::from(limits::LOG_LINES)
            }
        );
    }

    #[test]
    fn exhausted_descriptors_are_not_taken_for_a_broken_connection() {
        for raw in [
            rustix::io::Errno::MFILE,
            rustix::io::Errno::NFILE,
            rustix::io::Errno::NOBUFS,
        ] {
            assert!(!is_of_one_connection(&io::Error::from(raw)));
        }
        assert!(is_of_one_connection(&io::Error::from(
            rustix::io::Errno::CONNABORTED
        )));
    }
}
