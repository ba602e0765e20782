//! The parts of a rehearsal, one after the other.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::Duration;

use durable::Files;
use protocol::control::{Finding, Level};
use protocol::{Event, Outcome, Step};
use release::{Arch, Health, Kind, Policy, Release};
use tokio::task::spawn_blocking;
use tokio::time::Instant;
use tuf::{Digest, UnixTime};

use super::agent::{Applied, Device};
use super::data::Data;
use super::site::Site;
use super::{Asked, Hears, RehearseError, Rehearsed, find_device};
use crate::desk::Senses;
use crate::draft::{Draft, Options};
use crate::limits::{REHEARSAL_RUN, REHEARSAL_SICK_SECONDS};
use crate::progress;
use crate::stop::Stop;

/// A package as it is to be installed here.
struct Package {
    release: Release,
    file: PathBuf,
    digest: Digest,
    length: u64,
}

impl Package {
    fn read(
        path: &Path,
        counter: u64,
        now: UnixTime,
        scratch: &Path,
        stop: &Stop,
    ) -> Result<Self, RehearseError> {
        let drafts = scratch.join("drafts");
        let draft = Draft::read(path, &Options::default(), &drafts, &progress::nobody(), stop)?;
        let unfit = |why: String| RehearseError::Unfit {
            path: path.to_owned(),
            why,
        };
        let Some(manifest) = draft.manifest.as_ref().filter(|_| draft.faults.is_empty()) else {
            return Err(unfit(draft.faults.join("; ")));
        };
        if let Some(module) = manifest.kind.module() {
            return Err(unfit(format!(
                "the update module {module} would change this machine: try it on a device"
            )));
        }
        if manifest.kind == Kind::Agent {
            return Err(unfit("an agent is tried on a device".to_owned()));
        }
        if let Some(arch) = manifest.arch.filter(|arch| Some(*arch) != Arch::here()) {
            return Err(unfit(format!(
                "it is built for {arch}, this machine is another one"
            )));
        }
        let mut release = manifest.release(
            format!("{counter:032x}"),
            counter,
            draft.form,
            draft.file_name.clone(),
            now,
        );
        release.counter = counter;
        // When it may be installed is not what is rehearsed; the other components are not here.
        release.policy = Policy::default();
        release.requires.components.clear();
        Ok(Self {
            release,
            file: draft.file,
            digest: draft.digest,
            length: draft.length,
        })
    }

    /// The same away from the async thread: a package may be large.
    async fn read_beside(
        path: &Path,
        counter: u64,
        now: UnixTime,
        scratch: &Path,
        stop: &Stop,
    ) -> Result<Self, RehearseError> {
        let (path, scratch, stop) = (path.to_owned(), scratch.to_owned(), stop.clone());
        let reading = spawn_blocking(move || Self::read(&path, counter, now, &scratch, &stop));
        reading.await.map_err(RehearseError::of_site)?
    }

    /// The same with another description, as another update.
    fn with(&self, number: u64, change: impl FnOnce(&mut Release)) -> Self {
        let mut release = self.release.clone();
        release.update_id = format!("{number:032x}");
        change(&mut release);
        Self {
            release,
            file: self.file.clone(),
            ..*self
        }
    }
}

/// The folder of a rehearsal; dropped, it goes away.
struct Scratch {
    dir: PathBuf,
    keep: bool,
}

impl Scratch {
    fn make(senses: &Senses, keep: bool) -> Result<Self, RehearseError> {
        let number = (senses.random)().map_err(RehearseError::of_site)?;
        let name = format!(
            "drover-rehearsal-{}",
            hex::encode(number.get(..6).unwrap_or_default())
        );
        let dir = std::env::temp_dir().join(name);
        Files::real().create_dir(&dir, 0o700)?;
        Ok(Self { dir, keep })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.keep {
            // What cannot be removed lies in the folder for temporary files.
            Files::real().remove_tree(&self.dir).ok();
        }
    }
}

/// A rehearsal under way.
struct Play<'a> {
    device: Device,
    site: Site,
    old: Package,
    new: Package,
    findings: Vec<Finding>,
    hears: &'a Hears,
    until: Instant,
}

/// Rehearses; see the module above.
pub(super) async fn rehearse(
    asked: &Asked,
    senses: &Senses,
    hears: &Hears,
    stop: &Stop,
) -> Result<Rehearsed, RehearseError> {
    let until = Instant::now() + asked.limit;
    let program = asked.device.clone().or_else(find_device);
    let program = program.ok_or(RehearseError::NoDevice)?;
    let scratch = Scratch::make(senses, asked.keep)?;
    let now = senses.now();
    let old = Package::read_beside(&asked.old, 1, now, &scratch.dir, stop).await?;
    let new = Package::read_beside(&asked.new, 2, now, &scratch.dir, stop).await?;
    if old.release.component != new.release.component {
        return Err(RehearseError::Unfit {
            path: asked.old.clone(),
            why: format!("it is {}, not {}", old.release.component, new.release.component),
        });
    }
    let token = (senses.random)().map_err(RehearseError::of_site)?;
    let site = Site::open(senses.clock.clone(), token).await?;
    let seconds = |package: &Package| {
        let release = &package.release;
        let stop = release.run.as_ref().map_or(0, |run| run.stop_seconds);
        let transform = release.state.as_ref().map_or(0, |state| state.transform_seconds);
        (
            release.start_seconds + release.probation_seconds + stop + transform,
            stop,
        )
    };
    let ((of_old, stops), (of_new, _)) = (seconds(&old), seconds(&new));
    let device = Device::new(
        program,
        &scratch.dir,
        new.release.component.clone(),
        REHEARSAL_RUN + Duration::from_secs((of_old + of_new).into()),
        Duration::from_secs(stops.into()),
    );
    site.enrol(&device.dir(), &settings(asked, &[&old.release, &new.release])?)?;
    let (component, versions) = (
        new.release.component.clone(),
        (old.release.version.clone(), new.release.version.clone()),
    );
    let mut play = Play {
        device,
        site,
        old,
        new,
        findings: Vec::new(),
        hears,
        until,
    };
    let played = stop.or(play.all(asked)).await;
    play.device.end_programs().await;
    played??;
    Ok(Rehearsed {
        component,
        old: versions.0,
        new: versions.1,
        findings: play.findings,
        folder: scratch.keep.then(|| scratch.dir.clone()),
    })
}

/// Lines for `device.toml`: all hardware that the packages ask for, and the programs' environment.
fn settings(asked: &Asked, releases: &[&Release]) -> Result<String, RehearseError> {
    let hardware: Vec<toml::Value> = releases
        .iter()
        .flat_map(|release| release.hardware.iter().cloned().map(toml::Value::from))
        .collect();
    let mut env: toml::Table = asked
        .env
        .iter()
        .map(|(name, value)| (name.clone(), toml::Value::from(value.clone())))
        .collect();
    let asks_port = releases.iter().any(|release| match &release.health {
        Health::Http { url } => url.contains("${PORT}"),
        _ => false,
    });
    if asks_port && !env.contains_key("PORT") {
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let port = free.map_err(RehearseError::of_site)?.port();
        env.insert("PORT".to_owned(), toml::Value::from(port.to_string()));
    }
    let mut lines = toml::Table::from_iter([("hardware".to_owned(), toml::Value::from(hardware))]);
    if let (false, Some(release)) = (env.is_empty(), releases.first()) {
        let of_component = toml::Table::from_iter([(release.component.to_string(), env.into())]);
        lines.insert("env".to_owned(), of_component.into());
    }
    toml::to_string(&lines).map_err(RehearseError::of_site)
}

impl Play<'_> {
    async fn all(&mut self, asked: &Asked) -> Result<(), RehearseError> {
        if !self.installs(asked).await? {
            return Ok(());
        }
        let steps = self.updates().await?;
        if !steps.is_empty() {
            self.goes_back_by_hand().await?;
        }
        let way_back = self.rolls_back().await?;
        let quick = |release: &mut Release| release.probation_seconds = release.probation_seconds.min(1);
        let good = self.new.with(4, quick);
        self.order(&good)?;
        self.is_killed("kill -9 after", &good.release, &steps).await?;
        let sick = self.sick(5);
        self.order(&sick)?;
        let only_back: Vec<Step> = way_back
            .into_iter()
            .filter(|step| !steps.contains(step))
            .collect();
        self.is_killed("kill -9 on the way back after", &sick.release, &only_back)
            .await
    }

    fn say(&mut self, level: Level, part: impl Display, text: impl Display) {
        let finding = Finding {
            part: part.to_string(),
            level,
            text: text.to_string(),
        };
        (self.hears)(&finding);
        self.findings.push(finding);
    }

    /// Whether there is time for another part.
    fn may_go_on(&mut self, part: &str) -> bool {
        let over = Instant::now() > self.until;
        if over && self.findings.iter().all(|finding| finding.part != "time") {
            let text = format!(
                "the time for the rehearsal is over: it ends before \"{part}\"; give it more with --limit"
            );
            self.say(Level::Error, "time", text);
        }
        !over
    }

    fn order(&mut self, package: &Package) -> Result<(), RehearseError> {
        self.site
            .order(&package.release, &package.file, package.digest, package.length)
    }

    /// The old version comes to a device that has nothing.
    async fn installs(&mut self, asked: &Asked) -> Result<bool, RehearseError> {
        let release = self.old.release.clone();
        let part = format!("install {}", release.version);
        self.site
            .order(&release, &self.old.file, self.old.digest, self.old.length)?;
        let applied = self.device.apply().await?;
        let steps = self.site.steps(&release);
        if outcome(&applied, &release) != Some(Outcome::Committed) || self.device.programs().is_empty() {
            self.say(Level::Error, part, applied.told());
            return Ok(false);
        }
        let text = match took(&steps, Step::Started, Step::Healthy) {
            Some(ms) => format!("healthy {ms} ms after its start"),
            None => "healthy".to_owned(),
        };
        self.say(Level::Info, part, text);
        self.device.end_programs().await;
        if let Some(data) = &asked.data {
            self.device.give_data(data).await?;
        }
        self.device.keep().await?;
        Ok(true)
    }

    /// The new version takes over; the steps that it took, none if it did not come to run.
    async fn updates(&mut self) -> Result<Vec<Step>, RehearseError> {
        let (release, part) = (
            self.new.release.clone(),
            format!("update to {}", self.new.release.version),
        );
        if !self.may_go_on(&part) {
            return Ok(Vec::new());
        }
        self.site.begin();
        self.site
            .order(&release, &self.new.file, self.new.digest, self.new.length)?;
        let before = Data::of(&self.device.data());
        let applied = self.device.apply().await?;
        let events = self.site.steps(&release);
        if outcome(&applied, &release) != Some(Outcome::Committed) || self.device.programs().is_empty() {
            self.say(Level::Error, part, applied.told());
            return Ok(Vec::new());
        }
        let all = took(&events, Step::Ordered, Step::Committed).unwrap_or_default();
        let text = match took(&events, Step::Stopping, Step::Healthy) {
            Some(pause) => format!("nobody was served for {pause} ms; {all} ms from order to commit"),
            None => format!("{all} ms from order to commit"),
        };
        self.say(Level::Info, part, text);
        self.compare(&before);
        Ok(distinct(&events))
    }

    /// What became of the data.
    fn compare(&mut self, before: &Data) {
        let after = Data::of(&self.device.data());
        let (old, new) = (schema(&self.old.release), schema(&self.new.release));
        let kept = format!(
            "files before: {}, after: {}, changed: {}",
            before.count(),
            after.count(),
            before.changed_in(&after)
        );
        let missing = before.missing_in(&after);
        let part = if old == new {
            "data".to_owned()
        } else {
            format!("data, schema {old} to {new}")
        };
        if missing.is_empty() {
            self.say(Level::Info, part, kept);
        } else {
            // Where a schema changes they may well be meant to go.
            let text = format!("{kept}; no longer there: {}", few(&missing));
            let level = if old == new { Level::Warning } else { Level::Info };
            self.say(level, part, text);
        }
    }

    /// A person wants the old version back after the commit.
    async fn goes_back_by_hand(&mut self) -> Result<(), RehearseError> {
        let part = "back by hand";
        if !self.may_go_on(part) {
            return Ok(());
        }
        self.site.rest();
        match self.device.roll_back().await? {
            Ok(()) => {
                let applied = self.device.apply().await?;
                self.judge(part, &applied, Some("on the data of the new one"));
            }
            Err(reason) => {
                let text = format!("refused, as it will be on devices: {reason}");
                self.say(Level::Warning, part, text);
            }
        }
        Ok(())
    }

    /// The new version never gets well; the steps that were taken.
    async fn rolls_back(&mut self) -> Result<Vec<Step>, RehearseError> {
        let part = "a new version that fails";
        if !self.may_go_on(part) {
            return Ok(Vec::new());
        }
        self.device.restore().await?;
        let sick = self.sick(3);
        self.order(&sick)?;
        self.site.begin();
        let before = Data::of(&self.device.data());
        let applied = self.device.apply().await?;
        let events = self.site.steps(&sick.release);
        if outcome(&applied, &sick.release) != Some(Outcome::RolledBack) || self.device.programs().is_empty()
        {
            let text = format!("it was not rolled back as it must be: {}", applied.told());
            self.say(Level::Error, part, text);
            return Ok(Vec::new());
        }
        let after = Data::of(&self.device.data());
        let missing = before.missing_in(&after);
        let back = took(&events, Step::Started, Step::RolledBack).unwrap_or_default();
        let text = format!("{} runs again after {back} ms", self.old.release.version);
        if missing.is_empty() {
            self.say(Level::Info, part, format!("{text}, with its data"));
        } else {
            let text = format!("{text}; of its data are gone: {}", few(&missing));
            let level = if self.new.release.state.is_some() {
                Level::Error
            } else {
                Level::Warning
            };
            self.say(level, part, text);
        }
        Ok(distinct(&events))
    }

    /// The agent dies after each of these steps and comes back.
    async fn is_killed(
        &mut self,
        what: &str,
        release: &Release,
        steps: &[Step],
    ) -> Result<(), RehearseError> {
        for step in steps {
            let part = format!("{what} {step}");
            if !self.may_go_on(&part) {
                return Ok(());
            }
            self.device.restore().await?;
            self.site.begin();
            let reached = self.device.apply_until(*step, &release.version).await?;
            let applied = self.device.apply().await?;
            let missed = (!reached).then_some("the step was over before the kill");
            self.judge(&part, &applied, missed);
        }
        Ok(())
    }

    /// Whether the old or the new version runs, never neither.
    fn judge(&mut self, part: &str, applied: &Applied, remark: Option<&str>) {
        let state = self.site.state(&self.new.release);
        let version = state.and_then(|state| state.version);
        let known = [&self.old.release.version, &self.new.release.version];
        let version = version.filter(|version| known.contains(&version));
        let runs = applied.failing.is_empty() && !self.device.programs().is_empty();
        match version.filter(|_| runs) {
            Some(version) => {
                let remark = remark.map_or_else(String::new, |remark| format!(", {remark}"));
                self.say(Level::Info, part, format!("{version} runs{remark}"));
            }
            None => {
                let text = format!("neither version runs: {}", applied.told());
                self.say(Level::Error, part, text);
            }
        }
    }

    /// The new version, which never answers that it is well.
    fn sick(&self, number: u64) -> Package {
        self.new.with(number, |release| {
            release.health = Health::Command {
                argv: vec!["false".to_owned()],
            };
            release.start_seconds = release.start_seconds.min(REHEARSAL_SICK_SECONDS);
        })
    }
}

fn outcome(applied: &Applied, release: &Release) -> Option<Outcome> {
    applied.end_of(&release.version).map(|end| end.outcome)
}

fn schema(release: &Release) -> u32 {
    release.state.as_ref().map_or(0, |state| state.to)
}

/// Milliseconds from the first `from` to the last `to`.
fn took(events: &[Event], from: Step, to: Step) -> Option<u64> {
    let first = events.iter().find(|event| event.step == from)?;
    let last = events.iter().rev().find(|event| event.step == to)?;
    u64::try_from(last.at.since_ns(&first.at) / 1_000_000).ok()
}

/// Each step once, in order; what only shows how far something is, is none.
fn distinct(events: &[Event]) -> Vec<Step> {
    let mut steps = Vec::new();
    for event in events {
        if !matches!(event.step, Step::Downloading | Step::Waiting) && !steps.contains(&event.step) {
            steps.push(event.step);
        }
    }
    steps
}

/// The first few names of many.
fn few(names: &[&str]) -> String {
    let shown: Vec<&str> = names.iter().take(3).copied().collect();
    match names.len().saturating_sub(shown.len()) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
