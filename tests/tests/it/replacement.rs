//! The gateway is stolen, drowned, struck by lightning: a new one made from a backup serves the whole site.

use std::os::unix::fs::PermissionsExt as _;

use e2e::packages::{app, put};
use e2e::site::PASSWORD;
use e2e::{Agent, Site, SiteOptions, eventually};
use protocol::Outcome;
use protocol::control::{AddedDevice, DeviceRow};

const SECRET: &str = "the gateway's own backup secret";

#[tokio::test]
async fn a_gateway_made_from_a_backup_serves_every_device_untouched() {
    let work = tempfile::tempdir().unwrap();
    let mut site = Site::running(SiteOptions::default()).await;
    let (north, south) = (site.device("north").await, site.device("south").await);
    let first = site.release(&app(work.path(), "1.0.0")).await;
    for agent in [&north, &south] {
        assert_eq!(
            agent.watch().outcome(&agent.name, first.update).await.0,
            Outcome::Committed
        );
    }
    let open_code = site.add_device("west").await;

    let backup = work.path().join("gateway.backup");
    let path = backup.display().to_string();
    let line = format!("{SECRET}\n");
    let _ = site
        .manager(["backup", &path, "--passphrase-stdin"], &line)
        .await
        .ok();
    assert_eq!(
        std::fs::metadata(&backup).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let bytes = std::fs::read(&backup).unwrap();
    for word in ["BEGIN PRIVATE KEY", "north", PASSWORD] {
        assert!(
            !bytes.windows(word.len()).any(|part| part == word.as_bytes()),
            "{word:?} can be read in the backup"
        );
    }

    // Life goes on after the backup: a device is deleted, a release comes.
    let _ = site
        .manager(
            ["delete-device", "south", "--password-stdin"],
            &format!("{PASSWORD}\n"),
        )
        .await
        .ok();
    let second = site.release(&app(work.path(), "2.0.0")).await;
    assert_eq!(
        north.watch().outcome("north", second.update).await.0,
        Outcome::Committed
    );
    site.kill_manager().await;
    std::fs::remove_dir_all(site.path("manager")).unwrap();

    let wrong = site
        .manager(
            ["restore", &path, "--passphrase-stdin", "--confirm-devices", "all"],
            "not it at all\n",
        )
        .await;
    assert!(
        wrong.refused().contains("nothing was restored"),
        "{}",
        wrong.stderr
    );
    assert!(!site.path("manager/manager.toml").exists());
    let unasked = site
        .manager(["restore", &path, "--passphrase-stdin"], &line)
        .await;
    assert!(
        unasked.refused().contains("--confirm-devices"),
        "{}",
        unasked.stderr
    );
    // The operator confirms who is still there: deleted devices do not come back.
    let list = work.path().join("devices.txt");
    put(&list, b"north\nwest\n", 0o644);
    let confirmed = list.display().to_string();
    let args = [
        "restore",
        &path,
        "--passphrase-stdin",
        "--confirm-devices",
        &confirmed,
    ];
    let _ = site.manager(args, &line).await.ok();
    site.start_manager().await;

    eventually(
        "north is back by itself",
        || site.device_row("north"),
        |row| row.connected,
    )
    .await;
    assert_eq!(north.shows("app").await, "2.0.0 running", "nothing goes back");
    let third = site.release(&app(work.path(), "3.0.0")).await;
    assert_eq!(
        north.watch().outcome("north", third.update).await.0,
        Outcome::Committed
    );
    let rows: Vec<DeviceRow> = site.devices().await;
    let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names, ["north", "west"]);
    eventually(
        "south stays outside",
        || south.status(),
        |status| !status.connected && status.connection.contains("not on the list"),
    )
    .await;

    // Open codes are void; a new one lets the device in.
    let west = Agent::new(site.path("devices/west"), "west");
    let root = site.path("author/root.json");
    let void = west.enroll(&open_code, &root).await;
    assert!(!void.refused().is_empty());
    let added: AddedDevice = site
        .manager(
            ["new-code", "west", "--password-stdin", "--json"],
            &format!("{PASSWORD}\n"),
        )
        .await
        .ok()
        .json();
    let mut west = west;
    let _ = west.enroll(added.code.reveal(), &root).await.ok();
    west.start().await;
    assert_eq!(
        west.watch().outcome("west", third.update).await.0,
        Outcome::Committed
    );
}
