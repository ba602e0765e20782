//! The repository: stores signed releases, proves that they verify, and serves them. It can forge nothing.
//!
//! What it holds is decided by the author's keys, which are elsewhere. Its own key signs only `snapshot` and
//! `timestamp`: which of the author's files are the newest, and since when. Before anything becomes visible,
//! the whole new state is run through the same verification that a client would run ([`check`]), and one
//! database transaction makes it the current one ([`Repository`]).
//!
//! ```text
//! http      who may ask what, bodies, the page for people
//!   ↓
//! Repository   publish, recover, renew, reports, uploads, status
//!   ↓              ↓            ↓
//! check, listing   Database     Storage
//! (the rules)      (SQLite)     (files by SHA-256)
//! ```
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::disallowed_methods
    )
)]

mod backup;
pub mod check;
pub mod cli;
mod clock;
pub mod config;
mod control_socket;
mod counters;
mod db;
pub mod http;
mod lease;
pub mod limits;
mod listing;
mod online;
mod publish;
mod recover;
mod refusal;
mod reports;
mod repository;
pub mod service;
pub mod storage;
mod upkeep;
mod uploads;
mod visible;

pub use config::Config;
pub use limits::Limits;
pub use refusal::Refusal;
pub use repository::Repository;
pub use service::{Options, Server};
