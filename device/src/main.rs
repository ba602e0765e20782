//! The device agent.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match device::cli::run(device::cli::Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("device: {error:#}");
            ExitCode::FAILURE
        }
    }
}
