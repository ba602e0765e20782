//! The four real programs, run as processes on loopback and driven as a user would: the harness that the
//! end-to-end tests, the demo and the benchmarks share.
//!
//! Every site gets loopback addresses of its own, so that tests run side by side; every wait is a wait on
//! an event with a deadline; every process that is started here is ended here.
// A harness may fail loudly: a broken set-up is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod authored;
pub mod client;
pub mod clock;
pub mod crash;
pub mod differential;
pub mod draws;
pub mod eval;
pub mod figures;
pub mod follow;
pub mod forge;
pub mod live;
pub mod packages;
pub mod process;
pub mod proxy;
pub mod rogue;
pub mod secrets;
pub mod site;
pub mod steps;
mod timer;
pub mod trials;

/// A test that cannot run here says so. Where `DROVER_NO_SKIP` is set, as in CI, that is a failure: what is green
/// there has run.
///
/// # Panics
/// If `DROVER_NO_SKIP` is set.
pub fn skip(why: &str) {
    assert!(
        std::env::var_os("DROVER_NO_SKIP").is_none(),
        "this test cannot run here: {why}"
    );
    eprintln!("skipped: {why}");
}

pub use authored::Authored;
pub use follow::Follow;
pub use forge::Forge;
pub use process::{Output, Program, eventually};
pub use proxy::Proxy;
pub use rogue::Rogue;
pub use site::{Agent, Published, Site, SiteOptions};
pub use steps::Steps;
