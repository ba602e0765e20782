//! The broker in version 1.

use std::process::ExitCode;

fn main() -> ExitCode {
    broker::program::main::<broker::layout::V1>()
}
