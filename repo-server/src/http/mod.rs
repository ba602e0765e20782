//! The listener's face: who may ask what, and how the answers look.
//!
//! [`ROUTES`] is the one table of paths, methods and who may use them. The router takes its permissions from it,
//! and a request that is not in it is refused; a test compares it with the OpenAPI document.

mod author;
mod body;
mod events;
mod metrics;
mod page;
mod places;
mod public;
mod range;

use std::sync::Arc;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch, post};
use mtls::serve::Peer;
use protocol::device::Problem;
use protocol::{Identity, Role};
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::set_header::SetResponseHeaderLayer;
use tracing::{debug, error};

pub use places::PlaceLimits;
use places::Places;

use crate::refusal::chain;
use crate::{Refusal, Repository};

/// The OpenAPI document.
pub const OPENAPI: &str = include_str!("openapi.json");

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// No certificate needed.
    Everybody,
    /// A peer on the loopback interface, or one with a certificate.
    Local,
    /// Author certificates.
    Author,
    /// Manager certificates.
    Manager,
    /// Author and manager certificates.
    AuthorOrManager,
}

/// One route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Method.
    pub method: &'static str,
    /// Path with `{parameters}`.
    pub path: &'static str,
    /// Who may use it.
    pub access: Access,
}

const fn route(method: &'static str, path: &'static str, access: Access) -> Route {
    Route { method, path, access }
}

/// Every route there is.
pub const ROUTES: &[Route] = &[
    route("GET", "/", Access::Everybody),
    route("GET", "/healthz", Access::Everybody),
    route("GET", "/metrics", Access::Local),
    route("GET", "/events", Access::Everybody),
    route("GET", "/metadata/{name}", Access::Everybody),
    route("GET", "/targets/{*path}", Access::Everybody),
    route("GET", "/api/v1/openapi.json", Access::Everybody),
    route("GET", "/api/v1/releases", Access::Everybody),
    route("GET", "/api/v1/uploads/{digest}", Access::AuthorOrManager),
    route("PATCH", "/api/v1/uploads/{digest}", Access::AuthorOrManager),
    route("POST", "/api/v1/publish", Access::Author),
    route("POST", "/api/v1/recover", Access::AuthorOrManager),
    route("GET", "/api/v1/reports", Access::Author),
    route("POST", "/api/v1/reports", Access::Manager),
];

/// What handlers share; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct App {
    pub(crate) repository: Arc<Repository>,
    pub(crate) downloads: Arc<Places>,
    pub(crate) subscribers: Arc<Places>,
    pub(crate) stop: CancellationToken,
}

/// The router over a repository; event streams end with `stop`.
pub fn router(repository: Arc<Repository>, stop: CancellationToken) -> Router {
    let app = App {
        downloads: Places::new("downloads", repository.limits.downloads),
        subscribers: Places::new("event streams", repository.limits.subscribers),
        repository,
        stop,
    };
    let fixed = |name, value| SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value));
    Router::new()
        .route("/", get(page::page))
        .route("/healthz", get(public::healthz))
        .route("/metrics", get(metrics::metrics))
        .route("/events", get(events::events))
        .route("/metadata/{name}", get(public::metadata))
        .route("/targets/{*path}", get(public::target))
        .route("/api/v1/openapi.json", get(public::openapi))
        .route("/api/v1/releases", get(page::releases))
        .route(
            "/api/v1/uploads/{digest}",
            get(author::upload_state).merge(patch(author::upload)),
        )
        .route("/api/v1/publish", post(author::publish))
        .route("/api/v1/recover", post(author::recover))
        .route(
            "/api/v1/reports",
            get(author::reports).merge(post(author::take_reports)),
        )
        .method_not_allowed_fallback(async || Refusal::Method)
        .fallback(async |request: Request| Refusal::NotFound(shortened(request.uri().path())))
        .layer(from_fn_with_state(app.clone(), gate))
        .layer(CatchPanicLayer::custom(|_| {
            Refusal::Internal(anyhow::anyhow!("a handler panicked")).into_response()
        }))
        .layer(fixed(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(fixed(header::REFERRER_POLICY, "no-referrer"))
        .layer(fixed(header::CACHE_CONTROL, "no-store"))
        .with_state(app)
}

/// Lets a request through if the table says so, and counts it.
async fn gate(State(app): State<App>, request: Request, next: Next) -> Response {
    let method = match *request.method() {
        Method::HEAD => Method::GET,
        ref other => other.clone(),
    };
    let path = request
        .extensions()
        .get::<MatchedPath>()
        .map(|path| path.as_str().to_owned());
    let known = ROUTES.iter().find(|route| Some(route.path) == path.as_deref());
    let allowed = ROUTES
        .iter()
        .find(|route| Some(route.path) == path.as_deref() && route.method == method);
    let peer = request.extensions().get::<Peer>().cloned();
    let verdict = match (allowed, &peer) {
        (Some(route), Some(peer)) => permit(route.access, peer),
        (None, Some(_)) if known.is_some() => Err(Refusal::Method),
        // A handler that was put in without a row.
        (None, Some(_)) if path.is_some() => Err(Refusal::NotFound(shortened(request.uri().path()))),
        // No path of ours: the router has its answer.
        (None, Some(_)) => Ok(()),
        (_, None) => Err(Refusal::Internal(anyhow::anyhow!("a request without a peer"))),
    };
    let response = match verdict {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    };
    let label = known.map_or("other", |route| route.path);
    app.repository.counters.request(label, response.status().as_u16());
    debug!(?peer, %method, label, status = response.status().as_u16(), "request");
    response
}

/// The table of DESIGN section 8, role → permission, for this program.
fn permit(access: Access, peer: &Peer) -> Result<(), Refusal> {
    let (needed, roles): (&'static str, &[Role]) = match access {
        Access::Everybody => return Ok(()),
        Access::Local => {
            let local = peer.identity.is_some() || peer.addr.ip().to_canonical().is_loopback();
            return if local { Ok(()) } else { Err(Refusal::LocalOnly) };
        }
        Access::Author => ("author", &[Role::Author]),
        Access::Manager => ("manager", &[Role::Manager]),
        Access::AuthorOrManager => ("author or manager", &[Role::Author, Role::Manager]),
    };
    match &peer.identity {
        None => Err(Refusal::NoCertificate { needed }),
        Some(Identity { role, .. }) if roles.contains(role) => Ok(()),
        Some(Identity { role, .. }) => Err(Refusal::NotAllowed { role: *role, needed }),
    }
}

/// The identity behind a request that the gate has let through.
pub(crate) fn identity(peer: &Peer) -> Result<Identity, Refusal> {
    peer.identity.clone().ok_or(Refusal::NoCertificate {
        needed: "author or manager",
    })
}

/// Runs something that blocks.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(failed) => Err(Refusal::Internal(anyhow::Error::new(failed))),
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (code, status) = self.class();
        if let Self::Internal(cause) = &self {
            error!(reason = format!("{cause:#}"), "a request failed");
        }
        let retry = self.retry_after();
        let range = match &self {
            Self::Range { length } => Some(format!("bytes */{length}")),
            _ => None,
        };
        let mut response = match self {
            // The contract of uploads: the state, so that the sender goes on from there.
            Self::UploadOffset { state } => (status, axum::Json(state)).into_response(),
            other => {
                let message = match &other {
                    Self::Internal(_) => other.to_string(),
                    other => chain(other),
                };
                (
                    status,
                    axum::Json(Problem {
                        code: code.to_owned(),
                        message,
                    }),
                )
                    .into_response()
            }
        };
        let headers = response.headers_mut();
        if let Some(seconds) = retry {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(Ok(range)) = range.map(HeaderValue::try_from) {
            headers.insert(header::CONTENT_RANGE, range);
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Certificate"));
        }
        response
    }
}

/// A path from outside, short enough to be said back.
fn shortened(path: &str) -> String {
    path.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    #[test]
    fn the_openapi_document_describes_every_route_and_no_other() {
        let document: Value = serde_json::from_str(OPENAPI).unwrap();
        let mut described = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                if method == "parameters" {
                    continue;
                }
                assert!(
                    operation["summary"].is_string() && operation["responses"].is_object(),
                    "{path}"
                );
                described.insert((
                    method.to_uppercase(),
                    path.clone(),
                    operation["x-access"].to_string(),
                ));
            }
        }
        let served: BTreeSet<_> = ROUTES
            .iter()
            .map(|route| {
                let access = match route.access {
                    Access::Everybody => "everybody",
                    Access::Local => "loopback or any certificate",
                    Access::Author => "author",
                    Access::Manager => "manager",
                    Access::AuthorOrManager => "author or manager",
                };
                let path = route.path.replace("{*path}", "{path}");
                (route.method.to_owned(), path, format!("{access:?}"))
            })
            .collect();
        assert_eq!(described, served);
    }

    #[test]
    fn every_reference_in_the_openapi_document_leads_somewhere() {
        let document: Value = serde_json::from_str(OPENAPI).unwrap();
        let mut stack = vec![&document];
        while let Some(value) = stack.pop() {
            if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
                let pointer = reference.strip_prefix('#').unwrap();
                assert!(document.pointer(pointer).is_some(), "{reference}");
            }
            match value {
                Value::Array(items) => stack.extend(items),
                Value::Object(fields) => stack.extend(fields.values()),
                _ => {}
            }
        }
    }
}
