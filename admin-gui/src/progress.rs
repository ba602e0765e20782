//! What a publish tells while it runs: to a terminal, to a window, to a test.

use std::sync::Arc;

use protocol::Event;

/// One piece of news.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// A step of the update.
    Step(Box<Event>),
    /// The file is being read and hashed.
    Reading {
        /// Bytes so far.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// Bytes are on their way to the repository.
    Uploading {
        /// Bytes so far.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// A message of the document (its id and its text).
    Message {
        /// The stable id.
        id: &'static str,
        /// The words.
        text: String,
    },
    /// Something went wrong and is being tried again.
    Trouble(String),
}

/// Who is told. Called often and from any thread: it must be quick.
pub type Sink = Arc<dyn Fn(&Progress) + Send + Sync>;

/// For callers that do not watch.
#[must_use]
pub fn nobody() -> Sink {
    Arc::new(|_| {})
}

impl Progress {
    /// A message with a fact in its gap.
    #[must_use]
    pub fn message(message: &protocol::messages::Message, fact: impl std::fmt::Display) -> Self {
        Self::Message {
            id: message.id,
            text: message.with(fact),
        }
    }
}
