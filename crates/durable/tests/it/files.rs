use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::sync::Arc;

use durable::faulty::{Fault, Faulty};
use durable::{Error, Files};

use crate::{for_every_fault, names, trace};

#[test]
fn a_replaced_file_is_the_old_or_the_new_whatever_fails() {
    let new = vec![b'n'; 10_000];
    for_every_fault(
        |dir| fs::write(dir.join("file"), "old").unwrap(),
        |files, dir| files.replace(&dir.join("file"), &new, 0o600),
        |dir, result, fault, at| {
            let found = fs::read(dir.join("file")).unwrap();
            let is_new = found == new;
            assert!(is_new || found == b"old", "{fault:?} at {at}: torn");
            if result.is_ok() {
                assert!(is_new, "{fault:?} at {at}: said ok and kept the old");
            }
            if !matches!(fault, Fault::Killed | Fault::KilledAfter) {
                assert_eq!(names(dir), ["file"], "{fault:?} at {at}: left garbage");
            }
            // The next writer, after a restart, clears away and succeeds.
            durable::replace(dir.join("file"), "next", 0o600).unwrap();
            assert_eq!(names(dir), ["file"]);
            assert_eq!(fs::read(dir.join("file")).unwrap(), b"next");
        },
    );
}

#[test]
fn leftovers_of_a_killed_writer_are_collected() {
    for_every_fault(
        |_| {},
        |files, dir| files.replace(&dir.join("file"), b"new", 0o600),
        |dir, _, _, _| {
            durable::collect_leftovers(dir).unwrap();
            assert!(names(dir).iter().all(|name| name == "file"));
        },
    );
}

#[test]
fn a_temporary_file_in_use_is_not_a_leftover() {
    let dir = tempfile::tempdir().unwrap();
    let temp = fs::File::create(dir.path().join(".file.tmp")).unwrap();
    temp.lock().unwrap();
    assert_eq!(durable::collect_leftovers(dir.path()).unwrap(), 0);
    drop(temp);
    assert_eq!(durable::collect_leftovers(dir.path()).unwrap(), 1);
}

#[test]
fn replacing_flushes_the_file_before_and_the_folder_after_the_rename() {
    let dir = tempfile::tempdir().unwrap();
    let ops = trace(|files| files.replace(&dir.path().join("file"), b"x", 0o600).unwrap());
    assert_eq!(
        ops,
        [
            "create_new",
            "set_mode",
            "write",
            "sync_file",
            "rename",
            "sync_dir"
        ]
    );
}

#[test]
fn replacing_two_files_costs_three_flushes() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    let ops = trace(|files| files.replace_all(&[(&a, b"1"), (&b, b"2")], 0o600).unwrap());
    assert_eq!(ops.iter().filter(|op| op.starts_with("sync_")).count(), 3);
    assert_eq!(names(dir.path()), ["a", "b"]);
}

#[test]
fn the_mode_asked_for_is_the_mode_got_also_over_a_leftover() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    fs::write(
        dir.path().join(".key.tmp"),
        "left by a killed writer, readable by all",
    )
    .unwrap();
    durable::replace(&path, "secret", 0o600).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    durable::replace(&path, "public", 0o644).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o644);
}

#[test]
fn many_writers_of_one_file_never_mix() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::thread::scope(|scope| {
        for writer in 0..4u8 {
            let path = &path;
            scope.spawn(move || {
                for _ in 0..20 {
                    durable::replace(path, vec![writer; 4096], 0o600).unwrap();
                    let found = fs::read(path).unwrap();
                    assert_eq!(found.len(), 4096);
                    assert!(found.iter().all(|byte| *byte == found[0]));
                }
            });
        }
    });
    assert_eq!(names(dir.path()), ["file"]);
}

#[test]
fn a_link_in_place_of_the_temporary_file_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let victim = dir.path().join("victim");
    fs::write(&victim, "untouched").unwrap();
    symlink(&victim, dir.path().join(".file.tmp")).unwrap();
    durable::replace(dir.path().join("file"), "new", 0o600).unwrap_err();
    assert_eq!(fs::read(&victim).unwrap(), b"untouched");
}

#[test]
fn a_full_disk_is_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let files = Files::on(Arc::new(Faulty::new(Fault::NoSpace, 1)));
    let error = files.replace(&dir.path().join("file"), b"x", 0o600).unwrap_err();
    assert!(error.is_full() && !error.is_missing(), "{error:?}");
}

#[test]
fn folders_are_made_with_their_parents_and_flushed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b/c");
    let ops = trace(|files| files.create_dir(&path, 0o700).unwrap());
    assert_eq!(ops.iter().filter(|op| **op == "sync_dir").count(), 3);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
    assert!(
        trace(|files| files.create_dir(&path, 0o755).unwrap()).is_empty(),
        "exists already"
    );
    fs::write(dir.path().join("file"), "").unwrap();
    let error = durable::create_dir(dir.path().join("file"), 0o700).unwrap_err();
    assert!(matches!(error, Error::WrongType { .. }));
}

#[test]
fn a_removed_tree_is_whole_or_gone_whatever_fails() {
    for_every_fault(
        |dir| {
            fs::create_dir_all(dir.join("tree/sub/deep")).unwrap();
            for name in ["tree/one", "tree/sub/two", "tree/sub/deep/three"] {
                fs::write(dir.join(name), name).unwrap();
            }
        },
        |files, dir| files.remove_tree(&dir.join("tree")),
        |dir, result, fault, at| {
            if dir.join("tree").exists() {
                assert!(result.is_err());
                assert!(
                    dir.join("tree/sub/deep/three").exists(),
                    "{fault:?} at {at}: half a tree"
                );
                assert!(dir.join("tree/one").exists(), "{fault:?} at {at}: half a tree");
            }
            durable::remove_tree(dir.join("tree")).unwrap();
            assert_eq!(names(dir), [""; 0], "{fault:?} at {at}: never collected");
        },
    );
}

#[test]
fn removing_a_tree_does_not_follow_links() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("elsewhere")).unwrap();
    fs::write(dir.path().join("elsewhere/file"), "kept").unwrap();
    fs::create_dir_all(dir.path().join("tree")).unwrap();
    symlink(dir.path().join("elsewhere"), dir.path().join("tree/link")).unwrap();
    assert!(durable::remove_tree(dir.path().join("tree")).unwrap());
    assert_eq!(fs::read(dir.path().join("elsewhere/file")).unwrap(), b"kept");
    assert!(!durable::remove_tree(dir.path().join("tree")).unwrap());
}

#[test]
fn flushing_a_tree_reaches_every_file_and_folder() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("tree/sub")).unwrap();
    for name in ["tree/one", "tree/sub/two", "tree/sub/three"] {
        fs::write(dir.path().join(name), name).unwrap();
    }
    let ops = trace(|files| files.sync_tree(&dir.path().join("tree")).unwrap());
    assert_eq!(ops.iter().filter(|op| **op == "sync_file").count(), 3);
    assert_eq!(ops.iter().filter(|op| **op == "sync_dir").count(), 2);
    assert_eq!(ops.last(), Some(&"sync_dir"), "a folder after what is in it");
}

#[test]
fn a_renamed_folder_is_in_one_of_both_places_whatever_fails() {
    for_every_fault(
        |dir| {
            fs::create_dir_all(dir.join("staging/x")).unwrap();
            fs::create_dir_all(dir.join("done")).unwrap();
        },
        |files, dir| files.rename_dir(&dir.join("staging/x"), &dir.join("done/x")),
        |dir, result, _, _| {
            let (old, new) = (dir.join("staging/x").exists(), dir.join("done/x").exists());
            assert!(old != new);
            assert!(new || result.is_err());
        },
    );
}

#[test]
fn a_secret_others_can_read_is_refused_with_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    fs::write(&path, "secret").unwrap();
    for mode in [0o640, 0o604, 0o660, 0o601] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let error = durable::read_private(&path).unwrap_err();
        assert!(matches!(error, Error::NotPrivate { .. }));
        assert!(
            error
                .to_string()
                .contains(&format!("chmod 600 {}", path.display())),
            "{error}"
        );
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    assert_eq!(durable::read_private(&path).unwrap(), b"secret");
}

#[test]
fn reading_stops_at_the_limit_and_refuses_what_is_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, [7; 100]).unwrap();
    assert_eq!(durable::read_limited(&path, 100).unwrap().len(), 100);
    let error = durable::read_limited(&path, 99).unwrap_err();
    assert!(matches!(error, Error::TooLarge { max: 99, .. }));
    assert!(
        durable::read_limited(dir.path().join("none"), 1)
            .unwrap_err()
            .is_missing()
    );
    let error = durable::read_limited(dir.path(), 1).unwrap_err();
    assert!(matches!(error, Error::WrongType { .. }), "{error:?}");
}

#[test]
fn a_second_name_is_a_link_or_where_there_are_none_a_copy() {
    let whole: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    // The second disk refuses its first operation, the link.
    let no_links = Files::on(Arc::new(Faulty::new(Fault::Io, 1)));
    for (files, links) in [(Files::real(), 2), (no_links, 1)] {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::write(&from, &whole).unwrap();
        files.link_or_copy(&from, &to, 0o644).unwrap();
        assert_eq!(fs::read(&to).unwrap(), whole);
        let found = fs::metadata(&to).unwrap();
        assert_eq!((found.nlink(), found.mode() & 0o7777), (links, 0o644));
        // Nothing that is there is written over.
        files.link_or_copy(&from, &to, 0o644).unwrap_err();
        assert_eq!(fs::read(&from).unwrap(), whole);
    }
}

#[test]
fn a_pipe_is_refused_without_waiting_for_somebody_who_writes_into_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    let (done, read) = std::sync::mpsc::channel();
    let file = path.clone();
    std::thread::spawn(move || done.send(durable::read_limited(&file, 100)));
    let patience = std::time::Duration::from_secs(60);
    let error = read.recv_timeout(patience).expect("an answer").unwrap_err();
    assert!(matches!(error, Error::WrongType { .. }), "{error:?}");
}
