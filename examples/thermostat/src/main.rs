//! A small program to update: a thermostat that measures, remembers and answers.
//!
//! One binary serves for every version: `release.json` beside it says which one it is and what that version
//! can do. `GET /health` answers what the agent asks, `GET /` what a person wants to see. What it remembers
//! lies in the folder `DROVER_DATA` and outlives every version.

mod http;
mod memory;
mod release;
mod room;

use std::convert::Infallible;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use memory::Memory;
use release::Release;
use room::Room;

/// Where it listens unless `THERMOSTAT_PORT` says otherwise.
const PORT: u16 = 8080;
/// Seconds between two writes of what is remembered.
const KEEP_SECONDS: u64 = 10;

fn main() -> ExitCode {
    let Err(why) = run();
    say(&format!("thermostat: {why}"));
    ExitCode::FAILURE
}

/// Runs until it is ended from outside, or says why it cannot.
fn run() -> Result<Infallible, String> {
    let release = Release::beside_this_program()?;
    let port = port()?;
    let mut memory = Memory::open()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .map_err(|e| format!("cannot listen on 127.0.0.1:{port}: {e}; set THERMOSTAT_PORT to a free port"))?;
    if let Err(why) = memory.begin() {
        say(&format!("thermostat: {why}")); // a full disk is no reason not to heat
    }
    say(&format!(
        "{} starts for the {}. time",
        release.name_version(),
        memory.starts()
    ));
    let room = Arc::new(Room::new(release, &memory));
    let served = room.clone();
    thread::Builder::new()
        .name("http".into())
        .spawn(move || http::serve(&listener, &served))
        .map_err(|e| format!("cannot start a thread: {e}"))?;
    live(&room, &mut memory)
}

/// Measures, says that it is alive and remembers, once a second, for as long as it is left to run.
fn live(room: &Room, memory: &mut Memory) -> ! {
    loop {
        for _ in 0..KEEP_SECONDS {
            thread::sleep(Duration::from_secs(1));
            memory.measured(room.measure());
            let (name, seconds) = (room.release().name_version(), room.uptime_seconds());
            say(&format!("{name} have been running {seconds} Seconds"));
        }
        if let Err(why) = memory.keep() {
            say(&format!("thermostat: {why}"));
        }
    }
}

/// A line on standard output. Nobody may be listening any more, and that is no reason to stop.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

fn port() -> Result<u16, String> {
    match std::env::var("THERMOSTAT_PORT") {
        Ok(text) => text
            .parse()
            .map_err(|_| format!("THERMOSTAT_PORT is {text:?}, not a port number")),
        Err(_) => Ok(PORT),
    }
}
