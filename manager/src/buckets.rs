//! Token buckets: how much each of many peers may do in a while.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// So much at once, and one more after each `every`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// What a peer may do at once that has done nothing for long.
    pub burst: u32,
    /// The time that gives it one more.
    pub every: Duration,
}

/// One bucket for each peer, for `most` peers; beyond that the one that was idle for longest is forgotten.
#[derive(Debug)]
pub(crate) struct Buckets<K> {
    rate: Rate,
    most: usize,
    /// What is left, and when it was so.
    held: HashMap<K, (f64, Instant)>,
}

impl<K: Hash + Eq + Clone> Buckets<K> {
    pub(crate) fn new(rate: Rate, most: usize) -> Self {
        Self {
            rate,
            most,
            held: HashMap::new(),
        }
    }

    /// Takes `cost` from a peer's bucket; false, and nothing taken, if there is not so much in it.
    pub(crate) fn take(&mut self, key: K, cost: u32, now: Instant) -> bool {
        if self.held.len() >= self.most && !self.held.contains_key(&key) {
            self.make_room(now);
        }
        let (every, burst) = (self.rate.every.as_secs_f64(), f64::from(self.rate.burst));
        let (left, at) = self.held.entry(key).or_insert((burst, now));
        let gained = now.saturating_duration_since(*at).as_secs_f64() / every;
        (*left, *at) = ((*left + gained).min(burst), now);
        if *left < f64::from(cost) {
            return false;
        }
        *left -= f64::from(cost);
        true
    }

    /// Puts back what was taken for something that then cost nothing.
    pub(crate) fn give(&mut self, key: &K, cost: u32) {
        if let Some((left, _)) = self.held.get_mut(key) {
            *left = (*left + f64::from(cost)).min(f64::from(self.rate.burst));
        }
    }

    /// Forgets those whose bucket is full again; if there are none, the one that was idle for longest.
    fn make_room(&mut self, now: Instant) {
        let full = self.rate.every * self.rate.burst;
        self.held
            .retain(|_, (_, at)| now.saturating_duration_since(*at) < full);
        if self.held.len() >= self.most
            && let Some(oldest) = self.held.iter().min_by_key(|(_, (_, at))| *at)
        {
            let oldest = oldest.0.clone();
            self.held.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        burst: 3,
        every: Duration::from_secs(10),
    };

    #[test]
    fn a_peer_may_do_so_much_at_once_and_a_little_later_on() {
        let (mut buckets, now) = (Buckets::new(RATE, 9), Instant::now());
        let after = |seconds| now + Duration::from_secs(seconds);
        assert!(!buckets.take("big", 4, now), "more than there ever is");
        assert!(buckets.take("a", 2, now) && buckets.take("a", 1, now));
        assert!(!buckets.take("a", 1, after(9)));
        assert!(buckets.take("b", 3, after(9)), "another one has its own");
        assert!(buckets.take("a", 1, after(10)) && !buckets.take("a", 1, after(10)));
        assert!(buckets.take("a", 3, after(1_000)) && !buckets.take("a", 1, after(1_000)));
    }

    #[test]
    fn there_are_so_many_buckets_and_a_crowd_takes_no_newcomers_share() {
        let (mut buckets, now) = (Buckets::new(RATE, 5), Instant::now());
        for number in 0..50_u64 {
            assert!(buckets.take(number, 3, now + Duration::from_millis(number)));
            assert!(buckets.held.len() <= 5);
        }
        assert!(
            !buckets.take(49, 1, now + Duration::from_millis(50)),
            "the newest are remembered"
        );
    }
}
