//! What benchmarks print: figures beside what they must reach and beside a peer of the same run, and the machine.

use std::path::Path;

use anyhow::Result;
use serde::Serialize;
use serde_json::json;

/// One figure.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    /// What it is.
    pub name: String,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
    /// What it must not exceed, where that is said.
    pub goal: Option<f64>,
    /// What a peer needs, where one is known or was measured in this run.
    pub peer: Option<(String, f64)>,
    /// Ours divided by the peer's.
    pub ratio: Option<f64>,
}

impl Figure {
    /// A figure with no peer.
    pub fn new(name: impl Into<String>, value: f64, unit: &'static str, goal: Option<f64>) -> Self {
        Self {
            name: name.into(),
            value,
            unit,
            goal,
            peer: None,
            ratio: None,
        }
    }

    /// The same beside a peer's, if there is one.
    #[must_use]
    pub fn beside(mut self, peer: Option<(&str, f64)>) -> Self {
        self.ratio = peer.map(|(_, theirs)| self.value / theirs);
        self.peer = peer.map(|(name, theirs)| (name.to_owned(), theirs));
        self
    }

    /// Whether it exceeds what it must reach.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.goal.is_some_and(|goal| self.value > goal)
    }
}

/// Prints the figures as a table, and writes them to `file` with the machine.
///
/// # Errors
/// Those of the disk.
pub fn tell(figures: &[Figure], file: Option<&Path>) -> Result<()> {
    println!("\n{:<64} {:>10} {:>10}", "figure", "measured", "goal");
    for figure in figures {
        let goal = figure.goal.map_or(String::from("-"), |goal| format!("{goal:.1}"));
        print!(
            "{:<64} {:>10.2} {goal:>10} {}",
            figure.name, figure.value, figure.unit
        );
        if let (Some((peer, theirs)), Some(ratio)) = (&figure.peer, figure.ratio) {
            print!("   ({peer}: {theirs:.1}; ratio {ratio:.2})");
        }
        println!("{}", if figure.is_over() { "   OVER ITS GOAL" } else { "" });
    }
    if let Some(file) = file {
        let all = json!({ "machine": machine(), "figures": figures });
        durable::replace(file, &serde_json::to_vec_pretty(&all)?, 0o644)?;
    }
    Ok(())
}

/// The middle one; NaN of none.
#[must_use]
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Bytes in millions.
#[allow(clippy::cast_precision_loss)] // sizes of files
#[must_use]
pub fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// A field of `/proc/PID/status` in MB, such as `VmRSS:`.
#[must_use]
pub fn status_mb(pid: u32, field: &str) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with(field))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024.0 / 1e6)
}

/// Processor and load of this machine.
#[must_use]
pub fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or("")
        .trim_start_matches([' ', '\t', ':']);
    let cores = info.lines().filter(|line| line.starts_with("processor")).count();
    let sha = if info.contains("sha_ni") {
        "with"
    } else {
        "without"
    };
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    format!("{cores} × {model}, {sha} SHA extensions, load {load}")
}

/// Now, for a report.
#[must_use]
pub fn now() -> String {
    use protocol::Stamp;
    let Stamp { wall_ns, .. } = mtls::stamp();
    let seconds = i64::try_from(wall_ns / 1_000_000_000).unwrap_or(i64::MAX);
    tuf::UnixTime(seconds).to_string()
}
