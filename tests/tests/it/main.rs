//! The four real programs, as processes on loopback, driven as a user would.
//!
//! One test: `cargo nextest run -p e2e NAME`; with `DROVER_SHOW=1` and `--no-capture` everything that the
//! programs say is shown. The programs must be built first: `cargo build --workspace --bins`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod attacks;
mod clocks;
mod conformance;
mod counter;
mod crashes;
mod demo;
mod documents;
mod faults;
mod forms;
mod happy;
mod identity;
mod keys;
mod keys_page;
mod kills;
mod kinds;
mod life;
mod lifetimes;
mod link;
mod live;
mod metadata;
mod offline;
mod own_agent;
mod ports;
mod programs;
mod rehearse;
mod release_keys;
mod replacement;
mod secrets;
mod state;
mod targets;
mod teams;
mod three_hosts;
mod trials;
mod units;
mod waits;
mod windows;

use e2e::process::run;
use e2e::{Agent, Output};

/// The thermostat's own word on a device, from its page.
async fn thermostat(agent: &Agent) -> serde_json::Value {
    let url = format!("127.0.0.1:{}", agent.port);
    let mut stream = tokio::net::TcpStream::connect(url)
        .await
        .expect("the thermostat listens");
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    stream
        .write_all(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    serde_json::from_str(text.split_once("\r\n\r\n").expect("a body").1).expect("JSON")
}

/// Waits until a device's programs are `count` processes; a process shows its environment only once it has begun.
async fn settled(agent: &Agent, count: usize) {
    for _ in 0..400 {
        if processes(agent).len() == count {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!(
        "{} has {} processes, not {count}",
        agent.name,
        processes(agent).len()
    );
}

/// Runs an ordinary command of this machine.
async fn shell(command: &str) -> Output {
    run(std::path::Path::new("/bin/sh"), ["-c", command], "", &[]).await
}

/// Processes of a device's programs, by the data folder in their environment.
fn processes(agent: &Agent) -> Vec<u32> {
    let needle = format!("DROVER_DATA={}", agent.dir.display());
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment
                .split(|byte| *byte == 0)
                .any(|line| line.starts_with(needle.as_bytes()))
        })
        .collect()
}
