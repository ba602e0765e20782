//! Everything that the programs say to each other: what is read can be written, and then says the same.

use protocol::{author, control, device, enroll};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

type Reader = fn(&[u8]);

fn json<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
    let Ok(message) = serde_json::from_slice::<T>(bytes) else {
        return;
    };
    let written = serde_json::to_value(&message).expect("what was read can be written");
    let again: T = serde_json::from_value(written.clone()).expect("what was written can be read");
    assert_eq!(serde_json::to_value(&again).expect("written"), written);
}

fn text<T: std::str::FromStr>(bytes: &[u8]) {
    let _ = String::from_utf8_lossy(bytes).parse::<T>();
}

fn report(bytes: &[u8]) {
    let Ok(signed) = serde_json::from_slice::<protocol::SignedReport>(bytes) else {
        return json::<protocol::Report>(bytes);
    };
    if let Ok(report) = signed.read() {
        let _ = protocol::latencies(&report.events, &"pump-7".parse().expect("a name"));
    }
    let sender = "drover://site/device/pump-7".parse().expect("an identity");
    assert!(
        signed.verify(&[4; 65], &sender).is_err(),
        "a report that nobody signed"
    );
}

const READERS: &[Reader] = &[
    // From a device and from whoever reaches the joining port.
    json::<device::Hello>,
    report,
    json::<enroll::Enroll>,
    json::<enroll::Renew>,
    // From a manager, and from the repository.
    json::<device::Welcome>,
    json::<device::Order>,
    json::<enroll::Enrolled>,
    json::<author::RelayedReport>,
    json::<author::Receipt>,
    json::<author::ReportPage>,
    json::<author::Recover>,
    json::<author::Published>,
    // From an author.
    json::<author::Publish>,
    // On control sockets.
    json::<control::ManagerRequest>,
    json::<control::DeviceRequest>,
    json::<control::RepositoryRequest>,
    json::<control::AuthorRequest>,
    json::<control::ManagerStatus>,
    json::<control::DeviceStatus>,
    json::<control::AuthorEvent>,
    json::<control::ManagerEvent>,
    json::<control::DeviceEvent>,
    json::<control::DevicePage>,
    json::<protocol::Event>,
    // Words and paths.
    text::<enroll::EnrollCode>,
    text::<protocol::Identity>,
    text::<protocol::UpdateId>,
    text::<release::TargetPath>,
    text::<release::PayloadPath>,
    text::<release::Version>,
    text::<release::Window>,
    text::<tuf::UnixTime>,
];

pub fn seeds() -> Vec<Vec<u8>> {
    let component = json!({"component": "thermostat", "version": "1.2.0", "digest": "0".repeat(64), "previous": null,
        "activity": "running", "uptime_seconds": 1, "bad": [], "held": false});
    let event = json!({"update": "0".repeat(32), "actor": "drover://site/device/pump-7", "step": "clicked",
        "component": "thermostat", "version": "1.2.0", "device": "pump-7", "reason": "why",
        "at": {"wall_ns": 1, "boot_ns": 2, "boot_id": "x"}});
    let report = json!({"actor": "drover://site/device/pump-7", "counter": 1, "nonce": "0".repeat(32), "events": [event],
        "at": {"wall_ns": 1, "boot_ns": 2, "boot_id": "x"}, "components": [component]});
    let order = json!({"update": "0".repeat(32), "component": "thermostat", "expects": null, "version": "1.2.0",
        "target": "thermostat/1.2.0/thermostat.tar"});
    let signed = json!({"report": report.to_string(), "key": "0".repeat(64), "signature": "00"});
    let requests = [
        "status",
        "watch",
        "history",
        "delete-device",
        "publish",
        "rollback",
        "backup",
        "init",
    ];
    let mut all = vec![
        (
            0,
            json!({"agent": "0.1.0", "arch": "x86-64", "hardware": [], "boot_id": "x", "report_counter": 1,
            "time_known": true, "components": [component]}),
        ),
        (1, signed.clone()),
        (1, report),
        (
            2,
            json!({"device": "pump-7", "secret": "x", "password": "y", "csr": "-----BEGIN"}),
        ),
        (
            4,
            json!({"orders": [order], "refresh": {"timestamp": 1}, "poll_seconds": 10}),
        ),
        (5, order),
        (
            6,
            json!({"site": "site", "device": "pump-7", "chain": "", "site_ca": "", "token": "", "manager": "a:1"}),
        ),
        (
            12,
            json!({"update": null, "expects": 1, "roots": [], "targets": [{"name": "targets.json", "body": "{}"}],
            "events": [event]}),
        ),
        (23, event),
    ];
    for (kind, name) in (13..17).flat_map(|kind| requests.map(|name| (kind, name))) {
        all.push((
            kind,
            json!({"do": name, "last": 1, "name": "pump-7", "component": "thermostat", "path": "/x"}),
        ));
    }
    let mut all: Vec<_> = all
        .into_iter()
        .map(|(kind, value)| [&[kind], value.to_string().as_bytes()].concat())
        .collect();
    for (kind, word) in [
        (
            24,
            format!("drover1/[::1]:443/pump-7/{}/{}", "0".repeat(64), "0".repeat(32)),
        ),
        (25, "drover://site/device/pump-7".to_owned()),
        (27, "thermostat/1.2.0/thermostat.tar".to_owned()),
        (29, "1.2.0-rc.1+build".to_owned()),
        (30, "mon-fri 22:00-04:00".to_owned()),
        (31, "2026-11-27T03:00:00Z".to_owned()),
    ] {
        all.push([&[kind], word.as_bytes()].concat());
    }
    for seed in &all {
        run(seed);
    }
    assert!(serde_json::from_slice::<device::Hello>(&all[0][1..]).is_ok());
    assert!(serde_json::from_slice::<protocol::Report>(&all[2][1..]).is_ok());
    assert!(serde_json::from_slice::<device::Welcome>(&all[4][1..]).is_ok());
    assert!(serde_json::from_slice::<author::Publish>(&all[7][1..]).is_ok());
    all
}

/// The first byte says what the others are.
pub fn run(data: &[u8]) {
    if let Some((kind, bytes)) = data.split_first() {
        READERS[usize::from(*kind) % READERS.len()](bytes);
    }
}
