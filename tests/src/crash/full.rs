//! A disk that fills up in the middle of an update, a few blocks from now: writes are cut short there, then refused. The
//! agent lives on; when there is room again, it has to come to rest by itself.

use std::path::PathBuf;

use super::cuts::{Disk, possible};
use super::kills::{PER_SITE, Windows};
use super::rig::Rig;
use super::{Plan, Row, Trial};
use crate::draws::Draws;
use crate::site::Agent;

/// Trials, where nothing else is asked.
const TRIALS: usize = 200;
/// Blocks that are left are fewer: an update takes about twice as many.
const BLOCKS: usize = 160;
const BLOCK: u64 = 4096;
/// How long the disk stays full, at most, in milliseconds.
const FULL: usize = 1500;

pub(super) async fn run(plan: Plan, take: &mut impl FnMut(Row)) {
    let what = "the disk is full some blocks later, for a while; ext4";
    let mut left = plan.points.unwrap_or(TRIALS);
    if left > 0
        && let Err(why) = possible("ext4").await
    {
        take(Row::skipped("full", what, why));
        return;
    }
    let mut row = Row::new("full", what);
    let mut draws = Draws(plan.seed ^ 0x6675_6c6c);
    while left > 0 {
        let disk = Disk::new("ext4").await.expect("it was possible before");
        let mut rig = Rig::new(Some(disk.folder().join("north"))).await;
        rig.device.start().await;
        let windows = Windows::measure(&mut rig).await;
        let here = left.min(PER_SITE);
        for _ in 0..here {
            row.note(fill(&mut rig, &disk, &windows, &mut draws).await);
        }
        rig.device.stop().await;
        drop(rig);
        left -= here;
    }
    take(row);
}

/// Takes all of the disk but `left` blocks; gives the room back when it is dropped.
struct Filler(PathBuf);

impl Filler {
    fn new(disk: &Disk, left: usize) -> Self {
        let path = disk.folder().join("filler");
        let free = rustix::fs::statvfs(disk.folder()).expect("mounted");
        let left = u64::try_from(left).expect("small") * BLOCK;
        // All that root may take.
        let length = (free.f_bfree * free.f_frsize).saturating_sub(left).max(1);
        #[expect(
            clippy::disallowed_methods,
            reason = "what takes the room, not state of a program"
        )]
        let file = std::fs::File::create(&path).expect("there is room for a name");
        let mode = rustix::fs::FallocateFlags::empty();
        // The agent may take some of it meanwhile: then nothing is left.
        let mut room = length;
        while rustix::fs::fallocate(&file, mode, 0, room).is_err() && room > BLOCK {
            room -= BLOCK;
        }
        Self(path)
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        durable::remove_file(&self.0).expect("removing takes no room");
    }
}

async fn fill(rig: &mut Rig, disk: &Disk, windows: &Windows, draws: &mut Draws) -> Trial {
    let before = rig.before();
    let (good, delay) = windows.draw(draws);
    let (left, full) = (draws.below(BLOCKS), draws.below(FULL));
    let mut filler = None;
    let release = rig
        .interrupt(good, delay, async |_: &mut Agent| {
            filler = Some(Filler::new(disk, left));
        })
        .await;
    let mut trial = Trial::at(format!("{left} blocks, {}", rig.place(release, &before)));
    // Not a wait for anything: how long it lasts is what differs.
    tokio::time::sleep(std::time::Duration::from_millis(full.try_into().expect("small"))).await;
    rig.hold(release, &before, &mut trial);
    drop(filler);
    // A failed order is tried again later each time: at once by an agent that has just started.
    rig.device.stop().await;
    rig.device.start().await;
    let found = trial.faults.len();
    rig.recover(release, before, &mut trial).await;
    if trial.faults.len() > found {
        let record = rig.device.dir.join("records/install.jsonl");
        let record = std::fs::read_to_string(record).unwrap_or_default();
        let last = record.lines().last().unwrap_or_default();
        for (_, what) in trial.faults.iter_mut().skip(found) {
            what.push_str(&format!("; recorded: {last}"));
        }
    }
    trial
}
