//! What the three windows share.
//!
//! A window is a view over a snapshot and a queue of commands. The service that it shows is another process
//! behind a control socket; [`link::Link`] brings its snapshot in and takes commands out on a thread of its own, so
//! that drawing never waits: a `ui` function gets a snapshot and a command sender, nothing else.
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::disallowed_methods
    )
)]

pub mod app;
pub mod format;
#[cfg(any(test, feature = "harness"))]
pub mod harness;
pub mod icon;
pub mod launch;
pub mod limits;
pub mod link;
pub mod text;
pub mod theme;
pub mod widgets;

pub use egui;
