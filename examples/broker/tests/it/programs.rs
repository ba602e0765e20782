//! The real programs with mosquitto's own clients.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A broker that is ended with the test.
struct Running {
    child: Child,
    port: String,
}

impl Running {
    fn start(program: &str, data: &Path) -> Self {
        match Self::try_start(program, data) {
            Ok(running) => running,
            Err(said) => panic!("{program} did not start: {said}"),
        }
    }

    /// The broker, or its last words.
    fn try_start(program: &str, data: &Path) -> Result<Self, String> {
        let mut child = Command::new(program)
            .env("DROVER_DATA", data)
            .env("BROKER_LISTEN", "127.0.0.1:0")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        match line.trim().rsplit_once(':') {
            Some((_, port)) if line.contains("listens on") => {
                let port = port.to_owned();
                // Whatever it says is read, so that it can say it.
                std::thread::spawn(move || said.lines().map_while(Result::ok).for_each(drop));
                Ok(Self { child, port })
            }
            _ => {
                child.wait().unwrap();
                Err(line)
            }
        }
    }

    /// `mosquitto_sub` with these arguments, from when it is subscribed; a retained message must greet it, because it
    /// holds back its own words until there is one.
    fn subscribe(&self, args: &[&str]) -> Reader {
        let mut child = self
            .subscriber(args)
            .arg("-d")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.starts_with("Subscribed") {
            line.clear();
            assert_ne!(lines.read_line(&mut line).unwrap(), 0, "it never subscribed");
        }
        Reader { child, lines }
    }

    fn subscriber(&self, args: &[&str]) -> Command {
        let mut command = Command::new("mosquitto_sub");
        command.args(["-p", &self.port]).args(args);
        command
    }

    fn publish(&self, args: &[&str]) {
        let status = Command::new("mosquitto_pub")
            .args(["-p", &self.port])
            .args(args)
            .status()
            .unwrap();
        assert!(status.success(), "{args:?}");
    }

    /// `mosquitto_pub` that publishes each line it is given.
    fn publisher(&self, args: &[&str]) -> (Child, ChildStdin) {
        let mut child = Command::new("mosquitto_pub")
            .args(["-p", &self.port, "-l"])
            .args(args)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        (child, stdin)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn has_mosquitto() -> bool {
    let found = Command::new("mosquitto_pub")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok();
    if !found {
        assert!(
            std::env::var_os("DROVER_NO_SKIP").is_none(),
            "this test needs mosquitto-clients"
        );
        eprintln!("skipped: needs mosquitto-clients");
    }
    found
}

/// A `mosquitto_sub` that is subscribed, ended with the test.
struct Reader {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Reader {
    /// What it prints, until it ends, that is no word of its own (`-d`), sorted.
    fn messages(&mut self) -> Vec<String> {
        let lines = self.lines.by_ref().lines().map(Result::unwrap);
        let mut lines: Vec<_> = lines.filter(|line| !line.starts_with("Client ")).collect();
        lines.sort();
        lines
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const ONE: &str = env!("CARGO_BIN_EXE_broker-1");
const TWO: &str = env!("CARGO_BIN_EXE_broker-2");
const THREE: &str = env!("CARGO_BIN_EXE_broker-3");

#[test]
fn mosquitto_clients_notice_nothing() {
    if !has_mosquitto() {
        return;
    }
    for program in [ONE, TWO, THREE] {
        let data = tempfile::tempdir().unwrap();
        let broker = Running::start(program, data.path());
        broker.publish(&["-t", "house/attic", "-m", "retained", "-r", "-q", "1"]);
        let mut all = broker.subscribe(&["-t", "house/#", "-q", "2", "-C", "4", "-v"]);
        let mut some = broker.subscribe(&["-t", "house/+", "-t", "garden", "-q", "1", "-C", "4", "-v"]);
        broker.publish(&["-t", "house/hall", "-m", "zero", "-q", "0"]);
        broker.publish(&["-t", "house/hall", "-m", "one", "-q", "1"]);
        broker.publish(&["-t", "house/hall", "-m", "two", "-q", "2"]);
        broker.publish(&["-t", "garden", "-m", "green", "-q", "2"]);
        let house = [
            "house/attic retained",
            "house/hall one",
            "house/hall two",
            "house/hall zero",
        ];
        assert_eq!(all.messages(), house);
        assert_eq!(some.messages().len(), 4);
    }
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    if !has_mosquitto() {
        return;
    }
    let data = tempfile::tempdir().unwrap();
    let remembered = ["-i", "reader", "-c", "-t", "t", "-q", "2"];
    let first = Running::start(ONE, data.path());
    let subscribed = first.subscriber(&remembered).arg("-E").status().unwrap();
    assert!(subscribed.success());
    let (mut publisher, mut lines) = first.publisher(&["-t", "t", "-q", "2"]);
    let expected: Vec<_> = (100..300).map(|number| number.to_string()).collect();
    for line in &expected {
        writeln!(lines, "{line}").unwrap();
    }
    drop(lines);
    assert!(publisher.wait().unwrap().success(), "all are acknowledged");
    drop(first); // SIGKILL
    let next = Running::start(TWO, data.path());
    drop(next); // killed before it did anything
    let next = Running::start(THREE, data.path());
    let count = expected.len().to_string();
    let reader = next
        .subscriber(&remembered)
        .args(["-C", &count])
        .output()
        .unwrap();
    let got = String::from_utf8(reader.stdout).unwrap();
    let mut got: Vec<_> = got.lines().collect();
    got.sort();
    assert_eq!(got, expected);
}

#[test]
fn a_second_broker_in_the_same_folder_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let _first = Running::start(ONE, data.path());
    let said = Running::try_start(TWO, data.path()).err().expect("refused");
    assert!(said.contains("another broker works in"), "{said}");
}

#[test]
fn a_damaged_journal_is_named_and_not_passed_over() {
    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join("journal"), b"something else").unwrap();
    let said = Running::try_start(ONE, data.path()).err().expect("refused");
    assert!(said.contains("is damaged at byte 0"), "{said}");
    assert_eq!(
        std::fs::read(data.path().join("journal")).unwrap(),
        b"something else"
    );
}
