//! A site, one device of it, and releases to install there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use super::look::{self, APP, Floors, Pointer};
use super::{Fault, Trial};
use crate::packages::Script;
use crate::process::Output;
use crate::site::{Agent, Site, SiteOptions};

/// What a good version sleeps is this and its number.
pub(super) const SLEEPS: u64 = 100_000_000;
/// Bytes beside the program: several writes of a download, several blocks of a disk.
const BALLAST: usize = 300_000;
/// How long a device may take to come to rest.
const SETTLES: Duration = Duration::from_secs(60);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(10);
/// Starts of the agent until it is at rest: one, and some where it ends at its own bounds.
const STARTS: usize = 4;
/// Seconds that one run of the agent may take.
const RUN_LIMIT: &str = "50";

/// A release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Release {
    pub(super) version: u64,
    /// Whether it runs well, or dies on probation.
    pub(super) good: bool,
}

/// What a version is: its release counter, and its files with their SHA-256.
struct Published {
    counter: u64,
    files: Vec<(&'static str, [u8; 32])>,
}

/// What was so before an interruption.
#[derive(Debug, Clone, Copy)]
pub(super) struct Before {
    pub(super) version: u64,
    floors: Floors,
}

/// A site with one device.
pub(super) struct Rig {
    pub(super) device: Agent,
    pub(super) site: Site,
    newest: u64,
    published: BTreeMap<u64, Published>,
    packages: tempfile::TempDir,
}

impl Rig {
    /// A device in `dir`, or in the site's folder, with one version installed; no agent runs.
    pub(super) async fn new(dir: Option<PathBuf>) -> Self {
        let site = Site::running(SiteOptions::default()).await;
        let device = match dir {
            Some(dir) => site.enroll_in(dir, "north").await,
            None => site.enroll("north").await,
        };
        let packages = tempfile::tempdir().expect("temporary folder");
        let mut rig = Self {
            device,
            site,
            newest: 0,
            published: BTreeMap::new(),
            packages,
        };
        let first = rig.publish(true).await;
        let mut trial = Trial::default();
        rig.recover_once(first, None, &mut trial).await;
        assert!(trial.faults.is_empty(), "the first version: {:?}", trial.faults);
        rig
    }

    /// The folder of the next release, and what is known of it once it is published.
    pub(super) fn next(&mut self, good: bool) -> (Release, PathBuf) {
        self.newest += 1;
        let version = self.newest;
        let body = if good {
            format!("exec sleep {}", SLEEPS + version)
        } else {
            "exec sleep 0.3".to_owned()
        };
        let folder = Script {
            component: APP,
            version: &format!("{version}.0.0"),
            body: &body,
            probation: u32::from(!good),
            ballast: BALLAST,
            ..Script::default()
        }
        .write(self.packages.path());
        (Release { version, good }, folder)
    }

    /// Notes what was published from this folder, which is not needed any more.
    pub(super) fn took(&mut self, release: Release, counter: u64, folder: &Path) {
        let payload = folder.join("payload");
        let digest = |name: &'static str| {
            let bytes = std::fs::read(payload.join(name)).expect("written before");
            (name, Sha256::digest(bytes).into())
        };
        let files = vec![digest("run.sh"), digest("ballast")];
        self.published
            .insert(release.version, Published { counter, files });
        std::fs::remove_dir_all(folder).expect("written before");
    }

    /// Publishes the next version.
    pub(super) async fn publish(&mut self, good: bool) -> Release {
        let (release, folder) = self.next(good);
        let published = self.site.release(&folder).await;
        let version = published.release.version.to_string();
        // A run of the agent that asks once must find it at the gateway.
        crate::eventually(
            "the gateway has it",
            || self.site.manager_status(),
            |status| {
                status
                    .releases
                    .iter()
                    .any(|row| row.version.to_string() == version)
            },
        )
        .await;
        self.took(release, published.release.counter, &folder);
        release
    }

    /// Publishes the next version and calls `cut` so long after the agent began with it.
    pub(super) async fn interrupt(
        &mut self,
        good: bool,
        delay: Duration,
        cut: impl AsyncFnOnce(&mut Agent),
    ) -> Release {
        let (release, folder) = self.next(good);
        let journal = self.device.dir.join("state/generation.rec");
        let Self { site, device, .. } = self;
        let written = inode(&journal);
        let (published, ()) = tokio::join!(site.release(&folder), async {
            let begun = Instant::now();
            while inode(&journal) == written {
                assert!(begun.elapsed() < SETTLES, "no order came");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            // Not a wait for anything: the moment itself is what differs.
            tokio::time::sleep(delay).await;
            cut(device).await;
        });
        self.took(release, published.release.counter, &folder);
        release
    }

    /// How long a running agent takes from an order to its end.
    pub(super) async fn window(&mut self, good: bool) -> Duration {
        let before = self.before();
        let mut trial = Trial::default();
        let release = self
            .interrupt(good, Duration::ZERO, async |_: &mut Agent| {})
            .await;
        self.recover(release, before, &mut trial).await;
        assert!(trial.faults.is_empty(), "undisturbed: {:?}", trial.faults);
        trial.recovery.unwrap_or_default()
    }

    /// Where an agent that is dead now was, in words that are the same for the same place.
    pub(super) fn place(&self, release: Release, before: &Before) -> String {
        let name = |version: u64| match version {
            version if version == release.version => "new",
            version if version == before.version => "old",
            _ => "another",
        };
        let pointer = self.pointer().unwrap_or_default();
        let running: Vec<&str> = self.running().into_iter().map(name).collect();
        let count = |dir: &str, end: &str| {
            let entries = std::fs::read_dir(self.device.dir.join(dir))
                .into_iter()
                .flatten()
                .flatten();
            entries
                .filter(|entry| entry.path().to_string_lossy().ends_with(end))
                .count()
        };
        format!(
            "{} release, {}, {} named, {running:?} runs, {} releases, {} unfinished, {} parts, {} downloads, {} reports",
            if release.good { "good" } else { "bad" },
            pointer.life,
            pointer.version.map_or("nothing", name),
            count("releases", ""),
            count("releases", ".tmp"),
            count("downloads", ".part"),
            count("downloads", ""),
            count("state/reports", "")
        )
    }

    /// What is so now, while nothing is under way.
    pub(super) fn before(&self) -> Before {
        let pointer = self.pointer().expect("at rest before");
        Before {
            version: pointer.version.expect("a version before"),
            floors: look::floors(&self.device.dir).expect("floors before"),
        }
    }

    pub(super) fn pointer(&self) -> Result<Pointer, String> {
        look::pointer(&self.device.dir)
    }

    /// The versions that run, by what their processes are.
    pub(super) fn running(&self) -> Vec<u64> {
        let pids = self.device.processes(APP);
        pids.into_iter().filter_map(look::version_of).collect()
    }

    /// Whether the version's files are those that were published.
    fn whole(&self, pointer: &Pointer) -> Result<(), String> {
        let version = pointer.version.unwrap_or(0);
        let published = self
            .published
            .get(&version)
            .ok_or_else(|| format!("version {version} was never published"))?;
        let payload = self
            .device
            .dir
            .join("releases")
            .join(&pointer.digest)
            .join("payload");
        for (name, digest) in &published.files {
            let bytes =
                std::fs::read(payload.join(name)).map_err(|error| format!("{name} of {version}: {error}"))?;
            if <[u8; 32]>::from(Sha256::digest(bytes)) != *digest {
                return Err(format!("{name} of {version} is not what was published"));
            }
        }
        Ok(())
    }

    /// Whether what lies on the disk of this version is what was published, wherever it lies.
    pub(super) fn whole_on_disk(&self, version: u64) -> Result<(), String> {
        let releases = std::fs::read_dir(self.device.dir.join("releases"))
            .into_iter()
            .flatten()
            .flatten();
        let folders = releases.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut why = format!("version {version} is not on the disk");
        for digest in folders {
            let pointer = Pointer {
                version: Some(version),
                digest,
                ..Pointer::default()
            };
            match self.whole(&pointer) {
                Ok(()) => return Ok(()),
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    /// What must hold at any moment, the agent dead or alive.
    pub(super) fn hold(&self, release: Release, before: &Before, trial: &mut Trial) {
        let may = [before.version, release.version];
        match self.pointer() {
            Err(error) => trial.fault(Fault::Torn, error),
            Ok(pointer) => match pointer.version {
                None => trial.fault(Fault::NoVersion, "no version is named"),
                Some(version) if !may.contains(&version) => {
                    trial.fault(
                        Fault::NoVersion,
                        format!("version {version} is named, not of {may:?}"),
                    );
                }
                Some(_) => {
                    if let Err(error) = self.whole(&pointer) {
                        trial.fault(Fault::Torn, error);
                    }
                }
            },
        }
        match look::floors(&self.device.dir) {
            Err(error) => trial.fault(Fault::Torn, error),
            Ok(floors) => {
                if let Some(lower) = floors.lower_than(&before.floors) {
                    trial.fault(Fault::LostFloor, lower);
                }
            }
        }
        let running = self.running();
        if running.len() > 1 {
            trial.fault(Fault::Torn, format!("versions {running:?} run at once"));
        } else if !running.iter().all(|version| may.contains(version)) {
            trial.fault(
                Fault::NoVersion,
                format!("version {running:?} runs, not one of {may:?}"),
            );
        }
    }

    /// Whether the device is at rest where it should be. `failed`: the agent has said that a good release failed, as where
    /// the disk did; then the old version runs until the release is ordered again.
    fn rests(&self, release: Release, before: Option<u64>, failed: bool) -> Result<(), String> {
        let pointer = self.pointer()?;
        let expected = match before {
            Some(old) if failed && pointer.version == Some(old) => old,
            Some(_) if !release.good && !pointer.bad.contains(&release.version) => {
                return Err(format!("version {} is not remembered as bad", release.version));
            }
            Some(old) if !release.good => old,
            _ => release.version,
        };
        let running = self.running();
        if pointer.life != "idle" || pointer.version != Some(expected) || running != [expected] {
            return Err(format!(
                "version {expected} should run; {running:?} runs, {:?} is named, it is {}",
                pointer.version, pointer.life
            ));
        }
        let counter = self.published[&expected].counter;
        match look::floors(&self.device.dir)? {
            floors if floors.counter >= counter => Ok(()),
            floors => Err(format!(
                "the floor is {}, {counter} was committed",
                floors.counter
            )),
        }
    }

    /// Waits until a running agent has brought the device to rest, and holds it to that.
    pub(super) async fn recover(&self, release: Release, before: Before, trial: &mut Trial) {
        let begun = Instant::now();
        loop {
            match self.rests(release, Some(before.version), false) {
                Ok(()) => break,
                Err(why) if begun.elapsed() > SETTLES => {
                    trial.fault(Fault::NotRecovered, why);
                    break;
                }
                Err(_) => tokio::time::sleep(LOOK).await,
            }
        }
        trial.recovery = Some(begun.elapsed());
        self.hold(release, &before, trial);
    }

    /// `device apply --once`, with these words before it.
    pub(super) async fn apply(&self, before: &[String]) -> Output {
        let device = crate::process::bin("device").display().to_string();
        let dir = self.device.dir.display().to_string();
        let words = ["apply", "--once", "--limit", RUN_LIMIT, "--dir", &dir];
        let mut all: Vec<String> = before.to_vec();
        all.push(device);
        all.extend(words.map(str::to_owned));
        let program = all.remove(0);
        // The agent would begin again in the same process otherwise, where a tracer lets go of it.
        let env = [("MALLOC_ARENA_MAX", "1"), ("RUST_LOG", "info")];
        crate::process::run(Path::new(&program), &all, "", &env).await
    }

    /// Runs the agent until it says that it is done, and looks whether it is.
    pub(super) async fn recover_once(&self, release: Release, before: Option<&Before>, trial: &mut Trial) {
        self.recover_from(release, before, false, trial).await;
    }

    /// The same after a run that said, where `failed` is true, that the release failed.
    pub(super) async fn recover_from(
        &self,
        release: Release,
        before: Option<&Before>,
        failed: bool,
        trial: &mut Trial,
    ) {
        let begun = Instant::now();
        let mut said = String::new();
        for _ in 0..STARTS {
            let output = self.apply(&[]).await;
            self.sane(&output, trial);
            said = format!(
                "{} {} {}",
                output.code,
                output.stdout.trim(),
                last_line(&output.stderr)
            );
            if matches!(output.code, 0 | 10 | 11 | 12) {
                break;
            }
        }
        trial.recovery = Some(begun.elapsed());
        if let Err(why) = self.rests(release, before.map(|before| before.version), failed) {
            trial.fault(Fault::NotRecovered, format!("{why}; the agent said {said}"));
        }
        if let Some(before) = before {
            self.hold(release, before, trial);
        }
    }

    /// Whether the agent ended in one of the ways that its manual has, with a word where it could not begin.
    pub(super) fn sane(&self, output: &Output, trial: &mut Trial) {
        if output.stderr.contains("panicked") {
            trial.fault(Fault::Panicked, last_line(&output.stderr));
        } else if !matches!(output.code, 0 | 1 | 10..=15) {
            trial.fault(
                Fault::Panicked,
                format!("exit code {}: {}", output.code, last_line(&output.stderr)),
            );
        } else if output.code == 1 && output.stderr.trim().is_empty() {
            trial.fault(Fault::Panicked, "it ended without a word");
        }
    }
}

/// A record that is replaced is another file.
fn inode(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path).map_or(0, |found| found.ino())
}

fn last_line(text: &str) -> String {
    let panicked = text.lines().find(|line| line.contains("panicked"));
    let line = panicked
        .or_else(|| text.lines().rfind(|line| !line.trim().is_empty()))
        .unwrap_or_default();
    line.chars().take(300).collect()
}

/// An agent that a tracer let go of, when this program ends early, runs in a folder that is about to vanish.
impl Drop for Rig {
    fn drop(&mut self) {
        let dir = format!("--dir\0{}\0", self.device.dir.display());
        let Ok(processes) = std::fs::read_dir("/proc") else {
            return;
        };
        for entry in processes.flatten() {
            let pid = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<i32>().ok());
            let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) else {
                continue;
            };
            let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&words).contains(&dir) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }
}
