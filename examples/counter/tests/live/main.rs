//! The counter under an agent that is a process of its own: updated with open connections, with somebody killed in every phase.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs
)]

mod agent;
mod clients;
mod crashes;
mod updates;
