//! Wrong clocks and expired metadata: nothing new is taken, and what runs goes on.

use e2e::clock::fake;
use e2e::packages::app;
use e2e::{Agent, Site, SiteOptions, eventually};
use protocol::control::CheckResult;
use protocol::{Outcome, Step};

/// Two days after snapshot and timestamp have expired, and well before anybody's certificate has.
const LATER: &str = "+16d";

/// The device's clock runs ahead, or the site was cut off for long: R-004-47, DESIGN section 4.
#[tokio::test]
async fn a_device_with_expired_metadata_takes_nothing_new_and_does_all_else() {
    let Some(later) = fake(LATER) else {
        e2e::skip("libfaketime is not installed");
        return;
    };
    let work = tempfile::tempdir().unwrap();
    let site = Site::running(SiteOptions::default()).await;
    let mut agent = site.device("north").await;
    let steps = agent.watch();
    for version in ["1.0.0", "2.0.0"] {
        let published = site.release(&app(work.path(), version)).await;
        assert_eq!(
            steps.outcome("north", published.update).await.0,
            Outcome::Committed
        );
    }
    agent.stop().await;
    agent.env.extend(later);
    agent.start().await;
    eventually(
        "what runs goes on",
        || agent.shows("app"),
        |shown| shown == "2.0.0 running",
    )
    .await;
    let status = agent.status().await;
    assert!(status.stale_since.is_some() && status.time_known, "{status:?}");
    eventually("it is connected", || agent.status(), |status| status.connected).await;

    let third = site.release(&app(work.path(), "3.0.0")).await;
    let (outcome, reason) = agent.watch().outcome("north", third.update).await;
    let reason = reason.unwrap();
    assert_eq!(outcome, Outcome::Refused, "{reason}");
    assert!(reason.contains("timestamp.json expired at"), "{reason}");

    // Restart, roll back by hand, restart again: all that needs no news.
    let pid = agent.processes("app")[0];
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    eventually(
        "it is started again",
        || async { agent.processes("app") },
        |now: &Vec<i32>| now.len() == 1 && now[0] != pid,
    )
    .await;
    let _ = agent.command(["rollback", "app"]).await.ok();
    eventually(
        "it went back",
        || agent.shows("app"),
        |shown| shown == "1.0.0 running",
    )
    .await;
    let _ = agent.command(["release", "app"]).await.ok();
    agent.stop().await;
    agent.start().await;
    eventually(
        "it runs again",
        || agent.shows("app"),
        |shown| shown == "1.0.0 running",
    )
    .await;

    // The right time again: nothing of the wrong one was kept.
    agent.stop().await;
    agent.env.clear();
    agent.start().await;
    let fourth = site.release(&app(work.path(), "4.0.0")).await;
    assert_eq!(
        agent.watch().outcome("north", fourth.update).await.0,
        Outcome::Committed
    );
    assert!(agent.status().await.stale_since.is_none());
}

/// The same at the gateway: it serves what it has and says since when it is stale.
#[tokio::test]
async fn a_gateway_with_expired_metadata_serves_what_it_has_and_says_so() {
    let Some(later) = fake(LATER) else {
        e2e::skip("libfaketime is not installed");
        return;
    };
    let later: Vec<(&str, &str)> = later
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let work = tempfile::tempdir().unwrap();
    let mut site = Site::running(SiteOptions::default()).await;
    let agent = site.device("north").await;
    let first = site.release(&app(work.path(), "1.0.0")).await;
    assert_eq!(
        agent.watch().outcome("north", first.update).await.0,
        Outcome::Committed
    );

    site.stop_manager().await;
    site.start_manager_with(&later).await;
    let _ = site.release(&app(work.path(), "2.0.0")).await;
    let found: CheckResult = site.manager(["check-now", "--json"], "").await.ok().json();
    assert!(
        found.message.contains("timestamp.json expired at"),
        "{}",
        found.message
    );
    let status = site.manager_status().await;
    assert!(status.stale_since.is_some(), "{status:?}");
    assert_eq!(status.releases[0].version.to_string(), "1.0.0");
    eventually(
        "the device is back",
        || site.device_row("north"),
        |row| row.connected,
    )
    .await;
    assert_eq!(agent.shows("app").await, "1.0.0 running");

    site.stop_manager().await;
    site.start_manager().await;
    agent.watch().device("north", Step::Committed, "2.0.0").await;
    assert!(site.manager_status().await.stale_since.is_none());
}

/// Off for forty days, ten of them without a certificate; a machine without a clock of its own believes that no time has
/// passed. Both come back by themselves, with the key they had.
#[tokio::test]
async fn devices_that_were_off_for_forty_days_come_back() {
    let Some(later) = fake("+40d") else {
        e2e::skip("libfaketime is not installed");
        return;
    };
    let env: Vec<(&str, &str)> = later
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let work = tempfile::tempdir().unwrap();
    let mut site = Site::running(SiteOptions::default()).await;
    let mut agents = [site.device("clock").await, site.device("none").await];
    let first = site.release(&app(work.path(), "1.0.0")).await;
    let mut before = Vec::new();
    for agent in &mut agents {
        let ended = agent.watch().outcome(&agent.name, first.update).await;
        assert_eq!(ended.0, Outcome::Committed, "{}: {:?}", agent.name, ended.1);
        before.push(agent.status().await.certificate_until.unwrap());
        agent.stop().await;
    }
    site.stop_manager().await;
    site.stop_repository().await;
    site.start_repository_with(&env).await;
    site.start_manager_with(&env).await;
    agents[0].env.extend(later.clone());
    let second = site.release(&app(work.path(), "2.0.0")).await;
    for (agent, before) in agents.iter_mut().zip(before) {
        agent.start().await;
        let (outcome, reason) = agent.watch().outcome(&agent.name, second.update).await;
        assert_eq!(outcome, Outcome::Committed, "{}: {reason:?}", agent.name);
        let until = agent.status().await.certificate_until.unwrap();
        assert!(until.seconds_since(before) > 30 * 86_400, "{before} {until}");
        let row = site.device_row(&agent.name).await;
        assert_eq!(row.certificate_until, Some(until));
    }
}

/// A device that comes out of its box at 1970, or at 2099, joins, installs, updates and goes back.
#[tokio::test]
async fn a_device_at_1970_or_2099_joins_and_lives() {
    if fake("").is_none() {
        e2e::skip("libfaketime is not installed");
        return;
    }
    let work = tempfile::tempdir().unwrap();
    let site = Site::running(SiteOptions::default()).await;
    let mut agents = Vec::new();
    for (name, clock) in [
        ("past", "@1970-01-02 00:00:00"),
        ("future", "@2099-06-01 00:00:00"),
    ] {
        let mut agent = Agent::new(site.path(&format!("devices/{name}")), name);
        agent.env.extend(fake(clock).unwrap());
        let code = site.add_device(name).await;
        let _ = agent.enroll(&code, &site.path("author/root.json")).await.ok();
        agent.start().await;
        agents.push(agent);
    }
    for version in ["1.0.0", "2.0.0"] {
        let published = site.release(&app(work.path(), version)).await;
        for agent in &agents {
            let (outcome, reason) = agent.watch().outcome(&agent.name, published.update).await;
            assert_eq!(outcome, Outcome::Committed, "{}: {reason:?}", agent.name);
        }
    }
    for agent in &mut agents {
        let status = agent.status().await;
        assert!(
            !status.time_known && status.stale_since.is_none(),
            "{}: {status:?}",
            agent.name
        );
        agent.kill().await;
        agent.start().await;
        eventually("adopted", || agent.shows("app"), |shown| shown == "2.0.0 running").await;
        let _ = agent.command(["rollback", "app"]).await.ok();
        eventually("back", || agent.shows("app"), |shown| shown == "1.0.0 running").await;
    }
}
