//! A floor that the disk does not take at once.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use device::machine::Life;
use device::trust::Trust;
use device::world::World;
use durable::Files;
use protocol::Outcome;

use crate::disk::{Ear, Heard, Op};
use crate::repository::{good, script};
use crate::site::{Site, component, rest, wait_for};

/// A disk that takes no floors while it is bad.
#[derive(Debug, Default)]
struct NoFloors {
    bad: AtomicBool,
}

impl Ear for NoFloors {
    fn hear(&self, op: Op, path: &Path) -> io::Result<()> {
        if op == Op::Rename && path.ends_with("trust/floors.rec") && self.bad.load(Ordering::SeqCst) {
            return Err(io::Error::from_raw_os_error(5));
        }
        Ok(())
    }
}

/// The floor as the disk has it.
fn floor(site: &Site) -> u64 {
    let trust = Trust::open(&Files::real(), &site.layout(), World::system().clock);
    trust.floors().first().map_or(0, |(_, floor)| *floor)
}

#[tokio::test]
async fn an_update_is_not_over_before_its_floor_is_on_disk() {
    let site = Site::new().await;
    let (agent, _) = site.with_first_version().await;
    agent.stop().await;
    let disk = Arc::new(NoFloors::default());
    let world = || World {
        files: Files::on(Arc::new(Heard(disk.clone()))),
        ..World::system()
    };
    let agent = site.agent_in(world()).await;
    let mut second = script("1.1.0", 2);
    second.probation_seconds = 2;
    site.publish(&second, &good("1.1.0"), Some("1.0.0"));
    // What the metadata brought is on disk by then; only the commit is left.
    wait_for("the probation", || {
        (site.data("running") == "1.1.0").then_some(())
    })
    .await;
    disk.bad.store(true, Ordering::SeqCst);
    let life = |agent: &device::agent::Agent| agent.hub.generation.slot(&component()).life;
    wait_for("the end of the probation", || {
        matches!(life(&agent), Life::Ended(_)).then_some(())
    })
    .await;
    assert_eq!(floor(&site), 1);
    // Also the next agent keeps it open, and mends it without a restart once the disk takes it.
    agent.cut_off().await;
    let agent = site.agent_in(world()).await;
    wait_for("the program", || (site.running().len() == 1).then_some(())).await;
    assert!(matches!(life(&agent), Life::Ended(_)), "{:?}", life(&agent));
    disk.bad.store(false, Ordering::SeqCst);
    site.ends_with(&second, Outcome::Committed).await;
    rest(&agent).await;
    assert_eq!(floor(&site), 2);
    agent.stop().await;
}
