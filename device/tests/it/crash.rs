//! The agent cut off at every point of an install and at failing disk operations, then started again.

use std::sync::Arc;

use device::world::World;
use durable::Files;
use durable::faulty::{Fault, Faulty};
use protocol::Outcome;
use protocol::control::DeviceRequest;
use release::Release;

use crate::cut::{Doomed, OnBadDisk};
use crate::repository::{good, script, sick};
use crate::site::{Site, rest, wait_for};

/// What a round of updates needs to know of the round before.
struct Rounds {
    site: Site,
    current: Release,
    next: u64,
}

impl Rounds {
    async fn new() -> Self {
        let site = Site::new().await;
        let (agent, current) = site.with_first_version().await;
        agent.cut_off().await;
        Self {
            site,
            current,
            next: 2,
        }
    }

    fn publish(&mut self, is_good: bool) -> Release {
        let release = script(&format!("1.{}.0", self.next), self.next);
        self.next += 1;
        let version = release.version.to_string();
        let program = if is_good { good(&version) } else { sick(&version) };
        let current = self.current.version.to_string();
        self.site.publish(&release, &program, Some(&current));
        release
    }

    /// After a restart the device ends what it began, and exactly the version that it says runs.
    async fn settle(&mut self, release: &Release, is_good: bool, what: &str) {
        let agent = self.site.agent().await;
        let report = self.site.ended(release).await;
        let expected = if is_good {
            Outcome::Committed
        } else {
            Outcome::RolledBack
        };
        assert_eq!(report.outcome, Some(expected), "{what}: {:?}", report.reason);
        if is_good {
            self.current = release.clone();
        }
        let version = self.current.version.to_string();
        wait_for(&format!("{version} alone to run, {what}"), || {
            (self.site.data("running") == version && self.site.running().len() == 1).then_some(())
        })
        .await;
        rest(&agent).await;
        agent.cut_off().await;
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
        rounds.settle(&release, is_good, &what).await;
        if !was_cut {
            return at;
        }
    }
    unreachable!()
}

#[tokio::test]
async fn an_update_cut_off_at_every_point_is_finished_after_the_restart() {
    let points = cut_everywhere(true).await;
    assert!(points > 15, "only {points} points were reached");
}

#[tokio::test]
async fn a_roll_back_cut_off_at_every_point_is_finished_after_the_restart() {
    let points = cut_everywhere(false).await;
    assert!(points > 15, "only {points} points were reached");
}

/// Fails the n-th disk operation of an update, for every `stride`-th n, until none is left.
async fn fail_disk(fault: Fault, stride: u64) -> u64 {
    let mut rounds = Rounds::new().await;
    for round in 0.. {
        let at = 1 + round * stride;
        let agent = OnBadDisk::start(&rounds.site, fault, at).await;
        let release = rounds.publish(true);
        let killed = matches!(fault, Fault::Killed | Fault::KilledAfter);
        let has_failed = agent.ends(&release).await;
        let what = format!("{fault:?} at operation {at}");
        // Whatever failed, something runs: the old version or the new one.
        wait_for(&format!("one program, {what}"), || {
            (killed || rounds.site.running().len() == 1).then_some(())
        })
        .await;
        rounds.site.manager.reports.lock().unwrap().clear();
        finish(&mut rounds, &release, &what).await;
        if !has_failed {
            return at;
        }
    }
    unreachable!()
}

/// With a sound disk again: the new version gets there, if it has not been committed before. One that could not be
/// read when it was to start has failed here: a person has to say that it may be tried again.
async fn finish(rounds: &mut Rounds, release: &Release, what: &str) {
    let agent = rounds.site.agent().await;
    let outcome = || {
        let slot = agent.hub.generation.slot(&crate::site::component());
        let failed = slot.bad.iter().any(|bad| bad.version == release.version);
        let current = slot.current.filter(|current| current.version == release.version);
        let idle = slot.life == device::machine::Life::Idle;
        (idle && (failed || current.is_some())).then_some(failed)
    };
    if wait_for(
        &format!("the new version to be committed or refused, {what}"),
        outcome,
    )
    .await
    {
        let component = crate::site::component();
        let socket = rounds.site.layout().control();
        let mut client = control::Client::connect(&socket, "device").await.unwrap();
        let again = DeviceRequest::Release { component };
        client.call::<()>(&again).await.unwrap();
        wait_for(&format!("the new version to be committed, {what}"), || {
            (outcome() == Some(false)).then_some(())
        })
        .await;
    }
    // Committed already before the disk failed: then it may just be starting again.
    wait_for(&format!("the new version to run, {what}"), || {
        let version = rounds.site.data("running");
        (rounds.site.running().len() == 1 && version == release.version.to_string()).then_some(())
    })
    .await;
    rounds.current = release.clone();
    agent.cut_off().await;
}

#[tokio::test]
async fn a_disk_that_fills_up_at_any_operation_leaves_a_running_version() {
    assert!(fail_disk(Fault::NoSpace, 9).await > 60);
}

#[tokio::test]
async fn a_disk_error_at_any_operation_leaves_a_running_version() {
    assert!(fail_disk(Fault::Io, 9).await > 60);
}

#[tokio::test]
async fn a_kill_at_any_disk_operation_is_survived() {
    assert!(fail_disk(Fault::Killed, 9).await > 60);
}

#[tokio::test]
async fn a_device_that_boots_with_a_full_disk_starts_its_program() {
    let rounds = Rounds::new().await;
    rounds.site.end_programs();
    let disk = Arc::new(Faulty::new(Fault::NoSpace, 1));
    let world = World {
        files: Files::on(disk.clone()),
        ..World::system()
    };
    let agent = rounds.site.agent_in(world).await;
    wait_for("the program", || (rounds.site.running().len() == 1).then_some(())).await;
    assert!(disk.fired());
    agent.stop().await;
}
