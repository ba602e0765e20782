//! `scripts/bench-footprint`: what the programs weigh and how long a release takes, on this machine, now.
// A benchmark ends loudly when its set-up is broken.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use e2e::eval::{release_package, release_to};
use e2e::figures::{Figure, machine, mb, median, status_mb, tell};
use e2e::process::{bin, to_the_end};
use e2e::{Agent, Program, Site, SiteOptions};
use protocol::{Latencies, Name, latencies};

/// Memory, size and latency of the release build.
#[derive(Parser)]
#[command(name = "scripts/bench-footprint")]
struct Options {
    /// Releases to publish to three devices.
    #[arg(long, default_value_t = 100)]
    releases: usize,
    /// Connected devices for the manager's memory.
    #[arg(long, default_value_t = 100)]
    fleet: u32,
    /// Bytes of one release.
    #[arg(long, default_value_t = 3_000_000)]
    bytes: usize,
    /// Write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let figures = to_the_end(measure(&options))?;
    tell(&figures, options.json.as_deref())
}

async fn measure(options: &Options) -> Result<Vec<Figure>> {
    println!("machine: {}", machine());
    let mut figures = Vec::new();
    let peer = mender();
    let size = std::fs::metadata(bin("device"))?.len();
    figures.push(
        Figure::new("device agent, binary as shipped", mb(size), "MB", Some(8.0))
            .beside(peer.as_ref().map(|size| ("mender-client's binary", mb(*size)))),
    );
    for name in ["admin-gui", "repo-server", "manager"] {
        figures.push(Figure::new(
            format!("{name}, binary as shipped"),
            mb(std::fs::metadata(bin(name))?.len()),
            "MB",
            None,
        ));
    }
    let site = Site::running(SiteOptions {
        key_type: "rsa".into(),
        ..SiteOptions::default()
    })
    .await;
    let mut agents = Vec::new();
    for number in 0..3 {
        agents.push(site.device(&format!("device-{number}")).await);
    }
    let steps = site.watch();
    let stream = steps.program();
    figures.extend(releases(options, &site, stream, &agents).await?);
    let worst = agents
        .iter()
        .filter_map(|agent| status_mb(agent.program.as_ref()?.pid(), "VmRSS:"))
        .fold(0.0, f64::max);
    figures.push(Figure::new(
        "device agent, resident after all releases",
        worst,
        "MB",
        Some(15.0),
    ));
    let peak = agents
        .iter()
        .filter_map(|agent| status_mb(agent.program.as_ref()?.pid(), "VmHWM:"))
        .fold(0.0, f64::max);
    figures.push(Figure::new(
        "device agent, resident at its peak",
        peak,
        "MB",
        None,
    ));
    let mut fleet: Vec<Agent> = Vec::new();
    for number in 3..options.fleet.max(3) {
        fleet.push(site.device(&format!("device-{number}")).await);
    }
    let status = site.manager_status().await;
    let manager = site
        .manager
        .as_ref()
        .and_then(|manager| status_mb(manager.pid(), "VmRSS:"))
        .context("the manager's memory")?;
    figures.push(Figure::new(
        format!("manager, resident with {} connected devices", status.connected),
        manager,
        "MB",
        Some(60.0),
    ));
    for agent in fleet.iter_mut().chain(&mut agents) {
        agent.stop().await;
    }
    Ok(figures)
}

/// Publishes the releases one after the other and gives the latency figures.
async fn releases(options: &Options, site: &Site, stream: &Program, agents: &[Agent]) -> Result<Vec<Figure>> {
    let work = tempfile::tempdir()?;
    let mut click: Vec<f64> = Vec::new();
    let mut all: Vec<Latencies> = Vec::new();
    for number in 0..=options.releases {
        let package = release_package(work.path(), number, options.bytes);
        let events = release_to(site, stream, &package, agents.len()).await?;
        std::fs::remove_dir_all(&package)?;
        if number == 0 {
            continue; // the first install has nothing to stop
        }
        let each: Vec<Latencies> = agents
            .iter()
            .map(|agent| latencies(&events, &agent.name.parse::<Name>().expect("valid")))
            .collect();
        click.push(
            each.iter()
                .filter_map(|figures| figures.click_to_healthy)
                .fold(0.0, f64::max),
        );
        all.extend(each);
        eprint!(
            "\r{number} releases, last {:.0} ms ",
            click.last().expect("pushed")
        );
    }
    eprintln!();
    click.sort_by(f64::total_cmp);
    let pick = |pick: fn(&Latencies) -> Option<f64>| median(all.iter().filter_map(pick).collect());
    Ok(vec![
        Figure::new(
            "click → healthy on the last of 3 devices, median",
            median(click.clone()),
            "ms",
            Some(500.0),
        ),
        Figure::new(
            format!("  worst of {}", click.len()),
            *click.last().unwrap_or(&0.0),
            "ms",
            Some(1000.0),
        ),
        Figure::new(
            "1 download by the manager, median",
            pick(|l| l.download),
            "ms",
            None,
        ),
        Figure::new(
            "2 verification by the manager, median",
            pick(|l| l.manager_verification),
            "ms",
            Some(15.0),
        ),
        Figure::new(
            "3 transmission to a device, median",
            pick(|l| l.transmission),
            "ms",
            None,
        ),
        Figure::new(
            "4 verification by a device, median",
            pick(|l| l.device_verification),
            "ms",
            Some(15.0),
        ),
        Figure::new("5 installation, median", pick(|l| l.installation), "ms", None),
        Figure::new("6 restart, median", pick(|l| l.restart), "ms", None),
        Figure::new("7 actual total, median", pick(|l| l.actual_total), "ms", None),
    ])
}

/// The size of Debian's `mender-client`, where it is installed.
fn mender() -> Option<u64> {
    Some(std::fs::metadata("/usr/bin/mender").ok()?.len())
}
