//! A repository that serves what it is given, right or wrong, and counts who asks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::extract::{Path, State};
use axum::response::IntoResponse as _;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use mtls::serve::{Connections, Limits, serve};
use mtls::{ClientAuth, Credentials, HTTP_1_1, SiteCa, SystemClock};
use protocol::author::RelayedReport;
use protocol::device::ReportsTaken;
use protocol::{Report, Role, Step};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

#[derive(Default)]
pub(crate) struct Shelf {
    /// By path below `metadata/` or `targets/`.
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// Paths that are answered as if there were no file.
    pub(crate) lost: BTreeSet<String>,
    pub(crate) asked: BTreeMap<String, usize>,
    pub(crate) reports: Vec<RelayedReport>,
    pub(crate) broken: bool,
}

pub(crate) type Shared = Arc<Mutex<Shelf>>;

pub(crate) struct Repository {
    pub(crate) address: SocketAddr,
    pub(crate) shelf: Shared,
    shutdown: CancellationToken,
}

impl Drop for Repository {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn find(shelf: &Shared, path: &str) -> Response {
    let mut shelf = shelf.lock().unwrap();
    *shelf.asked.entry(path.to_owned()).or_default() += 1;
    if shelf.broken {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    match shelf.files.get(path).filter(|_| !shelf.lost.contains(path)) {
        Some(bytes) => bytes.clone().into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn metadata(State(shelf): State<Shared>, Path(name): Path<String>) -> Response {
    find(&shelf, &name)
}

async fn target(State(shelf): State<Shared>, Path(path): Path<String>) -> Response {
    find(&shelf, &path)
}

async fn reports(State(shelf): State<Shared>, Json(batch): Json<Vec<RelayedReport>>) -> Json<ReportsTaken> {
    shelf.lock().unwrap().reports.extend(batch);
    Json(ReportsTaken { through: 0 })
}

impl Repository {
    pub(crate) async fn start(credentials: &Credentials, ca: &SiteCa) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let config = mtls::server_config(
            credentials,
            ca,
            &"plant".parse().unwrap(),
            ClientAuth::Optional,
            &[Role::Manager],
            &[HTTP_1_1],
            Arc::new(SystemClock),
        )
        .unwrap();
        let shelf = Shared::default();
        let app = Router::new()
            .route("/metadata/{name}", get(metadata))
            .route("/targets/{*path}", get(target))
            .route("/api/v1/reports", post(reports))
            .with_state(shelf.clone());
        let shutdown = CancellationToken::new();
        let (keep, tls) = watch::channel(Arc::new(config));
        let until = shutdown.clone();
        tokio::spawn(async move {
            serve(listener, tls, app, Limits::default(), Connections::new(), until).await;
            drop(keep);
        });
        Self {
            address,
            shelf,
            shutdown,
        }
    }

    /// Waits until the gateway has reported a step with such a reason.
    pub(crate) async fn reported(&self, step: Step, reason: &str) {
        for _ in 0..500 {
            let reports = self.shelf.lock().unwrap().reports.clone();
            let texts = reports.iter().map(|relayed| &relayed.report.report);
            let found = texts.flat_map(|text| serde_json::from_str::<Report>(text).unwrap().events);
            if found
                .filter(|event| event.step == step)
                .any(|event| event.reason.is_some_and(|told| told.contains(reason)))
            {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        panic!("{step} was not reported: {reason}");
    }

    pub(crate) fn asked(&self, path: &str) -> usize {
        self.shelf.lock().unwrap().asked.get(path).copied().unwrap_or(0)
    }
}
