//! A stolen repository and a stolen gateway against those who verify: each forged set is right in all that lies
//! in front of the check that its case names, and the reason proves that this check refused it.

use e2e::forge::{DAY, Listed, Set, Shape, strangers_key, update_id};
use e2e::packages::app;
use e2e::process::{bin, run};
use e2e::rogue::Thing;
use e2e::{Agent, Forge, Rogue, Site, SiteOptions};
use protocol::Outcome;
use protocol::control::CheckResult;

/// One forgery.
struct Case {
    what: &'static str,
    /// What is on the shelf.
    set: Set,
    /// Served without an end.
    endless: Option<&'static str>,
    /// What the refusal must say.
    reason: &'static str,
}

impl Case {
    fn new(what: &'static str, set: Set, reason: &'static str) -> Self {
        Self {
            what,
            set,
            endless: None,
            reason,
        }
    }
}

/// The forgeries, in an order in which none spoils the next: versions that have been seen stay seen.
fn cases(mut forge: Forge, next: &Listed) -> Vec<Case> {
    let stranger = strangers_key();
    let right = forge.sign_targets(next.editor.clone(), &forge.targets_key);
    let mut cases = Vec::new();
    let mut add = |forge: &mut Forge, what, set: Set, reason| {
        cases.push(Case::new(what, set, reason));
        forge.version += 1;
    };
    let name = |forge: &Forge, file: &str| format!("{}.{file}.json", forge.version);

    let foreign = forge.sign_targets(next.editor.clone(), &stranger);
    let set = forge.around(&foreign);
    add(
        &mut forge,
        "targets by a stranger's key",
        set,
        ".targets.json has 0 valid signatures",
    );

    let set = forge.around_with(
        &right,
        Shape {
            online_key: Some(&stranger),
            ..Shape::default()
        },
    );
    add(
        &mut forge,
        "timestamp by a stranger's key",
        set,
        "timestamp.json has 0 valid signatures",
    );

    let mut set = forge.around(&right);
    let foreign = forge.around_with(
        &right,
        Shape {
            online_key: Some(&stranger),
            ..Shape::default()
        },
    );
    // Wrongly signed, but vouched for by a right timestamp: only the signature is left to refuse it.
    let key = name(&forge, "snapshot");
    let snapshot = foreign[&key].clone();
    set.extend(forge.timestamp_of(&snapshot, forge.version));
    set.insert(key, snapshot);
    add(
        &mut forge,
        "snapshot by a stranger's key",
        set,
        ".snapshot.json has 0 valid signatures",
    );

    let set = forge.around_with(
        &right,
        Shape {
            version: Some(7),
            ..Shape::default()
        },
    );
    add(
        &mut forge,
        "an older timestamp",
        set,
        "timestamp.json names version 7 of timestamp",
    );

    let old = forge.sign_targets(forge.editor().version(1), &forge.targets_key);
    let set = forge.around(&old);
    add(
        &mut forge,
        "older targets in a newer snapshot",
        set,
        "names version 1 of targets",
    );

    let mut set = forge.around(&right);
    let other = next.editor.clone().expires(forge.now.plus_seconds(180 * DAY + 1));
    let version = tuf::unverified_version(&right).unwrap();
    set.insert(
        format!("{version}.targets.json"),
        forge.sign_targets(other, &forge.targets_key),
    );
    add(
        &mut forge,
        "targets of another snapshot",
        set,
        "does not have the sha256 hash that its parent names",
    );

    let past = forge.now.plus_seconds(-DAY);
    let before = forge.now.plus_seconds(-3 * DAY);
    let shape = Shape {
        timestamp_expires: Some(past),
        signed_at: Some(before),
        ..Shape::default()
    };
    let set = forge.around_with(&right, shape);
    add(
        &mut forge,
        "an expired timestamp",
        set,
        "timestamp.json expired at",
    );

    let soon = forge.now.plus_seconds(14 * DAY);
    let shape = Shape {
        expires: Some(past),
        timestamp_expires: Some(soon),
        signed_at: Some(before),
        ..Shape::default()
    };
    let set = forge.around_with(&right, shape);
    add(
        &mut forge,
        "an expired snapshot",
        set,
        ".snapshot.json expired at",
    );

    let expired = forge.sign_targets(next.editor.clone().expires(past), &forge.targets_key);
    let set = forge.around_with(
        &expired,
        Shape {
            signed_at: Some(before),
            ..Shape::default()
        },
    );
    add(&mut forge, "expired targets", set, ".targets.json expired at");

    let hour = forge.now.plus_seconds(3600);
    let short = forge.sign_targets(next.editor.clone().expires(hour), &forge.targets_key);
    let signed_at = Some(hour.plus_seconds(3600));
    let set = forge.around_with(
        &short,
        Shape {
            signed_at,
            ..Shape::default()
        },
    );
    add(
        &mut forge,
        "a timestamp signed after its targets had expired",
        set,
        "timestamp.json says it was signed at",
    );

    let mut set = forge.around(&right);
    let key = name(&forge, "snapshot");
    let snapshot = set[&key].clone();
    set.insert("timestamp.json".into(), snapshot);
    add(
        &mut forge,
        "a snapshot in place of a timestamp",
        set,
        "timestamp.json is of type \"snapshot\"",
    );

    let mut set = forge.around(&right);
    set.insert("timestamp.json".into(), b"{\"signed\": {".to_vec());
    add(&mut forge, "a torn timestamp", set, "timestamp.json is malformed");

    let mut set = forge.around(&right);
    set.remove(&name(&forge, "snapshot"));
    add(
        &mut forge,
        "a snapshot that is withheld",
        set,
        "the repository has no",
    );

    let mut set = forge.around(&right);
    set.insert("2.root.json".into(), forge.next_root(&stranger, &stranger));
    add(
        &mut forge,
        "a root by a stranger's key",
        set,
        "2.root.json has 0 valid signatures",
    );

    let mut set = forge.around(&right);
    set.insert("2.root.json".into(), forge.root_of_version(3));
    add(
        &mut forge,
        "a root that leaves one out",
        set,
        "2.root.json says version 3; version 2 must follow",
    );

    let set = forge.around(&right);
    let mut case = Case::new(
        "a timestamp without an end",
        set,
        "timestamp.json is longer than the",
    );
    case.endless = Some("timestamp.json");
    cases.push(case);
    forge.version += 1;

    let set = forge.around(&right);
    let mut case = Case::new("a root without an end", set, "2.root.json is longer than the");
    case.endless = Some("2.root.json");
    cases.push(case);
    forge.version += 1;

    // What is refused above is refused for its flaw alone: without one the same release is taken.
    cases.push(Case::new("nothing wrong", forge.around(&right), ""));
    cases
}

/// Puts a case on the shelf, nothing else beside it.
fn show(rogue: &Rogue, case: &Case) {
    rogue.remove("/metadata/2.root.json");
    rogue.remove("/v1/metadata/2.root.json");
    if let Some(file) = case.endless {
        let first = case.set.get(file).cloned().unwrap_or_default();
        rogue.metadata_with(&case.set, file, &Thing::Endless(first.into()));
    } else {
        rogue.metadata(&case.set);
    }
}

/// Version 1.0.0 of `app` runs on a device; version 2.0.0 is packed but published by nobody.
async fn prepared() -> (Site, Agent, Vec<u8>, Listed, Forge) {
    let work = tempfile::tempdir().unwrap();
    let site = Site::running(SiteOptions {
        poll_seconds: 3600,
        ..SiteOptions::default()
    })
    .await;
    let agent = site.device("north").await;
    let published = site.release(&app(work.path(), "1.0.0")).await;
    assert_eq!(
        agent.watch().outcome("north", published.update).await.0,
        Outcome::Committed
    );
    let tar = work.path().join("app-2.0.0.tar");
    let folder = app(work.path(), "2.0.0").display().to_string();
    let _ = run(
        &bin("admin-gui"),
        ["pack", &folder, "--out", &tar.display().to_string()],
        "",
        &[],
    )
    .await
    .ok();
    let bytes = std::fs::read(&tar).unwrap();
    let forge = Forge::of(&site);
    let next = forge.with_release(&bytes, |release| {
        release.version = "2.0.0".parse().unwrap();
        release.counter += 1;
        release.update_id = update_id(2);
    });
    (site, agent, bytes, next, forge)
}

/// The gateway verifies: R-004-47, R-004-85, R-004-86.
#[tokio::test]
async fn the_gateway_refuses_what_a_stolen_repository_forges() {
    let (mut site, agent, bytes, next, forge) = prepared().await;
    site.stop_repository().await;
    let rogue = Rogue::repository(&site).await;
    let path = format!("/{}", e2e::forge::target_path(&next.name, &next.digest));
    rogue.put_bytes(&path, bytes);
    for case in cases(forge, &next) {
        show(&rogue, &case);
        let found: CheckResult = site.manager(["check-now", "--json"], "").await.ok().json();
        if case.reason.is_empty() {
            break;
        }
        // The gateway's reader gives up before the verifier is asked.
        let reason = if case.endless.is_some() {
            "it looks like endless data"
        } else {
            case.reason
        };
        assert!(found.message.contains(reason), "{}: {}", case.what, found.message);
        let status = site.manager_status().await;
        assert_eq!(status.releases.len(), 1, "{}", case.what);
        assert_eq!(status.releases[0].version.to_string(), "1.0.0", "{}", case.what);
        assert!(
            status.alarms.iter().any(|alarm| alarm.contains(reason)),
            "{}: {:?}",
            case.what,
            status.alarms
        );
        assert!(
            !rogue.asked().contains(&format!("GET {path}")),
            "{}: a byte of it was fetched",
            case.what
        );
    }
    let update = next.release.update_id.parse().unwrap();
    assert_eq!(agent.watch().outcome("north", update).await.0, Outcome::Committed);
    assert_eq!(agent.shows("app").await, "2.0.0 running");
}

/// The device verifies everything again, from its own root: a stolen gateway can delay, never install.
#[tokio::test]
async fn the_device_refuses_what_a_stolen_gateway_forges() {
    let (mut site, agent, bytes, next, forge) = prepared().await;
    let before = agent.processes("app");
    site.stop_manager().await;
    let rogue = Rogue::manager(&site).await;
    rogue.put_bytes(&format!("/v1/targets/{}", next.digest), bytes);
    for (number, case) in (10..).zip(cases(forge, &next)) {
        show(&rogue, &case);
        let mut order = next.order(Some("1.0.0"));
        if case.reason.is_empty() {
            rogue.order(&order);
            break;
        }
        order.update = update_id(number).parse().unwrap();
        rogue.order(&order);
        let report = rogue
            .wait_report(case.what, |report| {
                report.update == Some(order.update) && report.outcome.is_some()
            })
            .await;
        let reason = report.reason.unwrap_or_default();
        assert_eq!(report.outcome, Some(Outcome::Refused), "{}: {reason}", case.what);
        assert!(reason.contains(case.reason), "{}: {reason}", case.what);
        assert_eq!(
            agent.processes("app"),
            before,
            "{}: the running version was touched",
            case.what
        );
        assert_eq!(
            rogue.count("/v1/targets/"),
            0,
            "{}: a byte of it was fetched",
            case.what
        );
    }
    let update = next.release.update_id.parse().unwrap();
    assert_eq!(agent.watch().outcome("north", update).await.0, Outcome::Committed);
    assert_eq!(agent.shows("app").await, "2.0.0 running");
}
