//! `scripts/demo`, without its build: what it shows, what it writes, and that nothing stays behind.

use std::path::Path;

use e2e::process::bin;
use e2e::{Program, packages};
use rustix::process::{Pid, Signal, kill_process};

/// A demonstration whose folders all lie in `temporary`.
fn demo(temporary: &Path, args: &[&str]) -> Program {
    let temporary = temporary.display().to_string();
    Program::start("demo", &bin("demo"), args, &[("TMPDIR", temporary.as_str())])
}

/// Processes whose command line or environment names the folder.
fn left_over(temporary: &Path) -> Vec<String> {
    let needle = temporary.display().to_string();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let pid = entry.file_name().to_string_lossy().into_owned();
        if pid.parse::<u32>().is_err() || pid == std::process::id().to_string() {
            continue;
        }
        for file in ["cmdline", "environ"] {
            let text = std::fs::read(entry.path().join(file)).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).replace('\0', " ");
            if text.contains(&needle) {
                found.push(format!("{pid}: {text}"));
            }
        }
    }
    found
}

fn assert_clean(temporary: &Path) {
    assert_eq!(left_over(temporary), Vec::<String>::new());
    let files: Vec<_> = std::fs::read_dir(temporary)
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    assert_eq!(files, Vec::<std::path::PathBuf>::new());
}

#[tokio::test]
async fn the_demonstration_shows_three_releases_and_one_of_ones_own() {
    let (work, temporary) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let own = work.path().join("greeter_3.1.sh");
    packages::put(&own, b"#!/bin/sh\necho hello\nexec sleep 100000\n", 0o755);
    let json = work.path().join("all.json");
    let (own, json_text) = (own.display().to_string(), json.display().to_string());
    let args = [
        "--plain",
        "--devices",
        "2",
        "--json",
        &json_text,
        "--release",
        &own,
    ];
    let mut demo = demo(temporary.path(), &args);
    let status = demo.wait().await;
    let said = demo.said();
    assert!(status.success(), "{said}");
    for part in [
        "thermostat 1.2: starts, then fails its health check",
        "rolled back on 2 of 2 devices, because",
        "500 Internal Server Error",
        "7 actual total",
        "3.1.0",
        "Next:",
    ] {
        assert!(said.contains(part), "{part:?} is missing in\n{said}");
    }
    let stories: Vec<serde_json::Value> = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let outcomes: Vec<&str> = stories
        .iter()
        .map(|story| story["outcomes"]["device-1"].as_str().unwrap())
        .collect();
    assert_eq!(outcomes, ["committed", "committed", "rolled back", "committed"]);
    for story in &stories {
        assert!(
            story["latencies"]["device-2"]["click_to_healthy"]
                .as_f64()
                .is_some_and(|ms| ms > 0.0),
            "{story}"
        );
    }
    assert_clean(temporary.path());
}

#[tokio::test]
async fn ctrl_c_in_the_middle_leaves_no_process_and_no_folder() {
    let temporary = tempfile::tempdir().unwrap();
    let mut demo = demo(temporary.path(), &["--plain", "--devices", "2"]);
    demo.wait_line("a device runs its first release", |line| line.contains("healthy"))
        .await;
    assert!(
        left_over(temporary.path()).len() > 4,
        "what is looked for can be found"
    );
    kill_process(Pid::from_raw(demo.pid().cast_signed()).unwrap(), Signal::INT).unwrap();
    assert!(!demo.wait().await.success());
    assert!(demo.said().contains("interrupted"), "{}", demo.said());
    assert_clean(temporary.path());
}
