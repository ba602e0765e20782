//! `pack`, `inspect`, `plan` and `rehearse`.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use super::args::{Inspect, Pack, Plan, Rehearse};
use super::print_json;
use crate::desk::Senses;
use crate::draft::Options;
use crate::forecast::{Against, forecast};
use crate::inspect::{Inspection, inspect as look};
use crate::plain::plain;
use crate::preflight::Verdict;
use crate::rehearse::{Asked, Hears};
use crate::stop::Stop;

/// What no device would take.
#[derive(Debug, thiserror::Error)]
#[error("{}", told(.0))]
pub(super) struct Refused(pub(super) Box<Inspection>);

fn told(found: &Inspection) -> String {
    let refused = found
        .checks
        .iter()
        .filter(|check| check.verdict == Verdict::Refused);
    refused
        .map(|check| check.text.as_str())
        .collect::<Vec<_>>()
        .join("; ")
}

/// Shows what a file or folder is; fails if it may not be published like this.
pub(super) fn inspect(args: &Inspect) -> Result<()> {
    let found = look(&args.path, &args.release.options())?;
    if !args.json {
        print!("{found}");
    }
    if found.refusal().is_some() {
        return Err(Refused(Box::new(found)).into());
    }
    if args.json {
        print_json(&found);
    }
    Ok(())
}

/// Shows how it would come to run.
pub(super) fn plan(args: &Plan) -> Result<()> {
    let against = match (&args.device_facts, &args.from) {
        (Some(facts), _) => Against::Facts(facts.clone()),
        (None, Some(old)) => Against::Old(old.clone()),
        (None, None) => Against::Nothing,
    };
    let told = forecast(&args.path, &args.release.options(), &against)?;
    if args.json {
        print_json(&told);
    } else {
        print!("{told}");
    }
    Ok(())
}

/// What a rehearsal found speaks against publishing it.
#[derive(Debug, thiserror::Error)]
#[error("the rehearsal found what must not happen on a device: see the lines marked BAD")]
pub(super) struct Bad;

/// Tries the whole update here.
pub(super) async fn rehearse(args: Rehearse) -> Result<()> {
    let asked = Asked {
        new: args.path,
        old: args.from,
        device: args.device,
        data: args.data,
        env: args.env,
        limit: Duration::from_secs(args.limit),
        keep: args.keep,
    };
    let stop = Stop::default();
    let ends = stop.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            // Until its end it can always be ended.
            let _ = ends.stop();
        }
    });
    let json = args.json;
    let hears: Hears = Arc::new(move |finding| {
        if !json {
            println!("{}", plain(&finding.to_string()));
        }
    });
    let found = crate::rehearse::rehearse(&asked, &Senses::system(), &hears, &stop).await?;
    if json {
        print_json(&found);
    }
    if let Some(folder) = &found.folder {
        eprintln!("its folder: {}", folder.display());
    }
    if found.is_bad() { Err(Bad.into()) } else { Ok(()) }
}

/// Makes a package of a folder that passes the checks.
pub(super) fn pack(args: &Pack) -> Result<()> {
    let found = look(&args.folder, &Options::default())?;
    if found.refusal().is_some() {
        return Err(Refused(Box::new(found)).into());
    }
    let out = args
        .out
        .clone()
        .unwrap_or_else(|| PathBuf::from(&found.file_name));
    let packed = crate::package::pack(&args.folder, &out)?;
    // Of what lies there now: the folder may have changed since it was looked at.
    let (sha256, length) = durable::hash_file(File::open(&out)?)?;
    if args.json {
        print_json(&json!({
            "file": out,
            "sha256": sha256,
            "length": length,
            "entries": packed.entries,
            "bytes": packed.bytes,
            "warnings": found.warnings,
        }));
        return Ok(());
    }
    println!(
        "{}: {} entries, {} bytes in files, sha256 {sha256}",
        out.display(),
        packed.entries,
        packed.bytes
    );
    for warning in &found.warnings {
        eprintln!("warning: {warning}");
    }
    Ok(())
}
