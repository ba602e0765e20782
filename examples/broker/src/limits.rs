//! Every cap of this program, each with its reason.

/// Largest packet taken from a client: far above what sensors send.
pub const PACKET_BYTES: usize = 256 * 1024;

/// Bytes waiting to be written to one client beyond which QoS 0 messages for it are left out.
pub const OUTPUT_SOFT_BYTES: usize = 1024 * 1024;

/// Bytes waiting to be written to one client beyond which it is cut off: a window of messages and their replies
/// stays far below, so it does not read any more.
pub const OUTPUT_BYTES: usize = 16 * 1024 * 1024;

/// Messages of QoS 1 and 2 sent to one session and not yet acknowledged in full. Two round trips at 20,000
/// messages a second and 10 ms each; the whole of it is part of what an update moves.
pub const WINDOW: usize = 512;

/// Messages of QoS 1 and 2 that wait for one session, connected or not; later ones are left out and counted.
pub const WAITING: usize = 100_000;

/// Packets of QoS 2 taken from one session and not yet released by it.
pub const TAKEN: usize = 16 * 1024;

/// Connections at a time; further ones are closed at once.
pub const CONNECTIONS: usize = 10_000;

/// Sessions remembered, connected or not; further clients are refused.
pub const SESSIONS: usize = 20_000;

/// Subscriptions of one session.
pub const SUBSCRIPTIONS: usize = 1_000;

/// Levels of a topic or filter.
pub const TOPIC_LEVELS: usize = 128;

/// Bytes of a client's name; the standard asks for 23 at least.
pub const CLIENT_BYTES: usize = 256;

/// Topics with a retained message; a message for a further one is delivered and not retained.
pub const RETAINED: usize = 100_000;

/// Milliseconds a new connection has for its CONNECT.
pub const CONNECT_MILLIS: u64 = 10_000;

/// Milliseconds between two looks at who has fallen silent.
pub const TICK_MILLIS: u64 = 1_000;

/// Bytes taken from one connection before the next has its turn.
pub const READ_BYTES: usize = 64 * 1024;

/// Connections accepted before those that exist have their turn.
pub const ACCEPTS: usize = 64;

/// Events asked of the kernel at once.
pub const EVENTS: usize = 1024;

/// Bytes of the journal beyond which it is written anew with what is still true, if that is less than half.
pub const JOURNAL_BYTES: u64 = 64 * 1024 * 1024;

/// Largest journal read at a start. It is written anew long before, unless the disk refuses.
pub const JOURNAL_READ_BYTES: u64 = 4 * 1024 * 1024 * 1024;

/// One group of the journal: what a turn of the loop adds stays far below.
pub const GROUP_BYTES: usize = 256 * 1024 * 1024;

/// Largest state taken over from another process: ten sessions with full queues of 1 KiB messages.
pub const STATE_BYTES: usize = 1024 * 1024 * 1024;
