//! Waiting longer after each failure, never all at the same time.

use std::time::Duration;

use crate::random::Random;

/// Full-jitter exponential back-off: after the n-th failure a random time below `base · 2ⁿ`, at most `cap`.
#[derive(Debug, Clone)]
pub struct BackOff {
    base: Duration,
    cap: Duration,
    failures: u32,
}

impl BackOff {
    /// No failure yet.
    #[must_use]
    pub fn new(base: Duration, cap: Duration) -> Self {
        Self {
            base,
            cap,
            failures: 0,
        }
    }

    /// Failures in a row.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// It worked: the next failure is the first one.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Another failure: how long to wait. Never shorter than half the base, so that nothing runs faster
    /// because it failed.
    pub fn next(&mut self, random: &dyn Random) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let bound = self
            .base
            .saturating_mul(1_u32.checked_shl(self.failures.min(20)).unwrap_or(u32::MAX));
        jitter(bound.min(self.cap), random).max(self.base / 2)
    }

    /// A larger cap from now on, such as when a loop breaker opens.
    pub fn set_cap(&mut self, cap: Duration) {
        self.cap = cap;
    }
}

/// A random time below `bound`.
#[must_use]
pub fn jitter(bound: Duration, random: &dyn Random) -> Duration {
    bound.mul_f64(random.fraction())
}

/// `period`, ten per cent more or less.
#[must_use]
pub fn about(period: Duration, random: &dyn Random) -> Duration {
    period.mul_f64(0.9 + random.fraction() * 0.2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Fixed(f64);
    impl Random for Fixed {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(0);
        }
        fn fraction(&self) -> f64 {
            self.0
        }
    }

    #[test]
    fn bound_doubles_up_to_the_cap_and_starts_over_after_success() {
        let mut wait = BackOff::new(Duration::from_secs(1), Duration::from_secs(60));
        let random = Fixed(1.0);
        let seconds: Vec<u64> = (0..8).map(|_| wait.next(&random).as_secs()).collect();
        assert_eq!(seconds, [2, 4, 8, 16, 32, 60, 60, 60]);
        wait.reset();
        assert_eq!(wait.next(&random).as_secs(), 2);
    }

    #[test]
    fn luck_never_makes_it_faster_than_half_the_base() {
        let mut wait = BackOff::new(Duration::from_secs(1), Duration::from_secs(60));
        assert_eq!(wait.next(&Fixed(0.0)), Duration::from_millis(500));
    }
}
