//! Keys, passphrases and roots: missing, wrong, readable by others. Each is one clear message, and nothing happens.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use e2e::packages::{app, put};
use e2e::process::{bin, run};
use e2e::site::PASSWORD;
use e2e::{Agent, Site, SiteOptions};
use tuf::Digest;

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// A private key that others may read is refused by whoever should use it, with the way to mend it.
#[tokio::test]
async fn a_private_key_that_others_can_read_is_refused_with_the_way_to_mend_it() {
    let mut site = Site::running(SiteOptions::default()).await;
    let agent = site.enroll("north").await;
    site.stop_manager().await;
    site.stop_repository().await;
    let run_in = |folder: &str| {
        [
            "run".to_owned(),
            "--dir".to_owned(),
            site.path(folder).display().to_string(),
        ]
    };
    for (program, folder, key) in [
        ("repo-server", "repository", "repository/online-key.pem"),
        ("repo-server", "repository", "repository/tls-key.pem"),
        ("manager", "manager", "manager/tls-key.pem"),
        ("manager", "manager", "manager/device-ca-key.pem"),
        ("device", "devices/north", "devices/north/identity/key.pem"),
        ("device", "devices/north", "devices/north/identity/token"),
    ] {
        let path = site.path(key);
        mode(&path, 0o644);
        let output = run(&bin(program), run_in(folder), "", &[]).await;
        let text = output.refused();
        let name = path.display().to_string();
        assert!(
            text.contains(&name) && text.contains("chmod 600"),
            "{program} with {key}: {text}"
        );
        mode(&path, 0o600);
    }
    drop(agent);
}

#[tokio::test]
async fn a_wrong_passphrase_and_a_missing_key_publish_nothing() {
    let work = tempfile::tempdir().unwrap();
    let site = Site::running(SiteOptions::default()).await;
    let package = app(work.path(), "1.0.0").display().to_string();
    let author = site.path("author").display().to_string();
    let args = [
        "publish",
        &package,
        "--yes",
        "--passphrase-stdin",
        "--dir",
        &author,
    ];
    for (what, input, words) in [
        (
            "wrong",
            "not the passphrase at all\n",
            "the passphrase does not open",
        ),
        ("empty", "\n", "passphrase"),
        ("none", "", "passphrase"),
    ] {
        let output = run(&bin("admin-gui"), args, input, &[]).await;
        assert!(output.refused().contains(words), "{what}: {}", output.stderr);
    }
    let key = site.path("author/targets-key.pem");
    let bytes = std::fs::read(&key).unwrap();
    std::fs::remove_file(&key).unwrap();
    let output = site.publish(Path::new(&package), &[]).await;
    assert!(output.refused().contains("targets-key.pem"), "{}", output.stderr);
    put(&key, &bytes, 0o644);
    let output = site.publish(Path::new(&package), &[]).await;
    assert!(output.refused().contains("chmod 600"), "{}", output.stderr);
    mode(&key, 0o600);
    let status = site.manager_status().await;
    assert!(status.releases.is_empty(), "{status:?}");
    let _ = site.release(Path::new(&package)).await;
}

/// The root comes from the author: as a file, or by its fingerprint. Another one is refused before anything is kept.
#[tokio::test]
async fn a_device_joins_with_the_roots_fingerprint_and_not_with_another() {
    let site = Site::running(SiteOptions::default()).await;
    let other = Site::create(SiteOptions::default()).await;
    let fingerprint =
        |site: &Site| Digest::of(&std::fs::read(site.path("author/root.json")).unwrap()).to_string();
    let code = site.add_device("north").await;
    let agent = Agent::new(site.path("devices/north"), "north");
    let wrong = agent
        .enroll_with(&code, PASSWORD, &["--root-fingerprint", &fingerprint(&other)])
        .await;
    assert!(wrong.refused().contains("fingerprint"), "{}", wrong.stderr);
    assert!(
        !agent.dir.join("trust").exists() && !agent.dir.join("device.toml").exists(),
        "something was kept"
    );
    let line = format!("{PASSWORD}\n");
    let again = site
        .manager(["new-code", "north", "--password-stdin", "--json"], &line)
        .await
        .ok();
    let code: protocol::control::AddedDevice = again.json();
    let code = code.code.reveal().to_owned();
    let none = agent.enroll_with(&code, PASSWORD, &[]).await;
    assert!(none.refused().contains("--root"), "{}", none.stderr);
    let _ = agent
        .enroll_with(&code, PASSWORD, &["--root-fingerprint", &fingerprint(&site)])
        .await
        .ok();
    let mut agent = agent;
    agent.start().await;
    e2e::eventually("it is connected", || agent.status(), |status| status.connected).await;
}
