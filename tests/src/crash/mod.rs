//! Installs that are interrupted (`scripts/crash-test`): kills, power cuts, failing disks and damaged files, against the
//! real programs of a real site, through updates that go well and updates that are rolled back.
//!
//! After each interruption the device's folder and its processes are looked at from outside, by code that shares nothing
//! with the agent's; then the agent is started again, unaided, and has to come to rest with exactly one version: the new
//! one where the release is good, the old one where it is not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde::Serialize;

mod cuts;
mod damage;
mod full;
mod kills;
mod look;
mod rig;
mod syscalls;

pub use cuts::unmount_on_panic;

/// Faults that are told in full of one row.
const TOLD: usize = 20;

/// How much is tried.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Kills of the running agent at random moments.
    pub kills: usize,
    /// Power cuts on each file system.
    pub cuts: usize,
    /// System calls of each row at which the agent is killed or that fail; none: all of them.
    pub points: Option<usize>,
    /// Damages to files; none: every file in every way.
    pub damages: Option<usize>,
    /// The same seed makes the same choices, but for times.
    pub seed: u64,
}

/// What must never be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// A record or a release that is neither the old nor the new one, or two versions at once.
    Torn,
    /// No version runs, or another than may.
    NoVersion,
    /// What was remembered against old versions is lower than it was.
    LostFloor,
    /// The agent does not come to rest by itself where it should.
    NotRecovered,
    /// The agent panicked, or ended without a word.
    Panicked,
}

/// One interruption.
#[derive(Debug, Default)]
pub struct Trial {
    /// Where it hit: two trials at one point are not distinct.
    pub point: String,
    /// What was wrong.
    pub faults: Vec<(Fault, String)>,
    /// From the start of the agent until the device was at rest.
    pub recovery: Option<Duration>,
}

impl Trial {
    fn at(point: impl Into<String>) -> Self {
        Self {
            point: point.into(),
            ..Self::default()
        }
    }

    fn fault(&mut self, fault: Fault, what: impl Into<String>) {
        self.faults.push((fault, what.into()));
    }
}

/// One row of the table.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Its name.
    pub id: &'static str,
    /// What is done to the device.
    pub what: String,
    /// Why it was not tried, if it was not.
    pub skipped: Option<String>,
    /// Interruptions.
    pub tried: usize,
    /// Different points at which they hit.
    pub distinct: usize,
    /// How often each fault was found.
    pub faults: BTreeMap<Fault, usize>,
    /// Interruptions after which anything was wrong.
    pub bad: usize,
    /// What was wrong, the first ones in full.
    pub told: Vec<String>,
    /// Half of the recoveries took less, milliseconds.
    pub median_recovery_ms: Option<u64>,
    /// The longest one, milliseconds.
    pub longest_recovery_ms: Option<u64>,
    /// Seconds that the row took.
    pub seconds: f64,
    #[serde(skip)]
    points: BTreeSet<String>,
    #[serde(skip)]
    recoveries: Vec<Duration>,
    #[serde(skip)]
    begun: Instant,
}

impl Row {
    fn new(id: &'static str, what: impl Into<String>) -> Self {
        Self {
            id,
            what: what.into(),
            skipped: None,
            tried: 0,
            distinct: 0,
            faults: BTreeMap::new(),
            bad: 0,
            told: Vec::new(),
            median_recovery_ms: None,
            longest_recovery_ms: None,
            seconds: 0.0,
            points: BTreeSet::new(),
            recoveries: Vec::new(),
            begun: Instant::now(),
        }
    }

    fn skipped(id: &'static str, what: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            skipped: Some(why.into()),
            ..Self::new(id, what)
        }
    }

    fn note(&mut self, trial: Trial) {
        self.tried += 1;
        self.recoveries.extend(trial.recovery);
        if !trial.faults.is_empty() {
            self.bad += 1;
        }
        for (fault, what) in trial.faults {
            *self.faults.entry(fault).or_default() += 1;
            let told = format!("{fault:?} at {}: {what}", trial.point);
            eprintln!("  {}: {told}", self.id);
            if self.told.len() < TOLD {
                self.told.push(told);
            }
        }
        self.points.insert(trial.point);
    }

    fn done(mut self) -> Self {
        self.distinct = self.points.len();
        self.seconds = self.begun.elapsed().as_secs_f64();
        self.recoveries.sort_unstable();
        let milliseconds = |time: &Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.median_recovery_ms = self.recoveries.get(self.recoveries.len() / 2).map(milliseconds);
        self.longest_recovery_ms = self.recoveries.last().map(milliseconds);
        self
    }

    /// How often this fault was found.
    #[must_use]
    pub fn count(&self, fault: Fault) -> usize {
        self.faults.get(&fault).copied().unwrap_or(0)
    }
}

/// Tries everything; each row is handed on when it is done.
pub async fn run(plan: Plan, mut each: impl FnMut(&Row)) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut take = |row: Row| {
        let row = row.done();
        each(&row);
        rows.push(row);
    };
    syscalls::run(plan, &mut take).await;
    kills::run(plan, &mut take).await;
    cuts::run(plan, &mut take).await;
    full::run(plan, &mut take).await;
    damage::run(plan, &mut take).await;
    rows
}

/// Choices of `count` among `all`, spread over them and the same for the same seed; all where there is no bound.
fn choose<T: Clone>(all: &[T], count: Option<usize>, draws: &mut crate::draws::Draws) -> Vec<T> {
    let Some(count) = count.filter(|count| *count < all.len()) else {
        return all.to_vec();
    };
    let mut places: Vec<usize> = (0..all.len()).collect();
    for place in 0..count {
        let other = place + draws.below(places.len() - place);
        places.swap(place, other);
    }
    places.truncate(count);
    places.sort_unstable();
    places.into_iter().map(|place| all[place].clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draws::Draws;

    #[test]
    fn an_interruption_is_bad_once_whatever_was_wrong() {
        let mut row = Row::new("kills", "killed");
        row.note(Trial::at("trying"));
        let mut trial = Trial::at("trying");
        trial.fault(Fault::Torn, "two versions");
        trial.fault(Fault::LostFloor, "3 after 4");
        trial.recovery = Some(Duration::from_millis(7));
        row.note(trial);
        let row = row.done();
        assert_eq!((row.tried, row.distinct, row.bad), (2, 1, 1));
        assert_eq!((row.count(Fault::Torn), row.count(Fault::NoVersion)), (1, 0));
        assert_eq!(row.median_recovery_ms, Some(7));
    }

    #[test]
    fn choices_are_distinct_and_within_their_bound() {
        let all: Vec<u32> = (0..50).collect();
        let some = choose(&all, Some(9), &mut Draws(3));
        let distinct: BTreeSet<u32> = some.iter().copied().collect();
        assert_eq!((some.len(), distinct.len()), (9, 9));
        assert_eq!(some, choose(&all, Some(9), &mut Draws(3)));
        assert_eq!(choose(&all, None, &mut Draws(3)), all);
        assert_eq!(choose(&all, Some(99), &mut Draws(3)), all);
    }
}
