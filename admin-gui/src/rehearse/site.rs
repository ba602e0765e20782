//! A site for one rehearsal: certificates, a root of trust and a gateway on loopback, made for it and thrown away with it.
//! No key of the author's is opened.

use std::collections::BTreeMap;
use std::io::SeekFrom;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path as UrlPath, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use certs::{DeviceAuthority, SiteAuthority, life};
use durable::{Files, TrustStore};
use mtls::serve::{Connections, Limits, serve};
use mtls::{ClientAuth, Clock, Credentials, HTTP_1_1, SiteCa, server_config};
use protocol::device::{ComponentState, Hello, Order, Refresh, ReportsTaken, Welcome};
use protocol::{Event, Name, Report, Role, SignedReport};
use release::Release;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::io::ReaderStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tuf::editor::{RootEditor, SnapshotEditor, TargetsEditor, TimestampEditor};
use tuf::schema::Hashes;
use tuf::{Digest, Ed25519Signer, Role as Named, Signer as _, TargetFile, UnixTime};

use super::RehearseError;
use crate::limits::REHEARSAL_SECONDS;

/// The site: dropped, its gateway ends.
pub(super) struct Site {
    served: Arc<Served>,
    signer: Ed25519Signer,
    root: Vec<u8>,
    address: String,
    now: UnixTime,
    /// The list of releases as it was signed last.
    targets: Option<Vec<u8>>,
    version: u64,
    authority: SiteAuthority,
    devices: DeviceAuthority,
    token: String,
    _keep: watch::Sender<Arc<mtls::ServerConfig>>,
    _stop: DropGuard,
}

/// What the gateway serves and hears.
#[derive(Default)]
struct Served {
    token: String,
    shared: Mutex<Shared>,
}

#[derive(Default)]
struct Shared {
    metadata: BTreeMap<String, Vec<u8>>,
    files: BTreeMap<Digest, PathBuf>,
    timestamp: u64,
    order: Option<Order>,
    hello: Option<Hello>,
    reports: Vec<Report>,
}

impl Served {
    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Site {
    /// Makes it; `clock`: what time it is, `token`: what the device shows.
    pub(super) async fn open(clock: Arc<dyn Clock>, token: [u8; 16]) -> Result<Self, RehearseError> {
        let now = clock.now().now;
        let site = name("rehearsal")?;
        let authority = SiteAuthority::create(&site, now).map_err(RehearseError::of_site)?;
        let devices = authority.device_authority(now).map_err(RehearseError::of_site)?;
        let gateway = name("gateway")?;
        let issued = authority
            .issue(Role::Manager, &gateway, &[], life::LEAF, now)
            .map_err(RehearseError::of_site)?;
        let credentials =
            Credentials::from_pem(&issued.chain, &issued.key).map_err(RehearseError::of_site)?;
        let ca = SiteCa::from_pem(authority.certificate_pem()).map_err(RehearseError::of_site)?;
        let config = server_config(
            &credentials,
            &ca,
            &site,
            ClientAuth::Required,
            &[Role::Device],
            &[HTTP_1_1],
            clock,
        )
        .map_err(RehearseError::of_site)?;
        let (keep, tls) = watch::channel(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .map_err(RehearseError::of_site)?;
        let address = listener.local_addr().map_err(RehearseError::of_site)?.to_string();
        let token = hex::encode([token, token].concat());
        let served = Arc::new(Served {
            token: format!("Bearer {token}"),
            ..Served::default()
        });
        let app = Router::new()
            .route("/v1/hello", post(hello))
            .route("/v1/metadata/{name}", get(metadata))
            .route("/v1/targets/{digest}", get(target))
            .route("/v1/progress", post(progress))
            .route("/v1/reports", post(reports))
            .with_state(Arc::clone(&served));
        let stop = CancellationToken::new();
        let ends = stop.clone();
        tokio::spawn(serve(
            listener,
            tls,
            app,
            Limits::default(),
            Connections::new(),
            ends,
        ));
        let (signer, _) = Ed25519Signer::generate().map_err(RehearseError::of_site)?;
        let mut editor = RootEditor::new(now.plus_seconds(REHEARSAL_SECONDS));
        for role in [Named::Root, Named::Timestamp, Named::Snapshot, Named::Targets] {
            editor = editor.add_key(&role, signer.public_key());
        }
        let root = editor.build().map_err(RehearseError::of_site)?;
        let root = root.sign(&signer).map_err(RehearseError::of_site)?.bytes();
        served
            .shared()
            .metadata
            .insert("1.root.json".to_owned(), root.clone());
        Ok(Self {
            served,
            signer,
            root,
            address,
            now,
            targets: None,
            version: 0,
            authority,
            devices,
            token,
            _keep: keep,
            _stop: stop.drop_guard(),
        })
    }

    /// A device of this site in `dir`, as if it had joined; `settings`: lines for its `device.toml`.
    pub(super) fn enrol(&self, dir: &Path, settings: &str) -> Result<(), RehearseError> {
        let key = certs::new_key().map_err(RehearseError::of_site)?;
        let request = certs::request(&key).map_err(RehearseError::of_site)?;
        let chain = self
            .devices
            .issue_device(request.as_bytes(), &name("device")?, REHEARSAL_SECONDS, self.now)
            .map_err(RehearseError::of_site)?;
        let (files, identity) = (Files::real(), dir.join("identity"));
        files.create_dir(dir, 0o755)?;
        files.create_dir(&identity, 0o700)?;
        for (file, text, mode) in [
            ("ca.pem", self.authority.certificate_pem(), 0o644),
            ("token", self.token.as_str(), 0o600),
            ("chain.pem", chain.as_str(), 0o644),
            ("key.pem", key.as_str(), 0o600),
        ] {
            files.replace(&identity.join(file), text.as_bytes(), mode)?;
        }
        let text = format!(
            "manager = \"{}\"\nevents = false\npoll_seconds = 1\n{settings}",
            self.address
        );
        files.replace(&dir.join("device.toml"), text.as_bytes(), 0o644)?;
        TrustStore::create(dir.join("trust"), &self.root, None).map_err(RehearseError::of_site)?;
        Ok(())
    }

    /// Publishes a release and orders it from now on.
    pub(super) fn order(
        &mut self,
        release: &Release,
        file: &Path,
        digest: Digest,
        length: u64,
    ) -> Result<(), RehearseError> {
        let path = release.target_path().map_err(RehearseError::of_site)?;
        let expires = self.now.plus_seconds(REHEARSAL_SECONDS);
        let editor = match &self.targets {
            Some(bytes) => TargetsEditor::from_existing(bytes).map_err(RehearseError::of_site)?,
            None => TargetsEditor::new(expires),
        };
        let about = TargetFile {
            length,
            hashes: Hashes::sha256(digest),
            custom: Some(release.to_custom().map_err(RehearseError::of_site)?),
        };
        self.version += 1;
        let version = self.version;
        let sign = &self.signer;
        let targets = editor
            .add_target(path.as_str(), &about)
            .version(version)
            .build()
            .map_err(RehearseError::of_site)?
            .sign(sign)
            .map_err(RehearseError::of_site)?
            .bytes();
        let snapshot = SnapshotEditor::new(version, expires)
            .role(&Named::Targets, version, &targets)
            .build()
            .map_err(RehearseError::of_site)?
            .sign(sign)
            .map_err(RehearseError::of_site)?
            .bytes();
        let timestamp = TimestampEditor::new(version, expires, version, &snapshot)
            .signed_at(self.now)
            .build()
            .map_err(RehearseError::of_site)?
            .sign(sign)
            .map_err(RehearseError::of_site)?
            .bytes();
        let mut shared = self.served.shared();
        shared
            .metadata
            .insert(format!("{version}.targets.json"), targets.clone());
        shared
            .metadata
            .insert(format!("{version}.snapshot.json"), snapshot);
        shared.metadata.insert("timestamp.json".to_owned(), timestamp);
        shared.timestamp = version;
        shared.files.insert(digest, file.to_owned());
        shared.order = Some(Order {
            update: release.update_id.parse().map_err(RehearseError::of_site)?,
            component: release.component.clone(),
            expects: None,
            version: release.version.clone(),
            target: path,
        });
        self.targets = Some(targets);
        Ok(())
    }

    /// Orders nothing any more.
    pub(super) fn rest(&self) {
        self.served.shared().order = None;
    }

    /// Forgets what was heard: the next part of the rehearsal begins.
    pub(super) fn begin(&self) {
        let mut shared = self.served.shared();
        shared.hello = None;
        shared.reports.clear();
    }

    /// What the device said of the component last.
    pub(super) fn state(&self, release: &Release) -> Option<ComponentState> {
        let hello = self.served.shared().hello.clone()?;
        let mut states = hello.components.into_iter();
        states.find(|state| state.component == release.component)
    }

    /// The steps of a release's update, as the device reported them.
    pub(super) fn steps(&self, release: &Release) -> Vec<Event> {
        let update = release.update_id.parse().ok();
        let shared = self.served.shared();
        let reports = shared.reports.iter().filter(|report| report.update == update);
        reports.flat_map(|report| report.events.clone()).collect()
    }
}

fn name(text: &str) -> Result<Name, RehearseError> {
    text.parse().map_err(RehearseError::of_site)
}

async fn hello(
    State(served): State<Arc<Served>>,
    headers: HeaderMap,
    Json(hello): Json<Hello>,
) -> Result<Json<Welcome>, StatusCode> {
    let token = headers.get(header::AUTHORIZATION);
    if token.is_none_or(|token| token.as_bytes() != served.token.as_bytes()) {
        return Err(StatusCode::UNAUTHORIZED);
    }
    let mut shared = served.shared();
    let wanted = shared.order.clone().and_then(|order| wanted(order, &hello));
    shared.hello = Some(hello);
    Ok(Json(Welcome {
        orders: wanted.into_iter().collect(),
        refresh: Refresh {
            timestamp: shared.timestamp,
        },
        poll_seconds: 1,
        held_back: BTreeMap::new(),
    }))
}

/// As a manager does: an order to replace what runs, unless that is it, or it has failed there.
fn wanted(order: Order, hello: &Hello) -> Option<Order> {
    let here = hello
        .components
        .iter()
        .find(|state| state.component == order.component);
    let runs = here.and_then(|state| state.version.clone());
    let may = runs.as_ref() != Some(&order.version) && here.is_none_or(|state| state.bad.is_empty());
    may.then_some(Order {
        expects: runs,
        ..order
    })
}

async fn metadata(State(served): State<Arc<Served>>, UrlPath(name): UrlPath<String>) -> Response {
    match served.shared().metadata.get(&name) {
        Some(bytes) => bytes.clone().into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn target(
    State(served): State<Arc<Served>>,
    UrlPath(digest): UrlPath<String>,
    headers: HeaderMap,
) -> Response {
    let file = digest
        .parse()
        .ok()
        .and_then(|digest: Digest| served.shared().files.get(&digest).cloned());
    let Some(file) = file else {
        return StatusCode::NOT_FOUND.into_response();
    };
    match send(&file, &headers).await {
        Ok(answer) => answer,
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// The file, from where the device has it up to.
async fn send(file: &Path, headers: &HeaderMap) -> std::io::Result<Response> {
    let mut file = tokio::fs::File::open(file).await?;
    let total = file.metadata().await?.len();
    let asked = headers.get(header::RANGE).and_then(|range| range.to_str().ok());
    let from = asked.and_then(|range| {
        let from = range.strip_prefix("bytes=")?.strip_suffix('-')?;
        from.parse::<u64>().ok().filter(|from| *from < total)
    });
    let start = from.unwrap_or(0);
    file.seek(SeekFrom::Start(start)).await?;
    let rest = total - start;
    let body = Body::from_stream(ReaderStream::new(file.take(rest)));
    let mut answer = Response::new(body);
    answer.headers_mut().insert(header::CONTENT_LENGTH, rest.into());
    if from.is_some() {
        *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
        let range = format!("bytes {start}-{}/{total}", total - 1);
        if let Ok(range) = range.parse() {
            answer.headers_mut().insert(header::CONTENT_RANGE, range);
        }
    }
    Ok(answer)
}

async fn progress(Json(_events): Json<Vec<Event>>) -> StatusCode {
    StatusCode::NO_CONTENT
}

async fn reports(
    State(served): State<Arc<Served>>,
    Json(signed): Json<Vec<SignedReport>>,
) -> Json<ReportsTaken> {
    let mut shared = served.shared();
    let mut through = 0;
    // By the one device that there is: whose they are needs no proof here.
    for report in signed.iter().filter_map(|report| report.read().ok()) {
        through = through.max(report.counter);
        shared.reports.push(report);
    }
    Json(ReportsTaken { through })
}
