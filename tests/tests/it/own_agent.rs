//! The agent itself, updated through all four programs.

use std::path::{Path, PathBuf};

use e2e::packages::{ALIVE, put, script};
use e2e::process::bin;
use e2e::{Site, SiteOptions};
use protocol::Step;

/// A package of kind `agent` whose program is this script.
fn agent(out: &Path, version: &str, body: &str) -> PathBuf {
    let dir = out.join(format!("agent-{version}"));
    put(
        &dir.join("payload/device"),
        format!("#!/bin/sh\n{body}\n").as_bytes(),
        0o755,
    );
    let manifest = format!(
        "format = 1\ncomponent = \"drover-agent\"\nversion = \"{version}\"\nkind = \"agent\"\n\n[run]\nhow = \"exec\"\n\
         program = \"device\"\n\n[health]\nstart_seconds = 30\nprobation_seconds = 1\n"
    );
    put(&dir.join("update.toml"), manifest.as_bytes(), 0o644);
    dir
}

/// A new agent is committed and a bad one goes back, both reported; the application runs through it, and the next
/// release of the application is installed by the agent that is there then.
#[tokio::test]
async fn the_agent_is_updated_like_any_component_and_a_bad_one_goes_back() {
    let site = Site::running(SiteOptions::default()).await;
    let work = tempfile::tempdir().unwrap();
    let mut follow = site.follow();
    let mut device = site.device("pump").await;
    let first = script(work.path(), "app", "1.0", "exec sleep 1000", ALIVE);
    let _ = site.publish(&first, &[]).await.ok();
    follow.committed("pump", "1.0.0").await;
    let programs = device.processes("app");
    assert_eq!(programs.len(), 1);

    let real = bin("device").display().to_string();
    let good = agent(work.path(), "7.0", &format!("exec {real} \"$@\""));
    let _ = site.publish(&good, &[]).await.ok();
    follow.committed("pump", "7.0.0").await;
    assert_eq!(device.processes("app"), programs);

    let bad = agent(work.path(), "8.0", "echo 'this board is not known' >&2; exit 4");
    let _ = site.publish(&bad, &[]).await.ok();
    let event = follow.outcome("pump", "8.0.0").await;
    assert_eq!(event.step, Step::RolledBack);
    let reason = event.reason.unwrap();
    assert!(reason.contains("this board is not known"), "{reason}");
    assert!(reason.contains("7.0.0 runs again"), "{reason}");
    assert_eq!(device.processes("app"), programs);

    let second = script(work.path(), "app", "2.0", "exec sleep 1000", ALIVE);
    let _ = site.publish(&second, &[]).await.ok();
    follow.committed("pump", "2.0.0").await;
    assert_ne!(device.processes("app"), programs);
    let status = device.status().await;
    let version = |name: &str| {
        let state = status
            .components
            .iter()
            .find(|state| state.component.as_str() == name);
        state.and_then(|state| state.version.as_ref().map(ToString::to_string))
    };
    assert_eq!(version("drover-agent").as_deref(), Some("7.0.0"));
    assert_eq!(version("app").as_deref(), Some("2.0.0"));
    device.stop().await;
}
