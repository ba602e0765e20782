//! What programs write is bounded, however fast they write and whoever has gone.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use device::limits::{MAX_OUTPUT, OUTPUT_PIECE};
use protocol::Outcome;
use release::Release;

use crate::repository::{good, script};
use crate::site::{Site, component, wait_for};

/// Bytes of a flood.
const FLOOD: u64 = 500_000_000;

/// A program that writes `FLOOD` bytes as fast as it can when the test says so, and lives on.
fn flood() -> (Release, Vec<u8>) {
    let flood = format!(
        "while [ ! -f \"$DROVER_DATA/go\" ]; do sleep 0.02; done\n\
         head -c {FLOOD} /dev/zero\necho; echo the end\n: > \"$DROVER_DATA/flooded\"\nwhile :; do"
    );
    let text = String::from_utf8(good("1.0.0")).unwrap();
    (
        script("1.0.0", 1),
        text.replace("while :; do", &flood).into_bytes(),
    )
}

fn size(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir).unwrap().flatten();
    files.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
}

/// Watches a folder from a thread of its own, without a pause, and gives the largest size seen and the looks taken.
fn watch(dir: std::path::PathBuf) -> impl FnOnce() -> (u64, u64) {
    let (stop, most) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (stopped, seen) = (Arc::clone(&stop), Arc::clone(&most));
    let thread = std::thread::spawn(move || {
        let mut looks = 0;
        while !stopped.load(Ordering::Relaxed) {
            seen.fetch_max(size(&dir), Ordering::Relaxed);
            looks += 1;
        }
        looks
    });
    move || {
        stop.store(true, Ordering::Relaxed);
        let looks = thread.join().unwrap();
        (most.load(Ordering::Relaxed), looks)
    }
}

async fn stays_below_the_limit(site: &Site) {
    let most = watch(site.layout().output());
    let data = site.layout().data(&component());
    std::fs::write(data.join("go"), b"").unwrap();
    // Longer than `wait_for`: half a gigabyte on a machine that does other things too.
    for _ in 0..10 {
        let done = tokio::time::timeout(std::time::Duration::from_secs(25), async {
            wait_for("the flood", || data.join("flooded").exists().then_some(())).await;
        });
        if done.await.is_ok() {
            break;
        }
    }
    let log = site.layout().output_of(&component());
    wait_for("the last line", || {
        std::fs::read(&log).unwrap().ends_with(b"the end\n").then_some(())
    })
    .await;
    let (most, looks) = most();
    assert!(looks > 100, "only {looks} looks were taken");
    assert!(
        most <= 2 * MAX_OUTPUT + OUTPUT_PIECE as u64,
        "{most} bytes were kept"
    );
    assert!(most > MAX_OUTPUT, "the newest are kept");
}

#[tokio::test]
async fn a_program_that_writes_without_end_never_has_more_than_the_limit() {
    let site = Site::new().await;
    site.enrolled().await;
    let agent = site.agent().await;
    let (first, program) = flood();
    site.publish(&first, &program, None);
    site.ends_with(&first, Outcome::Committed).await;
    stays_below_the_limit(&site).await;
    agent.stop().await;
}

#[tokio::test]
async fn the_limit_holds_and_the_program_runs_on_while_the_agent_is_gone() {
    let site = Site::new().await;
    site.enrolled().await;
    let agent = site.agent().await;
    let (first, program) = flood();
    site.publish(&first, &program, None);
    site.ends_with(&first, Outcome::Committed).await;
    let before = site.running();
    agent.cut_off().await;
    stays_below_the_limit(&site).await;
    assert_eq!(site.running(), before);
    // The next agent takes it over, with its output.
    let agent = site.agent().await;
    wait_for("the taking over", || {
        (agent.hub.components()[0].version.is_some() && agent.hub.status().details[0].running.is_some())
            .then_some(())
    })
    .await;
    agent.stop().await;
    assert!(site.running().is_empty());
    wait_for("the copiers' end", || copiers(&site).is_empty().then_some(())).await;
}

/// Processes that copy into this site's output folder.
fn copiers(site: &Site) -> Vec<i32> {
    let dir = site.layout().output().display().to_string();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains("copy-output") && line.contains(&dir) {
            found.extend(
                entry
                    .file_name()
                    .to_str()
                    .and_then(|name| name.parse::<i32>().ok()),
            );
        }
    }
    found
}

#[tokio::test]
async fn a_signal_to_everything_does_not_take_the_last_words() {
    let site = Site::new().await;
    let (agent, _) = site.with_first_version().await;
    let copying = copiers(&site);
    assert_eq!(copying.len(), 1);
    let pid = rustix::process::Pid::from_raw(copying[0]).unwrap();
    for signal in [
        rustix::process::Signal::TERM,
        rustix::process::Signal::INT,
        rustix::process::Signal::HUP,
    ] {
        rustix::process::kill_process(pid, signal).unwrap();
    }
    let second = script("1.1.0", 2);
    site.publish(&second, &good("1.1.0"), Some("1.0.0"));
    site.ends_with(&second, Outcome::Committed).await;
    assert!(!copiers(&site).contains(&copying[0]), "it ended with its program");
    agent.stop().await;
}
