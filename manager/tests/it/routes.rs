//! Every route of every port, asked by everybody who could come.

use std::sync::Arc;
use std::time::Duration;

use certs::{DeviceAuthority, Issued, flawed, life};
use manager::ports::{DEVICE_ROUTES, PUBLIC_ROUTES, Port, Route};
use mtls::{Credentials, HTTP_1_1, SystemClock};
use protocol::Role;
use protocol::device::Problem;
use protocol::enroll::Renew;
use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::device::{Device, client};
use crate::site::{Gateway, Site, name, now};

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the device port has for somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Not even a connection: TLS ends it.
    Shut,
    /// A connection, and on each path the same word: not on the list.
    Unlisted,
    /// A connection, and on each path the word that it is in quarantine.
    Quarantined,
    /// The handlers' answers.
    Listed,
}

struct Visitor {
    what: String,
    http: Client,
    token: Option<String>,
    standing: Standing,
}

/// Shows whatever certificate it has, also where a program of ours would not.
fn showing(site: &Site, issued: Option<&Issued>) -> Client {
    let (ca, plant) = (site.ca(), name("plant"));
    let mut tls = mtls::client_config(
        None,
        &ca,
        &plant,
        Role::Manager,
        &[HTTP_1_1],
        Arc::new(SystemClock),
    )
    .unwrap();
    if let Some(issued) = issued {
        let own = Credentials::from_pem(&issued.chain, &issued.key).unwrap();
        let key = rustls::crypto::aws_lc_rs::default_provider()
            .key_provider
            .load_private_key(own.key().clone_key())
            .unwrap();
        let certified = rustls::sign::CertifiedKey::new(own.chain().to_vec(), key);
        tls.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(certified));
    }
    client(tls)
}

fn device_authority(site: &Site) -> DeviceAuthority {
    let read = |file: &str| std::fs::read_to_string(site.folder().join(file)).unwrap();
    DeviceAuthority::load(&read("device-ca.pem"), &read("device-ca-key.pem")).unwrap()
}

/// Everybody: no certificate, each role of this site and of a stranger who calls himself the same, and devices. Whoever
/// has no token of his own has the listed device's.
async fn everybody(site: &Site, gateway: &Gateway, pump: &Device) -> Vec<Visitor> {
    let devices = device_authority(site);
    let (plant, one, pump_name) = (name("plant"), name("one"), name("pump"));
    let mut shown: Vec<(String, Option<Issued>, Standing)> = vec![("nobody".into(), None, Standing::Shut)];
    for rule in mtls::ROLES {
        let role = rule.role;
        let (own, strange, standing) = if role == Role::Device {
            let own = flawed::device(&devices, &one, now());
            let strange = flawed::stranger_device(&plant, &pump_name, now());
            (own, strange, Standing::Unlisted)
        } else {
            let own = site.authority.issue(role, &one, &[], life::LEAF, now());
            let strange = flawed::stranger(&plant, role, &one, now());
            let stolen = flawed::through_device_authority(&devices, role, &pump_name, now());
            let what = format!("a {role} by the device authority");
            shown.push((what, Some(stolen.unwrap()), Standing::Shut));
            (own, strange, Standing::Shut)
        };
        shown.push((
            format!("a {role} that nobody has enrolled"),
            Some(own.unwrap()),
            standing,
        ));
        shown.push((
            format!("a stranger's {role}"),
            Some(strange.unwrap()),
            Standing::Shut,
        ));
    }
    let copied = flawed::device(&devices, &pump_name, now()).unwrap();
    shown.push((
        "another key under its name".into(),
        Some(copied),
        Standing::Unlisted,
    ));
    let expired = flawed::expired_device(&devices, &pump_name, now()).unwrap();
    shown.push(("an expired device".into(), Some(expired), Standing::Shut));
    let _ = gateway.add("idle").await;
    let idle = flawed::device(&devices, &name("idle"), now()).unwrap();
    shown.push((
        "on the list and not enrolled".into(),
        Some(idle),
        Standing::Unlisted,
    ));
    let mut all: Vec<Visitor> = shown
        .into_iter()
        .map(|(what, issued, standing)| Visitor {
            what,
            http: showing(site, issued.as_ref()),
            token: Some(pump.token.clone()),
            standing,
        })
        .collect();

    let valve = Device::join(site, gateway, "valve").await;
    let gone = Device::join(site, gateway, "gone").await;
    gone.hello(gateway).await;
    gateway.delete("gone").await;
    let held = Device::join(site, gateway, "held").await;
    let request = protocol::control::ManagerRequest::Quarantine {
        name: name("held"),
        reason: String::new(),
    };
    gateway.ask::<()>(&request).await.unwrap();
    for (what, device, token, standing) in [
        (
            "a device in quarantine",
            &held,
            Some(&held.token),
            Standing::Quarantined,
        ),
        (
            "it, with a wrong token",
            &held,
            Some(&pump.token),
            Standing::Unlisted,
        ),
        ("the listed device", pump, Some(&pump.token), Standing::Listed),
        ("it, without a token", pump, None, Standing::Unlisted),
        (
            "it, with another's token",
            pump,
            Some(&valve.token),
            Standing::Unlisted,
        ),
        ("a deleted device", &gone, Some(&gone.token), Standing::Unlisted),
    ] {
        all.push(Visitor {
            what: what.into(),
            http: device.http.clone(),
            token: token.cloned(),
            standing,
        });
    }
    all
}

/// What a route's handler says to whoever it is for: a path to ask at, a body, the answer's status and code.
fn handled(route: &Route, pump: &Device, csr: &str) -> (String, Value, u16, &'static str) {
    let (at, body, status, code) = match (route.method, route.path) {
        ("POST", "/v1/hello") => (
            route.path,
            serde_json::to_value(pump.words(Vec::new())).unwrap(),
            200,
            "",
        ),
        ("GET", "/v1/events") => (route.path, Value::Null, 200, ""),
        ("GET", "/v1/metadata/{name}") => ("/v1/metadata/timestamp.json", Value::Null, 200, ""),
        ("GET", "/v1/targets/{digest}") => ("/v1/targets/none", Value::Null, 404, "not-found"),
        ("POST", "/v1/progress") => (route.path, json!([]), 204, ""),
        ("POST", "/v1/reports") => (route.path, json!([]), 200, ""),
        ("POST", "/v1/renew") => {
            let renew = Renew { csr: csr.to_owned() };
            (route.path, serde_json::to_value(renew).unwrap(), 200, "")
        }
        // Read and found wanting: nobody joins here.
        ("POST", "/v1/enroll" | "/v1/renew-expired") => (route.path, json!({}), 422, "malformed"),
        ("GET", "/metrics") => (route.path, Value::Null, 200, ""),
        other => panic!("a new route needs its answer here: {other:?}"),
    };
    (at.to_owned(), body, status, code)
}

/// Asks; once more where the client waits for a connection of its pool that was closed at that moment, which it may do
/// for ever.
async fn ask(
    visitor: &Visitor,
    method: &str,
    url: &str,
    body: &Value,
) -> Result<(u16, String), reqwest::Error> {
    match tokio::time::timeout(PATIENCE, ask_once(visitor, method, url, body)).await {
        Ok(answer) => answer,
        Err(_) => ask_once(visitor, method, url, body).await,
    }
}

async fn ask_once(
    visitor: &Visitor,
    method: &str,
    url: &str,
    body: &Value,
) -> Result<(u16, String), reqwest::Error> {
    let mut request = visitor
        .http
        .request(Method::from_bytes(method.as_bytes()).unwrap(), url);
    if let Some(token) = &visitor.token {
        request = request.bearer_auth(token);
    }
    if !body.is_null() {
        request = request.json(body);
    }
    let response = request.send().await?;
    let status = response.status().as_u16();
    let header = |name: &str| {
        response
            .headers()
            .get(name)
            .map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(
        header("x-content-type-options").as_deref(),
        Some("nosniff"),
        "{url}"
    );
    assert_eq!(header("referrer-policy").as_deref(), Some("no-referrer"), "{url}");
    // An event stream has its own word for it.
    let kept = header("cache-control").unwrap_or_default();
    assert!(["no-store", "no-cache"].contains(&kept.as_str()), "{url}: {kept}");
    // A stream does not end; what is refused says why.
    let code = if status < 400 {
        String::new()
    } else {
        response.json::<Problem>().await?.code
    };
    Ok((status, code))
}

const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

#[tokio::test(flavor = "multi_thread")]
async fn every_route_answers_everybody_as_the_lists_say() {
    let mut site = Site::new(1).await;
    site.publish("1.0");
    let gateway = site.start().await;
    let pump = Device::join(&site, &gateway, "pump").await;
    let csr = certs::request(&pump.key).unwrap();
    let everybody = everybody(&site, &gateway, &pump).await;
    let routes: Vec<&Route> = PUBLIC_ROUTES.iter().chain(DEVICE_ROUTES).collect();
    let has = |port: Port, method: &str, path: &str| {
        let at = |route: &&&Route| route.port == port && route.path == path;
        let here = routes.iter().any(|route| at(&route));
        let this = routes.iter().filter(at).any(|route| route.method == method);
        (here, this)
    };
    let (mut asked, mut listed) = (0, 0);
    for visitor in &everybody {
        for route in &routes {
            let (path, body, status, code) = handled(route, &pump, &csr);
            for method in METHODS {
                for (port, address) in [
                    (Port::Devices, gateway.addresses.devices),
                    (Port::Joining, gateway.addresses.enroll),
                ] {
                    let answer = match has(port, method, route.path) {
                        (_, true) => (status, code),
                        (true, false) => (405, "method"),
                        (false, false) => (404, "not-found"),
                    };
                    let expected = match (port, visitor.standing) {
                        (Port::Devices, Standing::Shut) => None,
                        (Port::Devices, Standing::Quarantined) => Some((403, "quarantined")),
                        (Port::Devices, Standing::Unlisted) => Some((401, "not-on-the-list")),
                        _ => Some(answer),
                    };
                    let url = format!("https://{address}{path}");
                    let found = ask(visitor, method, &url, &body).await;
                    let what = format!("{}: {method} {path} at {port:?}", visitor.what);
                    let found = found.inspect_err(|error| assert!(!error.is_decode(), "{what}: {error:?}"));
                    let found = found.ok();
                    let found = found.as_ref().map(|(status, code)| (*status, code.as_str()));
                    assert_eq!(found, expected, "{what}");
                    asked += 1;
                    listed += usize::from(visitor.standing == Standing::Listed && status < 300);
                }
            }
        }
    }
    assert_eq!(asked, everybody.len() * routes.len() * METHODS.len() * 2);
    assert!(listed > 0, "nobody got what is his");
}

/// Figures are plain HTTP on the machine itself: nothing else is there.
#[tokio::test(flavor = "multi_thread")]
async fn the_port_of_figures_has_figures_only() {
    let site = Site::new(1).await;
    let gateway = site.start().await;
    let pump = Device::join(&site, &gateway, "pump").await;
    let csr = certs::request(&pump.key).unwrap();
    let http = showing(&site, None);
    for route in PUBLIC_ROUTES.iter().chain(DEVICE_ROUTES) {
        let (path, body, status, _) = handled(route, &pump, &csr);
        let url = format!("http://{}{path}", gateway.addresses.metrics);
        let request = http
            .request(route.method.parse().unwrap(), url)
            .bearer_auth(&pump.token);
        let found = request.json(&body).send().await.unwrap().status().as_u16();
        let expected = if route.port == Port::Metrics { status } else { 404 };
        assert_eq!(found, expected, "{path}");
    }
}
