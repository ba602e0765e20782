//! Devices and gateways that are away, late, or alone.

use e2e::packages::app;
use e2e::{Site, SiteOptions, eventually};
use protocol::Outcome;

#[tokio::test]
async fn a_device_that_was_off_catches_up_with_the_newest_only() {
    let work = tempfile::tempdir().unwrap();
    let site = Site::running(SiteOptions::default()).await;
    let mut agent = site.device("north").await;
    let first = site.release(&app(work.path(), "1.0.0")).await;
    agent.watch().outcome("north", first.update).await;
    agent.stop().await;

    let second = site.release(&app(work.path(), "2.0.0")).await;
    let third = site.release(&app(work.path(), "3.0.0")).await;
    agent.start().await;
    let steps = agent.watch();
    assert_eq!(steps.outcome("north", third.update).await.0, Outcome::Committed);
    assert_eq!(agent.shows("app").await, "3.0.0 running");
    assert!(
        steps.all().iter().all(|event| event.update != second.update),
        "the version in between was installed too"
    );
    let history = agent.history().await;
    assert_eq!(
        history.last().unwrap().from.as_ref().unwrap().to_string(),
        "1.0.0"
    );
}

/// The repository is away while the site goes on; when it is back, what was published meanwhile arrives.
#[tokio::test]
async fn the_repository_is_down_and_comes_back() {
    let work = tempfile::tempdir().unwrap();
    let mut site = Site::running(SiteOptions {
        poll_seconds: 1,
        ..SiteOptions::default()
    })
    .await;
    let agent = site.device("north").await;
    let first = site.release(&app(work.path(), "1.0.0")).await;
    let steps = agent.watch();
    steps.outcome("north", first.update).await;

    site.stop_repository().await;
    let status = eventually(
        "the manager notices",
        || site.manager_status(),
        |status| status.alarms.iter().any(|alarm| alarm.contains(":7100")),
    )
    .await;
    assert_eq!(status.connected, 1, "devices stay served");
    let refused = site.publish(&app(work.path(), "2.0.0"), &[]).await;
    assert!(refused.refused().contains("7100"), "{}", refused.stderr);
    // A device that joins now gets what the mirror has.
    let late = site.device("late").await;
    assert_eq!(
        late.watch().outcome("late", first.update).await.0,
        Outcome::Committed
    );

    site.start_repository().await;
    let second = site.release(&app(work.path(), "2.0.0")).await;
    assert_eq!(steps.outcome("north", second.update).await.0, Outcome::Committed);
    eventually(
        "the alarm is gone",
        || site.manager_status(),
        |status| !status.alarms.iter().any(|alarm| alarm.contains(":7100")),
    )
    .await;
}
