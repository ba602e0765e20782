//! The agent as a library, against a manager that lives in the same process.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    missing_docs,
    unreachable_pub
)]

#[path = "it/bounds.rs"]
mod bounds;
#[path = "it/busy.rs"]
mod busy;
#[path = "it/crash.rs"]
mod crash;
#[path = "it/crash_state.rs"]
mod crash_state;
#[path = "it/cut.rs"]
mod cut;
#[path = "it/disk.rs"]
mod disk;
#[path = "it/dry_run.rs"]
mod dry_run;
#[path = "it/floor.rs"]
mod floor;
#[path = "it/flow.rs"]
mod flow;
#[path = "it/live.rs"]
mod live;
#[path = "it/module.rs"]
mod module;
#[path = "it/once.rs"]
mod once;
#[path = "it/output.rs"]
mod output;
#[path = "it/own.rs"]
mod own;
#[path = "it/programs.rs"]
mod programs;
#[path = "it/repository.rs"]
mod repository;
#[path = "it/site.rs"]
mod site;
#[path = "it/stage.rs"]
mod stage;
#[path = "it/state.rs"]
mod state;
#[path = "it/trial.rs"]
mod trial;
#[path = "it/trust.rs"]
mod trust;
#[path = "it/wait.rs"]
mod wait;
#[cfg(feature = "gui")]
#[path = "it/window.rs"]
mod window;
