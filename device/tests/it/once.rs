//! One bounded run: what it does, how it says so, and what it leaves running.

use std::process::Output;
use std::time::Duration;

use device::machine::Life;
use device::once::{Applied, Bounds, Result, apply};
use device::world::World;
use protocol::control::DeviceEvent;
use protocol::{Outcome, Step};

use crate::repository::{good, script, sick};
use crate::site::{Site, component, wait_for};

const BOUNDS: Bounds = Bounds {
    answer: Duration::from_secs(30),
    whole: Duration::from_secs(60),
    reports: Duration::from_secs(10),
};

/// One run of an agent in this process.
async fn run(site: &Site, bounds: Bounds) -> Applied {
    let agent = site.agent().await;
    let applied = apply(&agent.hub, bounds).await;
    agent.cut_off().await;
    applied
}

/// Version 1.0.0 runs, and nothing is under way any more.
async fn with_first_version(site: &Site) {
    site.enrolled().await;
    site.publish(&script("1.0.0", 1), &good("1.0.0"), None);
    assert_eq!(run(site, BOUNDS).await.result, Result::Committed);
}

fn outcomes(applied: &Applied) -> Vec<(String, Outcome)> {
    let ends = applied.ended.iter();
    ends.map(|end| (end.version.to_string(), end.outcome)).collect()
}

#[tokio::test]
async fn one_run_installs_what_is_ordered_and_leaves_it_running() {
    let site = Site::new().await;
    site.enrolled().await;
    let idle = run(&site, BOUNDS).await;
    assert_eq!((idle.result, idle.ended.len()), (Result::NothingToDo, 0));
    let first = script("1.0.0", 1);
    site.publish(&first, &good("1.0.0"), None);
    let installed = run(&site, BOUNDS).await;
    assert_eq!(installed.result, Result::Committed);
    assert_eq!(outcomes(&installed), [("1.0.0".to_owned(), Outcome::Committed)]);
    assert_eq!(installed.waiting_reports, 0);
    site.ends_with(&first, Outcome::Committed).await;
    let running = site.running();
    assert_eq!((running.len(), site.data("running").as_str()), (1, "1.0.0"));
    // The next run takes the same process over.
    let idle = run(&site, BOUNDS).await;
    assert_eq!(idle.result, Result::NothingToDo);
    assert_eq!(site.running(), running);
    // After a power cut one run starts it again.
    site.end_programs();
    wait_for("the power cut", || site.running().is_empty().then_some(())).await;
    assert_eq!(run(&site, BOUNDS).await.result, Result::NothingToDo);
    assert_eq!(site.running().len(), 1);
}

#[tokio::test]
async fn one_run_says_what_became_of_a_bad_version_and_of_a_refused_order() {
    let site = Site::new().await;
    with_first_version(&site).await;
    site.publish(&script("1.1.0", 2), &sick("1.1.0"), Some("1.0.0"));
    let back = run(&site, BOUNDS).await;
    assert_eq!(back.result, Result::RolledBack);
    assert_eq!(outcomes(&back), [("1.1.0".to_owned(), Outcome::RolledBack)]);
    assert!(
        back.ended[0]
            .reason
            .as_ref()
            .unwrap()
            .contains("the sensor does not answer")
    );
    assert_eq!(site.running().len(), 1);
    // It is ordered still, and not tried again.
    let again = run(&site, BOUNDS).await;
    assert_eq!(again.result, Result::Refused);
    assert!(
        again.ended[0]
            .reason
            .as_ref()
            .unwrap()
            .contains("failed here before")
    );
    assert_eq!(site.running().len(), 1);
}

#[tokio::test]
async fn one_run_ends_within_its_bounds_and_the_next_goes_on() {
    let site = Site::new().await;
    with_first_version(&site).await;
    *site.manager.down.lock().unwrap() = true;
    let short = Bounds {
        answer: Duration::from_millis(300),
        ..BOUNDS
    };
    let silent = run(&site, short).await;
    assert_eq!(silent.result, Result::NoAnswer);
    assert!(silent.connection.contains("busy"), "{}", silent.connection);
    assert_eq!(site.running().len(), 1, "with and without a manager");
    *site.manager.down.lock().unwrap() = false;
    let mut slow = script("1.1.0", 2);
    slow.probation_seconds = 3;
    site.publish(&slow, &good("1.1.0"), Some("1.0.0"));
    let short = Bounds {
        whole: Duration::from_secs(2),
        ..BOUNDS
    };
    let mut applied = run(&site, short).await;
    assert_eq!(applied.result, Result::Unfinished);
    // On a slow machine it may not have come as far as its probation.
    for _ in 0..3 {
        if applied.result == Result::Unfinished {
            applied = run(&site, BOUNDS).await;
        }
    }
    assert_eq!(applied.result, Result::Committed);
    assert_eq!(site.data("running"), "1.1.0");
}

/// Time that is over is nothing that the release did.
#[tokio::test]
async fn a_download_that_is_put_off_many_times_is_not_held_against_the_release() {
    let site = Site::new().await;
    with_first_version(&site).await;
    let mut program = good("1.1.0");
    program.resize(4 << 20, b'#');
    site.publish(&script("1.1.0", 2), &program, Some("1.0.0"));
    let manager = std::sync::Arc::clone(&site.manager);
    let breaks = tokio::spawn(async move {
        loop {
            *manager.break_after.lock().unwrap() = Some(1000);
            tokio::task::yield_now().await;
        }
    });
    let short = Bounds {
        whole: Duration::from_millis(700),
        ..BOUNDS
    };
    // One more than an agent may be cut off before a release is suspected.
    let mut put_off = 0;
    while put_off < device::limits::MAX_RESTARTS + 2 {
        let agent = site.agent().await;
        let applied = apply(&agent.hub, short).await;
        let slot = agent.hub.generation.slot(&component());
        let (events, _) = agent.hub.bus.watch();
        agent.cut_off().await;
        assert_eq!(
            (applied.result, slot.life, slot.interrupted),
            (Result::Unfinished, Life::Idle, None)
        );
        let begun =
            |line: &DeviceEvent| matches!(line, DeviceEvent::Step(e) if e.step == Step::DownloadStarted);
        put_off += u32::from(events.iter().any(begun));
    }
    breaks.abort();
    breaks.await.ok();
    *site.manager.break_after.lock().unwrap() = None;
    assert_eq!(run(&site, BOUNDS).await.result, Result::Committed);
    assert_eq!(site.data("running"), "1.1.0");
}

fn device(site: &Site, args: &[&str]) -> Output {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_device"));
    command
        .args(["apply"])
        .args(args)
        .arg("--dir")
        .arg(site.layout().root());
    command.output().unwrap()
}

/// The program itself, as a timer would start it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_exit_code_says_how_it_ended() {
    let site = Site::new().await;
    site.enrolled().await;
    let idle = device(&site, &["--once"]);
    assert_eq!(idle.status.code(), Some(0), "{idle:?}");
    assert_eq!(String::from_utf8_lossy(&idle.stdout), "nothing to do\n");
    site.publish(&script("1.0.0", 1), &good("1.0.0"), None);
    let done = device(&site, &["--once", "--json"]);
    assert_eq!(done.status.code(), Some(10), "{done:?}");
    let said: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(
        (&said["result"], &said["ended"][0]["version"]),
        (&"committed".into(), &"1.0.0".into())
    );
    site.publish(&script("1.1.0", 2), &sick("1.1.0"), Some("1.0.0"));
    assert_eq!(device(&site, &["--once"]).status.code(), Some(12));
    assert_eq!(device(&site, &["--once"]).status.code(), Some(11));
    // Without the word it is no command: nobody believes to have a service.
    assert_eq!(device(&site, &[]).status.code(), Some(2));
    let agent = site.agent_in(World::system()).await;
    let second = device(&site, &["--once"]);
    assert_eq!(second.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&second.stderr).contains("another agent runs"),
        "{second:?}"
    );
    assert_eq!(
        agent
            .hub
            .generation
            .slot(&component())
            .current
            .unwrap()
            .version
            .to_string(),
        "1.0.0"
    );
    agent.stop().await;
}
