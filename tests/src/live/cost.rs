//! What it costs a broker that it can be updated, while nobody updates it.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::agent::Agent;
use super::load::{Load, Plan};
use super::plain::{Kind, Plain, free_port, local};
use crate::figures::median;

/// How long each broker is watched.
const SECONDS: f64 = 8.0;

/// Processor time of the broker for each message delivered, with an agent and without one, microseconds, in pairs.
///
/// # Errors
/// A broker does not come up, or loses something.
pub fn cost(plan: &Plan, rounds: usize, mut told: impl FnMut(f64, f64)) -> Result<Vec<(f64, f64)>> {
    let plan = plan.clone().for_seconds(SECONDS);
    let mut pairs = Vec::new();
    for round in 0..rounds {
        // Whoever comes second finds a warmer machine: each is the first as often.
        let (with, without) = if round % 2 == 0 {
            let with = under_agent(&plan)?;
            (with, alone(&plan)?)
        } else {
            let without = alone(&plan)?;
            (under_agent(&plan)?, without)
        };
        told(with, without);
        pairs.push((with, without));
    }
    Ok(pairs)
}

/// By how much it is more, in a hundred: the middle of all pairs.
#[must_use]
pub fn more(pairs: &[(f64, f64)]) -> f64 {
    median(
        pairs
            .iter()
            .map(|(with, without)| (with / without - 1.0) * 100.0)
            .collect(),
    )
}

fn under_agent(plan: &Plan) -> Result<f64> {
    let folder = tempfile::tempdir()?;
    let port = free_port()?;
    let mut agent = Agent::start(folder.path(), port)?;
    let pid = agent.serve(1)?;
    watch(plan, pid.cast_unsigned(), Load::begin(plan, local(port))?)
}

fn alone(plan: &Plan) -> Result<f64> {
    let folder = tempfile::tempdir()?;
    let broker = Plain::start(Kind::Ours(1), folder.path())?;
    watch(plan, broker.pid(), Load::begin(plan, broker.address())?)
}

#[allow(clippy::cast_precision_loss)] // counts
fn watch(plan: &Plan, pid: u32, load: Load) -> Result<f64> {
    // The first second is warming up.
    load.wait_until(Duration::from_secs(1));
    let (delivered, used) = (load.delivered(), processor_ns(pid)?);
    load.wait_until(Duration::from_secs_f64(SECONDS - 0.5));
    let (delivered, used) = (load.delivered() - delivered, processor_ns(pid)? - used);
    let record = load.end()?;
    ensure!(
        record.total.is_exact() && record.total.dropped == 0,
        "{:?} at {}",
        record.total,
        plan.rate
    );
    Ok(used as f64 / 1e3 / delivered as f64)
}

/// Processor time of all threads of a process, nanoseconds. (proc(5), schedstat)
fn processor_ns(pid: u32) -> Result<u64> {
    let mut all = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        let ran: u64 = text
            .split_whitespace()
            .next()
            .context("an empty schedstat")?
            .parse()?;
        all += ran;
    }
    Ok(all)
}
