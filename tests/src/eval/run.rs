//! Releases to real devices, and what they took.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use protocol::control::ManagerEvent;
use protocol::{Event, Latencies, Name, Role, Step, UpdateId, latencies};
use serde::{Deserialize, Serialize};

use crate::draws::Draws;
use crate::packages::{noise, put, thermostat};
use crate::process::bin;
use crate::{Agent, Program, Site, SiteOptions};

/// How a series is measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Setting {
    /// Whether orders and news arrive over open streams; `false`: by the poll timer alone, at both hops.
    pub events: bool,
    /// Real device agents.
    pub devices: usize,
    /// Releases, one after the other.
    pub releases: usize,
    /// Bytes of each.
    pub bytes: usize,
    /// Seconds of the poll timer.
    pub poll_seconds: u64,
}

/// One release on one device, milliseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sample {
    /// Which release, from 1.
    pub release: usize,
    /// Which device.
    pub device: String,
    /// Whether it was the last one of this release to be well.
    pub last: bool,
    /// Type 1.
    pub download: f64,
    /// Type 2.
    pub manager_verification: f64,
    /// Type 3.
    pub transmission: f64,
    /// Type 4.
    pub device_verification: f64,
    /// Type 5.
    pub installation: f64,
    /// Type 6.
    pub restart: f64,
    /// Type 7.
    pub actual_total: f64,
    /// From the click on.
    pub click_to_healthy: f64,
    /// What lies between one type's end and the next one's begin, in the order of [`HAND_OVERS`].
    pub hand_overs: [f64; HAND_OVERS.len()],
}

/// Between the types: a name, the step that ends one and the step that begins the next. Negative where they overlap.
pub const HAND_OVERS: [(&str, Step, Step); 5] = [
    (
        "gateway has it → begins to verify",
        Step::Fetched,
        Step::MirrorVerifyStarted,
    ),
    (
        "verified → order to the device",
        Step::MirrorVerified,
        Step::Offered,
    ),
    (
        "device has it → begins to verify",
        Step::Downloaded,
        Step::VerifyStarted,
    ),
    (
        "verified → begins to install",
        Step::Verified,
        Step::InstallStarted,
    ),
    (
        "installed → old version told to stop",
        Step::Staged,
        Step::Stopping,
    ),
];

/// Milliseconds from one step to another, those of a device being of this one.
fn between(events: &[Event], device: &Name, from: Step, to: Step) -> Option<f64> {
    let at = |step: Step| {
        let own = |event: &&Event| {
            event.step == step
                && match event.actor.role {
                    Role::Device => event.actor.name == *device,
                    _ => event.device.as_ref().is_none_or(|told| told == device),
                }
        };
        events.iter().find(own).map(|event| &event.at)
    };
    #[allow(clippy::cast_precision_loss)] // nanoseconds of minutes
    Some(at(to)?.since_ns(at(from)?) as f64 / 1e6)
}

impl Sample {
    fn new(release: usize, device: &Name, events: &[Event]) -> Result<Self> {
        let found: &Latencies = &latencies(events, device);
        let missing = |name: &'static str| move || format!("{device}, release {release}: no {name}");
        Ok(Self {
            release,
            device: device.to_string(),
            last: false,
            download: found.download.with_context(missing("download"))?,
            manager_verification: found
                .manager_verification
                .with_context(missing("manager verification"))?,
            transmission: found.transmission.with_context(missing("transmission"))?,
            device_verification: found
                .device_verification
                .with_context(missing("device verification"))?,
            installation: found.installation.with_context(missing("installation"))?,
            restart: found.restart.with_context(missing("restart"))?,
            actual_total: found.actual_total.with_context(missing("actual total"))?,
            click_to_healthy: found.click_to_healthy.with_context(missing("click"))?,
            hand_overs: {
                let mut all = [0.0; HAND_OVERS.len()];
                for (value, (name, from, to)) in all.iter_mut().zip(HAND_OVERS) {
                    *value = between(events, device, from, to).with_context(missing(name))?;
                }
                all
            },
        })
    }

    /// The sum of types 1 to 6.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.download
            + self.manager_verification
            + self.transmission
            + self.device_verification
            + self.installation
            + self.restart
    }

    /// What neither the types nor the hand-overs explain of type 7.
    #[must_use]
    pub fn unexplained(&self) -> f64 {
        self.between() - self.hand_overs.iter().sum::<f64>()
    }

    /// What of type 7 lies between the types: one program's end and the next one's begin.
    #[must_use]
    pub fn between(&self) -> f64 {
        self.actual_total - self.total()
    }
}

/// What was measured under one setting.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Series {
    /// The setting.
    pub setting: Setting,
    /// Every release on every device.
    pub samples: Vec<Sample>,
}

impl Series {
    /// A line for a table of contents.
    #[must_use]
    pub fn name(&self) -> String {
        let Setting {
            events,
            devices,
            poll_seconds,
            ..
        } = self.setting;
        let how = if events {
            "events".to_owned()
        } else {
            format!("{poll_seconds} s poll only")
        };
        let plural = if devices == 1 { "" } else { "s" };
        format!("{devices} device{plural}, {how}")
    }

    /// The last device of each release: the one that a site waits for.
    pub fn last(&self) -> impl Iterator<Item = &Sample> + Clone {
        self.samples.iter().filter(|sample| sample.last)
    }
}

#[derive(Deserialize)]
struct Published {
    update: UpdateId,
    events: Vec<Event>,
}

/// Publishes a package and waits until `devices` have committed it; every step of it.
///
/// # Errors
/// A device ended otherwise.
pub async fn release_to(site: &Site, stream: &Program, package: &Path, devices: usize) -> Result<Vec<Event>> {
    let mut at = stream.mark();
    let Published { update, mut events } = site.publish(package, &[]).await.ok().json();
    let mut left = devices;
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
            let name = &event.actor.name;
            ensure!(event.step == Step::Committed, "{name}: {:?}", event.reason);
            left -= 1;
        }
        events.push(event);
    }
    Ok(events)
}

/// Measures one series; `told` after each release.
///
/// # Errors
/// A device did not take a release, or a step is missing.
pub async fn measure(setting: Setting, mut told: impl FnMut(usize, f64)) -> Result<Series> {
    let work = tempfile::tempdir()?;
    let site = Site::running(SiteOptions {
        key_type: "rsa".into(),
        events: setting.events,
        poll_seconds: setting.poll_seconds,
        ..SiteOptions::default()
    })
    .await;
    let mut agents = Vec::new();
    for number in 0..setting.devices {
        let mut agent = site.enroll(&format!("device-{number}")).await;
        agent.set("events", &setting.events.to_string());
        agent.start().await;
        agents.push(agent);
    }
    let steps = site.watch();
    let mut samples = Vec::new();
    let mut draws = Draws(11);
    // The first install has no old version to stop.
    for number in 0..=setting.releases {
        if !setting.events {
            // The click meets the timer anywhere.
            let phase = draws.below(usize::try_from(setting.poll_seconds * 1000)?);
            tokio::time::sleep(Duration::from_millis(u64::try_from(phase)?)).await;
        }
        let package = release_package(work.path(), number, setting.bytes);
        let events = release_to(&site, steps.program(), &package, agents.len()).await?;
        std::fs::remove_dir_all(&package)?;
        if number > 0 {
            let slowest = note(&mut samples, number, &events, &agents)?;
            told(number, slowest);
        }
    }
    for agent in &mut agents {
        agent.stop().await;
    }
    Ok(Series { setting, samples })
}

/// Adds a release's samples; how long the last device took from the click.
fn note(samples: &mut Vec<Sample>, number: usize, events: &[Event], agents: &[Agent]) -> Result<f64> {
    let first = samples.len();
    for agent in agents {
        let name: Name = agent.name.parse()?;
        samples.push(Sample::new(number, &name, events)?);
    }
    let newest = samples.get_mut(first..).unwrap_or_default();
    let last = newest
        .iter_mut()
        .max_by(|one, other| one.actual_total.total_cmp(&other.actual_total))
        .context("no device")?;
    last.last = true;
    Ok(last.click_to_healthy)
}

/// The thermostat as version `1.0.number`, `bytes` in all.
///
/// # Panics
/// If it was not built.
#[must_use]
pub fn release_package(out: &Path, number: usize, bytes: usize) -> PathBuf {
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
    let program = std::fs::metadata(bin("thermostat")).expect("built").len();
    let program = usize::try_from(program).expect("small");
    let seed = u64::try_from(number).expect("small");
    put(
        &dir.join("payload/data.bin"),
        &noise(bytes.saturating_sub(program), seed),
        0o644,
    );
    dir
}
