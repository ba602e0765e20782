//! The ports: who gets in, with which certificate and which token.

use std::sync::Arc;

use certs::{DeviceAuthority, Issued, SiteAuthority, flawed};
use mtls::{Credentials, HTTP_1_1, Refusal, SiteCa, SystemClock, client_config};
use protocol::{Name, Role};
use tuf::Digest;

use super::{Plan, Row, Verdict};
use crate::client::connect;
use crate::draws::Draws;
use crate::forge::now;
use crate::site::PASSPHRASE;
use crate::{Site, SiteOptions};

/// A site and whoever could sign certificates in it.
struct Doors {
    site: Site,
    root: SiteAuthority,
    devices: DeviceAuthority,
    plant: Name,
    north: Name,
}

impl Doors {
    async fn start() -> Self {
        let site = Site::running(SiteOptions::default()).await;
        let read = |file: &str| std::fs::read_to_string(site.path(file)).expect("a site's file");
        let root =
            SiteAuthority::load_encrypted(&read("author/ca.pem"), &read("author/ca-key.pem"), PASSPHRASE);
        let devices =
            DeviceAuthority::load(&read("manager/device-ca.pem"), &read("manager/device-ca-key.pem"));
        Self {
            root: root.expect("the site's authority"),
            devices: devices.expect("the gateway's authority"),
            plant: site.name().parse().expect("a name"),
            north: "north".parse().expect("a name"),
            site,
        }
    }

    /// A certificate with one flaw, of a kind by turns.
    fn flawed(&self, role: Role, number: usize) -> Issued {
        let other: Name = "other".parse().expect("a name");
        let (root, north, now) = (&self.root, &self.north, now());
        match number % 7 {
            0 => flawed::expired(root, role, north, now),
            1 => flawed::not_yet_valid(root, role, north, now),
            2 => flawed::stranger(&self.plant, role, north, now),
            3 => flawed::wrong_site(root, &other, role, north, now),
            4 => flawed::through_device_authority(&self.devices, role, north, now),
            5 => flawed::nameless(root, role, north, now),
            _ => flawed::wrong_usage(root, role, north, now),
        }
        .expect("a certificate")
    }

    /// A right certificate of a role.
    fn issue(&self, role: Role) -> Issued {
        self.root
            .issue(role, &self.north, &[], 3600, now())
            .expect("a certificate")
    }

    fn flawed_device(&self, number: usize) -> Issued {
        let (devices, north, now) = (&self.devices, &self.north, now());
        match number % 6 {
            0 => flawed::expired_device(devices, north, now),
            1 => flawed::not_yet_valid_device(devices, north, now),
            2 => flawed::stranger_device(&self.plant, north, now),
            3 => flawed::device_from_root(&self.root, north, now),
            4 => flawed::device_from_root_with_intermediate(&self.root, devices, north, now),
            _ => self.root.issue(Role::Author, north, &[], 3600, now),
        }
        .expect("a certificate")
    }

    /// Dials a port with a certificate and sends one request.
    async fn ask(&self, door: &Door, own: Option<&Credentials>, token: Option<&str>) -> Verdict {
        let ca = self.site.path("manager/ca.pem");
        let dialled = connect(self.site.at(door.port), &ca, self.site.name(), door.server, own).await;
        let refused = |refusal: Refusal| Verdict::Refused(format!("TLS: {refusal}"));
        let mut connection = match dialled {
            Ok(connection) => connection,
            Err(refusal) => return refused(refusal),
        };
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(token.map(|token| ("authorization", token)));
        match connection.ask(door.method, door.path, &headers, door.body).await {
            Ok(answer) if door.welcome.contains(&answer.status) => Verdict::Accepted,
            Ok(answer) => Verdict::Refused(format!("{}: {}", answer.status, answer.text())),
            Err(refusal) => refused(refusal),
        }
    }
}

/// A request that only a right caller gets an answer to.
struct Door {
    port: u16,
    server: Role,
    method: &'static str,
    path: &'static str,
    body: &'static str,
    /// What a right caller is answered.
    welcome: &'static [u16],
}

const AUTHOR: Door = Door {
    port: 7100,
    server: Role::Repository,
    method: "GET",
    path: "/api/v1/reports",
    body: "",
    welcome: &[200],
};
const RELAY: Door = Door {
    port: 7100,
    server: Role::Repository,
    method: "POST",
    path: "/api/v1/reports",
    body: "[]",
    welcome: &[200],
};
/// What is not there is told to those only who may ask.
const DEVICE: Door = Door {
    port: 7101,
    server: Role::Manager,
    method: "GET",
    path: "/v1/metadata/none.json",
    body: "",
    welcome: &[200, 404],
};

fn credentials(issued: &Issued) -> Credentials {
    Credentials::from_pem(&issued.chain, &issued.key).expect("a certificate and its key")
}

fn digest(own: &Issued, more: &str) -> Digest {
    Digest::of(format!("{}{more}", own.chain).as_bytes())
}

const TLS: &str = "TLS: ";

pub(super) async fn run(plan: Plan, take: &mut impl FnMut(Row)) {
    let site = Doors::start().await;
    let mut draws = Draws(plan.seed ^ 2);
    certificates(plan, &site, take).await;
    servers(plan, &site, take);
    tokens(plan, &site, &mut draws, take).await;
}

async fn certificates(plan: Plan, site: &Doors, take: &mut impl FnMut(Row)) {
    for (door, role, what) in [
        (&AUTHOR, Role::Author, "right certificates of authors"),
        (&RELAY, Role::Manager, "right certificates of gateways"),
    ] {
        let mut row = Row::right("6.4", what, "repository");
        for _ in 0..plan.trials {
            let own = site.issue(role);
            let verdict = site.ask(door, Some(&credentials(&own)), None).await;
            row.note(digest(&own, ""), verdict);
        }
        take(row);
        let what = what.replace("right", "wrong");
        let mut row = Row::wrong("6.4", &what, "repository", "stranger", &[TLS]);
        for number in 0..plan.trials {
            let own = site.flawed(role, number);
            let verdict = site.ask(door, Some(&credentials(&own)), None).await;
            row.note(digest(&own, ""), verdict);
        }
        take(row);
    }
    let mut row = Row::wrong(
        "6.4",
        "wrong certificates of devices",
        "gateway",
        "stranger",
        &[TLS],
    );
    for number in 0..plan.trials {
        let own = site.flawed_device(number);
        let verdict = site.ask(&DEVICE, Some(&credentials(&own)), None).await;
        row.note(digest(&own, ""), verdict);
    }
    take(row);
}

/// Those who dial look at the server's certificate as hard: the configuration by which device and gateway dial, against
/// a server that shows `own`.
fn servers(plan: Plan, site: &Doors, take: &mut impl FnMut(Row)) {
    let ca = SiteCa::load(&site.site.path("manager/ca.pem")).expect("the site's authority");
    for (role, at, what) in [
        (Role::Manager, "device", "false gateways"),
        (Role::Repository, "gateway", "false repositories"),
    ] {
        let config = client_config(None, &ca, &site.plant, role, &[HTTP_1_1], Arc::new(SystemClock));
        let config = Arc::new(config.expect("a configuration"));
        let mut row = Row::right("6.4", &what.replace("false", "right"), at);
        for _ in 0..plan.trials {
            let own = site.issue(role);
            row.note(digest(&own, ""), shakes(&config, &own));
        }
        take(row);
        let mut row = Row::wrong("6.4", what, at, "network", &[TLS]);
        for number in 0..plan.trials {
            let own = match number % 8 {
                // The other server of the same site.
                7 if role == Role::Manager => site.issue(Role::Repository),
                7 => site.issue(Role::Manager),
                // A gateway's certificate serves both sides.
                6 if role == Role::Manager => site.issue(Role::Author),
                number => site.flawed(role, number),
            };
            row.note(digest(&own, ""), shakes(&config, &own));
        }
        take(row);
    }
}

/// A TLS handshake in memory.
fn shakes(client: &Arc<rustls::ClientConfig>, own: &Issued) -> Verdict {
    let own = credentials(own);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut server = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(own.chain().to_vec(), own.key().clone_key())
        .expect("a certificate and its key");
    server.alpn_protocols = vec![HTTP_1_1.as_bytes().to_vec()];
    let mut server = rustls::ServerConnection::new(Arc::new(server)).expect("a server");
    let name = rustls::pki_types::ServerName::try_from("plant").expect("a name");
    let mut client = rustls::ClientConnection::new(client.clone(), name).expect("a client");
    // Two flights each way are enough for TLS 1.3.
    for _ in 0..4 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).expect("memory");
        }
        server.read_tls(&mut wire.as_slice()).expect("memory");
        // What the server thinks of our alert is not what is looked at.
        let _ = server.process_new_packets();
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).expect("memory");
        }
        client.read_tls(&mut wire.as_slice()).expect("memory");
        if let Err(error) = client.process_new_packets() {
            return Verdict::Refused(format!("{TLS}{}", Refusal::from_tls(&error)));
        }
    }
    if client.is_handshaking() {
        return Verdict::Refused("the handshake does not end".into());
    }
    Verdict::Accepted
}

async fn tokens(plan: Plan, site: &Doors, draws: &mut Draws, take: &mut impl FnMut(Row)) {
    let (north, south) = (site.site.enroll("north").await, site.site.enroll("south").await);
    let ((own, right), (_, others)) = (north.identity(), south.identity());
    let mut row = Row::right("6.4", "a device's own certificate and token", "gateway");
    for number in 0..plan.trials {
        let verdict = site.ask(&DEVICE, Some(&own), Some(&right)).await;
        // The same device each time: a connection is the input.
        row.note(Digest::of(&number.to_be_bytes()), verdict);
    }
    take(row);

    let mut row = Row::wrong(
        "6.4",
        "a right certificate with a wrong token",
        "gateway",
        "stranger",
        &["not-on-the-list"],
    );
    for number in 0..plan.trials {
        let mut token = match number % 3 {
            0 => format!("Bearer {}", draws.hex(64)),
            1 => right[..right.len() - 1 - draws.below(60)].to_owned() + &draws.hex(draws_length(number)),
            _ => others.clone(),
        };
        if number % 3 == 2 {
            // Another device's, eight digits changed, so that all differ.
            let at = "Bearer ".len() + draws.below(64 - 7);
            token.replace_range(at..at + 8, &draws.hex(8));
        }
        let verdict = site.ask(&DEVICE, Some(&own), Some(&token)).await;
        row.note(Digest::of(token.as_bytes()), verdict);
    }
    take(row);

    let mut row = Row::wrong(
        "A10",
        "a certificate of an enrolled name by another key (a stolen device authority)",
        "gateway",
        "gateway",
        &["not-on-the-list", "not the one that was enrolled"],
    );
    for _ in 0..plan.trials {
        let forged = flawed::device(&site.devices, &site.north, now()).expect("a certificate");
        let verdict = site.ask(&DEVICE, Some(&credentials(&forged)), Some(&right)).await;
        row.note(digest(&forged, ""), verdict);
    }
    take(row);

    for (door, at) in [
        (&DEVICE, "gateway"),
        (&AUTHOR, "repository"),
        (&RELAY, "repository"),
    ] {
        let mut row = Row::wrong(
            "A6",
            "no client certificate, a replayed token or hash",
            at,
            "network",
            &[TLS, "401"],
        );
        for number in 0..plan.trials {
            // A device's token as it is, and hashes of it and of others, as the document's program took them.
            let token = match number {
                0 => right.clone(),
                1 => others.clone(),
                _ => format!("Bearer {}", Digest::of(format!("{right}{number}").as_bytes())),
            };
            let verdict = site.ask(door, None, Some(&token)).await;
            row.note(Digest::of(token.as_bytes()), verdict);
        }
        take(row);
    }
}

/// How many digits follow a token that was cut.
fn draws_length(number: usize) -> usize {
    8 + number / 3 % 56
}
