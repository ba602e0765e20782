use std::fs;

use durable::{Files, Record, RecordError};
use serde::{Deserialize, Serialize};

use crate::for_every_fault;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Value {
    name: String,
    count: u64,
}

fn value(count: u64) -> Value {
    Value {
        name: "düse\n".repeat(20),
        count,
    }
}

fn record(files: &Files, dir: &std::path::Path) -> Record<Value> {
    Record::on(files.clone(), dir.join("value.rec"), "value", 3)
}

#[test]
fn a_record_is_the_old_or_the_new_whatever_fails() {
    for_every_fault(
        |dir| record(&Files::real(), dir).save(&value(1)).unwrap(),
        |files, dir| record(files, dir).save(&value(2)),
        |dir, result, fault, at| {
            let found = record(&Files::real(), dir).load().unwrap().unwrap();
            assert!(
                found == value(2) || (found == value(1) && result.is_err()),
                "{fault:?} at {at}"
            );
        },
    );
}

#[test]
fn every_flipped_byte_and_every_truncation_is_damage_never_a_value_and_never_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let record = record(&Files::real(), dir.path());
    assert_eq!(record.load().unwrap(), None, "nothing saved yet");
    record.save(&value(1)).unwrap();
    let good = fs::read(record.path()).unwrap();
    let damaged = |bytes: &[u8], what: &str| {
        fs::write(record.path(), bytes).unwrap();
        match record.load() {
            Err(RecordError::Damaged { .. }) => {}
            other => panic!("{what}: {other:?}"),
        }
    };
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bytes = good.clone();
            bytes[at] ^= 1 << bit;
            damaged(&bytes, &format!("bit {bit} of byte {at}"));
        }
        damaged(&good[..at], &format!("cut to {at}"));
    }
    damaged(&[&good[..], b"x"].concat(), "one byte more");
    fs::write(record.path(), &good).unwrap();
    assert_eq!(record.load().unwrap(), Some(value(1)));
}

#[test]
fn a_record_of_another_kind_or_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("value.rec");
    Record::<Value>::new(&path, "other", 3).save(&value(1)).unwrap();
    let ours = Record::<Value>::new(&path, "value", 3);
    assert!(matches!(ours.load(), Err(RecordError::Damaged { .. })));
    Record::<Value>::new(&path, "value", 4).save(&value(1)).unwrap();
    assert!(matches!(
        ours.load(),
        Err(RecordError::Version {
            found: 4,
            expected: 3,
            ..
        })
    ));
    Record::<String>::new(&path, "value", 3)
        .save(&"text".to_owned())
        .unwrap();
    assert!(matches!(ours.load(), Err(RecordError::Damaged { .. })));
    assert!(ours.remove().unwrap());
    assert_eq!(ours.load().unwrap(), None);
}
