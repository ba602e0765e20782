//! DESIGN invariant 9: no secret in a log, an error, a record, a database or a command line; whatever goes wrong. What
//! programs say in all the other tests is looked through by the harness (`e2e::secrets`).

use std::path::{Path, PathBuf};

use e2e::packages::app;
use e2e::process::heard;
use e2e::site::{PASSPHRASE, PASSWORD};
use e2e::{Agent, Site, SiteOptions};
use protocol::Outcome;

const BACKUP: &str = "a passphrase for the backup alone";
const WRONG: [&str; 2] = ["a wrong guess of a password", "a wrong guess of a passphrase"];

/// Everything that can go right or wrong with a secret, at the wordiest level of every log.
#[tokio::test]
async fn no_secret_is_written_anywhere_but_in_its_own_file() {
    let work = tempfile::tempdir().unwrap();
    let options = SiteOptions {
        log: Some("trace".into()),
        ..SiteOptions::default()
    };
    let mut site = Site::running(options).await;
    let code = site.add_device("north").await;
    let root = site.path("author/root.json");
    let mut agent = Agent::new(site.path("devices/north"), "north");
    agent.env.insert("RUST_LOG".into(), "trace".into());
    let with_root = ["--root", &root.display().to_string()].map(str::to_owned);
    let with_root: Vec<&str> = with_root.iter().map(String::as_str).collect();
    let _ = agent.enroll_with(&code, WRONG[0], &with_root).await;
    let _ = agent.enroll(&code, &root).await.ok();
    let _ = agent.enroll(&code, &root).await; // used up
    agent.start().await;
    let published = site.release(&app(work.path(), "1.0.0")).await;
    assert_eq!(
        agent.watch().outcome("north", published.update).await.0,
        Outcome::Committed
    );
    for password in [WRONG[0], PASSWORD] {
        let line = format!("{password}\n");
        let _ = site
            .manager(["new-code", "north", "--password-stdin"], &line)
            .await;
    }
    let package = app(work.path(), "2.0.0").display().to_string();
    let dir = site.path("author").display().to_string();
    let args = ["publish", &package, "--yes", "--passphrase-stdin", "--dir", &dir];
    let bin = e2e::process::bin("admin-gui");
    let _ = e2e::process::run(&bin, args, &format!("{}\n", WRONG[1]), &[("RUST_LOG", "trace")]).await;
    let backup = work.path().join("backup").display().to_string();
    let _ = site
        .manager(["backup", &backup, "--passphrase-stdin"], &format!("{BACKUP}\n"))
        .await
        .ok();
    let token = std::fs::read_to_string(agent.dir.join("identity/token")).unwrap();
    // A token that is wrong, and a gateway that says so.
    e2e::packages::put(&agent.dir.join("identity/token"), b"00ff", 0o600);
    agent.stop().await;
    agent.start().await;
    site.watch().message("manager.authenticate.fails").await;
    e2e::packages::put(&agent.dir.join("identity/token"), token.as_bytes(), 0o600);

    let mut secrets: Vec<(String, String)> = [
        ("the author's passphrase", PASSPHRASE),
        ("the device's password", PASSWORD),
        ("a wrong password", WRONG[0]),
        ("a wrong passphrase", WRONG[1]),
        ("the backup's passphrase", BACKUP),
        ("the token", token.trim()),
        ("the code's secret", code.rsplit('/').next().unwrap()),
    ]
    .map(|(what, secret)| (what.to_owned(), secret.to_owned()))
    .to_vec();
    let files = files(&site.dir);
    for key in files.iter().filter(|path| is_secret_file(path)) {
        let text = std::fs::read_to_string(key).unwrap_or_default();
        if let Some(line) = text
            .lines()
            .find(|line| line.len() > 40 && !line.starts_with("---"))
        {
            secrets.push((format!("the key in {}", key.display()), line.to_owned()));
        }
    }
    assert!(secrets.len() > 12, "the keys were not found: {secrets:?}");

    let said = heard();
    let commands = command_lines();
    assert!(
        said.len() > 10_000 && said.contains("TRACE"),
        "nothing was logged"
    );
    for (what, secret) in &secrets {
        assert!(!said.contains(secret.as_str()), "{what} was said");
        assert!(!commands.contains(secret.as_str()), "{what} is on a command line");
    }
    for path in files.iter().filter(|path| !is_secret_file(path)) {
        let bytes = std::fs::read(path).unwrap_or_default();
        for (what, secret) in &secrets {
            let found = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
            assert!(!found, "{what} is in {}", path.display());
        }
    }
    site.stop_manager().await;
}

/// A command of this machine that says a word, through the harness as any program.
fn saying(word: &str) -> [String; 2] {
    ["-c".to_owned(), format!("echo ready; echo before {word} after")]
}

/// So that each test of the suite is one of this: the harness itself notices, in a command's output ...
#[tokio::test]
#[should_panic(expected = "sh -c wrote a device's password, in its line 2: before ")]
async fn a_command_that_says_a_password_fails_its_test() {
    let _ = e2e::process::run(Path::new("/bin/sh"), saying(PASSWORD), "", &[]).await;
}

/// ... and when a program is dropped, also a secret that became known after it was said.
#[tokio::test]
#[should_panic(expected = "blabber wrote a token")]
async fn a_program_that_says_a_token_fails_its_test() {
    let said = saying("a token of sixty-four digits");
    let program = e2e::Program::start("blabber", Path::new("/bin/sh"), said, &[]);
    program
        .wait_line("it has said it", |line| line.contains("after"))
        .await;
    e2e::secrets::learn("a token", "a token of sixty-four digits");
}

/// A file that is there to hold a secret: private keys, the device's token, the manager's pepper. Its mode is
/// checked too.
fn is_secret_file(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let secret = name.ends_with("key.pem") || name == "token" || name == "pepper";
    if secret {
        let mode = std::fs::metadata(path).map_or(0o600, |facts| facts.permissions().mode() & 0o777);
        assert_eq!(mode & 0o077, 0, "{} can be read by others", path.display());
    }
    secret
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(files(&entry.path()));
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    found
}

/// What everybody on this machine can read of the running programs.
fn command_lines() -> String {
    let mut all = String::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        if let Ok(line) = std::fs::read(entry.path().join("cmdline")) {
            all.push_str(&String::from_utf8_lossy(&line).replace('\0', " "));
            all.push('\n');
        }
    }
    all
}
