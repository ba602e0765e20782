//! The sender: what devices ask for, over TLS with client certificates. Every authenticated device at once.

use std::convert::Infallible;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, FromRequest, Path, Request, State};
use axum::middleware::{self, Next};
use axum::response::sse::{Event as Sse, KeepAlive};
use axum::response::{IntoResponse, Response, Sse as SseResponse};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use futures_util::Stream;
use http::{HeaderMap, StatusCode, header};
use mtls::serve::Peer;
use protocol::device::{self, Hello, Problem, Refresh, Welcome};
use protocol::enroll::Renew;
use protocol::limits::{KEEP_ALIVE_SECONDS, MAX_COMPONENTS, MAX_DEVICE_BODY, MAX_REASON};
use protocol::{Event, Name, Role, Secret, SignedReport, Step, messages};
use serde::de::DeserializeOwned;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tuf::Digest;

use crate::fleet::{Download, NoStream, Push, doubts};
use crate::gateway::Gateway;
use crate::ports::Port;
use crate::secrets::Use;
use crate::sends::Sending;
use crate::{enroll, limits, ports, reports};
use protocol::control::Level;

/// Who asks, once certificate, token and list have been checked.
#[derive(Debug, Clone)]
struct Device(Name);

/// An error answer.
pub(crate) struct Refusal(pub(crate) StatusCode, pub(crate) Problem);

impl Refusal {
    pub(crate) fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self(
            status,
            Problem {
                code: code.to_owned(),
                message: message.into(),
            },
        )
    }

    /// For a device that has shown token and key.
    pub(crate) fn quarantined() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "quarantined",
            "the operator of this gateway has put this device in quarantine: ask the operator to let it in again, or for \
             a new code",
        )
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.0, Json(self.1)).into_response();
        if matches!(
            self.0,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        ) {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, limits::RETRY_AFTER_SECONDS.into());
        }
        response
    }
}

/// A JSON body; what cannot be read is answered by a [`Problem`].
pub(crate) struct Body<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        match Json::<T>::from_request(request, state).await {
            Ok(Json(value)) => Ok(Self(value)),
            Err(error) => Err(Refusal::new(error.status(), "malformed", error.body_text())),
        }
    }
}

/// The routes of the device port.
pub(crate) fn routes(gateway: Arc<Gateway>) -> Router {
    let router = Router::new()
        .route(device::HELLO, post(hello))
        .route(device::EVENTS, get(events))
        .route("/v1/metadata/{name}", get(metadata))
        .route("/v1/targets/{digest}", get(target))
        .route(device::PROGRESS, post(progress))
        .route(device::REPORTS, post(take_reports))
        .route(device::RENEW, post(renew))
        .fallback(|| async {
            Refusal::new(
                StatusCode::NOT_FOUND,
                "not-found",
                "there is nothing at this path",
            )
        })
        .layer(middleware::from_fn_with_state(Port::Devices, ports::listed))
        .layer(middleware::from_fn_with_state(gateway.clone(), authenticate))
        .layer(DefaultBodyLimit::max(MAX_DEVICE_BODY))
        .with_state(gateway);
    ports::with_headers(router)
}

/// Certificate (checked by TLS), list and token; on every request, in memory, because a connection outlives a
/// change of the list.
async fn authenticate(
    State(gateway): State<Arc<Gateway>>,
    peer: Peer,
    mut request: Request,
    next: Next,
) -> Response {
    match admit(&gateway, &peer, request.headers()) {
        Ok(name) => {
            gateway.fleet.seen(&name, peer.addr, gateway.now());
            request.extensions_mut().insert(Device(name));
            next.run(request).await
        }
        Err(Kept::Quarantined) => Refusal::quarantined().into_response(),
        Err(Kept::Out(reason)) => {
            let who = peer
                .identity
                .as_ref()
                .map_or_else(String::new, |identity| identity.name.to_string());
            let detail = format!("{who} at {}: {reason}", peer.addr.ip());
            let failed = messages::AUTHENTICATION_FAILED;
            gateway
                .journal
                .say_sparsely(gateway.now(), Level::Warning, failed, &detail);
            Refusal::new(
                StatusCode::UNAUTHORIZED,
                "not-on-the-list",
                format!("{reason}: ask the operator of this gateway for a new code and enrol again"),
            )
            .into_response()
        }
    }
}

/// Why a device is not let in.
enum Kept {
    Out(&'static str),
    /// It is what it says; the operator does not want it.
    Quarantined,
}

impl From<&'static str> for Kept {
    fn from(reason: &'static str) -> Self {
        Self::Out(reason)
    }
}

fn admit(gateway: &Gateway, peer: &Peer, headers: &HeaderMap) -> Result<Name, Kept> {
    let identity = peer
        .identity
        .as_ref()
        .filter(|identity| identity.role == Role::Device);
    let name = &identity.ok_or("a device's certificate is needed")?.name;
    let enrolment = gateway
        .fleet
        .enrolment(name)
        .ok_or("this device is not on the list")?;
    if enrolment.key.is_none() || enrolment.key != peer.key {
        return Err("this key is not the one that was enrolled".into());
    }
    let token = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .ok_or("the token is missing")?;
    if !gateway
        .pepper
        .is(Use::Token, &Secret::new(token.to_owned()), &enrolment.token)
    {
        return Err("the token is wrong".into());
    }
    if enrolment.quarantine.is_some() {
        return Err(Kept::Quarantined);
    }
    Ok(name.clone())
}

/// The answer to a device that tells too much. The operator hears of it: where it is a copy, the right machine has to wait
/// as well.
fn too_much(gateway: &Gateway, name: &Name) -> Refusal {
    let text = format!("{name} tells more than its share and is told to wait");
    gateway
        .journal
        .message_sparsely(gateway.now(), Level::Warning, "manager.device.slow-down", &text);
    Refusal::new(
        StatusCode::TOO_MANY_REQUESTS,
        "slow-down",
        "this device tells too much: try again later",
    )
}

async fn hello(
    State(gateway): State<Arc<Gateway>>,
    axum::Extension(Device(name)): axum::Extension<Device>,
    peer: Peer,
    Body(hello): Body<Hello>,
) -> Result<Json<Welcome>, Refusal> {
    if !gateway.quotas.greeting(&name) {
        return Err(too_much(&gateway, &name));
    }
    let size = serde_json::to_vec(&hello).map_or(usize::MAX, |text| text.len());
    if hello.components.len() > MAX_COMPONENTS
        || hello.boot_id.len() > limits::BOOT_ID
        || size > limits::HELLO_BYTES
    {
        return Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "malformed",
            format!(
                "a device has {MAX_COMPONENTS} components and tells {} bytes at most",
                limits::HELLO_BYTES
            ),
        ));
    }
    let boot = hello.boot_id.clone();
    let waiting = hello.components.iter().filter_map(|state| state.waiting.as_ref());
    let held_back = waiting
        .filter_map(|w| Some((w.update, gateway.fleet.stopped(&w.update)?)))
        .collect();
    if let Some(doubt) = gateway.fleet.hello(&name, hello, gateway.now()) {
        doubts::raise(&gateway, &name, doubt, &peer);
    }
    doubts::hello(&gateway, &name, &boot, peer.addr.ip());
    reports::save_twin(&gateway, &name).await;
    let mut orders = Vec::new();
    for (order, offer) in gateway.fleet.orders(&name, &gateway.catalog(), true) {
        gateway.step(Step::Offered, &offer, Some(&name), None);
        orders.push(order);
    }
    let refresh = Refresh {
        timestamp: gateway.metadata().timestamp,
    };
    Ok(Json(Welcome {
        orders,
        refresh,
        poll_seconds: gateway.config.poll_seconds,
        held_back,
    }))
}

/// Closes the stream's place in the fleet when the connection ends.
struct Open {
    gateway: Arc<Gateway>,
    name: Name,
    number: u64,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.gateway.fleet.close_stream(&self.name, self.number);
    }
}

async fn events(
    State(gateway): State<Arc<Gateway>>,
    axum::Extension(Device(name)): axum::Extension<Device>,
    peer: Peer,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    if !gateway.quotas.greeting(&name) {
        return Err(too_much(&gateway, &name));
    }
    let boot = headers
        .get(device::BOOT_HEADER)
        .and_then(|value| value.to_str().ok());
    let boot = boot.filter(|boot| boot.len() <= limits::BOOT_ID);
    let (number, receiver) = gateway.fleet.open_stream(&name, boot).map_err(|why| match why {
        NoStream::Unknown => Refusal::new(
            StatusCode::UNAUTHORIZED,
            "not-on-the-list",
            "this device is not on the list",
        ),
        NoStream::TooMany => Refusal::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too-many-streams",
            "this device has its share of event streams: try again",
        ),
    })?;
    let detail = format!("{name} at {}", peer.addr.ip());
    gateway
        .journal
        .say_of(&name, gateway.now(), messages::AUTHENTICATED, "", &detail);
    let open = Open {
        gateway: gateway.clone(),
        name,
        number,
    };
    let stream = futures_util::stream::unfold((receiver, open), |(mut receiver, open)| async move {
        let push = receiver.recv().await?;
        Some((Ok::<_, Infallible>(sse(&push)), (receiver, open)))
    });
    let keep_alive = KeepAlive::new()
        .interval(Duration::from_secs(KEEP_ALIVE_SECONDS))
        .text("alive");
    Ok(SseResponse::new(stream).keep_alive(keep_alive).into_response())
}

fn sse(push: &Push) -> Sse {
    let (name, data) = match push {
        Push::Order(order) => ("order", serde_json::to_string(order)),
        Push::Refresh(refresh) => ("refresh", serde_json::to_string(refresh)),
        Push::Activate(told) => ("activate", serde_json::to_string(told)),
    };
    // Both are plain structures: they have a JSON form.
    Sse::default().event(name).data(data.unwrap_or_default())
}

async fn metadata(State(gateway): State<Arc<Gateway>>, Path(name): Path<String>) -> Response {
    if let Some(bytes) = gateway.metadata().files.get(&name) {
        return ([(header::CONTENT_TYPE, "application/json")], bytes.clone()).into_response();
    }
    let version = name
        .strip_suffix(".root.json")
        .and_then(|version| version.parse::<u64>().ok());
    let path = version.map(|version| gateway.paths.roots().join(format!("{version}.root.json")));
    match path.map(|path| durable::read_limited(path, limits::SITE_FILE_BYTES)) {
        Some(Ok(bytes)) => ([(header::CONTENT_TYPE, "application/json")], bytes).into_response(),
        _ => Refusal::new(
            StatusCode::NOT_FOUND,
            "not-found",
            "there is no such metadata file",
        )
        .into_response(),
    }
}

async fn target(
    State(gateway): State<Arc<Gateway>>,
    axum::Extension(Device(name)): axum::Extension<Device>,
    Path(digest): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let missing = || {
        Refusal::new(
            StatusCode::NOT_FOUND,
            "not-found",
            "this file is not in the mirror",
        )
    };
    let digest: Digest = digest.parse().map_err(|_| missing())?;
    // From here on it is not removed.
    let sending = gateway.sends.send(&digest).ok_or_else(missing)?;
    let length = gateway.mirror.has(&digest).ok_or_else(missing)?;
    let asked = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let range = match asked.map(|text| range(text, length)) {
        None | Some(None) => 0..length,
        Some(Some(Ok(range))) => range,
        Some(Some(Err(()))) => {
            let mut refusal = Refusal::new(
                StatusCode::RANGE_NOT_SATISFIABLE,
                "range",
                format!("the file has {length} bytes"),
            )
            .into_response();
            let value = format!("bytes */{length}");
            refusal
                .headers_mut()
                .extend(value.parse().ok().map(|value| (header::CONTENT_RANGE, value)));
            return Ok(refusal);
        }
    };
    let Some(share) = gateway.fleet.download(&name) else {
        return Err(Refusal::new(
            StatusCode::TOO_MANY_REQUESTS,
            "slow-down",
            "this device downloads too much at a time: try again",
        ));
    };
    let waited = tokio::time::timeout(limits::DOWNLOAD_WAIT, gateway.sending.clone().acquire_owned()).await;
    let Ok(Ok(place)) = waited else {
        return Err(Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "busy",
            "too many downloads at a time: try again",
        ));
    };
    let partial = range.start > 0 || range.end < length;
    let status = if partial {
        StatusCode::PARTIAL_CONTENT
    } else {
        StatusCode::OK
    };
    let mut response = Response::builder()
        .status(status)
        .header(header::CONTENT_LENGTH, range.end - range.start)
        .header(header::ACCEPT_RANGES, "bytes")
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header(header::ETAG, format!("\"{digest}\""));
    if partial {
        let value = format!("bytes {}-{}/{length}", range.start, range.end - 1);
        response = response.header(header::CONTENT_RANGE, value);
    }
    let last = (range.end == length).then_some(digest);
    let body = axum::body::Body::from_stream(pieces(
        gateway,
        name,
        digest,
        range,
        last,
        (place, share, sending),
    ));
    response.body(body).map_err(|_| missing())
}

/// One range of `bytes=FROM-[TO]`; none: not of a form that is honoured; `Err`: outside of the file.
fn range(text: &str, length: u64) -> Option<Result<Range<u64>, ()>> {
    let (from, to) = text.strip_prefix("bytes=")?.split_once('-')?;
    let from: u64 = from.parse().ok()?;
    let end = if to.is_empty() {
        length
    } else {
        to.parse::<u64>().ok()?.checked_add(1)?.min(length)
    };
    Some(if from < end { Ok(from..end) } else { Err(()) })
}

/// Reads a file piece by piece on a blocking thread, two pieces ahead of the connection. `last` is given where the
/// range ends with the file: then the device has all of it.
fn pieces(
    gateway: Arc<Gateway>,
    name: Name,
    digest: Digest,
    range: Range<u64>,
    last: Option<Digest>,
    place: (OwnedSemaphorePermit, Download, Sending),
) -> impl Stream<Item = std::io::Result<Bytes>> + Send {
    let (sender, receiver) = mpsc::channel::<std::io::Result<Bytes>>(2);
    let reader = gateway.clone();
    tokio::task::spawn_blocking(move || {
        let failed = match read_pieces(&reader, &digest, range, &sender) {
            Ok(()) => return,
            Err(error) => error,
        };
        let _ = sender.blocking_send(Err(failed));
    });
    let begun = (receiver, gateway, name, last, place);
    futures_util::stream::unfold(begun, |(mut receiver, gateway, name, last, place)| async move {
        let Some(piece) = receiver.recv().await else {
            if let Some(digest) = last {
                sent(&gateway, &name, &digest);
            }
            return None;
        };
        let count = piece.as_ref().map_or(0, Bytes::len) as u64;
        gateway.sent_bytes.fetch_add(count, Ordering::Relaxed);
        Some((piece, (receiver, gateway, name, last, place)))
    })
}

fn read_pieces(
    gateway: &Gateway,
    digest: &Digest,
    range: Range<u64>,
    sender: &mpsc::Sender<std::io::Result<Bytes>>,
) -> std::io::Result<()> {
    let mut file = gateway.mirror.open_file(digest).map_err(std::io::Error::other)?;
    file.seek(SeekFrom::Start(range.start))?;
    let mut left = range.end - range.start;
    while left > 0 {
        let size = left.min(limits::SEND_PIECE as u64);
        let mut piece = Vec::with_capacity(usize::try_from(size).unwrap_or(limits::SEND_PIECE));
        let read = (&mut file).take(size).read_to_end(&mut piece)?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        left -= read as u64;
        if sender.blocking_send(Ok(piece.into())).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// The file's last byte was handed to a device's connection.
fn sent(gateway: &Gateway, name: &Name, digest: &Digest) {
    let catalog = gateway.catalog();
    let Some(offer) = catalog.by_digest(digest) else {
        return;
    };
    gateway.step(Step::Sent, offer, Some(name), Some(offer.length));
    let what = format!("{}_{}", offer.release.component, offer.release.version);
    gateway
        .journal
        .say_of(name, gateway.now(), messages::SENT, &what, name.as_str());
}

async fn progress(
    State(gateway): State<Arc<Gateway>>,
    axum::Extension(Device(name)): axum::Extension<Device>,
    Body(events): Body<Vec<Event>>,
) -> Result<StatusCode, Refusal> {
    if !gateway
        .quotas
        .progress(&name, events.len().min(limits::PROGRESS_EVENTS))
    {
        return Err(too_much(&gateway, &name));
    }
    for mut event in events.into_iter().take(limits::PROGRESS_EVENTS) {
        // Kept in memory and in logs: a device must not fill either.
        event.reason = event
            .reason
            .map(|reason| reason.chars().take(MAX_REASON).collect());
        event
            .at
            .boot_id
            .truncate(event.at.boot_id.floor_char_boundary(limits::BOOT_ID));
        // Unsigned, for people who watch: but only in the sender's own name.
        if event.actor.role == Role::Device
            && event.actor.name == name
            && event.actor.site == gateway.identity.site
        {
            gateway.fleet.progress(&name, &event);
            gateway.journal.device_step(event);
        }
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn take_reports(
    State(gateway): State<Arc<Gateway>>,
    axum::Extension(Device(name)): axum::Extension<Device>,
    peer: Peer,
    Body(reports): Body<Vec<SignedReport>>,
) -> Result<Response, Refusal> {
    if !gateway.quotas.reports(&name, &reports) {
        return Err(too_much(&gateway, &name));
    }
    let malformed = || {
        Refusal::new(
            StatusCode::BAD_REQUEST,
            "malformed",
            "the certificate has no key that signs reports",
        )
    };
    let certificate = peer.certificate.as_ref().ok_or_else(malformed)?;
    let key = reports::SenderKey {
        key: peer.key.ok_or_else(malformed)?,
        public_key: mtls::public_key_of(certificate).map_err(|_| malformed())?,
        // As it was shown: the device may be vouched for by an authority of before.
        chain: mtls::chain_text(std::iter::once(certificate).chain(&peer.between)),
    };
    // Beside the connection: a device that is cut off now sends the report again, but what follows from it is
    // done with the first one that is written down, or never.
    let (own, sender) = (gateway.clone(), name.clone());
    let taking = tokio::spawn(async move { reports::take(&own, &sender, key, reports, &peer).await });
    let taken = taking.await.map_err(|_| {
        let message = "the gateway could not take the reports: try again";
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    })?;
    let taken = taken.map_err(|problem| {
        let status = match problem.code.as_str() {
            "internal" => StatusCode::INTERNAL_SERVER_ERROR,
            reports::CUT_OFF => StatusCode::UNAUTHORIZED,
            _ => StatusCode::BAD_REQUEST,
        };
        Refusal(status, problem)
    })?;
    // An outcome may free a device for the next order.
    for (order, offer) in gateway.fleet.orders(&name, &gateway.catalog(), false) {
        gateway.step(Step::Offered, &offer, Some(&name), None);
        gateway.fleet.push(&name, &Push::Order(Box::new(order)));
    }
    Ok(Json(taken).into_response())
}

async fn renew(
    State(gateway): State<Arc<Gateway>>,
    axum::Extension(Device(name)): axum::Extension<Device>,
    peer: Peer,
    Body(renew): Body<Renew>,
) -> Result<Response, Refusal> {
    if !gateway.quotas.renewal(&name) {
        return Err(too_much(&gateway, &name));
    }
    Ok(Json(enroll::renew(&gateway, &name, peer.key, &renew).await?).into_response())
}
