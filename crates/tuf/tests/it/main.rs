//! The verifier against a repository in memory: what it asks for, what it takes, what it refuses and why.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::disallowed_types
)]

mod arbitrary;
mod delegations;
mod editors;
mod freeze;
mod happy;
mod lifetimes;
mod mutations;
mod recovery;
mod repo;
mod rollback;
mod roots;
mod shapes;
mod signatures;
mod torn;
mod uploads;
