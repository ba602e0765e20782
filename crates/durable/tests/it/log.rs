use std::fs;
use std::path::Path;

use durable::{LogLimits, RecordLog};
use serde::{Deserialize, Serialize};

use crate::{for_every_fault, names, trace};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Event {
    number: u32,
    what: String,
}

fn event(number: u32) -> Event {
    Event {
        number,
        what: "installed\nthermostat".to_owned(),
    }
}

fn open(dir: &Path, bytes: u64, keep: u32) -> RecordLog {
    RecordLog::open(dir, "install", LogLimits { bytes, keep }).unwrap()
}

fn numbers(log: &RecordLog, last: usize) -> Vec<u32> {
    log.read::<Event>(last)
        .unwrap()
        .into_iter()
        .map(|event| event.number)
        .collect()
}

#[test]
fn a_failed_append_leaves_no_part_of_a_line_whatever_fails() {
    for_every_fault(
        |dir| open(dir, 10_000, 2).append(&event(1), "one").unwrap(),
        |files, dir| {
            let log = RecordLog::open_on(files.clone(), dir, "install", LogLimits::default())
                .map_err(durable::RecordError::from)?;
            log.append(&event(2), "two")
        },
        |dir, result, fault, at| {
            let log = open(dir, 10_000, 2);
            let found = numbers(&log, 10);
            if result.is_ok() {
                assert_eq!(found, [1, 2], "{fault:?} at {at}");
                assert_eq!(log.read_text(10).unwrap(), ["one", "two"]);
            } else {
                assert_eq!(found[0], 1, "{fault:?} at {at}");
            }
            log.append(&event(3), "three").unwrap();
            assert_eq!(numbers(&log, 1), [3], "{fault:?} at {at}");
            for name in names(dir) {
                let text = fs::read_to_string(dir.join(&name)).unwrap();
                assert!(text.ends_with('\n'), "{fault:?} at {at}: {name} is torn");
                if name.ends_with(".jsonl") {
                    for line in text.lines() {
                        serde_json::from_str::<Event>(line).unwrap();
                    }
                }
            }
        },
    );
}

#[test]
fn a_line_is_one_write_and_one_flush() {
    let dir = tempfile::tempdir().unwrap();
    let ops = trace(|files| {
        let log = RecordLog::open_on(files.clone(), dir.path(), "install", LogLimits::default()).unwrap();
        log.append(&event(1), "one").unwrap();
    });
    assert_eq!(
        &ops[ops.len() - 4..],
        ["write", "sync_file", "write", "sync_file"]
    );
}

#[test]
fn a_torn_last_line_is_dropped_at_opening() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path(), 10_000, 2).append(&event(1), "one").unwrap();
    for name in ["install.jsonl", "install.log"] {
        let path = dir.path().join(name);
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend_from_slice(b"{\"number\":2,\"wh");
        fs::write(&path, bytes).unwrap();
    }
    assert_eq!(
        RecordLog::read_in::<Event>(dir.path(), "install", 9).unwrap(),
        [event(1)]
    );
    let log = open(dir.path(), 10_000, 2);
    log.append(&event(2), "two").unwrap();
    assert_eq!(numbers(&log, 9), [1, 2]);
    assert_eq!(log.read_text(9).unwrap(), ["one", "two"]);
}

#[test]
fn a_log_is_bounded_and_read_across_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), 200, 2);
    for number in 0..50 {
        log.append(&event(number), &format!("event {number}")).unwrap();
    }
    assert_eq!(names(dir.path()).len(), 6);
    for name in names(dir.path()) {
        assert!(fs::metadata(dir.path().join(name)).unwrap().len() <= 200);
    }
    assert_eq!(numbers(&log, 6), [44, 45, 46, 47, 48, 49]);
    assert_eq!(log.read_text(2).unwrap(), ["event 48", "event 49"]);
    drop(log);
    assert_eq!(numbers(&open(dir.path(), 200, 2), 1), [49]);
}

#[test]
fn rotation_loses_no_recent_event_whatever_fails() {
    for_every_fault(
        |dir| {
            let log = open(dir, 120, 3);
            for number in 0..4 {
                log.append(&event(number), &format!("event {number}")).unwrap();
            }
        },
        |files, dir| {
            let limits = LogLimits { bytes: 120, keep: 3 };
            let log = RecordLog::open_on(files.clone(), dir, "install", limits)
                .map_err(durable::RecordError::from)?;
            log.append(&event(4), "event 4")
        },
        |dir, result, fault, at| {
            let log = open(dir, 120, 3);
            let found = numbers(&log, 10);
            assert!(found.starts_with(&[0, 1, 2, 3]), "{fault:?} at {at}: {found:?}");
            assert!(found.len() == 5 || result.is_err(), "{fault:?} at {at}");
            log.append(&event(5), "event 5").unwrap();
            assert_eq!(numbers(&log, 1), [5]);
        },
    );
}

#[test]
fn text_cannot_forge_a_second_line() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), 100_000, 1);
    log.append(&event(1), "one\n2026 forged\r\u{1b}[2J").unwrap();
    log.append(&event(2), &"ü".repeat(5000)).unwrap();
    let lines = log.read_text(9).unwrap();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0], "one 2026 forged  [2J");
    assert!(lines[1].len() < 4096);
    let huge = Event {
        number: 3,
        what: "x".repeat(70_000),
    };
    assert!(log.append(&huge, "three").is_err());
    assert_eq!(numbers(&log, 9), [1, 2]);
}

#[test]
fn another_form_of_event_is_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), 100_000, 1);
    log.append(&serde_json::json!({"older": true}), "older").unwrap();
    log.append(&event(1), "one").unwrap();
    assert_eq!(numbers(&log, 9), [1]);
}
