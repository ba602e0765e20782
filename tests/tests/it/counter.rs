//! A live program through the four real programs: updated while clients are connected, and not where it cannot be.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use e2e::packages::{counter, put};
use e2e::{Agent, Site, SiteOptions, eventually};
use protocol::{Outcome, Step};

/// Clients that keep one connection each, and know what they must be answered.
struct Clients {
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Result<BTreeSet<String>, String>>>,
}

impl Clients {
    fn of(agent: &Agent) -> Self {
        let (stop, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = (0..5).map(|_| {
            let stream = TcpStream::connect(("127.0.0.1", agent.port)).expect("it listens");
            stream
                .set_read_timeout(Some(Duration::from_secs(30)))
                .expect("a time");
            let (stop, answers) = (Arc::clone(&stop), Arc::clone(&answers));
            std::thread::spawn(move || ask(&stream, &stop, &answers))
        });
        Self {
            threads: threads.collect(),
            stop,
            answers,
        }
    }

    /// Waits until so many more were answered.
    async fn more(&self, count: u64) {
        let wanted = self.answers.load(Ordering::Relaxed) + count;
        let answers = || async { self.answers.load(Ordering::Relaxed) };
        eventually("more answers", answers, |answers| *answers >= wanted).await;
    }

    /// The versions that each was answered by, in its one connection.
    fn stop(self) -> Vec<BTreeSet<String>> {
        self.stop.store(true, Ordering::Relaxed);
        let threads = self.threads.into_iter();
        threads
            .map(|thread| thread.join().expect("it ends").expect("every answer right"))
            .collect()
    }
}

fn ask(mut stream: &TcpStream, stop: &AtomicBool, answers: &AtomicU64) -> Result<BTreeSet<String>, String> {
    let mut versions = BTreeSet::new();
    let mut lines = BufReader::new(stream);
    let mut sum = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        sum += 7;
        stream.write_all(b"7\n").map_err(|error| error.to_string())?;
        let mut line = String::new();
        lines.read_line(&mut line).map_err(|error| error.to_string())?;
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.get(1).copied() != Some(sum.to_string().as_str()) {
            return Err(format!("the sum is {sum}, the answer {line:?}"));
        }
        versions.insert(words.first().copied().unwrap_or_default().to_owned());
        answers.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(versions)
}

async fn shows(agent: &Agent, version: &str) {
    let wanted = format!("{version} running");
    let seen = || async { (agent.shows("counter").await, agent.processes("counter").len()) };
    eventually(version, seen, |seen| *seen == (wanted.clone(), 1)).await;
}

#[tokio::test]
async fn a_live_program_is_updated_with_open_connections_and_goes_on_where_it_cannot_be() {
    let work = tempfile::tempdir().unwrap();
    let site = Site::running(SiteOptions::default()).await;
    let agent = site.device("north").await;
    let mut follow = site.follow();
    let first = site.release(&counter(work.path(), "1.0", agent.port)).await;
    agent.watch().outcome("north", first.update).await;
    let clients = Clients::of(&agent);
    clients.more(50).await;

    let second = site.release(&counter(work.path(), "2.0", agent.port)).await;
    let (outcome, reason) = agent.watch().outcome("north", second.update).await;
    assert_eq!(outcome, Outcome::Committed, "{reason:?}");
    let record = || async { std::fs::read_to_string(agent.dir.join("records/install.log")).unwrap() };
    let told = |record: &String| record.contains("handed over while it ran: nobody was served for");
    eventually("the record of it", record, told).await;
    shows(&agent, "2.0.0").await;
    clients.more(50).await;

    // One that does not come alive: the version that runs goes on, its connections included.
    let dead = counter(work.path(), "2.0", agent.port);
    put(
        &dead.join("payload/counter"),
        b"#!/bin/sh\necho no licence >&2\nexit 7\n",
        0o755,
    );
    let text = std::fs::read_to_string(dead.join("update.toml")).unwrap();
    put(
        &dead.join("update.toml"),
        text.replace("2.0.0", "3.0.0").as_bytes(),
        0o644,
    );
    let _ = site.publish(&dead, &[]).await.ok();
    let event = follow.outcome("north", "3.0.0").await;
    assert_eq!(event.step, Step::RolledBack);
    let reason = event.reason.unwrap();
    assert!(
        reason.contains("no licence") && reason.ends_with("2.0.0 goes on"),
        "{reason}"
    );
    clients.more(50).await;
    shows(&agent, "2.0.0").await;
    for versions in clients.stop() {
        assert_eq!(versions.into_iter().collect::<Vec<_>>(), ["1", "2"]);
    }
}

/// The agent is killed at any moment of the update: no client notices, and in the end the new version serves.
#[tokio::test]
async fn an_agent_killed_while_a_program_is_handed_over_costs_no_connection() {
    let work = tempfile::tempdir().unwrap();
    let site = Site::running(SiteOptions::default()).await;
    let mut agent = site.device("north").await;
    let first = site.release(&counter(work.path(), "1.0", agent.port)).await;
    agent.watch().outcome("north", first.update).await;
    let clients = Clients::of(&agent);
    for (number, wait) in (2..).zip([0, 5, 10, 20, 40, 80, 160]) {
        // Forward and back, and forward again: each is a release of its own.
        let layout = if number % 2 == 0 { "2.0" } else { "1.0" };
        let dir = counter(work.path(), layout, agent.port);
        let text = std::fs::read_to_string(dir.join("update.toml")).unwrap();
        let text = text
            .replace("\"2.0.0\"", "\"1.0.0\"")
            .replace("\"1.0.0\"", &format!("\"{number}.0.0\""));
        // Version 1 takes what version 2 leaves, by the same program.
        let text = text.replace(
            "schema = 1\n",
            "schema = 1\nfrom = [2]\ntransform = [\"counter-transform\"]\n",
        );
        put(&dir.join("update.toml"), text.as_bytes(), 0o644);
        let version = format!("{number}.0.0");
        let watch = agent.watch();
        let _ = site.release(&dir).await;
        watch.device("north", Step::Stopping, &version).await;
        tokio::time::sleep(Duration::from_millis(wait)).await;
        agent.kill().await;
        clients.more(20).await;
        agent.start().await;
        shows(&agent, &version).await;
        clients.more(20).await;
    }
    for versions in clients.stop() {
        assert_eq!(versions.into_iter().collect::<Vec<_>>(), ["1", "2"]);
    }
}
