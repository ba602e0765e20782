//! An agent as small as can be: it starts, adopts and updates one program, told what to do line by line.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use handoff::{
    Desk, Journal, Outcome, Phase, Process, Starter, State, Successor, Terms, Transform, Unit, Update,
};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde::{Deserialize, Serialize};

const LONG: Duration = Duration::from_secs(20);
/// In this process's environment: it is an agent, and this is its folder.
const FOLDER: &str = "TEST_AGENT_FOLDER";

/// One version of the counter.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Version {
    pub(crate) argv: Vec<String>,
    pub(crate) schema: u32,
}

/// Who is killed or stopped, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Fault {
    Kill(Victim),
    /// The agent stands still until there is a file `go` in its folder.
    Stop,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Victim {
    Agent,
    Old,
    New,
}

/// What an agent is told.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    Start(Version),
    Adopt,
    Update {
        to: Version,
        fault: Option<(usize, Fault)>,
        still_ms: u64,
    },
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    Serves { pid: i32, schema: u32 },
    Committed { pause_us: u64 },
    Resumed(String),
}

/// A program that was started, as the next agent finds it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Run {
    token: String,
    pid: i32,
    schema: u32,
}

/// What is on the agent's disk.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Disk {
    runs: Vec<Run>,
}

/// The agent, seen from the test.
pub(crate) struct Agent {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Agent {
    pub(crate) fn start(folder: &Path, port: u16) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "agent::an_agent", "--nocapture", "--quiet"])
            .env(FOLDER, folder)
            .env("COUNTER_PORT", port.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            orders: child.stdin.take().unwrap(),
            answers: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    /// Tells it something; none: it died of it.
    pub(crate) fn tell(&mut self, order: &Order) -> Option<Answer> {
        self.order(order);
        self.answer()
    }

    pub(crate) fn order(&mut self, order: &Order) {
        writeln!(self.orders, "{}", serde_json::to_string(order).unwrap()).unwrap();
    }

    pub(crate) fn answer(&mut self) -> Option<Answer> {
        loop {
            let mut line = String::new();
            if self.answers.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            // The test harness of that process has things to say too.
            if let Some(answer) = line.trim().strip_prefix("answer ") {
                return Some(serde_json::from_str(answer).unwrap());
            }
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().unwrap();
    }
}

/// Not a test: the agent's process, which is this program once more.
#[test]
fn an_agent() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else {
        return;
    };
    let mut world = World::open(&folder);
    for line in std::io::stdin().lines() {
        let answer = match serde_json::from_str(&line.unwrap()).unwrap() {
            Order::Start(version) => world.start_first(&version),
            Order::Adopt => world.adopt(),
            Order::Update { to, fault, still_ms } => {
                world.update(&to, fault, Duration::from_millis(still_ms))
            }
        };
        println!("\nanswer {}", serde_json::to_string(&answer).unwrap());
    }
    std::process::exit(0);
}

/// What an agent has.
struct World {
    folder: PathBuf,
    desk: Desk,
    disk: Disk,
    count: usize,
}

impl World {
    fn open(folder: &Path) -> Self {
        let text = std::fs::read(folder.join("disk")).unwrap_or_default();
        Self {
            folder: folder.to_owned(),
            desk: Desk::open(&folder.join("desk")).unwrap(),
            disk: serde_json::from_slice(&text).unwrap_or_default(),
            count: 0,
        }
    }

    fn write(&self) {
        let next = self.folder.join("disk.new");
        std::fs::write(&next, serde_json::to_vec(&self.disk).unwrap()).unwrap();
        std::fs::rename(next, self.folder.join("disk")).unwrap();
    }

    fn spawn(&mut self, version: &Version, successor: bool) -> (Child, Run) {
        self.count += 1;
        let token = format!("{}-{}", std::process::id(), self.count);
        self.desk.expect(&token);
        let mut command = Command::new(&version.argv[0]);
        command
            .args(&version.argv[1..])
            .env_remove(FOLDER)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
            .env(handoff::SOCKET, self.desk.path())
            .env(handoff::TOKEN, &token);
        if successor {
            command.env(handoff::ROLE, handoff::SUCCESSOR);
        }
        let child = command.spawn().unwrap();
        let run = Run {
            token,
            pid: child.id().try_into().unwrap(),
            schema: version.schema,
        };
        (child, run)
    }

    fn start_first(&mut self, version: &Version) -> Answer {
        let (_, run) = self.spawn(version, false);
        self.disk.runs = vec![run];
        self.write();
        self.adopt()
    }

    /// Whoever dials and serves is the program; all others are gone, or go.
    fn adopt(&mut self) -> Answer {
        for run in &self.disk.runs {
            self.desk.expect(&run.token);
        }
        let until = Instant::now() + LONG;
        while Instant::now() < until {
            for run in self.disk.runs.clone() {
                let soon = Instant::now() + Duration::from_millis(10);
                let Some(guest) = self.desk.take(&run.token, soon) else {
                    continue;
                };
                assert!(guest.serving, "a successor does not outlive its agent's decision");
                assert_eq!(guest.pid, run.pid);
                self.desk.put(&run.token, guest);
                self.disk.runs = vec![run.clone()];
                self.write();
                return Answer::Serves {
                    pid: run.pid,
                    schema: run.schema,
                };
            }
        }
        panic!("no program dials");
    }

    fn update(&mut self, to: &Version, fault: Option<(usize, Fault)>, still: Duration) -> Answer {
        let old = self.disk.runs[0].clone();
        let guest = self.desk.take(&old.token, Instant::now() + LONG).unwrap();
        let terms = Terms {
            update: format!("u-{}", self.count),
            to: to.schema.to_string(),
            nature: "data".into(),
            stillness: "unit".into(),
            start: LONG,
            ready: still,
            still,
            serve: LONG,
        };
        let (mut child, run) = self.spawn(to, true);
        let new_pid = run.pid;
        self.disk.runs.push(run.clone());
        self.write();
        let token = run.token.clone();
        let mut starter = Given(self.desk.take(&token, Instant::now() + LONG).map(|guest| {
            let process = Box::new(Killed(child.id().try_into().unwrap()));
            std::thread::spawn(move || child.wait());
            Successor { guest, process }
        }));
        let transform: Option<Transform> =
            (old.schema != to.schema).then(|| transform(old.schema, to.schema));
        let unit = Unit {
            name: "counter".into(),
            old: guest,
            transform,
        };
        let mut journal = Lines(self.folder.join("journal"));
        let go = self.folder.join("go");
        let mut passed = |phase: Phase, _| strike(phase, fault, old.pid, new_pid, &go);
        let (outcome, mut ended) = Update::run(terms, vec![unit], &mut journal, &mut starter, &mut passed);
        let ended = ended.remove(0);
        match outcome {
            Outcome::Committed => {
                self.disk.runs = vec![run];
                self.write();
                self.desk.put(&token, ended.new.unwrap().guest);
                let pause = ended.pause.unwrap().as_micros();
                Answer::Committed {
                    pause_us: pause.try_into().unwrap(),
                }
            }
            Outcome::Resumed { reason, .. } => {
                self.disk.runs = vec![old.clone()];
                self.write();
                if let Some(guest) = ended.old {
                    self.desk.put(&old.token, guest);
                }
                Answer::Resumed(reason)
            }
            Outcome::Refused { .. } => panic!("the counter refuses nothing"),
        }
    }
}

/// Does the harm that is ordered.
fn strike(phase: Phase, fault: Option<(usize, Fault)>, old: i32, new: i32, go: &Path) {
    let Some((at, fault)) = fault else { return };
    if Phase::ALL[at] != phase {
        return;
    }
    let own = rustix::process::getpid().as_raw_pid();
    let pid = match fault {
        Fault::Kill(Victim::Agent) => own,
        Fault::Kill(Victim::Old) => old,
        Fault::Kill(Victim::New) => new,
        Fault::Stop => {
            std::fs::write(go.with_extension("waits"), "").unwrap();
            while !go.exists() {
                std::thread::sleep(Duration::from_millis(1));
            }
            return;
        }
    };
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

/// The package's program makes one schema of another.
fn transform(from: u32, to: u32) -> Transform {
    let mut child = Command::new(env!("CARGO_BIN_EXE_counter-transform"))
        .env("DROVER_SCHEMA_FROM", from.to_string())
        .env("DROVER_SCHEMA_TO", to.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take();
    let mut child = Some(child);
    Box::new(move |state: &State, _| {
        assert_eq!(state.schema(), from);
        stdin.take().unwrap().write_all(&state.bytes().unwrap()).unwrap();
        let output = child.take().unwrap().wait_with_output().unwrap();
        State::new(to, &output.stdout).map_err(|error| error.to_string())
    })
}

struct Given(Option<Successor>);

impl Starter for Given {
    fn start(&mut self, _: &str, _: Instant) -> Result<Successor, String> {
        self.0.take().ok_or_else(|| "it does not report".into())
    }
}

struct Killed(i32);

impl Process for Killed {
    fn end(&mut self) {
        let pid = Pid::from_raw(self.0).unwrap();
        kill_process(pid, Signal::KILL).ok();
        // Its parent, or init, takes its leave.
        while test_kill_process(pid).is_ok() {
            std::thread::yield_now();
        }
    }
}

struct Lines(PathBuf);

impl Lines {
    fn line(&self, line: &str) {
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(&self.0)
            .unwrap();
        file.write_all(format!("{line}\n").as_bytes()).unwrap();
    }
}

impl Journal for Lines {
    fn intend(&mut self, update: &str, _: &[String]) -> Result<(), String> {
        self.line(&format!("intend {update}"));
        Ok(())
    }
    fn decide(&mut self, update: &str) -> Result<(), String> {
        self.line(&format!("decide {update}"));
        Ok(())
    }
    fn end(&mut self, update: &str, outcome: &Outcome) {
        self.line(&format!("end {update} {outcome:?}"));
    }
}
