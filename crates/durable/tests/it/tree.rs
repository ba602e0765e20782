//! A program's files, copied as they are.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use durable::{Error, Files, Measured, TreeLimits};

use crate::for_every_fault;

const ALL: TreeLimits<'_> = TreeLimits {
    bytes: 1 << 30,
    entries: 1000,
    goes_on: &|| true,
};

/// A folder as a program may leave it.
fn fill(dir: &Path) {
    let from = dir.join("from");
    fs::create_dir_all(from.join("a/b")).unwrap();
    fs::write(from.join("a/settings"), "warm").unwrap();
    fs::write(from.join("a/b/secret"), "x").unwrap();
    fs::write(dir.join("outside"), "not ours").unwrap();
    fs::hard_link(from.join("a/settings"), from.join("second-name")).unwrap();
    symlink("../../outside", from.join("a/out")).unwrap();
    symlink("nowhere", from.join("dangling")).unwrap();
    symlink("/etc", from.join("a/b/etc")).unwrap();
    let mode =
        |path: &str, bits| fs::set_permissions(from.join(path), fs::Permissions::from_mode(bits)).unwrap();
    mode("a/b/secret", 0o400);
    mode("a/settings", 0o2640);
    mode("a/b", 0o550);
    mode("", 0o750);
    let long_ago = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::new(1_000_000_007, 123_456_789);
    for path in ["a/settings", "a"] {
        fs::File::open(from.join(path))
            .unwrap()
            .set_modified(long_ago)
            .unwrap();
    }
}

/// All that is kept of a tree, in one list.
fn listed(top: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut folders = vec![top.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let found = fs::symlink_metadata(&path).unwrap();
            let what = if found.is_dir() {
                folders.push(path.clone());
                "folder".to_owned()
            } else if found.is_symlink() {
                fs::read_link(&path).unwrap().display().to_string()
            } else {
                String::from_utf8(fs::read(&path).unwrap()).unwrap()
            };
            lines.push(format!(
                "{} {:o} {}.{} {}:{} {what}",
                path.strip_prefix(top).unwrap().display(),
                found.mode(),
                found.mtime(),
                found.mtime_nsec(),
                found.uid(),
                found.gid(),
            ));
        }
    }
    lines.sort();
    lines
}

#[test]
fn a_copy_has_bytes_bits_times_and_links_of_the_tree() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    let copied = Files::real().copy_tree(&from, &to, &ALL).unwrap();
    assert_eq!(listed(&to), listed(&from));
    assert_eq!(listed(&to).len(), copied.entries);
    assert_eq!(fs::metadata(&to).unwrap().mode() & 0o7777, 0o750);
    let inode = |path: &Path| fs::metadata(path).unwrap().ino();
    assert_ne!(inode(&to.join("a/settings")), inode(&from.join("a/settings")));
    // What one writes, the other does not have.
    fs::write(to.join("a/settings"), "cold").unwrap();
    assert_eq!(fs::read(from.join("a/settings")).unwrap(), b"warm");
    assert!(Files::real().remove_tree(&to).unwrap());
}

/// The owner of the tree puts a link where a folder was, in the middle of it.
#[test]
fn what_lies_outside_of_a_tree_is_neither_copied_nor_removed() {
    let dir = tempfile::tempdir().unwrap();
    let at = |path: &str| dir.path().join(path);
    let begin = || {
        fs::create_dir_all(at("from/a")).unwrap();
        fs::create_dir_all(at("outside")).unwrap();
        for name in ["x", "y"] {
            fs::write(at("from/a").join(name), "own").unwrap();
            fs::write(at("outside").join(name), "secret").unwrap();
        }
    };
    let looks = std::cell::Cell::new(0);
    let swaps = |count: i32| {
        looks.set(looks.get() + 1);
        if looks.get() == count {
            fs::rename(at("from/a"), at("away")).unwrap();
            symlink(at("outside"), at("from/a")).unwrap();
        }
        true
    };
    begin();
    // After the folder itself and its first file.
    let limits = TreeLimits {
        goes_on: &|| swaps(3),
        ..ALL
    };
    Files::real().copy_tree(&at("from"), &at("to"), &limits).unwrap();
    for name in ["x", "y"] {
        assert_eq!(fs::read_to_string(at("to/a").join(name)).unwrap(), "own");
    }
    assert!(Files::real().remove_tree(&at("from")).unwrap());
    assert_eq!(fs::read_dir(at("outside")).unwrap().count(), 2);
}

#[test]
fn pipes_and_sockets_are_left_out_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("from");
    fs::create_dir(&from).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(from.join("socket")).unwrap();
    let pipe = rustix::fs::mknodat(
        rustix::fs::CWD,
        from.join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    );
    pipe.unwrap();
    assert!(
        fs::symlink_metadata(from.join("pipe"))
            .unwrap()
            .file_type()
            .is_fifo()
    );
    let to = dir.path().join("to");
    let copied = Files::real().copy_tree(&from, &to, &ALL).unwrap();
    assert_eq!((copied.left_out_count, copied.left_out.len()), (2, 2));
    assert_eq!(fs::read_dir(&to).unwrap().count(), 0);
}

#[test]
fn holes_stay_holes_and_do_not_count() {
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("from");
    fs::create_dir(&from).unwrap();
    let mut file = fs::File::create(from.join("sparse")).unwrap();
    file.seek(SeekFrom::Start(64 << 20)).unwrap();
    file.write_all(&[7; 10_000]).unwrap();
    file.set_len(1 << 34).unwrap();
    file.sync_all().unwrap();
    let to = dir.path().join("to");
    let measured = Files::real().measure_tree(&from, &ALL).unwrap();
    let copied = Files::real().copy_tree(&from, &to, &ALL).unwrap();
    assert!(measured.bytes < 1 << 20, "{measured:?}");
    assert_eq!(copied, measured);
    let copy = fs::metadata(to.join("sparse")).unwrap();
    assert_eq!(copy.len(), 1 << 34);
    assert!(copy.blocks() * 512 < 1 << 20, "{}", copy.blocks());
    let mut bytes = vec![0; 10_001];
    let file = fs::File::open(to.join("sparse")).unwrap();
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, (64 << 20) - 1).unwrap();
    assert!(bytes[0] == 0 && bytes[1..].iter().all(|byte| *byte == 7));
}

#[test]
fn a_tree_beyond_a_limit_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    fs::write(dir.path().join("from/large"), vec![1; 100_000]).unwrap();
    fs::File::open(dir.path().join("from/large"))
        .unwrap()
        .sync_all()
        .unwrap();
    let from = dir.path().join("from");
    let with = |limits: TreeLimits<'_>| {
        let files = Files::real();
        let measured = files.measure_tree(&from, &limits).unwrap_err();
        let copied = files
            .copy_tree(&from, &dir.path().join("to"), &limits)
            .unwrap_err();
        files.remove_tree(&dir.path().join("to")).ok();
        assert_eq!(measured.to_string(), copied.to_string());
        copied
    };
    let heavy = with(TreeLimits { bytes: 50_000, ..ALL });
    assert!(
        matches!(heavy, Error::TreeTooHeavy { max: 50_000, .. }),
        "{heavy}"
    );
    let large = with(TreeLimits { entries: 4, ..ALL });
    assert!(matches!(large, Error::TreeTooLarge { max: 4, .. }), "{large}");
    let ended = with(TreeLimits {
        goes_on: &|| false,
        ..ALL
    });
    assert!(matches!(ended, Error::Ended { .. }), "{ended}");
    let link = dir.path().join("link");
    symlink(&from, &link).unwrap();
    let followed = Files::real()
        .copy_tree(&link, &dir.path().join("to"), &ALL)
        .unwrap_err();
    assert!(matches!(followed, Error::WrongType { .. }), "{followed}");
}

#[test]
fn a_copy_that_failed_is_told_and_leaves_the_tree_as_it_was() {
    for_every_fault(
        fill,
        |files, dir| -> Result<Measured, Error> {
            let copied = files.copy_tree(&dir.join("from"), &dir.join("to"), &ALL)?;
            files.sync_tree(&dir.join("to"))?;
            Ok(copied)
        },
        |dir, result, fault, at| {
            let fresh = tempfile::tempdir().unwrap();
            fill(fresh.path());
            let from = dir.join("from");
            let times = |lines: Vec<String>| -> Vec<String> {
                // Those that the test did not set are of the moment.
                lines
                    .into_iter()
                    .filter(|line| line.starts_with("a/settings"))
                    .collect()
            };
            assert_eq!(
                times(listed(&from)),
                times(listed(fresh.path().join("from").as_path()))
            );
            if result.is_ok() {
                assert_eq!(listed(&dir.join("to")), listed(&from), "{fault:?} at {at}");
            }
            Files::real().remove_tree(&dir.join("to")).unwrap();
        },
    );
}
