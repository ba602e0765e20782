//! A release that its author or the site wants installed later: it waits, is shown waiting everywhere, and goes when it may.

use e2e::packages::{Script, app, put};
use e2e::{Agent, Site, SiteOptions, eventually};
use protocol::Outcome;
use protocol::device::Waiting;

/// A package of `app` with this table `[policy]`.
fn package(out: &std::path::Path, version: &str, policy: &str) -> std::path::PathBuf {
    let more = format!("[policy]\n{policy}\n");
    Script {
        version,
        more: &more,
        ..Script::default()
    }
    .write(out)
}

async fn waiting(agent: &Agent) -> Option<Waiting> {
    let output = agent.command(["status", "--json"]).await;
    if output.code != 0 {
        return None;
    }
    let status: protocol::control::DeviceStatus = output.json();
    status.components.into_iter().next()?.waiting
}

/// What waits on the device, once its status says so.
async fn waits(agent: &Agent) -> Waiting {
    let asked = || waiting(agent);
    eventually("it waits", asked, Option::is_some).await.unwrap()
}

/// Waiting through kill -9 of the agent, shown at device and gateway with every condition, until the last is met.
#[tokio::test]
async fn a_release_waits_for_an_interlock_through_kills_and_is_shown_everywhere() {
    let work = tempfile::tempdir().unwrap();
    let site = Site::running(SiteOptions::default()).await;
    let mut agent = site.device("north").await;
    let steps = site.watch();
    let first = site.release(&app(work.path(), "1.0.0")).await;
    assert_eq!(steps.outcome("north", first.update).await.0, Outcome::Committed);
    let door = agent.dir.join("interlocks/door");
    put(&door, b"the night shift\n", 0o644);
    let second = package(work.path(), "1.1.0", "interlock = \"door\"\nwait_hours = 72");
    let second = site.release(&second).await;
    let begun = waits(&agent).await;
    assert_eq!(begun.version.to_string(), "1.1.0");
    let said = |text: &String| {
        text.contains("interlock door is set (held by the night shift since ") && text.contains("after 72 h")
    };
    let text = agent.command(["status"]).await.ok().stdout;
    assert!(said(&text), "{text}");
    let status = || async { site.manager(["status"], "").await.ok().stdout };
    let text = eventually("the gateway shows it", status, said).await;
    assert!(
        text.contains("waiting      app on north: 1.1.0 waits since "),
        "{text}"
    );
    for _ in 0..3 {
        agent.kill().await;
        agent.start().await;
        assert_eq!(waits(&agent).await.since, begun.since);
    }
    assert_eq!(agent.shows("app").await, "1.0.0 running");
    std::fs::remove_file(&door).unwrap();
    assert_eq!(steps.outcome("north", second.update).await.0, Outcome::Committed);
    eventually(
        "the new version runs",
        || agent.shows("app"),
        |shown| shown == "1.1.0 running",
    )
    .await;
    let status = || async { site.manager(["status"], "").await.ok().stdout };
    eventually("nothing waits", status, |text: &String| !text.contains("waiting")).await;
}

/// A person says "now": refused with every reason, overridden with a record and in the signed report; the gateway's
/// operator may say it too, and override only where the device lets them.
#[tokio::test]
async fn a_person_says_now_on_the_device_or_at_the_gateway() {
    let work = tempfile::tempdir().unwrap();
    let site = Site::running(SiteOptions::default()).await;
    let agent = site.device("north").await;
    let steps = site.watch();
    let first = site.release(&app(work.path(), "1.0.0")).await;
    steps.outcome("north", first.update).await;
    put(&agent.dir.join("interlocks/door"), b"", 0o644);
    let policy = "urgency = \"by-hand\"\ninterlock = \"door\"";
    let second = site.release(&package(work.path(), "1.1.0", policy)).await;
    waits(&agent).await;
    let refused = agent.command(["activate", "app"]).await;
    assert!(
        refused.refused().contains("interlock door is set"),
        "{}",
        refused.stderr
    );
    let shown = || async { site.manager(["status"], "").await.ok().stdout };
    eventually("the gateway shows it", shown, |text: &String| {
        text.contains("a person must say so")
    })
    .await;
    let refused = site.manager(["activate", "north", "app"], "").await;
    assert!(
        refused.refused().contains("interlock door is set"),
        "{}",
        refused.stderr
    );
    let refused = site.manager(["activate", "north", "app", "--override"], "").await;
    assert!(
        refused.refused().contains("gateway_overrides"),
        "{}",
        refused.stderr
    );
    let _ = agent.command(["activate", "app", "--override"]).await.ok();
    assert_eq!(steps.outcome("north", second.update).await.0, Outcome::Committed);
    let note = "conditions overridden by hand: interlock door is set";
    let entry = agent.history().await.pop().unwrap();
    assert_eq!(
        (entry.outcome.as_str(), entry.reason.as_deref()),
        ("committed", Some(note))
    );
    let reports = || async { site.author(["reports", "--json"]).await.ok().stdout };
    eventually("the signed report", reports, |text: &String| text.contains(note)).await;

    let third = site
        .release(&package(work.path(), "1.2.0", "urgency = \"by-hand\""))
        .await;
    let asked = || waiting(&agent);
    let is_third = |waiting: &Option<Waiting>| waiting.as_ref().is_some_and(|w| w.update == third.update);
    eventually("the third waits", asked, is_third).await;
    eventually("the gateway shows it", shown, |text: &String| {
        text.contains("1.2.0 waits")
    })
    .await;
    let _ = site.manager(["activate", "north", "app"], "").await.ok();
    assert_eq!(steps.outcome("north", third.update).await.0, Outcome::Committed);
    eventually(
        "the third version runs",
        || agent.shows("app"),
        |shown| shown == "1.2.0 running",
    )
    .await;
}
