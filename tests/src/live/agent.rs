//! An agent for the broker as a process of its own, so that it can be killed too: the coordinator of `crates/handoff`
//! with just enough around it, told what to do line by line.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use handoff::{
    Desk, Journal, Outcome, Phase, Process, Starter, State, Successor, Terms, Transform, Unit, Update,
};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde::{Deserialize, Serialize};

use crate::process::bin;

/// How long anything may take that is not timed.
const LONG: Duration = Duration::from_secs(20);
/// How long the programs may stand still before the old ones go on.
const STILL: Duration = Duration::from_secs(5);

/// Who is killed, after which phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The phase, as its place in [`Phase::ALL`].
    pub phase: usize,
    /// Who.
    pub victim: Victim,
}

/// Whoever takes part in an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Victim {
    /// The agent.
    Agent,
    /// The broker that serves.
    Old,
    /// The broker that takes over.
    New,
}

#[derive(Debug, Serialize, Deserialize)]
enum Order {
    Start { version: u16 },
    Adopt,
    Update { to: u16, fault: Option<Fault> },
}

/// What the agent says to an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Told {
    /// This process serves.
    Serves {
        /// Its id.
        pid: i32,
        /// Its version.
        version: u16,
    },
    /// The new version serves.
    Committed {
        /// Its process.
        pid: i32,
        /// From when the old one stood still until the new one served, by the programs' own clocks, microseconds.
        pause_us: u64,
        /// From the question until the old one stood still, microseconds.
        stilled_us: u64,
        /// Each phase and when it was over, microseconds since the update began.
        phases: Vec<(String, u64)>,
    },
    /// The old version goes on.
    Resumed(String),
    /// No program serves: it has died.
    Nobody,
}

/// A program that was started, as the next agent finds it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Run {
    token: String,
    pid: i32,
    version: u16,
}

/// The agent, and whoever it started, seen from outside. All end with it.
#[derive(Debug)]
pub struct Agent {
    folder: PathBuf,
    port: u16,
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Agent {
    /// Starts an agent whose files, and the broker's, lie in `folder`; the broker listens on `port`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(folder: &Path, port: u16) -> Result<Self> {
        let (child, orders, answers) = spawn(folder, port)?;
        Ok(Self {
            folder: folder.to_owned(),
            port,
            child,
            orders,
            answers,
        })
    }

    /// Starts the first broker.
    ///
    /// # Errors
    /// It does not come up.
    pub fn serve(&mut self, version: u16) -> Result<i32> {
        match self.tell(&Order::Start { version })? {
            Some(Told::Serves { pid, .. }) => Ok(pid),
            other => bail!("the broker did not start: {other:?}"),
        }
    }

    /// Updates the broker; none: the agent died of it.
    ///
    /// # Errors
    /// Its answer cannot be read.
    pub fn update(&mut self, to: u16, fault: Option<Fault>) -> Result<Option<Told>> {
        self.tell(&Order::Update { to, fault })
    }

    /// A new agent in the place of one that died; finds who serves.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn again(&mut self) -> Result<()> {
        self.child.kill().ok();
        self.child.wait()?;
        (self.child, self.orders, self.answers) = spawn(&self.folder, self.port)?;
        Ok(())
    }

    /// Who serves now.
    ///
    /// # Errors
    /// The agent has died.
    pub fn adopt(&mut self) -> Result<Told> {
        self.tell(&Order::Adopt)?.context("the agent has died")
    }

    fn tell(&mut self, order: &Order) -> Result<Option<Told>> {
        writeln!(self.orders, "{}", serde_json::to_string(order)?)?;
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        Ok(Some(serde_json::from_str(&line)?))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        // Every program it ever started in this folder that is still there: brokers outlive their agent.
        for run in runs(&self.folder) {
            end(run.pid);
        }
    }
}

fn spawn(folder: &Path, port: u16) -> Result<(Child, ChildStdin, BufReader<ChildStdout>)> {
    let mut child = Command::new(bin("eval-live"))
        .arg("--agent")
        .arg(folder)
        .env("BROKER_LISTEN", format!("127.0.0.1:{port}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let orders = child.stdin.take().context("no standard input")?;
    let answers = child.stdout.take().context("no standard output")?;
    Ok((child, orders, BufReader::new(answers)))
}

fn runs(folder: &Path) -> Vec<Run> {
    let text = std::fs::read(folder.join("runs")).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

fn end(pid: i32) {
    let Some(pid) = Pid::from_raw(pid) else { return };
    kill_process(pid, Signal::KILL).ok();
    // Its parent, or init, takes its leave.
    let until = Instant::now() + LONG;
    while test_kill_process(pid).is_ok() && Instant::now() < until {
        std::thread::yield_now();
    }
}

/// The agent's process: orders on standard input, answers on standard output.
///
/// # Errors
/// Whatever an agent cannot go on with.
pub fn serve(folder: &Path) -> Result<()> {
    let mut world = World {
        desk: Desk::open(&folder.join("desk"))?,
        runs: runs(folder),
        folder: folder.to_owned(),
        count: 0,
    };
    for line in std::io::stdin().lines() {
        let told = match serde_json::from_str(&line?)? {
            Order::Start { version } => {
                let (mut child, run) = world.spawn(version, false)?;
                std::thread::spawn(move || child.wait());
                world.runs.push(run);
                world.write()?;
                world.adopt()?
            }
            Order::Adopt => world.adopt()?,
            Order::Update { to, fault } => world.update(to, fault)?,
        };
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", serde_json::to_string(&told)?)?;
        out.flush()?;
    }
    Ok(())
}

struct World {
    folder: PathBuf,
    desk: Desk,
    runs: Vec<Run>,
    count: usize,
}

impl World {
    fn write(&self) -> Result<()> {
        Ok(durable::replace(
            self.folder.join("runs"),
            serde_json::to_vec(&self.runs)?,
            0o600,
        )?)
    }

    fn spawn(&mut self, version: u16, successor: bool) -> Result<(Child, Run)> {
        self.count += 1;
        let token = format!("{}-{}", std::process::id(), self.count);
        self.desk.expect(&token);
        let mut command = Command::new(bin(&format!("broker-{version}")));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.env("DROVER_DATA", self.folder.join("data"));
        command
            .env(handoff::SOCKET, self.desk.path())
            .env(handoff::TOKEN, &token);
        if successor {
            command.env(handoff::ROLE, handoff::SUCCESSOR);
        }
        let child = command.spawn()?;
        let pid = i32::try_from(child.id())?;
        Ok((child, Run { token, pid, version }))
    }

    /// Whoever dials and serves is the broker; all others are gone, or go.
    fn adopt(&mut self) -> Result<Told> {
        for run in &self.runs {
            self.desk.expect(&run.token);
        }
        let until = Instant::now() + LONG;
        while Instant::now() < until {
            let lives = |run: &Run| Pid::from_raw(run.pid).is_some_and(|pid| test_kill_process(pid).is_ok());
            self.runs.retain(lives);
            if self.runs.is_empty() {
                return Ok(Told::Nobody);
            }
            for run in self.runs.clone() {
                let soon = Instant::now() + Duration::from_millis(5);
                let Some(guest) = self.desk.take(&run.token, soon) else {
                    continue;
                };
                let serving = guest.serving;
                self.desk.put(&run.token, guest);
                if serving {
                    self.runs = vec![run.clone()];
                    self.write()?;
                    let Run { pid, version, .. } = run;
                    return Ok(Told::Serves { pid, version });
                }
            }
        }
        bail!("no broker dials")
    }

    fn update(&mut self, to: u16, fault: Option<Fault>) -> Result<Told> {
        let old = self.runs.first().context("nothing runs")?.clone();
        let guest = self
            .desk
            .take(&old.token, Instant::now() + LONG)
            .context("the broker is not here")?;
        let terms = Terms {
            update: format!("update-{}", self.count),
            to: to.to_string(),
            nature: "data".into(),
            stillness: "unit".into(),
            start: LONG,
            ready: STILL,
            still: STILL,
            serve: LONG,
        };
        let (mut child, run) = self.spawn(to, true)?;
        self.runs.push(run.clone());
        self.write()?;
        let mut starter = Standing(self.desk.take(&run.token, Instant::now() + LONG).map(|guest| {
            let process = Box::new(Pidded(run.pid));
            std::thread::spawn(move || child.wait());
            Successor { guest, process }
        }));
        let transform = (old.version != to)
            .then(|| transform(old.version, to))
            .transpose()?;
        let unit = Unit {
            name: "broker".into(),
            old: guest,
            transform,
        };
        let mut notes = Notes(self.folder.join("notes"));
        let mut phases = Vec::new();
        let mut passed = |phase: Phase, after: Duration| {
            phases.push((format!("{phase:?}"), micros(after)));
            strike(phase, fault, old.pid, run.pid);
        };
        let (outcome, mut ended) = Update::run(terms, vec![unit], &mut notes, &mut starter, &mut passed);
        let ended = ended.pop().context("no unit")?;
        match outcome {
            Outcome::Committed => {
                let new = ended.new.context("nobody serves")?;
                self.runs = vec![run.clone()];
                self.write()?;
                self.desk.put(&run.token, new.guest);
                Ok(Told::Committed {
                    pid: run.pid,
                    pause_us: ended.pause.map_or(0, micros),
                    stilled_us: ended.stilled.map_or(0, micros),
                    phases,
                })
            }
            Outcome::Resumed { reason, .. } | Outcome::Refused { reason, .. } => {
                self.runs = vec![old.clone()];
                self.write()?;
                if let Some(guest) = ended.old {
                    self.desk.put(&old.token, guest);
                }
                Ok(Told::Resumed(reason))
            }
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Does the harm that is ordered.
fn strike(phase: Phase, fault: Option<Fault>, old: i32, new: i32) {
    let Some(fault) = fault.filter(|fault| Phase::ALL.get(fault.phase) == Some(&phase)) else {
        return;
    };
    let pid = match fault.victim {
        Victim::Agent => rustix::process::getpid().as_raw_pid(),
        Victim::Old => old,
        Victim::New => new,
    };
    if let Some(pid) = Pid::from_raw(pid) {
        kill_process(pid, Signal::KILL).ok();
    }
}

/// The package's program, started beforehand, makes one version's state of another's.
fn transform(from: u16, to: u16) -> Result<Transform> {
    let mut child = Command::new(bin("broker-transform"))
        .env("DROVER_SCHEMA_FROM", from.to_string())
        .env("DROVER_SCHEMA_TO", to.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut input = child.stdin.take();
    let mut child = Some(child);
    Ok(Box::new(move |state: &State, _| {
        let told = |error: std::io::Error| error.to_string();
        let (Some(mut input), Some(child)) = (input.take(), child.take()) else {
            return Err("it was asked twice".into());
        };
        input
            .write_all(&state.bytes().map_err(|e| e.to_string())?)
            .map_err(told)?;
        drop(input);
        let output = child.wait_with_output().map_err(told)?;
        if !output.status.success() {
            return Err("the transformation failed".into());
        }
        State::new(to.into(), &output.stdout).map_err(|e| e.to_string())
    }))
}

/// The new program, which stands by already.
struct Standing(Option<Successor>);

impl Starter for Standing {
    fn start(&mut self, _: &str, _: Instant) -> Result<Successor, String> {
        self.0.take().ok_or_else(|| "it does not report".into())
    }
}

struct Pidded(i32);

impl Process for Pidded {
    fn end(&mut self) {
        end(self.0);
    }
}

/// The agent's journal: a line each.
struct Notes(PathBuf);

impl Notes {
    fn line(&self, line: &str) -> Result<(), String> {
        let told = |error: std::io::Error| error.to_string();
        let file = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(&self.0);
        file.map_err(told)?
            .write_all(format!("{line}\n").as_bytes())
            .map_err(told)
    }
}

impl Journal for Notes {
    fn intend(&mut self, update: &str, _: &[String]) -> Result<(), String> {
        self.line(&format!("intend {update}"))
    }

    fn decide(&mut self, update: &str) -> Result<(), String> {
        self.line(&format!("decide {update}"))
    }

    fn end(&mut self, update: &str, outcome: &Outcome) {
        self.line(&format!("end {update} {outcome:?}")).ok();
    }
}
