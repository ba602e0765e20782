//! Joining and renewing: codes, passwords, certificates for devices.

mod entry;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::extract::{DefaultBodyLimit, State};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use http::StatusCode;
use mtls::CertificateDer;
use mtls::serve::Peer;
use protocol::control::ListChange;
use protocol::enroll::{
    ENROLL, Enroll, EnrollCode, Enrolled, GRACE_SECONDS, RENEW_EXPIRED, Renew, RenewExpired,
};
use protocol::{Name, Secret};
use rusqlite::{OptionalExtension as _, params};
use rustls_pki_types::pem::PemObject as _;
use tuf::{Digest, UnixTime};

use crate::buckets::Buckets;
use crate::database::DatabaseError;
use crate::fleet::Enrolment;
use crate::gateway::Gateway;
use crate::secrets::{Use, new_code, new_token};
use crate::sender::{Body, Refusal};
use crate::{limits, ports};
use protocol::control::Level;

/// What the joining port shares: the gateway, and who has been wrong how often.
///
/// Whoever has a right code is let through whatever others do: a stranger cannot use up his share, under no name and from
/// no address. What keeps codes from being guessed is their length: a code is 128 random bits and works for a day. The
/// port has [`limits::JOINING_CONNECTIONS`] connections, and each wrong try takes one of them for
/// [`limits::ENROLL_REFUSAL_WAIT`], so that all strangers together have 256 * 86 400 = 2.2e7 tries (2^24.4) in that day:
/// a chance of 2^-103.6 for any one code. A right code allows [`limits::CODE_FAILURES`] passwords.
#[derive(Clone)]
struct Port {
    gateway: Arc<Gateway>,
    /// Wrong tries, by address.
    wrong: Arc<Mutex<Buckets<String>>>,
}

/// The routes of the joining port.
pub(crate) fn routes(gateway: Arc<Gateway>) -> Router {
    let router = Router::new()
        .route(ENROLL, post(enroll))
        .route(RENEW_EXPIRED, post(renew_expired))
        .fallback(|| async { Refusal::new(StatusCode::NOT_FOUND, "not-found", "devices join at /v1/enroll") })
        .layer(from_fn_with_state(ports::Port::Joining, ports::listed))
        .layer(DefaultBodyLimit::max(limits::ENROLL_BODY))
        .with_state(Port {
            gateway,
            wrong: Arc::new(Mutex::new(Buckets::new(
                limits::ENROLL_WRONG,
                limits::RATE_BUCKETS,
            ))),
        });
    ports::with_headers(router)
}

async fn enroll(State(port): State<Port>, peer: Peer, Body(ask): Body<Enroll>) -> Result<Response, Refusal> {
    let gateway = &port.gateway;
    let address = place(&peer);
    match join(gateway, &ask).await {
        Ok(enrolled) => {
            gateway.journal.clear_stranger(&address);
            gateway.note_list(&ask.device, ListChange::Enrolled, &format!("from {address}"));
            let text = format!("{} has enrolled from {address}", ask.device);
            gateway
                .journal
                .message(gateway.now(), Level::Info, "manager.device.enrolled", text);
            Ok(Json(enrolled).into_response())
        }
        Err(Unjoined::Stranger) => Err(port.stranger(&address).await),
        Err(Unjoined::Refused(refusal)) => {
            let text = format!(
                "{} could not enrol from {address}: {}",
                ask.device, refusal.1.message
            );
            let refused = "manager.device.enroll-refused";
            gateway
                .journal
                .message(gateway.now(), Level::Warning, refused, text);
            Err(refusal)
        }
    }
}

/// Whom wrong tries are counted for: an IPv4 address, or the first half of an IPv6 one.
fn place(peer: &Peer) -> String {
    match peer.addr.ip() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("{:x?}", &ip.segments()[..4]),
    }
}

/// A new certificate for a device that was off while its old one ran out. Its token is a secret of 256 bits: whoever
/// does not have it is a stranger, under whatever name he comes.
async fn renew_expired(
    State(port): State<Port>,
    peer: Peer,
    Body(ask): Body<RenewExpired>,
) -> Result<Response, Refusal> {
    let gateway = &port.gateway;
    let address = place(&peer);
    let known = gateway.fleet.enrolment(&ask.device);
    let tag = known.as_ref().map_or(&[][..], |enrolment| &enrolment.token);
    // Computed for an unknown name too.
    let right = gateway.pepper.is(Use::Token, &ask.token, tag);
    let Some(enrolment) = known.filter(|enrolment| right && enrolment.key.is_some()) else {
        return Err(port.stranger(&address).await);
    };
    let renewed = match late(gateway, &ask, &peer, &enrolment).await {
        Ok(renewed) => renewed,
        Err(refusal) => {
            let text = format!(
                "{} could not renew its certificate from {address}: {}",
                ask.device, refusal.1.message
            );
            let refused = "manager.device.renewal-refused";
            gateway
                .journal
                .message_sparsely(gateway.now(), Level::Warning, refused, &text);
            return Err(refusal);
        }
    };
    gateway.journal.clear_stranger(&address);
    let text = format!(
        "{} has renewed its expired certificate from {address}",
        ask.device
    );
    let renewed_id = "manager.device.renewed";
    gateway
        .journal
        .message_of(&ask.device, gateway.now(), Level::Info, renewed_id, text);
    Ok(Json(renewed).into_response())
}

/// The checks behind the token.
async fn late(
    gateway: &Arc<Gateway>,
    ask: &RenewExpired,
    peer: &Peer,
    enrolment: &Enrolment,
) -> Result<Enrolled, Refusal> {
    if enrolment.quarantine.is_some() {
        return Err(Refusal::quarantined());
    }
    if !gateway.quotas.renewal(&ask.device) {
        return Err(Refusal::new(
            StatusCode::TOO_MANY_REQUESTS,
            "slow-down",
            "this device asks too often: try again later",
        ));
    }
    let over = |until: UnixTime| gateway.now() > until.plus_seconds(GRACE_SECONDS);
    if enrolment.certificate_until.is_none_or(over) {
        return Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "too-late",
            "the certificate has run out more than a year ago: ask the operator for a new code and enrol again",
        ));
    }
    let issued = issue(gateway, &ask.device, &ask.csr)?;
    if !ask.proves(&issued.public_key, &peer.exporter) {
        return Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "no-proof",
            "the proof of the key does not fit this connection",
        ));
    }
    hand_out(gateway, &ask.device, enrolment.key, issued).await
}

/// Why a device does not join.
enum Unjoined {
    /// The code is not one that is open for this name. Names are not told from each other.
    Stranger,
    /// The code is right, something else is not.
    Refused(Refusal),
}

impl From<Refusal> for Unjoined {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Port {
    /// What somebody without a right code is told, after a while: said once in a minute for each address, under no
    /// name, because the name is whatever he likes.
    async fn stranger(&self, address: &str) -> Refusal {
        let gateway = &self.gateway;
        let patient = {
            let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
            wrong.take(address.to_owned(), 1, Instant::now())
        };
        if patient {
            let text = format!("a device could not enrol from {address}: {WRONG}");
            gateway.journal.message_sparsely(
                gateway.now(),
                Level::Warning,
                "manager.device.enroll-refused",
                &text,
            );
        } else {
            gateway.journal.stranger(gateway.now(), address);
        }
        tokio::time::sleep(limits::ENROLL_REFUSAL_WAIT).await;
        if patient {
            Refusal::new(StatusCode::FORBIDDEN, "refused", WRONG)
        } else {
            Refusal::new(
                StatusCode::TOO_MANY_REQUESTS,
                "slow-down",
                "too many attempts: wait a minute",
            )
        }
    }
}

const WRONG: &str = "name, code and password do not belong together, or the code has been used or has run out: \
                     ask the operator for a new code";

fn internal(error: &dyn std::error::Error) -> Refusal {
    tracing::error!(error = crate::downloader::chain(error), "enrolment failed");
    Refusal::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "internal",
        "the gateway could not do this: its log says why",
    )
}

/// Code and password. Without a right code nothing costly is done, and an unknown name is like a wrong code; the
/// password is computed for whoever has the code, and for nobody else.
async fn join(gateway: &Arc<Gateway>, ask: &Enroll) -> Result<Enrolled, Unjoined> {
    let name = ask.device.to_string();
    let row = gateway
        .database
        .run(move |db| code_row(db, &name))
        .await
        .map_err(|error| internal(&error))?;
    let now = gateway.now();
    let (password, code) = row.map_or((None, None), |row| (Some(row.password), row.code));
    let (secret, until) = code.unwrap_or((Vec::new(), now));
    let right = gateway.pepper.is(Use::Code, &ask.secret, &secret);
    let Some(phc) = password.filter(|_| right && until > now) else {
        return Err(Unjoined::Stranger);
    };
    let right = match gateway.passwords.verify(phc, ask.password.clone()).await {
        Ok(right) => right,
        Err(error) => {
            return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "busy", error.to_string()).into());
        }
    };
    if !right {
        wrong_password(gateway, &ask.device)
            .await
            .map_err(|error| internal(&error))?;
        return Err(Refusal::new(StatusCode::FORBIDDEN, "refused", WRONG).into());
    }
    let (token, issued) = (
        new_token().map_err(|error| internal(&error))?,
        issue(gateway, &ask.device, &ask.csr)?,
    );
    let enrolment = Enrolment {
        token: gateway.pepper.tag(Use::Token, &token).to_vec(),
        key: Some(issued.key),
        certificate_until: Some(issued.until),
        at: Some(now),
        quarantine: None,
    };
    let used = entry::use_code(gateway, &ask.device, secret, enrolment).await;
    if !used.map_err(|error| internal(&error))? {
        return Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "refused",
            "this code has been used, or is void",
        )
        .into());
    }
    gateway.journal.clear_device(&ask.device);
    gateway.cut(&ask.device, |peer| peer.key != Some(issued.key));
    Ok(enrolled(gateway, &ask.device, issued.chain, token))
}

fn enrolled(gateway: &Gateway, device: &Name, chain: String, token: Secret) -> Enrolled {
    let bound = gateway
        .addresses
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let bound = bound.map_or(gateway.config.listen_devices, |addresses| addresses.devices);
    Enrolled {
        site: gateway.identity.site.clone(),
        device: device.clone(),
        chain,
        site_ca: gateway.own().site_ca.1.clone(),
        token,
        manager: gateway.config.advertised(bound),
    }
}

struct CodeRow {
    password: String,
    code: Option<(Vec<u8>, UnixTime)>,
}

fn code_row(db: &rusqlite::Connection, name: &str) -> rusqlite::Result<Option<CodeRow>> {
    db.query_row(
        "SELECT password, secret, until FROM devices LEFT JOIN codes ON device = name WHERE name = ?1",
        [name],
        |row| {
            let (secret, until): (Option<Vec<u8>>, Option<i64>) = (row.get(1)?, row.get(2)?);
            Ok(CodeRow {
                password: row.get(0)?,
                code: secret.zip(until.map(UnixTime)),
            })
        },
    )
    .optional()
}

/// A right code with a wrong password: after a few of them the code is void.
async fn wrong_password(gateway: &Gateway, name: &Name) -> Result<(), DatabaseError> {
    let device = name.to_string();
    let voided = gateway
        .database
        .run(move |db| {
            db.execute(
                "UPDATE codes SET failures = failures + 1 WHERE device = ?1",
                [&device],
            )?;
            db.execute(
                "DELETE FROM codes WHERE device = ?1 AND failures >= ?2",
                params![device, limits::CODE_FAILURES],
            )
        })
        .await?;
    if voided > 0 {
        let text = format!(
            "the code of {name} is void after {} wrong passwords",
            limits::CODE_FAILURES
        );
        gateway
            .journal
            .alarm(gateway.now(), &format!("enroll:{name}"), &text);
    }
    Ok(())
}

struct Certificate {
    chain: String,
    key: Digest,
    public_key: Vec<u8>,
    until: UnixTime,
}

fn issue(gateway: &Gateway, name: &Name, csr: &str) -> Result<Certificate, Refusal> {
    let bad = |error: &dyn std::error::Error| {
        Refusal::new(
            StatusCode::BAD_REQUEST,
            "bad-request",
            crate::downloader::chain(error),
        )
    };
    let seconds = i64::from(gateway.config.certificate_days) * 86_400;
    let chain = gateway
        .own()
        .authority
        .issue_device(csr.as_bytes(), name, seconds, gateway.now())
        .map_err(|error| bad(&error))?;
    let leaf = CertificateDer::from_pem_slice(chain.as_bytes()).map_err(|error| internal(&error))?;
    let key = mtls::key_fingerprint(&leaf).map_err(|error| internal(&error))?;
    let public_key = mtls::public_key_of(&leaf).map_err(|error| internal(&error))?;
    let until = mtls::validity_of(&leaf)
        .map_err(|error| internal(&error))?
        .not_after;
    Ok(Certificate {
        chain,
        key,
        public_key,
        until,
    })
}

/// A new certificate for the enrolled key, over the device's authenticated connection.
pub(crate) async fn renew(
    gateway: &Arc<Gateway>,
    name: &Name,
    key: Option<Digest>,
    renew: &Renew,
) -> Result<Enrolled, Refusal> {
    let issued = issue(gateway, name, &renew.csr)?;
    hand_out(gateway, name, key, issued).await
}

/// Notes and gives a renewed certificate, for the enrolled key only.
async fn hand_out(
    gateway: &Arc<Gateway>,
    name: &Name,
    key: Option<Digest>,
    issued: Certificate,
) -> Result<Enrolled, Refusal> {
    if Some(issued.key) != key {
        return Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "other-key",
            "the request is for another key than the one that was enrolled: enrol again with a new code",
        ));
    }
    let renewed = entry::extend(gateway, name, issued.key, issued.until).await;
    if !renewed.map_err(|error| internal(&error))? {
        let kept = gateway.fleet.enrolment(name);
        if kept.is_some_and(|enrolment| enrolment.quarantine.is_some()) {
            return Err(Refusal::quarantined());
        }
        return Err(Refusal::new(
            StatusCode::UNAUTHORIZED,
            "not-on-the-list",
            "this device is not on the list",
        ));
    }
    Ok(enrolled(gateway, name, issued.chain, Secret::new(String::new())))
}

/// Makes a one-time code for a device on the list; the one before is void.
pub(crate) async fn make_code(gateway: &Gateway, name: &Name) -> anyhow::Result<(Secret, UnixTime)> {
    let secret = new_code()?;
    let until = gateway.now().plus_seconds(limits::CODE_SECONDS);
    let (device, tag) = (name.to_string(), gateway.pepper.tag(Use::Code, &secret).to_vec());
    gateway
        .database
        .run(move |db| {
            db.execute(
                "INSERT INTO codes (device, secret, until) VALUES (?1, ?2, ?3)
                 ON CONFLICT (device) DO UPDATE SET secret = ?2, until = ?3, failures = 0",
                params![device, tag, until.0],
            )
        })
        .await?;
    let bound = gateway
        .addresses
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let bound = bound.map_or(gateway.config.listen_enroll, |addresses| addresses.enroll);
    let code = EnrollCode {
        address: gateway.config.advertised(bound),
        device: name.clone(),
        site_ca: gateway.own().site_ca.0.fingerprint(),
        secret,
    };
    Ok((Secret::new(code.reveal()), until))
}
