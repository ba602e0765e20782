//! A file that only grows, and locks.

use std::fs;

use durable::{Files, Growing};

use crate::{for_every_fault, trace};

#[test]
fn what_was_appended_is_there_whatever_fails_after_it() {
    for_every_fault(
        |dir| {
            let mut file = Growing::open(Files::real(), &dir.join("journal"), 0o600).unwrap();
            file.append(b"first").unwrap();
        },
        |files, dir| {
            let mut file = Growing::open(files.clone(), &dir.join("journal"), 0o600)?;
            assert_eq!(file.length(), 5);
            file.append(b"second")
        },
        |dir, result, fault, at| {
            let found = fs::read(dir.join("journal")).unwrap();
            if result.is_ok() {
                assert_eq!(found, b"firstsecond", "{fault:?} at {at}");
            } else {
                assert!(b"firstsecond".starts_with(&found), "{fault:?} at {at}");
                assert!(found.starts_with(b"first"), "{fault:?} at {at}");
            }
        },
    );
}

#[test]
fn an_append_is_one_write_and_one_flush() {
    let dir = tempfile::tempdir().unwrap();
    let ops = trace(|files| {
        let mut file = Growing::open(files.clone(), &dir.path().join("journal"), 0o600).unwrap();
        file.append(b"first").unwrap();
    });
    assert_eq!(ops, ["open_append", "write", "sync_data"]);
}

#[test]
fn a_lock_is_held_by_one_and_goes_along_with_its_descriptor() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lock");
    let files = Files::real();
    let first = files.lock(&path).unwrap().unwrap();
    assert!(files.lock(&path).unwrap().is_none());
    let heir = first.try_clone().unwrap();
    drop(first);
    assert!(files.lock(&path).unwrap().is_none(), "the heir holds it");
    drop(heir);
    assert!(files.lock(&path).unwrap().is_some());
}
