//! What the device does not believe, and that it runs on meanwhile.

use std::path::Path;

use device::world::{Point, World};
use durable::TrustStore;
use protocol::{Outcome, Step};
use release::{Arch, Withdrawn};
use tuf::{Digest, Ed25519Signer};

use crate::cut::CutOnce;
use crate::repository::{good, now, script};
use crate::site::{Site, component, wait_for};

/// Orders 1.1.0 after a change to the repository and gives the reason why it did not come.
async fn refused(site: &Site, outcome: Outcome, change: impl FnOnce(&Site, &release::Release)) -> String {
    let second = script("1.1.0", 2);
    site.manager
        .repository
        .lock()
        .unwrap()
        .publish(&second, &good("1.1.0"));
    change(site, &second);
    site.order(&second, Some("1.0.0"));
    let report = site.ends_with(&second, outcome).await;
    assert_eq!(site.data("running"), "1.0.0");
    assert_eq!(site.running().len(), 1);
    report.reason.unwrap()
}

#[tokio::test]
async fn a_replayed_timestamp_is_refused_as_a_roll_back() {
    let site = Site::new().await;
    let (agent, _) = site.with_first_version().await;
    let old = site.manager.repository.lock().unwrap().metadata["timestamp.json"].clone();
    let second = script("1.1.0", 2);
    site.publish(&second, &good("1.1.0"), Some("1.0.0"));
    site.ends_with(&second, Outcome::Committed).await;
    site.manager
        .repository
        .lock()
        .unwrap()
        .metadata
        .insert("timestamp.json".into(), old);
    let third = script("1.2.0", 3);
    site.order(&third, Some("1.1.0"));
    let report = site.ends_with(&third, Outcome::Refused).await;
    let reason = report.reason.unwrap();
    assert!(
        reason.contains("timestamp") && reason.contains("has been seen"),
        "{reason}"
    );
    assert_eq!(site.data("running"), "1.1.0");
    agent.stop().await;
}

#[tokio::test]
async fn metadata_signed_by_a_stranger_are_refused() {
    let site = Site::new().await;
    let (agent, _) = site.with_first_version().await;
    let reason = refused(&site, Outcome::Refused, |site, release| {
        let mut repository = site.manager.repository.lock().unwrap();
        repository.signer = Ed25519Signer::generate().unwrap().0;
        repository.publish(release, &good("1.1.0"));
    })
    .await;
    assert!(reason.contains("0 valid signatures"), "{reason}");
    agent.stop().await;
}

#[tokio::test]
async fn a_changed_byte_in_the_target_is_found_and_nothing_of_it_stays() {
    let site = Site::new().await;
    let (agent, _) = site.with_first_version().await;
    let digest = Digest::of(&good("1.1.0"));
    let reason = refused(&site, Outcome::Failed, |site, _| {
        let mut repository = site.manager.repository.lock().unwrap();
        repository.targets.get_mut(&digest).unwrap()[20] ^= 1;
    })
    .await;
    assert!(
        reason.contains(&format!("expected {digest}, the received bytes are")),
        "{reason}"
    );
    let left: Vec<_> = walk(&site.layout().downloads());
    assert!(left.is_empty(), "{left:?}");
    assert!(
        agent.hub.components()[0].bad.is_empty(),
        "the release itself is not to blame"
    );
    agent.stop().await;
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        if entry.path().is_dir() {
            found.extend(walk(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

#[tokio::test]
async fn a_target_with_a_byte_too_many_is_refused_after_the_signed_length() {
    let site = Site::new().await;
    let (agent, _) = site.with_first_version().await;
    let digest = Digest::of(&good("1.1.0"));
    let reason = refused(&site, Outcome::Failed, |site, _| {
        let mut repository = site.manager.repository.lock().unwrap();
        repository.targets.get_mut(&digest).unwrap().push(b'#');
    })
    .await;
    assert!(reason.contains("longer than the announced"), "{reason}");
    agent.stop().await;
}

#[tokio::test]
async fn expired_metadata_bring_nothing_new_and_are_shown_as_stale() {
    let site = Site::new().await;
    let (agent, _) = site.with_first_version().await;
    let reason = refused(&site, Outcome::Refused, |site, release| {
        let mut repository = site.manager.repository.lock().unwrap();
        repository.expires = now().plus_seconds(-60);
        repository.publish(release, &good("1.1.0"));
    })
    .await;
    assert!(reason.contains("expired"), "{reason}");
    agent.stop().await;
}

#[tokio::test]
async fn an_older_counter_than_the_committed_one_is_refused() {
    let site = Site::new().await;
    let (agent, _) = site.with_first_version().await;
    let mut old = script("0.9.0", 0);
    old.update_id = "ee".repeat(16);
    site.publish(&old, &good("0.9.0"), Some("1.0.0"));
    let report = site.ends_with(&old, Outcome::Refused).await;
    assert!(report.reason.unwrap().contains("counter 0 is below 1"));
    assert_eq!(site.data("running"), "1.0.0");
    agent.stop().await;
}

#[tokio::test]
async fn what_this_device_cannot_run_is_refused_before_it_is_fetched() {
    let site = Site::new().await;
    let (agent, _) = site.with_first_version().await;
    type Change = fn(&mut release::Release);
    let changes: [(&str, Change); 7] = [
        ("built for", |release| release.arch = Some(Arch::Riscv64)),
        ("for hardware", |release| {
            release.hardware = vec!["valve-3".into()];
        }),
        ("requires an agent", |release| {
            release.requires.agent = Some(">=9.0.0".parse().unwrap());
        }),
        ("requires broker >=2, which is not installed here", |release| {
            let components = &mut release.requires.components;
            components.insert("broker".parse().unwrap(), ">=2".parse().unwrap());
        }),
        ("schema 0, it takes over 2, 3", |release| {
            release.state = Some(release::State {
                from: vec![2],
                ..release::State::of_schema(3)
            });
        }),
        ("bytes of memory", |release| {
            release.requires.memory_bytes = Some(1 << 60);
        }),
        ("bytes free", |release| {
            release.requires.disk_bytes = Some(1 << 60);
        }),
    ];
    for (number, (why, change)) in changes.into_iter().enumerate() {
        let counter = 10 + number as u64;
        let mut release = script(&format!("1.{counter}.0"), counter);
        change(&mut release);
        site.publish(&release, &good(&release.version.to_string()), Some("1.0.0"));
        let report = site.ends_with(&release, Outcome::Refused).await;
        let reason = report.reason.unwrap();
        assert!(reason.contains(why), "{reason}");
        assert!(
            !report
                .events
                .iter()
                .any(|event| event.step == Step::DownloadStarted)
        );
    }
    agent.stop().await;
}

#[tokio::test]
async fn a_withdrawn_release_is_refused() {
    let site = Site::new().await;
    let (agent, _) = site.with_first_version().await;
    let mut second = script("1.1.0", 2);
    second.withdrawn = Some(Withdrawn {
        at: now(),
        reason: "burns the boiler".into(),
    });
    site.publish(&second, &good("1.1.0"), Some("1.0.0"));
    let report = site.ends_with(&second, Outcome::Refused).await;
    assert!(report.reason.unwrap().contains("burns the boiler"));
    agent.stop().await;
}

#[tokio::test]
async fn a_release_withdrawn_while_it_is_staged_is_dropped() {
    let site = Site::new().await;
    let (agent, _) = site.with_first_version().await;
    agent.cut_off().await;
    let cut = CutOnce::at(Point::AfterWriting("staged"));
    let agent = site
        .agent_in(World {
            cut,
            ..World::system()
        })
        .await;
    let mut second = script("1.1.0", 2);
    site.publish(&second, &good("1.1.0"), Some("1.0.0"));
    agent.until_cut().await;
    second.withdrawn = Some(Withdrawn {
        at: now(),
        reason: "burns the boiler".into(),
    });
    site.manager
        .repository
        .lock()
        .unwrap()
        .publish(&second, &good("1.1.0"));
    agent.hub.trust.refresh(&agent.hub.manager).await.unwrap();
    agent.cut_off().await;
    let agent = site.agent().await;
    let report = site.ends_with(&second, Outcome::Failed).await;
    assert!(
        report
            .reason
            .unwrap()
            .contains("withdrawn by its author while it was staged")
    );
    assert!(report.events.iter().any(|event| event.step == Step::Withdrawn));
    assert!(!site.layout().release(&Digest::of(&good("1.1.0"))).exists());
    assert_eq!(site.data("running"), "1.0.0");
    agent.stop().await;
}

/// Changes what lies staged before its switch and gives the reason why it was not switched to.
async fn changed_while_staged(change: impl FnOnce(&Path)) -> String {
    let site = Site::new().await;
    let (agent, _) = site.with_first_version().await;
    let before = site.running();
    agent.cut_off().await;
    let cut = CutOnce::at(Point::AfterWriting("staged"));
    let agent = site
        .agent_in(World {
            cut,
            ..World::system()
        })
        .await;
    let second = script("1.1.0", 2);
    site.publish(&second, &good("1.1.0"), Some("1.0.0"));
    agent.until_cut().await;
    agent.cut_off().await;
    let staged = site.layout().release(&Digest::of(&good("1.1.0")));
    change(&staged.join("payload/thermostat.sh"));
    let agent = site.agent().await;
    let report = site.ends_with(&second, Outcome::Failed).await;
    // Refused before anything was stopped: not tried and rolled back.
    assert!(!report.events.iter().any(|event| event.step == Step::Stopping));
    assert_eq!(site.running(), before);
    assert_eq!(site.data("running"), "1.0.0");
    assert!(!staged.exists(), "what was changed does not stay");
    agent.stop().await;
    report.reason.unwrap()
}

#[tokio::test]
async fn what_was_changed_or_lost_while_it_was_staged_is_not_switched_to() {
    let one_byte = changed_while_staged(|file| {
        let mut bytes = std::fs::read(file).unwrap();
        let place = bytes.len() - 3;
        bytes[place] ^= 1;
        std::fs::write(file, &bytes).unwrap();
    });
    let lost = changed_while_staged(|file| std::fs::remove_file(file).unwrap());
    let (one_byte, lost) = tokio::join!(one_byte, lost);
    for reason in [one_byte, lost] {
        assert_eq!(
            reason,
            "payload/thermostat.sh of the installed release was changed on this disk"
        );
    }
}

#[tokio::test]
async fn damaged_trust_keeps_the_program_running_and_says_the_way_back() {
    let site = Site::new().await;
    let (agent, _) = site.with_first_version().await;
    agent.stop().await;
    let state = site.layout().trust().join("state.rec");
    let whole = std::fs::read(&state).unwrap();
    std::fs::write(&state, &whole[..whole.len() / 2]).unwrap();

    let agent = site.agent().await;
    wait_for("the program", || (site.running().len() == 1).then_some(())).await;
    let trouble = agent.hub.status().trouble.unwrap();
    assert!(trouble.contains("repair-trust"), "{trouble}");
    let second = script("1.1.0", 2);
    site.publish(&second, &good("1.1.0"), Some("1.0.0"));
    let report = site.ends_with(&second, Outcome::Refused).await;
    assert!(report.reason.unwrap().contains("repair-trust"));
    wait_for("a hello that tells it", || {
        let hellos = site.manager.hellos.lock().unwrap();
        hellos.last().and_then(|hello| hello.trouble.clone())
    })
    .await;
    agent.stop().await;

    device::repair::repair(&site.layout(), &World::system(), &site.root_file(), false).unwrap();
    let store = TrustStore::open(site.layout().trust()).unwrap();
    assert_eq!(
        store.load().unwrap().release_floor("thermostat"),
        1,
        "the floor is kept"
    );
    let agent = site.agent().await;
    wait_for("the update", || (site.data("running") == "1.1.0").then_some(())).await;
    agent.stop().await;
}

#[tokio::test]
async fn with_both_copies_damaged_only_the_dangerous_way_is_left_and_keeps_what_runs_as_floor() {
    let site = Site::new().await;
    let (agent, _) = site.with_first_version().await;
    agent.stop().await;
    for name in ["state.rec", "floors.rec"] {
        std::fs::write(site.layout().trust().join(name), b"").unwrap();
    }
    let world = World::system();
    let error = device::repair::repair(&site.layout(), &world, &site.root_file(), false).unwrap_err();
    assert!(error.to_string().contains("--danger-forget-floors"), "{error}");
    device::repair::repair(&site.layout(), &world, &site.root_file(), true).unwrap();
    let store = TrustStore::open(site.layout().trust()).unwrap();
    assert_eq!(store.load().unwrap().release_floor("thermostat"), 1);
}

#[tokio::test]
async fn a_damaged_record_of_what_runs_is_mended_from_its_copy_or_the_release_folders() {
    let site = Site::new().await;
    let (agent, first) = site.with_first_version().await;
    wait_for("the copy", || {
        site.layout()
            .state()
            .join("generation.copy.rec")
            .exists()
            .then_some(())
    })
    .await;
    agent.stop().await;
    for damaged in [
        &["generation.rec"][..],
        &["generation.rec", "generation.copy.rec"][..],
    ] {
        for name in damaged {
            std::fs::write(site.layout().state().join(name), b"nonsense").unwrap();
        }
        let agent = site.agent().await;
        wait_for("the program", || (site.running().len() == 1).then_some(())).await;
        assert_eq!(
            agent.hub.generation.slot(&component()).current.unwrap().version,
            first.version
        );
        assert!(agent.hub.status().trouble.unwrap().contains("was damaged"));
        agent.stop().await;
    }
}

#[tokio::test]
async fn an_order_under_another_update_id_than_the_signed_one_is_refused() {
    let site = Site::new().await;
    let (agent, _) = site.with_first_version().await;
    let second = script("1.1.0", 2);
    site.manager
        .repository
        .lock()
        .unwrap()
        .publish(&second, &good("1.1.0"));
    let mut renamed = second.clone();
    renamed.update_id = script("1.9.0", 9).update_id;
    assert_ne!(renamed.update_id, second.update_id);
    site.order(&renamed, Some("1.0.0"));
    let reason = site.ends_with(&renamed, Outcome::Refused).await.reason.unwrap();
    assert!(reason.contains("its author signed"), "{reason}");
    assert_eq!(site.data("running"), "1.0.0");
    agent.stop().await;
}

#[tokio::test]
async fn an_old_copy_of_either_file_brings_no_old_metadata_back_to_the_device() {
    let site = Site::new().await;
    let (agent, _) = site.with_first_version().await;
    let trust = site.layout().trust();
    let copy = |name: &str| std::fs::read(trust.join(name)).unwrap();
    let names = ["state.rec", "floors.rec"];
    let old = names.map(copy);
    let yesterday = site.manager.repository.lock().unwrap().metadata.clone();
    let second = script("1.1.0", 2);
    site.publish(&second, &good("1.1.0"), Some("1.0.0"));
    site.ends_with(&second, Outcome::Committed).await;
    agent.stop().await;
    assert_ne!(old, names.map(copy));

    // One after the other, with a start in between while the gateway is away.
    for (number, order) in [[0, 1], [1, 0]].into_iter().enumerate() {
        for which in order {
            std::fs::write(trust.join(names[which]), &old[which]).unwrap();
            *site.manager.down.lock().unwrap() = true;
            let agent = site.agent().await;
            wait_for("the program", || (site.running().len() == 1).then_some(())).await;
            assert_eq!(agent.hub.trust.release_floor("thermostat").await, 2);
            agent.stop().await;
            *site.manager.down.lock().unwrap() = false;
        }
        let today = std::mem::replace(
            &mut site.manager.repository.lock().unwrap().metadata,
            yesterday.clone(),
        );
        let agent = site.agent().await;
        let mut again = script("1.0.0", 1);
        again.update_id = format!("{number}e").repeat(16);
        site.order(&again, Some("1.1.0"));
        let report = site.ends_with(&again, Outcome::Refused).await;
        let reason = report.reason.unwrap();
        assert!(reason.contains("has been seen"), "{reason}");
        assert_eq!(site.data("running"), "1.1.0");
        agent.stop().await;
        site.manager.repository.lock().unwrap().metadata = today;
    }
    let agent = site.agent().await;
    let third = script("1.2.0", 3);
    site.publish(&third, &good("1.2.0"), Some("1.1.0"));
    site.ends_with(&third, Outcome::Committed).await;
    agent.stop().await;
}
