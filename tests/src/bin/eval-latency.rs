//! `scripts/eval-latency`: the source document's experiment with the real programs, as a report.
// An evaluation ends loudly when its set-up is broken.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use e2e::eval::{CLICK, Numbers, Series, Setting, TYPES, charts, measure, png, write_report};
use e2e::figures::{machine, now};
use e2e::process::to_the_end;
use serde_json::json;

/// Releases to real devices, once with events and once by the poll timer only: latency types 1 to 7 as table, charts,
/// report and raw data.
#[derive(Parser)]
#[command(name = "scripts/eval-latency")]
struct Options {
    /// Releases of each series.
    #[arg(long, default_value_t = 30)]
    releases: usize,
    /// Devices of the series.
    #[arg(long, value_delimiter = ',', default_values_t = [3, 1, 100])]
    devices: Vec<usize>,
    /// Releases of each series by the poll timer; 0: none of them.
    #[arg(long, default_value_t = 30)]
    poll_releases: usize,
    /// Seconds of the poll timer.
    #[arg(long, default_value_t = 10)]
    poll_seconds: u64,
    /// Bytes of a release: the document's own JAR had 2.7 MB.
    #[arg(long, default_value_t = 2_700_000)]
    bytes: usize,
    /// Folder for report.html, latency.json, latency.csv and the charts; made if it is not there.
    #[arg(long, value_name = "FOLDER", default_value = "evaluation")]
    out: PathBuf,
    /// Write the statistics to this file too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    println!("machine: {}", machine());
    let series = to_the_end(all(&options))?;
    write(&options, &series)
}

async fn all(options: &Options) -> Result<Vec<Series>> {
    let mut all = Vec::new();
    for (events, releases) in [(true, options.releases), (false, options.poll_releases)] {
        for devices in &options.devices {
            if releases == 0 {
                continue;
            }
            let setting = Setting {
                events,
                devices: *devices,
                releases,
                bytes: options.bytes,
                poll_seconds: options.poll_seconds,
            };
            let series = measure(setting, |number, slowest| {
                eprint!("\r{number} of {releases} releases, last {slowest:.0} ms   ");
            })
            .await?;
            eprintln!();
            println!("\n{}", series.name());
            for (name, value) in TYPES {
                let n = Numbers::of(series.last().map(value));
                println!(
                    "{name:<24} mean {:>9.2}  sd {:>8.2}  median {:>9.2}  99 % {:>9.2}  max {:>9.2} ms",
                    n.mean, n.sd, n.p50, n.p99, n.max
                );
            }
            all.push(series);
        }
    }
    Ok(all)
}

fn write(options: &Options, series: &[Series]) -> Result<()> {
    let put = |name: &str, bytes: &[u8]| durable::replace(options.out.join(name), bytes, 0o644);
    durable::create_dir(&options.out, 0o755)?;
    let mut csv = String::from("series,events,devices,release,device,last");
    for (name, _) in TYPES {
        write!(csv, ",{}", name.to_lowercase().replace(' ', "_"))?;
    }
    csv.push('\n');
    for one in series {
        let setting = &one.setting;
        for sample in &one.samples {
            write!(
                csv,
                "\"{}\",{},{},{},{},{}",
                one.name(),
                setting.events,
                setting.devices,
                sample.release,
                sample.device,
                sample.last
            )?;
            for (_, value) in TYPES {
                write!(csv, ",{:.3}", value(sample))?;
            }
            csv.push('\n');
        }
        let kind = if setting.events { "events" } else { "poll" };
        for (chart, svg) in charts(one) {
            let name = format!("{chart}-{kind}-{}", setting.devices);
            put(&format!("{name}.svg"), svg.as_bytes())?;
            put(&format!("{name}.png"), &png(&svg)?)?;
        }
    }
    put("latency.csv", csv.as_bytes())?;
    let raw = json!({ "machine": machine(), "made": now(), "unit": "ms", "series": series });
    put("latency.json", &serde_json::to_vec(&raw)?)?;
    write_report(&options.out)?;
    println!("\nwritten: {}", options.out.join("report.html").display());
    if let Some(file) = &options.json {
        let statistics: Vec<_> = series
            .iter()
            .map(|one| {
                let types: serde_json::Map<_, _> = TYPES
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), json!(Numbers::of(one.last().map(value)))))
                    .collect();
                // The document's mean of type 7 is the peer.
                let click = Numbers::of(one.last().map(TYPES[CLICK].1));
                json!({ "series": one.name(), "types": types, "ratio": click.mean / 18_000.0, "peer": "the document's \
                       actual total, mean of six runs: 18 s" })
            })
            .collect();
        durable::replace(file, &serde_json::to_vec_pretty(&statistics)?, 0o644)?;
    }
    Ok(())
}
