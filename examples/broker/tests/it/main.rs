//! The broker from outside: its core with simulated clients and cuts, the programs with real ones.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods
)]

mod any;
mod client;
mod core;
mod programs;
mod world;
