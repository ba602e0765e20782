//! Every system call by which an install or a roll back changes something: the agent is killed there, or the call fails.
//!
//! `strace` counts the calls of each name and thread, so one run tells which there are, and each further run meets one of
//! them. What was met is read from the trace, not believed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::kills::PER_SITE;
use super::rig::Rig;
use super::{Fault, Plan, Row, Trial, choose};
use crate::draws::Draws;

/// Calls that change files.
const FILES: [&str; 26] = [
    "write",
    "pwrite64",
    "writev",
    "openat",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "rmdir",
    "fsync",
    "fdatasync",
    "syncfs",
    "sync_file_range",
    "ftruncate",
    "fallocate",
    "mkdir",
    "mkdirat",
    "link",
    "linkat",
    "symlinkat",
    "chmod",
    "fchmod",
    "fchmodat",
    "copy_file_range",
    "sendfile",
];
/// Calls that start and end programs.
const PROCESSES: [&str; 6] = ["kill", "tgkill", "pidfd_send_signal", "clone3", "vfork", "clone"];
/// Calls that only read.
const READS: [&str; 3] = ["read", "pread64", "getdents64"];

/// Points that are tried for each that is asked for, at most.
const STAND_INS: usize = 5;

/// What happens at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Injury {
    Kill,
    Error(&'static str),
}

impl Injury {
    fn word(self) -> String {
        match self {
            Self::Kill => "signal=SIGKILL".to_owned(),
            Self::Error(name) => format!("error={name}"),
        }
    }
}

/// The n-th call of its name in its thread.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Point {
    name: String,
    nth: usize,
}

/// A call in a trace.
#[derive(Debug, Clone)]
struct Call {
    point: Point,
    /// Name and file, without what differs from run to run.
    label: String,
    /// Whether it is about something in the device's folder.
    inside: bool,
    /// Whether the tracer made it fail.
    injected: bool,
}

/// The calls of a trace, as `strace -f -y` writes it, in their order.
fn calls(trace: &str, dir: &Path) -> Vec<Call> {
    let dir = dir.display().to_string();
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut newest: BTreeMap<String, usize> = BTreeMap::new();
    let mut found: Vec<Call> = Vec::new();
    for line in trace.lines() {
        let Some((thread, rest)) = line.split_once(' ') else {
            continue;
        };
        let rest = rest.trim_start();
        let injected = rest.contains("(INJECTED)");
        if rest.starts_with("<...") {
            if let Some(call) = newest.get(thread).and_then(|at| found.get_mut(*at)) {
                call.injected |= injected;
            }
            continue;
        }
        let Some((name, _)) = rest.split_once('(').filter(|(name, _)| !name.contains(' ')) else {
            continue;
        };
        let count = counts.entry((thread.to_owned(), name.to_owned())).or_default();
        *count += 1;
        newest.insert(thread.to_owned(), found.len());
        found.push(Call {
            point: Point {
                name: name.to_owned(),
                nth: *count,
            },
            label: label(name, rest, &dir),
            inside: rest.contains(&dir),
            injected,
        });
    }
    found
}

/// A call's name and the file that it is about: of a rename the new name.
fn label(name: &str, line: &str, dir: &str) -> String {
    let at = if name.starts_with("rename") {
        line.rfind(dir)
    } else {
        line.find(dir)
    };
    let path = at.map_or("", |at| {
        let rest = &line[at + dir.len()..];
        rest.split(['"', '>']).next().unwrap_or_default()
    });
    let mut general = String::new();
    for part in path.split_inclusive(['/', '.', '-', '_']) {
        let word = part.trim_end_matches(['/', '.', '-', '_']);
        let differs = word.len() > 3 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        general.push_str(if differs { "N" } else { word });
        general.push_str(&part[word.len()..]);
    }
    format!("{name} {general}")
}

/// The points of a run at which `wanted` is true of some thread's call.
fn points(calls: &[Call], wanted: impl Fn(&Call) -> bool) -> Vec<Point> {
    let points: BTreeSet<Point> = calls
        .iter()
        .filter(|call| wanted(call))
        .map(|call| call.point.clone())
        .collect();
    points.into_iter().collect()
}

fn changes(call: &Call) -> bool {
    let name = call.point.name.as_str();
    PROCESSES.contains(&name) || (FILES.contains(&name) && call.inside)
}

/// One run of the agent under the tracer.
async fn traced(rig: &Rig, log: &Path, injection: Option<(&Point, Injury)>) -> (crate::Output, Vec<Call>) {
    // A name with a question mark need not exist on this processor.
    let all = FILES.iter().chain(&PROCESSES).chain(&READS);
    let names: Vec<String> = all.map(|name| format!("?{name}")).collect();
    let mut words: Vec<String> = ["strace", "-f", "-qq", "-y", "-b", "execve", "-s", "0", "-o"]
        .map(str::to_owned)
        .into();
    words.push(log.display().to_string());
    words.extend(["-e".to_owned(), format!("trace={}", names.join(","))]);
    if let Some((point, injury)) = injection {
        let Point { name, nth } = point;
        words.extend([
            "-e".to_owned(),
            format!("inject={name}:{}:when={nth}", injury.word()),
        ]);
    }
    let output = rig.apply(&words).await;
    let trace = std::fs::read(log).unwrap_or_default();
    (output, calls(&String::from_utf8_lossy(&trace), &rig.device.dir))
}

/// A row: what happens to which calls of which releases.
struct Subject {
    id: &'static str,
    what: &'static str,
    good: bool,
    injury: Injury,
    wanted: fn(&Call) -> bool,
}

const SUBJECTS: [Subject; 6] = [
    Subject {
        id: "kill-install",
        what: "kill -9 at every changing system call of an install",
        good: true,
        injury: Injury::Kill,
        wanted: changes,
    },
    Subject {
        id: "kill-rollback",
        what: "kill -9 at every changing system call of a roll back",
        good: false,
        injury: Injury::Kill,
        wanted: changes,
    },
    Subject {
        id: "eio-install",
        what: "EIO from every changing call of an install",
        good: true,
        injury: Injury::Error("EIO"),
        wanted: |call| call.inside && FILES.contains(&call.point.name.as_str()),
    },
    Subject {
        id: "eio-read",
        what: "EIO from every reading call of an install",
        good: true,
        injury: Injury::Error("EIO"),
        wanted: |call| call.inside && READS.contains(&call.point.name.as_str()),
    },
    Subject {
        id: "eio-rollback",
        what: "EIO from every changing call of a roll back",
        good: false,
        injury: Injury::Error("EIO"),
        wanted: |call| call.inside && FILES.contains(&call.point.name.as_str()),
    },
    Subject {
        id: "enospc-install",
        what: "ENOSPC from every changing call of an install",
        good: true,
        injury: Injury::Error("ENOSPC"),
        wanted: |call| {
            let needs_no_room = ["unlink", "unlinkat", "rmdir", "chmod", "fchmod", "fchmodat"];
            let name = call.point.name.as_str();
            call.inside && FILES.contains(&name) && !needs_no_room.contains(&name)
        },
    },
];

pub(super) async fn run(plan: Plan, take: &mut impl FnMut(Row)) {
    let asked = tokio::process::Command::new("strace")
        .arg("--version")
        .output()
        .await;
    let traces = asked.is_ok_and(|asked| asked.status.success());
    let mut bench = None;
    for (number, subject) in (0..).zip(&SUBJECTS) {
        if !traces {
            take(Row::skipped(
                subject.id,
                subject.what,
                "strace is not on this machine",
            ));
            continue;
        }
        let mut draws = Draws(plan.seed ^ (0x7379_7363 + number));
        if plan.points == Some(0) {
            take(Row::new(subject.id, subject.what));
            continue;
        }
        let bench = match &mut bench {
            Some(bench) => bench,
            None => bench.insert(Bench::new().await),
        };
        take(row(subject, bench, plan.points, &mut draws).await);
    }
}

/// A device that is used for several rows, but not for ever.
struct Bench {
    rig: Rig,
    used: usize,
}

impl Bench {
    async fn new() -> Self {
        let rig = Rig::new(None).await;
        Self { rig, used: 0 }
    }

    async fn next(&mut self) -> &mut Rig {
        if self.used == PER_SITE {
            *self = Self::new().await;
        }
        self.used += 1;
        &mut self.rig
    }
}

async fn row(subject: &Subject, bench: &mut Bench, bound: Option<usize>, draws: &mut Draws) -> Row {
    let mut row = Row::new(subject.id, subject.what);
    let folder = tempfile::tempdir().expect("temporary folder");
    let log = folder.path().join("trace");
    let rig = bench.next().await;
    let before = rig.before();
    let release = rig.publish(subject.good).await;
    let (_, calls) = traced(rig, &log, None).await;
    let mut undisturbed = Trial::default();
    rig.recover_once(release, Some(&before), &mut undisturbed).await;
    assert!(
        undisturbed.faults.is_empty(),
        "undisturbed: {:?}",
        undisturbed.faults
    );
    let all = points(&calls, subject.wanted);
    assert!(!all.is_empty(), "the trace shows no call");
    // Threads share the calls anew in each run, so some points are not met: others stand in for them.
    let mut candidates = choose(&all, bound.map(|bound| bound * STAND_INS), draws);
    if bound.is_some() {
        for place in (1..candidates.len()).rev() {
            candidates.swap(place, draws.below(place + 1));
        }
    }
    for point in candidates {
        if bound.is_some_and(|bound| row.tried >= bound) {
            break;
        }
        let rig = bench.next().await;
        if let Some(trial) = injure(rig, subject, &point, &log).await {
            row.note(trial);
        }
    }
    // Whatever failed, the next release gets there.
    let rig = bench.next().await;
    let (before, release) = (rig.before(), rig.publish(true).await);
    let mut last = Trial::at("the next release");
    rig.recover_once(release, Some(&before), &mut last).await;
    if !last.faults.is_empty() {
        row.note(last);
    }
    row
}

/// None: the run did not come to that call, or it was about something else this time.
async fn injure(rig: &mut Rig, subject: &Subject, point: &Point, log: &Path) -> Option<Trial> {
    let before = rig.before();
    let release = rig.publish(subject.good).await;
    let (output, calls) = traced(rig, log, Some((point, subject.injury))).await;
    let hit = match subject.injury {
        // A signal ended the tracer too: it takes the way of what it traced.
        Injury::Kill if output.code == -1 => calls.iter().rev().find(|call| call.point.name == point.name),
        Injury::Kill => None,
        // Each thread has an n-th call: what is no file must not fail as a file does.
        Injury::Error(_) if !calls.iter().all(|call| call.inside || !call.injected) => None,
        Injury::Error(_) => calls.iter().find(|call| call.injected && (subject.wanted)(call)),
    };
    let mut trial = Trial::at(hit.map_or("elsewhere", |hit| hit.label.as_str()));
    let counted = hit.is_some();
    if counted {
        if subject.injury != Injury::Kill {
            rig.sane(&output, &mut trial);
            if rig.running().len() != 1 {
                trial.fault(
                    Fault::NoVersion,
                    format!("{:?} runs after the failed call", rig.running()),
                );
            }
        }
        rig.hold(release, &before, &mut trial);
    }
    // Refused because it failed, rolled back, failed: it is not ordered again at once.
    let failed = !counted || (subject.injury != Injury::Kill && matches!(output.code, 11..=13));
    let found = trial.faults.len();
    rig.recover_from(release, Some(&before), failed, &mut trial).await;
    for (_, what) in trial.faults.iter_mut().skip(found) {
        what.push_str(&format!(
            "; the run that was hit ended with {}: {}",
            output.code,
            output.stdout.trim()
        ));
    }
    counted.then_some(trial)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "\
7 openat(AT_FDCWD</>, \"/d/state/generation.rec.tmp\", O_WRONLY) = 3</d/state/generation.rec.tmp>
7 write(3</d/state/generation.rec.tmp>, \"\"..., 9) = 9
8 write(5<anon_inode:[eventfd]>, \"\"..., 8) = 8
8 write(6</d/releases/0123abcd/payload/run.sh>, \"\"..., 8 <unfinished ...>
7 rename(\"/d/state/generation.rec.tmp\", \"/d/state/generation.rec\") = 0
8 <... write resumed>) = -1 EIO (Input/output error) (INJECTED)
8 +++ killed by SIGKILL +++
";

    #[test]
    fn a_trace_tells_what_was_met_by_thread() {
        let calls = calls(TRACE, Path::new("/d"));
        let said: Vec<(&str, usize, bool, bool)> = calls
            .iter()
            .map(|call| (call.label.as_str(), call.point.nth, call.inside, call.injected))
            .collect();
        assert_eq!(
            said,
            [
                ("openat /state/generation.rec.tmp", 1, true, false),
                ("write /state/generation.rec.tmp", 1, true, false),
                ("write ", 1, false, false),
                ("write /releases/N/payload/run.sh", 2, true, true),
                ("rename /state/generation.rec", 1, true, false),
            ]
        );
        let writes = points(&calls, |call| call.inside && call.point.name == "write");
        assert_eq!(
            writes.len(),
            2,
            "the first of one thread, the second of the other"
        );
    }
}
