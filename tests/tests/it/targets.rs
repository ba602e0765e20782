//! Right metadata, and everything behind them wrong: other bytes, too many, a hostile package, an order for what
//! should not run. The author's own keys signed all of it, so that only the check that is named is left.

use std::path::Path;
use std::process::Command;

use e2e::forge::{Listed, target_path, update_id};
use e2e::packages::{app, put};
use e2e::process::{bin, run};
use e2e::rogue::Thing;
use e2e::{Agent, Forge, Rogue, Site, SiteOptions};
use protocol::control::DownloadEntry;
use protocol::{Outcome, Report};
use release::Release;

/// A device that has committed 1.0.0 and 2.0.0 of `app`, and the keys of its site.
async fn running() -> (Site, Agent, Forge) {
    let work = tempfile::tempdir().unwrap();
    let site = Site::running(SiteOptions {
        poll_seconds: 3600,
        ..SiteOptions::default()
    })
    .await;
    let agent = site.device("north").await;
    let steps = agent.watch();
    for version in ["1.0.0", "2.0.0"] {
        let published = site.release(&app(work.path(), version)).await;
        assert_eq!(
            steps.outcome("north", published.update).await.0,
            Outcome::Committed
        );
    }
    let forge = Forge::of(&site);
    (site, agent, forge)
}

/// A package of `app`, packed as an author would.
async fn packed(version: &str) -> Vec<u8> {
    let work = tempfile::tempdir().unwrap();
    let tar = work.path().join("app.tar");
    let folder = app(work.path(), version).display().to_string();
    let _ = run(
        &bin("admin-gui"),
        ["pack", &folder, "--out", &tar.display().to_string()],
        "",
        &[],
    )
    .await
    .ok();
    std::fs::read(&tar).unwrap()
}

/// Numbers each forgery: version 3.0.N, its own update, the next metadata version.
struct Series {
    forge: Forge,
    number: u8,
}

impl Series {
    fn list(&mut self, bytes: &[u8], change: impl FnOnce(&mut Release)) -> Listed {
        self.number += 1;
        let number = self.number;
        let listed = self.forge.with_release(bytes, |release| {
            release.version = format!("3.0.{number}").parse().unwrap();
            release.counter += u64::from(number);
            release.update_id = update_id(number);
            change(release);
        });
        let targets = self
            .forge
            .sign_targets(listed.editor.clone(), &self.forge.targets_key);
        self.forge.version += 1;
        self.forge.targets = targets;
        listed
    }

    /// Puts the newest metadata on the shelf.
    fn show(&self, rogue: &Rogue) {
        rogue.metadata(&self.forge.around(&self.forge.targets));
    }
}

/// The device's report on an update.
async fn report(rogue: &Rogue, what: &str, listed: &Listed) -> Report {
    let update = Some(listed.release.update_id.parse().unwrap());
    rogue
        .wait_report(what, |report| report.update == update && report.outcome.is_some())
        .await
}

#[tokio::test]
async fn the_device_takes_no_other_bytes_than_the_signed_ones() {
    let (mut site, agent, forge) = running().await;
    site.stop_manager().await;
    let rogue = Rogue::manager(&site).await;
    let mut series = Series { forge, number: 0 };
    let bytes = packed("3.0.0").await;
    let mut flipped = bytes.clone();
    flipped[2000] ^= 1;
    let mut longer = bytes.clone();
    longer.extend_from_slice(b"and one more thing");
    let mut runs = "2.0.0".to_owned();
    for (what, thing, reason) in [
        (
            "one bit flipped",
            Thing::Bytes(flipped.into()),
            "received bytes are",
        ),
        (
            "longer than signed",
            Thing::Bytes(longer.into()),
            "longer than the",
        ),
        (
            "bytes without an end",
            Thing::Endless(bytes.clone().into()),
            "longer than the",
        ),
    ] {
        // The same program under another digest each time.
        let mut own = bytes.clone();
        let end = own.len() - 1;
        own[end] = series.number;
        let listed = series.list(&own, |_| {});
        let path = format!("/v1/targets/{}", listed.digest);
        rogue.put(&path, thing);
        series.show(&rogue);
        let before = agent.processes("app");
        rogue.order(&listed.order(Some(&runs)));
        let report = report(&rogue, what, &listed).await;
        let text = report.reason.unwrap_or_default();
        assert_eq!(report.outcome, Some(Outcome::Failed), "{what}: {text}");
        assert!(text.contains(reason), "{what}: {text}");
        assert_eq!(
            agent.processes("app"),
            before,
            "{what}: the running version was touched"
        );
        assert!(rogue.count(&path) < 4, "{what}: it is fetched for ever");
        assert!(
            !agent.dir.join(format!("releases/{}", listed.digest)).exists(),
            "{what}"
        );
        if runs == "2.0.0" {
            // Wrong bytes blame who sent them, not the release: from an honest sender it is taken, after a pause.
            rogue.put_bytes(&path, own);
            let update = Some(listed.release.update_id.parse().unwrap());
            let wanted =
                |report: &Report| report.update == update && report.outcome == Some(Outcome::Committed);
            rogue.wait_report("honest bytes", wanted).await;
            runs = listed.release.version.to_string();
        }
    }
    assert_eq!(agent.shows("app").await, format!("{runs} running"));
}

#[tokio::test]
async fn the_device_follows_no_order_that_it_should_not() {
    let (mut site, agent, forge) = running().await;
    let before = agent.processes("app");
    site.stop_manager().await;
    let rogue = Rogue::manager(&site).await;
    let first = forge.listed().remove(0);
    let first_release = Release::from_custom(first.1.custom.as_ref().unwrap()).unwrap();
    let mut series = Series { forge, number: 0 };
    let bytes = packed("3.0.0").await;
    let counter = first_release.counter;

    type Change = Box<dyn FnOnce(&mut Release)>;
    let changes: Vec<(&str, Change, &str)> = vec![
        (
            "a counter that was burnt",
            Box::new(move |release| release.counter = counter),
            "is below",
        ),
        (
            "another processor",
            Box::new(|release| release.arch = Some(release::Arch::Armv7)),
            "it is built for armv7",
        ),
        (
            "another machine",
            Box::new(|release| release.hardware = vec!["plc-9".into()]),
            "it is for hardware plc-9",
        ),
        (
            "a newer agent",
            Box::new(|release| release.requires.agent = Some(">=99".parse().unwrap())),
            "it requires an agent >=99",
        ),
        (
            "more memory than there is",
            Box::new(|release| release.requires.memory_bytes = Some(1 << 50)),
            "bytes of memory",
        ),
        (
            "more disk than there is",
            Box::new(|release| release.requires.disk_bytes = Some(1 << 50)),
            "bytes free",
        ),
        (
            "taken back by its author",
            Box::new(|release| {
                let reason = "it hums".to_owned();
                release.withdrawn = Some(release::Withdrawn {
                    at: tuf::UnixTime(1_790_000_000),
                    reason,
                });
            }),
            "withdrawn by its author: it hums",
        ),
    ];
    for (what, change, reason) in changes {
        let listed = series.list(&bytes, change);
        series.show(&rogue);
        rogue.order(&listed.order(Some("2.0.0")));
        let report = report(&rogue, what, &listed).await;
        let text = report.reason.unwrap_or_default();
        assert_eq!(report.outcome, Some(Outcome::Refused), "{what}: {text}");
        assert!(text.contains(reason), "{what}: {text}");
    }

    // Orders that do not fit: the older release again, another one's target, what nobody listed, a wrong belief.
    let listed = series.list(&bytes, |_| {});
    series.show(&rogue);
    let order = listed.order(Some("2.0.0"));
    let old = e2e::forge::Listed {
        editor: listed.editor.clone(),
        name: first.0.clone(),
        digest: first.1.sha256().unwrap(),
        release: first_release,
    };
    let mut older = old.order(Some("2.0.0"));
    older.update = update_id(201).parse().unwrap();
    let mut mismatched = order.clone();
    mismatched.update = update_id(202).parse().unwrap();
    mismatched.version = "9.0.0".parse().unwrap();
    let mut unlisted = order.clone();
    unlisted.update = update_id(203).parse().unwrap();
    unlisted.version = "9.0.0".parse().unwrap();
    unlisted.target = "app/9.0.0/app.tar".parse().unwrap();
    let mut believed = order.clone();
    believed.update = update_id(204).parse().unwrap();
    believed.expects = Some("1.0.0".parse().unwrap());
    for (what, order, reason) in [
        ("the older release again", older, "which has been committed here"),
        (
            "an order that names another target",
            mismatched,
            "names the target",
        ),
        (
            "a target that nobody signed",
            unlisted,
            "is not in the verified metadata",
        ),
        (
            "an order made for another state",
            believed,
            "expects 1.0.0 to run, but 2.0.0 runs",
        ),
    ] {
        rogue.order(&order);
        let report = rogue
            .wait_report(what, |report| report.update == Some(order.update))
            .await;
        let text = report.reason.unwrap_or_default();
        assert_eq!(report.outcome, Some(Outcome::Refused), "{what}: {text}");
        assert!(text.contains(reason), "{what}: {text}");
    }
    assert_eq!(agent.processes("app"), before);
    assert_eq!(rogue.count("/v1/targets/"), 0, "a byte was fetched");
}

/// A package with the author's own signature may still be hostile, if the author's desk was taken.
#[tokio::test]
async fn a_hostile_package_leaves_nothing_outside_its_folder() {
    let (mut site, agent, forge) = running().await;
    let before = agent.processes("app");
    site.stop_manager().await;
    let rogue = Rogue::manager(&site).await;
    let mut series = Series { forge, number: 0 };
    let work = tempfile::tempdir().unwrap();
    let folder = app(work.path(), "3.0.0");
    put(&folder.join("payload/evil"), b"#!/bin/sh\n", 0o755);
    let tar = |more: &[&str]| {
        let file = work.path().join("hostile.tar");
        let mut command = Command::new("tar");
        command
            .args(["--format=ustar", "-C"])
            .arg(&folder)
            .arg("-Pcf")
            .arg(&file)
            .args(more);
        let output = command.args(["update.toml", "payload"]).output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        std::fs::read(&file).unwrap()
    };
    let outside = agent.dir.join("evil");
    let up = "s,payload/evil,payload/../../../evil,";
    let absolute = format!("s,payload/evil,{},", outside.display());
    let climbs = tar(&["--transform", up]);
    let rooted = tar(&["--transform", &absolute]);
    std::os::unix::fs::symlink("/etc", folder.join("payload/link")).unwrap();
    let links = tar(&[]);
    for (what, bytes, reason) in [
        ("it climbs out", climbs, "evil"),
        ("it names an absolute path", rooted, "evil"),
        ("it links out", links, "link"),
        ("it is no package", b"not a tar at all".repeat(100), "package"),
    ] {
        let listed = series.list(&bytes, |_| {});
        rogue.put_bytes(&format!("/v1/targets/{}", listed.digest), bytes);
        series.show(&rogue);
        rogue.order(&listed.order(Some("2.0.0")));
        let report = report(&rogue, what, &listed).await;
        let text = report.reason.unwrap_or_default();
        assert_eq!(report.outcome, Some(Outcome::Failed), "{what}: {text}");
        assert!(text.contains(reason), "{what}: {text}");
        assert!(
            !outside.exists() && !agent.dir.join("releases/evil").exists(),
            "{what}"
        );
    }
    assert_eq!(agent.processes("app"), before);
    assert_eq!(
        count(&agent.dir.join("releases")),
        2,
        "what was refused is still there"
    );
}

fn count(dir: &Path) -> usize {
    std::fs::read_dir(dir).unwrap().count()
}

/// R-004-56, R-004-57 [C]: a wrong file is kept aside, told of once, and not fetched every ten seconds for ever.
#[tokio::test]
async fn the_gateway_fetches_a_wrong_file_once_and_tells_of_it_once() {
    let (mut site, agent, forge) = running().await;
    site.stop_repository().await;
    let rogue = Rogue::repository(&site).await;
    let steps = site.watch();
    let mut series = Series { forge, number: 0 };
    let bytes = packed("3.0.0").await;
    let mut flipped = bytes.clone();
    flipped[2000] ^= 1;
    for (what, thing, reason) in [
        (
            "one bit flipped",
            Thing::Bytes(flipped.into()),
            "received bytes are",
        ),
        (
            "bytes without an end",
            Thing::Endless(bytes.clone().into()),
            "endless data",
        ),
    ] {
        let mut own = bytes.clone();
        let end = own.len() - 1;
        own[end] = series.number;
        let listed = series.list(&own, |_| {});
        let path = format!("/{}", target_path(&listed.name, &listed.digest));
        rogue.put(&path, thing);
        series.show(&rogue);
        site.check_by_timer().await;
        let told = steps.message_with("manager.verify.failure", reason).await;
        for _ in 0..4 {
            site.check_by_timer().await;
        }
        assert_eq!(rogue.count(&path), 1, "{what}: fetched again and again");
        assert!(
            told.text.starts_with("Verify failure! File has been corrupted!"),
            "{}",
            told.text
        );
        let times = steps
            .messages()
            .iter()
            .filter(|message| message.id == told.id && message.text.contains(reason))
            .count();
        assert_eq!(times, 1, "{what}: told {times} times");
        let entries: Vec<DownloadEntry> = site.manager(["history", "--json"], "").await.ok().json();
        let entry = entries.last().unwrap();
        assert!(entry.outcome.contains(reason), "{what}: {}", entry.outcome);
        let status = site.manager_status().await;
        assert!(
            status.alarms.iter().any(|alarm| alarm.contains(reason)),
            "{what}: {:?}",
            status.alarms
        );
        let row = status
            .releases
            .iter()
            .find(|row| row.digest == listed.digest)
            .unwrap();
        assert!(!row.mirrored, "{what}: it is in the mirror");
    }
    // The device was offered nothing and runs what it ran.
    assert_eq!(agent.shows("app").await, "2.0.0 running");
    assert_eq!(agent.history().await.len(), 2);
}
