//! The units of systemd that are shipped.

use std::process::Command;

use e2e::packages::put;
use e2e::process::bin;

/// What systemd has to say of a unit whose program is really there; none: there is no systemd on this machine.
fn said_of(unit: &str, program: &str) -> Option<String> {
    let work = tempfile::tempdir().unwrap();
    let file = work.path().join("drover-test.service");
    let real = bin(program).display().to_string();
    let text = unit.replace(&format!("/usr/local/bin/{program}"), &real);
    assert_ne!(text, unit, "the unit starts {program}");
    put(&file, text.as_bytes(), 0o644);
    let verified = Command::new("systemd-analyze")
        .arg("verify")
        .arg(&file)
        .output()
        .ok()?;
    let mut said = String::from_utf8_lossy(&verified.stderr).into_owned();
    if !verified.status.success() {
        said.push_str(&verified.status.to_string());
    }
    Some(said)
}

#[test]
fn the_units_that_are_shipped_are_what_systemd_takes() {
    let units = [
        (
            "device",
            include_str!("../../../device/systemd/drover-device.service"),
        ),
        (
            "manager",
            include_str!("../../../manager/systemd/drover-manager.service"),
        ),
        (
            "repo-server",
            include_str!("../../../repo-server/systemd/drover-repo-server.service"),
        ),
    ];
    for (program, unit) in units {
        let Some(said) = said_of(unit, program) else {
            e2e::skip("systemd-analyze is not on this machine: the units were not looked at");
            return;
        };
        assert_eq!(said, "", "{program}");
        assert!(unit.contains("Restart=always"), "{program}");
    }
    // Programs outlive the agent only so.
    assert!(units[0].1.contains("KillMode=process"));
    let misspelt = units[0].1.replace("KillMode=", "KilMode=");
    assert!(said_of(&misspelt, "device").unwrap().contains("KilMode"));
}
