//! `pack` and `inspect`.

use std::fs::File;
use std::path::PathBuf;

use anyhow::Result;
use serde_json::json;

use super::args::{Inspect, Pack};
use super::print_json;
use crate::draft::Options;
use crate::inspect::{Inspection, inspect as look};
use crate::preflight::Verdict;

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
