//! Updates that change the data's schema, cut off at every point and at failing disk operations: the data have the
//! schema of the version that runs, at every rest.

use std::fs;

use control::Client;
use device::agent::Agent;
use device::machine::{Life, Slot};
use durable::faulty::Fault;
use protocol::control::DeviceRequest;
use release::Release;

use crate::cut::{Doomed, OnBadDisk};
use crate::site::{Site, component, wait_for};
use crate::state::packed;

/// Refuses data of another schema than its own, and is well only with its own. Only the very first start makes some.
fn program(schema: u64, is_good: bool) -> Vec<u8> {
    let ready = if is_good { ": >" } else { "rm -f" };
    format!(
        "#!/bin/sh\n\
         [ -f \"$DROVER_DATA/../../begun\" ] || echo 1 > \"$DROVER_DATA/schema\"\n\
         : > \"$DROVER_DATA/../../begun\"\n\
         [ \"$(cat \"$DROVER_DATA/schema\")\" = {schema} ] || {{ echo {schema} >> \"$DROVER_DATA/../../mixed\"; exit 9; }}\n\
         trap 'rm -f \"$DROVER_DATA/ready\"; exit 0' TERM\n\
         echo {schema}.0.0 > \"$DROVER_DATA/running\"\n\
         {ready} \"$DROVER_DATA/ready\"\n\
         {}\n",
        if is_good { "while :; do sleep 1000 & wait $!; done" } else { "exit 3" }
    )
    .into_bytes()
}

/// Trusts nothing: the data must have the schema that it is told, and be whole.
const TRANSFORM: &str = "#!/bin/sh
[ \"$(cat schema)\" = \"$DROVER_SCHEMA_FROM\" ] || { echo \"$DROVER_SCHEMA_FROM\" >> \"$DROVER_DATA/../../../../mixed\"; exit 8; }
echo half > schema
echo \"$DROVER_SCHEMA_TO\" > schema
";

struct Rounds {
    site: Site,
    current: u64,
    next: u64,
}

impl Rounds {
    async fn new() -> Self {
        let site = Site::new().await;
        site.enrolled().await;
        let mut rounds = Self {
            site,
            current: 0,
            next: 1,
        };
        let agent = rounds.site.agent().await;
        let first = rounds.publish(true);
        rounds.rests(&agent, &first, "first").await;
        agent.cut_off().await;
        rounds
    }

    fn publish(&mut self, is_good: bool) -> Release {
        let schema = self.next;
        self.next += 1;
        let state = format!(
            "from = [{}]\nto = {schema}\ntransform = [\"migrate\"]",
            self.current
        );
        let version = format!("{schema}.0.0");
        let (release, bytes) = packed(&version, schema, &program(schema, is_good), &state, TRANSFORM);
        let current = format!("{}.0.0", self.current);
        self.site
            .publish(&release, &bytes, (self.current > 0).then_some(current.as_str()));
        release
    }

    fn slot(agent: &Agent) -> Slot {
        agent.hub.generation.slot(&component())
    }

    /// At rest: what runs, alone, has data of its own schema.
    async fn rests(&mut self, agent: &Agent, release: &Release, what: &str) {
        let end = || {
            let slot = Self::slot(agent);
            let failed = slot.bad_reason_of(release);
            let current = slot
                .current
                .as_ref()
                .is_some_and(|now| now.version == release.version);
            (slot.life == Life::Idle && (failed || current)).then_some(current)
        };
        if wait_for(&format!("the end of the update, {what}"), end).await {
            self.current = release.counter;
        }
        let version = format!("{}.0.0", self.current);
        wait_for(&format!("{version} alone, {what}"), || {
            (self.site.data("running") == version && self.site.running().len() == 1).then_some(())
        })
        .await;
        self.is_not_mixed(what);
        assert_eq!(self.site.data("schema"), self.current.to_string(), "{what}");
        wait_for(&format!("what was kept to go, {what}"), || {
            (!self.site.layout().kept_data(&component()).exists()).then_some(())
        })
        .await;
    }

    /// No version was ever started with data of another's schema.
    fn is_not_mixed(&self, what: &str) {
        let mixed = fs::read_to_string(self.site.layout().root().join("mixed"));
        assert_eq!(mixed.unwrap_or_default(), "", "{what}");
    }

    /// A good one that a fault made look bad is forgiven, and gets there.
    async fn finish(&mut self, release: &Release, is_good: bool, what: &str) {
        let agent = self.site.agent().await;
        self.rests(&agent, release, what).await;
        if is_good && self.current != release.counter {
            let mut client = Client::connect(&self.site.layout().control(), "device")
                .await
                .unwrap();
            let component = component();
            client
                .call::<()>(&DeviceRequest::Release { component })
                .await
                .unwrap();
            self.rests(&agent, release, what).await;
        }
        assert_eq!(self.current == release.counter, is_good, "{what}");
        agent.cut_off().await;
    }
}

trait BadOf {
    fn bad_reason_of(&self, release: &Release) -> bool;
}

impl BadOf for Slot {
    fn bad_reason_of(&self, release: &Release) -> bool {
        self.bad.iter().any(|bad| bad.version == release.version)
    }
}

async fn cut_everywhere(is_good: bool) -> usize {
    let mut rounds = Rounds::new().await;
    for at in 1.. {
        let doomed = Doomed::start(&rounds.site, at).await;
        let release = rounds.publish(is_good);
        let (was_cut, what) = doomed.ends(&rounds.site, &release).await;
        if at % 2 == 0 {
            rounds.site.end_programs();
        }
        rounds.finish(&release, is_good, &what).await;
        if !was_cut {
            return at;
        }
    }
    unreachable!()
}

#[tokio::test]
async fn a_change_of_schema_cut_off_at_every_point_is_finished_after_the_restart() {
    let points = cut_everywhere(true).await;
    assert!(points > 20, "only {points} points were reached");
}

#[tokio::test]
async fn a_change_of_schema_that_fails_and_is_cut_off_at_every_point_is_undone() {
    let points = cut_everywhere(false).await;
    assert!(points > 20, "only {points} points were reached");
}

/// Fails the n-th disk operation of an update, for every `stride`-th n, until none is left.
async fn fail_disk(fault: Fault, stride: u64, is_good: bool) -> u64 {
    let mut rounds = Rounds::new().await;
    for round in 0.. {
        let at = 1 + round * stride;
        let agent = OnBadDisk::start(&rounds.site, fault, at).await;
        let release = rounds.publish(is_good);
        let has_failed = agent.ends(&release).await;
        let what = format!("{fault:?} at operation {at}, good: {is_good}");
        if round % 2 == 0 {
            rounds.site.end_programs();
        }
        rounds.is_not_mixed(&what);
        rounds.site.manager.reports.lock().unwrap().clear();
        rounds.finish(&release, is_good, &what).await;
        if !has_failed {
            return at;
        }
    }
    unreachable!()
}

#[tokio::test]
async fn a_kill_at_any_disk_operation_of_a_change_of_schema_mixes_nothing() {
    assert!(fail_disk(Fault::Killed, 7, true).await > 100);
}

#[tokio::test]
async fn a_kill_at_any_disk_operation_of_a_failing_change_of_schema_mixes_nothing() {
    assert!(fail_disk(Fault::KilledAfter, 7, false).await > 100);
}

#[tokio::test]
async fn a_disk_error_at_any_operation_of_a_change_of_schema_mixes_nothing() {
    assert!(fail_disk(Fault::Io, 17, true).await > 100);
}

#[tokio::test]
async fn a_disk_that_fills_up_at_any_operation_of_a_failing_change_of_schema_mixes_nothing() {
    assert!(fail_disk(Fault::NoSpace, 7, false).await > 100);
}
