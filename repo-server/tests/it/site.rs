//! A site: certificates, the author's keys, a running repository and its clients.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use certs::{Issued, SiteAuthority, life};
use mtls::{ClientConfig, Clock, Credentials, HTTP_1_1, HTTP_2, SiteCa};
use protocol::author::{Publish, Receipt, Recover, RoleFile, UploadState};
use protocol::device::Problem;
use protocol::{Name, Role, UpdateId};
use release::{Form, Health, How, Kind, Release, Run, Withdrawn};
use repo_server::{Limits, Options, Server};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use tempfile::TempDir;
use tuf::clock::Believed;
use tuf::editor::{RootEditor, TargetsEditor};
use tuf::schema::{Hashes, TargetFile};
use tuf::{Digest, Ed25519Signer, Signer, UnixTime};

/// 2027-01-15T08:00:00Z.
pub(crate) const NOW: UnixTime = UnixTime(1_800_000_000);
pub(crate) const DAY: i64 = 24 * 3600;

#[derive(Debug)]
pub(crate) struct Manual(AtomicI64);

impl Clock for Manual {
    fn now(&self) -> Believed {
        Believed {
            now: UnixTime(self.0.load(Ordering::SeqCst)),
            known: true,
        }
    }
}

impl Manual {
    pub(crate) fn at(now: UnixTime) -> Self {
        Self(AtomicI64::new(now.0))
    }

    pub(crate) fn forward(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// The author's desk: keys, the newest root and targets.
pub(crate) struct Author {
    pub(crate) root_key: Ed25519Signer,
    pub(crate) targets_key: Ed25519Signer,
    pub(crate) root: Vec<u8>,
    pub(crate) targets: Option<Vec<u8>>,
}

pub(crate) struct Site {
    pub(crate) dir: TempDir,
    pub(crate) authority: SiteAuthority,
    pub(crate) author: Mutex<Author>,
    pub(crate) online_key: Ed25519Signer,
    pub(crate) clock: Arc<Manual>,
    issued: Mutex<Vec<(Role, String, Issued)>>,
    began: UnixTime,
}

fn pem(pkcs8: &[u8]) -> String {
    use base64::Engine as _;
    let body = base64::prelude::BASE64_STANDARD.encode(pkcs8);
    format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n")
}

impl Site {
    pub(crate) fn new() -> Self {
        Self::at(NOW)
    }

    /// For the real program, which has the real clock.
    pub(crate) fn at_the_real_time() -> Self {
        Self::at(mtls::SystemClock.now().now)
    }

    fn at(began: UnixTime) -> Self {
        let dir = TempDir::new().unwrap();
        let authority = SiteAuthority::create(&name("plant"), began).unwrap();
        let (root_key, _) = Ed25519Signer::generate().unwrap();
        let (targets_key, _) = Ed25519Signer::generate().unwrap();
        let (online_key, pkcs8) = Ed25519Signer::generate().unwrap();
        let root = RootEditor::new(began.plus_seconds(365 * DAY))
            .add_key(&tuf::Role::Root, root_key.public_key())
            .add_key(&tuf::Role::Targets, targets_key.public_key())
            .add_key(&tuf::Role::Snapshot, online_key.public_key())
            .add_key(&tuf::Role::Timestamp, online_key.public_key())
            .build()
            .unwrap()
            .sign(&root_key)
            .unwrap()
            .bytes();
        let site = Self {
            dir,
            authority,
            author: Mutex::new(Author {
                root_key,
                targets_key,
                root,
                targets: None,
            }),
            online_key,
            clock: Arc::new(Manual::at(began)),
            issued: Mutex::default(),
            began,
        };
        site.write_folder(&site.repository(), &pkcs8);
        site
    }

    /// The repository's folder.
    pub(crate) fn repository(&self) -> PathBuf {
        self.dir.path().join("repository")
    }

    /// A folder as the author hands it over.
    pub(crate) fn write_folder(&self, dir: &Path, online_pkcs8: &[u8]) {
        let issued = self
            .authority
            .issue(Role::Repository, &name("store"), &[], life::LEAF, self.began)
            .unwrap();
        durable::create_dir(dir, 0o700).unwrap();
        let write = |file: &str, bytes: &[u8], mode| durable::replace(dir.join(file), bytes, mode).unwrap();
        write("ca.pem", self.authority.certificate_pem().as_bytes(), 0o644);
        write("tls.pem", issued.chain.as_bytes(), 0o644);
        write("tls-key.pem", issued.key.as_bytes(), 0o600);
        write("online-key.pem", pem(online_pkcs8).as_bytes(), 0o600);
        write("root.json", &self.author.lock().unwrap().root, 0o644);
        write(
            "repo.toml",
            b"site = \"plant\"\nname = \"store\"\nlisten = \"127.0.0.1:0\"\n",
            0o644,
        );
    }

    /// The same files as of another host, without the state: what is restored into.
    pub(crate) fn copy_folder(&self, to: &Path) {
        durable::create_dir(to, 0o700).unwrap();
        for file in [
            "ca.pem",
            "tls.pem",
            "tls-key.pem",
            "online-key.pem",
            "root.json",
            "repo.toml",
        ] {
            let bytes = std::fs::read(self.repository().join(file)).unwrap();
            durable::replace(to.join(file), bytes, 0o600).unwrap();
        }
    }

    pub(crate) fn options(&self) -> Options {
        Options {
            clock: self.clock.clone(),
            limits: Limits::default(),
        }
    }

    pub(crate) async fn start(&self) -> Running<'_> {
        self.start_in(&self.repository(), self.options()).await
    }

    pub(crate) async fn start_in(&self, dir: &Path, options: Options) -> Running<'_> {
        Running {
            server: Server::start(dir, options).await.unwrap(),
            site: self,
        }
    }

    pub(crate) fn credentials(&self, role: Role, who: &str) -> Credentials {
        let mut issued = self.issued.lock().unwrap();
        if !issued.iter().any(|(r, n, _)| *r == role && n == who) {
            let new = self
                .authority
                .issue(role, &name(who), &[], life::LEAF, self.began)
                .unwrap();
            issued.push((role, who.to_owned(), new));
        }
        let (_, _, found) = issued.iter().find(|(r, n, _)| *r == role && n == who).unwrap();
        Credentials::from_pem(&found.chain, &found.key).unwrap()
    }

    pub(crate) fn tls(&self, credentials: Option<&Credentials>, alpn: &[&str]) -> ClientConfig {
        let ca = SiteCa::from_pem(self.authority.certificate_pem()).unwrap();
        let clock: Arc<dyn Clock> = self.clock.clone();
        mtls::client_config(credentials, &ca, &name("plant"), Role::Repository, alpn, clock).unwrap()
    }

    pub(crate) fn client(&self, role: Option<Role>) -> Client {
        let credentials = role.map(|role| self.credentials(role, "one"));
        Client::builder()
            .tls_backend_preconfigured(self.tls(credentials.as_ref(), &[HTTP_1_1]))
            .http1_only()
            .no_proxy()
            .build()
            .unwrap()
    }

    /// A client that speaks HTTP/2.
    pub(crate) fn client_2(&self, role: Option<Role>) -> Client {
        let credentials = role.map(|role| self.credentials(role, "one"));
        Client::builder()
            .tls_backend_preconfigured(self.tls(credentials.as_ref(), &[HTTP_2]))
            .no_proxy()
            .build()
            .unwrap()
    }

    /// The next targets file, signed by the author, after `change`; not remembered.
    pub(crate) fn next_targets(&self, change: impl FnOnce(TargetsEditor) -> TargetsEditor) -> Vec<u8> {
        let author = self.author.lock().unwrap();
        self.next_targets_by(&author.targets_key, author.targets.as_deref(), change)
    }

    pub(crate) fn next_targets_by(
        &self,
        key: &Ed25519Signer,
        before: Option<&[u8]>,
        change: impl FnOnce(TargetsEditor) -> TargetsEditor,
    ) -> Vec<u8> {
        let until = self.clock.now().now.plus_seconds(180 * DAY);
        let editor = match before {
            Some(bytes) => TargetsEditor::from_existing(bytes).unwrap().expires(until),
            None => TargetsEditor::new(until),
        };
        change(editor).build().unwrap().sign(key).unwrap().bytes()
    }

    /// Remembers a targets file as the newest on the author's desk.
    pub(crate) fn keep(&self, targets: Vec<u8>) {
        self.author.lock().unwrap().targets = Some(targets);
    }

    pub(crate) fn publish_request(&self, targets: &[u8]) -> Publish {
        let version = version_of(targets);
        Publish {
            update: Some(UpdateId::from_random([7; 16])),
            expects: version - 1,
            roots: Vec::new(),
            targets: vec![role_file(&format!("{version}.targets.json"), targets)],
            events: Vec::new(),
        }
    }

    pub(crate) fn roots(&self) -> Vec<RoleFile> {
        let body = String::from_utf8(self.author.lock().unwrap().root.clone()).unwrap();
        vec![RoleFile {
            name: "1.root.json".into(),
            body,
        }]
    }

    pub(crate) fn current_targets(&self) -> Option<Vec<u8>> {
        self.author.lock().unwrap().targets.clone()
    }
}

/// A repository that runs.
pub(crate) struct Running<'a> {
    pub(crate) server: Server,
    pub(crate) site: &'a Site,
}

/// One release's description and bytes.
#[derive(Clone)]
pub(crate) struct Sample {
    pub(crate) release: Release,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) fn sample(version: &str, counter: u64) -> Sample {
    let file_name = format!("Demo_{version}.sh");
    let run = Run::plain(How::Exec, file_name.parse().unwrap());
    let release = Release {
        format: Release::FORMAT,
        update_id: format!("{counter:032x}"),
        component: "Demo".parse().unwrap(),
        version: version.parse().unwrap(),
        counter,
        kind: Kind::App,
        form: Form::Single,
        file_name,
        arch: None,
        hardware: Vec::new(),
        requires: release::Requires::default(),
        state: None,
        live: None,
        nature: None,
        policy: release::Policy::default(),
        run: Some(run),
        health: Health::Alive { seconds: 1 },
        start_seconds: 30,
        probation_seconds: 5,
        released: NOW,
        vendor: None,
        developer: None,
        location: None,
        license: None,
        description: None,
        withdrawn: None,
    };
    let bytes = format!("#!/bin/sh\necho {version}\n").repeat(100).into_bytes();
    Sample { release, bytes }
}

impl Sample {
    pub(crate) fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }

    pub(crate) fn name(&self) -> String {
        self.release.target_path().unwrap().as_str().to_owned()
    }

    pub(crate) fn target(&self) -> TargetFile {
        TargetFile {
            length: self.bytes.len() as u64,
            hashes: Hashes::sha256(self.digest()),
            custom: Some(self.release.to_custom().unwrap()),
        }
    }

    pub(crate) fn withdrawn(mut self) -> Self {
        self.release.withdrawn = Some(Withdrawn {
            at: NOW,
            reason: "it <b>bites</b>".into(),
        });
        self
    }

    pub(crate) fn served_path(&self) -> String {
        format!("/targets/{}", tuf::target_path(&self.name(), &self.digest()))
    }
}

pub(crate) fn role_file(name: &str, bytes: &[u8]) -> RoleFile {
    RoleFile {
        name: name.to_owned(),
        body: String::from_utf8(bytes.to_vec()).unwrap(),
    }
}

pub(crate) fn version_of(targets: &[u8]) -> u64 {
    tuf::unverified_version(targets).unwrap()
}

impl Running<'_> {
    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.server.address())
    }

    pub(crate) fn get(&self, role: Option<Role>, path: &str) -> RequestBuilder {
        self.site.client(role).get(self.url(path))
    }

    pub(crate) async fn text(&self, path: &str) -> (StatusCode, String) {
        let response = self.get(None, path).send().await.unwrap();
        (response.status(), response.text().await.unwrap())
    }

    pub(crate) async fn piece(&self, digest: &Digest, length: u64, offset: u64, bytes: Vec<u8>) -> Response {
        self.piece_as(Role::Author, digest, length, offset, bytes).await
    }

    pub(crate) async fn piece_as(
        &self,
        role: Role,
        digest: &Digest,
        length: u64,
        offset: u64,
        bytes: Vec<u8>,
    ) -> Response {
        let url = self.url(&format!("/api/v1/uploads/{digest}?length={length}"));
        let request = self
            .site
            .client(Some(role))
            .patch(url)
            .header("Upload-Offset", offset);
        request.body(bytes).send().await.unwrap()
    }

    pub(crate) async fn upload(&self, bytes: &[u8]) -> UploadState {
        self.upload_as(Role::Author, bytes).await
    }

    pub(crate) async fn upload_as(&self, role: Role, bytes: &[u8]) -> UploadState {
        let (digest, length) = (Digest::of(bytes), bytes.len() as u64);
        let response = self.piece_as(role, &digest, length, 0, bytes.to_vec()).await;
        assert_eq!(response.status(), StatusCode::OK);
        response.json().await.unwrap()
    }

    pub(crate) async fn post<T: serde::Serialize>(
        &self,
        role: Option<Role>,
        path: &str,
        body: &T,
    ) -> Response {
        self.site
            .client(role)
            .post(self.url(path))
            .json(body)
            .send()
            .await
            .unwrap()
    }

    pub(crate) fn request(&self, targets: &[u8]) -> Publish {
        self.site.publish_request(targets)
    }

    /// Publishes signed targets and expects a receipt.
    pub(crate) async fn publish(&self, targets: Vec<u8>) -> Receipt {
        let response = self
            .post(Some(Role::Author), "/api/v1/publish", &self.request(&targets))
            .await;
        let (status, text) = (response.status(), response.text().await.unwrap());
        assert_eq!(status, StatusCode::OK, "{text}");
        self.site.keep(targets);
        serde_json::from_str(&text).unwrap()
    }

    /// Publishes signed targets and expects a refusal.
    pub(crate) async fn refused(&self, targets: &[u8]) -> (StatusCode, Problem) {
        problem(
            self.post(Some(Role::Author), "/api/v1/publish", &self.request(targets))
                .await,
        )
        .await
    }

    /// Uploads and publishes a sample.
    pub(crate) async fn release(&self, sample: &Sample) -> Receipt {
        self.upload(&sample.bytes).await;
        let targets = self
            .site
            .next_targets(|editor| editor.add_target(&sample.name(), &sample.target()));
        self.publish(targets).await
    }

    /// What a client that has seen all of the author's files hands back.
    pub(crate) fn recover_request(&self, targets: &[u8], snapshot: u64, timestamp: u64) -> Recover {
        let version = version_of(targets);
        Recover {
            roots: self.site.roots(),
            targets: vec![role_file(&format!("{version}.targets.json"), targets)],
            snapshot,
            timestamp,
        }
    }
}

pub(crate) async fn problem(response: Response) -> (StatusCode, Problem) {
    let status = response.status();
    let text = response.text().await.unwrap();
    let problem = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{status}: {text}"));
    (status, problem)
}
