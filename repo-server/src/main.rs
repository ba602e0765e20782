//! `repo-server`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    repo_server::cli::main()
}
