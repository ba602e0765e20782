//! The program itself, as a person or a script runs it.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::fake::Fake;
use crate::site::{PASSPHRASE, Site};

pub fn run(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_admin-gui"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may end without reading: a broken pipe is no failure of the test.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

pub async fn run_beside(arguments: Vec<String>, input: &'static str) -> Output {
    // The fake repository lives on this thread: the program must not block it.
    tokio::task::spawn_blocking(move || {
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        run(&words, input)
    })
    .await
    .unwrap()
}

pub fn words(words: &[&str], dir: &Path, url: &str) -> Vec<String> {
    let mut all: Vec<String> = words.iter().map(ToString::to_string).collect();
    all.extend([
        "--dir".into(),
        dir.display().to_string(),
        "--repository".into(),
        url.into(),
        "--json".into(),
    ]);
    all
}

pub fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
        panic!(
            "{} {}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    })
}

#[test]
fn init_reads_the_passphrase_from_a_pipe_and_never_prints_it() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("plant");
    let place = dir.to_str().unwrap();
    let done = run(
        &[
            "init",
            place,
            "--key-type",
            "ed25519",
            "--passphrase-stdin",
            "--json",
        ],
        "a fine passphrase\n",
    );
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(json(&done)["root_fingerprint"].as_str().unwrap().len(), 64);
    for text in [&done.stdout, &done.stderr] {
        assert!(!String::from_utf8_lossy(text).contains("a fine passphrase"));
    }
    let again = run(&["init", place, "--passphrase-stdin"], "a fine passphrase\n");
    assert_eq!(again.status.code(), Some(3));
    let empty = run(
        &[
            "init",
            temp.path().join("b").to_str().unwrap(),
            "--passphrase-stdin",
        ],
        "\n",
    );
    assert_eq!(empty.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&empty.stderr).contains("empty"));
}

#[tokio::test]
async fn publish_history_and_status_speak_json() {
    let site = Site::new();
    let fake = Fake::start(&site.repository()).await;
    let (path, dir) = (site.script("heater_1.0", 4000), site.author());
    let file = path.to_str().unwrap();
    let publish = || words(&["publish", file, "--passphrase-stdin"], &dir, &fake.url);

    let wrong = run_beside(publish(), "not the passphrase").await;
    assert_eq!(wrong.status.code(), Some(4));
    assert!(json(&wrong)["error"].as_str().unwrap().contains("passphrase"));
    assert!(fake.kept().published.is_empty());

    let done = run_beside(publish(), PASSPHRASE).await;
    let told = json(&done);
    assert!(done.status.success(), "{told}");
    let steps: Vec<_> = told["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| &event["step"])
        .collect();
    assert_eq!(
        steps,
        ["clicked", "preflighted", "signed", "uploaded", "published"]
    );

    // The same again: refused before the passphrase is asked for.
    let again = run_beside(publish(), "").await;
    assert_eq!(again.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&again.stderr).contains("File existed!"));
    assert_eq!(json(&again)["preflight"]["checks"][0]["verdict"], "refused");

    let status = json(&run_beside(words(&["status"], &dir, &fake.url), "").await);
    assert_eq!(status["components"][0]["current"], "1.0.0");
    let history = json(&run_beside(words(&["history"], &dir, &fake.url), "").await);
    assert_eq!(history.as_array().unwrap().len(), 1);

    drop(fake);
    let down = run_beside(words(&["status"], &dir, "https://127.0.0.1:1"), "").await;
    assert_eq!(down.status.code(), Some(5));
}

#[test]
fn a_folder_that_is_no_authors_says_what_to_do() {
    let temp = tempfile::tempdir().unwrap();
    let done = run(&["status", "--dir", temp.path().to_str().unwrap()], "");
    assert!(!done.status.success());
    assert!(String::from_utf8_lossy(&done.stderr).contains("admin-gui init"));
}

#[test]
fn pack_makes_what_publishing_the_folder_would_send() {
    let site = Site::new();
    let folder = site.folder("heater", &crate::site::manifest("1.0"));
    let out = site.temp.path().join("heater.tar");
    let words = ["pack", folder.to_str().unwrap(), "-o", out.to_str().unwrap()];
    assert!(run(&words, "").status.success());
    let desk = site.desk("https://127.0.0.1:1");
    let (packed, direct) = (
        crate::site::draft(&desk, &out),
        crate::site::draft(&desk, &folder),
    );
    assert_eq!((packed.digest, packed.faults.len()), (direct.digest, 0));

    // It overwrites nothing, and a folder that is no package leaves no file.
    assert!(!run(&words, "").status.success());
    let other = site.temp.path().join("other.tar");
    let wrong = [
        "pack",
        site.temp.path().to_str().unwrap(),
        "--out",
        other.to_str().unwrap(),
    ];
    assert!(!run(&wrong, "").status.success() && !other.exists());
}

#[test]
fn a_key_that_others_can_read_is_refused_with_the_mend() {
    use std::os::unix::fs::PermissionsExt as _;
    let site = Site::new();
    let key = site.author().join("tls-key.pem");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let done = run(&["status", "--dir", site.author().to_str().unwrap()], "");
    assert_eq!(done.status.code(), Some(4));
    let text = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(
        text.contains("chmod 600") && text.contains("tls-key.pem"),
        "{text}"
    );
}

#[test]
fn the_passphrase_comes_from_a_descriptor_or_from_the_service_manager() {
    let temp = tempfile::tempdir().unwrap();
    let secrets = temp.path().join("credentials");
    std::fs::create_dir(&secrets).unwrap();
    std::fs::write(
        secrets.join("drover-passphrase"),
        "from the system, long enough\n",
    )
    .unwrap();
    let program = env!("CARGO_BIN_EXE_admin-gui");
    let init = |dir: &str| {
        let mut command = Command::new("sh");
        command.current_dir(temp.path()).stdin(Stdio::null());
        let script = "exec \"$0\" init \"$1\" --key-type ed25519 $2 3<credentials/drover-passphrase";
        command.args(["-c", script, program, dir]);
        command
    };
    let by_descriptor = init("one").arg("--passphrase-fd=3").output().unwrap();
    assert!(
        by_descriptor.status.success(),
        "{}",
        String::from_utf8_lossy(&by_descriptor.stderr)
    );
    let by_system = init("two")
        .arg("--json")
        .env("CREDENTIALS_DIRECTORY", &secrets)
        .output()
        .unwrap();
    assert!(
        by_system.status.success(),
        "{}",
        String::from_utf8_lossy(&by_system.stderr)
    );
    let passphrase = admin_gui::Passphrase::new("from the system, long enough").unwrap();
    for site in ["one", "two"] {
        let author = temp.path().join(site).join("author");
        let desk = admin_gui::Desk::open(&author, None, admin_gui::Senses::system()).unwrap();
        desk.unlock(&passphrase).unwrap();
    }
}
