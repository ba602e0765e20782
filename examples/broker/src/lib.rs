//! A small MQTT 3.1.1 broker that is updated while it runs.
//!
//! - [`core`]: the broker without I/O.
//! - [`state`]: all that it knows, as one value, in the layout of its version.
//! - [`layout`]: what the versions differ in, and the ways between them.
//! - [`journal`]: what survives a power cut.
//! - [`program`]: what the three programs have in common, which is all but the layout.
//! - [`server`]: the one loop that moves bytes between the kernel and the broker.
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::disallowed_methods
    )
)]

pub mod core;
pub mod journal;
pub mod layout;
pub mod limits;
pub mod message;
pub mod program;
pub mod server;
pub mod state;
mod topic;
pub mod wire;
