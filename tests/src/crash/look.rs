//! A device's folder and its processes as they are, read by none of the agent's own code.

use std::path::Path;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// The component of all trials.
pub(super) const APP: &str = "app";

/// What the device remembers against what is old.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Floors {
    /// The lowest release counter of the component that may still be installed.
    pub(super) counter: u64,
    /// The newest timestamp that was seen.
    pub(super) timestamp: u64,
    /// The newest snapshot.
    pub(super) snapshot: u64,
    /// The newest root.
    pub(super) root: u64,
}

impl Floors {
    /// The first that is lower than it was.
    pub(super) fn lower_than(&self, before: &Self) -> Option<String> {
        let heights = [
            ("release counter", self.counter, before.counter),
            ("timestamp", self.timestamp, before.timestamp),
            ("snapshot", self.snapshot, before.snapshot),
            ("root", self.root, before.root),
        ];
        let lower = heights.iter().find(|(_, now, then)| now < then);
        lower.map(|(what, now, then)| format!("{what} {now}, it was {then}"))
    }
}

/// What the device believes to be installed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Pointer {
    /// The version that it names, its first number.
    pub(super) version: Option<u64>,
    /// The folder's name.
    pub(super) digest: String,
    /// Where the change stands.
    pub(super) life: String,
    /// Versions that failed here.
    pub(super) bad: Vec<u64>,
}

/// A version's first number: the trials use no others.
fn number(version: &Value) -> Option<u64> {
    version.as_str()?.split('.').next()?.parse().ok()
}

/// A file of one line with a SHA-256 at its end, and a body; `covers`: how much of that line the digest covers too.
fn sealed(path: &Path, covers: impl Fn(&str) -> String) -> Result<Option<Value>, String> {
    let name = path.file_name().unwrap_or_default().display();
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("{name}: {error}")),
    };
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let (line, body) = bytes.split_at(end.ok_or_else(|| format!("{name} has no first line"))?);
    let line = std::str::from_utf8(line).map_err(|_| format!("{name}: its first line is no text"))?;
    let (head, sum) = line.rsplit_once(' ').unwrap_or_default();
    let body = body.get(1..).unwrap_or_default();
    let mut hasher = Sha256::new();
    hasher.update(covers(head));
    hasher.update(body);
    if hex::encode(hasher.finalize()) != sum {
        return Err(format!("{name} does not have its checksum"));
    }
    let value = serde_json::from_slice(body).map_err(|error| format!("{name}: {error}"))?;
    Ok(Some(value))
}

/// The pointer and the journal of the component.
pub(super) fn pointer(dir: &Path) -> Result<Pointer, String> {
    // The digest covers the kind and its version too.
    let covers = |head: &str| format!("{}\n", head.split_once(' ').unwrap_or_default().1);
    let record = sealed(&dir.join("state/generation.rec"), covers)?;
    let slot = record.map(|record| record["components"][APP].clone());
    let slot = slot
        .filter(|slot| !slot.is_null())
        .ok_or("nothing was ever installed")?;
    let life = match &slot["life"] {
        Value::String(life) => life.clone(),
        Value::Object(ended) => ended.keys().next().cloned().unwrap_or_default(),
        other => return Err(format!("an unknown life: {other}")),
    };
    let bad = slot["bad"].as_array().cloned().unwrap_or_default();
    Ok(Pointer {
        version: number(&slot["current"]["version"]),
        digest: slot["current"]["digest"].as_str().unwrap_or_default().to_owned(),
        life,
        bad: bad.iter().filter_map(|bad| number(&bad["version"])).collect(),
    })
}

/// The higher of both copies; a copy that is not whole is an error.
pub(super) fn floors(dir: &Path) -> Result<Floors, String> {
    let mut floors = Floors::default();
    for (file, inner) in [("floors.rec", ""), ("state.rec", "/floors")] {
        let record = sealed(&dir.join("trust").join(file), |_| String::new())?;
        let record = record.ok_or_else(|| format!("{file} is gone"))?;
        let at = |path: &str| record.pointer(&format!("{inner}{path}")).and_then(Value::as_u64);
        let counter = at(&format!("/releases/{APP}/counter"));
        for (height, found) in [
            (&mut floors.counter, counter),
            (&mut floors.timestamp, at("/timestamp/version")),
            (&mut floors.snapshot, at("/snapshot/version")),
            (&mut floors.root, at("/root")),
        ] {
            *height = (*height).max(found.unwrap_or(0));
        }
    }
    Ok(floors)
}

/// The version that a process of the component is: good ones say it to the kernel with what they sleep.
pub(super) fn version_of(pid: i32) -> Option<u64> {
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words = String::from_utf8_lossy(&words);
    let sleeps = words
        .strip_prefix("sleep\0")
        .map(|rest| rest.trim_end_matches('\0'));
    if let Some(version) =
        sleeps.and_then(|seconds| seconds.parse::<u64>().ok()?.checked_sub(super::rig::SLEEPS))
    {
        return Some(version);
    }
    let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    let environment = String::from_utf8_lossy(&environment);
    let version = environment
        .split('\0')
        .find_map(|line| line.strip_prefix("DROVER_VERSION="))?;
    version.split('.').next()?.parse().ok()
}
