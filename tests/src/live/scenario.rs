//! One course of the benchmark: a load, and what happens to the broker under it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use handoff::Phase;
use serde::Serialize;

use super::agent::{Agent, Fault, Told, Victim};
use super::ledger::{BUCKET_MS, Bucket, Record, buckets};
use super::load::{Load, Plan};
use super::plain::{Kind, Plain, free_port, local};
use crate::figures::Figure;

/// How long before an update counts as calm, and how long after it it is looked at, milliseconds.
const BEFORE_MS: u64 = 5_000;
const AFTER_MS: u64 = 20_000;
/// Window of a mean, in buckets: the document's second.
pub(super) const WINDOW: usize = buckets(1_000);
/// Its step: the document's tenth.
pub(super) const STEP: usize = buckets(100);

/// What happens under a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Under {
    /// The broker is updated from one version to another.
    Update(u16, u16),
    /// The same broker is ended and started again in another version.
    Restart(u16, u16),
    /// mosquitto is ended and started again.
    RestartMosquitto,
}

/// What came of it.
#[derive(Debug)]
pub struct Course {
    /// What it was, for people.
    pub name: &'static str,
    /// What happened to the broker.
    pub under: Under,
    /// Messages a second.
    pub rate: f64,
    /// When, milliseconds since the first message was due.
    pub at_ms: u64,
    /// Of an update: what the agent told.
    pub told: Option<Told>,
    /// Of a restart: how long nobody listened, milliseconds.
    pub down_ms: Option<f64>,
    /// The ledger.
    pub record: Record,
}

impl Under {
    /// What it is, for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Update(1, 2) => "small update",
            Self::Update(2, 3) => "large update",
            Self::Update(..) => "update",
            Self::Restart(..) => "plain restart of the same broker",
            Self::RestartMosquitto => "plain restart of mosquitto",
        }
    }
}

/// Carries a course out: the load of `plan`, and the event after `at`.
///
/// # Errors
/// The broker does not start, or is not updated.
pub fn course(under: Under, plan: &Plan, at: Duration, folder: &Path) -> Result<Course> {
    let (load, began, told, down) = match under {
        Under::Update(from, to) => {
            let port = free_port()?;
            let mut agent = Agent::start(folder, port)?;
            agent.serve(from)?;
            let load = Load::begin(plan, local(port))?;
            load.wait_until(at);
            let began = load.elapsed();
            let told = agent.update(to, None)?;
            let Some(Told::Committed { .. }) = told else {
                bail!("the update did not come about: {told:?}");
            };
            (load.end()?, began, told, None)
        }
        Under::Restart(..) | Under::RestartMosquitto => {
            let (from, to) = match under {
                Under::Restart(from, to) => (Kind::Ours(from), Kind::Ours(to)),
                _ => (Kind::Mosquitto, Kind::Mosquitto),
            };
            let mut broker = Plain::start(from, folder)?;
            let load = Load::begin(plan, broker.address())?;
            load.wait_until(at);
            let began = load.elapsed();
            let down = broker.restart(to)?;
            (load.end()?, began, None, Some(down.as_secs_f64() * 1e3))
        }
    };
    Ok(Course {
        name: under.name(),
        under,
        rate: plan.rate,
        at_ms: u64::try_from(began.as_millis())?,
        told,
        down_ms: down,
        record: load,
    })
}

impl Course {
    /// From when the old program stood still until the new one served, by their own clocks; of a restart, how long
    /// nobody listened. Milliseconds.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // microseconds
    pub fn pause_ms(&self) -> f64 {
        match self.told {
            Some(Told::Committed { pause_us, .. }) => pause_us as f64 / 1e3,
            _ => self.down_ms.unwrap_or(f64::NAN),
        }
    }

    /// The longest time around the event in which no subscriber was given anything, milliseconds.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // nanoseconds of a run
    pub fn silence_ms(&self) -> f64 {
        let (from, to) = (self.at_ms * 1_000_000, (self.at_ms + AFTER_MS) * 1_000_000);
        let around = self
            .record
            .silences
            .iter()
            .filter(|(begin, long)| begin + long >= from && *begin < to);
        around.map(|(_, long)| *long as f64 / 1e6).fold(0.0, f64::max)
    }

    /// The longest latency of a single message after the event, milliseconds.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // microseconds
    pub fn peak_ms(&self) -> f64 {
        self.all(self.at_ms, self.at_ms + AFTER_MS).max_us as f64 / 1e3
    }

    /// The same in the calm before it.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // microseconds
    pub fn calm_peak_ms(&self) -> f64 {
        self.all(self.at_ms.saturating_sub(BEFORE_MS), self.at_ms).max_us as f64 / 1e3
    }

    /// From the event until mean latencies are what they were before it, and stay so for a second, milliseconds.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // milliseconds of a run
    pub fn catch_up_ms(&self) -> f64 {
        let tenths = |from: u64, to: u64| -> Vec<(u64, f64)> {
            (from / BUCKET_MS..to / BUCKET_MS)
                .step_by(STEP)
                .map(|place| {
                    (
                        place * BUCKET_MS,
                        self.all(place * BUCKET_MS, place * BUCKET_MS + 100),
                    )
                })
                .map(|(begin, bucket)| (begin, bucket.mean_ms().unwrap_or(f64::INFINITY)))
                .collect()
        };
        let calm = tenths(
            self.at_ms.saturating_sub(BEFORE_MS),
            self.at_ms.saturating_sub(100),
        );
        let usual = calm.iter().map(|(_, mean)| *mean).fold(0.0, f64::max);
        let after = tenths(self.at_ms, self.at_ms + AFTER_MS);
        // The last tenth within a second of others like it that was worse than any before the event.
        let mut end = self.at_ms;
        for (begin, mean) in after {
            if begin > end + 1_000 {
                break;
            }
            if mean > usual {
                end = begin + 100;
            }
        }
        (end - self.at_ms) as f64
    }

    /// The means of the document: a window of a second, every tenth of a second: its end in seconds, deliveries a
    /// second, mean latency in milliseconds.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // counts
    pub fn windows(&self) -> Vec<(f64, f64, f64)> {
        let buckets = &self.record.buckets;
        (WINDOW..=buckets.len())
            .step_by(STEP)
            .map(|end| {
                let all = buckets[end - WINDOW..end]
                    .iter()
                    .fold(Bucket::default(), |all, one| all.and(*one));
                let seconds = (end as u64 * BUCKET_MS) as f64 / 1e3;
                (seconds, all.count as f64, all.mean_ms().unwrap_or(0.0))
            })
            .collect()
    }

    /// All deliveries between two times, milliseconds.
    fn all(&self, from: u64, to: u64) -> Bucket {
        let place = |ms: u64| {
            usize::try_from(ms / BUCKET_MS)
                .unwrap()
                .min(self.record.buckets.len())
        };
        let within = &self.record.buckets[place(from)..place(to).max(place(from))];
        within.iter().fold(Bucket::default(), |all, one| all.and(*one))
    }
}

/// What a course must show, as figures.
#[must_use]
#[allow(clippy::cast_precision_loss)] // counts
pub fn rows(course: &Course) -> Vec<Figure> {
    let goal = |goal: f64| matches!(course.under, Under::Update(..)).then_some(goal);
    let name = course.name;
    let total = course.record.total;
    let latencies = &course.record.latencies;
    let figure = |what: &str, value: f64, unit: &'static str, goal: Option<f64>| {
        Figure::new(format!("{name}: {what}"), value, unit, goal)
    };
    vec![
        figure("pause", course.pause_ms(), "ms", goal(10.0)),
        figure(
            "longest silence at the subscribers",
            course.silence_ms(),
            "ms",
            None,
        ),
        figure("longest latency after it", course.peak_ms(), "ms", goal(50.0)),
        figure(
            "longest latency in the 5 s before it",
            course.calm_peak_ms(),
            "ms",
            None,
        ),
        figure("catch-up", course.catch_up_ms(), "ms", goal(1_000.0)),
        figure("latency, median of all", latencies.at_ms(0.5), "ms", None),
        figure("latency, 99 in 100", latencies.at_ms(0.99), "ms", None),
        figure("connections dropped", total.dropped as f64, "", goal(0.0)),
        figure("messages lost", total.lost as f64, "", Some(0.0)),
        figure("messages doubled", total.duplicated as f64, "", Some(0.0)),
        figure("messages out of order", total.disordered as f64, "", Some(0.0)),
        figure("messages delivered", total.delivered as f64, "", None),
    ]
}

/// A kill -9 and what came of it.
#[derive(Debug, Clone, Serialize)]
pub struct Strike {
    /// Who was killed.
    pub victim: Victim,
    /// After which phase.
    pub phase: String,
    /// Connections that broke.
    pub dropped: u64,
    /// The version that served afterwards.
    pub serves: u16,
    /// Connections must not have broken: whoever was killed did not serve.
    pub must_hold: bool,
}

/// One load, and under it first `updates` updates in a row, through all versions and back, then a kill -9 of agent, old
/// and new program after each phase of further ones if `kills`. The pauses in milliseconds, the strikes, the ledger.
///
/// # Errors
/// An update does not come about, or nobody can be brought to serve again.
pub fn strikes(
    plan: &Plan,
    updates: usize,
    kills: impl IntoIterator<Item = Fault>,
    folder: &Path,
    mut told: impl FnMut(&str),
) -> Result<(Vec<f64>, Vec<Strike>, Record)> {
    let port = free_port()?;
    let mut agent = Agent::start(folder, port)?;
    agent.serve(1)?;
    let mut version = 1;
    let load = Load::begin(plan, local(port))?;
    let mut pauses = Vec::new();
    for number in 0..updates {
        let next = [2, 3, 2, 1][number % 4];
        more(&load)?;
        match agent.update(next, None)? {
            #[allow(clippy::cast_precision_loss)] // microseconds
            Some(Told::Committed { pause_us, .. }) => pauses.push(pause_us as f64 / 1e3),
            other => bail!("update {number} to version {next} did not come about: {other:?}"),
        }
        version = next;
        ensure!(
            load.dropped() == 0,
            "update {number} broke {} connections",
            load.dropped()
        );
        told(&format!("update {} of {updates}", number + 1));
    }
    let mut struck = Vec::new();
    for fault in kills {
        more(&load)?;
        let next = version % 3 + 1;
        let one = strike(&mut agent, &load, fault, next)?;
        version = one.serves;
        told(&format!(
            "{:?} killed after {}: version {version} serves",
            one.victim, one.phase
        ));
        struck.push(one);
    }
    more(&load)?;
    load.finish();
    Ok((pauses, struck, load.end()?))
}

fn strike(agent: &mut Agent, load: &Load, fault: Fault, to: u16) -> Result<Strike> {
    let before = load.dropped();
    let phase = Phase::ALL[fault.phase];
    if agent.update(to, Some(fault))?.is_none() {
        agent.again()?;
    }
    let serves = match agent.adopt()? {
        Told::Serves { version, .. } => version,
        // Whoever served has died: it is started again, as an agent does, and finds everything in its journal.
        _ => {
            agent.serve(to)?;
            to
        }
    };
    more(load)?;
    let index = |phase: Phase| Phase::ALL.iter().position(|one| *one == phase);
    let must_hold = match fault.victim {
        Victim::Agent => true,
        // It has given everything.
        Victim::Old => Some(fault.phase) >= index(Phase::Ready),
        // It does not serve yet.
        Victim::New => Some(fault.phase) < index(Phase::Serving),
    };
    Ok(Strike {
        victim: fault.victim,
        phase: format!("{phase:?}"),
        dropped: load.dropped() - before,
        serves,
        must_hold,
    })
}

/// Waits until some messages have gone through, so that whatever happens next happens under load.
fn more(load: &Load) -> Result<()> {
    let (goal, until) = (load.delivered() + 200, load.elapsed() + Duration::from_secs(60));
    while load.delivered() < goal {
        ensure!(load.elapsed() < until, "nothing is delivered any more");
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}
