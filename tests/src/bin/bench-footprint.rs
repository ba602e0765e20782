//! `scripts/bench-footprint`: what the programs weigh and how long a release takes, on this machine, now.
// A benchmark ends loudly when its set-up is broken.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Parser;
use e2e::packages::{noise, put, thermostat};
use e2e::process::bin;
use e2e::{Agent, Program, Site, SiteOptions};
use protocol::control::ManagerEvent;
use protocol::{Event, Latencies, Name, Role, Step, latencies};
use serde::{Deserialize, Serialize};

/// Memory, size and latency of the release build.
#[derive(Parser)]
#[command(name = "scripts/bench-footprint")]
struct Options {
    /// Releases to publish to three devices.
    #[arg(long, default_value_t = 100)]
    releases: u32,
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

#[derive(Deserialize)]
struct Published {
    events: Vec<Event>,
}

/// One figure beside what it must reach.
#[derive(Serialize)]
struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    goal: Option<f64>,
    /// What a peer needs, where one is known or was measured in this run.
    peer: Option<(String, f64)>,
    /// Ours divided by the peer's.
    ratio: Option<f64>,
}

impl Figure {
    fn new(name: impl Into<String>, value: f64, unit: &'static str, goal: Option<f64>) -> Self {
        Self {
            name: name.into(),
            value,
            unit,
            goal,
            peer: None,
            ratio: None,
        }
    }

    fn beside(mut self, peer: Option<(&str, f64)>) -> Self {
        self.ratio = peer.map(|(_, theirs)| self.value / theirs);
        self.peer = peer.map(|(name, theirs)| (name.to_owned(), theirs));
        self
    }
}

fn main() -> Result<()> {
    let options = Options::parse();
    e2e::process::end_all_on_panic();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let figures = runtime.block_on(async {
        tokio::select! {
            figures = measure(&options) => figures,
            _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
        }
    })?;
    println!("\n{:<58} {:>10} {:>10}", "figure", "measured", "goal");
    for figure in &figures {
        let goal = figure.goal.map_or(String::from("-"), |goal| format!("{goal:.1}"));
        print!(
            "{:<58} {:>10.2} {goal:>10} {}",
            figure.name, figure.value, figure.unit
        );
        match (&figure.peer, figure.ratio) {
            (Some((peer, theirs)), Some(ratio)) => println!("   ({peer}: {theirs:.1}; ratio {ratio:.2})"),
            _ => println!(),
        }
    }
    if let Some(path) = &options.json {
        durable::replace(path, &serde_json::to_vec_pretty(&figures)?, 0o644)?;
    }
    Ok(())
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
        .filter_map(|agent| resident(agent.program.as_ref()?))
        .fold(0.0, f64::max);
    figures.push(Figure::new(
        "device agent, resident after all releases",
        worst,
        "MB",
        Some(15.0),
    ));
    let peak = agents
        .iter()
        .filter_map(|agent| status_kib(agent.program.as_ref()?.pid(), "VmHWM:"))
        .fold(0.0, f64::max);
    figures.push(Figure::new(
        "device agent, resident at its peak",
        peak / 1000.0,
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
        .and_then(resident)
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
        let package = package(work.path(), number, options.bytes);
        let mark = stream.mark();
        let output = site.publish(&package, &[]).await.ok();
        std::fs::remove_dir_all(&package)?;
        let mut events = output.json::<Published>().events;
        let update = events.first().context("no events")?.update;
        let (mut at, mut left) = (mark, agents.len());
        while left > 0 {
            let line = stream.wait_line_after(at, "the next step", |_| true).await;
            at += 1;
            let Ok(ManagerEvent::Step(event)) = serde_json::from_str(&line) else {
                continue;
            };
            if event.update != update || events.contains(&event) {
                continue;
            }
            if event.actor.role == Role::Device && event.step.outcome().is_some() {
                anyhow::ensure!(
                    event.step == Step::Committed,
                    "{}: {:?}",
                    event.actor.name,
                    event.reason
                );
                left -= 1;
            }
            events.push(event);
        }
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

fn package(out: &Path, number: u32, bytes: usize) -> PathBuf {
    let dir = thermostat(out, "1.0");
    let text = std::fs::read_to_string(dir.join("update.toml")).expect("update.toml");
    let text: Vec<String> = text
        .lines()
        .map(|line| {
            if line.starts_with("version") {
                format!("version = \"1.0.{number}\"")
            } else if line.starts_with("probation_seconds") {
                // Waited for between releases, and no part of any figure.
                "probation_seconds = 1".to_owned()
            } else {
                line.to_owned()
            }
        })
        .collect();
    put(&dir.join("update.toml"), text.join("\n").as_bytes(), 0o644);
    let program = usize::try_from(std::fs::metadata(bin("thermostat")).expect("built").len()).expect("small");
    put(
        &dir.join("payload/data.bin"),
        &noise(bytes.saturating_sub(program), number.into()),
        0o644,
    );
    dir
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[allow(clippy::cast_precision_loss)] // sizes of files
fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn resident(program: &Program) -> Option<f64> {
    Some(status_kib(program.pid(), "VmRSS:")? * 1024.0 / 1e6)
}

fn status_kib(pid: u32, field: &str) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status
        .lines()
        .find(|line| line.starts_with(field))?
        .split_whitespace()
        .nth(1)?
        .parse()
        .ok()
}

/// The size of Debian's `mender-client`, where it is installed.
fn mender() -> Option<u64> {
    Some(std::fs::metadata("/usr/bin/mender").ok()?.len())
}

fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or("")
        .trim_start_matches([' ', '\t', ':']);
    let cores = info.lines().filter(|line| line.starts_with("processor")).count();
    let sha = if info.contains("sha_ni") {
        "with"
    } else {
        "without"
    };
    format!("{cores} × {model}, {sha} SHA extensions")
}
