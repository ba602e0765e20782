//! `scripts/crash-test`: installs and roll backs that are killed, cut off and damaged, by the thousand.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use e2e::crash::{Fault, Plan, Row, run};
use e2e::process::to_the_end;
use serde_json::json;

/// Interrupts installs and roll backs of a real site's device wherever they can be interrupted, and looks at what is
/// left. 0 bad is the only good result.
#[derive(Parser)]
#[command(name = "scripts/crash-test")]
struct Options {
    /// kill -9 of the running agent at so many random moments.
    #[arg(long, default_value_t = 1000)]
    kills: usize,
    /// Power cuts on each of ext4 and xfs (as root, with loop devices; skipped elsewhere).
    #[arg(long, default_value_t = 1000)]
    cuts: usize,
    /// So many system calls of each row, chosen by chance, in the place of all.
    #[arg(long)]
    points: Option<usize>,
    /// So many damaged files, chosen by chance, in the place of every file in every way.
    #[arg(long)]
    damages: Option<usize>,
    /// The same seed makes the same choices, but for times.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write the rows, with all that was wrong, to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn show(row: &Row) {
    if let Some(why) = &row.skipped {
        println!("| {} | {} | skipped: {why} | | | | | | | | |", row.id, row.what);
        return;
    }
    let time = |time: Option<u64>| time.map_or_else(|| "-".to_owned(), |time| format!("{time} ms"));
    println!(
        "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
        row.id,
        row.what,
        row.tried,
        row.distinct,
        row.count(Fault::Torn),
        row.count(Fault::NoVersion),
        row.count(Fault::LostFloor),
        row.count(Fault::NotRecovered),
        row.count(Fault::Panicked),
        row.bad,
        time(row.median_recovery_ms),
    );
    for told in &row.told {
        println!("|  |   {told} | | | | | | | | | |");
    }
}

/// The first line of a file of the system; empty where there is none.
fn line(path: &str) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().next().unwrap_or_default().to_owned()
}

/// What all rows come to.
struct Sums {
    bad: usize,
    tried: usize,
    skipped: usize,
}

impl Sums {
    fn of(rows: &[Row]) -> Self {
        Self {
            bad: rows.iter().map(|row| row.bad).sum(),
            tried: rows.iter().map(|row| row.tried).sum(),
            skipped: rows.iter().filter(|row| row.skipped.is_some()).count(),
        }
    }
}

impl Options {
    /// Writes the rows, if a file is asked for.
    fn write(&self, rows: &[Row], complete: bool) -> anyhow::Result<()> {
        let Some(path) = &self.json else {
            return Ok(());
        };
        let Sums { bad, tried, skipped } = Sums::of(rows);
        let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        let result = json!({
            "bad": bad,
            "tried": tried,
            "skipped": skipped,
            "complete": complete,
            "seed": self.seed,
            "machine": {
                "cores": cores,
                "kernel": line("/proc/sys/kernel/osrelease"),
                "load": line("/proc/loadavg"),
                "ext4": made_by("mkfs.ext4"),
                "xfs": made_by("mkfs.xfs"),
            },
            "rows": rows,
        });
        durable::replace(path, &serde_json::to_vec_pretty(&result)?, 0o644)?;
        Ok(())
    }
}

/// What a maker of file systems says of its version; empty where there is none.
fn made_by(program: &str) -> String {
    let said = std::process::Command::new(program).arg("-V").output();
    said.map_or_else(
        |_| String::new(),
        |said| {
            let text = [said.stdout, said.stderr].concat();
            let text = String::from_utf8_lossy(&text);
            text.lines().next().unwrap_or_default().to_owned()
        },
    )
}

fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    println!(
        "| row | what happens | tried | distinct | torn | no version | lost floor | not recovered | panics | bad | recovery, median |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    let plan = Plan {
        kills: options.kills,
        cuts: options.cuts,
        points: options.points,
        damages: options.damages,
        seed: options.seed,
    };
    let mut done: Vec<Row> = Vec::new();
    let mut unwritten = Ok(());
    // After each row: what was found is on the disk, whatever becomes of the rest.
    let mut each = |row: &Row| {
        show(row);
        done.push(row.clone());
        let written = options.write(&done, false);
        if unwritten.is_ok() {
            unwritten = written;
        }
    };
    let rows = to_the_end(async {
        // After what runs on them has ended.
        e2e::crash::unmount_on_panic();
        Ok(run(plan, &mut each).await)
    })?;
    unwritten?;
    options.write(&rows, true)?;
    let Sums { bad, tried, skipped } = Sums::of(&rows);
    println!();
    println!(
        "{tried} interruptions in {} rows, {skipped} of them skipped; {bad} bad.",
        rows.len()
    );
    Ok(if bad == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
