//! Makes one version's state of another's: standard input to standard output.

use std::process::ExitCode;

fn main() -> ExitCode {
    broker::program::transform()
}
