//! Live programs: a version takes over from the one before while a client is connected, or that one goes on.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use control::Client;
use device::agent::Agent;
use device::dry_run::dry_run;
use protocol::Outcome;
use protocol::control::DeviceRequest;
use release::plan::Answer;
use release::{Form, Manifest, Release};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tuf::UnixTime;

use crate::cut::Doomed;
use crate::site::{Site, component, rest, wait_for};

/// The counter of the examples, in Python: it speaks the protocol by itself.
const COUNTER: &str = include_str!("../../../examples/counter-py/counter.py");

/// Says that it changed something, and changes nothing.
const CHANGE: &str = "#!/usr/bin/env python3
import os, sys
sys.stderr.write('from %s to %s\\n' % (os.environ['DROVER_SCHEMA_FROM'], os.environ['DROVER_SCHEMA_TO']))
sys.stdout.write(sys.stdin.read())
";

/// Whether there is a Python to run it.
fn no_python() -> bool {
    let found = std::process::Command::new("python3").arg("--version").output();
    let none = !found.is_ok_and(|output| output.status.success());
    if none {
        println!("skipped: there is no python3 here");
    }
    none
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// What differs between releases.
struct What<'a> {
    number: u64,
    program: &'a str,
    change: &'a str,
    kind: &'a str,
    health: &'a str,
    live: &'a str,
    port: u16,
}

impl What<'_> {
    fn good(number: u64, port: u16) -> Self {
        Self {
            number,
            program: COUNTER,
            change: CHANGE,
            kind: "live",
            health: "command = [\"true\"]",
            live: "schema = 1",
            port,
        }
    }

    fn packed(&self) -> (Release, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let payload = dir.path().join("payload");
        fs::create_dir(&payload).unwrap();
        for (name, text) in [("counter.py", self.program), ("change", self.change)] {
            fs::write(payload.join(name), text).unwrap();
            fs::set_permissions(payload.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let live = match self.kind {
            "live" => format!("\n[live]\n{}\n", self.live),
            _ => String::new(),
        };
        let schema = if self.live.starts_with("schema = 2") { 2 } else { 1 };
        let Self {
            number,
            kind,
            health,
            port,
            ..
        } = self;
        let text = format!(
            "format = 1\ncomponent = \"thermostat\"\nversion = \"{number}.0.0\"\nkind = \"{kind}\"\n\n[run]\nhow = \"python\"\n\
             program = \"counter.py\"\nargs = [\"{number}\", \"{schema}\"]\nenv = {{ COUNTER_PORT = \"{port}\" }}\nstop_seconds = 5\n\n\
             [nature]\ncategory = \"unit\"\nstillness = \"unit\"\ntransfer = \"needed\"\n\n[health]\n{health}\nstart_seconds = 2\nprobation_seconds = 0\n{live}"
        );
        fs::write(dir.path().join("update.toml"), &text).unwrap();
        let mut bytes = Vec::new();
        release::pack(dir.path(), &mut bytes).unwrap();
        let manifest = Manifest::parse(&text).unwrap();
        let id = format!("{number:032x}");
        let file = format!("thermostat_{number}.tar");
        let release = manifest.release(id, *number, Form::Package, file, UnixTime(1_790_000_000));
        (release, bytes)
    }

    async fn published(&self, site: &Site, expects: Option<u64>, outcome: Outcome) -> String {
        let (release, bytes) = self.packed();
        let expects = expects.map(|number| format!("{number}.0.0"));
        site.publish(&release, &bytes, expects.as_deref());
        let report = site.ends_with(&release, outcome).await;
        report.reason.unwrap_or_default()
    }
}

/// A client that keeps its connection and knows what it must be answered.
struct Connected {
    stream: BufReader<TcpStream>,
    sum: u64,
}

impl Connected {
    async fn to(port: u16) -> Self {
        let stream = loop {
            match TcpStream::connect(("127.0.0.1", port)).await {
                Ok(stream) => break stream,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        let mut connected = Self {
            stream: BufReader::new(stream),
            sum: 0,
        };
        connected.answered_by().await;
        connected
    }

    /// Which version answers.
    async fn answered_by(&mut self) -> String {
        self.sum += 7;
        self.stream.get_mut().write_all(b"7\n").await.unwrap();
        let mut line = String::new();
        self.stream.read_line(&mut line).await.unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(
            words.get(1).copied(),
            Some(self.sum.to_string().as_str()),
            "{line:?}"
        );
        words[0].to_owned()
    }
}

/// An enrolled device on which version 1 runs, and a client of it.
async fn counting(site: &Site, port: u16) -> (Agent, Connected) {
    site.enrolled().await;
    let agent = site.agent().await;
    What::good(1, port)
        .published(site, None, Outcome::Committed)
        .await;
    rest(&agent).await;
    (agent, Connected::to(port).await)
}

async fn alone(site: &Site) -> i32 {
    wait_for("one program alone", || match site.running()[..] {
        [group] => Some(group),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn the_next_version_answers_on_the_same_connection() {
    if no_python() {
        return;
    }
    let (site, port) = (Site::new().await, free_port());
    let (agent, mut client) = counting(&site, port).await;
    let before = alone(&site).await;
    let reason = What::good(2, port)
        .published(&site, Some(1), Outcome::Committed)
        .await;
    assert!(
        reason.starts_with("handed over while it ran: nobody was served for"),
        "{reason}"
    );
    assert_eq!(client.answered_by().await, "2");
    assert_ne!(alone(&site).await, before);

    // The agent is another one by now; its programs find it, and hand over as before.
    rest(&agent).await;
    agent.cut_off().await;
    let agent = site.agent().await;
    let third = What {
        live: "schema = 2\nfrom = [1]\nback = [1]\ntransform = [\"change\"]",
        ..What::good(3, port)
    };
    let reason = third.published(&site, Some(2), Outcome::Committed).await;
    assert!(reason.starts_with("handed over while it ran"), "{reason}");
    assert_eq!(client.answered_by().await, "3");
    let log = fs::read_to_string(site.layout().output_of(&component())).unwrap();
    assert!(log.contains("from 1 to 2"), "{log}");

    // By hand it goes back, transformed too.
    rest(&agent).await;
    let mut control = Client::connect(&site.layout().control(), "device").await.unwrap();
    let back = DeviceRequest::Rollback {
        component: component(),
    };
    control.call::<()>(&back).await.unwrap();
    assert_eq!(client.answered_by().await, "2");
    let log = fs::read_to_string(site.layout().output_of(&component())).unwrap();
    assert!(log.contains("from 2 to 1"), "{log}");
    alone(&site).await;
    agent.stop().await;
}

/// The dry run says what the agent then does, and learns from what it did: a live update is no restart.
#[tokio::test]
async fn the_plan_is_live_where_the_agent_hands_over_and_a_restart_where_it_cannot() {
    if no_python() {
        return;
    }
    let (site, port) = (Site::new().await, free_port());
    let (agent, mut client) = counting(&site, port).await;
    let plan = async |what: &What<'_>| {
        let (release, bytes) = what.packed();
        site.manager.repository.lock().unwrap().publish(&release, &bytes);
        agent.hub.trust.refresh(&agent.hub.manager).await.unwrap();
        let version = Some(&release.version);
        dry_run(&agent.hub, &component(), version).await.unwrap()
    };
    let second = What::good(2, port);
    let planned = plan(&second).await;
    assert_eq!(planned.plan.answer, Answer::Live, "{planned:?}");
    assert_eq!(planned.plan.pause.unwrap().measured, 0);
    let reason = second.published(&site, Some(1), Outcome::Committed).await;
    assert!(reason.starts_with("handed over while it ran"), "{reason}");
    assert_eq!(client.answered_by().await, "2");
    rest(&agent).await;
    let planned = plan(&What::good(3, port)).await;
    assert_eq!(planned.plan.answer, Answer::Live, "{planned:?}");
    assert_eq!(planned.plan.pause.unwrap().measured, 1);
    assert_eq!(
        (planned.facts.live_ms.len(), planned.facts.restart_ms.len()),
        (1, 0)
    );
    let stranger = What {
        live: "schema = 7",
        ..What::good(4, port)
    };
    let planned = plan(&stranger).await;
    assert_eq!(planned.plan.answer, Answer::Restart, "{planned:?}");
    let why = &planned.plan.reasons[0];
    assert_eq!(why, "4.0.0 does not take over a state of schema 1");
    let reason = stranger.published(&site, Some(2), Outcome::Committed).await;
    assert!(reason.ends_with(why.as_str()), "{reason}");
    agent.stop().await;
}

#[tokio::test]
async fn the_old_version_goes_on_when_the_new_one_does_not_come_alive() {
    if no_python() {
        return;
    }
    let (site, port) = (Site::new().await, free_port());
    let (agent, mut client) = counting(&site, port).await;
    let before = alone(&site).await;
    let no_take = COUNTER.replace(
        "        counter = Counter(state, descriptors)\n",
        "        sys.exit('no licence for this state')\n",
    );
    assert_ne!(no_take, COUNTER);
    let silent = COUNTER.replace(
        "    agent.say({\"say\": \"alive\", \"update\": take[\"update\"]})\n",
        "    time.sleep(1000)\n",
    );
    assert_ne!(silent, COUNTER);
    for (number, program, live, words) in [
        (
            2,
            "import sys\nsys.exit('no licence')\n",
            "schema = 1",
            "it ended before it stood by; its last output: no licence",
        ),
        (3, &no_take, "schema = 1", "no licence for this state"),
        (
            4,
            &silent,
            "schema = 1\nstill_seconds = 1",
            "the new version was not alive in time",
        ),
        (
            5,
            COUNTER,
            "schema = 2\nfrom = [1]\ntransform = [\"change\"]\nstill_seconds = 1",
            "change failed: exit status: 3",
        ),
    ] {
        let what = What {
            program,
            live,
            change: "#!/bin/sh\nexit 3\n",
            ..What::good(number, port)
        };
        let (release, bytes) = what.packed();
        site.publish(&release, &bytes, Some("1.0.0"));
        let reason = site
            .ends_with(&release, Outcome::RolledBack)
            .await
            .reason
            .unwrap();
        assert!(reason.contains(words), "{number}: {reason}");
        assert!(reason.ends_with("; 1.0.0 goes on"), "{reason}");
        assert_eq!(client.answered_by().await, "1");
        assert_eq!(alone(&site).await, before, "it is the same process");
        rest(&agent).await;
    }
    agent.stop().await;
}

#[tokio::test]
async fn a_version_that_fails_its_probation_hands_back() {
    if no_python() {
        return;
    }
    let (site, port) = (Site::new().await, free_port());
    let (agent, mut client) = counting(&site, port).await;
    let sick = What {
        health: "command = [\"false\"]",
        ..What::good(2, port)
    };
    let (release, bytes) = sick.packed();
    site.publish(&release, &bytes, Some("1.0.0"));
    let mut seen = std::collections::BTreeSet::new();
    while site
        .manager
        .reports
        .lock()
        .unwrap()
        .iter()
        .all(|report| report.update != release.update_id.parse().ok())
    {
        seen.insert(client.answered_by().await);
    }
    site.ends_with(&release, Outcome::RolledBack).await;
    seen.insert(client.answered_by().await);
    assert_eq!(client.answered_by().await, "1");
    assert_eq!(
        seen.into_iter().collect::<Vec<_>>(),
        ["1", "2"],
        "it served, and gave everything back"
    );
    alone(&site).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_program_that_does_not_speak_is_stopped_and_started() {
    if no_python() {
        return;
    }
    let (site, port) = (Site::new().await, free_port());
    site.enrolled().await;
    let agent = site.agent().await;
    let deaf = What {
        program: "import time\ntime.sleep(1000)\n",
        ..What::good(1, port)
    };
    deaf.published(&site, None, Outcome::Committed).await;
    rest(&agent).await;
    let reason = What::good(2, port)
        .published(&site, Some(1), Outcome::Committed)
        .await;
    assert_eq!(
        reason,
        "stopped and started, not handed over: the running program does not report to the agent"
    );
    rest(&agent).await;
    let mut client = Connected::to(port).await;
    // Of another kind: stopped and started too, without a word.
    let plain = What {
        kind: "app",
        ..What::good(3, port)
    };
    assert_eq!(plain.published(&site, Some(2), Outcome::Committed).await, "");
    client = {
        drop(client);
        Connected::to(port).await
    };
    assert_eq!(client.answered_by().await, "3");
    alone(&site).await;
    agent.stop().await;
}

#[tokio::test]
async fn an_agent_that_is_cut_off_anywhere_costs_no_connection() {
    if no_python() {
        return;
    }
    let (site, port) = (Site::new().await, free_port());
    let (agent, mut client) = counting(&site, port).await;
    rest(&agent).await;
    agent.cut_off().await;
    let mut number = 1;
    for at in 1.. {
        number += 1;
        let (release, bytes) = What::good(number, port).packed();
        let doomed = Doomed::start(&site, at).await;
        site.publish(&release, &bytes, Some(&format!("{}.0.0", number - 1)));
        let (was_cut, what) = doomed.ends(&site, &release).await;
        client.answered_by().await;
        let agent = site.agent().await;
        let report = site.ended(&release).await;
        assert_eq!(
            report.outcome,
            Some(Outcome::Committed),
            "{what}: {:?}",
            report.reason
        );
        rest(&agent).await;
        assert_eq!(client.answered_by().await, number.to_string(), "{what}");
        alone(&site).await;
        agent.cut_off().await;
        if !was_cut {
            assert!(at > 10, "{at} points were passed");
            return;
        }
    }
}

/// The folder of sockets lets programs of other users through, and shows nothing.
#[tokio::test]
async fn the_socket_is_for_the_programs_user_only() {
    if no_python() {
        return;
    }
    let (site, port) = (Site::new().await, free_port());
    let (agent, _client) = counting(&site, port).await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&site.layout().live()), 0o711);
    assert_eq!(mode(&site.layout().live_socket(&component())), 0o600);
    agent.stop().await;
}
