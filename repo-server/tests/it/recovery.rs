//! Backup, restore, rolled back images, two signers, killed processes.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use control::Client as ControlClient;
use protocol::Role;
use protocol::author::{Receipt, Recovered};
use protocol::control::{RepositoryRequest, RepositoryStatus};
use repo_server::Server;
use reqwest::StatusCode;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tuf::Ed25519Signer;

use crate::site::{DAY, NOW, Running, Sample, Site, problem, sample};

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_repo-server"));
    command.kill_on_drop(true).stdin(Stdio::null());
    command
}

async fn cli(args: &[&str]) -> (bool, String) {
    let output = program().args(args).output().await.unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

async fn recover(running: &Running<'_>, role: Role, request: &protocol::author::Recover) -> Recovered {
    let response = running.post(Some(role), "/api/v1/recover", request).await;
    let (status, text) = (response.status(), response.text().await.unwrap());
    assert_eq!(status, StatusCode::OK, "{text}");
    serde_json::from_str(&text).unwrap()
}

/// A repository of yesterday (release 1.0.0) restored on a new host, while the fleet has seen today's 1.1.0.
struct Restored {
    dir: PathBuf,
    today: Sample,
    /// What the fleet holds.
    receipt: Receipt,
}

async fn restored(site: &Site) -> Restored {
    let running = site.start().await;
    running.release(&sample("1.0.0", 1)).await;
    let backup = site.dir.path().join("backup");
    let (dir, path) = (site.repository(), backup.to_str().unwrap().to_owned());
    let (done, text) = cli(&["backup", &path, "--dir", dir.to_str().unwrap()]).await;
    assert!(done, "{text}");
    site.clock.forward(DAY);
    let today = sample("1.1.0", 2);
    let receipt = running.release(&today).await;
    running.server.stop().await;
    let new_host = site.dir.path().join("new-host");
    site.copy_folder(&new_host);
    let (done, text) = cli(&["restore", &path, "--dir", new_host.to_str().unwrap()]).await;
    assert!(done && text.contains("signs nothing"), "{text}");
    Restored {
        dir: new_host,
        today,
        receipt,
    }
}

#[tokio::test]
async fn a_restored_repository_signs_nothing_until_a_manager_has_handed_back_what_it_forgot() {
    let site = Site::new();
    let Restored { dir, today, receipt } = restored(&site).await;
    let running = site.start_in(&dir, site.options()).await;
    running.server.repository().tick();

    let waiting = running
        .get(None, "/metadata/timestamp.json")
        .send()
        .await
        .unwrap();
    assert_eq!(waiting.headers()["retry-after"], "10");
    let (status, why) = problem(waiting).await;
    assert_eq!(
        (status, why.code.as_str()),
        (StatusCode::SERVICE_UNAVAILABLE, "recovering")
    );
    assert_eq!(
        running.text("/metadata/1.targets.json").await.0,
        StatusCode::OK,
        "what is stored can be read"
    );
    let old = sample("1.0.0", 1);
    assert_eq!(running.text(&old.served_path()).await.1.into_bytes(), old.bytes);
    assert!(running.text("/").await.1.contains("Restored from a backup"));
    let health = running.text("/healthz").await;
    assert_eq!(
        health.0,
        StatusCode::SERVICE_UNAVAILABLE,
        "a monitor is to see it"
    );
    let (_, refused) = running.refused(&site.next_targets(|editor| editor)).await;
    assert_eq!(refused.code, "recovering");
    let (ok, status) = cli(&["status", "--dir", dir.to_str().unwrap()]).await;
    assert!(ok && status.contains("restored from a backup"), "{status}");

    let newest = site.current_targets().unwrap();
    let request = running.recover_request(&newest, receipt.snapshot, receipt.timestamp);
    let answer = recover(&running, Role::Manager, &request).await;
    assert_eq!(
        answer,
        Recovered {
            missing: vec![today.digest()],
            targets: 1
        }
    );
    assert_eq!(
        running.text("/metadata/timestamp.json").await.0,
        StatusCode::SERVICE_UNAVAILABLE
    );

    running.upload_as(Role::Manager, &today.bytes).await;
    let answer = recover(&running, Role::Manager, &request).await;
    assert_eq!(
        answer,
        Recovered {
            missing: Vec::new(),
            targets: 2
        }
    );
    let versions = running.server.repository().visible().versions;
    assert!(
        versions[1] > receipt.timestamp && versions[2] > receipt.snapshot,
        "{versions:?} {receipt:?}"
    );
    assert_eq!(running.text("/metadata/timestamp.json").await.0, StatusCode::OK);
    assert_eq!(running.text(&today.served_path()).await.0, StatusCode::OK);
    running.release(&sample("1.2.0", 3)).await;
    running.server.stop().await;
    let running = site.start_in(&dir, site.options()).await;
    assert_eq!(
        running.text("/metadata/timestamp.json").await.0,
        StatusCode::OK,
        "and it stays recovered"
    );
}

#[tokio::test]
async fn what_is_handed_back_is_verified_like_everything_else() {
    let site = Site::new();
    let Restored { dir, today, receipt } = restored(&site).await;
    let running = site.start_in(&dir, site.options()).await;
    running.upload(&today.bytes).await;
    let newest = site.current_targets().unwrap();
    let send = async |request: protocol::author::Recover, role| {
        problem(running.post(Some(role), "/api/v1/recover", &request).await)
            .await
            .1
    };

    let (foreign, _) = Ed25519Signer::generate().unwrap();
    let forged = site.next_targets_by(&foreign, Some(&newest), |editor| editor);
    let request = running.recover_request(&forged, receipt.snapshot, receipt.timestamp);
    let why = send(request, Role::Manager).await;
    assert_eq!(why.code, "verification");
    assert!(why.message.contains("0 valid signatures"), "{}", why.message);

    let other = site.next_targets_by(&site.author.lock().unwrap().targets_key, None, |editor| editor);
    let why = send(running.recover_request(&other, 1, 1), Role::Manager).await;
    assert_eq!(why.code, "fork", "another first version: {}", why.message);

    // A manager cannot use the version numbers up; the author may say what was.
    let far = u64::try_from(NOW.0).unwrap() + 400 * 86_400;
    let why = send(
        running.recover_request(&newest, far, receipt.timestamp),
        Role::Manager,
    )
    .await;
    assert_eq!(why.code, "claimed-version");
    let answer = recover(
        &running,
        Role::Author,
        &running.recover_request(&newest, far, far),
    )
    .await;
    assert_eq!(answer.targets, 2);
    assert_eq!(running.server.repository().visible().versions[1], far + 1);
}

#[tokio::test]
async fn an_image_that_was_rolled_back_unnoticed_catches_up_when_told() {
    let site = Site::new();
    let running = site.start().await;
    running.release(&sample("1.0.0", 1)).await;
    running.server.stop().await;
    copy(&site.repository().join("state"), &site.dir.path().join("image"));
    let running = site.start().await;
    let today = sample("1.1.0", 2);
    let receipt = running.release(&today).await;
    running.server.stop().await;
    std::fs::remove_dir_all(site.repository().join("state")).unwrap();
    copy(&site.dir.path().join("image"), &site.repository().join("state"));

    let running = site.start().await;
    assert_eq!(running.server.repository().visible().versions[3], 1);
    let newest = site.current_targets().unwrap();
    let request = running.recover_request(&newest, receipt.snapshot, receipt.timestamp);
    assert_eq!(
        recover(&running, Role::Manager, &request).await.missing,
        [today.digest()]
    );
    assert_eq!(
        running.text("/metadata/timestamp.json").await.0,
        StatusCode::OK,
        "it goes on serving"
    );
    running.upload(&today.bytes).await;
    assert_eq!(recover(&running, Role::Manager, &request).await.targets, 2);
    let versions = running.server.repository().visible().versions;
    assert!(versions[1] > receipt.timestamp);
    // Nothing more to do: nothing is signed.
    let request = running.recover_request(&newest, versions[2], versions[1]);
    recover(&running, Role::Manager, &request).await;
    assert_eq!(running.server.repository().visible().versions, versions);
    // Only the timestamp was forgotten: one above the highest is signed.
    let request = running.recover_request(&newest, versions[2], versions[1] + 5);
    recover(&running, Role::Manager, &request).await;
    assert_eq!(running.server.repository().visible().versions[1], versions[1] + 6);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test]
async fn half_a_backup_or_a_full_folder_is_not_restored() {
    let site = Site::new();
    let running = site.start().await;
    running.release(&sample("1.0.0", 1)).await;
    let repository = running.server.repository();
    let backup = site.dir.path().join("backup");
    repository.backup(&backup).unwrap();
    assert!(
        repository.backup(&backup).is_err(),
        "an existing folder is left alone"
    );
    assert!(repository.backup(Path::new("relative")).is_err());
    running.server.stop().await;
    let path = backup.to_str().unwrap();

    let (done, text) = cli(&["restore", path, "--dir", site.repository().to_str().unwrap()]).await;
    assert!(!done && text.contains("move that folder away"), "{text}");

    let new_host = site.dir.path().join("new-host");
    site.copy_folder(&new_host);
    let new_host = new_host.to_str().unwrap();
    let file = backup.join("store").join(sample("1.0.0", 1).digest().to_string());
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, b"rotten").unwrap();
    let (done, text) = cli(&["restore", path, "--dir", new_host]).await;
    assert!(!done && text.contains("the received bytes are"), "{text}");
    std::fs::write(&file, bytes).unwrap();
    let label = std::fs::read(backup.join("backup.json")).unwrap();
    std::fs::remove_file(backup.join("backup.json")).unwrap();
    let (done, text) = cli(&["restore", path, "--dir", new_host]).await;
    assert!(!done && text.contains("not a finished backup"), "{text}");
    let other = String::from_utf8(label.clone())
        .unwrap()
        .replace("plant", "elsewhere");
    std::fs::write(backup.join("backup.json"), other).unwrap();
    let (done, text) = cli(&["restore", path, "--dir", new_host]).await;
    assert!(!done && text.contains("elsewhere"), "{text}");
    assert!(
        !Path::new(new_host).join("state").exists(),
        "nothing half done is left in place"
    );

    std::fs::write(backup.join("backup.json"), label).unwrap();
    let (done, text) = cli(&["restore", path, "--dir", new_host]).await;
    assert!(done, "{text}");
}

#[tokio::test]
async fn a_second_process_on_the_same_folder_is_refused_and_says_who_signs() {
    let site = Site::new();
    let running = site.start().await;
    let error = Server::start(&site.repository(), site.options())
        .await
        .unwrap_err();
    assert!(
        format!("{error:#}").contains("signs with this database"),
        "{error:#}"
    );
    let dir = site.repository();
    let (done, text) = cli(&["run", "--dir", dir.to_str().unwrap()]).await;
    assert!(!done && text.contains(&std::process::id().to_string()), "{text}");
    running.server.stop().await;
    let running = site.start().await;
    let mut client = ControlClient::connect(&dir.join("control/socket"), "repo-server")
        .await
        .unwrap();
    let status: RepositoryStatus = client.call(&RepositoryRequest::Status).await.unwrap();
    assert_eq!(status.address, running.server.address().to_string());
    assert_eq!((status.files, status.recovering), (0, false));
}

#[tokio::test]
async fn wrong_files_in_the_folder_are_named() {
    let site = Site::new();
    let dir = site.repository();
    let start = async || format!("{:#}", Server::start(&dir, site.options()).await.unwrap_err());
    durable::replace(dir.join("repo.toml"), b"name = \"other\"\n", 0o644).unwrap();
    assert!(start().await.contains("repo.toml says name other"));
    durable::replace(dir.join("repo.toml"), b"listen = \"127.0.0.1:0\"\n", 0o644).unwrap();
    let key = std::fs::read(dir.join("online-key.pem")).unwrap();
    durable::replace(dir.join("online-key.pem"), &key, 0o644).unwrap();
    assert!(start().await.contains("chmod 600"));
    durable::replace(dir.join("online-key.pem"), b"not a key", 0o600).unwrap();
    assert!(start().await.contains("online-key.pem"));
    durable::replace(dir.join("online-key.pem"), &key, 0o600).unwrap();
    let root = std::fs::read(dir.join("root.json")).unwrap();
    durable::replace(dir.join("root.json"), &root[..root.len() - 10], 0o644).unwrap();
    assert!(start().await.contains("root.json"));
    std::fs::remove_file(dir.join("root.json")).unwrap();
    assert!(start().await.contains("root.json"));
    durable::replace(dir.join("root.json"), &root, 0o644).unwrap();
    Server::start(&dir, site.options()).await.unwrap().stop().await;
    // The root of another repository is not slipped in later.
    let other = Site::new();
    let stranger = std::fs::read(other.repository().join("root.json")).unwrap();
    durable::replace(dir.join("root.json"), &stranger, 0o644).unwrap();
    assert!(start().await.contains("another repository's root"));
}

/// Starts the real program and waits for its word that it serves.
async fn started(dir: &Path) -> (Child, String) {
    let mut child = program()
        .args(["run", "--log", "json", "--dir"])
        .arg(dir)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let ready = async {
        let mut seen = String::new();
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains("\"ready\"") {
                return;
            }
            seen.push_str(&line);
        }
        panic!("it ended: {seen}");
    };
    tokio::time::timeout(Duration::from_secs(20), ready)
        .await
        .unwrap();
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    let text = std::fs::read(dir.join("state/addresses.json")).unwrap();
    let addresses: serde_json::Value = serde_json::from_slice(&text).unwrap();
    (child, addresses["listen"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn no_accepted_release_is_lost_when_the_program_is_killed_at_any_moment() {
    let site = Site::at_the_real_time();
    let client = site.client(Some(Role::Author));
    let mut accepted: Vec<(Sample, Receipt)> = Vec::new();
    for round in 0..12u64 {
        let (mut child, address) = started(&site.repository()).await;
        let url = |path: &str| format!("https://{address}{path}");
        // Everything that had a receipt is there.
        for (sample, receipt) in &accepted {
            let file = client.get(url(&sample.served_path())).send().await.unwrap();
            assert_eq!(file.bytes().await.unwrap(), sample.bytes, "{receipt:?}");
        }
        let one = sample(&format!("1.{round}.0"), round + 1);
        let (digest, length) = (one.digest(), one.bytes.len());
        let targets = site.next_targets(|editor| editor.add_target(&one.name(), &one.target()));
        let publish = site.publish_request(&targets);
        let work = async {
            let upload = client
                .patch(url(&format!("/api/v1/uploads/{digest}?length={length}")))
                .header("Upload-Offset", 0)
                .body(one.bytes.clone())
                .send()
                .await?;
            if !upload.status().is_success() {
                return Ok(None);
            }
            let answer = client.post(url("/api/v1/publish")).json(&publish).send().await?;
            let ok = answer.status() == StatusCode::OK;
            let text = answer.text().await?;
            assert!(ok, "{text}");
            reqwest::Result::Ok(serde_json::from_str::<Receipt>(&text).ok())
        };
        // The last round is left in peace; the others are killed a little later each.
        let outcome = if round == 11 {
            work.await.unwrap()
        } else {
            let kill = tokio::time::sleep(Duration::from_millis(round * 4));
            tokio::pin!(work);
            tokio::select! {
                done = &mut work => done.ok().flatten(),
                () = kill => {
                    child.start_kill().unwrap();
                    work.await.ok().flatten()
                }
            }
        };
        child.start_kill().unwrap();
        child.wait().await.unwrap();
        if let Some(receipt) = outcome {
            site.keep(targets);
            accepted.push((one, receipt));
        } else {
            // It may have been stored all the same: the author looks, as `admin-gui` does.
            let (mut child, address) = started(&site.repository()).await;
            let version = publish.expects + 1;
            let seen = client.get(format!("https://{address}/metadata/{version}.targets.json"));
            if seen.send().await.unwrap().status() == StatusCode::OK {
                site.keep(targets);
            }
            child.start_kill().unwrap();
            child.wait().await.unwrap();
        }
    }
    assert!(!accepted.is_empty());
}
