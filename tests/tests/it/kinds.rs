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
