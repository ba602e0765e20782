//! `manager`: see the library.

use std::process::ExitCode;

/// Hashing a password takes 19 MiB for a moment; glibc's arenas would keep them for ever, one per thread.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    manager::cli::main()
}
