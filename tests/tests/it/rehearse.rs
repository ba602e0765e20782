//! `admin-gui rehearse`: a whole update on the author's machine, before anything is signed.

use std::path::{Path, PathBuf};

use e2e::Output;
use e2e::packages::Script;
use e2e::process::{bin, run};
use serde_json::Value;

use crate::state::package;

async fn rehearse(new: &Path, old: &Path, temp: &Path, more: &[&str]) -> Output {
    let (new, old) = (new.display().to_string(), old.display().to_string());
    let mut words = vec!["rehearse", &new, "--from", &old];
    words.extend(more);
    let temp = temp.display().to_string();
    run(&bin("admin-gui"), words, "", &[("TMPDIR", &temp)]).await
}

/// What was found, by part.
fn findings(output: &Output) -> Vec<(String, String, String)> {
    let told: Value = serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    let findings = told["findings"].as_array().unwrap().iter();
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
    findings
        .map(|finding| {
            let of = |key| text(finding, key);
            (of("part"), of("level"), of("text"))
        })
        .collect()
}

/// Processes whose environment or command line names this folder.
fn left_over(folder: &Path) -> Vec<String> {
    let name = folder.display().to_string();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let words = processes.map(|entry| {
        let read = |file: &str| std::fs::read(entry.path().join(file)).unwrap_or_default();
        let words = [read("environ"), read("cmdline")].concat();
        String::from_utf8_lossy(&words).into_owned()
    });
    // The rehearsal's own words name the folder too, as its TMPDIR: it has ended by now.
    words
        .filter(|words| words.contains(&format!("{name}/drover-")))
        .collect()
}

fn empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).unwrap().next().is_none()
}

/// A good update of a program that transforms its data: every part is gone through, and nothing is left behind.
#[tokio::test]
async fn a_good_update_shows_its_pause_its_data_and_survives_every_kill() {
    let work = tempfile::tempdir().unwrap();
    let temp = tempfile::tempdir().unwrap();
    let (old, new) = (package(work.path(), 1, true), package(work.path(), 2, true));
    let output = rehearse(&new, &old, temp.path(), &["--json"]).await;
    assert_eq!(output.code, 0, "{output:?}");
    let found = findings(&output);
    let of = |part: &str| {
        let line = found.iter().find(|(name, _, _)| name == part);
        line.unwrap_or_else(|| panic!("{part}: {found:?}"))
    };
    assert!(of("install 1.0.0").2.starts_with("healthy"));
    assert!(of("update to 2.0.0").2.starts_with("nobody was served for "));
    assert!(of("data, schema 1 to 2").2.contains("changed: 2"), "{found:?}");
    assert!(
        of("a new version that fails").2.contains("1.0.0 runs again"),
        "{found:?}"
    );
    // What devices will say too: the old version cannot read what the new one wrote.
    let back = of("back by hand");
    assert_eq!(back.1, "warning");
    assert!(back.2.contains("schema 2"), "{found:?}");
    for step in [
        "ordered", "verified", "staged", "stopping", "stopped", "switched", "started", "healthy",
    ] {
        let kill = of(&format!("kill -9 after {step}"));
        assert_eq!(kill.1, "info", "{kill:?}");
        assert!(
            kill.2.contains("2.0.0 runs") || kill.2.contains("1.0.0 runs"),
            "{kill:?}"
        );
    }
    assert_eq!(of("kill -9 on the way back after rolled-back").1, "info");
    assert!(empty(temp.path()), "its folder is gone");
    assert_eq!(left_over(temp.path()), Vec::<String>::new());
}

/// What must not reach a device is found here: told in the table, and by the exit code.
#[tokio::test]
async fn a_bad_update_is_found_before_anybody_signs_it() {
    let work = tempfile::tempdir().unwrap();
    let temp = tempfile::tempdir().unwrap();
    let (old, new) = (package(work.path(), 1, true), package(work.path(), 2, false));
    let output = rehearse(&new, &old, temp.path(), &[]).await;
    assert_eq!(output.code, 3, "{output:?}");
    let bad = output.stdout.lines().find(|line| line.starts_with("BAD"));
    let bad = bad.unwrap_or_else(|| panic!("{output:?}"));
    assert!(
        bad.contains("update to 2.0.0") && bad.contains("the ledger does not add up"),
        "{bad}"
    );
    // The way back is looked at nevertheless.
    assert!(output.stdout.contains("a new version that fails"), "{output:?}");
    assert!(output.stderr.contains("lines marked BAD"), "{output:?}");
    assert!(empty(temp.path()));
    assert_eq!(left_over(temp.path()), Vec::<String>::new());
}

/// Without data of its own a program goes back by hand too; its data may come from outside.
#[tokio::test]
async fn a_plain_program_goes_back_by_hand_and_finds_the_data_that_it_is_given() {
    let work = tempfile::tempdir().unwrap();
    let temp = tempfile::tempdir().unwrap();
    let app = |version: &str| -> PathBuf {
        Script {
            version,
            body: "test -f \"$DROVER_DATA/rooms.txt\" || exit 7\nexec sleep 100000",
            probation: 1,
            ..Script::default()
        }
        .write(work.path())
    };
    let old = Script {
        version: "1.0.0",
        ..Script::default()
    }
    .write(work.path());
    let data = work.path().join("data");
    e2e::packages::put(&data.join("rooms.txt"), b"kitchen 21\n", 0o644);
    let data = data.display().to_string();
    let output = rehearse(&app("1.1.0"), &old, temp.path(), &["--json", "--data", &data]).await;
    assert_eq!(output.code, 0, "{output:?}");
    let found = findings(&output);
    let back = found.iter().find(|(part, _, _)| part == "back by hand").unwrap();
    assert_eq!(
        (back.1.as_str(), back.2.contains("1.0.0 runs")),
        ("info", true),
        "{found:?}"
    );
    // Without them the new version does not start.
    let output = rehearse(&app("1.2.0"), &old, temp.path(), &["--json"]).await;
    assert_eq!(output.code, 3, "{output:?}");
}

/// It says what it cannot try, and ends in its time.
#[tokio::test]
async fn what_cannot_be_rehearsed_is_said() {
    let work = tempfile::tempdir().unwrap();
    let temp = tempfile::tempdir().unwrap();
    let one = Script::default().write(work.path());
    let other = Script {
        component: "pump",
        version: "2.0.0",
        ..Script::default()
    }
    .write(work.path());
    let output = rehearse(&other, &one, temp.path(), &[]).await;
    assert_eq!(output.code, 3, "{output:?}");
    assert!(output.stderr.contains("it is app, not pump"), "{output:?}");
    let module = work.path().join("module");
    e2e::packages::put(&module.join("payload/a.deb"), b"a", 0o644);
    let text = "format = 1\ncomponent = \"app\"\nversion = \"3.0.0\"\nkind = \"module:deb\"\n";
    e2e::packages::put(&module.join("update.toml"), text.as_bytes(), 0o644);
    let output = rehearse(&module, &one, temp.path(), &[]).await;
    assert_eq!(output.code, 3, "{output:?}");
    assert!(output.stderr.contains("would change this machine"), "{output:?}");
    let two = Script {
        version: "1.1.0",
        ..Script::default()
    }
    .write(work.path());
    let output = rehearse(&two, &one, temp.path(), &["--limit", "0"]).await;
    assert_eq!(output.code, 3, "{output:?}");
    assert!(
        output.stdout.contains("the time for the rehearsal is over"),
        "{output:?}"
    );
    assert!(empty(temp.path()));
}
