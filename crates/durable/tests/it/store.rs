use std::collections::HashSet;
use std::fs;
use std::path::Path;

use durable::faulty::Fault;
use durable::{Files, Store, StoreError, TakenUp};
use proptest::prelude::*;
use tuf::Digest;

use crate::{for_every_fault, names, trace};

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|n| u8::try_from(n % 251).unwrap()).collect()
}

/// Receives what is missing, in pieces, as a downloader would.
fn receive(files: &Files, dir: &Path, whole: &[u8]) -> Result<(), StoreError> {
    let store = Store::open_on(files.clone(), dir)?;
    let mut incoming = store.begin(Digest::of(whole), whole.len() as u64)?;
    let rest = usize::try_from(incoming.offset()).unwrap();
    for piece in whole[rest..].chunks(1000) {
        incoming.write(piece)?;
    }
    incoming.finish().map(|_| ())
}

#[test]
fn a_file_is_in_the_store_whole_or_not_at_all_whatever_fails() {
    let whole = bytes(3500);
    let digest = Digest::of(&whole);
    for_every_fault(
        |_| {},
        |files, dir| receive(files, dir, &whole),
        |dir, result, fault, at| {
            let store = Store::open(dir).unwrap();
            match store.has(&digest) {
                Some(_) => assert_eq!(store.verify(&digest).unwrap(), 3500, "{fault:?} at {at}"),
                None => {
                    assert!(result.is_err(), "{fault:?} at {at}: said ok and has nothing");
                    // What arrived is a true beginning, and the next try completes it.
                    let have = usize::try_from(store.arrived(&digest)).unwrap();
                    let part = fs::read(dir.join(format!("{digest}.part"))).unwrap_or_default();
                    assert_eq!(part, whole[..have], "{fault:?} at {at}");
                    receive(&Files::real(), dir, &whole).unwrap();
                }
            }
            assert_eq!(names(dir), [digest.to_string()], "{fault:?} at {at}");
            if fault == Fault::ShortWrite {
                assert!(result.is_ok(), "a short write is not an error");
            }
        },
    );
}

#[test]
fn finishing_costs_two_flushes() {
    let dir = tempfile::tempdir().unwrap();
    Store::open(dir.path()).unwrap();
    let ops = trace(|files| receive(files, dir.path(), &bytes(3500)).unwrap());
    assert_eq!(ops.iter().filter(|op| op.starts_with("sync_")).count(), 2);
    assert_eq!(&ops[ops.len() - 3..], ["sync_file", "rename", "sync_dir"]);
}

#[test]
fn a_broken_transfer_goes_on_where_it_stopped() {
    let (dir, whole) = (tempfile::tempdir().unwrap(), bytes(100_000));
    let store = Store::open(dir.path()).unwrap();
    let mut first = store.begin(Digest::of(&whole), 100_000).unwrap();
    first.write(&whole[..60_000]).unwrap();
    drop(first);
    let mut second = store.begin(Digest::of(&whole), 100_000).unwrap();
    assert_eq!(second.offset(), 60_000);
    second.write(&whole[60_000..]).unwrap();
    let done = second.finish().unwrap();
    assert_eq!((done.resumed_from, done.length), (60_000, 100_000));
    assert_eq!(fs::read(&done.path).unwrap(), whole);
}

#[test]
fn a_wrong_file_is_set_aside_and_only_the_last_few_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    for n in 0..7u8 {
        let mut incoming = store.begin(Digest::of(&[n, n]), 2).unwrap();
        incoming.write(b"no").unwrap();
        let Err(StoreError::WrongDigest {
            expected,
            got,
            resumed_from: 0,
            quarantined: Some(aside),
        }) = incoming.finish()
        else {
            panic!("a wrong file was taken")
        };
        assert_eq!((expected, got), (Digest::of(&[n, n]), Digest::of(b"no")));
        assert_eq!(fs::read(aside).unwrap(), b"no");
        assert_eq!(store.has(&expected), None);
    }
    assert_eq!(names(&dir.path().join("quarantine")).len(), 4);
    assert_eq!(names(dir.path()), ["quarantine"]);
}

#[test]
fn a_part_damaged_by_a_power_cut_blames_nobody() {
    let (dir, whole) = (tempfile::tempdir().unwrap(), bytes(5000));
    let digest = Digest::of(&whole);
    fs::write(dir.path().join(format!("{digest}.part")), [0; 2000]).unwrap();
    let result = receive(&Files::real(), dir.path(), &whole);
    assert!(matches!(
        result,
        Err(StoreError::WrongDigest {
            resumed_from: 2000,
            quarantined: None,
            ..
        })
    ));
    receive(&Files::real(), dir.path(), &whole).unwrap();
    assert_eq!(names(dir.path()), [digest.to_string()]);
}

#[test]
fn a_part_is_taken_up_in_pieces_of_any_size() {
    for piece in [1, 7, 999, 2000, 2001, u64::MAX] {
        let (dir, whole) = (tempfile::tempdir().unwrap(), bytes(5000));
        let digest = Digest::of(&whole);
        fs::write(dir.path().join(format!("{digest}.part")), &whole[..2000]).unwrap();
        let store = Store::open(dir.path()).unwrap();
        let mut part = store.open_part(digest, 5000).unwrap();
        let mut steps = 0;
        let mut incoming = loop {
            match part.take_up(piece).unwrap() {
                TakenUp::All(incoming) => break incoming,
                TakenUp::Some(rest) => part = rest,
            }
            steps += 1;
        };
        assert_eq!((steps, incoming.offset()), (2000 / piece, 2000));
        incoming.write(&whole[2000..]).unwrap();
        incoming.flush().unwrap();
        assert_eq!(incoming.finish().unwrap().resumed_from, 2000);
        assert_eq!(store.verify(&digest).unwrap(), 5000);
    }
}

#[test]
fn a_part_longer_than_the_file_is_started_over() {
    let (dir, whole) = (tempfile::tempdir().unwrap(), bytes(5000));
    fs::write(dir.path().join(format!("{}.part", Digest::of(&whole))), [0; 9000]).unwrap();
    receive(&Files::real(), dir.path(), &whole).unwrap();
}

#[test]
fn more_bytes_than_announced_are_refused_before_they_are_written() {
    let (dir, whole) = (tempfile::tempdir().unwrap(), bytes(100));
    let store = Store::open(dir.path()).unwrap();
    let mut incoming = store.begin(Digest::of(&whole), 100).unwrap();
    incoming.write(&whole[..99]).unwrap();
    assert!(matches!(
        incoming.write(&[1, 2]),
        Err(StoreError::TooLong { length: 100, .. })
    ));
    assert_eq!(incoming.offset(), 99);
    incoming.write(&whole[99..]).unwrap();
    incoming.finish().unwrap();
}

#[test]
fn too_few_bytes_are_kept_not_accepted() {
    let (dir, whole) = (tempfile::tempdir().unwrap(), bytes(100));
    let store = Store::open(dir.path()).unwrap();
    let mut incoming = store.begin(Digest::of(&whole), 100).unwrap();
    incoming.write(&whole[..50]).unwrap();
    assert!(matches!(
        incoming.finish(),
        Err(StoreError::Incomplete {
            have: 50,
            length: 100,
            ..
        })
    ));
    assert_eq!(store.arrived(&Digest::of(&whole)), 50);
}

#[test]
fn one_file_has_one_receiver() {
    let (dir, whole) = (tempfile::tempdir().unwrap(), bytes(100));
    let store = Store::open(dir.path()).unwrap();
    let first = store.begin(Digest::of(&whole), 100).unwrap();
    assert!(matches!(
        store.begin(Digest::of(&whole), 100),
        Err(StoreError::Busy { .. })
    ));
    first.abort().unwrap();
    assert_eq!(names(dir.path()), [""; 0]);
    store.put(&whole).unwrap();
    assert!(matches!(
        store.begin(Digest::of(&whole), 100),
        Err(StoreError::Held { .. })
    ));
}

#[test]
fn a_changed_file_is_noticed() {
    let (dir, whole) = (tempfile::tempdir().unwrap(), bytes(100));
    let store = Store::open(dir.path()).unwrap();
    let stored = store.put(&whole).unwrap();
    assert_eq!(store.verify(&stored.digest).unwrap(), 100);
    fs::write(store.path(&stored.digest), bytes(99)).unwrap();
    assert!(matches!(
        store.verify(&stored.digest),
        Err(StoreError::Damaged { .. })
    ));
    assert!(store.remove(&stored.digest).unwrap());
    assert!(matches!(
        store.verify(&stored.digest),
        Err(StoreError::Missing { .. })
    ));
    assert!(!store.remove(&stored.digest).unwrap());
}

#[test]
fn collecting_spares_what_is_kept_and_what_is_on_its_way() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let kept = store.put(b"kept").unwrap();
    store.put(b"old one").unwrap();
    let mut coming = store.begin(Digest::of(b"coming"), 6).unwrap();
    coming.write(b"com").unwrap();
    let mut given_up = store.begin(Digest::of(b"given up"), 8).unwrap();
    given_up.write(b"given").unwrap();
    drop(given_up);
    fs::write(dir.path().join("notes.txt"), "not ours").unwrap();
    assert_eq!(store.collect(&HashSet::from([kept.digest])).unwrap(), 7 + 5);
    assert_eq!(store.list().unwrap(), [kept]);
    let mut expected = vec![
        kept.digest.to_string(),
        format!("{}.part", Digest::of(b"coming")),
        "notes.txt".to_owned(),
    ];
    expected.sort();
    assert_eq!(names(dir.path()), expected);
    coming.write(b"ing").unwrap();
    coming.finish().unwrap();
}

#[test]
fn room_is_reserved_before_the_first_byte() {
    let dir = tempfile::tempdir().unwrap();
    let ops = trace(|files| receive(files, dir.path(), &bytes(10)).unwrap());
    let reserve = ops.iter().position(|op| *op == "reserve").unwrap();
    let write = ops.iter().position(|op| *op == "write").unwrap();
    assert!(reserve < write);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn cuts_anywhere_lose_no_byte_and_send_none_twice(
        length in 1usize..20_000,
        cuts in proptest::collection::vec(0.0f64..1.0, 0..6),
    ) {
        let (dir, whole) = (tempfile::tempdir().unwrap(), bytes(length));
        let store = Store::open(dir.path()).unwrap();
        let mut ends: Vec<usize> = cuts.iter().map(|cut| scale(length, *cut)).collect();
        ends.sort_unstable();
        ends.push(length);
        let mut sent = 0;
        for end in ends {
            let mut incoming = store.begin(Digest::of(&whole), length as u64).unwrap();
            let at = usize::try_from(incoming.offset()).unwrap();
            incoming.write(&whole[at..end]).unwrap();
            sent += end - at;
            if incoming.is_complete() {
                incoming.finish().unwrap();
                break;
            }
        }
        prop_assert_eq!(sent, length);
        prop_assert_eq!(store.verify(&Digest::of(&whole)).unwrap(), length as u64);
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss
)]
fn scale(length: usize, part: f64) -> usize {
    (length as f64 * part) as usize
}
