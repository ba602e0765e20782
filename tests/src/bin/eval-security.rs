//! `scripts/eval-security`: the document's table 6.4 with its own rows and ours, by the thousand.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use e2e::eval::write_report;
use e2e::figures::{machine, now};
use e2e::process::to_the_end;
use e2e::trials::{Plan, Row, run};
use serde_json::json;

/// Right inputs are accepted, wrong ones are not, and by which check.
#[derive(Parser)]
#[command(name = "scripts/eval-security")]
struct Options {
    /// Inputs of each row.
    #[arg(long, default_value_t = 1000)]
    trials: usize,
    /// The same seed makes the same inputs, but for keys and times.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write the rows, with all reasons, to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Add the table to the report that `scripts/eval-latency` has left in this folder.
    #[arg(long, value_name = "FOLDER")]
    report: Option<PathBuf>,
}

fn show(row: &Row) {
    let Row { subject, .. } = row;
    let verdict = if row.holds() { "" } else { "  WRONG" };
    println!(
        "| {} | {} | {} | {} | {} | {} | {:.1} % | {:.1} ms |{verdict}",
        subject.id,
        subject.what,
        subject.at,
        subject.attacker,
        row.trials,
        row.distinct,
        row.percent(),
        row.each().as_secs_f64() * 1000.0,
    );
    if let Some(longest) = row.longest {
        println!("|  |   the longest took {:.0} ms | | | | | | |", longest * 1000.0);
    }
    for (reason, count) in &row.reasons {
        println!("|  |   {count} × {reason} | | | | | | |");
    }
}

fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    println!("| row | what is tried | who refuses | attacker | inputs | distinct | accepted | each |");
    println!("|---|---|---|---|---|---|---|---|");
    let plan = Plan {
        trials: options.trials,
        seed: options.seed,
    };
    let rows = to_the_end(async { Ok(run(plan, show).await) })?;
    if let Some(path) = &options.json {
        durable::replace(path, &serde_json::to_vec_pretty(&rows)?, 0o644)?;
    }
    if let Some(folder) = &options.report {
        let raw = json!({ "machine": machine(), "made": now(), "rows": rows });
        durable::create_dir(folder, 0o755)?;
        durable::replace(
            folder.join("security.json"),
            &serde_json::to_vec_pretty(&raw)?,
            0o644,
        )?;
        write_report(folder)?;
    }
    let wrong = rows.iter().filter(|row| !row.holds()).count();
    let tried: usize = rows.iter().map(|row| row.trials).sum();
    println!();
    println!(
        "{tried} inputs in {} rows; {wrong} rows did not come out as they must.",
        rows.len()
    );
    Ok(if wrong == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
