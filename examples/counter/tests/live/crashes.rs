//! Somebody is killed, or stands still, in every phase of an update; the clients must not notice.

use std::time::{Duration, Instant};

use handoff::Phase;

use crate::agent::{Agent, Answer, Fault, Order, Victim};
use crate::clients::Clients;
use crate::updates::{Serving, free_port, nothing_was_lost, version};

/// Whose the connections are after a fault; none: both may have them.
fn expected(phase: Phase, fault: Fault) -> Option<u32> {
    let index = |wanted: Phase| Phase::ALL.iter().position(|phase| *phase == wanted).unwrap();
    let reached = |wanted: Phase| index(phase) >= index(wanted);
    let new_serves = match fault {
        // What was decided outlives the agent.
        Fault::Kill(Victim::Agent) | Fault::Stop => reached(Phase::Decided),
        // It has given everything.
        Fault::Kill(Victim::Old) => reached(Phase::Ready),
        // It has not served.
        Fault::Kill(Victim::New) => false,
    };
    Some(if new_serves { 2 } else { 1 })
}

fn strike(at: usize, fault: Fault) {
    let phase = Phase::ALL[at];
    let what = format!("{fault:?} after {phase:?}");
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut agent = Agent::start(folder.path(), port);
    agent.tell(&Order::Start(version(1))).unwrap();
    let clients = Clients::start(port, 4);
    clients.more(50);
    let still_ms = if fault == Fault::Stop { 300 } else { 20_000 };
    agent.order(&Order::Update {
        to: version(2),
        fault: Some((at, fault)),
        still_ms,
    });
    if fault == Fault::Stop {
        let until = Instant::now() + Duration::from_secs(20);
        while !folder.path().join("go.waits").exists() {
            assert!(Instant::now() < until, "{what}");
            std::thread::yield_now();
        }
        // The programs go on by themselves.
        clients.more(50);
        std::fs::write(folder.path().join("go"), "").unwrap();
    }
    let answer = agent.answer();
    if fault == Fault::Kill(Victim::Agent) {
        assert_eq!(answer, None, "{what}");
        drop(agent);
        agent = Agent::start(folder.path(), port);
    } else {
        let committed = matches!(answer, Some(Answer::Committed { .. }));
        assert_eq!(expected(phase, fault) == Some(2), committed, "{what}: {answer:?}");
    }
    let Some(Answer::Serves { pid, schema }) = agent.tell(&Order::Adopt) else {
        panic!("{what}")
    };
    let serving = Serving(pid);
    assert_eq!(Some(schema), expected(phase, fault), "{what}");
    clients.more(50);
    // Whoever serves now is updated like any other.
    let other = version(if schema == 1 { 2 } else { 1 });
    let again = agent.tell(&Order::Update {
        to: other,
        fault: None,
        still_ms: 20_000,
    });
    assert!(
        matches!(again, Some(Answer::Committed { .. })),
        "{what}: {again:?}"
    );
    drop(serving);
    let Some(Answer::Serves { pid, .. }) = agent.tell(&Order::Adopt) else {
        panic!("{what}")
    };
    let _serving = Serving(pid);
    clients.more(50);
    let seen = clients.stop();
    println!(
        "{what}: slowest {:?}",
        seen.iter().map(|seen| seen.slowest).max().unwrap()
    );
    nothing_was_lost(&seen);
}

fn index_of(wanted: Phase) -> usize {
    Phase::ALL.iter().position(|phase| *phase == wanted).unwrap()
}

#[test]
fn the_agent_is_killed_in_every_phase() {
    for at in 0..Phase::ALL.len() {
        strike(at, Fault::Kill(Victim::Agent));
    }
}

#[test]
fn the_new_program_is_killed_in_every_phase_before_it_serves() {
    for at in 0..index_of(Phase::Serving) {
        strike(at, Fault::Kill(Victim::New));
    }
}

#[test]
fn the_old_program_is_killed_in_every_phase_after_it_has_given() {
    for at in index_of(Phase::Ready)..Phase::ALL.len() {
        strike(at, Fault::Kill(Victim::Old));
    }
}

#[test]
fn the_agent_stands_still_in_every_phase_in_which_programs_wait_for_it() {
    for at in index_of(Phase::Asked)..index_of(Phase::Serving) {
        strike(at, Fault::Stop);
    }
}
