//! A site: certificates, the author's keys, a gateway's folder, a gateway that runs in it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use certs::{SiteAuthority, life};
use control::Client;
use manager::config::Addresses;
use mtls::{Clock as _, Credentials, SiteCa, SystemClock};
use protocol::control::{AddedDevice, CheckResult, DeviceRow, ManagerEvent, ManagerRequest, ManagerStatus};
use protocol::{Name, Role, Secret};
use release::{Form, Health, How, Kind, Release, Run, Withdrawn};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tuf::editor::{RootEditor, SnapshotEditor, TargetsEditor, TimestampEditor};
use tuf::schema::{Hashes, TargetFile};
use tuf::{Digest, Ed25519Signer, Signer as _, UnixTime};

use crate::repository::Repository;

pub(crate) const PASSWORD: &str = "correct horse";
const DAY: i64 = 24 * 3600;

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub(crate) fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

pub(crate) fn now() -> UnixTime {
    SystemClock.now().now
}

pub(crate) struct Site {
    pub(crate) dir: TempDir,
    pub(crate) authority: SiteAuthority,
    pub(crate) repositories: Vec<Repository>,
    key: Ed25519Signer,
    root: Vec<u8>,
    version: u64,
    releases: Vec<(Release, Vec<u8>)>,
}

impl Site {
    /// A site with `count` repositories, its gateway's folder written, nothing published.
    pub(crate) async fn new(count: usize) -> Self {
        let dir = TempDir::new().unwrap();
        let authority = SiteAuthority::create(&name("plant"), now()).unwrap();
        let (key, _) = Ed25519Signer::generate().unwrap();
        let root = RootEditor::new(now().plus_seconds(365 * DAY))
            .add_key(&tuf::Role::Root, key.public_key())
            .add_key(&tuf::Role::Targets, key.public_key())
            .add_key(&tuf::Role::Snapshot, key.public_key())
            .add_key(&tuf::Role::Timestamp, key.public_key())
            .build()
            .unwrap()
            .sign(&key)
            .unwrap()
            .bytes();
        let mut site = Self {
            dir,
            authority,
            repositories: Vec::new(),
            key,
            root,
            version: 0,
            releases: Vec::new(),
        };
        for number in 0..count {
            let issued = site
                .authority
                .issue(
                    Role::Repository,
                    &name(&format!("store{number}")),
                    &[],
                    life::LEAF,
                    now(),
                )
                .unwrap();
            let credentials = Credentials::from_pem(&issued.chain, &issued.key).unwrap();
            site.repositories
                .push(Repository::start(&credentials, &site.ca()).await);
        }
        site.write_folder();
        site
    }

    pub(crate) fn ca(&self) -> SiteCa {
        SiteCa::from_pem(self.authority.certificate_pem()).unwrap()
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.dir.path().join("manager")
    }

    fn write_folder(&self) {
        let dir = self.folder();
        let device = self.authority.device_authority(now()).unwrap();
        durable::create_dir(&dir, 0o700).unwrap();
        let write = |file: &str, bytes: &[u8]| durable::replace(dir.join(file), bytes, 0o600).unwrap();
        write("ca.pem", self.authority.certificate_pem().as_bytes());
        self.certify(life::LEAF);
        write("device-ca.pem", device.certificate_pem().as_bytes());
        write("device-ca-key.pem", device.key_pem().as_bytes());
        write("root.json", &self.root);
        let urls: Vec<String> = self
            .repositories
            .iter()
            .map(|one| format!("'https://{}'", one.address))
            .collect();
        // The timer never comes by itself: tests check when they want to.
        let config = format!(
            "site = 'plant'\nname = 'gateway'\nrepositories = [{}]\nlisten_devices = '127.0.0.1:0'\n\
             listen_enroll = '127.0.0.1:0'\nmetrics = '127.0.0.1:0'\npoll_seconds = 86400\nevents = false\n",
            urls.join(", ")
        );
        write("manager.toml", config.as_bytes());
    }

    /// Adds a line to the gateway's settings.
    pub(crate) fn set(&self, line: &str) {
        let file = self.folder().join("manager.toml");
        let config = format!("{}{line}\n", std::fs::read_to_string(&file).unwrap());
        durable::replace(file, config.as_bytes(), 0o600).unwrap();
    }

    /// Gives the gateway a certificate that lives so many seconds.
    pub(crate) fn certify(&self, seconds: i64) {
        let issued = self
            .authority
            .issue(Role::Manager, &name("gateway"), &[], seconds, now())
            .unwrap();
        let write =
            |file: &str, bytes: &[u8]| durable::replace(self.folder().join(file), bytes, 0o600).unwrap();
        write("tls.pem", issued.chain.as_bytes());
        write("tls-key.pem", issued.key.as_bytes());
    }

    /// Adds a release and puts everything signed anew on every repository's shelf.
    pub(crate) fn publish(&mut self, version: &str) -> Digest {
        self.publish_lines(version, 20_000)
    }

    /// The same, with a file of so many lines.
    pub(crate) fn publish_lines(&mut self, version: &str, lines: usize) -> Digest {
        let counter = self.releases.len() as u64 + 1;
        let bytes = format!("#!/bin/sh\necho {version}\n").repeat(lines).into_bytes();
        let digest = Digest::of(&bytes);
        self.releases.push((release(version, counter), bytes));
        self.sign();
        digest
    }

    pub(crate) fn withdraw(&mut self) {
        if let Some((release, _)) = self.releases.last_mut() {
            release.withdrawn = Some(Withdrawn {
                at: now(),
                reason: "it bites".into(),
            });
        }
        self.sign();
    }

    /// Path of a release's file below `targets/`.
    pub(crate) fn path(&self, version: &str) -> String {
        let wanted = version.parse().unwrap();
        let (release, bytes) = self.releases.iter().find(|(r, _)| r.version == wanted).unwrap();
        let path = release.target_path().unwrap();
        tuf::target_path(path.as_str(), &Digest::of(bytes))
    }

    pub(crate) fn bytes(&self, version: &str) -> &[u8] {
        let wanted = version.parse().unwrap();
        &self.releases.iter().find(|(r, _)| r.version == wanted).unwrap().1
    }

    pub(crate) fn sign(&mut self) {
        self.version += 1;
        let (version, until) = (self.version, now().plus_seconds(14 * DAY));
        let mut targets = TargetsEditor::new(until).version(version);
        for (release, bytes) in &self.releases {
            let target = TargetFile {
                length: bytes.len() as u64,
                hashes: Hashes::sha256(Digest::of(bytes)),
                custom: Some(release.to_custom().unwrap()),
            };
            targets = targets.add_target(release.target_path().unwrap().as_str(), &target);
        }
        let targets = targets.build().unwrap().sign(&self.key).unwrap().bytes();
        let snapshot = SnapshotEditor::new(version, until)
            .role(&tuf::Role::Targets, version, &targets)
            .build()
            .unwrap()
            .sign(&self.key)
            .unwrap()
            .bytes();
        let timestamp = TimestampEditor::new(version, until, version, &snapshot)
            .signed_at(now())
            .build()
            .unwrap()
            .sign(&self.key)
            .unwrap()
            .bytes();
        for repository in &self.repositories {
            let mut shelf = repository.shelf.lock().unwrap();
            shelf.files.insert("1.root.json".into(), self.root.clone());
            shelf
                .files
                .insert(format!("{version}.targets.json"), targets.clone());
            shelf
                .files
                .insert(format!("{version}.snapshot.json"), snapshot.clone());
            shelf.files.insert("timestamp.json".into(), timestamp.clone());
            for (release, bytes) in &self.releases {
                let path = release.target_path().unwrap();
                let path = tuf::target_path(path.as_str(), &Digest::of(bytes));
                shelf.files.entry(path).or_insert_with(|| bytes.clone());
            }
        }
    }

    pub(crate) async fn start(&self) -> Gateway {
        Gateway::start(&self.folder()).await
    }

    /// Started, and nothing asked of it yet.
    pub(crate) async fn start_unasked(&self) -> Gateway {
        Gateway::open(&self.folder()).await
    }
}

fn release(version: &str, counter: u64) -> Release {
    let file_name = format!("Demo_{version}.sh");
    Release {
        format: Release::FORMAT,
        update_id: format!("{counter:032x}"),
        component: "Demo".parse().unwrap(),
        version: version.parse().unwrap(),
        counter,
        kind: Kind::App,
        form: Form::Single,
        run: Some(Run::plain(How::Exec, file_name.parse().unwrap())),
        file_name,
        arch: None,
        hardware: Vec::new(),
        requires: release::Requires::default(),
        state: None,
        live: None,
        nature: None,
        policy: release::Policy::default(),
        health: Health::Alive { seconds: 1 },
        start_seconds: 30,
        probation_seconds: 5,
        released: now().plus_seconds(i64::try_from(counter).unwrap()),
        vendor: None,
        developer: None,
        location: None,
        license: None,
        description: None,
        withdrawn: None,
    }
}

/// A gateway that runs.
pub(crate) struct Gateway {
    pub(crate) dir: PathBuf,
    pub(crate) addresses: Addresses,
    shutdown: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Gateway {
    pub(crate) async fn start(dir: &Path) -> Self {
        let gateway = Self::open(dir).await;
        // Whatever the first check finds, it is over now.
        gateway.check().await;
        gateway
    }

    async fn open(dir: &Path) -> Self {
        let shutdown = CancellationToken::new();
        let (at, until) = (dir.to_owned(), shutdown.clone());
        let file = dir.join("state/addresses.json");
        let _ = std::fs::remove_file(&file);
        let task = tokio::spawn(async move { manager::service::run(&at, until).await });
        let addresses = tokio::time::timeout(Duration::from_secs(60), async {
            loop {
                if let Ok(bytes) = std::fs::read(&file) {
                    break serde_json::from_slice(&bytes).unwrap();
                }
                assert!(!task.is_finished(), "the gateway ended");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
        .expect("the gateway did not start");
        Self {
            dir: dir.to_owned(),
            addresses,
            shutdown,
            task,
        }
    }

    /// A check that comes by the timer and not by hand, over when this returns.
    pub(crate) async fn by_timer(&self, site: &Site) {
        let asked = || site.repositories[0].asked("timestamp.json");
        // The second one begins when the first one is over.
        for _ in 0..2 {
            let before = asked();
            self.ask::<()>(&ManagerRequest::Stop).await.unwrap();
            self.ask::<()>(&ManagerRequest::Start).await.unwrap();
            self.until("it has checked", |_| asked() > before).await;
        }
    }

    pub(crate) async fn stop(mut self) {
        self.shutdown.cancel();
        (&mut self.task).await.unwrap().unwrap();
    }

    pub(crate) async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        request: &ManagerRequest,
    ) -> Result<T, String> {
        let socket = self.dir.join("control/socket");
        let mut client = Client::connect(&socket, "the manager").await.unwrap();
        client.call(request).await.map_err(|error| error.to_string())
    }

    pub(crate) async fn check(&self) -> CheckResult {
        self.ask(&ManagerRequest::CheckNow).await.unwrap()
    }

    pub(crate) async fn status(&self) -> ManagerStatus {
        self.ask(&ManagerRequest::Status).await.unwrap()
    }

    pub(crate) async fn row(&self, device: &str) -> Option<DeviceRow> {
        let rows: Vec<DeviceRow> = self.ask(&ManagerRequest::Devices).await.unwrap();
        rows.into_iter().find(|row| row.name.as_str() == device)
    }

    pub(crate) async fn add(&self, device: &str) -> AddedDevice {
        let request = ManagerRequest::AddDevice {
            name: name(device),
            password: secret(PASSWORD),
        };
        self.ask(&request).await.unwrap()
    }

    pub(crate) async fn delete(&self, device: &str) {
        let request = ManagerRequest::DeleteDevice {
            name: name(device),
            password: Some(secret(PASSWORD)),
        };
        self.ask::<()>(&request).await.unwrap();
    }

    /// Waits until it has said this to whoever watches.
    pub(crate) async fn told(&self, words: &str) {
        let socket = self.dir.join("control/socket");
        let mut client = Client::connect(&socket, "the manager").await.unwrap();
        client.send(&ManagerRequest::Watch).await.unwrap();
        let told = async {
            loop {
                let event: ManagerEvent = client.next().await.unwrap().expect("it ended");
                if matches!(event, ManagerEvent::Message(message) if message.text.contains(words)) {
                    return;
                }
            }
        };
        let told = tokio::time::timeout(Duration::from_secs(30), told).await;
        told.unwrap_or_else(|_| panic!("it never said: {words}"));
    }

    /// Waits until the status is as wanted.
    pub(crate) async fn until(&self, what: &str, wanted: impl Fn(&ManagerStatus) -> bool) -> ManagerStatus {
        for _ in 0..500 {
            let status = self.status().await;
            if wanted(&status) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("it did not come to pass: {what}: {:?}", self.status().await);
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}
