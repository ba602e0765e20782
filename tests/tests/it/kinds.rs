//! Every form a release may have.

use e2e::packages::{ALIVE, put, script};
use e2e::{Site, SiteOptions};
use protocol::Step;

use crate::shell;

const JAVA: &str = r#"
public class CommonApp {
    public static void main(String[] arguments) throws Exception {
        for (int second = 0; ; second++) {
            System.out.println("CommonApp_6.0 have been running " + second + " Seconds");
            Thread.sleep(1000);
        }
    }
}
"#;

/// Scripts, Python, ELF and JAR as single files: name and version from the file's name (R-004-15).
#[tokio::test]
async fn single_files_of_every_kind_run() {
    let site = Site::running(SiteOptions::default()).await;
    let work = tempfile::tempdir().unwrap();
    let mut follow = site.follow();
    let agent = site.device("pump").await;
    let dir = work.path();
    put(&dir.join("Script_1.0.sh"), b"#!/bin/sh\nexec sleep 1000\n", 0o755);
    put(
        &dir.join("Snake_2.1.py"),
        b"import time\nwhile True: time.sleep(1)\n",
        0o644,
    );
    put(
        &dir.join("n.c"),
        b"#include <unistd.h>
int main(void) { for (;;) sleep(1); }
",
        0o644,
    );
    let _ = shell(&format!("cd {} && cc -o Native_3.0 n.c", dir.display()))
        .await
        .ok();
    put(&dir.join("CommonApp.java"), JAVA.as_bytes(), 0o644);
    let jar = format!(
        "cd {} && javac CommonApp.java && printf 'Main-Class: CommonApp\\n' > m && jar cfm CommonApp_6.0.jar m CommonApp*.class",
        dir.display()
    );
    let _ = shell(&jar).await.ok();
    for (file, version) in [
        ("Script_1.0.sh", "1.0.0"),
        ("Snake_2.1.py", "2.1.0"),
        ("Native_3.0", "3.0.0"),
        ("CommonApp_6.0.jar", "6.0.0"),
    ] {
        let more = ["--alive-seconds", "1", "--probation", "1"];
        let output = site.publish(&dir.join(file), &more).await;
        assert_eq!(output.code, 0, "{file}: {}", output.stderr);
        follow.committed("pump", version).await;
    }
    let names: Vec<String> = agent
        .status()
        .await
        .components
        .iter()
        .map(|state| state.component.to_string())
        .collect();
    assert_eq!(names.len(), 4, "{names:?}");
}

/// A multi-file package (R-004-139), and a release whose program cannot start: the reason is its own word.
#[tokio::test]
async fn a_program_that_cannot_start_leaves_the_old_one_running() {
    let site = Site::running(SiteOptions::default()).await;
    let work = tempfile::tempdir().unwrap();
    let mut follow = site.follow();
    let agent = site.device("pump").await;
    let good = script(
        work.path(),
        "app",
        "1.0",
        "read word < ../payload/words/word.txt || read word < words/word.txt || read word < \"$(dirname \"$0\")/words/word.txt\"; [ \"$word\" = steady ] || exit 3; exec sleep 1000",
        ALIVE,
    );
    put(&good.join("payload/words/word.txt"), b"steady\n", 0o644);
    let _ = site.publish(&good, &[]).await.ok();
    follow.committed("pump", "1.0.0").await;
    let bad = script(
        work.path(),
        "app",
        "2.0",
        "echo 'no licence found' >&2; exit 7",
        ALIVE,
    );
    let _ = site.publish(&bad, &[]).await.ok();
    let event = follow.outcome("pump", "2.0.0").await;
    assert_eq!(event.step, Step::RolledBack);
    assert!(
        event.reason.as_ref().unwrap().contains("no licence found"),
        "{:?}",
        event.reason
    );
    assert_eq!(
        agent.status().await.components[0]
            .version
            .as_ref()
            .unwrap()
            .to_string(),
        "1.0.0"
    );
}

/// A module written to the protocol's text: puts the payload `app.conf` where `dest` says, and can give back what was
/// there; says no where a payload `poison` is.
const MODULE: &str = r#"#!/bin/sh
set -e
case "$1" in
    SupportsRollback) echo Yes ;;
    ArtifactInstall)
        dest=$(cat files/dest)
        test ! -f "$dest" || cp "$dest" tmp/before
        cp files/app.conf "$dest" ;;
    ArtifactCommit)
        test ! -f files/poison || { echo 'the line does not start' >&2; exit 7; } ;;
    ArtifactRollback) test ! -f tmp/before || cp tmp/before "$(cat files/dest)" ;;
esac
"#;

/// What an update module of the device installs: packed, looked at, signed, installed, and undone by the module.
#[tokio::test]
async fn what_a_module_installs_is_there_and_a_bad_one_is_undone_by_it() {
    let site = Site::running(SiteOptions::default()).await;
    let work = tempfile::tempdir().unwrap();
    let mut follow = site.follow();
    let mut agent = site.enroll("pump").await;
    let modules = work.path().join("modules");
    put(&modules.join("settings"), MODULE.as_bytes(), 0o755);
    let settings = agent.dir.join("device.toml");
    let text = std::fs::read_to_string(&settings).unwrap();
    let text = format!(
        "{text}\n[modules]\nfolder = {:?}\n",
        modules.display().to_string()
    );
    put(&settings, text.as_bytes(), 0o644);
    agent.start().await;

    let dest = work.path().join("app.conf");
    let package = |version: &str, poison: bool| {
        let dir = work.path().join(version);
        let manifest = format!(
            "format = 1\ncomponent = \"line\"\nversion = \"{version}\"\nkind = \"module:settings\"\n"
        );
        put(&dir.join("update.toml"), manifest.as_bytes(), 0o644);
        put(
            &dir.join("payload/dest"),
            dest.display().to_string().as_bytes(),
            0o644,
        );
        put(
            &dir.join("payload/app.conf"),
            format!("speed of {version}\n").as_bytes(),
            0o644,
        );
        if poison {
            put(&dir.join("payload/poison"), b"", 0o644);
        }
        dir
    };
    let _ = site.publish(&package("1.0", false), &[]).await.ok();
    follow.committed("pump", "1.0.0").await;
    assert_eq!(std::fs::read_to_string(&dest).unwrap(), "speed of 1.0\n");

    let _ = site.publish(&package("2.0", true), &[]).await.ok();
    let event = follow.outcome("pump", "2.0.0").await;
    assert_eq!(event.step, Step::RolledBack);
    let reason = event.reason.unwrap();
    assert!(reason.contains("the line does not start"), "{reason}");
    assert!(reason.contains("its module rolled back to 1.0.0"), "{reason}");
    assert_eq!(std::fs::read_to_string(&dest).unwrap(), "speed of 1.0\n");
    let state = &agent.status().await.components[0];
    assert_eq!(state.version.as_ref().unwrap().to_string(), "1.0.0");
}
