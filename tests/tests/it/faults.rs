//! Crashes, cut links, full disks, wrong clocks, lost machines.

use e2e::packages::{ALIVE, noise, put, script};
use e2e::{Site, SiteOptions};
use protocol::Step;

use crate::{settled, shell};

const FOREVER: &str = "exec sleep 1000";

/// DESIGN section 4: yesterday's backup serves a fleet that has seen today; nothing goes back.
#[tokio::test]
async fn a_repository_restored_from_yesterday_is_handed_back_today() {
    let mut site = Site::running(SiteOptions::default()).await;
    let work = tempfile::tempdir().unwrap();
    let mut follow = site.follow();
    let agent = site.device("pump").await;
    let _ = site
        .publish(&script(work.path(), "app", "1.0", FOREVER, ALIVE), &[])
        .await
        .ok();
    follow.committed("pump", "1.0.0").await;
    let (dir, copy) = (site.path("repository"), work.path().join("yesterday"));
    let command = format!(
        "{} backup {} --dir {}",
        e2e::process::bin("repo-server").display(),
        copy.display(),
        dir.display()
    );
    let _ = shell(&command).await.ok();
    let _ = site
        .publish(&script(work.path(), "app", "2.0", FOREVER, ALIVE), &[])
        .await
        .ok();
    follow.committed("pump", "2.0.0").await;

    site.repository.take().unwrap().kill().await;
    std::fs::remove_dir_all(dir.join("state")).unwrap();
    let command = format!(
        "{} restore {} --dir {}",
        e2e::process::bin("repo-server").display(),
        copy.display(),
        dir.display()
    );
    let _ = shell(&command).await.ok();
    site.start_repository().await;
    let _ = site.manager(["check-now"], "").await.ok();
    let _ = site.manager(["check-now"], "").await.ok();
    // It knows 2.0 again: the author is told that it exists, and the next release goes through.
    let again = site
        .publish(&script(work.path(), "app", "1.5", FOREVER, ALIVE), &[])
        .await;
    assert!(format!("{}{}", again.refused(), again.stdout).contains("2.0.0"));
    let _ = site
        .publish(&script(work.path(), "app", "3.0", FOREVER, ALIVE), &[])
        .await
        .ok();
    follow.committed("pump", "3.0.0").await;
    assert_eq!(agent.status().await.components.len(), 1);
}

/// A small disk: the release does not fit, the old version runs on, and the reason says what is wrong.
#[tokio::test]
async fn a_full_disk_is_a_reason_and_not_a_broken_device() {
    let site = Site::running(SiteOptions::default()).await;
    let work = tempfile::tempdir().unwrap();
    let disk = site.path("devices/small");
    std::fs::create_dir_all(&disk).unwrap();
    let mounted = shell(&format!(
        "mount -t tmpfs -o size=12m,mode=700 tmpfs {}",
        disk.display()
    ))
    .await;
    if mounted.code != 0 {
        e2e::skip(&format!(
            "this user may not mount a small disk: {}",
            mounted.stderr
        ));
        return;
    }
    let unmount = Unmount(disk.clone());
    let mut follow = site.follow();
    let mut agent = site.enroll("small").await;
    agent.start().await;
    let _ = site
        .publish(&script(work.path(), "app", "1.0", FOREVER, ALIVE), &[])
        .await
        .ok();
    follow.committed("small", "1.0.0").await;
    let package = script(work.path(), "app", "2.0", FOREVER, ALIVE);
    put(&package.join("payload/data.bin"), &noise(20_000_000, 3), 0o644);
    let _ = site.publish(&package, &[]).await.ok();
    let event = follow.outcome("small", "2.0.0").await;
    assert!(matches!(event.step, Step::Failed | Step::Refused), "{event:?}");
    let reason = event.reason.unwrap();
    assert!(
        reason.contains("disk") || reason.contains("space") || reason.contains("room"),
        "{reason}"
    );
    settled(&agent, 1).await;
    let _ = site
        .publish(&script(work.path(), "app", "3.0", FOREVER, ALIVE), &[])
        .await
        .ok();
    follow.committed("small", "3.0.0").await;
    agent.stop().await;
    drop(unmount);
}

struct Unmount(std::path::PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(&self.0)
            .status();
    }
}

/// A repository that is down is one clear message; nothing is published, nothing is lost.
#[tokio::test]
async fn a_repository_that_is_down_is_one_clear_message() {
    let mut site = Site::running(SiteOptions::default()).await;
    let work = tempfile::tempdir().unwrap();
    let mut follow = site.follow();
    let _agent = site.device("pump").await;
    let package = script(work.path(), "app", "1.0", FOREVER, ALIVE);
    site.repository.take().unwrap().kill().await;
    let refused = site.publish(&package, &[]).await;
    assert!(
        refused.refused().contains("cannot reach the repository"),
        "{}",
        refused.stderr
    );
    site.start_repository().await;
    let _ = site.publish(&package, &[]).await.ok();
    follow.committed("pump", "1.0.0").await;
}
