//! The tree of files that an update module is given for one change.
//!
//! Source: Mender's Update Module protocol, version 3, "File API".

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use durable::Files;
use release::{ModuleName, Release};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::json;

use super::module::ModuleFault;

/// Where a module reads which stream comes next.
pub(super) const NEXT: &str = "stream-next";

/// What the files of a tree say.
#[derive(Debug, Clone)]
pub struct Given {
    /// The release that is to be installed.
    pub release: Release,
    /// The module's name.
    pub module: ModuleName,
    /// What is installed now, as `component-version`; none: nothing, or nobody knows.
    pub current: Option<String>,
    /// The device's hardware ids.
    pub hardware: Vec<String>,
}

/// The name under which a version of a component is known to modules.
#[must_use]
pub fn artifact_name(component: &release::Component, version: &release::Version) -> String {
    format!("{component}-{version}")
}

/// Makes the tree that a module is given; whole and durable on return, or not there.
///
/// # Errors
/// Those of the disk.
pub fn make_tree(files: &Files, tree: &Path, given: &Given) -> Result<(), ModuleFault> {
    let unfinished = tree.with_extension("tmp");
    files.remove_tree(&unfinished)?;
    let header = unfinished.join("header");
    for dir in [&unfinished, &header, &unfinished.join("tmp")] {
        files.create_dir(dir, 0o700)?;
    }
    let name = artifact_name(&given.release.component, &given.release.version);
    let kind = given.module.as_str();
    let header_info = json!({
        "payloads": [{ "type": kind }],
        "artifact_provides": { "artifact_name": name },
        "artifact_depends": { "device_type": given.release.hardware },
    });
    let line = |text: Option<&String>| text.map_or_else(String::new, |text| format!("{text}\n"));
    for (path, text) in [
        ("version", "3\n".to_owned()),
        ("current_artifact_name", line(given.current.as_ref())),
        ("current_artifact_group", String::new()),
        ("current_device_type", line(given.hardware.first())),
        ("header/artifact_name", name),
        ("header/artifact_group", String::new()),
        ("header/payload_type", kind.to_owned()),
        ("header/header-info", header_info.to_string()),
        ("header/type-info", json!({ "type": kind }).to_string()),
        ("header/meta-data", "{}".to_owned()),
    ] {
        create(&unfinished.join(path), text.as_bytes())?;
    }
    files.sync_tree(&unfinished)?;
    files.remove_tree(tree)?;
    Ok(files.rename_dir(&unfinished, tree)?)
}

fn create(path: &Path, mut bytes: impl Read) -> Result<(), ModuleFault> {
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    let mut file = made.map_err(io_at("create", path))?;
    io::copy(&mut bytes, &mut file).map_err(io_at("write", path))?;
    file.flush().map_err(io_at("write", path))
}

fn io_at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ModuleFault {
    let path = path.to_owned();
    move |source| ModuleFault::Io { action, path, source }
}

/// The pipes of the state `Download`.
pub(super) fn make_pipes(files: &Files, tree: &Path, names: &[String]) -> Result<(), ModuleFault> {
    remove_pipes(files, tree)?;
    let streams = tree.join("streams");
    files.create_dir(&streams, 0o700)?;
    let paths = names.iter().map(|name| streams.join(name));
    for path in paths.chain([tree.join(NEXT)]) {
        let made = mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0);
        made.map_err(|error| io_at("create", &path)(error.into()))?;
    }
    Ok(())
}

pub(super) fn remove_pipes(files: &Files, tree: &Path) -> Result<(), ModuleFault> {
    files.remove_file(&tree.join(NEXT))?;
    files.remove_tree(&tree.join("streams"))?;
    Ok(())
}

/// Copies the files that a module did not read: it may change them, the release's own stay as they were signed.
pub(super) fn store_files(
    files: &Files,
    tree: &Path,
    payload: &Path,
    names: &[String],
) -> Result<(), ModuleFault> {
    let folder = tree.join("files");
    files.remove_tree(&folder)?;
    files.create_dir(&folder, 0o700)?;
    for name in names {
        let source = payload.join(name);
        let bytes = File::open(&source).map_err(io_at("read", &source))?;
        create(&folder.join(name), bytes)?;
    }
    Ok(files.sync_tree(&folder)?)
}
