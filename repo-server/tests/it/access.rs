//! Who may do what.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use certs::{flawed, life};
use mtls::serve::{Peer, PeerFacts};
use mtls::{Credentials, HTTP_1_1, SiteCa};
use protocol::Role;
use repo_server::http::{Access, ROUTES, Route, router};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::site::{NOW, Site, name, problem, sample};

/// What the table promises, worked out without the program's own code.
fn expected(route: &Route, role: Option<Role>) -> Option<(StatusCode, &'static str)> {
    let roles: &[Option<Role>] = match route.access {
        Access::Everybody | Access::Local => &[None, Some(Role::Author), Some(Role::Manager)],
        Access::Author => &[Some(Role::Author)],
        Access::Manager => &[Some(Role::Manager)],
        Access::AuthorOrManager => &[Some(Role::Author), Some(Role::Manager)],
    };
    let allowed = roles.contains(&role);
    match (allowed, role) {
        (true, _) => None,
        (false, None) => Some((StatusCode::UNAUTHORIZED, "no-certificate")),
        (false, Some(_)) => Some((StatusCode::FORBIDDEN, "not-allowed")),
    }
}

#[tokio::test]
async fn every_route_lets_in_exactly_whom_the_table_names() {
    let site = Site::new();
    let running = site.start().await;
    running.release(&sample("1.0.0", 1)).await;
    for route in ROUTES {
        for role in [None, Some(Role::Author), Some(Role::Manager)] {
            let path = route
                .path
                .replace("{name}", "timestamp.json")
                .replace("{*path}", "none")
                .replace("{digest}", &"0".repeat(64));
            let method = Method::from_bytes(route.method.as_bytes()).unwrap();
            let response = site
                .client(role)
                .request(method, running.url(&path))
                .send()
                .await
                .unwrap();
            let what = format!("{} {} as {role:?}", route.method, route.path);
            match expected(route, role) {
                Some((status, code)) => {
                    let (found, problem) = problem(response).await;
                    assert_eq!((found, problem.code.as_str()), (status, code), "{what}");
                }
                None => {
                    let status = response.status();
                    let refused = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&status);
                    assert!(!refused && !status.is_server_error(), "{what}: {status}");
                }
            }
        }
    }
}

#[tokio::test]
async fn every_path_of_the_router_is_in_the_table_and_no_other() {
    let site = Site::new();
    let running = site.start().await;
    let app = router(Arc::clone(running.server.repository()), CancellationToken::new());
    // Its debug form quotes the paths that it knows; a fallback stands at paths of axum's own.
    let text = format!("{app:?}");
    let known: BTreeSet<&str> = text
        .split('"')
        .skip(1)
        .step_by(2)
        .filter(|path| path.starts_with('/') && !path.contains("__private__axum"))
        .collect();
    assert_eq!(known, ROUTES.iter().map(|route| route.path).collect());
}

#[tokio::test]
async fn what_the_table_does_not_name_is_not_there() {
    let site = Site::new();
    let running = site.start().await;
    for (method, path, status) in [
        (Method::GET, "/nothing", StatusCode::NOT_FOUND),
        (Method::GET, "/metadata/../repo.toml", StatusCode::NOT_FOUND),
        (Method::GET, "/metadata/%2e%2e%2frepo.toml", StatusCode::NOT_FOUND),
        (
            Method::GET,
            "/targets/..%2f..%2fonline-key.pem",
            StatusCode::NOT_FOUND,
        ),
        (Method::GET, "/metadata/0.root.json", StatusCode::NOT_FOUND),
        (
            Method::DELETE,
            "/metadata/timestamp.json",
            StatusCode::METHOD_NOT_ALLOWED,
        ),
        (Method::PUT, "/api/v1/publish", StatusCode::METHOD_NOT_ALLOWED),
        (Method::TRACE, "/", StatusCode::METHOD_NOT_ALLOWED),
    ] {
        let request = site.client(None).request(method.clone(), running.url(path));
        let (found, problem) = problem(request.send().await.unwrap()).await;
        assert_eq!(found, status, "{method} {path}: {}", problem.message);
    }
}

#[tokio::test]
async fn strangers_and_roles_without_business_here_do_not_get_a_connection() {
    let site = Site::new();
    let running = site.start().await;
    let (plant, one) = (name("plant"), name("one"));
    let devices = site.authority.device_authority(NOW).unwrap();
    let mut refused = 0;
    for (what, issued) in [
        ("a device", flawed::device(&devices, &one, NOW).unwrap()),
        (
            "an author of a stranger",
            flawed::stranger(&plant, Role::Author, &one, NOW).unwrap(),
        ),
        (
            "an expired author",
            flawed::expired(&site.authority, Role::Author, &one, NOW).unwrap(),
        ),
        (
            "an author by the device authority",
            flawed::through_device_authority(&devices, Role::Author, &one, NOW).unwrap(),
        ),
        (
            "another repository",
            site.authority
                .issue(Role::Repository, &one, &[], life::LEAF, NOW)
                .unwrap(),
        ),
    ] {
        let credentials = Credentials::from_pem(&issued.chain, &issued.key).unwrap();
        // A client that does not look at its own certificate first.
        let ca = SiteCa::from_pem(site.authority.certificate_pem()).unwrap();
        let honest = mtls::client_config(
            None,
            &ca,
            &plant,
            Role::Repository,
            &[HTTP_1_1],
            site.clock.clone(),
        );
        let tls = with_certificate(honest.unwrap(), &credentials);
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .http1_only()
            .no_proxy();
        let outcome = client.build().unwrap().get(running.url("/healthz")).send().await;
        assert!(outcome.is_err(), "{what} was let in");
        refused += 1;
    }
    assert_eq!(refused, 5);
    assert_eq!(
        running.text("/healthz").await.0,
        StatusCode::OK,
        "without a certificate one may read"
    );
}

fn with_certificate(config: mtls::ClientConfig, credentials: &Credentials) -> mtls::ClientConfig {
    let mut config = config;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let key = provider
        .key_provider
        .load_private_key(credentials.key().clone_key())
        .unwrap();
    let certified = rustls::sign::CertifiedKey::new(credentials.chain().to_vec(), key);
    config.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(certified));
    config
}

#[tokio::test]
async fn metrics_are_for_the_machine_itself_and_for_certificates() {
    let site = Site::new();
    let running = site.start().await;
    let app = router(Arc::clone(running.server.repository()), CancellationToken::new());
    let far: SocketAddr = "192.0.2.7:4000".parse().unwrap();
    let near: SocketAddr = "[::ffff:127.0.0.1]:4000".parse().unwrap();
    let manager = "drover://plant/manager/one".parse().ok();
    for (addr, identity, status) in [
        (far, None, StatusCode::FORBIDDEN),
        (far, manager, StatusCode::OK),
        (near, None, StatusCode::OK),
    ] {
        let peer = Peer::new(PeerFacts {
            id: 1,
            addr,
            identity,
            key: None,
            certificate: None,
            between: Vec::new(),
            exporter: [0; 32],
        });
        let mut request = Request::get("/metrics").body(Body::empty()).unwrap();
        request.extensions_mut().insert(peer);
        let response = app.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), status, "{addr}");
    }
    // Without a peer (served by something else) nothing is answered.
    let request = Request::get("/healthz").body(Body::empty()).unwrap();
    let response = app.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
}
