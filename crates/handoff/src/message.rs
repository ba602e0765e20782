//! The messages: JSON, one per packet, told apart by `say`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits;

/// The version of the protocol that this crate speaks.
pub const PROTOCOL: u32 = 1;

/// What the agent tells a program that is to prepare (document 003: the directives that travel with the update).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directives {
    /// Id of the update, the same in all its units.
    pub update: String,
    /// The version that takes over.
    pub to: String,
    /// The category of the change.
    pub nature: String,
    /// How still the program must stand.
    pub stillness: String,
    /// Milliseconds in which it answers `ready` or `refuse`.
    pub ready_ms: u64,
    /// Milliseconds after which a program that has answered and heard nothing more goes on by itself.
    pub hold_ms: u64,
}

impl Directives {
    /// How long the program may finish what it must.
    #[must_use]
    pub fn ready_within(&self) -> Duration {
        Duration::from_millis(self.ready_ms).min(limits::PATIENCE)
    }

    /// How long it stands still before it takes things into its own hands.
    #[must_use]
    pub fn hold_for(&self) -> Duration {
        Duration::from_millis(self.hold_ms).min(limits::PATIENCE)
    }
}

/// One packet's words. Descriptors travel beside them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case")]
pub enum Message {
    /// Program, first of all: who it is.
    Hello {
        /// Version of the protocol.
        protocol: u32,
        /// From its environment.
        token: String,
        /// Whether it serves; a successor does not yet.
        serving: bool,
    },
    /// Agent to old, with the verdict: finish, stand still, give.
    Prepare(Directives),
    /// Old: not now.
    Refuse {
        /// Of which update.
        update: String,
        /// Why.
        reason: String,
        /// Milliseconds after which it is worth asking again, if it knows.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        again_ms: Option<u64>,
    },
    /// Old, then agent to new: the next descriptors, in order, as many as come with it.
    Descriptors {
        /// Of which update.
        update: String,
    },
    /// Old, with its state: it stands still.
    Ready {
        /// Of which update.
        update: String,
        /// Version of the state's format.
        schema: u32,
        /// Bytes of the state.
        length: u64,
        /// How many descriptors were sent before.
        descriptors: u64,
        /// When it stood still: `CLOCK_MONOTONIC` in nanoseconds.
        stopped_ns: u64,
    },
    /// Agent to new, with the state and the verdict: make it your own, do not serve.
    Take {
        /// Of which update.
        update: String,
        /// Version of the state's format.
        schema: u32,
        /// Bytes of the state.
        length: u64,
        /// How many descriptors were sent before.
        descriptors: u64,
        /// Milliseconds after which a program that is alive and heard nothing more looks at the verdict by itself.
        hold_ms: u64,
    },
    /// New: it could serve.
    Alive {
        /// Of which update.
        update: String,
    },
    /// New: it cannot.
    Failed {
        /// Of which update.
        update: String,
        /// Why.
        reason: String,
    },
    /// Agent to new, after the decision: serve.
    Serve {
        /// Of which update.
        update: String,
    },
    /// New, before it touches anything: it serves.
    Serving {
        /// Of which update.
        update: String,
        /// When it began: `CLOCK_MONOTONIC` in nanoseconds.
        began_ns: u64,
    },
    /// Agent to old, after the new one serves: end.
    Released {
        /// Of which update.
        update: String,
    },
    /// Agent to old: go on where you were.
    Resume {
        /// Of which update.
        update: String,
        /// Why nothing came of it.
        reason: String,
    },
    /// A word of a later protocol: it is not listened to.
    #[serde(other)]
    Unknown,
}

/// A reason, cut to what fits.
pub(crate) fn brief(reason: &str) -> String {
    reason.chars().take(limits::REASON).collect()
}

/// Milliseconds, as far as they can be counted.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(feature = "program")]
/// `CLOCK_MONOTONIC`, which is the same for all processes of a boot.
pub(crate) fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}
