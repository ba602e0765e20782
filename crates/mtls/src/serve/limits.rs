//! What a listener allows, each with its reason.

use std::time::Duration;

/// Limits of one listener. The defaults fit a gateway of ten thousand devices on two cores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Handshakes that compute at the same time; others wait their turn. Bounds memory (about 30 KiB each) and
    /// keeps the processors free for those who are already in.
    pub handshakes: usize,
    /// Connections in all, handshakes included; one more is closed at once. Below the usual limit of file
    /// descriptors, so that files can still be opened.
    pub connections: usize,
    /// Connections without an identity (in their handshake, or anonymous) per IPv4 address or IPv6 /64.
    pub per_address: usize,
    /// Connections per key: a device needs two, a program with a connection pool a few more.
    pub per_key: usize,
    /// Seconds to wait for a turn, and again for the handshake itself.
    pub handshake_seconds: u64,
    /// Seconds from a request's first byte to the end of its header (HTTP/1.1).
    pub header_seconds: u64,
    /// Seconds without any request in flight after which a connection is closed.
    pub idle_seconds: u64,
    /// Seconds of waiting for a peer (to send its body, to take our answer) after which it must have moved
    /// [`floor_bytes`](Self::floor_bytes) for each of them.
    pub stall_seconds: u64,
    /// Bytes a second below which a peer we wait for counts as stalled: a tenth of a 9600 baud line.
    pub floor_bytes: u64,
    /// Seconds that requests in flight get when the listener shuts down.
    pub drain_seconds: u64,
    /// Bytes of a request's header and of the buffer it is read into (hyper's least is 8 KiB).
    pub header_bytes: usize,
    /// Fields in a request's header.
    pub headers: usize,
    /// Requests at the same time on one HTTP/2 connection.
    pub streams: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshakes: 256,
            connections: 24_000,
            per_address: 256,
            per_key: 64,
            handshake_seconds: 10,
            header_seconds: 10,
            idle_seconds: 120,
            stall_seconds: 30,
            floor_bytes: 100,
            drain_seconds: 3,
            header_bytes: 16 * 1024,
            headers: 64,
            streams: 64,
        }
    }
}

impl Limits {
    pub(crate) fn handshake(&self) -> Duration {
        Duration::from_secs(self.handshake_seconds)
    }
}

/// How often connections are looked at for what has taken too long: the precision of the times above.
pub const SWEEP: Duration = Duration::from_millis(500);
/// First and longest pause after the system refused another connection (descriptors exhausted).
pub const BACK_OFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));
/// Refusals that are remembered for [`Connections::refusals`](super::Connections::refusals).
pub const REFUSALS: usize = 128;
/// Lines about refusals in the log per second: an attacker must not fill a disk.
pub const LOG_LINES: u32 = 10;
/// Seconds after which the system asks a silent peer whether it is still there (TCP keep-alive), and the
/// seconds after which unacknowledged data ends a connection.
pub const SILENCE_SECONDS: u32 = 30;
/// Bytes that one HTTP/2 stream may have in the sending buffer.
pub const STREAM_BUFFER: usize = 64 * 1024;
