//! The broker in version 2.

use std::process::ExitCode;

fn main() -> ExitCode {
    broker::program::main::<broker::layout::V2>()
}
