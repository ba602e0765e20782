//! Updates with open connections, one after the other.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use crate::agent::{Agent, Answer, Order, Version};
use crate::clients::{Clients, Seen};

/// Version 1 or 2.
pub(crate) fn version(number: u32) -> Version {
    let program = match number {
        1 => env!("CARGO_BIN_EXE_counter-1"),
        _ => env!("CARGO_BIN_EXE_counter-2"),
    };
    Version {
        argv: vec![program.into()],
        schema: number,
    }
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// Ends what serves at a test's end.
pub(crate) struct Serving(pub(crate) i32);

impl Drop for Serving {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_raw(self.0).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
    }
}

pub(crate) fn nothing_was_lost(seen: &[Seen]) {
    for client in seen {
        assert_eq!(client.wrong, None, "{seen:?}");
        assert!(client.answers > 0, "{seen:?}");
    }
}

fn update_again_and_again(versions: &[Version], times: usize) -> Vec<Seen> {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut agent = Agent::start(folder.path(), port);
    let started = agent.tell(&Order::Start(versions[0].clone())).unwrap();
    assert!(matches!(started, Answer::Serves { .. }));
    let clients = Clients::start(port, 8);
    clients.more(100);
    let mut pauses = vec![];
    for number in 1..=times {
        let to = versions[number % versions.len()].clone();
        match agent
            .tell(&Order::Update {
                to,
                fault: None,
                still_ms: 20_000,
            })
            .unwrap()
        {
            Answer::Committed { pause_us } => pauses.push(pause_us),
            other => panic!("update {number}: {other:?}"),
        }
        clients.more(20);
    }
    let Answer::Serves { pid, .. } = agent.tell(&Order::Adopt).unwrap() else {
        panic!()
    };
    let _serving = Serving(pid);
    let seen = clients.stop();
    pauses.sort_unstable();
    let slowest = seen.iter().map(|seen| seen.slowest).max().unwrap();
    println!("pauses in µs: {pauses:?}; slowest answer {slowest:?}");
    seen
}

#[test]
fn a_hundred_updates_in_a_row_lose_no_connection_and_no_answer() {
    let seen = update_again_and_again(&[version(1), version(2)], 100);
    nothing_was_lost(&seen);
    assert!(
        seen.iter().take(8).all(|client| client.versions.len() == 2),
        "{seen:?}"
    );
}

#[test]
fn a_program_in_another_language_hands_over_too() {
    let python = Command::new("python3").arg("--version").output();
    if !python.is_ok_and(|output| output.status.success()) {
        println!("skipped: there is no python3 here");
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../counter-py/counter.py");
    let version = |number: &str| Version {
        argv: vec!["python3".into(), script.display().to_string(), number.into()],
        schema: 1,
    };
    let seen = update_again_and_again(&[version("1"), version("2"), super::updates::version(1)], 9);
    nothing_was_lost(&seen);
}

#[test]
fn being_updatable_costs_the_program_at_most_ten_lines() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let read = |name: &str| {
        let text = std::fs::read_to_string(sources.join(name)).unwrap();
        let lines: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
        lines
            .into_iter()
            .filter(|line| !line.is_empty() && !line.starts_with("//"))
            .collect::<Vec<_>>()
    };
    let mut plain = read("bin/counter-plain.rs");
    let added: Vec<String> = read("bin/counter-1.rs")
        .into_iter()
        .filter(|line| match plain.iter().position(|other| other == line) {
            Some(index) => {
                plain.remove(index);
                false
            }
            None => true,
        })
        .chain(
            read("lib.rs")
                .into_iter()
                .filter(|line| line.contains("serde") || line.contains("handoff")),
        )
        .collect();
    assert!((5..=10).contains(&added.len()), "{}: {added:#?}", added.len());
    assert!(plain.len() <= 2, "lines that had to be changed: {plain:#?}");
}
