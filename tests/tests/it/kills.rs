//! `kill -9` at every moment: the old or the new version runs, never neither and never both, and in the end the
//! new one, unaided.

use std::time::Duration;

use e2e::packages::Script;
use e2e::{Agent, Site, SiteOptions, eventually};
use protocol::{Outcome, Step};

/// Bytes beside the program, so that the steps take a moment.
const BALLAST: usize = 2_000_000;
/// A program that runs well.
const STAYS: &str = "exec sleep 100000";

fn package(work: &std::path::Path, version: u64, body: &str) -> std::path::PathBuf {
    let version = format!("{version}.0.0");
    Script {
        version: &version,
        body,
        probation: 1,
        ballast: BALLAST,
        ..Script::default()
    }
    .write(work)
}

/// One process at most while the agent is dead.
fn at_most_one(agent: &Agent, when: &str) {
    let processes = agent.processes("app");
    assert!(processes.len() <= 1, "{} versions run {when}", processes.len());
}

/// One process exactly in the end.
async fn ends_with(agent: &Agent, version: u64, when: &str) {
    let wanted = format!("{version}.0.0 running");
    // An agent that has just begun shows what is installed before it has found or started the program.
    let seen = || async { (agent.shows("app").await, agent.processes("app").len()) };
    eventually(when, seen, |seen| *seen == (wanted.clone(), 1)).await;
}

/// After each step that an install takes.
#[tokio::test]
async fn an_agent_killed_after_any_step_finishes_unaided() {
    let work = tempfile::tempdir().unwrap();
    let site = Site::running(SiteOptions::default()).await;
    let mut agent = site.device("north").await;
    let first = site.release(&package(work.path(), 1, STAYS)).await;
    agent.watch().outcome("north", first.update).await;
    let steps = [
        Step::Ordered,
        Step::DownloadStarted,
        Step::Downloaded,
        Step::VerifyStarted,
        Step::Verified,
        Step::InstallStarted,
        Step::Staged,
        Step::Stopping,
        Step::Stopped,
        Step::Switched,
        Step::Started,
        Step::Healthy,
        Step::Committed,
    ];
    for (version, step) in (2..).zip(steps) {
        let when = format!("after a kill at {step}");
        let watch = agent.watch();
        let _ = site.release(&package(work.path(), version, STAYS)).await;
        watch.device("north", step, &format!("{version}.0.0")).await;
        agent.kill().await;
        at_most_one(&agent, &when);
        agent.start().await;
        ends_with(&agent, version, &when).await;
    }
}

/// At moments between the steps: every few milliseconds from the order on.
#[tokio::test]
async fn an_agent_killed_at_any_moment_of_an_install_finishes_unaided() {
    let work = tempfile::tempdir().unwrap();
    let site = Site::running(SiteOptions::default()).await;
    let mut agent = site.device("north").await;
    let first = site.release(&package(work.path(), 1, STAYS)).await;
    agent.watch().outcome("north", first.update).await;
    for (version, moment) in (2..).zip([0, 4, 9, 15, 22, 30, 40, 52, 66, 82, 100, 130]) {
        let when = format!("after a kill {moment} ms after the order");
        let steps = agent.watch();
        let _ = site.release(&package(work.path(), version, STAYS)).await;
        steps
            .device("north", Step::Ordered, &format!("{version}.0.0"))
            .await;
        // Not a wait for anything: the moment itself is what differs.
        tokio::time::sleep(Duration::from_millis(moment)).await;
        agent.kill().await;
        at_most_one(&agent, &when);
        agent.start().await;
        ends_with(&agent, version, &when).await;
    }
}

/// On the way back from a bad version too.
#[tokio::test]
async fn an_agent_killed_while_a_bad_version_is_tried_goes_back_unaided() {
    let work = tempfile::tempdir().unwrap();
    let site = Site::running(SiteOptions::default()).await;
    let mut agent = site.device("north").await;
    let first = site.release(&package(work.path(), 1, STAYS)).await;
    agent.watch().outcome("north", first.update).await;
    for (version, step) in (2..).zip([Step::Switched, Step::Started, Step::Healthy, Step::RolledBack]) {
        let when = format!("after a kill at {step} of a bad version");
        let steps = agent.watch();
        let published = site
            .release(&package(work.path(), version, "exec sleep 0.6"))
            .await;
        steps.device("north", step, &format!("{version}.0.0")).await;
        agent.kill().await;
        at_most_one(&agent, &when);
        agent.start().await;
        ends_with(&agent, 1, &when).await;
        // The gateway learns how it ended from the signed report, whatever was lost with the agent.
        let (outcome, reason) = site.watch().outcome("north", published.update).await;
        assert_eq!(outcome, Outcome::RolledBack, "{when}: {reason:?}");
        let history = agent.history().await;
        let entry = history
            .iter()
            .find(|entry| entry.version.to_string() == format!("{version}.0.0"));
        assert_eq!(entry.unwrap().outcome, "rolled back", "{when}");
    }
}

/// Right after a person rolled back a version that was on probation for an hour: what was begun is finished.
#[tokio::test]
async fn an_agent_killed_right_after_a_roll_back_on_probation_goes_back_unaided() {
    let work = tempfile::tempdir().unwrap();
    let site = Site::running(SiteOptions::default()).await;
    let mut agent = site.device("north").await;
    let first = site.release(&package(work.path(), 1, STAYS)).await;
    agent.watch().outcome("north", first.update).await;
    let steps = agent.watch();
    let slow_to_end = Script {
        version: "2.0.0",
        body: "trap 'sleep 1; exit 0' TERM\nwhile :; do sleep 0.1; done",
        probation: 3600,
        ..Script::default()
    };
    let published = site.release(&slow_to_end.write(work.path())).await;
    steps.device("north", Step::Healthy, "2.0.0").await;
    let dir = agent.dir.display().to_string();
    let order = tokio::spawn(async move {
        let args = ["rollback", "app", "--dir", dir.as_str()];
        e2e::process::run(&e2e::process::bin("device"), args, "", &[]).await
    });
    eventually(
        "it goes back",
        || agent.shows("app"),
        |shown| shown == "2.0.0 rolling back",
    )
    .await;
    agent.kill().await;
    assert_ne!(
        order.await.unwrap().code,
        0,
        "what is not done is not answered as done"
    );
    agent.start().await;
    ends_with(&agent, 1, "after a kill on the way back").await;
    let (outcome, reason) = site.watch().outcome("north", published.update).await;
    assert_eq!(outcome, Outcome::RolledBack);
    assert!(reason.unwrap().starts_with("rolled back by hand"));
    assert!(agent.status().await.components[0].held);
}

/// The gateway and the repository at once, with a release on its way: what was accepted arrives.
#[tokio::test]
async fn servers_killed_right_after_the_receipt_lose_nothing() {
    let work = tempfile::tempdir().unwrap();
    let mut site = Site::running(SiteOptions::default()).await;
    let agent = site.device("north").await;
    for version in 1..=3 {
        let _ = site.release(&package(work.path(), version, STAYS)).await;
        site.repository.take().unwrap().kill().await;
        site.kill_manager().await;
        site.start_manager().await;
        site.start_repository().await;
        agent
            .watch()
            .device("north", Step::Committed, &format!("{version}.0.0"))
            .await;
    }
    ends_with(&agent, 3, "after three kills").await;
}
