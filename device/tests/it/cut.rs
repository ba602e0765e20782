//! Agents that are cut off: at the n-th point of their way, at a point that is named, by a disk that fails.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use device::agent::Agent;
use device::world::{Cut, Point, World};
use durable::Files;
use durable::faulty::{Fault, Faulty};
use protocol::control::DeviceEvent;
use release::Release;

use crate::site::{Site, wait_for};

/// Ends the agent at a point that is named, once.
#[derive(Debug)]
pub struct CutOnce(Mutex<Option<Point>>);

impl CutOnce {
    pub fn at(point: Point) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Some(point))))
    }
}

impl Cut for CutOnce {
    fn ends_at(&self, point: Point) -> bool {
        let mut at = self.0.lock().unwrap();
        at.take_if(|at| *at == point).is_some()
    }
}

/// Ends the agent at the n-th point it passes, once.
#[derive(Debug)]
struct CutAt {
    at: usize,
    passed: Mutex<Vec<Point>>,
}

impl Cut for CutAt {
    fn ends_at(&self, point: Point) -> bool {
        let mut passed = self.passed.lock().unwrap();
        passed.push(point);
        passed.len() == self.at
    }
}

/// An agent that will be cut off at the n-th point.
pub struct Doomed {
    agent: Agent,
    cut: Arc<CutAt>,
}

impl Doomed {
    pub async fn start(site: &Site, at: usize) -> Self {
        let cut = Arc::new(CutAt {
            at,
            passed: Mutex::default(),
        });
        let world = World {
            cut: cut.clone(),
            ..World::system()
        };
        let agent = site.agent_in(world).await;
        Self { agent, cut }
    }

    /// Waits for the cut, or for the end of this release where the way has no such point: whether it was cut, and where.
    pub async fn ends(self, site: &Site, release: &Release) -> (bool, String) {
        let was_cut = tokio::select! {
            _ = self.agent.until_cut() => true,
            _ = site.ended(release) => {
                // The report may overtake the last points.
                tokio::time::timeout(Duration::from_millis(300), self.agent.until_cut()).await.is_ok()
            }
        };
        self.agent.cut_off().await;
        let what = format!("cut at {:?}", self.cut.passed.lock().unwrap().last());
        (was_cut, what)
    }
}

/// An agent on a disk that fails at the n-th operation.
pub struct OnBadDisk {
    agent: Option<Agent>,
    disk: Arc<Faulty>,
    kills: bool,
}

impl OnBadDisk {
    /// A disk that fails at once keeps the agent from starting; its program is not touched.
    pub async fn start(site: &Site, fault: Fault, at: u64) -> Self {
        let disk = Arc::new(Faulty::new(fault, at));
        let world = World {
            files: Files::on(disk.clone()),
            ..World::system()
        };
        Self {
            agent: site.try_agent_in(world).await.ok(),
            disk,
            kills: matches!(fault, Fault::Killed | Fault::KilledAfter),
        }
    }

    /// Waits until the release has ended in some way, or the disk has killed the agent, and cuts it off; whether the disk
    /// has failed.
    pub async fn ends(self, release: &Release) -> bool {
        let update = release.update_id.parse().unwrap();
        let Some(agent) = self.agent else {
            return self.disk.fired();
        };
        wait_for("an end", || {
            if self.kills && self.disk.fired() {
                return Some(());
            }
            let (events, _) = agent.hub.bus.watch();
            let ended = |line: &DeviceEvent| match line {
                DeviceEvent::Step(event) => event.update == update && event.step.outcome().is_some(),
                DeviceEvent::Message(_) => false,
            };
            events.iter().any(ended).then_some(())
        })
        .await;
        agent.cut_off().await;
        self.disk.fired()
    }
}
