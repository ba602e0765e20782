//! `scripts/demo`: a whole site on this machine, three releases, and what happened to them.
// A demonstration may end loudly; its parts are told apart by their messages.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use e2e::{Agent, Program, Site, SiteOptions};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use protocol::control::ManagerEvent;
use protocol::{Event, Latencies, Name, Role, Step, UpdateId, latencies};
use serde::{Deserialize, Serialize};

/// A site with three devices on this machine: publish, update, and one bad release that is rolled back.
#[derive(Parser)]
#[command(name = "scripts/demo")]
struct Options {
    /// Leave everything running at the end, and say where it is.
    #[arg(long)]
    keep: bool,
    /// Publish this file of your own at the end (such as CommonApp_6.0.jar, a script or a program).
    #[arg(long, value_name = "FILE")]
    release: Option<PathBuf>,
    /// Write every event and figure to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// How many devices.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=50))]
    devices: u16,
    /// Print plain lines, also on a terminal.
    #[arg(long)]
    plain: bool,
}

/// How long one release may take on all devices, probation included.
const RELEASE_DEADLINE: Duration = Duration::from_secs(60);

/// What `admin-gui publish --json` prints, as far as it is needed here.
#[derive(Deserialize)]
struct Published {
    events: Vec<Event>,
}

/// One release and what became of it.
#[derive(Serialize)]
struct Story {
    title: String,
    update: UpdateId,
    version: String,
    outcomes: BTreeMap<Name, String>,
    reasons: BTreeMap<Name, String>,
    latencies: BTreeMap<Name, Latencies>,
    events: Vec<Event>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    e2e::process::end_all_on_panic();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        let done = Cell::new(false);
        let told = tokio::select! {
            result = demo(&options, &done) => return result,
            _ = tokio::signal::ctrl_c() => "interrupted",
            _ = terminate.recv() => "ended",
        };
        // What was kept running is ended so: nothing was missed.
        if !done.get() {
            bail!("{told}: everything that was started has been ended");
        }
        println!("\nEverything that was started has been ended.");
        Ok(())
    })
}

async fn demo(options: &Options, done: &Cell<bool>) -> Result<()> {
    let begun = Instant::now();
    let view = View::new(!options.plain && std::io::stdout().is_terminal());
    view.say("Drover demo: one author, one repository, one gateway, and devices behind it.");
    let site_options = SiteOptions {
        name: "demo".into(),
        key_type: "rsa".into(),
        ..SiteOptions::default()
    };
    view.say("making the site: certificate authority, author key (RSA-PSS 3072), root ceremony ...");
    let mut site = Site::create(site_options).await;
    site.start_repository().await;
    site.start_manager().await;
    view.say(&format!("repository  https://{}:7100/", site.address));
    view.say(&format!(
        "manager     {0}:7101 (devices), {0}:7102 (enrolment)",
        site.address
    ));
    let mut agents = Vec::new();
    for number in 1..=options.devices {
        let agent = site.device(&format!("device-{number}")).await;
        view.say(&format!(
            "device      {} enrolled and connected, in {}",
            agent.name,
            agent.dir.display()
        ));
        agents.push(agent);
    }
    let steps = site.watch();
    let stream = steps.program();
    let work = tempfile::tempdir()?;
    let mut stories = Vec::new();
    for (version, title) in [
        ("1.0", "thermostat 1.0: the first install"),
        ("1.1", "thermostat 1.1: an update"),
        ("1.2", "thermostat 1.2: starts, then fails its health check"),
    ] {
        let package = e2e::packages::thermostat(work.path(), version);
        stories.push(release(&view, &site, stream, &agents, title, &package, &[]).await?);
    }
    if let Some(file) = &options.release {
        let file = file
            .canonicalize()
            .with_context(|| format!("cannot read {}", file.display()))?;
        let title = format!("{}: yours", file.display());
        stories.push(release(&view, &site, stream, &agents, &title, &file, &[]).await?);
    }
    view.done();
    print_table(&stories);
    print_bad(&stories);
    footprint(&site, &agents);
    if let Some(path) = &options.json {
        let text = serde_json::to_vec_pretty(&stories)?;
        durable::replace(path, &text, 0o644).with_context(|| format!("cannot write {}", path.display()))?;
        println!("\nEvery event and figure: {}", path.display());
    }
    println!("\nDone in {:.0} s.", begun.elapsed().as_secs_f64());
    done.set(true);
    if options.keep {
        keep(&site, &agents).await;
    } else {
        println!(
            "Next: scripts/demo --keep leaves it running; docs/three-hosts.md does the same on three machines."
        );
    }
    drop(steps);
    for agent in &mut agents {
        agent.stop().await;
    }
    Ok(())
}

/// Publishes one package and follows it until every device has an outcome.
async fn release(
    view: &View,
    site: &Site,
    stream: &Program,
    agents: &[Agent],
    title: &str,
    package: &std::path::Path,
    more: &[&str],
) -> Result<Story> {
    view.title(title);
    let mark = stream.mark();
    let output = site.publish(package, more).await;
    if output.code != 0 {
        bail!("publishing failed:\n{}", output.stderr);
    }
    let published: Published = output.json();
    let update = published
        .events
        .first()
        .context("the receipt has no events")?
        .update;
    let clicked = published
        .events
        .iter()
        .find(|event| event.step == Step::Clicked)
        .context("no click in the receipt")?
        .clone();
    let mut events = published.events;
    for event in &events {
        view.step(&clicked, event);
    }
    view.devices(agents);
    let mut waiting: BTreeSet<String> = agents.iter().map(|agent| agent.name.clone()).collect();
    let mut outcomes = BTreeMap::new();
    let mut reasons = BTreeMap::new();
    let deadline = Instant::now() + RELEASE_DEADLINE;
    let mut at = mark;
    while !waiting.is_empty() {
        if Instant::now() > deadline {
            bail!(
                "no outcome from {} within {RELEASE_DEADLINE:?}",
                waiting.into_iter().collect::<Vec<_>>().join(", ")
            );
        }
        let line = stream.wait_line_after(at, "the next step", |_| true).await;
        at += 1;
        let Ok(ManagerEvent::Step(event)) = serde_json::from_str(&line) else {
            continue;
        };
        if event.update != update || events.contains(&event) {
            continue;
        }
        view.step(&clicked, &event);
        if event.actor.role == Role::Device {
            if let Some(reason) = &event.reason {
                reasons.insert(event.actor.name.clone(), reason.clone());
            }
            if let Some(outcome) = event.step.outcome() {
                // A failure before the roll back is told by both; the last one counts.
                if !(event.step == Step::Failed && outcomes.contains_key(&event.actor.name)) {
                    outcomes.insert(event.actor.name.clone(), outcome.to_string());
                }
                waiting.remove(event.actor.name.as_str());
            }
        }
        events.push(event);
    }
    let latencies = agents
        .iter()
        .map(|agent| {
            let name: Name = agent.name.parse().expect("valid");
            let figures = latencies(&events, &name);
            (name, figures)
        })
        .collect();
    let version = clicked.version.to_string();
    Ok(Story {
        title: title.into(),
        update,
        version,
        outcomes,
        reasons,
        latencies,
        events,
    })
}

/// What the person sees while it happens.
struct View {
    bars: Option<MultiProgress>,
    devices: std::sync::Mutex<BTreeMap<String, ProgressBar>>,
}

impl View {
    fn new(terminal: bool) -> Self {
        Self {
            bars: terminal.then(MultiProgress::new),
            devices: std::sync::Mutex::default(),
        }
    }

    fn say(&self, line: &str) {
        match &self.bars {
            Some(bars) => bars.println(line).unwrap_or_default(),
            None => println!("{line}"),
        }
    }

    fn title(&self, title: &str) {
        self.say("");
        self.say(&format!("== {title}"));
    }

    fn devices(&self, agents: &[Agent]) {
        let Some(bars) = &self.bars else { return };
        let mut devices = self.devices.lock().unwrap();
        for agent in agents {
            let bar = devices
                .entry(agent.name.clone())
                .or_insert_with(|| bars.add(ProgressBar::new(10)));
            let style =
                ProgressStyle::with_template("  {prefix:12} [{bar:24}] {msg}").expect("a fixed template");
            bar.set_style(style.progress_chars("=> "));
            bar.set_prefix(agent.name.clone());
            bar.set_message("waiting");
            bar.set_position(0);
        }
    }

    fn step(&self, clicked: &Event, event: &Event) {
        let since = event.at.since_ns(&clicked.at);
        #[allow(clippy::cast_precision_loss)] // a display of milliseconds
        let since = since as f64 / 1e6;
        let who = match (&event.actor.role, &event.device) {
            (Role::Device, _) => event.actor.name.to_string(),
            (role, Some(device)) => format!("{role} → {device}"),
            (role, None) => role.to_string(),
        };
        if let Some(bar) = self.devices.lock().unwrap().get(event.actor.name.as_str()) {
            bar.set_position(position(event.step));
            bar.set_message(event.step.to_string());
        }
        if event.step == Step::Downloading {
            return;
        }
        let reason = event
            .reason
            .as_ref()
            .map(|reason| format!("  ({})", first_line(reason)))
            .unwrap_or_default();
        self.say(&format!("{since:>9.1} ms  {who:22} {}{reason}", event.step));
    }

    fn done(&self) {
        for bar in self.devices.lock().unwrap().values() {
            bar.finish_and_clear();
        }
    }
}

fn first_line(text: &str) -> String {
    text.lines()
        .next()
        .unwrap_or_default()
        .chars()
        .take(160)
        .collect()
}

fn position(step: Step) -> u64 {
    match step {
        Step::DownloadStarted | Step::Downloading => 2,
        Step::Downloaded => 3,
        Step::Verified => 4,
        Step::Staged => 5,
        Step::Stopped => 6,
        Step::Started => 7,
        Step::Healthy => 8,
        Step::Committed | Step::RolledBack | Step::Refused | Step::Failed => 10,
        _ => 1,
    }
}

/// The document's seven latency types, the slowest device per release.
fn print_table(stories: &[Story]) {
    println!(
        "\nLatency of each release in milliseconds, slowest of its devices (types as in the document):\n"
    );
    print!("{:<34}", "");
    for story in stories {
        print!("{:>14}", story.version);
    }
    println!();
    type Pick = fn(&Latencies) -> Option<f64>;
    let rows: [(&str, Pick); 9] = [
        ("1 download by the manager", |l| l.download),
        ("2 verification by the manager", |l| l.manager_verification),
        ("3 transmission to the device", |l| l.transmission),
        ("4 verification by the device", |l| l.device_verification),
        ("5 installation", |l| l.installation),
        ("6 restart", |l| l.restart),
        ("  total (sum of 1 to 6)", Latencies::total),
        ("7 actual total", |l| l.actual_total),
        ("  click (signing too) to healthy", |l| l.click_to_healthy),
    ];
    for (title, pick) in rows {
        print!("{title:<34}");
        for story in stories {
            let worst = story
                .latencies
                .values()
                .filter_map(pick)
                .fold(None, |worst: Option<f64>, value| {
                    Some(worst.map_or(value, |worst| worst.max(value)))
                });
            match worst {
                Some(value) => print!("{value:>14.1}"),
                None => print!("{:>14}", "-"),
            }
        }
        println!();
    }
    print!("{:<34}", "outcome");
    for story in stories {
        let kinds: BTreeSet<&String> = story.outcomes.values().collect();
        let text = kinds.into_iter().cloned().collect::<Vec<_>>().join(", ");
        print!("{text:>14}");
    }
    println!();
}

fn print_bad(stories: &[Story]) {
    for story in stories {
        let Some((device, outcome)) = story.outcomes.iter().find(|(_, outcome)| *outcome != "committed")
        else {
            continue;
        };
        let reason = story
            .reasons
            .get(device)
            .map_or("no reason was given", String::as_str);
        println!(
            "\n{} was {outcome} on {} of {} devices, because:",
            story.version,
            count(story),
            story.outcomes.len()
        );
        println!("  {}", reason.lines().collect::<Vec<_>>().join("\n  "));
        println!("  The version before it runs on.");
    }
}

fn count(story: &Story) -> usize {
    story
        .outcomes
        .values()
        .filter(|outcome| *outcome != "committed")
        .count()
}

/// Resident memory of the running programs, from the kernel.
fn footprint(site: &Site, agents: &[Agent]) {
    println!("\nResident memory now:");
    let programs = [
        ("repo-server", site.repository.as_ref()),
        ("manager", site.manager.as_ref()),
    ];
    let device = agents
        .first()
        .map(|agent| ("device agent", agent.program.as_ref()));
    for (name, program) in programs.into_iter().chain(device) {
        if let Some(kib) = program.and_then(|program| resident_kib(program.pid())) {
            println!("  {name:<14} {:>6.1} MB", kib / 1000.0);
        }
    }
}

fn resident_kib(pid: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

async fn keep(site: &Site, agents: &[Agent]) {
    let bins = e2e::process::bin_dir();
    println!(
        "\nStill running; press Ctrl-C to end it and remove {}.",
        site.dir.display()
    );
    println!("Try, in another terminal:");
    println!(
        "  {}/manager status --dir {}",
        bins.display(),
        site.path("manager").display()
    );
    println!(
        "  {}/manager devices --dir {}",
        bins.display(),
        site.path("manager").display()
    );
    println!(
        "  {}/admin-gui history --dir {}",
        bins.display(),
        site.path("author").display()
    );
    println!(
        "  curl --cacert {} https://{}:7100/   # the repository's page",
        site.path("manager/ca.pem").display(),
        site.address
    );
    for agent in agents {
        println!(
            "  curl http://127.0.0.1:{}/   # the thermostat of {}",
            agent.port, agent.name
        );
    }
    println!("The author's passphrase in this demo: {}", e2e::site::PASSPHRASE);
    // Ctrl-C ends the whole demonstration.
    std::future::pending::<()>().await;
}
