//! The agent replaces itself: the real program, launched, against a manager that lives in this process.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use device::launcher::slots::{SlotRecord, Slots};
use device::launcher::{Place, Starter};
use device::machine::Life;
use device::world::{Point, World};
use durable::Files;
use protocol::Outcome;
use release::{Kind, Release};
use rustix::process::{Pid, Signal, kill_process};
use tuf::Digest;

use crate::cut::CutOnce;
use crate::repository::{good, script};
use crate::site::{Site, marked, wait_for};

const DEVICE: &str = env!("CARGO_BIN_EXE_device");

/// A release of the agent itself; what it is, its bytes say.
fn agent(version: &str, counter: u64) -> Release {
    Release {
        component: "drover-agent".parse().unwrap(),
        kind: Kind::Agent,
        file_name: "device".to_owned(),
        update_id: format!("{:032x}", 0xa0_0000 + counter),
        run: Some(release::Run::plain(release::How::Exec, "device".parse().unwrap())),
        start_seconds: 20,
        ..script(version, counter)
    }
}

/// A new agent: the same program behind a script, so that it has bytes of its own.
fn another(note: &str) -> Vec<u8> {
    format!("#!/bin/sh\n# {note}\nexec {DEVICE} \"$@\"\n").into_bytes()
}

/// One that begins only once the file `gate` is there.
fn gated(note: &str, gate: &Path) -> Vec<u8> {
    let gate = gate.display();
    format!("#!/bin/sh\n# {note}\nuntil [ -f {gate} ]; do sleep 0.02; done\nexec {DEVICE} \"$@\"\n")
        .into_bytes()
}

/// `device run` as a process of its own; dropped, it is killed.
struct Running(Child);

impl Running {
    fn start(site: &Site) -> Self {
        let log = std::fs::File::options()
            .append(true)
            .create(true)
            .open(site.dir.path().join("agent.log"))
            .unwrap();
        let mut command = Command::new(DEVICE);
        command
            .arg("run")
            .arg("--dir")
            .arg(site.layout().root())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0);
        Self(command.spawn().unwrap())
    }

    fn pid(&self) -> i32 {
        self.0.id().cast_signed()
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Asks it to end.
    async fn stop(mut self) -> i32 {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
        let status = wait_for("the end", || self.0.try_wait().unwrap()).await;
        status.code().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The agent that a launcher has started, by the mark that it gives it.
fn launched(site: &Site) -> Vec<i32> {
    marked(&site.layout().agent_slots())
}

fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).ok();
}

fn slots(site: &Site) -> Slots {
    SlotRecord::new(&Files::real(), &site.layout()).load().unwrap()
}

fn current(site: &Site) -> Option<Digest> {
    slots(site).current.map(|program| program.release)
}

fn starts(site: &Site) -> u32 {
    slots(site).trial.map_or(0, |trial| trial.starts)
}

fn log(site: &Site) -> String {
    std::fs::read_to_string(site.dir.path().join("agent.log")).unwrap()
}

/// A device with the application 1.0.0 on it, `device run`, and the pid of the application.
async fn device() -> (Site, Running, Vec<i32>) {
    let site = Site::new().await;
    site.enrolled().await;
    let running = Running::start(&site);
    let first = script("1.0.0", 1);
    site.publish(&first, &good("1.0.0"), None);
    site.ends_with(&first, Outcome::Committed).await;
    let programs = site.running();
    assert_eq!(programs.len(), 1);
    (site, running, programs)
}

/// The application is still updated, by whichever agent runs now.
async fn takes_another_release(site: &Site, counter: u64) {
    let next = script(&format!("1.{counter}.0"), counter);
    site.publish(&next, &good(&next.version.to_string()), Some("1.0.0"));
    site.ends_with(&next, Outcome::Committed).await;
}

#[tokio::test]
async fn a_new_agent_takes_over_while_programs_run_on_and_is_replaced_in_turn() {
    let (site, running, programs) = device().await;
    let own = running.pid();
    assert!(
        launched(&site).is_empty(),
        "no launcher before the first new agent"
    );

    let second = agent("2.0.0", 2);
    site.publish(&second, &another("two"), None);
    site.ends_with(&second, Outcome::Committed).await;
    assert_eq!(current(&site), Some(Digest::of(&another("two"))));
    assert_eq!(site.running(), programs, "{}", log(&site));
    let child = launched(&site);
    assert!(child.len() == 1 && child[0] != own, "{child:?}");

    // The real program with other bytes, and the way from one slot to the next.
    let mut bytes = std::fs::read(DEVICE).unwrap();
    bytes.push(b'\n');
    let third = agent("3.0.0", 3);
    site.publish(&third, &bytes, Some("2.0.0"));
    site.ends_with(&third, Outcome::Committed).await;
    assert_eq!(current(&site), Some(Digest::of(&bytes)));
    assert_eq!(site.running(), programs);
    assert_eq!(site.data("starts").lines().count(), 1, "never started again");
    assert_ne!(launched(&site), child);

    takes_another_release(&site, 4).await;
    assert_eq!(running.stop().await, 0);
    assert!(site.running().is_empty() && launched(&site).is_empty());

    // It starts where it ended.
    let running = Running::start(&site);
    wait_for("the program", || (site.running().len() == 1).then_some(())).await;
    assert_eq!(launched(&site).len(), 1);
    assert_eq!(running.stop().await, 0);
}

#[tokio::test]
async fn a_bad_agent_is_given_up_with_its_last_words_and_the_old_one_goes_on() {
    let (site, running, programs) = device().await;
    let mut arm = b"\x7fELF\x02\x01\x01".to_vec();
    arm.resize(18, 0);
    arm.extend([183, 0, 0, 0]);
    let bad: [(&str, Vec<u8>, &[&str]); 5] = [
        (
            "one that says no",
            b"#!/bin/sh\necho 'no licence' >&2\nexit 1\n".to_vec(),
            &["code 1", "no licence", "delivered with runs again"],
        ),
        (
            "one that hangs",
            b"#!/bin/sh\nexec sleep 1000\n".to_vec(),
            &["had not taken over within 2 s"],
        ),
        (
            "one that crashes again and again",
            b"#!/bin/sh\nsleep 0.2\necho 'out of bounds' >&2\nkill -ABRT $$\n".to_vec(),
            &["signal 6", "started 3 times", "out of bounds"],
        ),
        (
            "one that nothing here can start",
            b"#!/not/there\n".to_vec(),
            &["cannot be started on this machine"],
        ),
        ("one for another processor", arm, &["aarch64"]),
    ];
    for (number, (what, bytes, says)) in bad.iter().enumerate() {
        let counter = number as u64 + 2;
        let mut release = agent(&format!("{counter}.0.0"), counter);
        release.start_seconds = 2;
        site.publish(&release, bytes, None);
        let report = site.ended(&release).await;
        let expected = if what.contains("processor") {
            Outcome::Failed
        } else {
            Outcome::RolledBack
        };
        let reason = report.reason.clone().unwrap_or_default();
        assert_eq!(report.outcome, Some(expected), "{what}: {reason}\n{}", log(&site));
        for word in *says {
            assert!(reason.contains(word), "{what}: {reason}");
        }
        assert_eq!(site.running(), programs, "{what}");
    }
    assert!(current(&site).is_none() && slots(&site).trial.is_none());
    takes_another_release(&site, 9).await;
    // The delivered agent needs no launcher.
    assert!(launched(&site).is_empty());
    assert_eq!(running.stop().await, 0);
}

#[tokio::test]
async fn launcher_and_agent_may_be_killed_at_every_step_of_a_switch() {
    let (site, running, programs) = device().await;
    let gate = site.dir.path().join("gate");
    let bytes = gated("gate", &gate);
    let mut second = agent("2.0.0", 2);
    second.start_seconds = 60;
    second.probation_seconds = 3;
    site.publish(&second, &bytes, None);
    wait_for("the trial", || {
        (starts(&site) == 1 && launched(&site).len() == 1).then_some(())
    })
    .await;

    // The launcher alone: what it had started does not outlive the next one.
    let orphan = launched(&site)[0];
    running.kill();
    let running = Running::start(&site);
    wait_for("the next start", || {
        (starts(&site) == 2 && launched(&site).first().is_some_and(|pid| *pid != orphan)).then_some(())
    })
    .await;

    // The agent alone.
    kill(launched(&site)[0]);
    wait_for("the last start", || (starts(&site) == 3).then_some(())).await;
    std::fs::write(&gate, "").unwrap();
    wait_for("the probation", || {
        slots(&site).trial.is_some_and(|trial| trial.alive).then_some(())
    })
    .await;
    assert_eq!(site.running(), programs);
    site.ends_with(&second, Outcome::Committed).await;

    // After the commit: each alone, then both.
    kill(launched(&site)[0]);
    wait_for("another agent", || (launched(&site).len() == 1).then_some(())).await;
    let before = launched(&site);
    running.kill();
    wait_for("no agent", || launched(&site).is_empty().then_some(())).await;
    let running = Running::start(&site);
    wait_for("the agent", || {
        (launched(&site).len() == 1 && launched(&site) != before).then_some(())
    })
    .await;
    kill(launched(&site)[0]);
    running.kill();
    let running = Running::start(&site);
    wait_for("the agent", || (launched(&site).len() == 1).then_some(())).await;
    assert_eq!(site.running(), programs, "{}", log(&site));
    takes_another_release(&site, 5).await;
    assert_eq!(running.stop().await, 0);
}

/// Both are cut in the middle of the proof: the trial goes on from the record.
#[tokio::test]
async fn a_cut_while_a_new_agent_proves_itself_is_finished_and_too_many_are_undone() {
    let (site, mut running, programs) = device().await;
    let mut second = agent("2.0.0", 2);
    second.probation_seconds = 2;
    site.publish(&second, &another("cut once"), None);
    let alive = |site: &Site| slots(site).trial.is_some_and(|trial| trial.alive).then_some(());
    wait_for("the probation", || alive(&site)).await;
    running.kill();
    running = Running::start(&site);
    site.ends_with(&second, Outcome::Committed).await;

    let mut third = agent("3.0.0", 3);
    third.probation_seconds = 60;
    site.publish(&third, &another("cut for ever"), Some("2.0.0"));
    for start in 1..=3 {
        wait_for("the probation", || {
            (starts(&site) == start).then(|| alive(&site))?
        })
        .await;
        running.kill();
        running = Running::start(&site);
    }
    let report = site.ends_with(&third, Outcome::RolledBack).await;
    let reason = report.reason.unwrap();
    assert!(
        reason.contains("started 3 times on trial; 2.0.0 runs again"),
        "{reason}"
    );
    assert_eq!(current(&site), Some(Digest::of(&another("cut once"))));
    assert_eq!(site.running(), programs);
    assert_eq!(running.stop().await, 0);
}

#[tokio::test]
async fn the_file_of_an_agent_is_checked_before_each_start_and_the_one_before_stands_in() {
    let (site, running, programs) = device().await;
    for (counter, before) in [(2, None), (3, Some("2.0.0"))] {
        let release = agent(&format!("{counter}.0.0"), counter);
        site.publish(&release, &another(&format!("agent {counter}")), before);
        site.ends_with(&release, Outcome::Committed).await;
    }
    running.kill();
    let third = Digest::of(&another("agent 3"));
    let file = site.layout().release(&third).join("payload/device");
    std::fs::write(&file, b"#!/bin/sh\ntouch /tmp/never\n").unwrap();
    let running = Running::start(&site);
    // Told under the id of the release that is gone.
    let report = wait_for("the report", || {
        let reports = site.manager.reports.lock().unwrap();
        let back = reports
            .iter()
            .find(|report| report.outcome == Some(Outcome::RolledBack));
        back.cloned()
    })
    .await;
    assert_eq!(report.update, Some(agent("3.0.0", 3).update_id.parse().unwrap()));
    let reason = report.reason.unwrap();
    assert!(
        reason.contains("was changed on this disk; 2.0.0 runs again"),
        "{reason}"
    );
    assert_eq!(current(&site), Some(Digest::of(&another("agent 2"))));
    assert_eq!(site.running(), programs);
    assert_eq!(running.stop().await, 0);
}

#[tokio::test]
async fn a_device_has_one_agent_and_only_a_run_replaces_it() {
    let (site, running, _) = device().await;
    let second = agent("2.0.0", 2);
    site.publish(&second, &another("two"), None);
    site.ends_with(&second, Outcome::Committed).await;
    let mut other = agent("3.0.0", 3);
    other.component = "second-agent".parse().unwrap();
    site.publish(&other, &another("three"), None);
    let report = site.ends_with(&other, Outcome::Refused).await;
    assert!(report.reason.unwrap().contains("drover-agent already"));
    assert_eq!(running.stop().await, 0);

    // `device apply` goes on as the agent that was installed, and leaves it in place.
    let third = agent("3.0.0", 4);
    site.publish(&third, &another("four"), Some("2.0.0"));
    let applied = tokio::process::Command::new(DEVICE)
        .args(["apply", "--once", "--json", "--dir"])
        .arg(site.layout().root())
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&applied.stdout).into_owned();
    assert_eq!(applied.status.code(), Some(11), "{said}");
    assert!(said.contains("device run") && said.contains("--once"), "{said}");
    assert_eq!(current(&site), Some(Digest::of(&another("two"))));
    site.end_programs();
}

#[tokio::test]
async fn the_old_agent_may_be_cut_at_every_point_before_it_gives_its_place_up() {
    let site = Site::new().await;
    let (old, _) = site.with_first_version().await;
    old.cut_off().await;
    let programs = site.running();
    let points = [
        Point::AfterWriting("staged"),
        Point::BeforeWriting("switching"),
        Point::AfterWriting("switching"),
        Point::After("stop"),
    ];
    let mut before: Option<String> = None;
    for (number, point) in points.into_iter().enumerate() {
        let counter = number as u64 + 2;
        let world = World {
            cut: CutOnce::at(point),
            place: Place {
                slot: current(&site),
                starter: Starter::Itself,
            },
            ..World::system()
        };
        let cut = site.agent_in(world).await;
        let release = agent(&format!("{counter}.0.0"), counter);
        let bytes = another(&format!("after {point:?}"));
        site.publish(&release, &bytes, before.as_deref());
        cut.until_cut().await;
        cut.cut_off().await;
        let running = Running::start(&site);
        site.ends_with(&release, Outcome::Committed).await;
        assert_eq!(current(&site), Some(Digest::of(&bytes)), "{point:?}");
        running.kill();
        wait_for("no agent", || launched(&site).is_empty().then_some(())).await;
        before = Some(release.version.to_string());
    }
    assert_eq!(site.running(), programs);
    let end = site.agent().await;
    let life = end.hub.generation.slot(&agent("1.0.0", 1).component).life;
    assert!(matches!(life, Life::Idle | Life::Ended(_)), "{life:?}");
    end.cut_off().await;
    let _: PathBuf = site.layout().agent_slots();
}

/// With neither copy nobody knows which agent was installed: the first one runs, says so, and can be replaced again.
#[tokio::test]
async fn an_agent_record_lost_in_both_copies_is_begun_anew() {
    let site = Site::new().await;
    let layout = site.enrolled().await;
    site.agent().await.cut_off().await;
    for path in [layout.agent_slots(), layout.state().join("agent.copy.rec")] {
        std::fs::write(path, "torn").unwrap();
    }
    let agent = site.agent().await;
    let trouble = agent.hub.status().trouble.unwrap();
    assert!(
        trouble.contains("agent.rec") && trouble.contains("begun anew"),
        "{trouble}"
    );
    assert_eq!(agent.hub.slots.load().unwrap(), Slots::default());
}

#[tokio::test]
async fn settings_that_cannot_be_used_are_named_and_nobody_is_told_to_enrol() {
    let site = Site::new().await;
    let layout = site.enrolled().await;
    let text = std::fs::read_to_string(layout.settings()).unwrap();
    let begun = async |wrong: &str| {
        std::fs::write(layout.settings(), format!("{text}\n[install]\n{wrong}\n")).unwrap();
        let error = site.try_agent_in(World::system()).await.unwrap_err();
        format!("{error:#}")
    };
    let unknown = begun("modee = \"notify\"").await;
    assert!(
        unknown.contains("correct them") && unknown.contains("settings for all are mode"),
        "{unknown}"
    );
    let lock = begun("interlocks = [\"../door\"]").await;
    assert!(lock.contains("../door") && !lock.contains("enroll"), "{lock}");
}
