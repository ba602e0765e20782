//! How long to wait: jitter, back-off, and breakers for files that come wrong.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tuf::Digest;

use crate::limits;

/// A uniform draw below `most`, from a random number.
fn draw(most: Duration, random: u64) -> Duration {
    let millis = u64::try_from(most.as_millis()).unwrap_or(u64::MAX).max(1);
    Duration::from_millis(random % millis)
}

/// The time to the next check: the poll time give or take a tenth, so that many gateways spread out.
pub(super) fn poll(every: Duration, random: u64) -> Duration {
    every.saturating_sub(every / 10) + draw(every / 5, random)
}

/// Full-jitter back-off after `failures` in a row; the first one costs nothing.
pub(super) fn back_off(failures: u32, random: u64) -> Duration {
    if failures < 2 {
        return Duration::ZERO;
    }
    let most = Duration::from_secs(1 << failures.min(16)).min(limits::CHECK_BACKOFF_MAX);
    draw(most, random)
}

/// A file that arrived wrong or not at all: when it may be asked for again, and why it did not come.
#[derive(Debug, Clone)]
pub(super) struct Breaker {
    pub(super) until: Instant,
    wait: Duration,
    /// Tries in a row that failed.
    tries: u32,
    pub(super) reason: String,
}

/// What a further failure is: how many there were in a row, and whether this reason is another one than the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tripped {
    pub(super) tries: u32,
    pub(super) new: bool,
}

/// The breakers, one per file.
#[derive(Debug, Default)]
pub(super) struct Breakers(HashMap<Digest, Breaker>);

impl Breakers {
    pub(super) fn allows(&self, digest: &Digest, now: Instant) -> bool {
        self.0.get(digest).is_none_or(|breaker| breaker.until <= now)
    }

    /// The breaker of a file that could not be had.
    pub(super) fn of(&self, digest: &Digest) -> Option<&Breaker> {
        self.0.get(digest)
    }

    /// Not again for between half and the whole of `first`, doubled with each trip up to `most`.
    pub(super) fn trip(
        &mut self,
        digest: Digest,
        reason: &str,
        (first, most): (Duration, Duration),
        now: Instant,
        random: u64,
    ) -> Tripped {
        if self.0.len() >= limits::BREAKERS {
            self.0.retain(|_, breaker| breaker.until > now);
            if self.0.len() >= limits::BREAKERS {
                self.0.clear();
            }
        }
        let last = self.0.get(&digest);
        let wait = last.map_or(first, |breaker| (breaker.wait * 2).clamp(first, most));
        let tripped = Tripped {
            tries: last.map_or(0, |breaker| breaker.tries).saturating_add(1),
            new: last.is_none_or(|breaker| breaker.reason != reason),
        };
        let breaker = Breaker {
            until: now + wait / 2 + draw(wait / 2, random),
            wait,
            tries: tripped.tries,
            reason: reason.to_owned(),
        };
        self.0.insert(digest, breaker);
        tripped
    }

    pub(super) fn heal(&mut self, digest: &Digest) {
        self.0.remove(digest);
    }

    /// Forgets the files that nobody wants any more; gives them.
    pub(super) fn forget(&mut self, wanted: impl Fn(&Digest) -> bool) -> Vec<Digest> {
        let gone = self.0.extract_if(|digest, _| !wanted(digest));
        gone.map(|(digest, _)| digest).collect()
    }

    /// The author has signed something new, or a person wants it so: every file is worth one more try. The waits are
    /// remembered.
    pub(super) fn reopen(&mut self, now: Instant) {
        for breaker in self.0.values_mut() {
            breaker.until = now;
        }
    }

    /// When the next file may be asked for again.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        self.0
            .values()
            .map(|breaker| breaker.until)
            .filter(|until| *until > now)
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_comes_within_a_tenth_of_its_time_and_never_sooner_for_failing() {
        let every = Duration::from_secs(10);
        for random in [0, 1, 999, u64::MAX, 1 << 40] {
            let wait = poll(every, random);
            assert!(
                wait >= Duration::from_secs(9) && wait <= Duration::from_secs(11),
                "{wait:?}"
            );
            assert!(back_off(60, random) <= limits::CHECK_BACKOFF_MAX);
            assert_eq!(back_off(1, random), Duration::ZERO);
        }
        assert!(back_off(20, 299_999) > Duration::from_secs(299));
    }

    #[test]
    fn a_wrong_file_waits_longer_each_time_until_something_new_is_signed() {
        let (first, most) = (Duration::from_secs(100), Duration::from_secs(250));
        let (digest, mut now) = (Digest::of(b"x"), Instant::now());
        let mut breakers = Breakers::default();
        assert!(breakers.allows(&digest, now));
        for wait in [100, 200, 250, 250] {
            breakers.trip(digest, "wrong", (first, most), now, 0);
            assert!(!breakers.allows(&digest, now + Duration::from_secs(wait / 2 - 1)));
            assert!(breakers.allows(&digest, now + Duration::from_secs(wait)));
            now += Duration::from_secs(wait);
        }
        breakers.trip(digest, "wrong", (first, most), now, u64::MAX / 2);
        assert!(breakers.next(now).is_some());
        breakers.reopen(now);
        assert!(breakers.allows(&digest, now) && breakers.next(now).is_none());
        breakers.heal(&digest);
        breakers.trip(digest, "wrong", (first, most), now, 0);
        assert!(breakers.allows(&digest, now + first));
    }

    #[test]
    fn failures_are_counted_and_a_reason_is_new_once() {
        let (digest, now) = (Digest::of(b"x"), Instant::now());
        let mut breakers = Breakers::default();
        let mut trip = |reason| breakers.trip(digest, reason, (Duration::ZERO, Duration::ZERO), now, 0);
        for (tries, reason, new) in [(1, "gone", true), (2, "gone", false), (3, "slow", true)] {
            assert_eq!(trip(reason), Tripped { tries, new });
        }
        assert_eq!(breakers.of(&digest).unwrap().reason, "slow");
        breakers.heal(&digest);
        assert!(breakers.of(&digest).is_none());
    }

    #[test]
    fn breakers_are_bounded() {
        let (now, minute) = (Instant::now(), Duration::from_secs(60));
        let mut breakers = Breakers::default();
        for number in 0..3 * limits::BREAKERS {
            let digest = Digest::of(&number.to_le_bytes());
            breakers.trip(digest, "wrong", (minute, minute), now, 0);
        }
        assert!(breakers.0.len() <= limits::BREAKERS);
    }
}
