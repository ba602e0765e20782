//! The preflight: each row, in the document's order, on real files.

use admin_gui::preflight::{Preflight, Verdict};
use admin_gui::{Options, progress};
use release::{Arch, How};

use crate::fake::Fake;
use crate::site::{Heard, Site, draft, manifest};

fn row<'a>(report: &'a Preflight, id: &str) -> (Verdict, &'a str) {
    let check = report.checks.iter().find(|check| check.id == id).unwrap();
    (check.verdict, &check.text)
}

fn elf(machine: u16, kind: u16) -> Vec<u8> {
    let mut head = vec![0x7f, b'E', b'L', b'F', 2, 1, 1];
    head.resize(16, 0);
    head.extend(kind.to_le_bytes());
    head.extend(machine.to_le_bytes());
    head.resize(200, 0);
    head
}

/// A repository that has heater 1.9.
async fn stocked() -> (Site, Fake) {
    let site = Site::new();
    let fake = Fake::start(&site.repository()).await;
    let unlocked = site.unlocked(&fake.url);
    let first = draft(&unlocked.desk, &site.script("heater_1.9", 500));
    unlocked.publish(&first, &Heard::default().sink()).await.unwrap();
    (site, fake)
}

#[tokio::test]
async fn a_first_release_passes_every_row() {
    let site = Site::new();
    let fake = Fake::start(&site.repository()).await;
    let desk = site.desk(&fake.url);
    let report = desk
        .preflight(&draft(&desk, &site.script("heater_1.0", 100)))
        .await
        .unwrap();
    assert!(report.passes(), "{report}");
    let order: Vec<_> = report.checks.iter().map(|check| check.id).collect();
    assert_eq!(order, ["exists", "newer", "form", "size", "processor"]);
    assert_eq!(report.counter, 1);
    assert_eq!(report.current, None);
}

#[tokio::test]
async fn what_exists_already_is_refused_by_version_and_by_content() {
    let (site, fake) = stocked().await;
    let desk = site.desk(&fake.url);
    let same_version = draft(&desk, &site.script("heater_1.9", 900));
    let report = desk.preflight(&same_version).await.unwrap();
    let (verdict, text) = row(&report, "exists");
    assert_eq!(verdict, Verdict::Refused);
    assert!(
        text.starts_with("File existed! Please re-select") && text.contains("other bytes"),
        "{text}"
    );
    assert_eq!(report.refusal().unwrap().id, "exists", "existence comes first");

    let options = Options {
        version: Some("2.0".parse().unwrap()),
        ..Options::default()
    };
    let same_bytes = desk
        .draft(&site.script("heater_1.9", 500), &options, &progress::nobody())
        .unwrap();
    let report = desk.preflight(&same_bytes).await.unwrap();
    let (verdict, text) = row(&report, "exists");
    assert!(
        verdict == Verdict::Refused && text.contains("heater 1.9.0"),
        "{text}"
    );
}

#[tokio::test]
async fn versions_are_compared_as_numbers_and_both_are_named() {
    let (site, fake) = stocked().await;
    let desk = site.desk(&fake.url);
    let report = desk
        .preflight(&draft(&desk, &site.script("heater_1.10", 600)))
        .await
        .unwrap();
    assert!(report.passes(), "{report}");
    assert_eq!(report.counter, 2);

    let report = desk
        .preflight(&draft(&desk, &site.script("heater_1.8.5", 700)))
        .await
        .unwrap();
    let (verdict, text) = row(&report, "newer");
    assert_eq!(verdict, Verdict::Refused);
    assert!(
        text.starts_with("Upload version is older than current! Please re-select!"),
        "{text}"
    );
    assert!(text.contains("1.8.5") && text.contains("1.9.0"), "{text}");
}

#[tokio::test]
async fn files_that_are_no_release_are_refused_with_a_reason() {
    let site = Site::new();
    let fake = Fake::start(&site.repository()).await;
    let desk = site.desk(&fake.url);
    let write = |name: &str, bytes: &[u8]| {
        let path = site.temp.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let cases = [
        (write("empty_1.0", b""), "empty"),
        (write("notes_1.0", b"just some text"), "--how"),
        (write("noversion.sh", b"#!/bin/sh\n"), "--version"),
        (write("object_1.0", &elf(62, 1)), "no program"),
        (write("cut_1.0", &elf(62, 2)[..30]), "cut off"),
        (
            site.folder("bad", "format = 1\ncomponent = \"x\"\n"),
            "update.toml",
        ),
        (
            site.folder("gone", &manifest("1.0").replace("run.sh", "other.sh")),
            "payload/",
        ),
    ];
    for (path, word) in cases {
        let report = desk.preflight(&draft(&desk, &path)).await.unwrap();
        let (verdict, text) = row(&report, "form");
        assert!(
            verdict == Verdict::Refused && text.contains(word),
            "{}: {text}",
            path.display()
        );
    }
    let mut tar = b"update.toml".to_vec();
    tar.resize(257, 0);
    tar.extend(b"ustar\x0000");
    tar.resize(2048, 0);
    let report = desk
        .preflight(&draft(&desk, &write("heater_1.0.tar", &tar)))
        .await
        .unwrap();
    assert_eq!(row(&report, "form").0, Verdict::Refused);
}

#[tokio::test]
async fn a_program_for_another_processor_is_refused() {
    let site = Site::new();
    let fake = Fake::start(&site.repository()).await;
    let unlocked = site.unlocked(&fake.url);
    let desk = &unlocked.desk;
    let write = |name: &str, bytes: &[u8]| {
        let path = site.temp.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let options = Options {
        arch: Some(Arch::Aarch64),
        ..Options::default()
    };
    let wrong = desk
        .draft(&write("valve_1.0", &elf(62, 2)), &options, &progress::nobody())
        .unwrap();
    let report = desk.preflight(&wrong).await.unwrap();
    let (verdict, text) = row(&report, "processor");
    assert!(
        verdict == Verdict::Refused && text.contains("x86-64") && text.contains("aarch64"),
        "{text}"
    );

    let unknown = draft(desk, &write("valve_1.1", &elf(999, 2)));
    assert_eq!(
        row(&desk.preflight(&unknown).await.unwrap(), "processor").0,
        Verdict::Refused
    );

    // A change of processor from one release to the next has to be meant.
    let first = draft(desk, &write("valve_1.2", &elf(183, 3)));
    unlocked.publish(&first, &progress::nobody()).await.unwrap();
    let other = draft(desk, &write("valve_1.3", &elf(62, 3)));
    let (verdict, text) = {
        let report = desk.preflight(&other).await.unwrap();
        let (verdict, text) = row(&report, "processor");
        (verdict, text.to_owned())
    };
    assert!(
        verdict == Verdict::Refused && text.contains("--arch x86-64"),
        "{text}"
    );
    let options = Options {
        arch: Some(Arch::X86_64),
        ..Options::default()
    };
    let meant = desk
        .draft(&write("valve_1.3", &elf(62, 3)), &options, &progress::nobody())
        .unwrap();
    assert!(desk.preflight(&meant).await.unwrap().passes());
}

#[tokio::test]
async fn names_versions_and_kinds_are_understood_from_files_and_folders() {
    let site = Site::new();
    let desk = site.desk("https://127.0.0.1:1");
    let jar = site.temp.path().join("CommonApp_6.0.jar");
    std::fs::write(&jar, b"PK\x03\x04rest of a jar").unwrap();
    let found = draft(&desk, &jar);
    assert_eq!(found.component.unwrap().as_str(), "CommonApp");
    assert_eq!(found.version.unwrap().to_string(), "6.0.0");
    assert_eq!(found.manifest.unwrap().run.unwrap().how, How::Jar);

    let folder = site.folder("a folder", &manifest("2.1"));
    let (one, two) = (draft(&desk, &folder), draft(&desk, &folder));
    assert!(one.faults.is_empty(), "{:?}", one.faults);
    assert_eq!(one.file_name, "heater_2.1.0.tar");
    assert_eq!(one.digest, two.digest, "packing is not repeatable");

    // The packed folder, taken as a file, is the same package.
    let tar = site.temp.path().join("heater.tar");
    std::fs::copy(&one.file, &tar).unwrap();
    let again = draft(&desk, &tar);
    assert!(again.faults.is_empty(), "{:?}", again.faults);
    assert_eq!((again.digest, again.version), (one.digest, one.version));

    // Looking at a package leaves nothing.
    let names: Vec<_> = std::fs::read_dir(site.author().join("drafts"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names, [one.digest.to_string()]);

    // Options may not contradict a package.
    let options = Options {
        version: Some("3.0".parse().unwrap()),
        ..Options::default()
    };
    let odd = desk.draft(&folder, &options, &progress::nobody()).unwrap();
    assert!(
        odd.faults
            .iter()
            .any(|fault| fault.contains("update.toml says 2.1.0")),
        "{:?}",
        odd.faults
    );
}

#[tokio::test]
async fn a_file_that_grows_while_it_waits_is_noticed() {
    let site = Site::new();
    let desk = site.desk("https://127.0.0.1:1");
    let path = site.script("heater_1.0", 100);
    let draft = draft(&desk, &path);
    assert!(!draft.is_stale());
    std::fs::write(&path, b"#!/bin/sh\nother\n").unwrap();
    assert!(draft.is_stale());
}

#[tokio::test]
async fn a_file_beyond_the_limit_is_refused_without_being_read() {
    let site = Site::new();
    let fake = Fake::start(&site.repository()).await;
    let desk = site.desk(&fake.url);
    let path = site.script("heater_1.0", 100);
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(protocol::limits::MAX_TARGET + 1).unwrap();
    let report = desk.preflight(&draft(&desk, &path)).await.unwrap();
    let (verdict, text) = row(&report, "size");
    assert!(
        verdict == Verdict::Refused && text.contains("8589934592"),
        "{text}"
    );
}
