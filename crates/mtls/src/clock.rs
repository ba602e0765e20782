//! Time as TLS sees it: the same belief as TUF's (DESIGN section 4, "Time").

use std::fmt::Debug;
use std::sync::{Arc, OnceLock, RwLock};
use std::time::{Duration, SystemTime};

use tuf::UnixTime;
use tuf::clock::{Believed, believe};

/// Where verification gets its time from.
///
/// While the time is unknown (`known: false`), a site certificate's notBefore is not held against it; its
/// notAfter is judged by `now` in any case.
pub trait Clock: Send + Sync + Debug {
    /// The time believed at this moment.
    fn now(&self) -> Believed;
}

/// The machine's wall clock, believed as it is: for the author's desk and for machines that keep time.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Believed {
        Believed {
            now: wall(),
            known: true,
        }
    }
}

/// The wall clock, held against a "not before" that comes from the build or from verified `signed_at` values:
/// for gateways and devices, whose clocks may stand at 1970 or 2099.
#[derive(Debug, Default)]
pub struct FlooredClock {
    floor: RwLock<Option<UnixTime>>,
}

impl FlooredClock {
    /// A clock with this floor (none: the wall clock is believed).
    pub fn new(floor: Option<UnixTime>) -> Self {
        Self {
            floor: RwLock::new(floor),
        }
    }

    /// Sets the floor anew, for instance after a newer `signed_at` was verified or the trusted state was
    /// recovered.
    pub fn set_floor(&self, floor: Option<UnixTime>) {
        match self.floor.write() {
            Ok(mut held) => *held = floor,
            Err(poisoned) => *poisoned.into_inner() = floor,
        }
    }

    /// The floor now.
    #[must_use]
    pub fn floor(&self) -> Option<UnixTime> {
        match self.floor.read() {
            Ok(held) => *held,
            Err(poisoned) => *poisoned.into_inner(),
        }
    }
}

impl Clock for FlooredClock {
    fn now(&self) -> Believed {
        believe(wall(), since_boot(), self.floor())
    }
}

/// Hands a [`Clock`] to rustls, which uses it for the age of tickets only: certificates are judged by the
/// verifiers, which ask the clock themselves.
#[derive(Debug)]
pub(crate) struct TlsTime(pub(crate) Arc<dyn Clock>);

impl rustls::time_provider::TimeProvider for TlsTime {
    fn current_time(&self) -> Option<rustls_pki_types::UnixTime> {
        Some(pki_time(self.0.now().now))
    }
}

/// Times before 1970 become 1970: certificates of a site are all younger.
pub(crate) fn pki_time(time: UnixTime) -> rustls_pki_types::UnixTime {
    let seconds = u64::try_from(time.0).unwrap_or(0);
    rustls_pki_types::UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

#[allow(
    clippy::disallowed_methods,
    reason = "the one place that reads the wall clock"
)]
fn wall() -> UnixTime {
    match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => UnixTime(i64::try_from(after.as_secs()).unwrap_or(i64::MAX)),
        Err(before) => UnixTime(i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |s| -s)),
    }
}

/// Time since the machine was started, suspension included; nobody can set it.
#[must_use]
pub fn since_boot() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// This moment on both clocks, for an event or a report. The boot id is empty where the kernel tells none.
#[must_use]
pub fn stamp() -> protocol::Stamp {
    let wall = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    protocol::Stamp {
        wall_ns: nanoseconds(wall),
        boot_ns: u64::try_from(since_boot().as_nanos()).unwrap_or(u64::MAX),
        boot_id: boot_id().to_owned(),
    }
}

/// Nanoseconds since the clock's beginning; 0 for a clock that stands before it.
fn nanoseconds(time: rustix::time::Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// Read once: it changes with the next start of the machine only.
fn boot_id() -> &'static str {
    static ID: OnceLock<String> = OnceLock::new();
    ID.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        text.trim().to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_far_above_the_wall_clock_makes_the_time_unknown() {
        let clock = FlooredClock::new(None);
        assert!(clock.now().known);
        // Ten years after the wall clock, as if that stood still at the time of the build.
        let later = UnixTime(wall().0 + 10 * 366 * 24 * 60 * 60);
        clock.set_floor(Some(later));
        let believed = clock.now();
        assert!(!believed.known && believed.now >= later);
    }

    #[test]
    fn a_floor_decades_below_the_wall_clock_makes_the_time_unknown() {
        let clock = FlooredClock::new(Some(UnixTime(0)));
        let believed = clock.now();
        assert!(!believed.known && believed.now < wall());
    }

    #[test]
    fn times_before_1970_are_1970_to_tls() {
        assert_eq!(pki_time(UnixTime(i64::MIN)).as_secs(), 0);
    }
}
