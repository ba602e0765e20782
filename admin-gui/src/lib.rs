//! The author's desk: makes a site, understands what is to be published, checks, signs, uploads, publishes, and
//! reads back what became of it. The only holder of author keys.
//!
//! [`Desk`] is the folder with the way to the repository, [`Unlocked`] is a desk whose release key is open.
//! The command line and the window are both built on them.
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::disallowed_methods
    )
)]

mod address;
pub mod catalogue;
pub mod ceremony;
pub mod cli;
pub mod config;
pub mod cosign;
pub mod desk;
pub mod draft;
pub mod fleet;
pub mod forecast;
pub mod init;
pub mod inspect;
pub mod keyring;
pub mod keys;
pub mod limits;
pub mod maintain;
pub mod package;
pub mod passphrase;
mod place;
mod plain;
pub mod preflight;
pub mod progress;
pub mod publish;
mod reading;
pub mod record;
pub mod rehearse;
pub mod repository;
pub mod roles;
pub mod service;
pub mod signing;
pub mod status;
pub mod stop;
pub mod team;
#[cfg(feature = "gui")]
pub mod ui;
pub mod upload;
pub mod visible;

pub use desk::{Desk, Senses, Unlocked, View};
pub use draft::{Draft, Options};
pub use passphrase::Passphrase;
pub use preflight::{Preflight, preflight};
pub use progress::{Progress, Sink};
pub use publish::{PublishError, Published};
pub use stop::Stop;
