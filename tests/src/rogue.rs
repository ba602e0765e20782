//! Servers with the right certificate and a bad heart: a repository that serves what a test puts on its
//! shelf, a manager that orders what a test says. What was stolen is the machine, with its TLS key.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use http::{Method, StatusCode, header};
use mtls::serve::{Connections, Limits, serve};
use mtls::{ClientAuth, Credentials, HTTP_1_1, HTTP_2, SiteCa, server_config};
use protocol::author::RelayedReport;
use protocol::device::{Order, Refresh, ReportsTaken, Welcome};
use protocol::{Event, Name, Report, Role, SignedReport};
use tokio::net::TcpListener;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use crate::Site;
use crate::forge::Set;
use crate::process::patience;

/// Bytes of a request that are read.
const BODY: usize = 16 << 20;
/// Bytes that an endless file sends at a time.
const ENDLESS_PIECE: usize = 64 << 10;

/// What lies at a path.
#[derive(Debug, Clone)]
pub enum Thing {
    /// These bytes.
    Bytes(Bytes),
    /// These bytes, and then more of anything, for ever.
    Endless(Bytes),
}

#[derive(Debug, Default)]
struct Inner {
    things: BTreeMap<String, Thing>,
    asked: Vec<String>,
    orders: Vec<Order>,
    timestamp: u64,
    progress: Vec<Event>,
    reports: Vec<Report>,
}

#[derive(Debug)]
struct Shared {
    inner: Mutex<Inner>,
    changed: watch::Sender<u64>,
    push: broadcast::Sender<String>,
}

/// A rogue server; it ends when it is dropped.
#[derive(Debug)]
pub struct Rogue {
    shared: Arc<Shared>,
    shutdown: CancellationToken,
    connections: Connections,
    _tls: watch::Sender<Arc<mtls::ServerConfig>>,
}

impl Rogue {
    /// Takes the place of the site's repository, which must not run, with its certificate.
    pub async fn repository(site: &Site) -> Self {
        let accept = &[Role::Author, Role::Manager];
        Self::start(site, "repository", site.at(7100), ClientAuth::Optional, accept).await
    }

    /// Takes the place of the site's manager, which must not run, with its certificate.
    pub async fn manager(site: &Site) -> Self {
        Self::start(
            site,
            "manager",
            site.at(7101),
            ClientAuth::Required,
            &[Role::Device],
        )
        .await
    }

    /// Takes a place with the certificate of whatever program of whatever site; asks its visitors for none.
    pub async fn impostor(site: &Site, folder: &str, at: SocketAddr) -> Self {
        Self::start(site, folder, at, ClientAuth::None, &[]).await
    }

    async fn start(
        site: &Site,
        folder: &str,
        address: SocketAddr,
        auth: ClientAuth,
        accept: &[Role],
    ) -> Self {
        let at = |file: &str| site.path(&format!("{folder}/{file}"));
        let own = Credentials::load(&at("tls.pem"), &at("tls-key.pem")).expect("the stolen certificate");
        let ca = SiteCa::load(&at("ca.pem")).expect("the site's authority");
        let name: Name = site.name().parse().expect("a name");
        let config = server_config(&own, &ca, &name, auth, accept, &[HTTP_2, HTTP_1_1], site.clock())
            .expect("a configuration");
        let (tls, receiver) = watch::channel(Arc::new(config));
        let listener = TcpListener::bind(address)
            .await
            .expect("the place of the real one is free");
        let shared = Arc::new(Shared {
            inner: Mutex::default(),
            changed: watch::channel(0).0,
            push: broadcast::channel(64).0,
        });
        let app = Router::new().fallback(answer).with_state(shared.clone());
        let (shutdown, connections) = (CancellationToken::new(), Connections::new());
        tokio::spawn(serve(
            listener,
            receiver,
            app,
            Limits::default(),
            connections.clone(),
            shutdown.clone(),
        ));
        Self {
            shared,
            shutdown,
            connections,
            _tls: tls,
        }
    }

    fn with<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        change(&mut self.shared.inner.lock().unwrap())
    }

    /// Puts metadata on the shelf, for managers and for devices, and tells those who listen.
    pub fn metadata(&self, set: &Set) {
        self.shelve(set, None);
    }

    /// The same, with something else in the place of one file.
    pub fn metadata_with(&self, set: &Set, file: &str, thing: &Thing) {
        self.shelve(set, Some((file, thing)));
    }

    fn shelve(&self, set: &Set, instead: Option<(&str, &Thing)>) {
        let timestamp = set
            .get("timestamp.json")
            .and_then(|bytes| tuf::unverified_version(bytes));
        let files = set
            .iter()
            .map(|(name, bytes)| (name.as_str(), Thing::Bytes(bytes.clone().into())));
        let instead = instead.map(|(name, thing)| (name, thing.clone()));
        self.with(|inner| {
            for (name, thing) in files.chain(instead) {
                inner.things.insert(format!("/metadata/{name}"), thing.clone());
                inner.things.insert(format!("/v1/metadata/{name}"), thing);
            }
            inner.timestamp = timestamp.unwrap_or(inner.timestamp);
        });
        let timestamp = timestamp.unwrap_or(0);
        let refresh = serde_json::to_string(&Refresh { timestamp }).expect("a message");
        self.push("refresh", &refresh);
        self.push("published", &format!("{{\"timestamp\":{timestamp}}}"));
    }

    /// Puts one thing at one path.
    pub fn put(&self, path: &str, thing: Thing) {
        self.with(|inner| inner.things.insert(path.to_owned(), thing));
    }

    /// Puts bytes at a path.
    pub fn put_bytes(&self, path: &str, bytes: impl Into<Bytes>) {
        self.put(path, Thing::Bytes(bytes.into()));
    }

    /// Takes away what lies at a path.
    pub fn remove(&self, path: &str) {
        self.with(|inner| inner.things.remove(path));
    }

    /// Orders something from every device that is connected and every one that will be.
    ///
    /// # Panics
    /// Never: an order has a JSON form.
    pub fn order(&self, order: &Order) {
        self.with(|inner| inner.orders = vec![order.clone()]);
        self.push("order", &serde_json::to_string(order).expect("a message"));
    }

    fn push(&self, event: &str, data: &str) {
        // Nobody may be listening yet.
        let _ = self.shared.push.send(format!("event: {event}\ndata: {data}\n\n"));
    }

    /// `METHOD PATH` of every request so far.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.with(|inner| inner.asked.clone())
    }

    /// How many requests have been made for a path.
    #[must_use]
    pub fn count(&self, what: &str) -> usize {
        self.with(|inner| inner.asked.iter().filter(|asked| asked.contains(what)).count())
    }

    /// Waits until `what` has been asked for `times` times.
    ///
    /// # Panics
    /// If that does not happen within [`patience`].
    pub async fn wait_asked(&self, what: &str, times: usize) {
        self.wait(what, |inner| {
            (inner.asked.iter().filter(|asked| asked.contains(what)).count() >= times).then_some(())
        })
        .await;
    }

    /// Waits for a device's report for which `wanted` is true.
    ///
    /// # Panics
    /// If none comes within [`patience`].
    pub async fn wait_report(&self, what: &str, wanted: impl Fn(&Report) -> bool) -> Report {
        self.wait(what, |inner| {
            inner.reports.iter().find(|report| wanted(report)).cloned()
        })
        .await
    }

    /// Forgets what was asked and reported so far, for those who ask very often.
    pub fn forget(&self) {
        self.with(|inner| {
            inner.asked.clear();
            inner.reports.clear();
            inner.progress.clear();
        });
    }

    /// Reports that devices have sent so far.
    #[must_use]
    pub fn reports(&self) -> Vec<Report> {
        self.with(|inner| inner.reports.clone())
    }

    async fn wait<T>(&self, what: &str, look: impl Fn(&Inner) -> Option<T>) -> T {
        let mut changed = self.shared.changed.subscribe();
        let search = async {
            loop {
                changed.borrow_and_update();
                if let Some(found) = look(&self.shared.inner.lock().unwrap()) {
                    return found;
                }
                changed.changed().await.expect("the server runs");
            }
        };
        match tokio::time::timeout(patience(), search).await {
            Ok(found) => found,
            Err(_) => panic!(
                "the rogue server saw no {what}; it was asked for\n{}",
                self.asked().join("\n")
            ),
        }
    }

    /// Ends it and frees its address.
    pub async fn end(self) {
        self.shutdown.cancel();
        self.connections.close_where(|_| true);
        let shared = Arc::downgrade(&self.shared);
        drop(self);
        // The listener is gone with its task; that holds the last reference.
        let gone = async {
            while shared.strong_count() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(patience(), gone)
            .await
            .expect("the rogue server ends");
    }
}

impl Drop for Rogue {
    fn drop(&mut self) {
        self.shutdown.cancel();
        self.connections.close_where(|_| true);
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    shared
        .inner
        .lock()
        .unwrap()
        .asked
        .push(format!("{} {path}", parts.method));
    let body = to_bytes(body, BODY).await.unwrap_or_default();
    let response = respond(&shared, &parts.method, &path, &parts.headers, &body);
    shared.changed.send_modify(|count| *count += 1);
    response
}

fn respond(
    shared: &Arc<Shared>,
    method: &Method,
    path: &str,
    headers: &http::HeaderMap,
    body: &Bytes,
) -> Response {
    let mut inner = shared.inner.lock().unwrap();
    match (method, path) {
        (&Method::POST, "/v1/hello") => json(&Welcome {
            held_back: std::collections::BTreeMap::new(),
            orders: inner.orders.clone(),
            refresh: Refresh {
                timestamp: inner.timestamp,
            },
            poll_seconds: 1,
        }),
        (&Method::GET, "/v1/events" | "/events") => events(shared.push.subscribe()),
        (&Method::POST, "/v1/progress") => {
            inner
                .progress
                .extend(serde_json::from_slice::<Vec<Event>>(body).unwrap_or_default());
            empty(StatusCode::NO_CONTENT)
        }
        (&Method::POST, "/v1/reports") => {
            let signed: Vec<SignedReport> = serde_json::from_slice(body).unwrap_or_default();
            take(&mut inner, &signed)
        }
        (&Method::POST, "/api/v1/reports") => {
            let relayed: Vec<RelayedReport> = serde_json::from_slice(body).unwrap_or_default();
            let signed: Vec<SignedReport> = relayed.into_iter().map(|relayed| relayed.report).collect();
            take(&mut inner, &signed)
        }
        (&Method::GET, _) => match inner.things.get(path) {
            Some(thing) => send(thing, headers),
            None => empty(StatusCode::NOT_FOUND),
        },
        _ => empty(StatusCode::NOT_FOUND),
    }
}

fn take(inner: &mut Inner, signed: &[SignedReport]) -> Response {
    let reports: Vec<Report> = signed.iter().filter_map(|report| report.read().ok()).collect();
    let through = reports.iter().map(|report| report.counter).max().unwrap_or(0);
    inner.reports.extend(reports);
    json(&ReportsTaken { through })
}

/// Bytes from where the asker has got to, as an honest server would.
fn send(thing: &Thing, headers: &http::HeaderMap) -> Response {
    let range = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let from = range.and_then(|text| {
        text.strip_prefix("bytes=")?
            .split('-')
            .next()?
            .parse::<usize>()
            .ok()
    });
    match thing {
        Thing::Endless(first) => {
            let first = stream::iter([Ok::<_, Infallible>(first.clone())]);
            let rest = stream::repeat_with(|| Ok(Bytes::from(vec![0x5a; ENDLESS_PIECE])));
            Response::new(Body::from_stream(futures_util::StreamExt::chain(first, rest)))
        }
        Thing::Bytes(bytes) => match from.filter(|from| *from > 0 && *from < bytes.len()) {
            Some(from) => {
                let value = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
                let mut response = Response::new(Body::from(bytes.slice(from..)));
                *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                response
                    .headers_mut()
                    .insert(header::CONTENT_RANGE, value.parse().expect("a header"));
                response
            }
            None => Response::new(Body::from(bytes.clone())),
        },
    }
}

fn events(receiver: broadcast::Receiver<String>) -> Response {
    let hello = ": here\n\n".to_owned();
    let stream = stream::unfold((Some(hello), receiver), |(first, mut receiver)| async move {
        let text = match first {
            Some(text) => text,
            None => receiver.recv().await.ok()?,
        };
        Some((Ok::<_, Infallible>(Bytes::from(text)), (None, receiver)))
    });
    let mut response = Response::new(Body::from_stream(stream));
    let value = http::HeaderValue::from_static("text/event-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, value);
    response
}

fn json(value: &impl serde::Serialize) -> Response {
    let mut response = Response::new(Body::from(serde_json::to_vec(value).expect("a message")));
    let value = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, value);
    response
}

fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}
