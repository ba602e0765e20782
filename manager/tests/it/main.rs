//! A whole gateway in this process, with a repository that the tests steer and devices that speak by hand.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs
)]

mod access;
mod backup;
mod device;
mod doubts;
mod fetch;
mod late;
mod mirror;
mod quotas;
mod releases;
mod repository;
mod routes;
mod site;
mod trust;
#[cfg(feature = "gui")]
mod window;
