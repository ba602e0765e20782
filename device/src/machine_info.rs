//! What this machine is and has.

use std::path::Path;

use release::{Arch, Version};

/// The agent's own version.
#[must_use]
pub fn agent_version() -> Version {
    env!("CARGO_PKG_VERSION")
        .parse()
        .unwrap_or_else(|_| Version::new(0, 0, 0))
}

/// The processor; the most common one where it has no name, for a field that must say something.
#[must_use]
pub fn arch() -> Arch {
    Arch::here().unwrap_or(Arch::X86_64)
}

/// All memory in bytes; 0 where the kernel does not tell.
#[must_use]
pub fn memory_bytes() -> u64 {
    let info = rustix::system::sysinfo();
    let unit = u64::from(info.mem_unit.max(1));
    // `totalram` is as wide as the platform's word.
    #[allow(clippy::useless_conversion, clippy::unnecessary_fallible_conversions)]
    let total = u64::try_from(info.totalram).unwrap_or(u64::MAX);
    total.saturating_mul(unit)
}

/// Bytes that are free for us in the file system of `path`; all there can be where it cannot tell.
#[must_use]
pub fn free_bytes(path: &Path) -> u64 {
    rustix::fs::statvfs(path).map_or(u64::MAX, |found| found.f_bavail.saturating_mul(found.f_frsize))
}
