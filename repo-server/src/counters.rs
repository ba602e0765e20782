//! What the program counts about itself.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Counters since the start; shown at `/metrics`.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    pub(crate) target_bytes: AtomicU64,
    pub(crate) upload_bytes: AtomicU64,
    pub(crate) publishes: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) renewals: AtomicU64,
    pub(crate) renewal_failures: AtomicU64,
    pub(crate) reports: AtomicU64,
    pub(crate) bad_reports: AtomicU64,
    pub(crate) slow_cut: AtomicU64,
}

impl Counters {
    /// Counts an answered request. `route` is a path of the route table, never one from outside.
    pub(crate) fn request(&self, route: &'static str, status: u16) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((route, status)).or_default() += 1;
    }

    /// Route, status, number.
    pub(crate) fn requests(&self) -> Vec<(&'static str, u16, u64)> {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests
            .iter()
            .map(|((route, status), number)| (*route, *status, *number))
            .collect()
    }
}

/// Adds to a counter.
pub(crate) fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

/// Reads a counter.
pub(crate) fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
