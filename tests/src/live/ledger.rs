//! What came of every message: how often each subscriber was given it, and how long it took.

use serde::Serialize;

/// Width of what is kept over time, milliseconds.
pub const BUCKET_MS: u64 = 10;
/// How many buckets a stretch of so many milliseconds takes.
#[must_use]
#[allow(clippy::cast_possible_truncation)] // a few hundred
pub(super) const fn buckets(ms: u64) -> usize {
    (ms / BUCKET_MS) as usize
}
/// Longest time kept over, in buckets: two hours.
const BUCKETS: usize = 720_000;
/// Silences as long as this are kept one by one, nanoseconds.
const SILENCE_NS: u64 = 2_000_000;
/// Most of them kept.
const SILENCES: usize = 100_000;
/// Steps of a histogram for each power of two.
const STEPS: u64 = 32;

/// Deliveries of one stretch of time.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Bucket {
    /// How many.
    pub count: u64,
    /// Their latencies together, microseconds.
    pub sum_us: u64,
    /// The longest of them, microseconds.
    pub max_us: u64,
}

impl Bucket {
    /// With another one.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            count: self.count + other.count,
            sum_us: self.sum_us + other.sum_us,
            max_us: self.max_us.max(other.max_us),
        }
    }

    /// The mean latency, milliseconds; none of none.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // microseconds of a run
    pub fn mean_ms(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum_us as f64 / self.count as f64 / 1e3)
    }
}

/// Latencies by size, within three in a hundred.
#[derive(Debug, Clone, Default)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max_us: u64,
}

impl Histogram {
    fn add(&mut self, us: u64) {
        let place = place(us);
        if self.counts.len() <= place {
            self.counts.resize(place + 1, 0);
        }
        self.counts[place] += 1;
        self.total += 1;
        self.max_us = self.max_us.max(us);
    }

    /// The latency that `share` of all do not exceed, milliseconds.
    #[must_use]
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )] // counts
    pub fn at_ms(&self, share: f64) -> f64 {
        let wanted = (self.total as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (place, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted && seen > 0 {
                return (upper(place as u64) as f64 / 1e3).min(self.max_ms());
            }
        }
        0.0
    }

    /// The longest, milliseconds.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // microseconds
    pub fn max_ms(&self) -> f64 {
        self.max_us as f64 / 1e3
    }
}

/// The place of a latency: exact below [`STEPS`], then [`STEPS`] for each power of two.
fn place(us: u64) -> usize {
    let power = us.max(1).ilog2().saturating_sub(STEPS.ilog2() - 1);
    usize::try_from(u64::from(power) * STEPS / 2 + (us >> power)).unwrap()
}

/// The longest latency at a place.
fn upper(place: u64) -> u64 {
    if place < STEPS {
        return place;
    }
    let power = place / (STEPS / 2) - 1;
    ((place - power * STEPS / 2 + 1) << power) - 1
}

/// The ledger of a run under way.
#[derive(Debug)]
pub(super) struct Ledger {
    /// How often each subscriber was given each message.
    given: Vec<Vec<u8>>,
    /// The last message of each publisher that each subscriber was given.
    last: Vec<Vec<u32>>,
    messages: u32,
    record: Record,
    last_ns: u64,
}

/// What a run left behind.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Deliveries over time, since the first message was due, [`BUCKET_MS`] each.
    pub buckets: Vec<Bucket>,
    /// All latencies.
    pub latencies: Histogram,
    /// Times without any delivery: when they began and how long they were, nanoseconds.
    pub silences: Vec<(u64, u64)>,
    /// Counts.
    pub total: Total,
    /// Processor seconds of the load itself.
    pub load_cpu_s: f64,
    /// How long it took, seconds.
    pub seconds: f64,
}

/// What was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Total {
    /// Messages that the broker has acknowledged in full.
    pub published: u64,
    /// Messages given to subscribers for the first time.
    pub delivered: u64,
    /// Messages that were acknowledged and never came, for each subscriber.
    pub lost: u64,
    /// Messages that came again.
    pub duplicated: u64,
    /// Messages that came before an earlier one of the same publisher.
    pub disordered: u64,
    /// Connections that broke.
    pub dropped: u64,
}

impl Total {
    /// Whether all is as it must be: nothing lost, doubled or out of order.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.lost == 0 && self.duplicated == 0 && self.disordered == 0
    }
}

impl Ledger {
    pub(super) fn new(subscribers: usize, publishers: usize, messages: u32) -> Self {
        Self {
            given: vec![vec![0; publishers * messages as usize]; subscribers],
            last: vec![vec![0; publishers]; subscribers],
            messages,
            record: Record::default(),
            last_ns: 0,
        }
    }

    /// A subscriber was given a message at `now`, which was due at `due`: nanoseconds since the beginning.
    pub(super) fn give(&mut self, subscriber: usize, publisher: usize, number: u32, due: u64, now: u64) {
        let given = &mut self.given[subscriber][publisher * self.messages as usize + number as usize];
        *given = given.saturating_add(1);
        let total = &mut self.record.total;
        if *given > 1 {
            total.duplicated += 1;
            return;
        }
        total.delivered += 1;
        let last = &mut self.last[subscriber][publisher];
        if number + 1 < *last {
            total.disordered += 1;
        }
        *last = (*last).max(number + 1);
        let us = now.saturating_sub(due) / 1_000;
        self.record.latencies.add(us);
        self.count(us, now);
        let silence = now.saturating_sub(self.last_ns);
        if silence >= SILENCE_NS && self.record.silences.len() < SILENCES {
            self.record.silences.push((self.last_ns, silence));
        }
        self.last_ns = now;
    }

    fn count(&mut self, us: u64, now: u64) {
        let place = usize::try_from(now / 1_000_000 / BUCKET_MS).unwrap().min(BUCKETS);
        let buckets = &mut self.record.buckets;
        if buckets.len() <= place {
            buckets.resize(place + 1, Bucket::default());
        }
        let one = Bucket {
            count: 1,
            sum_us: us,
            max_us: us,
        };
        buckets[place] = buckets[place].and(one);
    }

    pub(super) fn drop_connection(&mut self) {
        self.record.total.dropped += 1;
    }

    pub(super) fn delivered(&self) -> u64 {
        self.record.total.delivered
    }

    /// The record: each publisher has had so many messages acknowledged.
    pub(super) fn close(mut self, acknowledged: &[u32]) -> Record {
        let total = &mut self.record.total;
        total.published = acknowledged.iter().map(|count| u64::from(*count)).sum();
        for given in &self.given {
            for (publisher, count) in acknowledged.iter().enumerate() {
                let begin = publisher * self.messages as usize;
                let own = &given[begin..begin + *count as usize];
                total.lost += own.iter().filter(|given| **given == 0).count() as u64;
            }
        }
        self.record
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_latencies_follow_each_other() {
        let mut last = 0;
        for us in 0..100_000 {
            let place = place(us);
            assert!(place == last || place == last + 1, "{us}");
            assert!(
                upper(place as u64) >= us && upper(place as u64) <= us + us / 15,
                "{us}"
            );
            last = place;
        }
    }

    #[test]
    fn what_is_lost_doubled_or_out_of_order_is_counted() {
        let mut ledger = Ledger::new(2, 1, 10);
        for number in [0, 1, 3, 2, 1] {
            ledger.give(0, 0, number, 0, 5_000_000 * u64::from(number));
        }
        let record = ledger.close(&[4]);
        let expected = Total {
            published: 4,
            delivered: 4,
            lost: 4, // all of them for the second subscriber
            duplicated: 1,
            disordered: 1,
            dropped: 0,
        };
        assert_eq!(record.total, expected);
        assert_eq!(record.silences.len(), 2);
    }
}
