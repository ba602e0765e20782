//! `device plan`: what would become of a release, asked of the agent and where none runs.

use control::Client;
use device::agent::Agent;
use protocol::Outcome;
use protocol::control::{DevicePlan, DeviceRequest};
use release::plan::Answer;
use release::{Category, Nature, Policy, Release, Stillness, Urgency};

use crate::repository::{good, script};
use crate::site::{Site, component};

async fn ask(site: &Site, version: Option<&str>) -> anyhow::Result<DevicePlan> {
    let mut client = Client::connect(&site.layout().control(), "the agent").await?;
    let request = DeviceRequest::Plan {
        component: component(),
        version: version.map(|version| version.parse().unwrap()),
    };
    Ok(client.call(&request).await?)
}

/// What the command prints, asked from outside.
fn command(site: &Site, more: &[&str]) -> (bool, String) {
    let dir = site.layout().root().to_owned();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_device"))
        .args(["plan", "--dir"])
        .arg(dir)
        .args(more)
        .output()
        .unwrap();
    let said = if output.status.success() {
        output.stdout
    } else {
        output.stderr
    };
    (output.status.success(), String::from_utf8(said).unwrap())
}

/// A release that the device knows, by hand only, so that nothing of it is installed.
async fn known(site: &Site, agent: &Agent, nature: Option<Nature>) -> Release {
    let second = Release {
        nature,
        policy: Policy {
            urgency: Urgency::ByHand,
            ..Policy::default()
        },
        ..script("1.1.0", 2)
    };
    site.manager
        .repository
        .lock()
        .unwrap()
        .publish(&second, &good("1.1.0"));
    agent.hub.trust.refresh(&agent.hub.manager).await.unwrap();
    second
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_says_what_would_become_of_a_release_and_does_nothing() {
    let site = Site::new().await;
    let (agent, _) = site.with_first_version().await;
    known(&site, &agent, None).await;
    let before = site.running();
    let planned = ask(&site, None).await.unwrap();
    assert_eq!(planned.version.to_string(), "1.1.0");
    assert_eq!(planned.running.as_ref().unwrap().to_string(), "1.0.0");
    assert_eq!(planned.plan.answer, Answer::Restart, "{planned:?}");
    assert!(planned.plan.reasons[0].contains("[nature]"), "{planned:?}");
    // The first install paused nothing.
    assert_eq!(planned.plan.pause.unwrap().measured, 0);
    assert!(planned.waits[0].contains("a person must say so"), "{planned:?}");
    let (ok, text) = command(&site, &["thermostat"]);
    assert!(
        ok && text.contains("answer   restart") && text.contains("(1.0.0 runs)"),
        "{text}"
    );
    let again = ask(&site, Some("1.0.0")).await.unwrap();
    assert_eq!(again.plan.answer, Answer::NeedsPerson);
    assert!(
        again.plan.reasons[0].contains("it runs here already"),
        "{again:?}"
    );
    let none = ask(&site, Some("9.9.9")).await.unwrap_err().to_string();
    assert!(none.contains("know no release thermostat 9.9.9"), "{none}");
    assert_eq!((site.running(), site.data("running").as_str()), (before, "1.0.0"));
    assert!(!site.layout().release(&tuf::Digest::of(&good("1.1.0"))).exists());
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_is_said_where_no_agent_runs() {
    let site = Site::new().await;
    let (agent, _) = site.with_first_version().await;
    let lost = Nature {
        never_kept: Some("the accesses since creation".into()),
        ..Nature::plain(Category::Disk, Stillness::Data)
    };
    known(&site, &agent, Some(lost)).await;
    let asked = ask(&site, None).await.unwrap();
    agent.stop().await;
    let (ok, text) = command(&site, &["thermostat@1.1.0", "--json"]);
    assert!(ok, "{text}");
    let planned: DevicePlan = serde_json::from_str(&text).unwrap();
    assert_eq!(planned.plan, asked.plan);
    assert_eq!(planned.plan.answer, Answer::Impossible);
    let (ok, text) = command(&site, &["pump"]);
    assert!(!ok && text.contains("know no release pump"), "{text}");
}

/// R-003-24, 43: what speaks against it here is found before anybody tries.
#[tokio::test(flavor = "multi_thread")]
async fn hardware_that_is_not_there_and_files_that_were_changed_need_a_person() {
    let site = Site::new().await;
    let (agent, _) = site.with_first_version().await;
    let mut second = known(&site, &agent, None).await;
    let digest = agent.hub.components()[0].digest.unwrap();
    let file = site.layout().release(&digest).join("payload/thermostat.sh");
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, b"#!/bin/sh\n").unwrap();
    let tainted = ask(&site, None).await.unwrap();
    assert_eq!(tainted.plan.answer, Answer::NeedsPerson);
    assert!(
        tainted.plan.reasons[0].contains("payload/thermostat.sh"),
        "{tainted:?}"
    );
    std::fs::write(&file, whole).unwrap();
    assert_eq!(ask(&site, None).await.unwrap().plan.answer, Answer::Restart);
    second.requires.memory_bytes = Some(1 << 50);
    site.manager
        .repository
        .lock()
        .unwrap()
        .publish(&second, &good("1.1.0"));
    agent.hub.trust.refresh(&agent.hub.manager).await.unwrap();
    let small = ask(&site, None).await.unwrap();
    assert_eq!(small.plan.answer, Answer::NeedsPerson);
    assert!(small.plan.reasons[0].contains("bytes of memory"), "{small:?}");
    agent.stop().await;
}

/// The next prediction is made from what was measured here.
#[tokio::test(flavor = "multi_thread")]
async fn earlier_switches_are_learnt_from() {
    let site = Site::new().await;
    let (agent, _) = site.with_first_version().await;
    for (version, counter, expects) in [("1.0.1", 2, "1.0.0"), ("1.0.2", 3, "1.0.1")] {
        let next = script(version, counter);
        site.publish(&next, &good(version), Some(expects));
        site.ends_with(&next, Outcome::Committed).await;
        crate::site::rest(&agent).await;
    }
    let last = script("1.1.0", 4);
    site.manager
        .repository
        .lock()
        .unwrap()
        .publish(&last, &good("1.1.0"));
    agent.hub.trust.refresh(&agent.hub.manager).await.unwrap();
    let planned = ask(&site, None).await.unwrap();
    assert_eq!(planned.plan.pause.unwrap().measured, 2, "{planned:?}");
    assert_eq!(planned.facts.restart_ms.len(), 2);
    agent.stop().await;
}
