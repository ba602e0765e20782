//! What the user came for.

use e2e::packages::{ALIVE, script, thermostat as package};
use e2e::{Site, SiteOptions};
use protocol::Step;
use serde_json::Value;

use crate::{processes, thermostat};

/// R-004-2, R-004-71: all devices; R-004-107/108/113: the old one is ended, a bad one is undone.
#[tokio::test]
async fn a_release_runs_on_every_device_and_a_bad_one_undoes_itself() {
    let site = Site::running(SiteOptions {
        key_type: "rsa".into(),
        ..SiteOptions::default()
    })
    .await;
    let work = tempfile::tempdir().unwrap();
    let mut follow = site.follow();
    let agents = [
        site.device("pump-1").await,
        site.device("pump-2").await,
        site.device("pump-3").await,
    ];

    let _ = site.publish(&package(work.path(), "1.0"), &[]).await.ok();
    for agent in &agents {
        follow.committed(&agent.name, "1.0.0").await;
        assert_eq!(thermostat(agent).await["version"], "1.0.0");
    }
    let _ = site.publish(&package(work.path(), "1.1"), &[]).await.ok();
    for agent in &agents {
        follow.committed(&agent.name, "1.1.0").await;
        let told = thermostat(agent).await;
        assert_eq!(told["version"], "1.1.0");
        assert_eq!(told["starts"], 2, "its data did not survive: {told}");
        assert_eq!(processes(agent).len(), 1, "R-004-107: the old version lives on");
    }
    let _ = site.publish(&package(work.path(), "1.2"), &[]).await.ok();
    for agent in &agents {
        let event = follow.outcome(&agent.name, "1.2.0").await;
        assert_eq!(event.step, Step::RolledBack);
        assert!(
            event.reason.unwrap().contains("sensor"),
            "the reason is the program's own word"
        );
        let status = agent.status().await;
        assert_eq!(
            status.components[0].version.as_ref().unwrap().to_string(),
            "1.1.0"
        );
        assert_eq!(thermostat(agent).await["version"], "1.1.0");
    }
    // The gateway has stopped offering it, and says why.
    follow.message("is not offered any more").await;
    let status = site.manager_status().await;
    assert!(
        status.releases[0]
            .stopped
            .as_ref()
            .unwrap()
            .contains("rolled it back")
    );

    // Records: what was uploaded, downloaded, installed.
    let history: Vec<Value> = site.author(["history", "--json"]).await.ok().json();
    assert_eq!(history.len(), 3, "{history:?}");
    let downloads: Vec<Value> = site.manager(["history", "--json"], "").await.ok().json();
    assert_eq!(downloads.len(), 3, "{downloads:?}");
    let installs: Vec<Value> = agents[0].command(["history", "--json"]).await.ok().json();
    let outcomes: Vec<&str> = installs
        .iter()
        .map(|entry| entry["outcome"].as_str().unwrap())
        .collect();
    assert_eq!(
        outcomes,
        ["committed", "committed", "rolled back"],
        "{installs:?}"
    );
}

/// R-004-72 is the fault of the old code: a device that connects after the download gets nothing.
#[tokio::test]
async fn a_device_that_was_away_catches_up_when_it_comes() {
    let site = Site::running(SiteOptions::default()).await;
    let work = tempfile::tempdir().unwrap();
    let mut follow = site.follow();
    let mut late = site.enroll("late").await;
    let package = script(work.path(), "app", "1.0", "exec sleep 1000", ALIVE);
    let _ = site.publish(&package, &[]).await.ok();
    follow.step(|event| event.step == Step::MirrorVerified).await;
    late.start().await;
    follow.committed("late", "1.0.0").await;
}

/// R-004-73 is the fault of the old code: versions had to rise by exactly 1.0. R-004-30: numbers, never text.
#[tokio::test]
async fn versions_are_compared_as_numbers_and_may_jump() {
    let site = Site::running(SiteOptions::default()).await;
    let work = tempfile::tempdir().unwrap();
    let mut follow = site.follow();
    let _agent = site.device("pump").await;
    for version in ["9.0", "10.0", "10.0.1", "27.4"] {
        let package = script(work.path(), "app", version, "exec sleep 1000", ALIVE);
        let _ = site.publish(&package, &[]).await.ok();
        let full = if version.matches('.').count() == 1 {
            format!("{version}.0")
        } else {
            version.to_owned()
        };
        follow.committed("pump", &full).await;
    }
    let older = script(work.path(), "app", "9.9", "exec sleep 1000", ALIVE);
    let refused = site.publish(&older, &[]).await;
    let text = format!("{}{}", refused.refused(), refused.stdout);
    assert!(
        text.contains("9.9.0") && text.contains("27.4.0"),
        "both versions are named: {text}"
    );
    assert!(
        text.contains("older than current"),
        "the document's words: {text}"
    );
    let again = script(work.path(), "app", "27.4", "exec sleep 1000", ALIVE);
    let refused = site.publish(&again, &[]).await;
    let text = format!("{}{}", refused.refused(), refused.stdout);
    assert!(
        text.contains("existed") || text.contains("older than current"),
        "{text}"
    );
}

/// Start and stop mean the downloader's timer (R-004-60); devices stay served.
#[tokio::test]
async fn a_stopped_downloader_leaves_devices_served() {
    let site = Site::running(SiteOptions::default()).await;
    let work = tempfile::tempdir().unwrap();
    let mut follow = site.follow();
    let _agent = site.device("pump").await;
    let _ = site
        .publish(&script(work.path(), "app", "1.0", "exec sleep 1000", ALIVE), &[])
        .await
        .ok();
    follow.committed("pump", "1.0.0").await;
    let _ = site.manager(["stop"], "").await.ok();
    let _ = site
        .publish(&script(work.path(), "app", "2.0", "exec sleep 1000", ALIVE), &[])
        .await
        .ok();
    let status = site.manager_status().await;
    assert!(!status.downloader_running);
    assert_eq!(status.releases[0].version.to_string(), "1.0.0");
    let mut late = site.enroll("late").await;
    late.start().await;
    follow.committed("late", "1.0.0").await;
    let _ = site.manager(["start"], "").await.ok();
    follow.committed("pump", "2.0.0").await;
    follow.committed("late", "2.0.0").await;
}

/// With the poll timer alone everything works too, only later.
#[tokio::test]
async fn polling_alone_is_enough() {
    let options = SiteOptions {
        poll_seconds: 1,
        events: false,
        ..SiteOptions::default()
    };
    let site = Site::running(options).await;
    let work = tempfile::tempdir().unwrap();
    let mut follow = site.follow();
    let _agent = site.device("pump").await;
    let _ = site
        .publish(&script(work.path(), "app", "1.0", "exec sleep 1000", ALIVE), &[])
        .await
        .ok();
    follow.committed("pump", "1.0.0").await;
}

/// A release that is taken back is offered to nobody new and kept where it runs.
#[tokio::test]
async fn a_withdrawn_release_stays_where_it_runs_and_goes_nowhere_else() {
    let site = Site::running(SiteOptions::default()).await;
    let work = tempfile::tempdir().unwrap();
    let mut follow = site.follow();
    let first = site.device("first").await;
    for version in ["1.0", "2.0"] {
        let _ = site
            .publish(
                &script(work.path(), "app", version, "exec sleep 1000", ALIVE),
                &[],
            )
            .await
            .ok();
        follow.committed("first", &format!("{version}.0")).await;
    }
    let _ = site
        .author(["withdraw", "app", "2.0", "--reason", "it hums"])
        .await
        .ok();
    let _ = site.manager(["check-now"], "").await.ok();
    let _second = site.device("second").await;
    follow.committed("second", "1.0.0").await;
    assert_eq!(
        first.status().await.components[0]
            .version
            .as_ref()
            .unwrap()
            .to_string(),
        "2.0.0"
    );
}
