//! What a release may be: a program of any kind in one file, or a package of many.

use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::packages::put;
use e2e::process::{bin, run};
use e2e::{Agent, Site, SiteOptions, eventually};
use protocol::Outcome;

/// Publishes one file with the options of a user in a hurry, and waits until the device runs it.
async fn runs(file: &Path, more: &[&str], component: &str, says: &str) -> (Site, Agent) {
    let site = Site::running(SiteOptions::default()).await;
    let agent = site.device("north").await;
    let mut options = vec!["--probation", "1"];
    options.extend_from_slice(more);
    let published: e2e::site::Published = site.publish(file, &options).await.ok().json();
    let (outcome, reason) = agent.watch().outcome("north", published.update).await;
    assert_eq!(
        outcome,
        Outcome::Committed,
        "{reason:?}\n{}",
        agent.output(component)
    );
    eventually(
        "its output",
        || async { agent.output(component) },
        |text: &String| text.contains(says),
    )
    .await;
    assert_eq!(agent.processes(component).len(), 1);
    (site, agent)
}

/// R-004-14, R-004-15, R-004-19: the document's own kind of application.
#[tokio::test]
async fn a_jar_runs_and_its_file_name_says_name_and_version() {
    let work = tempfile::tempdir().unwrap();
    let Some(jar) = jar(work.path()) else {
        e2e::skip("no java, javac and jar on this machine");
        return;
    };
    let before = std::fs::read(&jar).unwrap();
    let says = "CommonApp_6.0 have been running 1 Seconds";
    let (_site, agent) = runs(&jar, &["--alive-seconds", "1"], "CommonApp", says).await;
    assert_eq!(agent.shows("CommonApp").await, "6.0.0 running");
    assert_eq!(
        std::fs::read(&jar).unwrap(),
        before,
        "R-004-33 [C]: the author's own file was changed"
    );
}

#[tokio::test]
async fn a_jar_on_a_device_without_java_fails_with_a_clear_message() {
    let work = tempfile::tempdir().unwrap();
    let site = Site::running(SiteOptions::default()).await;
    let mut agent = site.enroll("north").await;
    agent.env.insert("PATH".into(), work.path().display().to_string());
    agent.start().await;
    let file = work.path().join("CommonApp_6.0.jar");
    put(&file, b"PK\x03\x04 not really", 0o644);
    let published: e2e::site::Published = site.publish(&file, &[]).await.ok().json();
    let (outcome, reason) = agent.watch().outcome("north", published.update).await;
    let reason = reason.unwrap();
    assert_eq!(outcome, Outcome::RolledBack, "{reason}");
    assert!(reason.contains("java is not on this device"), "{reason}");
}

/// R-004-139: several files that belong together change at once.
#[tokio::test]
async fn a_package_of_several_files_runs_in_its_folder() {
    let work = tempfile::tempdir().unwrap();
    let package = e2e::packages::Script {
        component: "bundle",
        body: "here=$(dirname \"$0\")\necho \"$(cat \"$here/config/name\") says $(\"$here/bin/speak\")\"\nexec sleep 100000",
        health: "command = [\"./check\"]",
        ..e2e::packages::Script::default()
    }
    .write(work.path());
    put(&package.join("payload/config/name"), b"the bundle", 0o644);
    put(
        &package.join("payload/bin/speak"),
        b"#!/bin/sh\necho its own tool\n",
        0o755,
    );
    put(
        &package.join("payload/check"),
        b"#!/bin/sh\ntest -s config/name\n",
        0o755,
    );
    let (site, _agent) = runs_package(&package, "bundle", "the bundle says its own tool").await;

    // The same package packed by hand is the same file, and so refused as existing.
    let tar = work.path().join("bundle.tar");
    let args = [
        "pack",
        &package.display().to_string(),
        "--out",
        &tar.display().to_string(),
    ]
    .map(str::to_owned);
    let _ = run(&bin("admin-gui"), &args, "", &[]).await.ok();
    assert!(site.publish(&tar, &[]).await.refused().contains("File existed"));
}

async fn runs_package(package: &Path, component: &str, says: &str) -> (Site, Agent) {
    let site = Site::running(SiteOptions::default()).await;
    let agent = site.device("north").await;
    let published = site.release(package).await;
    let (outcome, reason) = agent.watch().outcome("north", published.update).await;
    assert_eq!(
        outcome,
        Outcome::Committed,
        "{reason:?}\n{}",
        agent.output(component)
    );
    eventually(
        "its output",
        || async { agent.output(component) },
        |text: &String| text.contains(says),
    )
    .await;
    (site, agent)
}

/// A program built for another processor is refused at the author's desk, before anything is signed.
#[tokio::test]
async fn an_elf_file_for_another_processor_is_refused_before_signing() {
    let work = tempfile::tempdir().unwrap();
    let site = Site::running(SiteOptions::default()).await;
    let mut elf = std::fs::read("/bin/sleep").unwrap();
    let file = work.path().join("Sleeper_1.0");
    put(&file, &elf, 0o755);
    let _ = site.publish(&file, &[]).await.ok();
    elf[18] = 0xb7; // e_machine: AArch64
    let file = work.path().join("Sleeper_2.0");
    put(&file, &elf, 0o755);
    let text = site.publish(&file, &[]).await;
    assert!(
        text.refused().contains("aarch64") && text.stderr.contains("x86-64"),
        "{}",
        text.stderr
    );
}

/// Builds `CommonApp_6.0.jar`; none without a Java development kit.
fn jar(work: &Path) -> Option<PathBuf> {
    let source = r#"
public class CommonApp {
    public static void main(String[] words) throws Exception {
        for (int second = 1; ; second++) {
            Thread.sleep(50);
            System.out.println("CommonApp_6.0 have been running " + second + " Seconds");
        }
    }
}
"#;
    put(&work.join("CommonApp.java"), source.as_bytes(), 0o644);
    for program in ["java", "javac", "jar"] {
        Command::new(program).arg("--version").output().ok()?;
    }
    let done = |command: &mut Command| {
        let output = command.current_dir(work).output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    done(Command::new("javac").arg("CommonApp.java"));
    done(
        Command::new("jar")
            .args([
                "--create",
                "--file",
                "CommonApp_6.0.jar",
                "--main-class",
                "CommonApp",
            ])
            .arg("CommonApp.class"),
    );
    Some(work.join("CommonApp_6.0.jar"))
}
