//! `scripts/eval-live`: document 000's benchmark with the example broker, updated while it runs, as a report.
// An evaluation ends loudly when its set-up is broken.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use e2e::figures::{Figure, machine, median, tell};
use e2e::live::{
    Fault, Kind, Plan, Report, Tried, Under, Victim, cost, cost_more, course, has_mosquitto, knee, rows,
    serve_agent, strikes, write_report,
};

/// A broker under load, updated while it runs: pause, latencies, catch-up, a ledger of every message; beside plain
/// restarts of the same broker and of mosquitto.
#[derive(Parser)]
#[command(name = "scripts/eval-live")]
struct Options {
    /// Messages of each of the 100 publishers.
    #[arg(long, default_value_t = 10_000)]
    messages: u32,
    /// Messages a second, all publishers together, instead of looking for 95 % of what the broker can keep up with.
    #[arg(long)]
    rate: Option<f64>,
    /// Seconds before the update.
    #[arg(long, default_value_t = 10)]
    at: u64,
    /// Updates in a row under one load; 0: none.
    #[arg(long, default_value_t = 100)]
    updates: usize,
    /// Kill agent, old and new program after each phase of an update.
    #[arg(long)]
    kills: bool,
    /// Rounds in which the broker's processor time with and without an agent is compared; 0: none.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Only the updates, not the restarts beside them.
    #[arg(long)]
    only_updates: bool,
    /// Folder for live.html, live.json, live.csv and the charts; made if it is not there.
    #[arg(long, value_name = "FOLDER", default_value = "evaluation")]
    out: PathBuf,
    /// Write the figures to this file too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Be the agent of this folder.
    #[arg(long, hide = true)]
    agent: Option<PathBuf>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    if let Some(folder) = &options.agent {
        return serve_agent(folder);
    }
    println!("machine: {}", machine());
    let report = all(&options)?;
    write_report(&report, &options.out)?;
    tell(&report.figures, options.json.as_deref())?;
    println!("\nwritten: {}", options.out.join("live.html").display());
    Ok(())
}

fn all(options: &Options) -> Result<Report> {
    let mut report = Report::default();
    let (ours, theirs) = knees(options, &mut report)?;
    let mut unders = vec![(Under::Update(1, 2), ours), (Under::Update(2, 3), ours)];
    if !options.only_updates {
        unders.push((Under::Restart(1, 2), ours));
        if has_mosquitto() {
            unders.push((Under::RestartMosquitto, theirs));
        } else {
            eprintln!("mosquitto is not installed: not measured");
        }
    }
    for (under, rate) in unders {
        eprintln!("{} at {rate:.0} messages a second ...", under.name());
        let folder = tempfile::tempdir()?;
        let plan = Plan::document(options.messages, rate);
        let one = course(under, &plan, Duration::from_secs(options.at), folder.path())?;
        report.figures.extend(rows(&one));
        report.courses.push(one);
    }
    in_a_row(options, ours, &mut report)?;
    costs(options, ours, &mut report)?;
    Ok(report)
}

/// 95 % of what ours, and mosquitto, can keep up with.
fn knees(options: &Options, report: &mut Report) -> Result<(f64, f64)> {
    if let Some(rate) = options.rate {
        return Ok((rate, rate));
    }
    let document = Plan::document(options.messages, 1.0);
    let mut find = |name: &'static str, kind: Kind| -> Result<f64> {
        eprintln!("looking for the knee of {name} ...");
        let (found, tried) = knee(
            kind,
            &document,
            |Tried {
                 rate,
                 mean_ms,
                 kept_up,
             }| {
                let kept = if *kept_up { "keeps up" } else { "falls behind" };
                eprintln!("  {rate:>7.0} messages a second: {kept}, mean latency {mean_ms:.1} ms");
            },
        )?;
        report
            .figures
            .push(Figure::new(format!("knee of {name}"), found, "messages/s", None));
        report.knees.push((name, found, tried));
        Ok(found * 0.95)
    };
    let ours = find("the example broker", Kind::Ours(1))?;
    let theirs = if options.only_updates || !has_mosquitto() {
        ours
    } else {
        find("mosquitto", Kind::Mosquitto)?
    };
    Ok((ours, theirs))
}

/// What being updatable costs while nobody updates, at six tenths of the rate.
fn costs(options: &Options, rate: f64, report: &mut Report) -> Result<()> {
    if options.rounds == 0 {
        return Ok(());
    }
    eprintln!("processor time with and without an agent ...");
    let pairs = cost(&Plan::document(1, rate * 0.6), options.rounds, |with, without| {
        eprintln!("  {with:.3} and {without:.3} us a delivery");
    })?;
    let without = median(pairs.iter().map(|(_, without)| *without).collect());
    let name = "processor time of the broker for a delivery, nobody updating";
    report.figures.push(Figure::new(name, without, "us", None));
    let name = "the same under an agent: more by";
    report
        .figures
        .push(Figure::new(name, cost_more(&pairs), "%", Some(1.0)));
    Ok(())
}

/// Updates in a row, and kills, at half the rate.
#[allow(clippy::cast_precision_loss)] // counts
fn in_a_row(options: &Options, rate: f64, report: &mut Report) -> Result<()> {
    if options.updates == 0 && !options.kills {
        return Ok(());
    }
    let plan = Plan::document(20_000, rate / 2.0);
    let victims = if options.kills {
        vec![Victim::Agent, Victim::Old, Victim::New]
    } else {
        Vec::new()
    };
    let phases = 0..handoff::Phase::ALL.len();
    let faults = victims
        .into_iter()
        .flat_map(|victim| phases.clone().map(move |phase| Fault { phase, victim }));
    let folder = tempfile::tempdir()?;
    let (pauses, struck, record) = strikes(&plan, options.updates, faults, folder.path(), |what| {
        eprintln!("{what}");
    })?;
    let count = options.updates;
    let figure = |what: &str, value: f64, unit, goal| {
        Figure::new(format!("{count} updates in a row: {what}"), value, unit, goal)
    };
    report
        .figures
        .push(figure("pause, median", median(pauses.clone()), "ms", Some(10.0)));
    report.figures.push(figure(
        "pause, longest",
        pauses.iter().copied().fold(0.0, f64::max),
        "ms",
        None,
    ));
    let broken: u64 = struck
        .iter()
        .filter(|one| one.must_hold)
        .map(|one| one.dropped)
        .sum();
    let kills = format!(" and {} kills", struck.len());
    for (what, value) in [
        (
            "connections dropped, but of a program that was killed while it served",
            broken,
        ),
        ("messages lost", record.total.lost),
        ("messages doubled", record.total.duplicated),
        ("messages out of order", record.total.disordered),
    ] {
        let name = format!(
            "{count} updates in a row{}: {what}",
            if struck.is_empty() { "" } else { &kills }
        );
        report
            .figures
            .push(Figure::new(name, value as f64, "", Some(0.0)));
    }
    report.strikes = struck;
    Ok(())
}
