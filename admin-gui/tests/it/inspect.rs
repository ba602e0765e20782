//! `inspect` and `pack`: without a site, with the preflight's answers, leaving nothing behind.

use std::path::Path;
use std::process::Output;

use serde_json::Value;
use tuf::Digest;

use crate::command::{json, run};
use crate::site::{Site, manifest};

fn inspect(path: &Path, more: &[&str]) -> Output {
    let mut words = vec!["inspect", path.to_str().unwrap()];
    words.extend(more);
    run(&words, "")
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    names
}

#[test]
fn a_folder_and_its_package_are_shown_alike() {
    let site = Site::new();
    let text = manifest("1.0") + "[health]\ncommand = [\"./check\", \"now\"]\nprobation_seconds = 7\n";
    let folder = site.folder("heater", &text);
    std::fs::write(folder.join("notes.txt"), "not packed").unwrap();
    let file = site.temp.path().join("heater.tar");
    let packed = run(
        &[
            "pack",
            folder.to_str().unwrap(),
            "-o",
            file.to_str().unwrap(),
            "--json",
        ],
        "",
    );
    let bytes = std::fs::read(&file).unwrap();
    let told = json(&packed);
    assert_eq!(told["sha256"], Digest::of(&bytes).to_string());
    assert!(
        told["warnings"][0]
            .as_str()
            .unwrap()
            .starts_with("notes.txt lies beside payload/")
    );

    let (one, two) = (
        json(&inspect(&folder, &["--json"])),
        json(&inspect(&file, &["--json"])),
    );
    for found in [&one, &two] {
        assert_eq!(found["component"], "heater");
        assert_eq!(found["version"], "1.0.0");
        assert_eq!(found["kind"], "app");
        assert_eq!(found["form"], "package");
        assert_eq!(found["length"], bytes.len());
        assert_eq!(found["sha256"], Digest::of(&bytes).to_string());
        assert_eq!(found["files"][0]["path"], "update.toml");
        assert_eq!(found["files"][0]["size"], text.len());
        assert_eq!(found["health"]["command"]["argv"][0], "./check");
        let steps = found["device"].as_array().unwrap();
        let all: Vec<&str> = steps.iter().map(|step| step.as_str().unwrap()).collect();
        let all = all.join("\n");
        for words in [
            "fetch ",
            "`./check now` ends with 0, 30 s at most",
            "watch it for 7 s",
        ] {
            assert!(all.contains(words), "{all}");
        }
    }
    assert_eq!(one["files"], two["files"]);
    assert_eq!(one["device"], two["device"]);

    let shown = inspect(&file, &[]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(
        shown.contains(&Digest::of(&bytes).to_string()) && shown.contains("a device will"),
        "{shown}"
    );
    assert_eq!(
        names(&site.author().join("drafts")),
        [""; 0],
        "something was kept"
    );
}

#[test]
fn what_is_refused_says_where_and_leaves_no_file() {
    let site = Site::new();
    let folder = site.folder(
        "heater",
        &manifest("1.0").replace("[run]", "[run]\nstop_secs = 3"),
    );
    let place = site.temp.path().to_owned();
    let before = names(&place);
    let out = place.join("out.tar");
    let refused = inspect(&folder, &["--json"]);
    assert_eq!(refused.status.code(), Some(3));
    let told = json(&refused);
    let check = told["inspection"]["checks"][0].clone();
    assert_eq!(
        (&check["id"], &check["verdict"]),
        (&Value::from("form"), &Value::from("refused"))
    );
    let text = check["text"].as_str().unwrap();
    assert!(
        text.contains("column 1: `stop_secs` is no field of [run]: did you mean `stop_seconds`?"),
        "{text}"
    );
    let pack = run(
        &["pack", folder.to_str().unwrap(), "-o", out.to_str().unwrap()],
        "",
    );
    assert_eq!(pack.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&pack.stderr).contains("stop_seconds"));
    assert_eq!(names(&place), before);
}

#[test]
fn a_hostile_package_is_refused_by_the_entrys_name() {
    let site = Site::new();
    let folder = site.folder("heater", &manifest("1.0"));
    let mut bytes = Vec::new();
    release::pack(&folder, &mut bytes).unwrap();
    let file = site.temp.path().join("heater_1.0.tar");
    for (name, kind, words) in [
        ("payload/../../out", tar::EntryType::Regular, "part . or .."),
        ("/etc/passwd", tar::EntryType::Regular, "absolute"),
        ("payload/link", tar::EntryType::Symlink, "symbolic link"),
        ("payload/pipe", tar::EntryType::Fifo, "device or pipe"),
        ("payload/RUN.sh", tar::EntryType::Regular, "upper and lower case"),
    ] {
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_size(0);
        header.set_cksum();
        // Before the two empty blocks of the end.
        let (front, end) = bytes.split_at(bytes.len() - 1024);
        std::fs::write(&file, [front, header.as_bytes(), end].concat()).unwrap();
        let refused = inspect(&file, &["--json"]);
        assert_eq!(refused.status.code(), Some(3));
        let error = json(&refused)["error"].as_str().unwrap().to_owned();
        assert!(
            error.contains(&format!("{name:?}")) && error.contains(words),
            "{error}"
        );
        assert!(
            error.contains("run.sh") || words != "upper and lower case",
            "{error}"
        );
    }
}

#[test]
fn a_single_file_is_shown_with_what_is_said_of_it() {
    let site = Site::new();
    let path = site.script("heater_1.0", 100);
    let found = json(&inspect(
        &path,
        &["--json", "--health-url", "http://127.0.0.1:80/"],
    ));
    assert_eq!(found["form"], "single");
    assert_eq!(
        found["sha256"],
        Digest::of(&std::fs::read(&path).unwrap()).to_string()
    );
    assert_eq!(found["health"]["http"]["url"], "http://127.0.0.1:80/");
    let missing = inspect(&site.temp.path().join("nowhere"), &[]);
    assert_eq!(missing.status.code(), Some(7));
}

#[test]
fn what_a_module_installs_is_shown_with_what_the_module_will_do() {
    let site = Site::new();
    let folder = site.temp.path().join("base");
    std::fs::create_dir_all(folder.join("payload")).unwrap();
    let text = "format = 1\ncomponent = \"base\"\nversion = \"1.0\"\nkind = \"module:deb\"\n";
    std::fs::write(folder.join("update.toml"), text).unwrap();
    std::fs::write(folder.join("payload/base.deb"), "bytes").unwrap();
    let found = json(&inspect(&folder, &["--json"]));
    assert_eq!(found["kind"], "module:deb");
    assert_eq!(found.get("run"), None);
    assert_eq!(found.get("health"), None);
    let steps: Vec<&str> = found["device"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step.as_str().unwrap())
        .collect();
    assert!(
        steps.iter().any(|step| step.contains("its update module deb")),
        "{steps:?}"
    );
    assert!(!steps.iter().any(|step| step.contains("start")), "{steps:?}");
    let told = String::from_utf8(inspect(&folder, &[]).stdout).unwrap();
    assert!(told.contains("  kind       module:deb\n"), "{told}");

    std::fs::write(
        folder.join("update.toml"),
        format!("{text}[run]\nhow = \"exec\"\nprogram = \"x\"\n"),
    )
    .unwrap();
    let told = inspect(&folder, &[]);
    let told = String::from_utf8_lossy(&told.stdout).into_owned() + &String::from_utf8_lossy(&told.stderr);
    assert!(told.contains("[run] is for applications"), "{told}");
}
