//! The broker in version 3.

use std::process::ExitCode;

fn main() -> ExitCode {
    broker::program::main::<broker::layout::V3>()
}
