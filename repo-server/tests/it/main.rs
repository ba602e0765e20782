//! The repository as its peers see it: over TLS, with certificates, in this process.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods
)]

mod access;
mod publish;
mod recovery;
mod reports;
mod serving;
#[allow(dead_code, reason = "a kit that the modules share")]
mod site;
mod teams;
mod uploads;
