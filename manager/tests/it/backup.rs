//! A replacement gateway, from a backup or after a restart.

use std::os::unix::fs::PermissionsExt as _;

use manager::restore::Restore;
use protocol::control::ManagerRequest;
use reqwest::StatusCode;

use crate::device::{Device, code, enroll};
use crate::site::{Gateway, PASSWORD, Site, secret};

const PASSPHRASE: &str = "correct horse battery staple";

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_gateway_remembers_list_and_twins() {
    let mut site = Site::new(1).await;
    site.publish("1.0");
    let gateway = site.start().await;
    let pump = Device::join(&site, &gateway, "pump").await;
    pump.hello(&gateway).await;
    let before = gateway.row("pump").await.unwrap();
    gateway.stop().await;
    let gateway = site.start().await;
    let after = gateway.row("pump").await.unwrap();
    assert!(after.enrolled && before.last_seen.is_some() && after.last_seen.is_some());
    assert_eq!(pump.hello(&gateway).await.orders.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_from_a_backup_serves_the_same_devices() {
    let mut site = Site::new(1).await;
    site.publish("1.0");
    let gateway = site.start().await;
    let pump = Device::join(&site, &gateway, "pump").await;
    let lost = Device::join(&site, &gateway, "lost").await;
    let open = code(&gateway.add("open").await);
    let file = site.dir.path().join("gateway.backup");
    let request = ManagerRequest::Backup {
        path: file.clone(),
        passphrase: secret(PASSPHRASE),
    };
    gateway.ask::<()>(&request).await.unwrap();
    assert_eq!(
        std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    gateway.delete("lost").await;
    gateway.stop().await;

    let dir = site.dir.path().join("replacement");
    let error = Restore::open(&file, &dir, &secret("correct horse battery stable")).unwrap_err();
    assert!(error.to_string().contains("passphrase is wrong"), "{error}");
    assert!(!dir.exists());
    let error = Restore::open(&file, &site.folder(), &secret(PASSPHRASE)).unwrap_err();
    assert!(error.to_string().contains("not empty"), "{error}");

    let restore = Restore::open(&file, &dir, &secret(PASSPHRASE)).unwrap();
    let mut keep = restore.devices.clone();
    assert_eq!(keep.len(), 3);
    keep.remove(&"lost".parse().unwrap());
    let gone = restore.finish(&keep).unwrap();
    assert_eq!(gone, ["lost".parse().unwrap()]);

    let gateway = Gateway::start(&dir).await;
    assert_eq!(pump.hello(&gateway).await.orders.len(), 1);
    let response = lost.get(&gateway, "/v1/metadata/timestamp.json").await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    let key = certs::new_key().unwrap();
    let (status, _) = enroll(&gateway, &open, PASSWORD, &key).await.unwrap_err();
    assert_eq!(status, StatusCode::FORBIDDEN);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_over_a_file_of_the_gateway_is_refused_and_over_an_older_backup_is_made() {
    let site = Site::new(1).await;
    let gateway = site.start().await;
    let backup = |path: std::path::PathBuf| ManagerRequest::Backup {
        path,
        passphrase: secret(PASSPHRASE),
    };
    let ca = site.folder().join("ca.pem");
    let before = std::fs::read(&ca).unwrap();
    let error = gateway.ask::<()>(&backup(ca.clone())).await.unwrap_err();
    assert!(error.contains("is no manager's backup"), "{error}");
    assert_eq!(std::fs::read(&ca).unwrap(), before);
    let file = site.dir.path().join("gateway.backup");
    gateway.ask::<()>(&backup(file.clone())).await.unwrap();
    let first = std::fs::read(&file).unwrap();
    gateway.ask::<()>(&backup(file.clone())).await.unwrap();
    assert_ne!(std::fs::read(&file).unwrap(), first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_the_backup_does_not_know_restores_nothing() {
    let site = Site::new(1).await;
    let gateway = site.start().await;
    let file = site.dir.path().join("gateway.backup");
    let request = ManagerRequest::Backup {
        path: file.clone(),
        passphrase: secret(PASSPHRASE),
    };
    gateway.ask::<()>(&request).await.unwrap();
    let dir = site.dir.path().join("replacement");
    let restore = Restore::open(&file, &dir, &secret(PASSPHRASE)).unwrap();
    let error = restore.finish(&["pmup".parse().unwrap()].into()).unwrap_err();
    assert!(error.to_string().contains("pmup"), "{error}");
    assert!(!dir.exists() && !site.dir.path().join(".replacement.restoring").exists());
}
