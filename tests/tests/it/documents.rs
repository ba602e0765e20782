//! What the documents say of the tests is true: a test or module that is named there exists.

use std::path::Path;

/// The other packages.
const OTHERS: [&str; 13] = [
    "admin-gui",
    "repo-server",
    "manager",
    "device",
    "certs",
    "tuf",
    "release",
    "protocol",
    "mtls",
    "durable",
    "control",
    "gui-kit",
    "thermostat",
];

/// Names in back quotes after `e2e:`, up to the next package or the end of the cell.
fn named(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    for cell in text.split('|') {
        let mut ours = false;
        for quoted in cell.split('`').skip(1).step_by(2) {
            let (package, name) = match quoted.split_once(": ") {
                Some((package, name)) => (Some(package), name),
                // A package alone stands for all of its tests.
                None if OTHERS.contains(&quoted) || quoted.contains('/') => (Some(quoted), ""),
                None => (None, quoted),
            };
            ours = package.map_or(ours, |package| package == "e2e");
            if ours {
                names.push(name.to_owned());
            }
        }
    }
    names
}

/// The sources of a folder and of those in it.
fn gather(folder: &Path, sources: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let module = entry.path().file_stem().unwrap().to_string_lossy().into_owned();
        sources.push_str(&format!("\nmod {module};\n"));
        if entry.path().is_dir() {
            gather(&entry.path(), sources);
        } else {
            sources.push_str(&std::fs::read_to_string(entry.path()).unwrap());
        }
    }
}

#[test]
fn every_end_to_end_test_that_the_documents_name_exists() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = String::new();
    gather(&here.join("tests/it"), &mut sources);
    for document in ["SECURITY.md", "docs/requirements.md"] {
        let text = std::fs::read_to_string(here.join("..").join(document)).unwrap();
        let names = named(&text);
        assert!(names.len() > 10, "{document} names hardly any test: {names:?}");
        for name in names {
            // A module, or a test, or the beginning of one's name.
            let exists = sources.contains(&format!("mod {name};")) || sources.contains(&format!("fn {name}"));
            assert!(exists, "{document} names `e2e: {name}`, which does not exist");
        }
    }
}
