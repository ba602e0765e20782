//! The rate at which a broker can no longer keep up: latencies grow as long as the load lasts.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Serialize;

use super::ledger::{Bucket, Record, buckets};
use super::load::{Load, Plan};
use super::plain::{Kind, Plain};

/// How long each rate is tried.
const SECONDS: f64 = 6.0;
/// Of the last of which the latencies count, in buckets.
const LAST: usize = buckets(3_000);
/// The mean latency above which a broker does not keep up, milliseconds.
const LATE_MS: f64 = 100.0;
/// Where the search begins, messages a second.
const FIRST: f64 = 500.0;
/// Rates tried at most.
const TRIES: usize = 16;
/// How exactly the knee is wanted.
const EXACT: f64 = 1.05;

/// A rate and what came of it.
#[derive(Debug, Clone, Serialize)]
pub struct Tried {
    /// Messages a second.
    pub rate: f64,
    /// Mean latency at the end, milliseconds.
    pub mean_ms: f64,
    /// Whether the broker kept up.
    pub kept_up: bool,
}

/// The highest rate at which the broker keeps up, within five in a hundred, and all that were tried.
///
/// # Errors
/// It does not even keep up with the first.
pub fn knee(kind: Kind, document: &Plan, mut told: impl FnMut(&Tried)) -> Result<(f64, Vec<Tried>)> {
    let mut tried: Vec<Tried> = Vec::new();
    let (mut good, mut bad) = (0.0, f64::INFINITY);
    let mut rate = FIRST;
    while tried.len() < TRIES && bad / good > EXACT {
        let plan = Plan {
            rate,
            patience: Duration::from_secs(1),
            ..document.clone()
        }
        .for_seconds(SECONDS);
        let folder = tempfile::tempdir()?;
        let broker = Plain::start(kind, folder.path())?;
        let record = one(&plan, broker.address())?;
        let mean_ms = late(&record);
        let one = Tried {
            rate,
            mean_ms,
            kept_up: mean_ms < LATE_MS && record.total.lost == 0,
        };
        told(&one);
        if one.kept_up {
            good = rate;
        } else {
            bad = rate;
        }
        tried.push(one);
        rate = if bad.is_finite() {
            (good + bad) / 2.0
        } else {
            rate * 2.0
        };
        ensure!(
            rate > FIRST / 8.0,
            "the broker does not keep up with {FIRST} messages a second"
        );
    }
    Ok((good, tried))
}

fn one(plan: &Plan, address: SocketAddr) -> Result<Record> {
    Load::begin(plan, address)?.end()
}

/// The mean latency at the end of the load.
fn late(record: &Record) -> f64 {
    let begin = record.buckets.len().saturating_sub(LAST);
    let last = record.buckets[begin..]
        .iter()
        .fold(Bucket::default(), |all, one| all.and(*one));
    last.mean_ms().unwrap_or(f64::INFINITY)
}
