//! What the four programs say to each other: names, ids, events, messages and their size limits.
//!
//! Types only. Nothing here reads a clock, opens a socket or touches a disk; every type that comes from
//! outside checks itself while it is being read, so that a value that exists is a value that is valid.
//!
//! The programs meet here and in signed metadata (`tuf`), never in each other's code.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod author;
pub mod coding;
pub mod control;
pub mod device;
pub mod enroll;
mod error;
mod event;
mod id;
mod identity;
mod latency;
pub mod limits;
pub mod messages;
mod name;
mod report;
mod secret;
mod stamp;

pub use error::chain;
pub use event::{Event, Outcome, Step};
pub use id::{IdError, UpdateId};
pub use identity::{Identity, IdentityError, Role};
pub use latency::{Latencies, latencies};
pub use name::{Name, NameError};
pub use report::{Report, ReportError, SignedReport};
pub use secret::Secret;
pub use stamp::Stamp;
