//! Somebody changes things on the way. Each test asserts on the reason, so that it reaches the check it names.

use std::path::{Path, PathBuf};

use e2e::packages::{ALIVE, put, script};
use e2e::{Site, SiteOptions};
use protocol::Step;
use serde_json::Value;

use crate::settled;

const FOREVER: &str = "exec sleep 1000";

/// The files of a content-addressed store, largest first.
fn stored(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().is_some_and(|name| name.len() == 64) {
                found.push(path);
            }
        }
    }
    found.sort_by_key(|path| std::cmp::Reverse(std::fs::metadata(path).unwrap().len()));
    found
}

/// What a thief of the repository's disk may do to a file.
fn harmed(bytes: &[u8], how: &str) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let middle = bytes.len() / 2;
    match how {
        "flipped" => bytes[middle] ^= 1,
        _ => bytes.truncate(middle),
    }
    bytes
}

/// A1, A2 and R-004-56/57: the gateway refuses, keeps the file aside, says so once, and does not fetch it every
/// ten seconds for ever.
#[tokio::test]
async fn a_file_changed_in_the_repository_reaches_no_device() {
    for how in ["flipped", "truncated"] {
        let site = Site::running(SiteOptions {
            poll_seconds: 1,
            ..SiteOptions::default()
        })
        .await;
        let work = tempfile::tempdir().unwrap();
        let mut follow = site.follow();
        let agent = site.device("pump").await;
        let _ = site
            .publish(&script(work.path(), "app", "1.0", FOREVER, ALIVE), &[])
            .await
            .ok();
        follow.committed("pump", "1.0.0").await;
        let _ = site.manager(["stop"], "").await.ok();
        let before = stored(&site.path("repository/state/store"));
        let _ = site
            .publish(&script(work.path(), "app", "2.0", FOREVER, ALIVE), &[])
            .await
            .ok();
        let after = stored(&site.path("repository/state/store"));
        let file = after
            .iter()
            .find(|path| !before.contains(path))
            .expect("the new file");
        let bytes = std::fs::read(file).unwrap();
        put(file, &harmed(&bytes, how), 0o600);
        let _ = site.manager(["check-now"], "").await.ok();
        let status = site.manager_status().await;
        let release = &status.releases[0];
        assert!(!release.mirrored, "{how}: it is in the mirror");
        if how == "flipped" {
            assert!(
                status
                    .alarms
                    .iter()
                    .any(|alarm| alarm.contains("not the file that was signed")),
                "{:?}",
                status.alarms
            );
            site.check_by_timer().await;
            site.check_by_timer().await;
            let downloads: Vec<Value> = site.manager(["history", "--json"], "").await.ok().json();
            let wrong = downloads
                .iter()
                .filter(|entry| entry["version"] == "2.0.0")
                .count();
            assert_eq!(wrong, 1, "R-004-57: it was fetched again: {downloads:?}");
        }
        assert_eq!(
            agent.status().await.components[0]
                .version
                .as_ref()
                .unwrap()
                .to_string(),
            "1.0.0"
        );
        settled(&agent, 1).await;
    }
}

/// R-004-85: the gateway itself is the attacker; the device verifies again and goes on with the old version.
#[tokio::test]
async fn a_file_changed_in_the_gateway_is_refused_by_the_device() {
    let site = Site::running(SiteOptions::default()).await;
    let work = tempfile::tempdir().unwrap();
    let mut follow = site.follow();
    let mut agent = site.device("pump").await;
    let _ = site
        .publish(&script(work.path(), "app", "1.0", FOREVER, ALIVE), &[])
        .await
        .ok();
    follow.committed("pump", "1.0.0").await;
    agent.stop().await;
    let before = stored(&site.path("manager/state/mirror"));
    let _ = site
        .publish(&script(work.path(), "app", "2.0", FOREVER, ALIVE), &[])
        .await
        .ok();
    follow.step(|event| event.step == Step::MirrorVerified).await;
    let after = stored(&site.path("manager/state/mirror"));
    let file = after
        .iter()
        .find(|path| !before.contains(path))
        .expect("the new file");
    let bytes = std::fs::read(file).unwrap();
    put(file, &harmed(&bytes, "flipped"), 0o600);
    agent.start().await;
    let event = follow.outcome("pump", "2.0.0").await;
    assert!(matches!(event.step, Step::Failed | Step::Refused), "{event:?}");
    assert!(
        event.reason.as_ref().unwrap().contains("received bytes are"),
        "{:?}",
        event.reason
    );
    assert_eq!(
        agent.status().await.components[0]
            .version
            .as_ref()
            .unwrap()
            .to_string(),
        "1.0.0"
    );
    settled(&agent, 1).await;
}

/// A3, R-004-86: any signer passed in the old code. Here another author's key, with a right certificate; that the
/// repository refuses its signature as well is shown in `repo-server`, which is handed one.
#[tokio::test]
async fn a_strangers_key_signs_nothing() {
    let site = Site::running(SiteOptions::default()).await;
    let stranger = Site::create(SiteOptions::default()).await;
    let work = tempfile::tempdir().unwrap();
    let mut follow = site.follow();
    let _agent = site.device("pump").await;
    let _ = site
        .publish(&script(work.path(), "app", "1.0", FOREVER, ALIVE), &[])
        .await
        .ok();
    follow.committed("pump", "1.0.0").await;
    let key = std::fs::read(stranger.path("author/targets-key.pem")).unwrap();
    put(&site.path("author/targets-key.pem"), &key, 0o600);
    let refused = site
        .publish(&script(work.path(), "app", "2.0", FOREVER, ALIVE), &[])
        .await;
    let text = refused.refused();
    assert!(
        text.contains("is not among the keys that root version 1 trusts"),
        "{text}"
    );
    let status = site.manager_status().await;
    assert_eq!(status.releases[0].version.to_string(), "1.0.0");
}

/// A7 and the replay of a whole older repository: the gateway refuses to go back, and heals the repository.
#[tokio::test]
async fn an_older_state_of_the_repository_put_back_is_noticed_and_mended() {
    let mut site = Site::running(SiteOptions::default()).await;
    let work = tempfile::tempdir().unwrap();
    let mut follow = site.follow();
    let agent = site.device("pump").await;
    let _ = site
        .publish(&script(work.path(), "app", "1.0", FOREVER, ALIVE), &[])
        .await
        .ok();
    follow.committed("pump", "1.0.0").await;
    site.repository.take().unwrap().kill().await;
    let copy = format!("cp -a {0} {0}.old", site.path("repository/state").display());
    let _ = crate::shell(&copy).await.ok();
    site.start_repository().await;
    let _ = site
        .publish(&script(work.path(), "app", "2.0", FOREVER, ALIVE), &[])
        .await
        .ok();
    follow.committed("pump", "2.0.0").await;
    // The disk of yesterday, put back without a word.
    site.repository.take().unwrap().kill().await;
    let swap = format!(
        "rm -rf {0} && mv {0}.old {0}",
        site.path("repository/state").display()
    );
    let _ = crate::shell(&swap).await.ok();
    site.start_repository().await;
    let _ = site.manager(["check-now"], "").await.ok();
    let _ = site.manager(["check-now"], "").await.ok();
    assert_eq!(
        agent.status().await.components[0]
            .version
            .as_ref()
            .unwrap()
            .to_string(),
        "2.0.0"
    );
    let _ = site
        .publish(&script(work.path(), "app", "3.0", FOREVER, ALIVE), &[])
        .await
        .ok();
    follow.committed("pump", "3.0.0").await;
}

/// The device's stored trust is torn: applications run on, nothing new is accepted, and the documented way back
/// works.
#[tokio::test]
async fn a_torn_trusted_state_stops_updates_and_not_the_application() {
    let site = Site::running(SiteOptions::default()).await;
    let work = tempfile::tempdir().unwrap();
    let mut follow = site.follow();
    let mut agent = site.device("pump").await;
    let _ = site
        .publish(&script(work.path(), "app", "1.0", FOREVER, ALIVE), &[])
        .await
        .ok();
    follow.committed("pump", "1.0.0").await;
    agent.stop().await;
    put(&agent.dir.join("trust/state.rec"), b"", 0o600);
    agent.start().await;
    let status = agent.status().await;
    assert!(
        status.trouble.as_ref().unwrap().contains("damaged"),
        "{:?}",
        status.trouble
    );
    settled(&agent, 1).await;
    let _ = site
        .publish(&script(work.path(), "app", "2.0", FOREVER, ALIVE), &[])
        .await
        .ok();
    follow.step(|event| event.step == Step::MirrorVerified).await;
    agent.stop().await;
    let root = site.path("author/root.json").display().to_string();
    let _ = agent
        .command(["repair-trust", "--root", root.as_str()])
        .await
        .ok();
    agent.start().await;
    follow.committed("pump", "2.0.0").await;
}
