use std::fs;
use std::path::Path;

use durable::{Bounded, Files};
use proptest::prelude::*;

fn at(dir: &Path, max: u64) -> Bounded {
    Bounded::new(Files::real(), dir.join("a.log"), max, 0o640)
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_default()
}

/// Both files, the older first.
fn both(dir: &Path) -> (Vec<u8>, Vec<u8>) {
    let newest = dir.join("a.log");
    (read(&Bounded::older(&newest)), read(&newest))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_newest_bytes_are_kept_in_order_and_never_more_than_the_limit(
        max in 1_u64..50,
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..120), 0..12),
        reopen: bool,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut file = at(dir.path(), max);
        let mut whole = Vec::new();
        for piece in &pieces {
            if reopen {
                file = at(dir.path(), max);
            }
            file.append(piece).unwrap();
            whole.extend_from_slice(piece);
            let (older, newest) = both(dir.path());
            prop_assert!(older.len() as u64 <= max && newest.len() as u64 <= max);
            let kept = [older, newest].concat();
            prop_assert!(whole.ends_with(&kept));
            // All of it, or at least the last `max` bytes.
            prop_assert!(kept.len() == whole.len() || kept.len() as u64 > max);
        }
    }
}

#[test]
fn two_writers_of_one_file_do_not_undo_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let (mut one, mut other) = (at(dir.path(), 10), at(dir.path(), 10));
    one.append(b"aaaaaaaa").unwrap();
    other.append(b"bbbb").unwrap();
    // Set aside under its feet: it goes on in the file that has the name now.
    one.append(b"cc").unwrap();
    assert_eq!(both(dir.path()), (b"aaaaaaaabb".to_vec(), b"bbcc".to_vec()));
}

#[test]
fn a_file_that_was_removed_or_cut_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = at(dir.path(), 4);
    file.append(b"aaaa").unwrap();
    fs::remove_file(dir.path().join("a.log")).unwrap();
    file.append(b"bb").unwrap();
    assert_eq!(both(dir.path()), (vec![], b"bb".to_vec()));
    fs::write(dir.path().join("a.log"), b"").unwrap();
    file.append(b"cccc").unwrap();
    assert_eq!(both(dir.path()), (vec![], b"cccc".to_vec()));
}

#[test]
fn a_link_in_its_place_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("target");
    fs::write(&target, b"").unwrap();
    std::os::unix::fs::symlink(&target, dir.path().join("a.log")).unwrap();
    at(dir.path(), 4).append(b"no").unwrap_err();
    assert!(read(&target).is_empty());
}
