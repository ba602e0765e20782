//! The author's desk against repositories of all kinds, over loopback.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::needless_pass_by_value
)]
#![allow(
    missing_docs,
    unreachable_pub,
    reason = "a test binary has no public interface"
)]

mod ceremony;
mod checks;
mod command;
mod cosign;
mod cosign_attacks;
mod fake;
mod forecast;
mod init;
mod inspect;
mod maintain;
mod proxy;
mod publish;
mod sender;
mod service;
mod service_work;
mod site;
#[cfg(feature = "gui")]
mod window;
#[cfg(feature = "gui")]
mod window_keyboard;
#[cfg(feature = "gui")]
mod window_much;
