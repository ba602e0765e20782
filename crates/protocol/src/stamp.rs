//! When something happened, on two clocks.

use serde::{Deserialize, Serialize};

/// A moment on the wall clock and on the boot clock of the machine where it was taken.
///
/// Two stamps with the same `boot_id` are subtracted on the boot clock, which nobody can set; across
/// machines only the wall clock is left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Nanoseconds since 1970 on the wall clock, as believed there.
    pub wall_ns: u64,
    /// Nanoseconds of `CLOCK_BOOTTIME`.
    pub boot_ns: u64,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
}

impl Stamp {
    /// Nanoseconds from `earlier` to `self`; negative if the clocks disagree across machines.
    #[must_use]
    pub fn since_ns(&self, earlier: &Self) -> i64 {
        let (from, to) = if self.boot_id == earlier.boot_id {
            (earlier.boot_ns, self.boot_ns)
        } else {
            (earlier.wall_ns, self.wall_ns)
        };
        i64::try_from(i128::from(to) - i128::from(from)).unwrap_or(i64::MAX)
    }
}
