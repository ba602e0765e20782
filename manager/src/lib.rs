//! The gateway: mirrors a repository, decides which device gets what, and serves all of them at once.
//!
//! ```text
//! downloader   refresh → fetch → verify → mirror        (poll timer, repository's events)
//!     ↓ catalog
//! fleet        allowlist, twins, orders                  (what is desired, what is reported)
//!     ↓ orders, metadata, targets      ↑ hello, progress, signed reports
//! sender       devices over TLS 1.3 with client certificates; enroll: the joining port
//! ```
//!
//! Nothing here can install anything: every device verifies everything again from its own root.
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
mod buckets;
mod catalog;
mod certificate;
pub mod cli;
pub mod config;
pub mod database;
mod downloader;
mod enroll;
#[cfg(test)]
mod fixture;
mod fleet;
mod gateway;
pub mod journal;
pub mod limits;
mod metrics;
mod outbox;
mod own;
pub mod ports;
mod pulse;
mod quotas;
mod reports;
mod repository;
pub mod restore;
pub mod secrets;
mod sender;
mod sends;
pub mod service;
mod show;
mod socket;
pub mod trust;
#[cfg(feature = "gui")]
pub mod ui;

pub use config::{Config, Paths};
