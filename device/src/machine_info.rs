//! What this machine is and has.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use release::{Arch, Machine, Version};

use crate::limits::MAX_MEMINFO;

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

/// What a release can require of this machine, which answers to these hardware ids.
#[must_use]
pub fn machine(hardware: &[String]) -> Machine {
    Machine {
        agent: agent_version(),
        arch: Arch::here(),
        hardware: hardware.to_vec(),
        memory_bytes: memory_bytes(),
    }
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

/// Bytes of memory that can be given out without swapping; none: the kernel does not tell.
#[must_use]
pub fn available_bytes() -> Option<u64> {
    let mut text = String::new();
    File::open("/proc/meminfo")
        .ok()?
        .take(MAX_MEMINFO)
        .read_to_string(&mut text)
        .ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Bytes that are free for us in the file system of `path`; all there can be where it cannot tell.
#[must_use]
pub fn free_bytes(path: &Path) -> u64 {
    rustix::fs::statvfs(path).map_or(u64::MAX, |found| found.f_bavail.saturating_mul(found.f_frsize))
}
