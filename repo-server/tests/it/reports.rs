//! Reports in and out.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use certs::SiteAuthority;
use protocol::author::{RelayedReport, ReportPage};
use protocol::device::ReportsTaken;
use protocol::{Event, Identity, Outcome, Report, Role, SignedReport, Stamp, Step, UpdateId};
use repo_server::{Limits, Options};
use reqwest::StatusCode;
use rustls_pki_types::PrivateKeyDer;
use tuf::Digest;

use crate::site::{Running, Site, problem, sample};

const SPKI_HEAD: &str = "3059301306072a8648ce3d020106082a8648ce3d030107034200";

struct Device {
    identity: Identity,
    key: EcdsaKeyPair,
    chain: Vec<String>,
}

impl Device {
    fn new(identity: &str) -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        Self {
            identity: identity.parse().unwrap(),
            key,
            chain: Vec::new(),
        }
    }

    /// One that a gateway of the site has enrolled.
    fn enrolled(authority: &SiteAuthority, identity: &str) -> Self {
        let identity: Identity = identity.parse().unwrap();
        let now = mtls::Clock::now(&mtls::SystemClock).now;
        let pem = certs::new_key().unwrap().to_string();
        let gateway = authority.device_authority(now).unwrap();
        let csr = certs::request(&pem).unwrap();
        let chain = gateway
            .issue_device(csr.as_bytes(), &identity.name, 3_600, now)
            .unwrap();
        let own = mtls::Credentials::from_pem(&chain, &pem).unwrap();
        let PrivateKeyDer::Pkcs8(der) = own.key() else {
            panic!("not PKCS#8")
        };
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der.secret_pkcs8_der());
        Self {
            identity,
            key: key.unwrap(),
            chain: mtls::chain_text(own.chain()),
        }
    }

    fn report(&self, counter: u64, outcome: Outcome) -> RelayedReport {
        let stamp = Stamp {
            wall_ns: 1,
            boot_ns: 1,
            boot_id: "b".into(),
        };
        let update = UpdateId::from_random([9; 16]);
        let event = Event {
            update,
            actor: self.identity.clone(),
            step: Step::Committed,
            component: "Demo".parse().unwrap(),
            version: "1.0.0".parse().unwrap(),
            device: None,
            at: stamp.clone(),
            bytes: None,
            total: None,
            reason: None,
        };
        let report = Report {
            actor: self.identity.clone(),
            counter,
            nonce: format!("{counter:032x}"),
            at: stamp,
            update: Some(update),
            outcome: Some(outcome),
            reason: None,
            events: vec![event],
            components: Vec::new(),
        };
        self.relayed(&serde_json::to_string(&report).unwrap())
    }

    fn relayed(&self, text: &str) -> RelayedReport {
        let point = self.key.public_key().as_ref();
        let signature = self
            .key
            .sign(&SystemRandom::new(), &SignedReport::message(text))
            .unwrap();
        let spki = [&hex::decode(SPKI_HEAD).unwrap()[..], point].concat();
        RelayedReport {
            report: SignedReport {
                report: text.to_owned(),
                key: Digest::of(&spki),
                signature: hex::encode(signature),
            },
            sender: self.identity.clone(),
            public_key: hex::encode(point),
            chain: self.chain.clone(),
        }
    }
}

async fn send(running: &Running<'_>, reports: &[RelayedReport]) -> ReportsTaken {
    let response = running
        .post(Some(Role::Manager), "/api/v1/reports", &reports)
        .await;
    assert_eq!(response.status(), StatusCode::OK);
    response.json().await.unwrap()
}

async fn page(running: &Running<'_>, query: &str) -> ReportPage {
    let path = format!("/api/v1/reports{query}");
    running
        .get(Some(Role::Author), &path)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap()
}

#[tokio::test]
async fn reports_are_stored_once_and_read_in_pages_also_after_a_restart() {
    let site = Site::new();
    let running = site.start().await;
    running.release(&sample("1.0.0", 1)).await;
    let (pump, valve) = (
        Device::new("drover://plant/device/pump"),
        Device::new("drover://plant/device/valve"),
    );
    let first = [
        pump.report(1, Outcome::Committed),
        valve.report(4, Outcome::RolledBack),
    ];
    assert_eq!(send(&running, &first).await, ReportsTaken { through: 4 });
    assert_eq!(
        send(&running, &first).await,
        ReportsTaken { through: 4 },
        "again: nothing new"
    );
    send(&running, &[pump.report(2, Outcome::Committed)]).await;
    running.server.stop().await;

    let running = site.start().await;
    let all = page(&running, "").await;
    assert_eq!(all.reports.len(), 3);
    assert_eq!(all.reports[0].relayed, first[0]);
    let start = page(&running, "?after=0&limit=2").await;
    assert_eq!(start.reports, all.reports[..2]);
    let rest = page(&running, &format!("?after={}&limit=2", start.next)).await;
    assert_eq!(rest.reports, all.reports[2..]);
    let newest = page(&running, "?newest=1").await;
    assert_eq!(
        newest.reports,
        all.reports[2..],
        "who looks for the first time sees what is"
    );
    let nothing = page(&running, &format!("?after={}", rest.next)).await;
    assert_eq!((nothing.reports.len(), nothing.next), (0, rest.next));

    let (_, shown) = running.text("/").await;
    assert!(
        shown.contains("1 committed") && shown.contains("1 rolled back"),
        "the page counts devices"
    );
}

#[tokio::test]
async fn a_report_that_does_not_verify_is_left_out_and_does_not_hold_up_the_others() {
    let site = Site::new();
    let running = site.start().await;
    let pump = Device::enrolled(&site.authority, "drover://plant/device/pump");
    let good = pump.report(1, Outcome::Committed);

    let mut signature = pump.report(2, Outcome::Committed);
    signature.report.report = signature.report.report.replace("committed", "failed");
    let mut key = pump.report(3, Outcome::Committed);
    key.public_key = Device::new("drover://plant/device/pump")
        .report(3, Outcome::Committed)
        .public_key;
    let mut name = pump.report(4, Outcome::Committed);
    name.sender = "drover://plant/device/valve".parse().unwrap();
    let elsewhere = Device::new("drover://other/device/pump").report(5, Outcome::Committed);
    let manager = Device::new("drover://plant/manager/two").report(6, Outcome::Committed);
    let author = Device::new("drover://plant/author/one").report(7, Outcome::Committed);
    let garbage = pump.relayed("{}");
    let now = mtls::Clock::now(&mtls::SystemClock).now;
    let strange = SiteAuthority::create(&"plant".parse().unwrap(), now).unwrap();
    let stranger = Device::enrolled(&strange, "drover://plant/device/pump").report(8, Outcome::Committed);
    // A right chain, of the same name, for another key: what a copy of the list would look like.
    let mut lent = Device::new("drover://plant/device/pump");
    lent.chain.clone_from(&pump.chain);
    let lent = lent.report(9, Outcome::Committed);
    let mut named = Device::enrolled(&site.authority, "drover://plant/device/valve");
    named.identity = pump.identity.clone();
    let named = named.report(10, Outcome::Committed);
    let bad = [
        signature, key, name, elsewhere, manager, author, garbage, stranger, lent, named,
    ];
    let reports: Vec<_> = bad.into_iter().chain([good.clone()]).collect();
    assert_eq!(send(&running, &reports).await.through, 1);
    let stored = page(&running, "").await.reports;
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0].relayed, good);
    assert!(
        running
            .text("/metrics")
            .await
            .1
            .contains("drover_repository_reports_refused_total 10")
    );

    let own = Device::new("drover://plant/manager/one").report(1, Outcome::Committed);
    send(&running, &[own]).await;
    assert_eq!(
        page(&running, "").await.reports.len(),
        2,
        "a manager's own report"
    );

    let many = vec![good; 65];
    let (status, _) = problem(running.post(Some(Role::Manager), "/api/v1/reports", &many).await).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn only_the_newest_reports_are_kept() {
    let site = Site::new();
    let limits = Limits {
        kept_reports: 3,
        ..Limits::default()
    };
    let options = Options {
        limits,
        ..site.options()
    };
    let running = site.start_in(&site.repository(), options).await;
    let pump = Device::new("drover://plant/device/pump");
    for counter in 1..=5 {
        send(&running, &[pump.report(counter, Outcome::Committed)]).await;
    }
    let kept = page(&running, "").await;
    let counters: Vec<_> = kept
        .reports
        .iter()
        .map(|stored| stored.relayed.report.read().unwrap().counter)
        .collect();
    assert_eq!(counters, [3, 4, 5]);
    assert_eq!(kept.next, 5, "places are never given twice");
}

/// One device that floods displaces its own reports and nobody else's.
#[tokio::test]
async fn a_device_that_floods_loses_its_own_oldest_reports() {
    let site = Site::new();
    let limits = Limits {
        kept_reports: 10,
        ..Limits::default()
    };
    let options = Options {
        limits,
        ..site.options()
    };
    let running = site.start_in(&site.repository(), options).await;
    let (pump, thief) = (
        Device::new("drover://plant/device/pump"),
        Device::new("drover://plant/device/thief"),
    );
    send(&running, &[pump.report(1, Outcome::Committed)]).await;
    for round in 0..3 {
        let flood: Vec<RelayedReport> = (1..=20)
            .map(|number| thief.report(20 * round + number, Outcome::Committed))
            .collect();
        send(&running, &flood).await;
    }
    send(&running, &[pump.report(2, Outcome::Committed)]).await;
    let kept: Vec<(String, u64)> = page(&running, "")
        .await
        .reports
        .iter()
        .map(|stored| {
            let sender = stored.relayed.sender.name.to_string();
            (sender, stored.relayed.report.read().unwrap().counter)
        })
        .collect();
    let of = |who: &str| -> Vec<u64> {
        let own = kept.iter().filter(|(sender, _)| sender == who);
        own.map(|(_, counter)| *counter).collect()
    };
    assert_eq!(of("pump"), [1, 2]);
    assert_eq!(of("thief"), (53..=60).collect::<Vec<u64>>());
}
