//! Update modules: a scripted one that logs its calls, written to the protocol's text.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use protocol::Outcome;
use protocol::control::DeviceRequest;
use release::{Form, Release};

use crate::cut::Doomed;
use crate::repository::script;
use crate::site::{Site, component, rest, wait_for};

/// A module that writes `installed`, keeps what was there, and can give it back. What is put in `$D/on/STATE` is run
/// in that state first; `$D` is its own folder.
const MODULE: &str = r#"#!/bin/sh
set -e
D=@D@
echo "$1" >> "$D/calls"
test "$2" = "$(pwd)"
test ! -f "$D/on/$1" || . "$D/on/$1"
case "$1" in
    SupportsRollback) echo Yes ;;
    ArtifactInstall)
        test -f tmp/before || cp "$D/installed" tmp/before
        cat files/one files/two > "$D/installed.new"
        mv "$D/installed.new" "$D/installed" ;;
    ArtifactRollback) test ! -f tmp/before || cp tmp/before "$D/installed" ;;
esac
"#;

struct Bench {
    site: Site,
    own: PathBuf,
    next: u64,
}

impl Bench {
    async fn new() -> Self {
        let site = Site::new().await;
        site.enrolled().await;
        let own = site.dir.path().join("module");
        let folder = site.dir.path().join("modules");
        for dir in [&own, &own.join("on"), &folder] {
            std::fs::create_dir(dir).unwrap();
            std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        std::fs::write(own.join("installed"), "factory\n").unwrap();
        put(
            &folder.join("scripted"),
            &MODULE.replace("@D@", own.to_str().unwrap()),
        );
        site.settings(|settings| {
            settings.modules.folder = folder;
            settings.modules.seconds = 20;
        });
        Self { site, own, next: 1 }
    }

    /// What the module does first in a state.
    fn on(&self, state: &str, script: &str) {
        std::fs::write(self.own.join("on").join(state), script).unwrap();
    }

    fn off(&self, state: &str) {
        std::fs::remove_file(self.own.join("on").join(state)).unwrap();
    }

    fn publish(&mut self, expects: Option<&str>) -> Release {
        let release = release(self.next);
        let version = release.version.to_string();
        self.next += 1;
        self.site.publish(&release, &package(&version), expects);
        release
    }

    /// The calls so far; they are forgotten.
    fn calls(&self) -> String {
        let path = self.own.join("calls");
        let calls = std::fs::read_to_string(&path).unwrap_or_default();
        std::fs::remove_file(&path).ok();
        calls.trim().replace('\n', " ")
    }

    fn installed(&self) -> String {
        let installed = std::fs::read_to_string(self.own.join("installed")).unwrap();
        installed.trim().to_owned()
    }

    fn tree(&self) -> PathBuf {
        self.site.layout().module_tree(&component())
    }
}

fn put(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn release(number: u64) -> Release {
    Release {
        kind: "module:scripted".parse().unwrap(),
        form: Form::Package,
        file_name: "base.tar".to_owned(),
        run: None,
        ..script(&format!("1.{number}.0"), number)
    }
}

/// Two files that say the version together.
fn package(version: &str) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let manifest = format!(
        "format = 1\ncomponent = \"thermostat\"\nversion = \"{version}\"\nkind = \"module:scripted\"\n"
    );
    let line = format!("{version}\n");
    for (name, bytes) in [
        ("update.toml", manifest.as_bytes()),
        ("payload/one", b"version "),
        ("payload/two", line.as_bytes()),
    ] {
        add(&mut tar, name, bytes);
    }
    tar.into_inner().unwrap()
}

fn add(tar: &mut tar::Builder<Vec<u8>>, name: &str, bytes: &[u8]) {
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    tar.append_data(&mut header, name, bytes).unwrap();
}

const BEFORE: &str = "SupportsRollback ProvidePayloadFileSizes Download";

#[tokio::test]
async fn a_module_is_called_in_the_order_of_its_protocol_with_the_tree_that_it_describes() {
    let mut bench = Bench::new().await;
    let own = bench.own.display().to_string();
    bench.on(
        "ArtifactCommit",
        &format!("find . -type f | sort | while read f; do echo \"$f=$(cat \"$f\")\"; done > {own}/tree\n"),
    );
    let agent = bench.site.agent().await;
    let first = bench.publish(None);
    bench.site.ends_with(&first, Outcome::Committed).await;
    assert_eq!(
        bench.calls(),
        format!("{BEFORE} ArtifactInstall NeedsArtifactReboot ArtifactCommit Cleanup")
    );
    assert_eq!(bench.installed(), "version 1.1.0");
    let tree = std::fs::read_to_string(bench.own.join("tree")).unwrap();
    let mut right = String::new();
    for (file, text) in [
        ("current_artifact_group", ""),
        ("current_artifact_name", ""),
        ("current_device_type", ""),
        ("files/one", "version "),
        ("files/two", "1.1.0"),
        ("header/artifact_group", ""),
        ("header/artifact_name", "thermostat-1.1.0"),
        (
            "header/header-info",
            r#"{"artifact_depends":{"device_type":[]},"artifact_provides":{"artifact_name":"thermostat-1.1.0"},"payloads":[{"type":"scripted"}]}"#,
        ),
        ("header/meta-data", "{}"),
        ("header/payload_type", "scripted"),
        ("header/type-info", r#"{"type":"scripted"}"#),
        ("tmp/before", "factory"),
        ("version", "3"),
    ] {
        writeln!(right, "./{file}={text}").unwrap();
    }
    assert_eq!(tree, right);
    assert!(!bench.tree().exists(), "what it was given is gone");
    let state = &agent.hub.components()[0];
    assert_eq!(state.version.as_ref().unwrap().to_string(), "1.1.0");

    // The next one knows what it replaces, and so does a roll back by hand.
    let second = bench.publish(Some("1.1.0"));
    bench.site.ends_with(&second, Outcome::Committed).await;
    assert_eq!(bench.installed(), "version 1.2.0");
    let tree = std::fs::read_to_string(bench.own.join("tree")).unwrap();
    assert!(
        tree.contains("./current_artifact_name=thermostat-1.1.0\n"),
        "{tree}"
    );
    agent.stop().await;
}

#[tokio::test]
async fn a_module_that_reads_its_streams_is_given_no_files() {
    let mut bench = Bench::new().await;
    let own = bench.own.display().to_string();
    let read = format!(
        "while n=\"$(cat stream-next)\"; test -n \"$n\"; do set -- \"$1\" \"$2\" $n; echo \"$n\" >> {own}/streams; cat \"$3\" >> tmp/new; done\n"
    );
    bench.on("Download", &read);
    bench.on("DownloadWithFileSizes", &read);
    bench.on(
        "ArtifactInstall",
        &format!("test ! -e files -a ! -e streams -a ! -e stream-next; cp tmp/new {own}/installed; exit 0\n"),
    );
    let agent = bench.site.agent().await;
    let first = bench.publish(None);
    bench.site.ends_with(&first, Outcome::Committed).await;
    let streams = || std::fs::read_to_string(bench.own.join("streams")).unwrap();
    assert_eq!(streams(), "streams/one\nstreams/two\n");
    assert_eq!(bench.installed(), "version 1.1.0");

    std::fs::remove_file(bench.own.join("streams")).unwrap();
    bench.on("ProvidePayloadFileSizes", "echo Yes\n");
    let second = release(2);
    bench.site.publish(&second, &package("1.2.0"), Some("1.1.0"));
    bench.site.ends_with(&second, Outcome::Committed).await;
    assert_eq!(streams(), "streams/one 8\nstreams/two 6\n");
    assert_eq!(bench.installed(), "version 1.2.0");

    bench.on("DownloadWithFileSizes", "cat stream-next\n");
    bench.next = 3;
    let third = bench.publish(Some("1.2.0"));
    let report = bench.site.ends_with(&third, Outcome::Failed).await;
    assert!(report.reason.unwrap().contains("before it had read all streams"));
    assert_eq!(bench.installed(), "version 1.2.0");
    agent.stop().await;
}

/// Each state fails in turn: what is then called, what is reported and what is installed in the end.
#[tokio::test]
async fn each_state_that_fails_leads_where_the_protocol_says() {
    let mut bench = Bench::new().await;
    let agent = bench.site.agent().await;
    let first = bench.publish(None);
    bench.site.ends_with(&first, Outcome::Committed).await;
    bench.calls();
    let undo = "ArtifactRollback ArtifactFailure Cleanup";
    let undo_all =
        "ArtifactRollback ArtifactRollbackReboot ArtifactVerifyRollbackReboot ArtifactFailure Cleanup";
    let fail = "echo broken by the test >&2; exit 7\n";
    let (yes, no) = ("echo Yes; exit 0\n", "echo No; exit 0\n");
    let odd = "echo Perhaps; exit 0\n";
    let long = "echo Yes; echo No; exit 0\n";
    let back = Outcome::RolledBack;
    for (states, more, outcome) in [
        (
            vec![("SupportsRollback", fail)],
            "SupportsRollback Cleanup".to_owned(),
            Outcome::Failed,
        ),
        (
            vec![("SupportsRollback", odd)],
            "SupportsRollback Cleanup".to_owned(),
            Outcome::Failed,
        ),
        (
            vec![("SupportsRollback", long)],
            "SupportsRollback Cleanup".to_owned(),
            Outcome::Failed,
        ),
        (
            vec![("Download", fail)],
            format!("{BEFORE} Cleanup"),
            Outcome::Failed,
        ),
        (
            vec![("ArtifactInstall", fail)],
            format!("{BEFORE} ArtifactInstall {undo}"),
            back,
        ),
        (
            vec![("NeedsArtifactReboot", odd)],
            format!("{BEFORE} ArtifactInstall NeedsArtifactReboot {undo}"),
            back,
        ),
        (
            vec![("NeedsArtifactReboot", "echo Automatic; exit 0\n")],
            format!("{BEFORE} ArtifactInstall NeedsArtifactReboot {undo}"),
            back,
        ),
        (
            vec![("NeedsArtifactReboot", yes), ("ArtifactReboot", fail)],
            format!("{BEFORE} ArtifactInstall NeedsArtifactReboot ArtifactReboot {undo_all}"),
            back,
        ),
        (
            vec![("NeedsArtifactReboot", yes), ("ArtifactVerifyReboot", fail)],
            format!(
                "{BEFORE} ArtifactInstall NeedsArtifactReboot ArtifactReboot ArtifactVerifyReboot {undo_all}"
            ),
            back,
        ),
        (
            vec![("ArtifactCommit", fail)],
            format!("{BEFORE} ArtifactInstall NeedsArtifactReboot ArtifactCommit {undo}"),
            back,
        ),
        // A module that cannot or does not undo: from here on nobody knows what is installed.
        (
            vec![("ArtifactCommit", fail), ("ArtifactRollback", fail)],
            format!("{BEFORE} ArtifactInstall NeedsArtifactReboot ArtifactCommit {undo}"),
            Outcome::Failed,
        ),
        (
            vec![("SupportsRollback", no), ("ArtifactCommit", fail)],
            format!("{BEFORE} ArtifactInstall NeedsArtifactReboot ArtifactCommit ArtifactFailure Cleanup"),
            Outcome::Failed,
        ),
    ] {
        let before = agent
            .hub
            .generation
            .slot(&component())
            .current
            .map(|now| now.version.to_string());
        for (state, script) in &states {
            bench.on(state, script);
        }
        let release = bench.publish(before.as_deref());
        let report = bench.site.ends_with(&release, outcome).await;
        let reason = report.reason.unwrap();
        // An order that failed before anything was touched comes again: it is taken back.
        bench.site.manager.orders.lock().unwrap().clear();
        let calls = bench.calls();
        assert_eq!(calls, more, "{states:?}: {reason}");
        let told = states.iter().all(|(_, script)| *script != fail) || reason.contains("broken by the test");
        assert!(told, "{states:?}: {reason}");
        assert!(!bench.tree().exists());
        let inconsistent = calls.contains("ArtifactInstall") && outcome == Outcome::Failed;
        assert_eq!(
            reason.contains("inconsistent"),
            inconsistent,
            "{states:?}: {reason}"
        );
        let now = agent
            .hub
            .generation
            .slot(&component())
            .current
            .map(|now| now.version.to_string());
        if inconsistent {
            assert_eq!(now, None, "{states:?}");
        } else {
            assert_eq!(now, before, "{states:?}");
            assert_eq!(bench.installed(), "version 1.1.0", "{states:?}");
        }
        for (state, _) in &states {
            bench.off(state);
        }
    }
    agent.stop().await;
}

#[tokio::test]
async fn a_module_that_takes_too_long_is_ended_with_all_that_it_started() {
    let mut bench = Bench::new().await;
    bench.site.settings(|settings| settings.modules.seconds = 1);
    let own = bench.own.display().to_string();
    bench.on(
        "ArtifactInstall",
        &format!("sleep 1000 & echo $! > {own}/child; wait\n"),
    );
    let agent = bench.site.agent().await;
    let first = bench.publish(None);
    let report = bench.site.ends_with(&first, Outcome::RolledBack).await;
    assert!(report.reason.unwrap().contains("did not end within 1 s"));
    let child = std::fs::read_to_string(bench.own.join("child")).unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
    assert!(stat.is_empty() || stat.contains(") Z "), "{stat}");
    assert_eq!(bench.installed(), "factory");
    agent.stop().await;
}

#[tokio::test]
async fn a_module_that_others_could_change_is_not_called() {
    let mut bench = Bench::new().await;
    let folder = bench.site.dir.path().join("modules");
    let program = folder.join("scripted");
    let agent = bench.site.agent().await;
    let mode =
        |path: &Path, bits| std::fs::set_permissions(path, std::fs::Permissions::from_mode(bits)).unwrap();
    let refused = async |bench: &mut Bench, words: &str| {
        let release = bench.publish(None);
        let report = bench.site.ends_with(&release, Outcome::Refused).await;
        let reason = report.reason.unwrap();
        assert!(reason.contains(words), "{reason}");
        assert_eq!(bench.calls(), "");
    };
    mode(&program, 0o757);
    refused(&mut bench, "can be written by others").await;
    mode(&program, 0o644);
    refused(&mut bench, "is not executable").await;
    mode(&program, 0o755);
    mode(&folder, 0o777);
    refused(&mut bench, "can be written by others").await;
    mode(&folder, 0o755);
    let elsewhere = bench.own.join("scripted");
    std::fs::rename(&program, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &program).unwrap();
    refused(&mut bench, "is no plain file").await;
    std::fs::remove_file(&program).unwrap();
    refused(&mut bench, "is not on this device").await;
    agent.stop().await;
}

#[tokio::test]
async fn an_application_does_not_become_what_a_module_installs() {
    let bench = Bench::new().await;
    let (agent, _) = bench.site.with_first_version_again().await;
    let release = release(2);
    bench.site.publish(&release, &package("1.2.0"), Some("1.0.0"));
    let report = bench.site.ends_with(&release, Outcome::Refused).await;
    assert!(report.reason.unwrap().contains("is of kind app"));
    agent.stop().await;
}

#[tokio::test]
async fn a_folder_among_the_files_for_a_module_is_the_releases_fault() {
    let mut bench = Bench::new().await;
    let agent = bench.site.agent().await;
    let release = release(1);
    // Before the two blocks of zeros that end it.
    let mut bytes = package("1.1.0");
    bytes.truncate(bytes.len() - 1024);
    let mut tar = tar::Builder::new(bytes);
    add(&mut tar, "payload/more/three", b"more");
    bench.site.publish(&release, &tar.into_inner().unwrap(), None);
    let report = bench.site.ends_with(&release, Outcome::Failed).await;
    let reason = report.reason.unwrap();
    assert!(
        reason.starts_with("payload/more/three is in a folder"),
        "{reason}"
    );
    assert_eq!(bench.calls(), "");
    let slot = agent.hub.generation.slot(&component());
    assert_eq!(slot.bad.len(), 1);
    bench.next = 2;
    let second = bench.publish(None);
    bench.site.ends_with(&second, Outcome::Committed).await;
    agent.stop().await;
}

/// The module's own process lives on when the agent is killed in the middle of a state: the next one ends it first.
#[tokio::test]
async fn an_agent_killed_while_its_module_works_ends_the_call_and_undoes() {
    let mut bench = Bench::new().await;
    let own = bench.own.display().to_string();
    let agent = bench.site.agent().await;
    let first = bench.publish(None);
    bench.site.ends_with(&first, Outcome::Committed).await;
    bench.calls();
    let stuck = format!("echo $$ > {own}/pid.new; mv {own}/pid.new {own}/pid; sleep 1000\n");
    let mut agent = Some(agent);
    let mut current = "1.1.0".to_owned();
    let installing = format!("{BEFORE} ArtifactInstall");
    for (state, orderly, before, after) in [
        ("Download", false, BEFORE.to_owned(), "Cleanup"),
        (
            "ArtifactInstall",
            false,
            installing.clone(),
            "ArtifactRollback ArtifactFailure Cleanup",
        ),
        (
            "ArtifactInstall",
            true,
            installing,
            "ArtifactRollback ArtifactFailure Cleanup",
        ),
    ] {
        bench.on(state, &stuck);
        let release = bench.publish(Some(&current));
        let pid = wait_for("the module to be stuck", || {
            std::fs::read_to_string(bench.own.join("pid")).ok()
        })
        .await;
        std::fs::remove_file(bench.own.join("pid")).unwrap();
        let running = agent.take().unwrap();
        if orderly {
            running.stop().await;
        } else {
            running.cut_off().await;
        }
        assert_eq!(bench.calls(), before, "{state}");
        bench.off(state);
        let next = bench.site.agent().await;
        let report = bench.site.ended(&release).await;
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        assert!(stat.is_empty() || stat.contains(") Z "), "{stat}");
        let calls = bench.calls();
        assert!(calls.starts_with(after), "{state}: {calls}");
        if state == "Download" {
            // Nothing was installed yet: it begins anew.
            assert_eq!(report.outcome, Some(Outcome::Committed), "{:?}", report.reason);
            current = release.version.to_string();
        } else {
            assert_eq!(report.outcome, Some(Outcome::RolledBack), "{:?}", report.reason);
        }
        assert_eq!(bench.installed(), format!("version {current}"), "{state}");
        agent = Some(next);
    }
}

/// A reboot that the agent makes: the machine goes down, and the next agent asks the module how that went.
#[tokio::test]
async fn a_reboot_by_the_agent_is_verified_after_it() {
    let mut bench = Bench::new().await;
    let own = bench.own.display().to_string();
    let word = format!("echo reboot >> {own}/calls; echo down > {own}/down");
    bench
        .site
        .settings(|settings| settings.modules.reboot = ["sh", "-c", &word].map(str::to_owned).to_vec());
    bench.on("NeedsArtifactReboot", "echo Automatic\n");
    let agent = bench.site.agent().await;
    let down = || went_down(&own);
    let first = bench.publish(None);
    wait_for("the machine to go down", down).await;
    agent.stop().await;
    let agent = bench.site.agent().await;
    bench.site.ends_with(&first, Outcome::Committed).await;
    assert_eq!(
        bench.calls(),
        format!(
            "{BEFORE} ArtifactInstall NeedsArtifactReboot reboot ArtifactVerifyReboot ArtifactCommit Cleanup"
        )
    );

    bench.on("ArtifactVerifyReboot", "exit 7\n");
    let second = bench.publish(Some("1.1.0"));
    wait_for("the machine to go down", down).await;
    agent.stop().await;
    let agent = bench.site.agent().await;
    wait_for("the machine to go down again", down).await;
    agent.stop().await;
    let agent = bench.site.agent().await;
    bench.site.ends_with(&second, Outcome::RolledBack).await;
    assert_eq!(
        bench.calls(),
        format!(
            "{BEFORE} ArtifactInstall NeedsArtifactReboot reboot ArtifactVerifyReboot ArtifactRollback reboot \
             ArtifactVerifyRollbackReboot ArtifactFailure Cleanup"
        )
    );
    assert_eq!(bench.installed(), "version 1.1.0");
    agent.stop().await;
}

/// Once, if the machine was told to go down.
fn went_down(own: &str) -> Option<()> {
    std::fs::remove_file(Path::new(own).join("down")).ok()
}

#[tokio::test]
async fn a_roll_back_by_hand_lets_the_module_install_the_version_before() {
    let mut bench = Bench::new().await;
    let agent = bench.site.agent().await;
    let first = bench.publish(None);
    bench.site.ends_with(&first, Outcome::Committed).await;
    let second = bench.publish(Some("1.1.0"));
    bench.site.ends_with(&second, Outcome::Committed).await;
    bench.calls();
    let socket = bench.site.layout().control();
    let mut client = control::Client::connect(&socket, "device").await.unwrap();
    let component = component();
    client
        .call::<()>(&DeviceRequest::Rollback { component })
        .await
        .unwrap();
    assert_eq!(bench.installed(), "version 1.1.0");
    assert_eq!(
        bench.calls(),
        format!("{BEFORE} ArtifactInstall NeedsArtifactReboot ArtifactCommit Cleanup")
    );
    agent.stop().await;
}

/// Between every two steps of the life: a good module ends committed or undone, a bad one undone, and what is
/// installed is always what the device says.
async fn cut_everywhere(is_good: bool) -> usize {
    let mut bench = Bench::new().await;
    let agent = bench.site.agent().await;
    let first = bench.publish(None);
    bench.site.ends_with(&first, Outcome::Committed).await;
    agent.stop().await;
    let mut current = "1.1.0".to_owned();
    bench.on("NeedsArtifactReboot", "echo Yes\n");
    if !is_good {
        bench.on("ArtifactCommit", "exit 7\n");
    }
    for at in 1.. {
        let doomed = Doomed::start(&bench.site, at).await;
        let release = bench.publish(Some(&current));
        let (was_cut, what) = doomed.ends(&bench.site, &release).await;
        let agent = bench.site.agent().await;
        let report = bench.site.ended(&release).await;
        rest(&agent).await;
        match report.outcome {
            Some(Outcome::Committed) if is_good => current = release.version.to_string(),
            Some(Outcome::RolledBack) => {}
            other => panic!("{what}: {other:?}, {:?}", report.reason),
        }
        assert_eq!(bench.installed(), format!("version {current}"), "{what}");
        let says = agent.hub.generation.slot(&component()).current.unwrap();
        assert_eq!(says.version.to_string(), current, "{what}");
        assert!(!bench.tree().exists(), "{what}");
        let calls = bench.calls();
        assert!(calls.ends_with("Cleanup"), "{what}: {calls}");
        agent.stop().await;
        if !was_cut {
            return at;
        }
    }
    unreachable!()
}

#[tokio::test]
async fn an_update_by_a_module_cut_off_at_every_point_is_committed_or_undone() {
    let points = cut_everywhere(true).await;
    assert!(points > 25, "only {points} points were reached");
}

#[tokio::test]
async fn a_roll_back_by_a_module_cut_off_at_every_point_is_finished() {
    let points = cut_everywhere(false).await;
    assert!(points > 30, "only {points} points were reached");
}
