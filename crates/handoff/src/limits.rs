//! The limits of the protocol, each with its reason.

use std::time::Duration;

/// Bytes of one packet: fits the kernel's smallest usual send buffer several times.
pub const PACKET: usize = 64 * 1024;
/// Descriptors in one packet: the kernel takes 253 (unix(7), `SCM_MAX_FD`).
pub const PACKET_DESCRIPTORS: usize = 250;
/// Descriptors of one unit.
pub const DESCRIPTORS: usize = 65_536;
/// Bytes of a unit's state: it lies in memory.
pub const STATE: u64 = 1024 * 1024 * 1024;
/// Bytes of a token.
pub const TOKEN: usize = 128;
/// Characters of a reason that a program gives.
pub const REASON: usize = 500;
/// Units in one update.
pub const UNITS: usize = 64;
/// Connections that have not yet said who they are.
pub const STRANGERS: usize = 16;
/// How long a connection may take to say who it is.
pub const HELLO: Duration = Duration::from_secs(2);
/// First pause of a program before it looks for its agent again.
pub const RECONNECT_BASE: Duration = Duration::from_millis(50);
/// Longest such pause.
pub const RECONNECT_CAP: Duration = Duration::from_secs(2);
/// Longest time that a program believes it is given for something, whatever the agent says.
pub const PATIENCE: Duration = Duration::from_secs(3600);
