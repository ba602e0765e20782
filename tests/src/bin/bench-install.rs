//! `scripts/bench-install`: what installing takes of a link and of a device, however large the release is.
// A benchmark ends loudly when its set-up is broken.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Parser;
use e2e::draws::Draws;
use e2e::figures::{Figure, machine, mb, status_mb, tell};
use e2e::packages::{large_app, put};
use e2e::process::{be_patient, to_the_end};
use e2e::site::Published;
use e2e::{Agent, Program, Proxy, Site, SiteOptions};
use protocol::Outcome;

/// Bytes of the release that bad links carry.
const CARRIED: usize = 100_000_000;
/// The device's own goal, whatever is installed.
const MEMORY_GOAL: f64 = 15.0;
/// How closely the places of the breaks are met.
const LOOK: Duration = Duration::from_micros(200);
/// A link that carries nothing for so long has nothing to carry.
const STANDS: Duration = Duration::from_secs(120);
/// Waits that are ordinary elsewhere are for so many times the bytes here.
const PATIENCES: u32 = 30;

/// A 100 MB release over a link that breaks, a large package, and a file above 4 GiB.
#[derive(Parser)]
#[command(name = "scripts/bench-install")]
struct Options {
    /// Breaks of the link within one transfer of 100 MB.
    #[arg(long, default_value_t = 20)]
    cuts: u32,
    /// Bytes of the package whose install is watched.
    #[arg(long, default_value_t = 1 << 30)]
    package: usize,
    /// Bytes of the single file; four disks as large are needed.
    #[arg(long, default_value_t = 6 << 30)]
    file: u64,
    /// The same seed cuts at the same bytes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    be_patient(PATIENCES);
    println!("machine: {}", machine());
    let figures = to_the_end(measure(&options))?;
    tell(&figures, options.json.as_deref())?;
    let over = figures.iter().any(Figure::is_over);
    Ok(ExitCode::from(u8::from(over)))
}

async fn measure(options: &Options) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for kills in [false, true] {
        figures.extend(broken_link(options, kills).await?);
    }
    figures.extend(large_package(options).await?);
    figures.extend(large_file(options).await?);
    Ok(figures)
}

/// Publishes a release and waits until the device has it; how long it took from the click.
async fn install(site: &Site, agent: &Agent, path: &Path, more: &[&str]) -> Result<Duration> {
    let steps = agent.watch();
    let begun = Instant::now();
    let published: Published = site.publish(path, more).await.ok().json();
    let (outcome, reason) = steps.outcome(&agent.name, published.update).await;
    anyhow::ensure!(outcome == Outcome::Committed, "{outcome:?}: {reason:?}");
    Ok(begun.elapsed())
}

/// 100 MB over a link that breaks at random bytes, without a warning; with `kills` the agent dies there too.
async fn broken_link(options: &Options, kills: bool) -> Result<Vec<Figure>> {
    let work = tempfile::tempdir()?;
    let site = Site::running(SiteOptions::default()).await;
    let (mut agent, proxy) = site.device_behind("north", 7201).await;
    let package = large_app(work.path(), "1.0.0", CARRIED);
    // What crosses the link beside the release is measured with a whole transfer to another device.
    let (mut whole, beside) = site.device_behind("south", 7202).await;

    let mut draws = Draws(options.seed);
    let length = u64::try_from(CARRIED)?;
    let mut places: Vec<u64> = (0..options.cuts)
        .map(|_| u64::try_from(draws.below(CARRIED)).expect("small"))
        .collect();
    places.sort_unstable();
    let (steps, others) = (agent.watch(), whole.watch());
    let start = proxy.carried_down();
    let published: Published = site.publish(&package, &[]).await.ok().json();
    let mut broken = 0_u32;
    for place in places {
        // Each break costs what is sent again: places are counted from the bytes that have crossed by then.
        let wanted = start + place;
        reached(&proxy, wanted).await?;
        if proxy.carried_down() >= start + length {
            break;
        }
        broken += 1;
        proxy.cut();
        if kills {
            agent.kill().await;
            agent.start().await;
        }
    }
    // The watch of an agent that was killed has ended with it.
    let steps = if kills { agent.watch() } else { steps };
    let (outcome, reason) = steps.outcome("north", published.update).await;
    anyhow::ensure!(outcome == Outcome::Committed, "{outcome:?}: {reason:?}");
    let (outcome, reason) = others.outcome("south", published.update).await;
    anyhow::ensure!(outcome == Outcome::Committed, "{outcome:?}: {reason:?}");
    let once = beside.carried_down();
    let twice = proxy.carried_down().saturating_sub(once);
    let how = if kills {
        "breaks, the agent killed with each"
    } else {
        "breaks of the link"
    };
    agent.stop().await;
    whole.stop().await;
    Ok(vec![Figure::new(
        format!("100 MB over {broken} {how}: sent again"),
        mb(twice) * 1e8 / (CARRIED as f64),
        "%",
        Some(1.0),
    )])
}

/// Until the link has carried so many bytes.
async fn reached(proxy: &Proxy, bytes: u64) -> Result<()> {
    let (mut newest, mut since) = (0, Instant::now());
    while proxy.carried_down() < bytes {
        let carried = proxy.carried_down();
        if carried > newest {
            (newest, since) = (carried, Instant::now());
        }
        anyhow::ensure!(
            since.elapsed() < STANDS,
            "the link stands still at {newest} bytes, {bytes} were awaited"
        );
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// The most that each program had in memory.
struct Peaks {
    device: f64,
    manager: f64,
    repository: f64,
}

fn peak(program: Option<&Program>) -> f64 {
    let field = |program: &Program| status_mb(program.pid(), "VmHWM:");
    program.and_then(field).unwrap_or(f64::NAN)
}

fn peaks(site: &Site, agent: &Agent) -> Peaks {
    Peaks {
        device: peak(agent.program.as_ref()),
        manager: peak(site.manager.as_ref()),
        repository: peak(site.repository.as_ref()),
    }
}

/// A package of the asked size, and a small one for comparison.
async fn large_package(options: &Options) -> Result<Vec<Figure>> {
    let work = tempfile::tempdir()?;
    let site = Site::running(SiteOptions::default()).await;
    let mut agent = site.device("north").await;
    let small = large_app(work.path(), "1.0.0", 1_000_000);
    install(&site, &agent, &small, &[]).await?;
    let before = peaks(&site, &agent);
    let large = large_app(work.path(), "2.0.0", options.package);
    let took = install(&site, &agent, &large, &[]).await?;
    let after = peaks(&site, &agent);
    agent.stop().await;
    let size = options.package >> 20;
    Ok(vec![
        Figure::new(
            "device agent's peak after 1 MB",
            before.device,
            "MB",
            Some(MEMORY_GOAL),
        ),
        Figure::new(
            format!("device agent's peak while it installs {size} MiB"),
            after.device,
            "MB",
            Some(MEMORY_GOAL),
        ),
        Figure::new(
            format!("manager's peak for {size} MiB"),
            after.manager,
            "MB",
            None,
        ),
        Figure::new(
            format!("repository's peak for {size} MiB"),
            after.repository,
            "MB",
            None,
        ),
        Figure::new(
            format!("click to committed, {size} MiB"),
            took.as_secs_f64(),
            "s",
            None,
        ),
    ])
}

/// A single file beyond what 32 bits count, cut behind 4 GiB.
async fn large_file(options: &Options) -> Result<Vec<Figure>> {
    let work = tempfile::tempdir()?;
    let site = Site::running(SiteOptions::default()).await;
    let (mut agent, proxy) = site.device_behind("north", 7201).await;
    let path = work.path().join("Large_1.0.sh");
    put(&path, b"#!/bin/sh\nexec sleep 100000\n", 0o755);
    let mut file = File::options().append(true).open(&path)?;
    file.write_all(b"exit 0\n")?;
    // Holes on this disk; bytes on every other.
    #[expect(clippy::disallowed_methods, reason = "a benchmark's own input")]
    file.set_len(options.file)?;
    drop(file);
    let steps = agent.watch();
    let begun = Instant::now();
    let published: Published = site.publish(&path, &[]).await.ok().json();
    // Of 6 GiB behind the fourth.
    let behind = options.file / 12 * 8 + options.file / 100;
    reached(&proxy, behind).await?;
    proxy.cut();
    let (outcome, reason) = steps.outcome("north", published.update).await;
    anyhow::ensure!(outcome == Outcome::Committed, "{outcome:?}: {reason:?}");
    let took = begun.elapsed();
    let again = proxy.carried_down().saturating_sub(options.file);
    let peaks = peaks(&site, &agent);
    agent.stop().await;
    let size = options.file >> 20;
    let share = mb(again) * 1e8 / mb(options.file) / 1e6;
    Ok(vec![
        Figure::new(
            format!("device agent's peak, a file of {size} MiB"),
            peaks.device,
            "MB",
            Some(MEMORY_GOAL),
        ),
        Figure::new(
            format!("manager's peak, a file of {size} MiB"),
            peaks.manager,
            "MB",
            None,
        ),
        Figure::new(
            format!("  cut behind {} MiB: beside the file itself", behind >> 20),
            share,
            "%",
            Some(1.0),
        ),
        Figure::new(
            format!("click to committed, {size} MiB"),
            took.as_secs_f64(),
            "s",
            None,
        ),
    ])
}
