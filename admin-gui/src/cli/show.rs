//! Results for people.

use anyhow::Result;

use crate::cli::args::History;
use crate::config::{Config, Folder};
use crate::fleet::{DeviceRow, LatencyRow, Reports};
use crate::init::{Made, Plan};
use crate::maintain::HandedBack;
use crate::publish::Published;
use crate::record::{self, UploadRecord};
use crate::status::Status;

/// A dash where there is nothing.
fn or_dash<T: ToString>(value: Option<&T>) -> String {
    value.map_or_else(|| "-".to_owned(), ToString::to_string)
}

pub(super) fn made(plan: &Plan, made: &Made) {
    let dir = made.dir.display();
    println!("The site {} is made in {dir}:", plan.site);
    println!();
    println!("  {dir}/author      stays here, with the author; it holds the keys. Make a backup of it now.");
    println!("  {dir}/repository  copy it to the repository's host, then: repo-server run --dir repository");
    println!("  {dir}/manager     copy it to the gateway, then: manager run --dir manager");
    println!();
    println!(
        "Copy over a safe channel (scp -p) and delete repository and manager here: they hold keys of their own."
    );
    println!("Each device takes the root by file ({dir}/author/root.json) or by its fingerprint:");
    println!();
    println!("  --root-fingerprint {}", made.root_fingerprint);
    println!();
    println!(
        "The root expires at {}; `admin-gui renew` signs it again.",
        made.root_expires
    );
    println!("Next: admin-gui publish FILE --dir {dir}/author");
}

pub(super) fn published(published: &Published) {
    let receipt = &published.receipt;
    if let (Some(release), Some(update)) = (&published.release, &published.update) {
        println!(
            "{} {} is published (update {update}).",
            release.component, release.version
        );
    }
    println!(
        "Receipt: targets {}, snapshot {}, timestamp {}, at {}; {} bytes sent.",
        receipt.targets, receipt.snapshot, receipt.timestamp, receipt.at, published.sent
    );
    for warning in &published.warnings {
        eprintln!("warning: {warning}");
    }
}

pub(super) fn recovered(done: &HandedBack) {
    println!("The repository serves targets version {} now.", done.targets);
    for file in &done.files {
        println!("  handed back {}", file.display());
    }
    for digest in &done.missing {
        println!("  still missing {digest}: a gateway's mirror may have it");
    }
}

pub(super) fn history(args: &History) -> Result<()> {
    let folder = Folder::new(&args.common.dir);
    Config::load(&folder)?;
    let mut records = record::read(&folder.records())?;
    if let Some(component) = &args.component {
        records.retain(|record| record.application_name.as_ref() == Some(component));
    }
    let records = records.split_off(records.len().saturating_sub(args.last));
    super::output(&args.common, &records, || {
        if records.is_empty() {
            println!("Nothing was published from here yet.");
        }
        for record in &records {
            entry(record);
        }
    });
    Ok(())
}

fn entry(record: &UploadRecord) {
    let what = match (&record.application_name, &record.version_number) {
        (Some(component), Some(version)) => format!("{component} {version}"),
        _ => "metadata".to_owned(),
    };
    let outcome = if record.failure.is_some() {
        "failed"
    } else {
        "done"
    };
    println!(
        "{}  {:<8} {what:<28} {outcome}",
        record.upload_time,
        record.action.to_string()
    );
    if let Some(source) = &record.source {
        println!("    Source: {}", source.display());
    }
    println!("    Release Time: {}", record.release_time);
    if let (Some(digest), Some(size)) = (&record.digest, record.size) {
        println!("    {size} bytes, sha256 {digest}");
    }
    println!("    signed by {} with key {}", record.author, record.signer);
    if let Some(failure) = &record.failure {
        println!("    {failure}");
    }
}

pub(super) fn status(status: &Status) {
    println!("{} at {}", status.author, status.repository);
    if let Some(since) = status.stale_since {
        println!("  STALE since {since}: devices accept nothing new");
    }
    for role in &status.roles {
        let advice = role
            .advice
            .as_ref()
            .map(|advice| format!("  <- {advice}"))
            .unwrap_or_default();
        println!(
            "  {:<10} version {:<11} expires {} ({} days){advice}",
            role.role, role.version, role.expires, role.days_left
        );
    }
    let (expires, advice) = &status.certificate;
    let advice = advice
        .as_ref()
        .map(|advice| format!("  <- {advice}"))
        .unwrap_or_default();
    println!(
        "  {:<10} {:<19} expires {expires}{advice}",
        "author's", "certificate"
    );
    if status.components.is_empty() {
        println!("  nothing is published yet: admin-gui publish FILE");
    }
    for component in &status.components {
        println!();
        println!("App Name: {}", component.component);
        println!("Release:  {}", or_dash(component.released.as_ref()));
        println!("Current:  {}", or_dash(component.current.as_ref()));
        let versions: Vec<_> = component
            .versions
            .iter()
            .map(|version| {
                let note = if component.withdrawn.contains(version) {
                    " (withdrawn)"
                } else {
                    ""
                };
                format!("{version}{note}")
            })
            .collect();
        println!("Versions: {}", versions.join(", "));
        let outcomes: Vec<_> = component
            .outcomes
            .iter()
            .map(|(outcome, count)| format!("{count} {outcome}"))
            .collect();
        println!(
            "Devices:  {}",
            if outcomes.is_empty() {
                "no report yet".to_owned()
            } else {
                outcomes.join(", ")
            }
        );
        for reason in &component.reasons {
            println!("  {reason}");
        }
    }
    for lapse in &status.lapses {
        eprintln!("warning: {lapse}");
    }
    for refused in &status.refused_reports {
        eprintln!("warning: {refused}");
    }
}

pub(super) fn fleet(devices: &[DeviceRow], reports: &Reports) {
    if devices.is_empty() {
        println!("No device has reported yet.");
    }
    for row in devices {
        println!("{}  last report {}", row.device, row.last);
        for state in &row.components {
            let version = or_dash(state.version.as_ref());
            let held = if state.held { ", held" } else { "" };
            println!("  {} {version}  {}{held}", state.component, state.activity);
        }
        for outcome in &row.outcomes {
            let reason = outcome
                .reason
                .as_ref()
                .map(|reason| format!(": {reason}"))
                .unwrap_or_default();
            println!(
                "  update to {} {} {}{reason}",
                or_dash(outcome.component.as_ref()),
                or_dash(outcome.version.as_ref()),
                outcome.outcome
            );
        }
    }
    trouble(reports);
}

pub(super) fn reports(reports: &Reports) {
    for told in &reports.told {
        let report = &told.report;
        let outcome = report.outcome.map(|outcome| outcome.to_string());
        println!(
            "{}  {}  #{}  {}  {}",
            told.received,
            told.sender,
            report.counter,
            or_dash(outcome.as_ref()),
            report.reason.as_deref().unwrap_or_default()
        );
    }
    trouble(reports);
}

fn trouble(reports: &Reports) {
    for refused in &reports.refused {
        eprintln!("warning: {refused}");
    }
    if reports.is_cut {
        eprintln!("note: only the newest reports were read, there are older ones");
    }
}

pub(super) fn latency(rows: &[LatencyRow]) {
    if rows.is_empty() {
        println!("No device has reported an update yet.");
        return;
    }
    println!("Milliseconds: 1 download, 2 manager verification, 3 transmission, 4 device verification,");
    println!("5 installation, 6 restart, sum of 1 to 6, 7 upload to healthy, click to healthy.");
    println!(
        "{:<28} {:<14}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}",
        "update", "device", "1", "2", "3", "4", "5", "6", "total", "7", "click"
    );
    for row in rows {
        let cell = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"));
        let l = &row.latencies;
        print!(
            "{:<28} {:<14}",
            format!("{} {}", row.component, row.version),
            row.device.as_str()
        );
        for value in [
            l.download,
            l.manager_verification,
            l.transmission,
            l.device_verification,
            l.installation,
            l.restart,
            row.total,
            l.actual_total,
            l.click_to_healthy,
        ] {
            print!("{:>9}", cell(value));
        }
        println!();
    }
}
