//! Packages that no author should have signed: refused, blamed on their author, and nothing is left of them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use device::layout::Layout;
use device::stage::{StageError, stage};
use durable::Files;
use release::Form;
use tempfile::TempDir;
use tuf::Digest;

use crate::repository::script;

/// The bytes of a good package.
fn package() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("payload")).unwrap();
    let manifest = "format = 1\ncomponent = \"thermostat\"\nversion = \"1.0\"\n[run]\nhow = \"exec\"\nprogram = \"thermostat.sh\"\n";
    fs::write(dir.path().join("update.toml"), manifest).unwrap();
    let program = dir.path().join("payload/thermostat.sh");
    fs::write(&program, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let mut bytes = Vec::new();
    release::pack(dir.path(), &mut bytes).unwrap();
    bytes
}

/// A good package with one entry more, that holds `data`.
fn with_entry(name: &str, kind: tar::EntryType, data: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_link_name("/etc/passwd").unwrap();
    header.set_mode(0o644);
    header.set_size(data.len() as u64);
    header.set_cksum();
    let good = package();
    let (front, end) = good.split_at(good.len() - 1024);
    let mut padded = data.to_vec();
    padded.resize(data.len().next_multiple_of(512), 0);
    [front, header.as_bytes(), &padded, end].concat()
}

/// Stages `bytes` in a fresh device, as what was verified as `digest`.
fn try_stage(bytes: &[u8], digest: Digest) -> (TempDir, Layout, Result<(), StageError>) {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path().join("device")).unwrap();
    let source = dir.path().join("source");
    fs::write(&source, bytes).unwrap();
    let mut release = script("1.0.0", 1);
    release.form = Form::Package;
    let files = Files::real();
    let staged = stage(&files, &layout, &digest, &release, &source).map(drop);
    (dir, layout, staged)
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_none())
}

fn refused(bytes: &[u8], words: &str) {
    let (dir, layout, staged) = try_stage(bytes, Digest::of(bytes));
    let error = staged.expect_err(words);
    assert!(error.blames_release(), "{error}");
    assert!(error.to_string().contains(words), "{error}");
    assert!(is_empty(&layout.releases()), "something is left after: {error}");
    let names: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(names.len() == 2, "{names:?}");
}

#[test]
fn a_good_package_is_staged() {
    let bytes = package();
    let (_dir, layout, staged) = try_stage(&bytes, Digest::of(&bytes));
    staged.unwrap();
    assert!(
        layout
            .release(&Digest::of(&bytes))
            .join("payload/thermostat.sh")
            .is_file()
    );
}

#[test]
fn a_hostile_entry_is_named_and_nothing_is_left() {
    use tar::EntryType as Type;
    for (name, kind, why) in [
        ("payload/../../../out", Type::Regular, "part . or .."),
        ("/tmp/out", Type::Regular, "absolute"),
        ("payload/a\nb", Type::Regular, "control character"),
        ("payload/link", Type::Symlink, "symbolic link"),
        ("payload/link", Type::Link, "hard link"),
        ("payload/tty", Type::Char, "device or pipe"),
        ("payload/disk", Type::Block, "device or pipe"),
        ("payload/pipe", Type::Fifo, "device or pipe"),
        ("payload/hole", Type::GNUSparse, "sparse"),
        ("payload/Thermostat.sh", Type::Regular, "upper and lower case"),
        ("payload/thermostat.sh", Type::Regular, "twice"),
        (
            "payload/thermostat.sh/x",
            Type::Regular,
            "both a file and a folder",
        ),
        ("out/x", Type::Regular, "not under payload/"),
    ] {
        let bytes = with_entry(name, kind, b"");
        refused(&bytes, why);
        refused(&bytes, &format!("{name:?}"));
    }
    refused(&[package(), package()].concat(), "behind its end");
}

#[test]
fn a_signed_package_that_is_cut_anywhere_is_refused() {
    let bytes = package();
    for cut in (0..bytes.len()).step_by(127) {
        let end = if cut < 512 { "does not begin with" } else { "" };
        refused(&bytes[..cut], end);
    }
}

#[test]
fn a_file_that_changed_on_this_disk_is_not_its_authors_fault() {
    let good = package();
    for changed in [
        &good[..700],
        &with_entry("payload/link", tar::EntryType::Symlink, b"")[..],
        b"",
    ] {
        let (_dir, layout, staged) = try_stage(changed, Digest::of(&good));
        let error = staged.unwrap_err();
        assert!(matches!(error, StageError::Changed), "{error}");
        assert!(is_empty(&layout.releases()));
    }
}
