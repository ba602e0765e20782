//! A repository in memory that does as it is told, faults included. It signs real metadata: what the desk reads
//! from it goes through the same verification as anywhere.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path as UrlPath, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::StreamExt as _;
use protocol::author::{Publish, Receipt, Recover, Recovered, ReportPage, StoredReport, UploadState};
use protocol::device::Problem;
use protocol::{Identity, Role as Who};
use tokio_util::sync::{CancellationToken, DropGuard};
use tuf::editor::{SnapshotEditor, TimestampEditor};
use tuf::{Digest, Ed25519Signer, Limits, Role, TrustedState, UnixTime};

/// What to do wrong.
#[derive(Debug, Default)]
pub struct Faults {
    /// Refuse so many publishes as if somebody had been faster.
    pub conflicts: u32,
    /// Answer so many publishes with a broken body, after doing what they ask.
    pub lost_answers: u32,
    /// Say 507 to every upload.
    pub is_full: bool,
    /// Say 503 to so many uploads.
    pub busy: u32,
    /// Lie in receipts.
    pub lies: bool,
    /// Serve what was published before the newest.
    pub shows_old: bool,
    /// Keep only so many bytes of each upload, as after a crash.
    pub forgets_after: Option<usize>,
    /// Other bytes arrive than were sent.
    pub garbles: bool,
}

#[derive(Debug, Default)]
pub struct Kept {
    pub files: BTreeMap<String, Vec<u8>>,
    pub old_timestamp: Option<Vec<u8>>,
    pub targets: u64,
    pub online: u64,
    pub uploads: HashMap<Digest, Vec<u8>>,
    pub published: Vec<Publish>,
    pub recovered: Vec<Recover>,
    pub reports: Vec<StoredReport>,
    pub faults: Faults,
    pub patches: usize,
}

pub struct Fake {
    pub url: String,
    pub addr: SocketAddr,
    shared: Arc<Shared>,
    _stop: DropGuard,
}

struct Shared {
    kept: Mutex<Kept>,
    online: Ed25519Signer,
}

type Context = State<Arc<Shared>>;

impl Fake {
    /// With the files that `init` made for a repository; on the runtime of the test.
    pub async fn start(folder: &Path) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::start_at(folder, listener)
    }

    pub fn start_at(folder: &Path, listener: tokio::net::TcpListener) -> Self {
        let pem = std::fs::read_to_string(folder.join("online-key.pem")).unwrap();
        let (_, key) = pkcs8::SecretDocument::from_pem(&pem).unwrap();
        let online = Ed25519Signer::from_pkcs8(key.as_bytes()).unwrap();
        let shared = Arc::new(Shared {
            kept: Mutex::default(),
            online,
        });
        shared.kept.lock().unwrap().files.insert(
            "1.root.json".into(),
            std::fs::read(folder.join("root.json")).unwrap(),
        );
        let app = axum::Router::new()
            .route("/metadata/{name}", get(metadata))
            .route("/api/v1/uploads/{digest}", get(upload_state).patch(upload))
            .route("/api/v1/publish", post(publish))
            .route("/api/v1/recover", post(recover))
            .route("/api/v1/reports", get(reports))
            .layer(axum::extract::DefaultBodyLimit::disable())
            .with_state(Arc::clone(&shared));

        let credentials =
            mtls::Credentials::load(&folder.join("tls.pem"), &folder.join("tls-key.pem")).unwrap();
        let ca = mtls::SiteCa::load(&folder.join("ca.pem")).unwrap();
        let tls = mtls::server_config(
            &credentials,
            &ca,
            &"plant".parse().unwrap(),
            mtls::ClientAuth::Required,
            &[Who::Author],
            &[mtls::HTTP_1_1],
            Arc::new(mtls::SystemClock),
        )
        .unwrap();
        let addr = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let (keep, tls) = tokio::sync::watch::channel(Arc::new(tls));
        let (limits, cut, token) = (
            mtls::serve::Limits::default(),
            mtls::serve::Connections::new(),
            stop.clone(),
        );
        tokio::spawn(async move {
            let _keep = keep;
            mtls::serve::serve(listener, tls, app, limits, cut, token).await;
        });
        Self {
            url: format!("https://{addr}"),
            addr,
            shared,
            _stop: stop.drop_guard(),
        }
    }

    pub fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.shared.kept.lock().unwrap()
    }

    pub fn set(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.kept().faults);
    }

    /// Everything that a client without a certificate could see.
    pub fn visible(&self) -> BTreeMap<String, Vec<u8>> {
        self.kept().files.clone()
    }

    /// A manager as the sender of a report.
    pub fn device(name: &str) -> Identity {
        Identity {
            site: "plant".parse().unwrap(),
            role: Who::Device,
            name: name.parse().unwrap(),
        }
    }
}

fn now() -> UnixTime {
    admin_gui::Senses::system().now()
}

fn problem(status: StatusCode, code: &str, message: &str) -> Response {
    (
        status,
        Json(Problem {
            code: code.into(),
            message: message.into(),
        }),
    )
        .into_response()
}

async fn metadata(State(shared): Context, UrlPath(name): UrlPath<String>) -> Response {
    let kept = shared.kept.lock().unwrap();
    let old = kept
        .old_timestamp
        .clone()
        .filter(|_| kept.faults.shows_old && name == "timestamp.json");
    match old.or_else(|| kept.files.get(&name).cloned()) {
        Some(bytes) => bytes.into_response(),
        None => problem(StatusCode::NOT_FOUND, "not-found", "no such file"),
    }
}

fn state_of(kept: &Kept, digest: &Digest) -> UploadState {
    let bytes = kept.uploads.get(digest);
    UploadState {
        received: bytes.map_or(0, |bytes| bytes.len() as u64),
        complete: bytes.is_some_and(|bytes| Digest::of(bytes) == *digest),
    }
}

async fn upload_state(State(shared): Context, UrlPath(digest): UrlPath<Digest>) -> Json<UploadState> {
    Json(state_of(&shared.kept.lock().unwrap(), &digest))
}

async fn upload(
    State(shared): Context,
    UrlPath(digest): UrlPath<Digest>,
    Query(query): Query<HashMap<String, u64>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    assert!(query.contains_key("length"));
    let offset: u64 = headers["Upload-Offset"].to_str().unwrap().parse().unwrap();
    {
        let mut kept = shared.kept.lock().unwrap();
        kept.patches += 1;
        if kept.faults.is_full {
            return problem(
                StatusCode::INSUFFICIENT_STORAGE,
                "disk-full",
                "the repository's disk is full",
            );
        }
        if kept.faults.busy > 0 {
            kept.faults.busy -= 1;
            return problem(StatusCode::SERVICE_UNAVAILABLE, "busy", "try again");
        }
        let state = state_of(&kept, &digest);
        if state.received != offset {
            return (StatusCode::CONFLICT, Json(state)).into_response();
        }
    }
    let mut stream = body.into_data_stream();
    // A broken connection ends the stream with an error: what came before it stays.
    while let Some(Ok(bytes)) = stream.next().await {
        let mut kept = shared.kept.lock().unwrap();
        let (garbles, forgets) = (kept.faults.garbles, kept.faults.forgets_after);
        let all = kept.uploads.entry(digest).or_default();
        all.extend(bytes.iter().map(|byte| if garbles { byte ^ 1 } else { *byte }));
        all.truncate(forgets.unwrap_or(usize::MAX));
    }
    Json(state_of(&shared.kept.lock().unwrap(), &digest)).into_response()
}

async fn publish(State(shared): Context, Json(publish): Json<Publish>) -> Response {
    let mut kept = shared.kept.lock().unwrap();
    if kept.faults.conflicts > 0 {
        kept.faults.conflicts -= 1;
        return problem(StatusCode::CONFLICT, "conflict", "somebody was faster");
    }
    if publish.expects != kept.targets {
        let message = format!("expected {}, current is {}", publish.expects, kept.targets);
        return problem(StatusCode::CONFLICT, "conflict", &message);
    }
    for root in &publish.roots {
        kept.files
            .insert(root.name.clone(), root.body.clone().into_bytes());
    }
    if let Some(targets) = publish.targets.first() {
        let view = tuf::editor::Signed::<tuf::Targets>::from_bytes(targets.body.as_bytes())
            .unwrap()
            .view()
            .unwrap();
        for target in view.targets.values() {
            let digest = target.sha256().unwrap();
            if !state_of(&kept, &digest).complete {
                return problem(StatusCode::CONFLICT, "missing", "a target is missing");
            }
        }
        kept.targets = view.version;
        kept.files
            .insert(targets.name.clone(), targets.body.clone().into_bytes());
    }
    resign(&mut kept, &shared.online);
    let name = format!("{}.targets.json", kept.targets);
    let receipt = Receipt {
        team: None,
        update: publish.update,
        targets: kept.targets,
        targets_digest: if kept.faults.lies {
            Digest::of(b"lies")
        } else {
            Digest::of(&kept.files[&name])
        },
        snapshot: kept.online,
        timestamp: kept.online,
        at: now(),
        events: Vec::new(),
    };
    kept.published.push(publish);
    if kept.faults.lost_answers > 0 {
        kept.faults.lost_answers -= 1;
        let broken = futures_util::stream::iter([
            Ok(Bytes::from_static(b"{\"upd")),
            Err(std::io::Error::other("the cable was pulled")),
        ]);
        return Body::from_stream(broken).into_response();
    }
    Json(receipt).into_response()
}

/// New snapshot and timestamp, as a repository makes them.
fn resign(kept: &mut Kept, online: &Ed25519Signer) {
    kept.online += 1;
    let (version, expires) = (kept.online, now().plus_seconds(14 * 86_400));
    let targets = kept.files[&format!("{}.targets.json", kept.targets)].clone();
    let snapshot = SnapshotEditor::new(version, expires).role(&Role::Targets, kept.targets, &targets);
    let snapshot = snapshot.build().unwrap().sign(online).unwrap().bytes();
    let timestamp = TimestampEditor::new(version, expires, version, &snapshot).signed_at(now());
    let timestamp = timestamp.build().unwrap().sign(online).unwrap().bytes();
    kept.files.insert(format!("{version}.snapshot.json"), snapshot);
    kept.old_timestamp = kept.files.insert("timestamp.json".into(), timestamp);
}

async fn recover(State(shared): Context, Json(recover): Json<Recover>) -> Response {
    let mut kept = shared.kept.lock().unwrap();
    let root = recover.roots.first().unwrap();
    let state = TrustedState::init(root.body.as_bytes(), None, &Limits::default()).unwrap();
    let new = tuf::NewFiles {
        targets: Some(recover.targets[0].body.as_bytes()),
        ..tuf::NewFiles::default()
    };
    let upload = tuf::verify_upload(&state, new, now(), &Limits::default()).unwrap();
    let targets = upload.targets.unwrap();
    let wanted = targets.targets.values().map(|target| target.sha256().unwrap());
    let missing: Vec<_> = wanted
        .filter(|digest| !state_of(&kept, digest).complete)
        .collect();
    if missing.is_empty() {
        kept.targets = targets.version;
        kept.online = recover.snapshot.max(recover.timestamp);
        kept.files.insert(
            recover.targets[0].name.clone(),
            recover.targets[0].body.clone().into_bytes(),
        );
        resign(&mut kept, &shared.online);
    }
    kept.recovered.push(recover);
    let targets = kept.targets;
    Json(Recovered { missing, targets }).into_response()
}

async fn reports(State(shared): Context, Query(query): Query<HashMap<String, u64>>) -> Json<ReportPage> {
    let limit = usize::try_from(query["limit"]).unwrap();
    let kept = shared.kept.lock().unwrap();
    let last = kept.reports.last().map_or(0, |stored| stored.seq);
    let after = query["after"].max(last.saturating_sub(query["newest"]));
    let reports: Vec<_> = kept
        .reports
        .iter()
        .filter(|stored| stored.seq > after)
        .take(limit)
        .cloned()
        .collect();
    let next = reports.last().map_or(after, |stored| stored.seq);
    Json(ReportPage { reports, next })
}
