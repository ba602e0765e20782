//! What can go wrong, and who is to look at it.

use std::io;

/// Why a handover, or a part of it, did not come about.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {action}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The other side said something that has no place in the protocol.
    #[error("the other side does not keep to the protocol: {0}")]
    Protocol(String),
    /// A limit of [`crate::limits`].
    #[error("{what} is {found}, and at most {limit} can be handed over")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// How much there was.
        found: u64,
        /// How much there may be.
        limit: u64,
    },
    /// The other side has ended or hung up.
    #[error("the other side has hung up")]
    Gone,
    /// The other side has not answered in time.
    #[error("the other side has said nothing in time")]
    Late,
    /// This program was started to take over, and is not wanted: it must end without having served.
    #[error("this program was to take over and is not to serve: {0}")]
    NotWanted(String),
    /// This program was started to take over, and its environment does not say from whom.
    #[error("{variable} is not set as it must be for a program that takes over")]
    Environment {
        /// Which variable.
        variable: &'static str,
    },
}

impl Error {
    pub(crate) fn io(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, source }
    }

    pub(crate) fn os(action: &'static str) -> impl FnOnce(rustix::io::Errno) -> Self {
        move |errno| Self::Io {
            action,
            source: errno.into(),
        }
    }
}
