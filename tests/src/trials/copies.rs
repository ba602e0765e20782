//! One identity, two machines: whether the gateway notices, and how soon.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use control::Client;
use futures_util::FutureExt as _;
use http_body_util::BodyExt as _;
use mtls::Credentials;
use protocol::control::{ManagerRequest, ManagerStatus};
use protocol::device::{BOOT_HEADER, Hello};
use protocol::{Identity, Name, Report, Role, SignedReport};
use rustls::pki_types::PrivateKeyDer;
use tuf::Digest;

use super::{Plan, Row, Verdict};
use crate::client::{Connection, connect};
use crate::draws::Draws;
use crate::process::patience;
use crate::{Agent, Site, SiteOptions, eventually};

/// Devices that take their turns: each has a share of hellos.
const DEVICES: usize = 12;
/// Thefts beside a running program: each waits for what the program does.
const BESIDE: usize = 10;
/// A device's next hello is free again after this time.
const TURN: Duration = Duration::from_millis(250);
const ALARM: &str = "two machines speak as ";

/// What a device's disk has, in the hands of whoever copied it.
struct Copied {
    name: Name,
    own: Credentials,
    token: String,
    key: EcdsaKeyPair,
    /// Boot id of the right machine.
    boot: String,
    /// Reports that the right machine has made.
    made: u64,
}

impl Copied {
    fn of(agent: &Agent) -> Self {
        let (own, token) = agent.identity();
        let PrivateKeyDer::Pkcs8(der) = own.key() else {
            panic!("a key that is not PKCS#8")
        };
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der.secret_pkcs8_der());
        Self {
            name: agent.name.parse().expect("a name"),
            key: key.expect("a P-256 key"),
            own,
            token,
            boot: mtls::stamp().boot_id,
            made: 0,
        }
    }

    async fn dial(&self, site: &Site) -> Connection {
        let ca = site.path("manager/ca.pem");
        let dialled = connect(site.at(7101), &ca, site.name(), Role::Manager, Some(&self.own)).await;
        dialled.expect("it has the key")
    }

    /// Asks over a connection of its own; what is told counts, whatever the answer is.
    async fn tell(&self, site: &Site, path: &str, body: &str) {
        let headers = [
            ("content-type", "application/json"),
            ("authorization", self.token.as_str()),
        ];
        let begun = Instant::now();
        loop {
            let mut dialled = self.dial(site).await;
            let answer = dialled.ask("POST", path, &headers, body.to_owned()).await;
            let answer = answer.expect("an answer");
            // Hundreds of thefts use up what one device may say in a minute: it is said when its turn comes.
            if answer.status == 429 && begun.elapsed() < patience() {
                tokio::time::sleep(TURN).await;
                continue;
            }
            assert_eq!(answer.status, 200, "{}", answer.text());
            return;
        }
    }

    fn hello(&self, boot: &str, counter: u64) -> String {
        let hello = Hello {
            agent: "0.1.0".into(),
            arch: release::Arch::here().expect("a known processor"),
            hardware: Vec::new(),
            boot_id: boot.to_owned(),
            report_counter: counter,
            time_known: true,
            trouble: None,
            components: Vec::new(),
        };
        serde_json::to_string(&hello).expect("a hello")
    }

    fn report(&self, counter: u64, nonce: String) -> String {
        let report = Report {
            actor: Identity {
                site: "plant".parse().expect("a name"),
                role: Role::Device,
                name: self.name.clone(),
            },
            counter,
            nonce,
            at: mtls::stamp(),
            update: None,
            outcome: None,
            reason: None,
            events: Vec::new(),
            components: Vec::new(),
        };
        let text = serde_json::to_string(&report).expect("a report");
        let signature = self.key.sign(&SystemRandom::new(), &SignedReport::message(&text));
        let signed = SignedReport {
            report: text,
            key: self.own.key_fingerprint().expect("a fingerprint"),
            signature: hex::encode(signature.expect("a signature").as_ref()),
        };
        serde_json::to_string(&[signed]).expect("reports")
    }

    /// The right machine makes a report.
    async fn reports(&mut self, site: &Site, draws: &mut Draws) {
        self.made += 1;
        self.tell(site, "/v1/reports", &self.report(self.made, draws.hex(32)))
            .await;
    }

    /// One theft, of a kind by turns, up to where both machines have spoken; gives what the thief said.
    async fn stolen(&mut self, site: &Site, draws: &mut Draws, number: usize) -> String {
        let boot = draws.hex(32);
        match number % 4 {
            // The thief says hello, then the right machine does.
            0 => {
                let said = self.hello(&boot, self.made);
                self.tell(site, "/v1/hello", &said).await;
                let own = self.hello(&self.boot, self.made);
                self.tell(site, "/v1/hello", &own).await;
                said
            }
            // An older copy of the disk is started.
            1 => {
                self.reports(site, draws).await;
                let said = self.hello(&boot, self.made - 1);
                self.tell(site, "/v1/hello", &said).await;
                said
            }
            // Both go on counting from the same number.
            2 => {
                self.reports(site, draws).await;
                let said = self.report(self.made, draws.hex(32));
                self.tell(site, "/v1/reports", &said).await;
                said
            }
            // The thief's comes when the right machine is ahead.
            _ => {
                self.made += 1;
                self.reports(site, draws).await;
                let said = self.report(self.made - 1, draws.hex(32));
                self.tell(site, "/v1/reports", &said).await;
                said
            }
        }
    }
}

/// The gateway's control socket.
struct Operator(Client);

impl Operator {
    async fn of(site: &Site) -> Self {
        let path = site.path("manager/control/socket");
        Self(Client::connect(&path, "the manager").await.expect("it runs"))
    }

    async fn alarm(&mut self, name: &Name) -> Option<String> {
        let status: ManagerStatus = self.0.call(&ManagerRequest::Status).await.expect("a status");
        let about = format!("{ALARM}{name}:");
        status.alarms.into_iter().find(|alarm| alarm.starts_with(&about))
    }

    /// Quarantine, and in again: the next doubt is a new one.
    async fn settle(&mut self, name: &Name) {
        let (name, reason) = (name.clone(), "a trial".to_owned());
        let readmit = ManagerRequest::Readmit { name: name.clone() };
        for request in [ManagerRequest::Quarantine { name, reason }, readmit] {
            self.0.call::<()>(&request).await.expect("done");
        }
    }
}

fn noticed(alarm: Option<String>) -> Verdict {
    alarm.map_or(Verdict::Accepted, Verdict::Refused)
}

pub(super) async fn run(plan: Plan, take: &mut impl FnMut(Row)) {
    let site = Site::running(SiteOptions::default()).await;
    let mut operator = Operator::of(&site).await;
    let mut draws = Draws(plan.seed ^ 5);
    second_connections(plan, &site, &mut operator, take).await;

    let mut devices = VecDeque::new();
    for number in 0..DEVICES.min(plan.trials) {
        let mut device = Copied::of(&site.enroll(&format!("copied-{number}")).await);
        device.reports(&site, &mut draws).await;
        device
            .tell(&site, "/v1/hello", &device.hello(&device.boot, 1))
            .await;
        devices.push_back(device);
    }
    let what =
        "a copied identity: a boot id that comes back, counters that go back, two reports of one number";
    let mut row = Row::wrong("A10", what, "gateway", "thief", &[ALARM]);
    for number in 0..plan.trials {
        let device = devices.front_mut().expect("a device");
        let said = device.stolen(&site, &mut draws, number).await;
        row.note(
            Digest::of(said.as_bytes()),
            noticed(operator.alarm(&device.name).await),
        );
        operator.settle(&device.name.clone()).await;
        devices.rotate_left(1);
    }
    take(row);
    beside_a_program(plan, &site, &mut operator, &mut draws, take).await;
}

/// A9: another connection under the same name gets its own and takes nobody's.
async fn second_connections(plan: Plan, site: &Site, operator: &mut Operator, take: &mut impl FnMut(Row)) {
    const GOES_ON: &str = "the first one goes on";
    let device = Copied::of(&site.enroll("first").await);
    let headers = [
        ("authorization", device.token.as_str()),
        (BOOT_HEADER, device.boot.as_str()),
    ];
    let mut first = device.dial(site).await;
    let mut stream = first
        .open("/v1/events", &headers)
        .await
        .expect("a stream")
        .into_body();
    let what = "a second connection displaces the first";
    let mut row = Row::wrong("A9", what, "gateway", "thief", &[GOES_ON]);
    for number in 0..plan.trials {
        let mut second = device.dial(site).await;
        let opened = second.open("/v1/events", &headers).await.expect("a stream");
        // Each share is used up in its turn, and the one too many is refused.
        assert!(
            matches!(opened.status().as_u16(), 200 | 429),
            "{}",
            opened.status()
        );
        let verdict = match stream.frame().now_or_never() {
            None => Verdict::Refused(GOES_ON.to_owned()),
            Some(Some(Ok(frame))) if frame.is_data() => Verdict::Refused(GOES_ON.to_owned()),
            Some(_) => Verdict::Accepted,
        };
        row.note(Digest::of(&number.to_be_bytes()), verdict);
    }
    // It was open all the time: what ends it now is the operator.
    operator.settle(&device.name).await;
    while let Some(Ok(_)) = stream.frame().await {}
    take(row);
}

/// The thief beside the real program, which has its stream open: until the alarm is there.
async fn beside_a_program(
    plan: Plan,
    site: &Site,
    operator: &mut Operator,
    draws: &mut Draws,
    take: &mut impl FnMut(Row),
) {
    let agent = site.device("beside").await;
    let device = Copied::of(&agent);
    let connected = || agent.status();
    let what = "a copied identity speaks while the device is connected (each: from its hello to the alarm)";
    let mut row = Row::wrong("A10", what, "gateway", "thief", &[ALARM]);
    for _ in 0..(plan.trials / 2).clamp(1, BESIDE) {
        eventually("connected", connected, |status| status.connected).await;
        let said = device.hello(&draws.hex(32), 0);
        device.tell(site, "/v1/hello", &said).await;
        let begun = Instant::now();
        let alarm = loop {
            let alarm = operator.alarm(&device.name).await;
            if alarm.is_some() || begun.elapsed() > patience() {
                break alarm;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        row.took(begun.elapsed());
        row.note(Digest::of(said.as_bytes()), noticed(alarm));
        operator.settle(&device.name).await;
    }
    take(row);
}
