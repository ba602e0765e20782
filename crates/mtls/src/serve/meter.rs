//! Measures what a connection does, so that one sweep can tell the slow from the idle from the busy.
//!
//! A timer per connection would cost memory and wake-ups for ten thousand of them; a few counters do not.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::limits::{Limits, SWEEP};

/// Counters of one connection. All relaxed: they guide a sweep, nothing is ordered by them.
#[derive(Debug)]
pub(crate) struct Meter {
    start: Instant,
    /// Whether a header has to come in one go (HTTP/1.1; HTTP/2 sends other frames between requests).
    header_timed: AtomicBool,
    /// Requests whose answer is not finished.
    in_flight: AtomicU32,
    /// When the last request ended, in milliseconds after `start`.
    idle_since: AtomicU64,
    /// When the first byte of the next request came (milliseconds after `start`, plus one); 0 for none.
    header_since: AtomicU64,
    /// Bytes from and to the peer, TLS included.
    received: AtomicU64,
    sent: AtomicU64,
    /// The peer does not take what we send.
    blocked: AtomicBool,
    /// Handlers that wait for the peer to send more of a body.
    awaited: AtomicU32,
}

impl Meter {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            header_timed: AtomicBool::new(false),
            in_flight: AtomicU32::new(0),
            idle_since: AtomicU64::new(0),
            header_since: AtomicU64::new(0),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            blocked: AtomicBool::new(false),
            awaited: AtomicU32::new(0),
        })
    }

    /// The handshake is over; requests may come.
    pub(crate) fn open(&self, header_timed: bool) {
        self.idle_since.store(self.elapsed(), Ordering::Relaxed);
        self.header_timed.store(header_timed, Ordering::Relaxed);
    }

    pub(crate) fn request_begins(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.header_since.store(0, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    pub(crate) fn body_awaited(&self, awaited: bool) {
        if awaited {
            self.awaited.fetch_add(1, Ordering::Relaxed);
        } else {
            self.awaited.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn count_received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
        if self.header_timed.load(Ordering::Relaxed)
            && self.in_flight.load(Ordering::Relaxed) == 0
            && self.header_since.load(Ordering::Relaxed) == 0
        {
            self.header_since.store(self.elapsed() + 1, Ordering::Relaxed);
        }
    }

    fn count_sent(&self, outcome: &Poll<io::Result<usize>>) {
        self.blocked.store(outcome.is_pending(), Ordering::Relaxed);
        if let Poll::Ready(Ok(bytes)) = outcome {
            self.sent.fetch_add(*bytes as u64, Ordering::Relaxed);
        }
    }
}

/// A request until its answer is sent.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Meter>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.idle_since.store(self.0.elapsed(), Ordering::Relaxed);
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the sweep remembers of a connection between two looks.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    sending: Stall,
    receiving: Stall,
}

/// Looks at which we were waiting for the peer, and how much had been moved at the first of them.
#[derive(Debug, Default)]
struct Stall {
    looks: u64,
    bytes: u64,
}

impl Stall {
    /// True if the peer kept us waiting for `stall_seconds` in all and moved less than the floor meanwhile.
    fn look(&mut self, waiting: bool, bytes: u64, limits: &Limits) -> bool {
        if !waiting {
            return false;
        }
        if self.looks == 0 {
            self.bytes = bytes;
        }
        self.looks += 1;
        let waited = self.looks * u64::try_from(SWEEP.as_millis()).unwrap_or(u64::MAX);
        if waited < limits.stall_seconds * 1000 {
            return false;
        }
        self.looks = 0;
        bytes.saturating_sub(self.bytes) < limits.stall_seconds * limits.floor_bytes
    }
}

impl Watch {
    /// Says what has taken too long, if anything has.
    pub(crate) fn look(&mut self, meter: &Meter, limits: &Limits) -> Option<&'static str> {
        let now = meter.elapsed();
        let since = |then: u64| now.saturating_sub(then);
        let blocked = meter.blocked.load(Ordering::Relaxed);
        if self
            .sending
            .look(blocked, meter.sent.load(Ordering::Relaxed), limits)
        {
            return Some("it does not take the answer");
        }
        let awaited = meter.awaited.load(Ordering::Relaxed) > 0;
        if self
            .receiving
            .look(awaited, meter.received.load(Ordering::Relaxed), limits)
        {
            return Some("it does not send the rest of its request");
        }
        if meter.in_flight.load(Ordering::Relaxed) > 0 {
            return None;
        }
        let header = meter.header_since.load(Ordering::Relaxed);
        if header > 0 && since(header - 1) > limits.header_seconds * 1000 {
            return Some("it does not finish the header of its request");
        }
        if since(meter.idle_since.load(Ordering::Relaxed)) > limits.idle_seconds * 1000 {
            return Some("it is idle");
        }
        None
    }
}

/// A socket that tells its meter what passes through it.
#[derive(Debug)]
pub(crate) struct Metered {
    socket: TcpStream,
    meter: Arc<Meter>,
}

impl Metered {
    pub(crate) fn new(socket: TcpStream, meter: Arc<Meter>) -> Self {
        Self { socket, meter }
    }
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.socket).poll_read(context, buffer);
        let bytes = buffer.filled().len() - before;
        if bytes > 0 {
            self.meter.count_received(bytes);
        }
        outcome
    }
}

impl AsyncWrite for Metered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.meter.count_sent(&outcome);
        outcome
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.socket).poll_write_vectored(context, parts);
        self.meter.count_sent(&outcome);
        outcome
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            stall_seconds: 2,
            floor_bytes: 100,
            ..Limits::default()
        }
    }

    fn looks(stall: &mut Stall, count: u64, step: u64) -> bool {
        (0..count).any(|look| stall.look(true, look * step, &limits()))
    }

    #[test]
    fn a_peer_that_moves_nothing_is_stalled() {
        assert!(looks(&mut Stall::default(), 4, 0));
    }

    #[test]
    fn a_slow_peer_above_the_floor_is_let_go_on() {
        assert!(!looks(&mut Stall::default(), 100, 100));
    }

    #[test]
    fn a_peer_that_trickles_below_the_floor_is_stalled() {
        assert!(looks(&mut Stall::default(), 4, 10));
    }

    #[test]
    fn a_peer_that_nobody_waits_for_is_never_stalled() {
        let mut stall = Stall::default();
        assert!((0..100).all(|_| !stall.look(false, 0, &limits())));
    }
}
