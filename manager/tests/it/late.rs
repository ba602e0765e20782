//! A device whose certificate has run out while it was off.

use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper_util::rt::TokioIo;
use mtls::{Credentials, HTTP_1_1, SystemClock};
use protocol::Role;
use protocol::control::ManagerRequest;
use protocol::device::Problem;
use protocol::enroll::{Enrolled, RenewExpired};
use rustls_pki_types::PrivateKeyDer;

use crate::device::Device;
use crate::site::{Gateway, Site, name, now, secret};

const DAY: i64 = 86_400;

/// A connection to the joining port, and what both of its ends call it.
struct Channel {
    sender: hyper::client::conn::http1::SendRequest<Full<bytes::Bytes>>,
    exporter: [u8; 32],
}

impl Channel {
    async fn open(site: &Site, gateway: &Gateway) -> Self {
        let clock = Arc::new(SystemClock);
        let plant = name("plant");
        let tls = mtls::client_config(None, &site.ca(), &plant, Role::Manager, &[HTTP_1_1], clock).unwrap();
        let port = gateway.addresses.enroll.port();
        let limit = std::time::Duration::from_secs(10);
        let dialled = mtls::dial::dial("127.0.0.1", port, Arc::new(tls), limit)
            .await
            .unwrap();
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(dialled.stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        Self {
            sender,
            exporter: dialled.exporter,
        }
    }

    async fn ask(&mut self, ask: &RenewExpired) -> Result<Enrolled, (u16, Problem)> {
        let request = Request::post("/v1/renew-expired")
            .header("host", "plant")
            .header("content-type", "application/json")
            .body(Full::new(serde_json::to_vec(ask).unwrap().into()))
            .unwrap();
        let response = self.sender.send_request(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        if status == 200 {
            Ok(serde_json::from_slice(&body).unwrap())
        } else {
            Err((status, serde_json::from_slice(&body).unwrap()))
        }
    }
}

/// What is signed, written out as the protocol's page has it.
fn proof(key: &Credentials, exporter: [u8; 32], csr: &str) -> String {
    let PrivateKeyDer::Pkcs8(der) = key.key() else {
        panic!("not PKCS#8")
    };
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der.secret_pkcs8_der()).unwrap();
    let mut message = b"drover renewal after expiry v1\n".to_vec();
    message.extend(exporter);
    message.extend(csr.as_bytes());
    hex::encode(pair.sign(&SystemRandom::new(), &message).unwrap().as_ref())
}

fn asking(device: &Device, csr: &str, exporter: [u8; 32]) -> RenewExpired {
    RenewExpired {
        device: name(&device.name),
        token: secret(&device.token),
        csr: csr.to_owned(),
        proof: proof(&device.credentials, exporter, csr),
    }
}

fn csr(device: &Device) -> String {
    certs::request(&device.key).unwrap()
}

/// The gateway's record: the device's certificate has run out so long ago.
fn ran_out(site: &Site, device: &str, seconds: i64) {
    let database = rusqlite::Connection::open(site.folder().join("state/manager.db")).unwrap();
    let changed = database.execute(
        "UPDATE devices SET certificate_until = ?2 WHERE name = ?1",
        rusqlite::params![device, now().0 - seconds],
    );
    assert_eq!(changed.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn token_and_key_renew_a_certificate_up_to_a_year_after_its_end() {
    let site = Site::new(1).await;
    let gateway = site.start().await;
    let pump = Device::join(&site, &gateway, "pump").await;
    let valve = Device::join(&site, &gateway, "valve").await;
    gateway.stop().await;
    ran_out(&site, "pump", 364 * DAY);
    ran_out(&site, "valve", 366 * DAY);
    let gateway = site.start().await;

    let mut channel = Channel::open(&site, &gateway).await;
    let ask = asking(&pump, &csr(&pump), channel.exporter);
    let renewed = channel.ask(&ask).await.unwrap();
    assert!(renewed.token.reveal().is_empty(), "the token stays");
    let fresh = Credentials::from_pem(&renewed.chain, &pump.key).unwrap();
    assert_eq!(fresh.identity().unwrap().name, name("pump"));
    assert!(fresh.validity().unwrap().not_after > now());
    let row = gateway.row("pump").await.unwrap();
    assert_eq!(row.certificate_until, Some(fresh.validity().unwrap().not_after));
    // The proof was for that channel; whoever saw it cannot use it on another.
    let mut other = Channel::open(&site, &gateway).await;
    let (status, problem) = other.ask(&ask).await.unwrap_err();
    assert_eq!((status, problem.code.as_str()), (403, "no-proof"));

    let mut channel = Channel::open(&site, &gateway).await;
    let ask = asking(&valve, &csr(&valve), channel.exporter);
    let (status, problem) = channel.ask(&ask).await.unwrap_err();
    assert_eq!((status, problem.code.as_str()), (403, "too-late"));
    assert!(problem.message.contains("new code"), "{}", problem.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_lacks_token_key_or_place_on_the_list_is_not_renewed() {
    let site = Site::new(1).await;
    let gateway = site.start().await;
    let pump = Device::join(&site, &gateway, "pump").await;
    let thief = Device::join(&site, &gateway, "thief").await;
    let gone = Device::join(&site, &gateway, "gone").await;
    gateway.delete("gone").await;
    gateway.stop().await;
    ran_out(&site, "pump", 40 * DAY);
    let gateway = site.start().await;
    let until = gateway.row("pump").await.unwrap().certificate_until;

    // Strangers: a wrong token, a token of another, a name that is not there, one that is there no more. All the same.
    let mut words = Vec::new();
    for (device, token) in [
        ("pump", "00".repeat(32)),
        ("pump", thief.token.clone()),
        ("nobody", pump.token.clone()),
        ("gone", gone.token.clone()),
    ] {
        let mut channel = Channel::open(&site, &gateway).await;
        let mut ask = asking(&pump, &csr(&pump), channel.exporter);
        ask.device = name(device);
        ask.token = secret(&token);
        let (status, problem) = channel.ask(&ask).await.unwrap_err();
        words.push((status, problem.code, problem.message));
    }
    assert!(words.iter().all(|told| *told == words[0]), "{words:?}");
    assert_eq!((words[0].0, words[0].1.as_str()), (403, "refused"));

    // With the token, and another key: for that key, or for the right one without having it.
    let mut channel = Channel::open(&site, &gateway).await;
    let mut ask = asking(&thief, &csr(&thief), channel.exporter);
    (ask.device, ask.token) = (name("pump"), secret(&pump.token));
    let (status, problem) = channel.ask(&ask).await.unwrap_err();
    assert_eq!((status, problem.code.as_str()), (403, "other-key"));
    let mut channel = Channel::open(&site, &gateway).await;
    let mut ask = asking(&thief, &csr(&pump), channel.exporter);
    (ask.device, ask.token) = (name("pump"), secret(&pump.token));
    let (status, problem) = channel.ask(&ask).await.unwrap_err();
    assert_eq!((status, problem.code.as_str()), (403, "no-proof"));
    // In quarantine not even with all of them.
    let request = ManagerRequest::Quarantine {
        name: name("pump"),
        reason: String::new(),
    };
    gateway.ask::<()>(&request).await.unwrap();
    let mut channel = Channel::open(&site, &gateway).await;
    let ask = asking(&pump, &csr(&pump), channel.exporter);
    let (status, problem) = channel.ask(&ask).await.unwrap_err();
    assert_eq!((status, problem.code.as_str()), (403, "quarantined"));
    assert_eq!(gateway.row("pump").await.unwrap().certificate_until, until);
}
