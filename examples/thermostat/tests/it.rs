//! The program as a device runs it: packed, unpacked, started, asked.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs
)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use release::{Health, UnpackLimits, expand, pack, read_manifest, unpack};
use serde_json::Value;
use tempfile::TempDir;

/// A thermostat that runs; ended when dropped.
struct Running {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
    port: u16,
    _folders: [TempDir; 2],
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The package of a version, made as its author would.
fn package(version: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("packages")
        .join(version);
    fs::create_dir(folder.path().join("payload")).unwrap();
    for name in ["update.toml", "payload/release.json"] {
        fs::copy(source.join(name), folder.path().join(name)).unwrap();
    }
    fs::copy(
        env!("CARGO_BIN_EXE_thermostat"),
        folder.path().join("payload/thermostat"),
    )
    .unwrap();
    let mut bytes = Vec::new();
    pack(folder.path(), &mut bytes).unwrap();
    bytes
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// Installs a package and starts it on `data`; returns when it has said its first line.
fn start(version: &str, data: &Path) -> Running {
    let bytes = package(version);
    let manifest = read_manifest(&bytes[..]).unwrap();
    let [installed, elsewhere] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    unpack(&bytes[..], installed.path(), &UnpackLimits::default()).unwrap();
    let port = free_port();
    let program = installed
        .path()
        .join("payload")
        .join(manifest.run.as_ref().unwrap().program.as_str());
    let mut child = Command::new(program)
        .current_dir(elsewhere.path())
        .env("THERMOSTAT_PORT", port.to_string())
        .env("DROVER_DATA", data)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let mut running = Running {
        child,
        output,
        port,
        _folders: [installed, elsewhere],
    };
    assert!(running.line().contains(" starts for the "));
    let Health::Http { url } = manifest.health else {
        panic!("the thermostat is asked over HTTP")
    };
    let url = expand(&url, |name| (name == "THERMOSTAT_PORT").then(|| port.to_string())).unwrap();
    assert_eq!(url, format!("http://127.0.0.1:{port}/health"));
    running
}

impl Running {
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line
    }

    fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    fn health(&self) -> (u16, Value) {
        let (status, body) = self.get("/health");
        (status, serde_json::from_str(&body).unwrap())
    }
}

#[test]
fn two_versions_differ_for_everyone_to_see() {
    let data = tempfile::tempdir().unwrap();
    let old = start("1.0", data.path());
    let new = start("1.1", data.path());
    let ((old_status, old_health), (new_status, new_health)) = (old.health(), new.health());
    assert_eq!((old_status, new_status), (200, 200));
    assert_eq!(
        (&old_health["version"], &new_health["version"]),
        (&"1.0.0".into(), &"1.1.0".into())
    );
    assert_eq!(old_health["readings"].get("humidity_percent"), None);
    assert!(new_health["readings"]["humidity_percent"].is_f64());
    assert!(!old.get("/").1.contains("°F"));
    assert!(new.get("/").1.contains("°F"));
}

#[test]
fn a_line_every_second_says_how_long_it_has_run() {
    let data = tempfile::tempdir().unwrap();
    let mut running = start("1.0", data.path());
    for seconds in 1..=2 {
        assert_eq!(
            running.line(),
            format!("thermostat_1.0.0 have been running {seconds} Seconds\n")
        );
    }
}

#[test]
fn the_bad_version_starts_well_and_then_says_what_fails() {
    let data = tempfile::tempdir().unwrap();
    let mut running = start("1.2", data.path());
    assert_eq!(running.health().0, 200);
    while !running.line().contains(" 2 Seconds") {}
    let (status, health) = running.health();
    assert_eq!((status, &health["status"]), (500, &"failing".into()));
    assert!(
        health["reason"].as_str().unwrap().contains("calibration"),
        "{health}"
    );
}

#[test]
fn what_it_remembers_outlives_a_version() {
    let data = tempfile::tempdir().unwrap();
    drop(start("1.0", data.path()));
    let new = start("1.1", data.path());
    assert_eq!(new.health().1["starts"], 2);
}

#[test]
fn it_goes_on_when_nobody_reads_its_lines() {
    let data = tempfile::tempdir().unwrap();
    let mut running = start("1.0", data.path());
    let (reader, writer) = std::io::pipe().unwrap();
    drop(writer);
    let pipe = std::mem::replace(&mut running.output, BufReader::new(fake_stdout(reader)));
    drop(pipe);
    let mut seen = 0;
    while seen < 2 {
        std::thread::sleep(std::time::Duration::from_millis(50)); // between two questions
        seen = running.health().1["readings"]["count"].as_u64().unwrap();
    }
    assert_eq!(running.child.try_wait().unwrap(), None);
}

fn fake_stdout(reader: std::io::PipeReader) -> std::process::ChildStdout {
    std::os::fd::OwnedFd::from(reader).into()
}

#[test]
fn strange_requests_are_refused_and_do_no_harm() {
    let data = tempfile::tempdir().unwrap();
    let running = start("1.0", data.path());
    assert_eq!(running.get("/etc/passwd").0, 404);
    for request in [
        "POST / HTTP/1.1\r\n\r\n",
        "\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(("127.0.0.1", running.port)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 4"), "{request:?}: {answer}");
    }
    let mut endless = TcpStream::connect(("127.0.0.1", running.port)).unwrap();
    let _ = endless.write_all(&[b'x'; 20_000]);
    assert_eq!(running.health().0, 200);
}
