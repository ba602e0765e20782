//! `plan`: how a package would come to run on a device, without a site.

use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::command::{json, run};
use crate::site::{Site, manifest};

fn plan(path: &Path, more: &[&str]) -> Output {
    let mut words = vec!["plan", path.to_str().unwrap()];
    words.extend(more);
    run(&words, "")
}

fn with_nature(site: &Site, name: &str, nature: &str) -> std::path::PathBuf {
    site.folder(name, &format!("{}[nature]\n{nature}\n", manifest("2.0")))
}

#[test]
fn a_package_is_held_against_an_older_one_or_nothing() {
    let site = Site::new();
    let old = site.folder("old", &manifest("1.0"));
    let new = with_nature(&site, "new", "category = \"unit\"\nstillness = \"unit\"");
    let told = json(&plan(&new, &["--json"]));
    assert_eq!(told["plan"]["answer"], "restart");
    assert_eq!(
        told["plan"]["pause"],
        Value::Null,
        "nothing runs that could pause"
    );
    let told = json(&plan(&new, &["--from", old.to_str().unwrap(), "--json"]));
    assert_eq!(told["component"], "heater");
    assert_eq!(told["plan"]["answer"], "restart");
    assert_eq!(told["plan"]["pause"]["measured"], 0);
    let never = with_nature(
        &site,
        "never",
        "category = \"disk\"\nstillness = \"data\"\nnever_kept = \"accesses since creation\"",
    );
    let shown = plan(&never, &["--from", old.to_str().unwrap()]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(
        shown.contains("answer   impossible") && shown.contains("accesses since creation"),
        "{shown}"
    );
}

/// What a device told of itself: its hardware counts (R-003-43), what it measured, that it is tainted.
#[test]
fn the_facts_of_a_device_count() {
    let site = Site::new();
    let large = site.folder(
        "large",
        &format!("{}[requires]\nmemory_bytes = 1_073_741_824\n", manifest("2.0")),
    );
    let facts = site.temp.path().join("facts.json");
    let against = |text: &str| {
        std::fs::write(&facts, text).unwrap();
        plan(&large, &["--device-facts", facts.to_str().unwrap(), "--json"])
    };
    let running = r#""running": [{"component": "heater", "cooperates": null}], "recovery": true"#;
    let machine = |bytes: u64| {
        format!(
            r#""machine": {{"agent": "0.1.0", "arch": "x86-64", "hardware": [], "memory_bytes": {bytes}}}"#
        )
    };
    let small = json(&against(&format!("{{{running}, {}}}", machine(1 << 29))));
    assert_eq!(small["plan"]["answer"], "needs-person");
    let answer = format!(
        r#"{{"component": "heater", "facts": {{{running}, {}, "restart_ms": [70, 90, 80]}}}}"#,
        machine(1 << 30)
    );
    let fits = json(&against(&answer));
    assert_eq!(fits["plan"]["answer"], "restart");
    assert_eq!(fits["plan"]["pause"]["expected_ms"], 80);
    assert_eq!(fits["plan"]["pause"]["measured"], 3);
    let stuck = r#"{"running": [{"component": "heater"}], "tainted": ["payload/x was changed"]}"#;
    let stuck = json(&against(stuck));
    assert_eq!(stuck["plan"]["answer"], "needs-person");
    for bad in ["{}", "[]", "not JSON", r#"{"running": "heater"}"#] {
        let output = against(bad);
        assert_eq!(output.status.code(), Some(3), "{bad}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains("device plan COMPONENT --json"), "{text}");
    }
}

#[test]
fn two_components_are_not_compared() {
    let site = Site::new();
    let old = site.folder("old", &manifest("1.0").replace("heater", "cooler"));
    let new = site.folder("new", &manifest("2.0"));
    let output = plan(&new, &["--from", old.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(3));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("is cooler, not heater"), "{text}");
}
