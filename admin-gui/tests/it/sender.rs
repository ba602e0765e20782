//! A device of a site whose gateway has enrolled it: signs reports, with the chain that vouches for its key.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use certs::DeviceAuthority;
use mtls::Credentials;
use protocol::author::RelayedReport;
use protocol::{Event, Identity, Outcome, Report, SignedReport, Stamp, Step, UpdateId};
use rustls_pki_types::PrivateKeyDer;

use crate::fake::Fake;
use crate::site::Site;

pub struct Sender {
    pub actor: Identity,
    own: Credentials,
    key: EcdsaKeyPair,
}

impl Sender {
    pub fn of(site: &Site, name: &str) -> Self {
        let read = |file: &str| std::fs::read_to_string(site.made.dir.join("manager").join(file)).unwrap();
        let gateway = DeviceAuthority::load(&read("device-ca.pem"), &read("device-ca-key.pem")).unwrap();
        let actor = Fake::device(name);
        let pem = certs::new_key().unwrap().to_string();
        let now = admin_gui::Senses::system().now();
        let csr = certs::request(&pem).unwrap();
        let chain = gateway
            .issue_device(csr.as_bytes(), &actor.name, certs::life::DEVICE, now)
            .unwrap();
        let own = Credentials::from_pem(&chain, &pem).unwrap();
        let PrivateKeyDer::Pkcs8(der) = own.key() else {
            panic!("not PKCS#8")
        };
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der.secret_pkcs8_der()).unwrap();
        Self { actor, own, key }
    }

    /// How an update of heater 1.0 was rolled back, as the gateway passes it on.
    pub fn rolled_back(&self, update: UpdateId) -> RelayedReport {
        let stamp = |milliseconds: u64| Stamp {
            wall_ns: milliseconds * 1_000_000,
            boot_ns: milliseconds * 1_000_000,
            boot_id: "pump".into(),
        };
        let event = |step, at| Event {
            update,
            actor: self.actor.clone(),
            step,
            component: "heater".parse().unwrap(),
            version: "1.0".parse().unwrap(),
            device: None,
            at: stamp(at),
            bytes: None,
            total: None,
            reason: None,
        };
        let report = Report {
            actor: self.actor.clone(),
            counter: 1,
            nonce: "00".repeat(16),
            at: stamp(50),
            update: Some(update),
            outcome: Some(Outcome::RolledBack),
            reason: Some("never answered".into()),
            events: vec![
                event(Step::VerifyStarted, 10),
                event(Step::Verified, 25),
                event(Step::RolledBack, 40),
            ],
            components: Vec::new(),
        };
        let text = serde_json::to_string(&report).unwrap();
        let signature = self
            .key
            .sign(&SystemRandom::new(), &SignedReport::message(&text))
            .unwrap();
        RelayedReport {
            report: SignedReport {
                report: text,
                key: self.own.key_fingerprint().unwrap(),
                signature: hex::encode(signature),
            },
            sender: self.actor.clone(),
            public_key: hex::encode(self.key.public_key()),
            chain: mtls::chain_text(self.own.chain()),
        }
    }
}
