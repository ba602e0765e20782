//! What survives which fault: every operation of every step fails once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs
)]

mod bounded;
mod files;
mod growing;
mod log;
mod record;
mod refresh;
mod repository;
mod search;
mod store;
mod tree;
mod trusted;

use std::path::Path;
use std::sync::Arc;

use durable::Files;
use durable::faulty::{Fault, Faulty};

const FAULTS: [Fault; 5] = [
    Fault::Io,
    Fault::NoSpace,
    Fault::ShortWrite,
    Fault::Killed,
    Fault::KilledAfter,
];

/// Runs `case` on a disk whose n-th operation fails, for every fault and every n it reaches, each
/// time in a fresh folder prepared by `prepare`; then `check` looks at what is left.
fn for_every_fault<R>(
    prepare: impl Fn(&Path),
    case: impl Fn(&Files, &Path) -> R,
    check: impl Fn(&Path, R, Fault, u64),
) {
    for fault in FAULTS {
        for at in 1.. {
            assert!(at < 500, "the case never ends");
            let dir = tempfile::tempdir().unwrap();
            prepare(dir.path());
            let disk = Arc::new(Faulty::new(fault, at));
            let result = case(&Files::on(disk.clone()), dir.path());
            check(dir.path(), result, fault, at);
            if !disk.fired() {
                assert!(at > 1, "{fault:?} was never reached");
                break;
            }
        }
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The names of the operations, to check the discipline and count flushes.
fn trace(case: impl FnOnce(&Files)) -> Vec<&'static str> {
    let disk = Arc::new(Faulty::new(Fault::Io, 0));
    case(&Files::on(disk.clone()));
    disk.ops().into_iter().map(|op| op.name).collect()
}
