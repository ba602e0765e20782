//! Messages from a peer of another version, or one that means harm: whatever is read can be written and then says the
//! same, and nothing panics. `scripts/fuzz` goes on where these few cases end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use proptest::prelude::*;
use proptest::sample::Index;
use protocol::{SignedReport, author, control, device, enroll};
use serde::de::DeserializeOwned;
use serde::{Deserialize as _, Serialize};
use serde_json::{Value, json};

/// Reads a value as one type: whether it was one.
type Reader = fn(&Value) -> bool;

fn reads<T: Serialize + DeserializeOwned>(value: &Value) -> bool {
    let Ok(message) = T::deserialize(value) else {
        return false;
    };
    let written = serde_json::to_value(&message).expect("what was read can be written");
    let again: T = serde_json::from_value(written.clone()).expect("what was written can be read");
    assert_eq!(serde_json::to_value(&again).unwrap(), written);
    true
}

fn reads_report(value: &Value) -> bool {
    if let Ok(signed) = SignedReport::deserialize(value) {
        let sender = "drover://site/device/pump-7".parse().unwrap();
        assert!(signed.verify(&[4; 65], &sender).is_err(), "nobody signed it");
        let _ = signed.read();
    }
    reads::<SignedReport>(value)
}

/// A message of each kind that comes from another machine or another user's program.
fn messages() -> Vec<(Reader, Value)> {
    let at = json!({"wall_ns": 1, "boot_ns": 2, "boot_id": "x"});
    let update = "0".repeat(32);
    let component = json!({"component": "thermostat", "version": "1.2.0", "digest": "0".repeat(64), "previous": null,
        "activity": "running", "uptime_seconds": 1, "bad": ["1".repeat(64)], "held": false});
    let event = json!({"update": update, "actor": "drover://site/device/pump-7", "step": "clicked", "at": at,
        "component": "thermostat", "version": "1.2.0", "device": "pump-7", "bytes": 1, "total": 2, "reason": "why"});
    let report = json!({"actor": "drover://site/device/pump-7", "counter": 1, "nonce": "0".repeat(32), "at": at,
        "update": update, "outcome": "committed", "reason": "why", "events": [event], "components": [component]});
    let order = json!({"update": update, "component": "thermostat", "expects": "1.1.0", "version": "1.2.0",
        "target": "thermostat/1.2.0/thermostat.tar"});
    let file = json!({"name": "targets.json", "body": "{}"});
    vec![
        (
            reads::<device::Hello>,
            json!({"agent": "0.1.0", "arch": "x86-64", "hardware": ["rpi-4"], "boot_id": "x", "report_counter": 1,
                "time_known": true, "trouble": "none", "components": [component]}),
        ),
        (reads::<protocol::Report>, report.clone()),
        (
            reads_report,
            json!({"report": report.to_string(), "key": "0".repeat(64), "signature": "00"}),
        ),
        (
            reads::<device::Welcome>,
            json!({"orders": [order], "refresh": {"timestamp": 1}, "poll_seconds": 10}),
        ),
        (
            reads::<enroll::Enroll>,
            json!({"device": "pump-7", "secret": "x", "password": "y", "csr": "-----BEGIN"}),
        ),
        (
            reads::<enroll::Enrolled>,
            json!({"site": "site", "device": "pump-7", "chain": "", "site_ca": "", "token": "", "manager": "a:1"}),
        ),
        (
            reads::<author::Publish>,
            json!({"update": update, "expects": 1, "roots": [file], "targets": [file], "events": [event]}),
        ),
        (
            reads::<control::ManagerRequest>,
            json!({"do": "delete-device", "name": "pump-7", "password": "y"}),
        ),
        (
            reads::<control::DeviceRequest>,
            json!({"do": "rollback", "component": "thermostat"}),
        ),
        (
            reads::<control::RepositoryRequest>,
            json!({"do": "backup", "path": "/x"}),
        ),
        (
            reads::<control::AuthorRequest>,
            json!({"do": "withdraw", "component": "thermostat", "version": "1.2.0", "reason": "why",
                "passphrase": null}),
        ),
    ]
}

/// Every place in a value, as pointers.
fn places(value: &Value, at: &str, out: &mut Vec<String>) {
    out.push(at.to_owned());
    match value {
        Value::Object(map) => map
            .iter()
            .for_each(|(key, item)| places(item, &format!("{at}/{key}"), out)),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                places(item, &format!("{at}/{index}"), out);
            }
        }
        _ => {}
    }
}

fn replacement() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!(null)),
        Just(json!(true)),
        Just(json!(-1)),
        Just(json!(1.5)),
        Just(json!([])),
        Just(json!({})),
        any::<u64>().prop_map(Value::from),
        "\\PC{0,80}".prop_map(Value::from),
        "[a-z0-9./:-]{0,12}".prop_map(Value::from),
    ]
}

#[test]
fn the_messages_that_the_others_are_made_from_are_good() {
    for (reads, message) in messages() {
        assert!(reads(&message), "{message}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_changed_message_is_refused_or_says_what_it_says(which in any::<Index>(), changes in prop::collection::vec((any::<Index>(), replacement()), 1..3)) {
        let all = messages();
        let (reads, mut message) = all[which.index(all.len())].clone();
        for (at, new) in changes {
            let mut spots = Vec::new();
            places(&message, "", &mut spots);
            *message.pointer_mut(&spots[at.index(spots.len())]).unwrap() = new;
        }
        reads(&message);
    }

    #[test]
    fn any_text_is_a_code_or_is_refused(text in "(drover1)?(/\\PC{0,20}){0,6}", hex in "[0-9a-f]{96}", host in "\\PC{0,12}:[0-9]{1,5}") {
        let _ = text.parse::<enroll::EnrollCode>();
        let right = format!("drover1/{host}/pump-7/{}/{}", &hex[..64], &hex[64..]);
        let read = right.parse::<enroll::EnrollCode>();
        prop_assert_eq!(read.is_ok(), !host.contains('/'), "{}", right);
        if let Ok(code) = read {
            prop_assert_eq!(code.reveal(), right.trim());
        }
    }
}
