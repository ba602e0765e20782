//! `manager`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    manager::cli::main()
}
