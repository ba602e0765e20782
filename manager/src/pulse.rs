//! How much is sent in each second, for whoever watches.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::gateway::Gateway;
use crate::limits::PULSE_SECONDS;

/// Bytes sent in each of the last [`PULSE_SECONDS`] seconds.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    seconds: VecDeque<u64>,
    /// All that was sent when the last second ended.
    total: u64,
}

impl Pulse {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A second has ended with so much sent in all.
    fn beat(&self, total: u64) {
        let mut inner = self.lock();
        let sent = total.saturating_sub(inner.total);
        inner.total = total;
        if inner.seconds.len() >= PULSE_SECONDS {
            inner.seconds.pop_front();
        }
        inner.seconds.push_back(sent);
    }

    /// Oldest first; empty where all are zero, so that an idle gateway looks the same every second.
    pub(crate) fn seconds(&self) -> Vec<u64> {
        let inner = self.lock();
        if inner.seconds.iter().all(|sent| *sent == 0) {
            return Vec::new();
        }
        inner.seconds.iter().copied().collect()
    }
}

/// Counts for ever.
pub(crate) async fn run(gateway: Arc<Gateway>) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tick.tick().await;
        gateway.pulse.beat(gateway.sent_bytes.load(Ordering::Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_seconds_are_kept_and_idle_ones_look_alike() {
        let pulse = Pulse::default();
        pulse.beat(0);
        assert!(pulse.seconds().is_empty());
        pulse.beat(100);
        pulse.beat(350);
        assert_eq!(pulse.seconds(), [0, 100, 250]);
        for _ in 0..PULSE_SECONDS {
            pulse.beat(350);
        }
        assert!(pulse.seconds().is_empty());
    }
}
