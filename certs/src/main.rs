//! `certs`: a site's certificate authority on the command line.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let arguments = certs::program::Arguments::parse();
    let now = tuf::UnixTime(time::OffsetDateTime::now_utc().unix_timestamp());
    match certs::program::run(arguments, now, &mut std::io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("certs: {error:#}");
            ExitCode::FAILURE
        }
    }
}
