//! Power cuts: the device's folder lies on a disk of its own, which is shut down without a flush at a random moment; what
//! runs there is killed with it, the disk is mounted again, and the agent started again.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::kills::{PER_SITE, Windows};
use super::rig::Rig;
use super::{Plan, Row, Trial};
use crate::draws::Draws;
use crate::process::{Program, bin, run as command};
use crate::site::Agent;

/// Size of the disk, in the words of `truncate`: xfs takes little less than 300 MiB.
const DISK_SIZE: &str = "400M";
/// Tries to unmount a disk whose last process is just ending, and the pause between two: half a minute.
const UNMOUNTS: u32 = 600;
const UNMOUNT_PAUSE: Duration = Duration::from_millis(50);
/// Shuts a file system down as it is, its log not flushed: `XFS_IOC_GOINGDOWN`, which ext4 knows too, with
/// `XFS_FSOP_GOING_FLAGS_NOLOGFLUSH`. Perl is on every Debian; this program makes no raw calls itself.
const SHUT_DOWN: &str = r#"open(my $disk, "<", $ARGV[0]) or die "$!"; my $flags = pack("L", 2);
ioctl($disk, 0x8004587D, $flags) or die "$!";"#;

/// Mounted disks, for an end without clean-up.
static MOUNTED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Where a panic ends this process at once, nothing is dropped: gives the disks back before.
pub fn unmount_on_panic() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        before(panic);
        let mounted = MOUNTED
            .try_lock()
            .map(|mounted| mounted.clone())
            .unwrap_or_default();
        for folder in mounted {
            unmount_lazily(&folder);
        }
    }));
}

fn unmount_lazily(folder: &Path) {
    let unmounting = std::process::Command::new("umount")
        .arg("-l")
        .arg(folder)
        .output();
    drop(unmounting);
}

async fn shell(words: &[&str]) -> Result<(), String> {
    let [program, args @ ..] = words else {
        return Ok(());
    };
    let mut asked = tokio::process::Command::new(program);
    let done = asked.args(args).kill_on_drop(true).output().await;
    match done {
        Ok(done) if done.status.success() => Ok(()),
        Ok(done) => Err(format!(
            "{program}: {}",
            String::from_utf8_lossy(&done.stderr).trim()
        )),
        Err(error) => Err(format!("{program}: {error}")),
    }
}

/// A file system in a file.
pub(super) struct Disk {
    kind: &'static str,
    image: PathBuf,
    folder: PathBuf,
    _home: tempfile::TempDir,
}

impl Disk {
    /// Where it is mounted.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A new one, mounted.
    pub(super) async fn new(kind: &'static str) -> Result<Self, String> {
        let home = tempfile::Builder::new()
            .prefix("drover-disk-")
            .tempdir()
            .map_err(|error| error.to_string())?;
        let disk = Self {
            kind,
            image: home.path().join("image"),
            folder: home.path().join("disk"),
            _home: home,
        };
        std::fs::create_dir(&disk.folder).map_err(|error| error.to_string())?;
        let image = disk.image.display().to_string();
        shell(&["truncate", "-s", DISK_SIZE, &image]).await?;
        let maker = format!("mkfs.{kind}");
        let force = if kind == "xfs" { "-f" } else { "-F" };
        shell(&[&maker, "-q", force, &image]).await?;
        disk.mount().await?;
        Ok(disk)
    }

    async fn mount(&self) -> Result<(), String> {
        let (image, folder) = (
            self.image.display().to_string(),
            self.folder.display().to_string(),
        );
        shell(&["mount", "-t", self.kind, "-o", "loop", &image, &folder]).await?;
        MOUNTED
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(self.folder.clone());
        Ok(())
    }

    async fn unmount(&self) -> Result<(), String> {
        let folder = self.folder.display().to_string();
        let mut last = Ok(());
        for _ in 0..UNMOUNTS {
            last = shell(&["umount", &folder]).await;
            if last.is_ok() {
                let mut mounted = MOUNTED.lock().unwrap_or_else(PoisonError::into_inner);
                mounted.retain(|other| *other != self.folder);
                break;
            }
            tokio::time::sleep(UNMOUNT_PAUSE).await;
        }
        last
    }

    /// After a cut. While the last process of the device's namespace is ending, the kernel still has the disk that was
    /// shut down, and gives that one again: what is mounted has to take a file.
    async fn mount_again(&self) -> Result<(), String> {
        let probe = self.folder.join("probe").display().to_string();
        let mut last = Ok(());
        for _ in 0..UNMOUNTS {
            self.unmount().await?;
            self.mount().await?;
            last = shell(&["touch", &probe]).await;
            if last.is_ok() {
                break;
            }
            tokio::time::sleep(UNMOUNT_PAUSE).await;
        }
        last
    }

    async fn shut_down(&self) -> Result<(), String> {
        shell(&["perl", "-e", SHUT_DOWN, &self.folder.display().to_string()]).await
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let mut mounted = MOUNTED.lock().unwrap_or_else(PoisonError::into_inner);
        if mounted.contains(&self.folder) {
            unmount_lazily(&self.folder);
            mounted.retain(|other| *other != self.folder);
        }
    }
}

/// Whether this machine can do it: a disk is made, cut and mounted again.
pub(super) async fn possible(kind: &'static str) -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("only root can mount a disk".to_owned());
    }
    shell(&[
        "unshare",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "true",
    ])
    .await?;
    let disk = Disk::new(kind).await?;
    disk.shut_down().await?;
    disk.mount_again().await?;
    disk.unmount().await
}

/// The agent in a process namespace: what it starts ends with it, as by a power cut.
async fn start(device: &mut Agent) {
    let args = ["--pid", "--fork", "--kill-child", "--mount-proc"].map(str::to_owned);
    let mut args: Vec<String> = args.into();
    args.push(bin("device").display().to_string());
    args.extend([
        "run".to_owned(),
        "--dir".to_owned(),
        device.dir.display().to_string(),
    ]);
    let program = Program::start(&device.name, Path::new("unshare"), args, &[]);
    program.wait_ready().await;
    device.program = Some(program);
}

pub(super) async fn run(plan: Plan, take: &mut impl FnMut(Row)) {
    for (id, kind) in [("cuts-ext4", "ext4"), ("cuts-xfs", "xfs")] {
        let what = format!("power cuts at random moments, {kind}");
        if let Err(why) = possible(kind).await {
            take(Row::skipped(id, what, why));
            continue;
        }
        let mut row = Row::new(id, what);
        let mut draws = Draws(plan.seed ^ 0x6375_7473);
        let mut left = plan.cuts;
        while left > 0 {
            let here = left.min(PER_SITE);
            site(kind, here, &mut draws, &mut row).await;
            left -= here;
        }
        take(row);
    }
}

async fn site(kind: &'static str, cuts: usize, draws: &mut Draws, row: &mut Row) {
    let disk = Disk::new(kind).await.expect("it was possible before");
    let mut rig = Rig::new(Some(disk.folder.join("north"))).await;
    // What runs outside of the namespace would outlive the disk.
    end_programs(&rig.device).await;
    start(&mut rig.device).await;
    let windows = Windows::measure(&mut rig).await;
    for _ in 0..cuts {
        let (good, delay) = windows.draw(draws);
        row.note(cut(&mut rig, &disk, good, delay).await);
    }
    drop(rig.device.program.take());
}

async fn end_programs(device: &Agent) {
    for pid in device.processes(super::look::APP) {
        let words = ["-KILL".to_owned(), pid.to_string()];
        let _ = command(Path::new("/bin/kill"), words, "", &[]).await;
    }
}

async fn cut(rig: &mut Rig, disk: &Disk, good: bool, delay: Duration) -> Trial {
    let before = rig.before();
    let cut = async |device: &mut Agent| {
        disk.shut_down().await.expect("the disk is mounted");
        device.kill().await;
    };
    let release = rig.interrupt(good, delay, cut).await;
    disk.mount_again().await.expect("a journal makes the disk whole");
    let mut trial = Trial::at(rig.place(release, &before));
    rig.hold(release, &before, &mut trial);
    start(&mut rig.device).await;
    rig.recover(release, before, &mut trial).await;
    trial
}
