//! Every file of a device at rest, flipped, cut, emptied or removed while nothing runs there.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::kills::PER_SITE;
use super::look::{self, APP};
use super::rig::{Before, Release, Rig};
use super::{Fault, Plan, Row, Trial, choose};
use crate::draws::Draws;
use crate::packages::put;
use crate::process::{Output, bin, run as command};
use crate::site::PASSWORD;

/// What is done to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damage {
    Flipped,
    Cut,
    Emptied,
    Removed,
}

const DAMAGES: [Damage; 4] = [Damage::Flipped, Damage::Cut, Damage::Emptied, Damage::Removed];

impl Damage {
    /// Does it.
    fn to(self, path: &Path, draws: &mut Draws) {
        let mut bytes = std::fs::read(path).expect("listed just now");
        let mode = std::fs::metadata(path)
            .expect("listed just now")
            .permissions()
            .mode();
        match self {
            Self::Flipped => draws.flip(&mut bytes, 0),
            Self::Cut => bytes.truncate(draws.below(bytes.len())),
            Self::Emptied => bytes.clear(),
            Self::Removed => {
                std::fs::remove_file(path).expect("listed just now");
                return;
            }
        }
        put(path, &bytes, mode & 0o7777);
    }
}

/// A file's place, without what differs from run to run.
fn place(path: &Path) -> String {
    let parts = path.iter().map(|part| {
        let part = part.to_string_lossy();
        let stem = part.split('.').next().unwrap_or_default();
        let differs = stem.len() >= 16 && stem.bytes().all(|byte| byte.is_ascii_hexdigit());
        if differs {
            format!("N{}", &part[stem.len()..])
        } else {
            part.into_owned()
        }
    });
    parts.collect::<Vec<_>>().join("/")
}

/// Files below `dir`, relative to it; sockets, which are no files, left out.
fn files(dir: &Path) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_file() {
                found.extend(entry.path().strip_prefix(dir).map(Path::to_owned));
            }
        }
    }
    found.sort();
    found
}

pub(super) async fn run(plan: Plan, take: &mut impl FnMut(Row)) {
    let mut row = Row::new("damage", "every file flipped, cut, emptied, removed");
    let mut draws = Draws(plan.seed ^ 0x6461_6d61);
    if plan.damages == Some(0) {
        take(row);
        return;
    }
    let mut rig = rig().await;
    let every = files(&rig.device.dir);
    let all: Vec<(String, Damage)> = every
        .iter()
        .flat_map(|file| DAMAGES.map(|damage| (place(file), damage)))
        .collect();
    let mut here = 0;
    for (file, damage) in choose(&all, plan.damages, &mut draws) {
        if here == PER_SITE {
            rig = self::rig().await;
            here = 0;
        }
        here += 1;
        // Names differ from release to release: one file that lies there now stands for its kind.
        let now = files(&rig.device.dir);
        let alike: Vec<&PathBuf> = now.iter().filter(|path| place(path) == file).collect();
        let Some(path) = alike.get(draws.below(alike.len())) else {
            continue;
        };
        row.note(injure(&mut rig, path, damage, &mut draws).await);
    }
    take(row);
}

/// A device with a version to go back to and one that failed.
async fn rig() -> Rig {
    let mut rig = Rig::new(None).await;
    for good in [true, false] {
        let before = rig.before();
        let release = rig.publish(good).await;
        let mut trial = Trial::default();
        rig.recover_once(release, Some(&before), &mut trial).await;
        assert!(trial.faults.is_empty(), "undisturbed: {:?}", trial.faults);
    }
    rig
}

async fn injure(rig: &mut Rig, file: &Path, damage: Damage, draws: &mut Draws) -> Trial {
    let before = rig.before();
    let mut trial = Trial::at(format!("{} {damage:?}", place(file)));
    let path = rig.device.dir.join(file);
    let saved = std::fs::read(&path).expect("listed just now");
    let mode = std::fs::metadata(&path)
        .expect("listed just now")
        .permissions()
        .mode();
    end_programs(rig).await;
    damage.to(&path, draws);
    let output = rig.apply(&[]).await;
    rig.sane(&output, &mut trial);
    runs_or_says(rig, &before, &output, &mut trial);
    // The next release, first without any help, then with what the manual says.
    let release = rig.publish(true).await;
    if !gets_there(rig, release, &before, &mut trial).await
        && !way_back(rig, file, release, &before, &mut trial).await
    {
        put(&path, &saved, mode & 0o7777);
        let mut again = Trial::default();
        rig.recover_from(release, Some(&before), true, &mut again).await;
    }
    trial
}

/// The release that was there runs, or another that was; or nothing, and then that is said.
fn runs_or_says(rig: &Rig, before: &Before, output: &Output, trial: &mut Trial) {
    let running = rig.running();
    if running.len() > 1 {
        trial.fault(Fault::Torn, format!("versions {running:?} run at once"));
    }
    for version in &running {
        if *version > before.version {
            trial.fault(
                Fault::NoVersion,
                format!("version {version} runs, {} was committed", before.version),
            );
        }
        if let Err(error) = rig.whole_on_disk(*version) {
            trial.fault(Fault::Torn, format!("it runs although {error}"));
        }
    }
    let said = !output.stderr.trim().is_empty() || output.stdout.trim() != "nothing to do";
    if running.is_empty() && (matches!(output.code, 0 | 10) || !said) {
        trial.fault(Fault::NoVersion, "nothing runs, and that is not said");
    }
}

async fn gets_there(rig: &Rig, release: Release, before: &Before, trial: &mut Trial) -> bool {
    let mut tried = Trial::default();
    rig.recover_from(release, Some(before), false, &mut tried).await;
    let panicked = tried
        .faults
        .iter()
        .filter(|(fault, _)| matches!(fault, Fault::Panicked | Fault::LostFloor));
    trial.faults.extend(panicked.cloned());
    trial.recovery = tried.recovery;
    tried.faults.is_empty()
}

/// What `docs/operations.md` says for the file's folder; then the release has to get there.
async fn way_back(rig: &mut Rig, file: &Path, release: Release, before: &Before, trial: &mut Trial) -> bool {
    let first = file
        .iter()
        .next()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let root = rig.site.path("author/root.json").display().to_string();
    let dir = rig.device.dir.display().to_string();
    let path_exists = rig.device.dir.join(file).exists();
    let helped = match first.as_str() {
        "trust" => {
            let words = ["repair-trust", "--root", &root, "--dir", &dir];
            command(&bin("device"), words, "", &[]).await
        }
        _ => {
            let code: protocol::control::AddedDevice = rig
                .site
                .manager(
                    ["new-code", "north", "--password-stdin", "--json"],
                    &format!("{PASSWORD}\n"),
                )
                .await
                .ok()
                .json();
            if first == "device.toml" && path_exists {
                std::fs::remove_file(rig.device.dir.join(file)).expect("it is there");
            }
            let typed = format!("{}\n{PASSWORD}\n", code.code.reveal());
            let words = ["enroll", "--again", "--stdin", "--root", &root, "--dir", &dir];
            command(&bin("device"), words, &typed, &[]).await
        }
    };
    let mut tried = Trial::default();
    rig.recover_from(release, Some(before), false, &mut tried).await;
    trial.recovery = tried.recovery;
    let came = tried.faults.is_empty();
    for (fault, what) in tried.faults {
        trial.fault(
            fault,
            format!(
                "{what}; the way back said {} {}",
                helped.code,
                helped.stderr.trim()
            ),
        );
    }
    came
}

async fn end_programs(rig: &Rig) {
    for pid in rig.device.processes(APP) {
        let _ = command(
            Path::new("/bin/kill"),
            ["-KILL".to_owned(), pid.to_string()],
            "",
            &[],
        )
        .await;
    }
    // A process that was killed is gone when its environment is.
    let gone = || async {
        rig.device
            .processes(APP)
            .into_iter()
            .filter_map(look::version_of)
            .count()
    };
    crate::eventually("the programs end", gone, |left| *left == 0).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_every_release_is_one_kind() {
        let digest = "0123456789abcdef0123456789abcdef";
        assert_eq!(
            place(Path::new(&format!("releases/{digest}/payload/run.sh"))),
            "releases/N/payload/run.sh"
        );
        assert_eq!(
            place(Path::new("state/reports/00000000000000000007.json")),
            "state/reports/N.json"
        );
        assert_eq!(place(Path::new("trust/floors.rec")), "trust/floors.rec");
    }
}
