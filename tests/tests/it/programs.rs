//! Programs that misbehave: they ignore signals, die, fail for a while, fail for good.

use e2e::packages::{Script, app, put};
use e2e::{Site, SiteOptions, eventually};
use protocol::{Outcome, Step};

/// R-004-107 [C]: the old process lived on. Here it is asked, given time, and then ended with all its children.
#[tokio::test]
async fn a_program_that_ignores_sigterm_is_ended_with_its_children() {
    let work = tempfile::tempdir().unwrap();
    let site = Site::running(SiteOptions::default()).await;
    let agent = site.device("north").await;
    let steps = agent.watch();
    let body = "trap '' TERM\nsleep 100000 &\nwhile :; do sleep 1000; done";
    let deaf = Script {
        body,
        ..Script::default()
    }
    .write(work.path());
    let first = site.release(&deaf).await;
    assert_eq!(steps.outcome("north", first.update).await.0, Outcome::Committed);
    eventually(
        "its children run",
        || async { agent.processes("app").len() },
        |count| *count == 3,
    )
    .await;
    let old = agent.processes("app");
    let second = site.release(&app(work.path(), "2.0.0")).await;
    assert_eq!(steps.outcome("north", second.update).await.0, Outcome::Committed);
    let now = agent.processes("app");
    assert_eq!(now.len(), 1, "{now:?}");
    assert!(!old.contains(&now[0]), "one of the old ones lives on");
}

/// The supervisor restarts with back-off, the loop breaker says so, and a new version cures it.
#[tokio::test]
async fn a_program_that_keeps_dying_is_shown_as_failing_and_a_new_version_cures_it() {
    let work = tempfile::tempdir().unwrap();
    let site = Site::running(SiteOptions::default()).await;
    let agent = site.device("north").await;
    let steps = agent.watch();
    let body = "test -e \"$DROVER_DATA/broken\" && exit 9\nexec sleep 100000";
    let first = site
        .release(
            &Script {
                body,
                ..Script::default()
            }
            .write(work.path()),
        )
        .await;
    assert_eq!(steps.outcome("north", first.update).await.0, Outcome::Committed);
    put(&agent.dir.join("data/app/broken"), b"", 0o644);
    let pid = rustix::process::Pid::from_raw(agent.processes("app")[0]).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    eventually(
        "it is shown as failing",
        || agent.shows("app"),
        |shown| shown == "1.0.0 failing",
    )
    .await;
    let second = site.release(&app(work.path(), "2.0.0")).await;
    assert_eq!(steps.outcome("north", second.update).await.0, Outcome::Committed);
    assert_eq!(agent.shows("app").await, "2.0.0 running");
}

/// What failed is not tried again, until a person on the device says so.
#[tokio::test]
async fn a_version_that_failed_is_left_alone_until_it_is_released() {
    let work = tempfile::tempdir().unwrap();
    let site = Site::running(SiteOptions {
        poll_seconds: 1,
        ..SiteOptions::default()
    })
    .await;
    let agent = site.device("north").await;
    let steps = agent.watch();
    let first = site.release(&app(work.path(), "1.0.0")).await;
    assert_eq!(steps.outcome("north", first.update).await.0, Outcome::Committed);
    let body = "test -e \"$DROVER_DATA/licence\" || { echo 'no licence here'; exit 4; }\nexec sleep 100000";
    let picky = Script {
        version: "2.0.0",
        body,
        probation: 1,
        ..Script::default()
    }
    .write(work.path());
    let second = site.release(&picky).await;
    let (outcome, reason) = steps.outcome("north", second.update).await;
    assert_eq!(outcome, Outcome::RolledBack);
    assert!(reason.unwrap().contains("no licence here"));

    // Now it would run; but nobody has said so, and asking again changes nothing.
    put(&agent.dir.join("data/app/licence"), b"", 0o644);
    let tries = || {
        steps
            .all()
            .iter()
            .filter(|event| event.update == second.update && event.step == Step::Started)
            .count()
    };
    assert_eq!(tries(), 1);
    for _ in 0..2 {
        let _ = site.manager(["check-now"], "").await.ok();
    }
    assert_eq!(tries(), 1, "it was tried again");
    let mark = steps.mark();
    let _ = agent.command(["release", "app"]).await.ok();
    steps
        .wait_after(mark, "the second try", |event| {
            event.update == second.update && event.step == Step::Committed
        })
        .await;
    assert_eq!(agent.shows("app").await, "2.0.0 running");
}

/// R-004-137: one flaw must not hit all devices: after two of them rolled it back nobody else is offered it. A device
/// that runs nothing gets the release before it meanwhile.
#[tokio::test]
async fn a_release_that_two_devices_rolled_back_is_offered_to_nobody_until_resumed() {
    let work = tempfile::tempdir().unwrap();
    let site = Site::running(SiteOptions::default()).await;
    let (north, south) = (site.device("north").await, site.device("south").await);
    let manager = site.watch();
    let first = site.release(&app(work.path(), "1.0.0")).await;
    for name in ["north", "south"] {
        assert_eq!(manager.outcome(name, first.update).await.0, Outcome::Committed);
    }
    let bad = Script {
        version: "2.0.0",
        body: "exit 5",
        probation: 1,
        ..Script::default()
    }
    .write(work.path());
    let second = site.release(&bad).await;
    for name in ["north", "south"] {
        assert_eq!(manager.outcome(name, second.update).await.0, Outcome::RolledBack);
    }
    let stopped =
        |status: &protocol::control::ManagerStatus| status.releases.iter().any(|row| row.stopped.is_some());
    eventually("it is stopped", || site.manager_status(), stopped).await;
    // A device that comes now is not offered it: it gets the one before.
    let late = site.device("late").await;
    assert_eq!(manager.outcome("late", first.update).await.0, Outcome::Committed);
    assert_eq!(late.shows("app").await, "1.0.0 running");
    let offered = || {
        manager.all().iter().any(|event| {
            event.step == Step::Offered
                && event.update == second.update
                && event.device.as_ref().is_some_and(|name| name.as_str() == "late")
        })
    };
    let _ = site.manager(["check-now"], "").await.ok();
    assert!(!offered(), "it was offered");
    // The operator knows better: it is offered again, and late is the next to find out.
    let _ = site.manager(["resume", "app", "2.0.0"], "").await.ok();
    assert_eq!(
        late.watch().outcome("late", second.update).await.0,
        Outcome::RolledBack
    );
    assert!(offered());
    for agent in [&north, &south, &late] {
        assert_eq!(agent.shows("app").await, "1.0.0 running");
    }
}
