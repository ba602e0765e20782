//! The listeners and dialers of `mtls` against each other over loopback.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods
)]
#![allow(
    missing_docs,
    unreachable_pub,
    reason = "a test binary has no public interface"
)]

mod clocks;
mod cut;
mod exhausted;
mod files;
mod limits;
mod memory;
mod peers;
mod site;
