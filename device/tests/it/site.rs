//! A manager in this process: certificates, enrolment, event stream, metadata, targets, reports.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path as UrlPath, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use certs::{DeviceAuthority, SiteAuthority, life};
use device::agent::Agent;
use device::enroll::{Anchor, Joining, enroll};
use device::layout::Layout;
use device::settings::Settings;
use device::world::World;
use mtls::serve::{Connections, Limits, Peer, serve};
use mtls::{ClientAuth, Clock, Credentials, HTTP_1_1, SiteCa, SystemClock, server_config};
use protocol::device::{Hello, Order, Refresh, ReportsTaken, Welcome};
use protocol::enroll::{Enroll, EnrollCode, Enrolled, Renew, RenewExpired};
use protocol::{Event, Name, Outcome, Report, Role, Secret, SignedReport};
use release::{Component, Release};
use rustls_pki_types::pem::PemObject as _;
use tokio::net::TcpListener;
use tokio::sync::{broadcast, watch};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::BroadcastStream;
use tokio_util::sync::CancellationToken;
use tuf::clock::Believed;

use crate::repository::{Repository, now, script};

pub const TOKEN: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// The manager's clock; may be set ahead by so many seconds.
#[derive(Debug, Default)]
pub struct Wrong(pub AtomicI64);

impl Clock for Wrong {
    fn now(&self) -> Believed {
        let right = SystemClock.now();
        let now = right.now.plus_seconds(self.0.load(Ordering::Relaxed));
        Believed { now, ..right }
    }
}

pub struct Manager {
    pub clock: Arc<Wrong>,
    pub authority: SiteAuthority,
    pub devices: DeviceAuthority,
    pub ca_pem: String,
    pub address: String,
    pub enroll_address: String,
    pub repository: Mutex<Repository>,
    pub orders: Mutex<Vec<Order>>,
    /// What this manager holds back, and why.
    pub held_back: Mutex<std::collections::BTreeMap<protocol::UpdateId, String>>,
    pub hellos: Mutex<Vec<Hello>>,
    pub progress: Mutex<Vec<Event>>,
    pub reports: Mutex<Vec<Report>>,
    pub requests: Mutex<Vec<String>>,
    pub events: broadcast::Sender<(String, String)>,
    pub down: Mutex<bool>,
    /// Bytes after which the next transfer of a target breaks.
    pub break_after: Mutex<Option<usize>>,
    pub bytes_sent: Mutex<u64>,
    /// Seconds; below zero: a certificate that ran out so long ago.
    pub device_life: Mutex<i64>,
    /// Whoever asked for a new certificate at the joining port.
    pub late: Mutex<Vec<Name>>,
    pub connections: Connections,
    stop: CancellationToken,
}

pub struct Site {
    pub manager: Arc<Manager>,
    pub dir: tempfile::TempDir,
    _stop: tokio_util::sync::DropGuard,
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

impl Site {
    pub async fn new() -> Self {
        let site = name("plant");
        let authority = SiteAuthority::create(&site, now()).unwrap();
        let devices = authority.device_authority(now()).unwrap();
        let issued = authority
            .issue(Role::Manager, &name("gateway"), &[], life::LEAF, now())
            .unwrap();
        let credentials = Credentials::from_pem(&issued.chain, &issued.key).unwrap();
        let ca_pem = authority.certificate_pem().to_owned();
        let ca = SiteCa::from_pem(&ca_pem).unwrap();
        let wrong = Arc::new(Wrong::default());
        let clock: Arc<dyn Clock> = wrong.clone();
        let tls = |auth, accept: &[Role]| {
            let config = server_config(
                &credentials,
                &ca,
                &site,
                auth,
                accept,
                &[HTTP_1_1],
                Arc::clone(&clock),
            );
            watch::channel(Arc::new(config.unwrap())).1
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let enroll_listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stop = CancellationToken::new();
        let manager = Arc::new(Manager {
            clock: wrong,
            address: listener.local_addr().unwrap().to_string(),
            enroll_address: enroll_listener.local_addr().unwrap().to_string(),
            repository: Mutex::new(Repository::new()),
            orders: Mutex::default(),
            held_back: Mutex::default(),
            hellos: Mutex::default(),
            progress: Mutex::default(),
            reports: Mutex::default(),
            requests: Mutex::default(),
            events: broadcast::channel(64).0,
            down: Mutex::new(false),
            break_after: Mutex::default(),
            bytes_sent: Mutex::default(),
            device_life: Mutex::new(life::DEVICE),
            late: Mutex::default(),
            connections: Connections::new(),
            ca_pem,
            authority,
            devices,
            stop: stop.clone(),
        });
        let app = Router::new()
            .route("/v1/hello", post(hello))
            .route("/v1/events", get(events))
            .route("/v1/metadata/{name}", get(metadata))
            .route("/v1/targets/{digest}", get(target))
            .route("/v1/progress", post(progress))
            .route("/v1/reports", post(reports))
            .route("/v1/renew", post(renew))
            .layer(axum::middleware::from_fn_with_state(Arc::clone(&manager), gate))
            .with_state(Arc::clone(&manager));
        let joining = Router::new()
            .route("/v1/enroll", post(join))
            .route("/v1/renew-expired", post(renew_expired))
            .with_state(Arc::clone(&manager));
        let device_tls = tls(ClientAuth::Required, &[Role::Device]);
        let cut = manager.connections.clone();
        tokio::spawn(serve(
            listener,
            device_tls,
            app,
            Limits::default(),
            cut,
            stop.clone(),
        ));
        let enroll_tls = tls(ClientAuth::None, &[]);
        tokio::spawn(serve(
            enroll_listener,
            enroll_tls,
            joining,
            Limits::default(),
            Connections::new(),
            stop.clone(),
        ));
        Self {
            manager,
            dir: tempfile::tempdir().unwrap(),
            _stop: stop.drop_guard(),
        }
    }

    pub fn layout(&self) -> Layout {
        Layout::new(self.dir.path().join("device")).unwrap()
    }

    pub fn code(&self) -> EnrollCode {
        EnrollCode {
            address: self.manager.enroll_address.clone(),
            device: name("pump-7"),
            site_ca: self.manager.authority.fingerprint().unwrap(),
            secret: Secret::new("cd".repeat(16)),
        }
    }

    pub fn joining(&self, anchor: Anchor) -> Joining {
        Joining {
            code: self.code(),
            password: Secret::new("pass".into()),
            anchor,
            components: Vec::new(),
            hardware: Vec::new(),
            again: false,
        }
    }

    pub fn root_file(&self) -> PathBuf {
        let path = self.dir.path().join("root.json");
        std::fs::write(&path, &self.manager.repository.lock().unwrap().root).unwrap();
        path
    }

    pub async fn enrolled(&self) -> Layout {
        let layout = self.layout();
        let joining = self.joining(Anchor::File(self.root_file()));
        enroll(&layout, &World::system(), joining).await.unwrap();
        layout
    }

    pub async fn agent(&self) -> Agent {
        self.agent_in(World::system()).await
    }

    pub async fn agent_in(&self, world: World) -> Agent {
        self.try_agent_in(world).await.unwrap()
    }

    pub async fn try_agent_in(&self, world: World) -> anyhow::Result<Agent> {
        // This program is not the agent.
        let copier = PathBuf::from(env!("CARGO_BIN_EXE_device"));
        Agent::start(self.layout(), World { copier, ..world }).await
    }

    /// Ends all programs, as a power cut does.
    pub fn end_programs(&self) {
        for group in self.running() {
            if let Some(group) = rustix::process::Pid::from_raw(group) {
                rustix::process::kill_process_group(group, rustix::process::Signal::KILL).ok();
            }
        }
    }

    /// Publishes a script and orders it over the event stream and with every hello.
    pub fn publish(&self, release: &Release, bytes: &[u8], expects: Option<&str>) -> Order {
        self.manager.repository.lock().unwrap().publish(release, bytes);
        self.order(release, expects)
    }

    pub fn order(&self, release: &Release, expects: Option<&str>) -> Order {
        let order = Order {
            update: release.update_id.parse().unwrap(),
            component: release.component.clone(),
            expects: expects.map(|version| version.parse().unwrap()),
            version: release.version.clone(),
            target: release.target_path().unwrap(),
        };
        *self.manager.orders.lock().unwrap() = vec![order.clone()];
        let event = ("order".to_owned(), serde_json::to_string(&order).unwrap());
        self.manager.events.send(event).ok();
        order
    }

    /// The report that ends this update.
    pub async fn ended(&self, release: &Release) -> Report {
        let update = release.update_id.parse().unwrap();
        wait_for("the end of the update", || {
            let reports = self.manager.reports.lock().unwrap();
            reports
                .iter()
                .find(|report| report.update == Some(update) && report.outcome.is_some())
                .cloned()
        })
        .await
    }

    pub async fn ends_with(&self, release: &Release, outcome: Outcome) -> Report {
        let report = self.ended(release).await;
        assert_eq!(report.outcome, Some(outcome), "{:?}", report.reason);
        report
    }

    /// An enrolled device on which version 1.0.0 runs.
    pub async fn with_first_version(&self) -> (Agent, Release) {
        self.enrolled().await;
        self.with_first_version_again().await
    }

    /// The same on a device that is enrolled already.
    pub async fn with_first_version_again(&self) -> (Agent, Release) {
        let agent = self.agent().await;
        let first = script("1.0.0", 1);
        self.publish(&first, &crate::repository::good("1.0.0"), None);
        self.ends_with(&first, Outcome::Committed).await;
        // The report is here before its end is written down there.
        rest(&agent).await;
        (agent, first)
    }

    pub fn data(&self, file: &str) -> String {
        let path = self.layout().data(&component()).join(file);
        std::fs::read_to_string(path)
            .unwrap_or_default()
            .trim()
            .to_owned()
    }

    pub fn settings(&self, change: impl FnOnce(&mut Settings)) {
        let path = self.layout().settings();
        let mut settings = Settings::load(&path).unwrap();
        change(&mut settings);
        settings.save(&path).unwrap();
    }

    /// The groups of processes that carry this device's mark: one per program that runs.
    pub fn running(&self) -> Vec<i32> {
        marked(&self.layout().data(&component()))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.manager.stop.cancel();
        self.end_programs();
    }
}

pub fn component() -> Component {
    "thermostat".parse().unwrap()
}

/// Process groups, zombies aside, whose environment names this data folder.
pub fn marked(data: &Path) -> Vec<i32> {
    let mark = format!("DROVER_DATA={}", data.display());
    let mut groups = std::collections::BTreeSet::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok())
        else {
            continue;
        };
        let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        if !environ
            .split(|byte| *byte == 0)
            .any(|entry| entry == mark.as_bytes())
        {
            continue;
        }
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        if fields.len() > 3 && fields[0] != "Z" && fields[0] != "X" {
            groups.insert(fields[2].parse().unwrap());
        }
    }
    groups.into_iter().collect()
}

/// Waits until nothing is under way.
pub async fn rest(agent: &Agent) {
    wait_for("rest", || {
        let slot = agent.hub.generation.slot(&component());
        (slot.life == device::machine::Life::Idle).then_some(())
    })
    .await;
}

/// Waits, at most 30 seconds, until something is there.
pub async fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..6000 {
        if let Some(found) = look() {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("waited 30 s for {what}");
}

async fn gate(
    State(manager): State<Arc<Manager>>,
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> Response {
    manager
        .requests
        .lock()
        .unwrap()
        .push(format!("{} {}", request.method(), request.uri().path()));
    if *manager.down.lock().unwrap() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let token = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    if token != Some(&format!("Bearer {TOKEN}")) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    next.run(request).await
}

async fn hello(State(manager): State<Arc<Manager>>, Json(hello): Json<Hello>) -> Json<Welcome> {
    manager.hellos.lock().unwrap().push(hello.clone());
    let version = |order: &Order| {
        hello
            .components
            .iter()
            .find(|state| state.component == order.component)
            .and_then(|s| s.version.clone())
    };
    let orders = manager.orders.lock().unwrap().clone();
    let orders = orders
        .into_iter()
        .filter(|order| version(order).as_ref() != Some(&order.version))
        .collect();
    let timestamp = manager.repository.lock().unwrap().version();
    Json(Welcome {
        held_back: manager.held_back.lock().unwrap().clone(),
        orders,
        refresh: Refresh { timestamp },
        poll_seconds: 1,
    })
}

async fn events(State(manager): State<Arc<Manager>>) -> Response {
    let stream = BroadcastStream::new(manager.events.subscribe()).filter_map(|event| {
        let (event, data) = event.ok()?;
        Some(Ok::<_, Infallible>(format!("event: {event}\ndata: {data}\n\n")))
    });
    let first = futures_util::stream::iter([Ok::<_, Infallible>(": hello\n\n".to_owned())]);
    let body = Body::from_stream(futures_util::StreamExt::chain(first, stream));
    ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
}

async fn metadata(State(manager): State<Arc<Manager>>, UrlPath(name): UrlPath<String>) -> Response {
    match manager.repository.lock().unwrap().metadata.get(&name) {
        Some(bytes) => bytes.clone().into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn target(
    State(manager): State<Arc<Manager>>,
    UrlPath(digest): UrlPath<String>,
    headers: HeaderMap,
) -> Response {
    let bytes = manager
        .repository
        .lock()
        .unwrap()
        .targets
        .get(&digest.parse().unwrap())
        .cloned();
    let Some(bytes) = bytes else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let offset: usize = headers
        .get(header::RANGE)
        .and_then(|range| {
            range
                .to_str()
                .unwrap()
                .strip_prefix("bytes=")?
                .strip_suffix('-')?
                .parse()
                .ok()
        })
        .unwrap_or(0);
    let total = bytes.len();
    let rest = bytes[offset..].to_vec();
    let breaks = manager.break_after.lock().unwrap().take();
    *manager.bytes_sent.lock().unwrap() += breaks.unwrap_or(rest.len()).min(rest.len()) as u64;
    let body = match breaks {
        Some(after) if after < rest.len() => {
            let pieces = [
                Ok(axum::body::Bytes::from(rest[..after].to_vec())),
                Err(std::io::Error::other("cut")),
            ];
            Body::from_stream(tokio_stream::iter(pieces))
        }
        _ => Body::from(rest.clone()),
    };
    let status = if offset > 0 {
        StatusCode::PARTIAL_CONTENT
    } else {
        StatusCode::OK
    };
    let mut response = (status, body).into_response();
    response
        .headers_mut()
        .insert(header::CONTENT_LENGTH, rest.len().into());
    if offset > 0 {
        let range = format!("bytes {offset}-{}/{total}", total - 1);
        response
            .headers_mut()
            .insert(header::CONTENT_RANGE, range.parse().unwrap());
    }
    response
}

async fn progress(State(manager): State<Arc<Manager>>, Json(events): Json<Vec<Event>>) -> StatusCode {
    manager.progress.lock().unwrap().extend(events);
    StatusCode::NO_CONTENT
}

async fn reports(
    State(manager): State<Arc<Manager>>,
    axum::Extension(peer): axum::Extension<Peer>,
    Json(signed): Json<Vec<SignedReport>>,
) -> Json<ReportsTaken> {
    let identity = peer.identity.clone().unwrap();
    let certificate = peer.certificate.clone().unwrap();
    let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).unwrap();
    let point = parsed.public_key().subject_public_key.data.to_vec();
    let mut through = 0;
    for report in &signed {
        let report = report.verify(&point, &identity).unwrap();
        through = through.max(report.counter);
        manager.reports.lock().unwrap().push(report);
    }
    Json(ReportsTaken { through })
}

async fn renew(
    State(manager): State<Arc<Manager>>,
    axum::Extension(peer): axum::Extension<Peer>,
    Json(renew): Json<Renew>,
) -> Json<Enrolled> {
    let device = peer.identity.clone().unwrap().name;
    let mut enrolled = issue(&manager, &device, &renew.csr, life::DEVICE);
    enrolled.token = Secret::new(String::new());
    Json(enrolled)
}

/// Token, request and proof, checked as the protocol's page has them.
async fn renew_expired(
    State(manager): State<Arc<Manager>>,
    peer: Peer,
    Json(ask): Json<RenewExpired>,
) -> Response {
    let enrolled = issue(&manager, &ask.device, &ask.csr, life::DEVICE);
    let leaf = mtls::CertificateDer::from_pem_slice(enrolled.chain.as_bytes()).unwrap();
    let point = mtls::public_key_of(&leaf).unwrap();
    let mut message = b"drover renewal after expiry v1\n".to_vec();
    message.extend(peer.exporter);
    message.extend(ask.csr.as_bytes());
    let proof = hex::decode(&ask.proof).unwrap();
    let proves = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).verify(&message, &proof);
    manager.late.lock().unwrap().push(ask.device.clone());
    if ask.token.reveal() != TOKEN || proves.is_err() {
        return StatusCode::FORBIDDEN.into_response();
    }
    let token = Secret::new(String::new());
    Json(Enrolled { token, ..enrolled }).into_response()
}

async fn join(State(manager): State<Arc<Manager>>, Json(request): Json<Enroll>) -> Response {
    if request.password.reveal() != "pass" || request.secret.reveal() != "cd".repeat(16) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let life = *manager.device_life.lock().unwrap();
    let mut enrolled = issue(&manager, &request.device, &request.csr, life.abs());
    if life < 0 {
        // It ran out as long ago as it was to last.
        let then = now().plus_seconds(2 * life);
        let csr = request.csr.as_bytes();
        let chain = manager.devices.issue_device(csr, &request.device, -life, then);
        enrolled.chain = chain.unwrap();
    }
    Json(enrolled).into_response()
}

fn issue(manager: &Manager, device: &Name, csr: &str, life: i64) -> Enrolled {
    Enrolled {
        site: name("plant"),
        device: device.clone(),
        chain: manager
            .devices
            .issue_device(csr.as_bytes(), device, life, now())
            .unwrap(),
        site_ca: manager.ca_pem.clone(),
        token: Secret::new(TOKEN.to_owned()),
        manager: manager.address.clone(),
    }
}
