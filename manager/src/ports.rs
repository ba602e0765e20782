//! The gateway's ports and every route of them, in two lists: what anybody may ask, and what a device on the list may.
//!
//! A request that is in neither is answered as if nothing were there, also where somebody has written a handler for it
//! and forgot the list.

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Method, StatusCode, header};
use protocol::device::{EVENTS, HELLO, PROGRESS, RENEW, REPORTS};
use protocol::enroll::{ENROLL, RENEW_EXPIRED};
use tower_http::set_header::SetResponseHeaderLayer;

use crate::sender::Refusal;

/// One of the addresses that a gateway listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// `listen_devices`: TLS with a client certificate of a device.
    Devices,
    /// `listen_enroll`: TLS that asks for no certificate.
    Joining,
    /// `metrics`: plain HTTP on a loopback address.
    Metrics,
}

/// A path, and how it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Where.
    pub port: Port,
    /// Method; where it is `GET`, `HEAD` too.
    pub method: &'static str,
    /// Path with `{parameters}`.
    pub path: &'static str,
}

const fn route(port: Port, method: &'static str, path: &'static str) -> Route {
    Route { port, method, path }
}

/// What anybody may ask, without a certificate: the joining port's two questions, of which one wants a code and a
/// password and the other a token and a proof of the key, and the figures, which never leave the machine.
pub const PUBLIC_ROUTES: &[Route] = &[
    route(Port::Joining, "POST", ENROLL),
    route(Port::Joining, "POST", RENEW_EXPIRED),
    route(Port::Metrics, "GET", "/metrics"),
];

/// What a device may ask that is on the list, with its certificate and its token.
pub const DEVICE_ROUTES: &[Route] = &[
    route(Port::Devices, "POST", HELLO),
    route(Port::Devices, "GET", EVENTS),
    route(Port::Devices, "GET", "/v1/metadata/{name}"),
    route(Port::Devices, "GET", "/v1/targets/{digest}"),
    route(Port::Devices, "POST", PROGRESS),
    route(Port::Devices, "POST", REPORTS),
    route(Port::Devices, "POST", RENEW),
];

/// Lets a request through to its handler if the lists say so.
pub(crate) async fn listed(State(port): State<Port>, request: Request, next: Next) -> Response {
    match refused(port, &request) {
        Some(refusal) => refusal.into_response(),
        None => next.run(request).await,
    }
}

fn refused(port: Port, request: &Request) -> Option<Refusal> {
    let method = match *request.method() {
        Method::HEAD => &Method::GET,
        ref other => other,
    };
    // Where the router knows no such path, it has its own words for that.
    let path = request.extensions().get::<MatchedPath>()?.as_str();
    let lists = PUBLIC_ROUTES.iter().chain(DEVICE_ROUTES);
    let mut here = lists
        .filter(|route| route.port == port && route.path == path)
        .peekable();
    if here.peek().is_none() {
        let message = "there is nothing at this path";
        return Some(Refusal::new(StatusCode::NOT_FOUND, "not-found", message));
    }
    if here.any(|route| method == route.method) {
        return None;
    }
    let message = "this path is not asked in this way";
    Some(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method", message))
}

/// Says with every answer that it is for no cache, for no guess at what it is, and for no other site: what devices get
/// is not for browsers, and an enrolment's answer holds a token.
pub(crate) fn with_headers(router: Router) -> Router {
    let fixed = |name, value| SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value));
    router
        .layer(fixed(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(fixed(header::REFERRER_POLICY, "no-referrer"))
        .layer(fixed(header::CACHE_CONTROL, "no-store"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use axum::body::Body;
    use axum::middleware::from_fn_with_state;
    use axum::routing::get;
    use tower::ServiceExt as _;

    use super::*;
    use crate::fixture::Fixture;

    /// The paths that a router knows, whether a list names them or not: its debug form quotes them.
    fn paths(router: &Router) -> BTreeSet<String> {
        let text = format!("{router:?}");
        let quoted = text.split('"').skip(1).step_by(2);
        // A fallback stands at paths of axum's own.
        let own = |path: &&str| path.starts_with('/') && *path != "/" && !path.contains("__private__axum");
        quoted.filter(own).map(str::to_owned).collect()
    }

    #[test]
    fn every_path_of_every_router_is_in_a_list_and_no_other() {
        let gateway = Fixture::new(certs::life::LEAF).gateway;
        for (port, router) in [
            (Port::Devices, crate::sender::routes(gateway.clone())),
            (Port::Joining, crate::enroll::routes(gateway.clone())),
            (Port::Metrics, crate::metrics::routes(gateway.clone())),
        ] {
            let lists = PUBLIC_ROUTES.iter().chain(DEVICE_ROUTES);
            let listed: BTreeSet<String> = lists
                .filter(|route| route.port == port)
                .map(|route| route.path.to_owned())
                .collect();
            assert_eq!(paths(&router), listed, "{port:?}");
        }
    }

    #[tokio::test]
    async fn a_handler_that_no_list_names_is_not_reached() {
        let router: Router = Router::new()
            .route(ENROLL, get(async || "a forgotten method"))
            .route("/v1/new", get(async || "a forgotten path"))
            .layer(from_fn_with_state(Port::Joining, listed));
        assert_eq!(paths(&router), [ENROLL, "/v1/new"].map(str::to_owned).into());
        for (path, status) in [
            (ENROLL, StatusCode::METHOD_NOT_ALLOWED),
            ("/v1/new", StatusCode::NOT_FOUND),
        ] {
            let request = Request::get(path).body(Body::empty()).unwrap();
            let response = router.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), status, "{path}");
        }
    }
}
