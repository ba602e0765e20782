//! A person who does not want the new version while it still proves itself.

use control::{Client, Error};
use device::agent::Agent;
use device::world::{Point, World};
use protocol::control::{DeviceRequest, DeviceStatus};
use protocol::device::Activity;
use protocol::{Outcome, Step};
use release::Release;

use crate::cut::CutOnce;
use crate::repository::{good, script};
use crate::site::{Site, component, rest, wait_for};

/// Seconds that nobody waits for here.
const LONG: u32 = 3600;

async fn ask(site: &Site, request: DeviceRequest) -> Result<(), Error> {
    let mut client = Client::connect(&site.layout().control(), "device").await.unwrap();
    client.call::<()>(&request).await
}

async fn roll_back(site: &Site) -> Result<(), Error> {
    let component = component();
    ask(site, DeviceRequest::Rollback { component }).await
}

async fn status(site: &Site) -> DeviceStatus {
    let mut client = Client::connect(&site.layout().control(), "device").await.unwrap();
    client.call(&DeviceRequest::Status).await.unwrap()
}

/// Orders a good version whose probation does not end, and waits until it is on it.
async fn on_probation(site: &Site, agent: &Agent) -> Release {
    let mut second = script("1.1.0", 2);
    second.probation_seconds = LONG;
    site.publish(&second, &good("1.1.0"), Some("1.0.0"));
    healthy(site, agent).await;
    second
}

async fn healthy(site: &Site, agent: &Agent) {
    wait_for("the new version on probation", || {
        let newest = agent.hub.bus.newest(&component()).last;
        newest
            .is_some_and(|last| last.step == Step::Healthy)
            .then_some(())
    })
    .await;
    assert_eq!(site.data("running"), "1.1.0");
}

/// The old version runs alone, the new one is remembered as bad, and nothing newer is taken until `release`.
async fn is_taken_back(site: &Site, agent: &Agent, release: &Release) {
    let report = site.ends_with(release, Outcome::RolledBack).await;
    let reason = report.reason.unwrap();
    assert!(
        reason.starts_with("rolled back by hand; 1.0.0 runs again"),
        "{reason}"
    );
    wait_for("the old version alone", || {
        (site.data("running") == "1.0.0" && site.running().len() == 1).then_some(())
    })
    .await;
    rest(agent).await;
    let status = status(site).await;
    assert!(status.components[0].held);
    assert_eq!(status.components[0].activity, Activity::Running);
    let bad = &status.details[0].bad[0];
    assert_eq!(
        (bad.version.to_string(), bad.reason.as_str()),
        ("1.1.0".into(), "rolled back by hand")
    );
    let log = agent.hub.log.last(9).unwrap();
    let line = log.iter().find(|line| line.outcome == "rolled back").unwrap();
    assert_eq!(line.version.to_string(), "1.1.0");
    assert!(line.reason.as_ref().unwrap().starts_with("rolled back by hand"));
}

#[tokio::test]
async fn a_version_on_probation_is_rolled_back_by_hand_at_once() {
    let site = Site::new().await;
    let (agent, _) = site.with_first_version().await;
    let second = on_probation(&site, &agent).await;

    let shown = status(&site).await.components.remove(0);
    assert_eq!(shown.activity, Activity::Probation);
    assert_eq!(
        shown.previous.unwrap().to_string(),
        "1.0.0",
        "where a roll back would lead"
    );
    // What cannot be done now is answered all the same.
    let release = DeviceRequest::Release {
        component: component(),
    };
    let busy = ask(&site, release.clone()).await.unwrap_err().to_string();
    assert!(busy.contains("thermostat 1.1.0 is on probation"), "{busy}");

    roll_back(&site).await.unwrap();
    assert_eq!(site.data("running"), "1.0.0", "answered when it is done");
    is_taken_back(&site, &agent, &second).await;

    // The order comes again with every hello, and is refused until a person lets it.
    wait_for("the refusal", || {
        let reports = site.manager.reports.lock().unwrap();
        let refused = reports
            .iter()
            .find(|report| report.outcome == Some(Outcome::Refused));
        refused.map(|report| assert!(report.reason.as_ref().unwrap().contains("held at 1.0.0")))
    })
    .await;
    ask(&site, release).await.unwrap();
    healthy(&site, &agent).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_version_that_is_not_yet_healthy_is_rolled_back_by_hand_at_once() {
    let site = Site::new().await;
    let (agent, _) = site.with_first_version().await;
    let mut second = script("1.1.0", 2);
    second.start_seconds = LONG;
    let never_ready = String::from_utf8(good("1.1.0"))
        .unwrap()
        .replace(": > \"$DROVER_DATA/ready\"\n", "rm -f \"$DROVER_DATA/ready\"\n");
    site.publish(&second, never_ready.as_bytes(), Some("1.0.0"));
    wait_for("its start", || (site.data("running") == "1.1.0").then_some(())).await;
    roll_back(&site).await.unwrap();
    is_taken_back(&site, &agent, &second).await;
    let report = site.ended(&second).await;
    assert!(!report.events.iter().any(|event| event.step == Step::Healthy));
    agent.stop().await;
}

#[tokio::test]
async fn a_first_version_is_rolled_back_to_nothing() {
    let site = Site::new().await;
    site.enrolled().await;
    let agent = site.agent().await;
    let mut first = script("1.0.0", 1);
    first.probation_seconds = LONG;
    site.publish(&first, &good("1.0.0"), None);
    wait_for("its start", || (site.data("running") == "1.0.0").then_some(())).await;
    roll_back(&site).await.unwrap();
    let report = site.ends_with(&first, Outcome::RolledBack).await;
    assert!(report.reason.unwrap().contains("nothing runs"));
    assert!(site.running().is_empty());
    agent.stop().await;
}

#[tokio::test]
async fn a_roll_back_that_comes_too_late_does_not_go_one_version_further() {
    let site = Site::new().await;
    let (agent, _) = site.with_first_version().await;
    let second = script("1.1.0", 2);
    site.publish(&second, &good("1.1.0"), Some("1.0.0"));
    site.ends_with(&second, Outcome::Committed).await;
    let mut third = script("1.2.0", 3);
    third.probation_seconds = LONG;
    third.run.as_mut().unwrap().stop_seconds = 30;
    // It ends when the test lets it.
    let slow = String::from_utf8(good("1.2.0")).unwrap().replace(
        "exit 0' TERM",
        ": > \"$DROVER_DATA/ending\"; while [ ! -f \"$DROVER_DATA/go\" ]; do sleep 0.01; done; exit 0' TERM",
    );
    site.publish(&third, slow.as_bytes(), Some("1.1.0"));
    wait_for("its start", || (site.data("running") == "1.2.0").then_some(())).await;
    let data = site.layout().data(&component());
    let mailbox = agent.hub.unit(&component(), false).unwrap();
    let late = async {
        wait_for("its end", || data.join("ending").exists().then_some(())).await;
        let (reply, answer) = tokio::sync::oneshot::channel();
        mailbox
            .send(device::unit::Command::RollBack(reply))
            .await
            .unwrap();
        std::fs::write(data.join("go"), b"").unwrap();
        answer.await.unwrap()
    };
    let (first, late) = tokio::join!(roll_back(&site), late);
    first.unwrap();
    let late = late.unwrap_err().message;
    assert!(late.contains("has just gone back"), "{late}");
    assert_eq!(site.data("running"), "1.1.0");
    agent.stop().await;
}

/// Rolls back by hand on probation and ends the agent at `point`; the next agent has to go on from there.
async fn cut_at(point: Point) -> (Site, Agent, Release) {
    let site = Site::new().await;
    let (agent, _) = site.with_first_version().await;
    agent.cut_off().await;
    let world = World {
        cut: CutOnce::at(point),
        ..World::system()
    };
    let agent = site.agent_in(world).await;
    let second = on_probation(&site, &agent).await;
    let (answer, _) = tokio::join!(roll_back(&site), agent.until_cut());
    assert!(answer.is_err(), "what is not done is not answered as done");
    agent.cut_off().await;
    let agent = site.agent().await;
    (site, agent, second)
}

#[tokio::test]
async fn a_kill_right_after_the_roll_back_is_written_down_does_not_undo_it() {
    for point in [Point::AfterWriting("returning"), Point::BeforeWriting("ended")] {
        let (site, agent, second) = cut_at(point).await;
        is_taken_back(&site, &agent, &second).await;
        agent.stop().await;
    }
}

#[tokio::test]
async fn a_kill_before_the_roll_back_is_written_down_leaves_the_version_on_probation() {
    let (site, agent, second) = cut_at(Point::BeforeWriting("returning")).await;
    healthy(&site, &agent).await;
    roll_back(&site).await.unwrap();
    is_taken_back(&site, &agent, &second).await;
    agent.stop().await;
}
