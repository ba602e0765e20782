//! A device that speaks by hand.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use futures_util::StreamExt as _;
use mtls::{Credentials, HTTP_1_1, SystemClock};
use protocol::control::AddedDevice;
use protocol::device::{Activity, ComponentState, Hello, Order, Problem, ReportsTaken, Welcome};
use protocol::enroll::{Enroll, EnrollCode, Enrolled};
use protocol::{Event, Identity, Outcome, Report, Role, SignedReport, Step};
use reqwest::{Client, Response, StatusCode};
use tuf::Digest;

use crate::site::{Gateway, Site, name, secret};

pub(crate) struct Device {
    pub(crate) name: String,
    pub(crate) token: String,
    pub(crate) credentials: Credentials,
    /// Its key, PEM.
    pub(crate) key: String,
    /// Its certificate and the gateway's, PEM.
    pub(crate) chain: String,
    pub(crate) http: Client,
    pub(crate) boot: String,
}

/// Asks to join; `Err` has status and problem.
pub(crate) async fn enroll(
    gateway: &Gateway,
    code: &EnrollCode,
    password: &str,
    key: &str,
) -> Result<Enrolled, (StatusCode, Problem)> {
    let tls = mtls::pinned_client_config(code.site_ca, &[HTTP_1_1], Arc::new(SystemClock)).unwrap();
    let ask = Enroll {
        device: code.device.clone(),
        secret: code.secret.clone(),
        password: secret(password),
        csr: certs::request(key).unwrap(),
    };
    let url = format!("https://{}/v1/enroll", gateway.addresses.enroll);
    let response = client(tls).post(url).json(&ask).send().await.unwrap();
    let status = response.status();
    if status.is_success() {
        Ok(response.json().await.unwrap())
    } else {
        Err((status, response.json().await.unwrap()))
    }
}

pub(crate) fn client(tls: mtls::ClientConfig) -> Client {
    client_from(tls, None)
}

fn client_from(tls: mtls::ClientConfig, address: Option<IpAddr>) -> Client {
    Client::builder()
        .local_address(address)
        .tls_backend_preconfigured(tls)
        .http1_only()
        // A request takes no connection that the gateway may be closing at that moment.
        .pool_max_idle_per_host(0)
        .no_proxy()
        .build()
        .unwrap()
}

pub(crate) fn code(added: &AddedDevice) -> EnrollCode {
    added.code.reveal().parse().unwrap()
}

impl Device {
    /// Puts a device on the list and enrols it.
    pub(crate) async fn join(site: &Site, gateway: &Gateway, device: &str) -> Self {
        let added = gateway.add(device).await;
        let key = certs::new_key().unwrap().to_string();
        let enrolled = enroll(gateway, &code(&added), crate::site::PASSWORD, &key)
            .await
            .unwrap();
        Self::with(site, device, &key, &enrolled.chain, enrolled.token.reveal())
    }

    pub(crate) fn with(site: &Site, device: &str, key: &str, chain: &str, token: &str) -> Self {
        Self::from(site, device, key, chain, token, None)
    }

    /// One that dials from another address of this machine.
    pub(crate) fn from(
        site: &Site,
        device: &str,
        key: &str,
        chain: &str,
        token: &str,
        address: Option<IpAddr>,
    ) -> Self {
        let credentials = Credentials::from_pem(chain, key).unwrap();
        let tls = mtls::client_config(
            Some(&credentials),
            &site.ca(),
            &name("plant"),
            Role::Manager,
            &[HTTP_1_1],
            Arc::new(SystemClock),
        )
        .unwrap();
        Self {
            name: device.to_owned(),
            token: token.to_owned(),
            credentials,
            key: key.to_owned(),
            chain: chain.to_owned(),
            http: client_from(tls, address),
            boot: format!("boot-of-{device}"),
        }
    }

    pub(crate) fn url(at: SocketAddr, path: &str) -> String {
        format!("https://{at}{path}")
    }

    pub(crate) async fn get(&self, gateway: &Gateway, path: &str) -> Response {
        self.request(gateway, path, None).await
    }

    pub(crate) async fn request(&self, gateway: &Gateway, path: &str, range: Option<&str>) -> Response {
        let mut request = self
            .http
            .get(Self::url(gateway.addresses.devices, path))
            .bearer_auth(&self.token);
        if let Some(range) = range {
            request = request.header("Range", range);
        }
        request.send().await.unwrap()
    }

    pub(crate) async fn post(&self, gateway: &Gateway, path: &str, body: &impl serde::Serialize) -> Response {
        self.http
            .post(Self::url(gateway.addresses.devices, path))
            .bearer_auth(&self.token)
            .json(body)
            .send()
            .await
            .unwrap()
    }

    pub(crate) async fn hello(&self, gateway: &Gateway) -> Welcome {
        let response = self.post(gateway, "/v1/hello", &self.words(Vec::new())).await;
        assert_eq!(response.status(), StatusCode::OK);
        response.json().await.unwrap()
    }

    pub(crate) fn words(&self, components: Vec<ComponentState>) -> Hello {
        Hello {
            agent: "0.1.0".into(),
            arch: release::Arch::here().unwrap(),
            hardware: Vec::new(),
            boot_id: self.boot.clone(),
            report_counter: 0,
            time_known: true,
            trouble: None,
            components,
        }
    }

    /// Opens the event stream.
    pub(crate) async fn events(&self, gateway: &Gateway) -> Events {
        let response = self
            .http
            .get(Self::url(gateway.addresses.devices, "/v1/events"))
            .bearer_auth(&self.token)
            .header("drover-boot", &self.boot)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        Events {
            bytes: Box::pin(response.bytes_stream()),
            text: String::new(),
        }
    }

    /// Tells a step that it has taken.
    pub(crate) async fn progress(
        &self,
        gateway: &Gateway,
        order: &Order,
        step: Step,
        bytes: Option<(u64, u64)>,
    ) {
        let event = Event {
            update: order.update,
            actor: Identity {
                site: name("plant"),
                role: Role::Device,
                name: name(&self.name),
            },
            step,
            component: order.component.clone(),
            version: order.version.clone(),
            device: None,
            at: mtls::stamp(),
            bytes: bytes.map(|(done, _)| done),
            total: bytes.map(|(_, total)| total),
            reason: None,
        };
        let response = self.post(gateway, "/v1/progress", &[event]).await;
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
    }

    /// A signed report of how an order ended.
    pub(crate) fn report(&self, counter: u64, order: &Order, outcome: Outcome, nonce: &str) -> SignedReport {
        let actor = Identity {
            site: name("plant"),
            role: Role::Device,
            name: name(&self.name),
        };
        let step = if outcome == Outcome::RolledBack {
            Step::Failed
        } else {
            Step::Committed
        };
        let event = Event {
            update: order.update,
            actor: actor.clone(),
            step,
            component: order.component.clone(),
            version: order.version.clone(),
            device: None,
            at: mtls::stamp(),
            bytes: None,
            total: None,
            reason: None,
        };
        let state = ComponentState {
            component: order.component.clone(),
            version: None,
            digest: None,
            previous: None,
            activity: Activity::Empty,
            uptime_seconds: 0,
            bad: Vec::new(),
            held: false,
            waiting: None,
        };
        let report = Report {
            actor,
            counter,
            nonce: nonce.repeat(16),
            at: mtls::stamp(),
            update: Some(order.update),
            outcome: Some(outcome),
            reason: Some("it did not start".into()),
            events: vec![event],
            components: vec![state],
        };
        self.signed(serde_json::to_string(&report).unwrap())
    }

    /// A report's text under the device's signature.
    pub(crate) fn signed(&self, text: String) -> SignedReport {
        let pair = EcdsaKeyPair::from_pkcs8(
            &ECDSA_P256_SHA256_ASN1_SIGNING,
            self.credentials.key().secret_der(),
        )
        .unwrap();
        let signature = pair
            .sign(&SystemRandom::new(), &SignedReport::message(&text))
            .unwrap();
        SignedReport {
            report: text,
            key: self.credentials.key_fingerprint().unwrap(),
            signature: hex::encode(signature.as_ref()),
        }
    }

    pub(crate) async fn send(&self, gateway: &Gateway, reports: &[SignedReport]) -> ReportsTaken {
        let response = self.post(gateway, "/v1/reports", &reports).await;
        assert_eq!(response.status(), StatusCode::OK);
        response.json().await.unwrap()
    }
}

type Bytes = std::pin::Pin<Box<dyn futures_util::Stream<Item = reqwest::Result<bytes::Bytes>> + Send>>;

/// An open event stream.
pub(crate) struct Events {
    bytes: Bytes,
    text: String,
}

impl Events {
    /// The next event's name and data; none at the end, however it comes.
    pub(crate) async fn next(&mut self) -> Option<(String, String)> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    event
                        .lines()
                        .find_map(|line| line.strip_prefix(name).map(str::to_owned))
                };
                let found = field("event: ").zip(field("data: "));
                self.text = rest.to_owned();
                if found.is_some() {
                    return found;
                }
                continue;
            }
            let chunk = self.bytes.next().await?.ok()?;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    pub(crate) async fn order(&mut self) -> Order {
        loop {
            let (name, data) = self.next().await.expect("the stream ended before an order came");
            if name == "order" {
                return serde_json::from_str(&data).unwrap();
            }
        }
    }
}

pub(crate) fn target(digest: &Digest) -> String {
    format!("/v1/targets/{digest}")
}
