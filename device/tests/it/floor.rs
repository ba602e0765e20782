//! A floor that the disk does not take at once.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use device::machine::Life;
use device::trust::Trust;
use device::world::World;
use durable::{Disk, Files, RealDisk};
use protocol::Outcome;

use crate::repository::{good, script};
use crate::site::{Site, component, wait_for};

/// A disk that takes no floors while it is bad.
#[derive(Debug, Default)]
struct NoFloors {
    bad: AtomicBool,
}

impl Disk for NoFloors {
    fn create_new(&self, path: &Path, mode: u32) -> io::Result<File> {
        RealDisk.create_new(path, mode)
    }
    fn open_write(&self, path: &Path) -> io::Result<File> {
        RealDisk.open_write(path)
    }
    fn open_append(&self, path: &Path, mode: u32) -> io::Result<File> {
        RealDisk.open_append(path, mode)
    }
    fn open_read(&self, path: &Path) -> io::Result<File> {
        RealDisk.open_read(path)
    }
    fn write(&self, file: &File, bytes: &[u8]) -> io::Result<usize> {
        RealDisk.write(file, bytes)
    }
    fn truncate(&self, file: &File, length: u64) -> io::Result<()> {
        RealDisk.truncate(file, length)
    }
    fn reserve(&self, file: &File, length: u64) -> io::Result<()> {
        RealDisk.reserve(file, length)
    }
    fn set_mode(&self, file: &File, mode: u32) -> io::Result<()> {
        RealDisk.set_mode(file, mode)
    }
    fn sync_file(&self, file: &File) -> io::Result<()> {
        RealDisk.sync_file(file)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.sync_dir(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if to.ends_with("trust/floors.rec") && self.bad.load(Ordering::SeqCst) {
            return Err(io::Error::from_raw_os_error(5));
        }
        RealDisk.rename(from, to)
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.link(from, to)
    }
    fn share_blocks(&self, to: &File, from: &File) -> io::Result<()> {
        RealDisk.share_blocks(to, from)
    }

    fn symlink(&self, target: &Path, path: &Path) -> io::Result<()> {
        RealDisk.symlink(target, path)
    }

    fn set_owner(&self, path: &Path, user: u32, group: u32) -> io::Result<()> {
        RealDisk.set_owner(path, user, group)
    }

    fn set_times(&self, path: &Path, times: &rustix::fs::Timestamps) -> io::Result<()> {
        RealDisk.set_times(path, times)
    }

    fn create_dir(&self, path: &Path, mode: u32) -> io::Result<()> {
        RealDisk.create_dir(path, mode)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove_file(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove_dir(path)
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
        files: Files::on(disk.clone()),
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
    wait_for("rest", || (life(&agent) == Life::Idle).then_some(())).await;
    assert_eq!(floor(&site), 2);
    agent.stop().await;
}
