//! Things to publish: thermostat packages, and small scripts whose behaviour a test chooses.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tuf::Digest;

use crate::process::bin;

/// Folder of the thermostat's package descriptions in the source tree.
#[must_use]
pub fn thermostat_sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/thermostat/packages")
}

/// Makes a thermostat package folder under `out` from the description of `version` (`1.0`, `1.1`, `1.2`)
/// and the built program.
///
/// # Panics
/// If files cannot be copied.
#[must_use]
pub fn thermostat(out: &Path, version: &str) -> PathBuf {
    let dir = out.join(format!("thermostat-{version}"));
    copy_tree(&thermostat_sources().join(version), &dir);
    put(
        &dir.join("payload/thermostat"),
        &std::fs::read(bin("thermostat")).expect("built"),
        0o755,
    );
    dir
}

/// Makes a counter package folder under `out`, of version `1.0` or `2.0`, that listens on `port`.
///
/// # Panics
/// If files cannot be copied.
#[must_use]
pub fn counter(out: &Path, version: &str, port: u16) -> PathBuf {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/counter/packages");
    let dir = out.join(format!("counter-{version}"));
    copy_tree(&sources.join(version), &dir);
    let program = if version == "1.0" {
        "counter-1"
    } else {
        "counter-2"
    };
    for (name, built) in [("counter", program), ("counter-transform", "counter-transform")] {
        let bytes = std::fs::read(bin(built)).expect("built");
        put(&dir.join("payload").join(name), &bytes, 0o755);
    }
    let path = dir.join("update.toml");
    let text = std::fs::read_to_string(&path).expect("a description");
    let listens = format!("[run]\nenv = {{ COUNTER_PORT = \"{port}\" }}\n");
    put(&path, text.replace("[run]\n", &listens).as_bytes(), 0o644);
    dir
}

/// Copies the folders and plain files of a folder.
///
/// # Panics
/// If they cannot be copied.
pub fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("folder");
    for entry in std::fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display())) {
        let entry = entry.expect("entry");
        let target = to.join(entry.file_name());
        let kind = entry.file_type().expect("type");
        if kind.is_dir() {
            copy_tree(&entry.path(), &target);
        } else if kind.is_file() {
            let mode = entry.metadata().expect("metadata").permissions().mode();
            put(&target, &std::fs::read(entry.path()).expect("readable"), mode);
        }
    }
}

/// Writes a test's own file.
///
/// # Panics
/// If it cannot be written.
pub fn put(path: &Path, bytes: &[u8], mode: u32) {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).expect("folder");
    }
    #[expect(clippy::disallowed_methods, reason = "a test's input, not state of a program")]
    std::fs::write(path, bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("mode");
}

/// A package of one shell script, described by what a test needs of it.
#[derive(Debug, Clone)]
pub struct Script<'a> {
    /// Component.
    pub component: &'a str,
    /// Version.
    pub version: &'a str,
    /// What runs after `#!/bin/sh`.
    pub body: &'a str,
    /// The `[health]` table's way of asking, such as `command = ["./check"]`.
    pub health: &'a str,
    /// Seconds of probation.
    pub probation: u32,
    /// Bytes that do not compress, put beside the script to make the package large.
    pub ballast: usize,
    /// More lines for `update.toml`, tables included.
    pub more: &'a str,
}

impl Default for Script<'_> {
    fn default() -> Self {
        Self {
            component: "app",
            version: "1.0.0",
            body: "exec sleep 100000",
            health: "alive_seconds = 0",
            probation: 0,
            ballast: 0,
            more: "",
        }
    }
}

impl Script<'_> {
    /// Writes the package's folder under `out`.
    #[must_use]
    pub fn write(&self, out: &Path) -> PathBuf {
        let Self {
            component,
            version,
            body,
            health,
            probation,
            ballast,
            more,
        } = self;
        let dir = out.join(format!("{component}-{version}"));
        put(
            &dir.join("payload/run.sh"),
            format!("#!/bin/sh\n{body}\n").as_bytes(),
            0o755,
        );
        let text = format!(
            "format = 1\ncomponent = \"{component}\"\nversion = \"{version}\"\n\n[run]\nhow = \"exec\"\n\
             program = \"run.sh\"\nstop_seconds = 2\n\n[health]\n{health}\nstart_seconds = 10\n\
             probation_seconds = {probation}\n\n{more}\n"
        );
        put(&dir.join("update.toml"), text.as_bytes(), 0o644);
        if *ballast > 0 {
            let seed = Digest::of(version.as_bytes())
                .as_bytes()
                .iter()
                .fold(0, |sum: u64, byte| {
                    sum.wrapping_mul(257).wrapping_add(u64::from(*byte))
                });
            put(&dir.join("payload/ballast"), &noise(*ballast, seed), 0o644);
        }
        dir
    }
}

/// A package of one shell script: `body` runs after `#!/bin/sh`; `health` is the text of the section `[health]`.
#[must_use]
pub fn script(out: &Path, component: &str, version: &str, body: &str, health: &str) -> PathBuf {
    let dir = out.join(format!("{component}-{version}"));
    put(
        &dir.join("payload/run.sh"),
        format!("#!/bin/sh\n{body}\n").as_bytes(),
        0o755,
    );
    let text = format!(
        "format = 1\ncomponent = \"{component}\"\nversion = \"{version}\"\n\n\
         [run]\nhow = \"exec\"\nprogram = \"run.sh\"\nstop_seconds = 2\n\n[health]\n{health}\n"
    );
    put(&dir.join("update.toml"), text.as_bytes(), 0o644);
    dir
}

/// Health of a program that only has to stay alive, with a probation of a second.
pub const ALIVE: &str = "alive_seconds = 1\nstart_seconds = 10\nprobation_seconds = 1";

/// A program that says which version it is and stays; `component` is `app`.
#[must_use]
pub fn app(out: &Path, version: &str) -> PathBuf {
    large_app(out, version, 0)
}

/// The same with so many bytes that do not compress.
#[must_use]
pub fn large_app(out: &Path, version: &str, ballast: usize) -> PathBuf {
    let body = format!("echo \"app {version} runs\"\nexec sleep 100000");
    Script {
        version,
        body: &body,
        ballast,
        ..Script::default()
    }
    .write(out)
}

/// Bytes that do not compress, the same for the same seed.
#[must_use]
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        // xorshift64*
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
