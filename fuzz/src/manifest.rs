//! `update.toml` and the description that is signed from it.

use release::{Form, Manifest, Release};
use serde_json::{Value, json};
use tuf::UnixTime;

use crate::edits::{Input, edit};

pub const TEXT: &str = r#"format = 1
component = "thermostat"
version = "1.2.0"
kind = "app"
counter = 7
[run]
how = "exec"
program = "thermostat"
args = ["--quiet"]
env = { MODE = "heat" }
stop_seconds = 10
[health]
http = "http://127.0.0.1:${PORT}/health"
start_seconds = 30
probation_seconds = 5
[requires]
arch = "x86-64"
hardware = ["rpi-4"]
agent = ">=0.1"
memory_bytes = 64_000_000
disk_bytes = 10_000_000
[requires.components]
broker = ">=2.1, <3"
[state]
folder = "settings"
from = [1, 2]
to = 3
[nature]
category = "disk"
stillness = "system"
[policy]
urgency = "soak"
soak_days = 10
windows = ["mon-fri 22:00-04:00", "sat,sun 00:00-24:00"]
load_below_percent = 50
power_above_percent = 30
place = "depot"
interlock = "door-open"
wait_hours = 720
otherwise = "ask"
[about]
vendor = "Example"
"#;

/// The description of that release.
pub fn description() -> Value {
    let manifest = Manifest::parse(TEXT).expect("the example");
    release_of(&manifest).to_custom().expect("a release")[Release::KEY].clone()
}

fn release_of(manifest: &Manifest) -> Release {
    manifest.release(
        "0".repeat(32),
        1,
        Form::Package,
        "thermostat.tar".to_owned(),
        UnixTime(1_800_000_000),
    )
}

pub fn seeds() -> Vec<Vec<u8>> {
    let short = "format = 1\ncomponent = \"a\"\nversion = \"1\"\n[run]\nhow = \"jar\"\nprogram = \"a.jar\"\n";
    let mut all = vec![
        [b"\0", TEXT.as_bytes()].concat(),
        [b"\0", short.as_bytes()].concat(),
    ];
    all.push([b"\x01", description().to_string().as_bytes()].concat());
    all.extend((0..8).map(|kind| vec![2, 0, 0, kind, kind, 3, b'a', b'b', b'c', 0, 1]));
    all.push(b"\x03Thermostat_1.2.jar\nPK\x03\x04".to_vec());
    all
}

pub fn run(data: &[u8]) {
    let mut input = Input(data);
    match input.byte() % 4 {
        0 => match Manifest::parse_bytes(input.0) {
            // What an author may write, a device can read.
            Ok(manifest) => drop(release_of(&manifest).to_custom()),
            Err(error) => assert!(!error.faults.is_empty() && !error.to_string().is_empty()),
        },
        1 => described(serde_json::from_slice(input.0).unwrap_or_default()),
        2 => {
            let mut value = description();
            edit(&mut value, &mut input);
            described(value);
        }
        _ => {
            let mut parts = input.0.splitn(2, |&byte| byte == b'\n');
            let name = String::from_utf8_lossy(parts.next().unwrap_or_default());
            let _ = release::guess(&name, parts.next().unwrap_or_default());
            let mended = release::mend_file_name(&name);
            let _ = format!("{mended:?}");
        }
    }
}

/// What is read can be written, and says the same.
fn described(value: Value) {
    let Ok(release) = Release::from_custom(&json!({"drover": value})) else {
        return;
    };
    let written = release.to_custom().expect("what was read can be written");
    assert_eq!(
        Release::from_custom(&written).expect("what was written can be read"),
        release
    );
    let _ = release.target_path().expect("a path");
}
