//! How much one device may tell, so that a stolen one neither fills the disk nor hides what the others tell.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use protocol::{Name, SignedReport};

use crate::buckets::Buckets;
use crate::limits;

/// A share for each device on the list.
#[derive(Debug)]
pub(crate) struct Quotas {
    reports: Mutex<Buckets<Name>>,
    progress: Mutex<Buckets<Name>>,
    greetings: Mutex<Buckets<Name>>,
    renewals: Mutex<Buckets<Name>>,
    guesses: Mutex<Buckets<()>>,
}

impl Quotas {
    pub(crate) fn new() -> Self {
        let buckets = |rate| Mutex::new(Buckets::new(rate, limits::DEVICES));
        Self {
            reports: buckets(limits::REPORT_RATE),
            progress: buckets(limits::PROGRESS_RATE),
            greetings: buckets(limits::GREETING_RATE),
            renewals: buckets(limits::RENEWAL_RATE),
            guesses: Mutex::new(Buckets::new(limits::PASSWORD_WRONG, 1)),
        }
    }

    /// Whether a device may hand over these reports now. Each costs by its size: what is scarce is room.
    pub(crate) fn reports(&self, device: &Name, reports: &[SignedReport]) -> bool {
        let cost = |report: &SignedReport| report.report.len() / limits::REPORT_PIECE + 1;
        let cost = reports.iter().map(cost).sum::<usize>().max(1);
        take(&self.reports, device, cost)
    }

    /// Whether a device may tell so many steps now.
    pub(crate) fn progress(&self, device: &Name, steps: usize) -> bool {
        take(&self.progress, device, steps.max(1))
    }

    /// Whether a device's password may be tried now, at the control socket. A right one is told to
    /// [`Self::guessed_right`].
    pub(crate) fn guess(&self) -> bool {
        let mut guesses = self.guesses.lock().unwrap_or_else(PoisonError::into_inner);
        guesses.take((), 1, Instant::now())
    }

    /// A right password costs nothing.
    pub(crate) fn guessed_right(&self) {
        let mut guesses = self.guesses.lock().unwrap_or_else(PoisonError::into_inner);
        guesses.give(&(), 1);
    }

    /// Whether a device may say hello or open a stream now.
    pub(crate) fn greeting(&self, device: &Name) -> bool {
        take(&self.greetings, device, 1)
    }

    /// Whether a device may have a new certificate now: each is signed, and written to the disk before it is given.
    pub(crate) fn renewal(&self, device: &Name) -> bool {
        take(&self.renewals, device, 1)
    }
}

fn take(buckets: &Mutex<Buckets<Name>>, device: &Name, cost: usize) -> bool {
    let mut buckets: MutexGuard<'_, _> = buckets.lock().unwrap_or_else(PoisonError::into_inner);
    let cost = u32::try_from(cost).unwrap_or(u32::MAX);
    buckets.take(device.clone(), cost, Instant::now())
}

#[cfg(test)]
mod tests {
    use protocol::limits::{MAX_DEVICE_BODY, MAX_REPORT, MAX_REPORTS};
    use tuf::Digest;

    use super::*;
    use crate::fixture::name;

    fn report(size: usize) -> SignedReport {
        SignedReport {
            report: "x".repeat(size),
            key: Digest::of(b"key"),
            signature: String::new(),
        }
    }

    #[test]
    fn a_device_that_was_away_for_long_hands_over_all_it_has_and_one_that_floods_is_told_to_wait() {
        let quotas = Quotas::new();
        // What an agent keeps at most, of the size that a long update has.
        let request = vec![report(16_000); MAX_REPORTS];
        for _ in 0..512 / MAX_REPORTS {
            assert!(quotas.reports(&name("pump"), &request));
        }
        let large = vec![report(MAX_REPORT); MAX_DEVICE_BODY / MAX_REPORT];
        let taken = (0..1_000)
            .filter(|_| quotas.reports(&name("thief"), &large))
            .count();
        assert!((1..=4).contains(&taken), "{taken} requests of 4 MiB at once");
        assert!(
            quotas.reports(&name("valve"), &request),
            "the others have their own share"
        );
    }
}
