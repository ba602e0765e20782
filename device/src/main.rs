//! The device agent.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match device::cli::run(device::cli::Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("device: {error:#}");
            ExitCode::FAILURE
        }
    }
}
