//! Data of a component while its version changes: saved, transformed, applied, put back.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use control::Client;
use device::agent::Agent;
use protocol::Outcome;
use protocol::control::DeviceRequest;
use release::{Form, Manifest, Release, State};
use tuf::UnixTime;

use crate::repository::{good, script, sick};
use crate::site::{Site, component, rest, wait_for};

/// What the second version's own program makes of the first one's data: it doubles every number.
pub const DOUBLE: &str = "#!/usr/bin/env python3
import os, pathlib
assert os.getcwd() == os.environ['DROVER_STATE'], os.getcwd()
assert os.environ['DROVER_DATA'] + '/book' == os.environ['DROVER_STATE']
assert (os.environ['DROVER_SCHEMA_FROM'], os.environ['DROVER_SCHEMA_TO']) == ('1', '2')
for page in sorted(pathlib.Path('.').glob('page-*')):
    page.write_text(str(int(page.read_text()) * 2))
print('doubled')
";

/// A folder packed as `admin-gui pack` does, and its description.
pub fn packed(
    version: &str,
    counter: u64,
    program: &[u8],
    state: &str,
    transform: &str,
) -> (Release, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let payload = dir.path().join("payload");
    fs::create_dir(&payload).unwrap();
    for (name, bytes) in [("run.sh", program), ("migrate", transform.as_bytes())] {
        fs::write(payload.join(name), bytes).unwrap();
        fs::set_permissions(payload.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let text = format!(
        "format = 1\ncomponent = \"thermostat\"\nversion = \"{version}\"\n\n[run]\nhow = \"exec\"\nprogram = \"run.sh\"\n\
         stop_seconds = 5\n\n[health]\ncommand = [\"sh\", \"-c\", 'test -f \"$DROVER_DATA/ready\"']\nstart_seconds = 5\n\
         probation_seconds = 0\n\n[state]\n{state}\n"
    );
    fs::write(dir.path().join("update.toml"), &text).unwrap();
    let mut bytes = Vec::new();
    release::pack(dir.path(), &mut bytes).unwrap();
    let manifest = Manifest::parse(&text).unwrap();
    let id = format!("{counter:032x}");
    let released = UnixTime(1_790_000_000);
    let release = manifest.release(
        id,
        counter,
        Form::Package,
        format!("thermostat_{version}.tar"),
        released,
    );
    (release, bytes)
}

pub const SECOND: &str =
    "folder = \"book\"\nfrom = [1]\nto = 2\ntransform = [\"migrate\"]\ntransform_seconds = 20";

/// A version that keeps a book of schema 1.
fn first() -> Release {
    Release {
        state: Some(State {
            folder: Some("book".parse().unwrap()),
            ..State::of_schema(1)
        }),
        ..script("1.0.0", 1)
    }
}

fn book(site: &Site) -> PathBuf {
    site.layout().data(&component()).join("book")
}

/// What a program may keep: with links, bits, times and a pipe.
fn write_book(site: &Site) {
    let book = book(site);
    fs::create_dir_all(book.join("deep")).unwrap();
    for (page, number) in [("page-1", "1"), ("page-2", "20"), ("deep/notes", "keep me")] {
        fs::write(book.join(page), number).unwrap();
    }
    fs::hard_link(book.join("page-1"), book.join("page-1-again")).unwrap();
    symlink("/etc/passwd", book.join("deep/link")).unwrap();
    fs::set_permissions(book.join("page-2"), fs::Permissions::from_mode(0o606)).unwrap();
    fs::set_permissions(&book, fs::Permissions::from_mode(0o2711)).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        book.join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
}

/// All of a folder, by what can be seen of it: names, bits, times, contents, and which file it is.
fn seen(top: &Path, with_file: bool) -> Vec<String> {
    let mut lines = Vec::new();
    let mut folders = vec![top.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let found = fs::symlink_metadata(&path).unwrap();
            let what = if found.is_dir() {
                folders.push(path.clone());
                String::new()
            } else if found.is_symlink() {
                fs::read_link(&path).unwrap().display().to_string()
            } else if found.is_file() {
                fs::read_to_string(&path).unwrap()
            } else {
                "pipe".to_owned()
            };
            let file = if with_file { found.ino() } else { 0 };
            lines.push(format!(
                "{} {:o} {}.{} {file} {what}",
                path.strip_prefix(top).unwrap().display(),
                found.mode(),
                found.mtime(),
                found.mtime_nsec()
            ));
        }
    }
    lines.sort();
    lines
}

fn pages(site: &Site) -> [String; 2] {
    ["page-1", "page-2"].map(|page| fs::read_to_string(book(site).join(page)).unwrap_or_default())
}

async fn with_book(site: &Site) -> Agent {
    site.enrolled().await;
    let agent = site.agent().await;
    let first = first();
    site.publish(&first, &good("1.0.0"), None);
    site.ends_with(&first, Outcome::Committed).await;
    rest(&agent).await;
    write_book(site);
    agent
}

fn kept(site: &Site) -> bool {
    site.layout().kept_data(&component()).exists()
}

/// At rest nothing is kept of what was saved.
async fn nothing_is_kept(site: &Site, agent: &Agent) {
    rest(agent).await;
    wait_for("what was kept to go", || (!kept(site)).then_some(())).await;
}

async fn runs(site: &Site, version: &str) {
    wait_for(version, || {
        (site.data("running") == version && site.running().len() == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_new_schema_is_transformed_on_a_copy_and_what_was_kept_goes_with_the_commit() {
    let site = Site::new().await;
    let agent = with_book(&site).await;
    let (second, bytes) = packed("2.0.0", 2, &good("2.0.0"), SECOND, DOUBLE);
    site.publish(&second, &bytes, Some("1.0.0"));
    site.ends_with(&second, Outcome::Committed).await;
    runs(&site, "2.0.0").await;
    assert_eq!(pages(&site), ["2", "40"]);
    let found = fs::metadata(book(&site)).unwrap();
    assert_eq!(found.mode() & 0o7777, 0o2711);
    assert_eq!(
        fs::read_link(book(&site).join("deep/link")).unwrap(),
        Path::new("/etc/passwd")
    );
    assert!(!book(&site).join("pipe").exists(), "pipes are not data");
    nothing_is_kept(&site, &agent).await;
    let log = fs::read_to_string(site.layout().output_of(&component())).unwrap();
    assert!(log.contains("doubled"), "{log}");

    // The version before does not know what the data have become.
    let mut client = Client::connect(&site.layout().control(), "device").await.unwrap();
    let back = DeviceRequest::Rollback {
        component: component(),
    };
    let refused = client.call::<()>(&back).await.unwrap_err().to_string();
    assert!(
        refused.contains("thermostat cannot go back to 1.0.0: the data here have schema 2, it takes over 1"),
        "{refused}"
    );
    runs(&site, "2.0.0").await;
    agent.stop().await;
}

#[tokio::test]
async fn a_version_that_fails_with_its_own_data_leaves_the_old_ones_as_they_were() {
    let site = Site::new().await;
    let agent = with_book(&site).await;
    let before = seen(&book(&site), true);
    let (second, bytes) = packed("2.0.0", 2, &sick("2.0.0"), SECOND, DOUBLE);
    site.publish(&second, &bytes, Some("1.0.0"));
    let report = site.ends_with(&second, Outcome::RolledBack).await;
    assert!(report.reason.unwrap().contains("the sensor does not answer"));
    runs(&site, "1.0.0").await;
    assert_eq!(
        seen(&book(&site), true),
        before,
        "the same files, not copies of them"
    );
    nothing_is_kept(&site, &agent).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_transformation_that_fails_or_takes_too_long_or_too_much_changes_nothing() {
    let site = Site::new().await;
    let agent = with_book(&site).await;
    let before = seen(&book(&site), true);
    let fails = "#!/usr/bin/env python3
import pathlib, sys
pathlib.Path('page-1').write_text('half done')
pathlib.Path('page-2').unlink()
sys.exit('page 3 is missing')
";
    let slow = "#!/bin/sh
sleep 1000 &
echo waiting
setsid sleep 1000
";
    let greedy = "#!/usr/bin/env python3
with open('large', 'wb') as large:
    for _ in range(40): large.write(b'x' * (1 << 20))
";
    let short = SECOND.replace("transform_seconds = 20", "transform_seconds = 1");
    for (counter, transform, state, words) in [
        (
            2,
            fails,
            SECOND,
            "it ended with code 1; its last output: page 3 is missing",
        ),
        (
            3,
            slow,
            short.as_str(),
            "it did not end within 1 s; its last output: waiting",
        ),
        (4, greedy, SECOND, "take too much when they are transformed"),
        (5, "#!/no/such/interpreter\n", SECOND, "cannot be started"),
    ] {
        let version = format!("{counter}.0.0");
        let (release, bytes) = packed(&version, counter, &good(&version), state, transform);
        let digest = tuf::Digest::of(&bytes);
        site.publish(&release, &bytes, Some("1.0.0"));
        let report = site.ends_with(&release, Outcome::RolledBack).await;
        let reason = report.reason.unwrap();
        assert!(
            reason.contains(words) && reason.ends_with("; 1.0.0 runs again"),
            "{reason}"
        );
        rest(&agent).await;
        runs(&site, "1.0.0").await;
        assert_eq!(seen(&book(&site), true), before, "{words}");
        let slot = agent.hub.generation.slot(&component());
        assert!(slot.bad_reason(&digest).unwrap().contains(words));
        let work = site.layout().kept_data(&component()).join("work");
        assert_eq!(
            crate::site::marked(&work),
            Vec::<i32>::new(),
            "nothing of it is left"
        );
    }
    agent.stop().await;
}

#[tokio::test]
async fn a_version_that_reads_the_old_schema_gets_the_data_as_they_are() {
    let site = Site::new().await;
    let agent = with_book(&site).await;
    let before = seen(&book(&site), false);
    let state = "folder = \"book\"\nfrom = [1]\nto = 2";
    let (second, bytes) = packed("2.0.0", 2, &good("2.0.0"), state, "");
    site.publish(&second, &bytes, Some("1.0.0"));
    site.ends_with(&second, Outcome::Committed).await;
    let without_pipe: Vec<String> = before
        .into_iter()
        .filter(|line| !line.starts_with("pipe"))
        .collect();
    assert_eq!(seen(&book(&site), false), without_pipe);
    rest(&agent).await;

    // Here the way back is open: this one reads schema 2 too, and its data are looked after as on the way forward.
    let (third, bytes) = packed(
        "3.0.0",
        3,
        &good("3.0.0"),
        "folder = \"book\"\nfrom = [2]\nto = 1",
        "",
    );
    site.publish(&third, &bytes, Some("2.0.0"));
    site.ends_with(&third, Outcome::Committed).await;
    rest(&agent).await;
    let mut client = Client::connect(&site.layout().control(), "device").await.unwrap();
    client
        .call::<()>(&DeviceRequest::Rollback {
            component: component(),
        })
        .await
        .unwrap();
    runs(&site, "2.0.0").await;
    assert_eq!(pages(&site), ["1", "20"]);
    agent.stop().await;
}

#[tokio::test]
async fn a_roll_back_by_hand_on_probation_brings_the_old_data_back() {
    let site = Site::new().await;
    let agent = with_book(&site).await;
    let before = seen(&book(&site), true);
    let (mut second, bytes) = packed("2.0.0", 2, &good("2.0.0"), SECOND, DOUBLE);
    second.probation_seconds = 3600;
    site.publish(&second, &bytes, Some("1.0.0"));
    runs(&site, "2.0.0").await;
    fs::write(book(&site).join("page-3"), "of the new version").unwrap();
    let mut client = Client::connect(&site.layout().control(), "device").await.unwrap();
    client
        .call::<()>(&DeviceRequest::Rollback {
            component: component(),
        })
        .await
        .unwrap();
    runs(&site, "1.0.0").await;
    assert_eq!(seen(&book(&site), true), before);
    agent.stop().await;
}

#[tokio::test]
async fn data_that_cannot_be_saved_keep_the_old_version_running() {
    let site = Site::new().await;
    let agent = with_book(&site).await;
    let elsewhere = site.dir.path().join("elsewhere");
    fs::rename(book(&site), &elsewhere).unwrap();
    symlink(&elsewhere, book(&site)).unwrap();
    let (second, bytes) = packed("2.0.0", 2, &good("2.0.0"), SECOND, DOUBLE);
    site.publish(&second, &bytes, Some("1.0.0"));
    let report = site.ends_with(&second, Outcome::Refused).await;
    let reason = report.reason.unwrap();
    assert!(
        reason.contains("its data cannot be saved") && reason.contains("is not a folder"),
        "{reason}"
    );
    assert_eq!(site.data("starts").lines().count(), 1, "nothing was stopped");
    agent.stop().await;
}

#[tokio::test]
async fn without_a_state_nothing_is_saved() {
    let site = Site::new().await;
    let (agent, _) = site.with_first_version().await;
    let second = script("1.1.0", 2);
    let note = site.layout().data(&component()).join("note");
    fs::write(&note, "mine").unwrap();
    let file = fs::metadata(&note).unwrap().ino();
    site.publish(&second, &sick("1.1.0"), Some("1.0.0"));
    site.ends_with(&second, Outcome::RolledBack).await;
    assert_eq!(fs::metadata(&note).unwrap().ino(), file);
    assert!(!site.layout().all_kept_data().exists());
    agent.stop().await;
}
