//! The device agent: trusts only its own root; installs, watches, rolls back.
//!
//! Read in this order: [`machine`] is the install life as a pure state machine; [`order`] judges an order;
//! [`mod@unit`] drives one component through its life; [`agent`] starts it all. [`link`] talks to the manager,
//! [`trust`] verifies, [`supervise`] runs programs.
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::disallowed_methods
    )
)]

pub mod agent;
pub mod ask;
pub mod backoff;
pub mod bus;
pub mod cli;
pub mod conditions;
pub mod control;
pub mod data;
pub mod download;
pub mod dry_run;
pub mod enroll;
pub mod generation;
pub mod http;
pub mod hub;
pub mod launcher;
pub mod layout;
pub mod limits;
pub mod link;
pub(crate) mod live;
pub mod machine;
pub mod machine_info;
pub mod manager;
pub mod once;
pub mod order;
pub mod prepare;
pub mod random;
pub mod records;
pub mod renew;
pub mod repair;
pub mod reports;
pub mod sensors;
pub mod settings;
mod show;
pub mod sse;
pub mod stage;
pub mod supervise;
pub mod sync;
pub mod trust;
#[cfg(feature = "gui")]
pub mod ui;
pub mod unit;
pub mod world;
pub mod writer;

use tuf::UnixTime;

/// No clock is believed below this: 1 November 2026, before this version was built.
pub const BUILT: UnixTime = UnixTime(1_793_491_200);
