//! The verifiers: rustls-webpki builds the path, the role table and the SAN URI decide the rest.
//!
//! What is checked, in this order: the certificate can be read and names one identity; its chain leads to the
//! site's root the way the table wants it for that role, within its time and for this use; it is of this site;
//! its role is one that is let in here. TLS itself proves the possession of the key.

use std::fmt;
use std::sync::Arc;

use protocol::{Identity, Name, Role};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime as PkiTime};
use tuf::{Digest, UnixTime};

use crate::clock::{Clock, pki_time};
use crate::credentials::{Error, SiteCa};
use crate::identity::{identity_of, validity_of};
use crate::refusal::Refusal;
use crate::roles::{Issuer, rule};

/// Which side of the connection the certificate's holder stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Server,
    Client,
}

/// Path building below one root, for both sides.
pub(crate) struct Paths {
    root: CertificateDer<'static>,
    store: Arc<RootCertStore>,
    clients: Arc<dyn ClientCertVerifier>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Paths {
    pub(crate) fn new(root: &CertificateDer<'static>, provider: &Arc<CryptoProvider>) -> Result<Self, Error> {
        let mut store = RootCertStore::empty();
        store.add(root.clone())?;
        let store = Arc::new(store);
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&store), Arc::clone(provider)).build()?;
        let algorithms = provider.signature_verification_algorithms;
        Ok(Self {
            root: root.clone(),
            store,
            clients,
            algorithms,
        })
    }

    /// One attempt at a path from `leaf` to the root through `between`.
    fn path(
        &self,
        side: Side,
        leaf: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: PkiTime,
    ) -> Result<(), Refusal> {
        let outcome = match side {
            Side::Client => self.clients.verify_client_cert(leaf, between, now).map(|_| ()),
            Side::Server => ParsedCertificate::try_from(leaf).and_then(|parsed| {
                let all = self.algorithms.all;
                verify_server_cert_signed_by_trust_anchor(&parsed, &self.store, between, now, all)
            }),
        };
        outcome.map_err(|error| Refusal::from_tls(&error))
    }

    /// The path that the role table demands, and no other.
    pub(crate) fn check(
        &self,
        side: Side,
        identity: &Identity,
        leaf: &CertificateDer<'_>,
        sent: &[CertificateDer<'_>],
        now: PkiTime,
    ) -> Result<(), Refusal> {
        // A peer may send the root along; it is known already and is no intermediate.
        let between: Vec<_> = sent
            .iter()
            .filter(|cert| cert.as_ref() != self.root.as_ref())
            .cloned()
            .collect();
        let direct = self.path(side, leaf, &[], now);
        let row = rule(identity.role);
        match row.issuer {
            Issuer::Root => match direct {
                Err(Refusal::Stranger) if self.path(side, leaf, &between, now).is_ok() => {
                    Err(Refusal::ThroughDeviceAuthority {
                        identity: Box::new(identity.clone()),
                    })
                }
                other => other,
            },
            Issuer::DeviceAuthority => {
                // Were it valid without an intermediate, the root would have signed it.
                if direct.is_ok() {
                    return Err(Refusal::DeviceFromRoot {
                        identity: Box::new(identity.clone()),
                    });
                }
                if between.len() != 1 {
                    let (identity, count) = (Box::new(identity.clone()), between.len());
                    return Err(Refusal::Intermediates { identity, count });
                }
                self.path(side, leaf, &between, now)
            }
        }
    }
}

/// Judges certificates of one site.
pub(crate) struct Judge {
    paths: Paths,
    site: Option<Name>,
    accept: Vec<Role>,
    clock: Arc<dyn Clock>,
}

impl Judge {
    pub(crate) fn new(
        root: &CertificateDer<'static>,
        site: Option<&Name>,
        accept: &[Role],
        clock: Arc<dyn Clock>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, Error> {
        let paths = Paths::new(root, provider)?;
        Ok(Self {
            paths,
            site: site.cloned(),
            accept: accept.to_vec(),
            clock,
        })
    }

    /// The verdict on a peer's certificate.
    pub(crate) fn judge(
        &self,
        side: Side,
        leaf: &CertificateDer<'_>,
        sent: &[CertificateDer<'_>],
    ) -> Result<Identity, Refusal> {
        let identity = identity_of(leaf)?;
        self.paths
            .check(side, &identity, leaf, sent, self.time_for(leaf, sent))?;
        if let Some(expected) = self.site.as_ref().filter(|site| **site != identity.site) {
            let (found, expected) = (identity.site.clone(), expected.clone());
            return Err(Refusal::WrongSite {
                identity: Box::new(identity),
                found,
                expected,
            });
        }
        let row = rule(identity.role);
        let may_stand_there = match side {
            Side::Server => row.serves,
            Side::Client => row.dials,
        };
        if !may_stand_there || !self.accept.contains(&identity.role) {
            let accepted = self.accept.clone();
            return Err(Refusal::WrongRole {
                identity: Box::new(identity),
                accepted,
            });
        }
        Ok(identity)
    }

    /// The believed time; while it is unknown, a certificate's own beginning is evidence that we are later.
    fn time_for(&self, leaf: &CertificateDer<'_>, sent: &[CertificateDer<'_>]) -> PkiTime {
        let believed = self.clock.now();
        pki_time(if believed.known {
            believed.now
        } else {
            believed.now.max(beginning(leaf, sent))
        })
    }

    /// Checks our own chain against the root at a time at which it must have been valid, so that a wrong
    /// `ca.pem` is noticed at the start and not by every peer.
    pub(crate) fn check_own(&self, side: Side, chain: &[CertificateDer<'static>]) -> Result<(), Error> {
        let Some((leaf, sent)) = chain.split_first() else {
            return Err(Error::Unusable(Refusal::NoCertificate));
        };
        let identity = identity_of(leaf)?;
        let row = rule(identity.role);
        match side {
            Side::Server if !row.serves => {
                return Err(Error::WrongSide {
                    role: identity.role,
                    doing: "accept connections",
                });
            }
            Side::Client if !row.dials => {
                return Err(Error::WrongSide {
                    role: identity.role,
                    doing: "connect",
                });
            }
            _ => {}
        }
        if let Some(expected) = self.site.as_ref().filter(|site| **site != identity.site) {
            return Err(Error::OtherSite {
                found: identity.site,
                expected: expected.clone(),
            });
        }
        let now = pki_time(beginning(leaf, sent));
        match self.paths.check(side, &identity, leaf, sent, now) {
            // Too old or too young is for the others to say: they know the time, and it may be renewed yet.
            Ok(()) | Err(Refusal::Expired | Refusal::NotYetValid) => Ok(()),
            Err(reason) => Err(Error::Unusable(reason)),
        }
    }
}

/// The latest notBefore among the certificates; 1970 for what cannot be read (the path will fail anyway).
pub(crate) fn beginning(leaf: &CertificateDer<'_>, sent: &[CertificateDer<'_>]) -> UnixTime {
    std::iter::once(leaf)
        .chain(sent)
        .filter_map(|cert| validity_of(cert).ok())
        .map(|validity| validity.not_before)
        .max()
        .unwrap_or(UnixTime(0))
}

impl fmt::Debug for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Judge")
            .field("site", &self.site)
            .field("accept", &self.accept)
            .finish_non_exhaustive()
    }
}

/// Judges whoever dials us.
#[derive(Debug)]
pub(crate) struct ClientVerifier {
    pub(crate) judge: Judge,
    pub(crate) mandatory: bool,
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.judge.paths.clients.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        sent: &[CertificateDer<'_>],
        _wall: PkiTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.judge
            .judge(Side::Client, leaf, sent)
            .map_err(Refusal::into_tls)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(tls13_only())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.judge.paths.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.judge.paths.algorithms.supported_schemes()
    }
}

/// Judges whoever we dial, below a known root.
#[derive(Debug)]
pub(crate) struct ServerVerifier {
    pub(crate) judge: Judge,
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        sent: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _wall: PkiTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.judge
            .judge(Side::Server, leaf, sent)
            .map_err(Refusal::into_tls)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(tls13_only())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.judge.paths.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.judge.paths.algorithms.supported_schemes()
    }
}

/// Judges the manager's joining port, when only the fingerprint of the site's root is known: the root must
/// come with the handshake.
#[derive(Debug)]
pub(crate) struct PinnedVerifier {
    pub(crate) fingerprint: Digest,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) provider: Arc<CryptoProvider>,
}

impl PinnedVerifier {
    fn judge(&self, leaf: &CertificateDer<'_>, sent: &[CertificateDer<'_>]) -> Result<Identity, Refusal> {
        let root = sent
            .iter()
            .find(|cert| Digest::of(cert) == self.fingerprint)
            .ok_or(Refusal::WrongFingerprint)?
            .clone()
            .into_owned();
        SiteCa::from_der(root.clone()).map_err(|_| Refusal::WrongFingerprint)?;
        Judge::new(
            &root,
            None,
            &[Role::Manager],
            Arc::clone(&self.clock),
            &self.provider,
        )
        .map_err(|_| Refusal::WrongFingerprint)?
        .judge(Side::Server, leaf, sent)
    }
}

impl ServerCertVerifier for PinnedVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        sent: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _wall: PkiTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.judge(leaf, sent).map_err(Refusal::into_tls)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(tls13_only())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            signed,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

fn tls13_only() -> rustls::Error {
    rustls::Error::General("only TLS 1.3 is spoken here".to_owned())
}

#[cfg(test)]
mod tests {
    use certs::{SiteAuthority, flawed};
    use rustls_pki_types::pem::PemObject;
    use tuf::clock::Believed;

    use super::*;

    const NOW: UnixTime = UnixTime(1_800_000_000);

    #[derive(Debug)]
    struct At(UnixTime);

    impl Clock for At {
        fn now(&self) -> Believed {
            Believed {
                now: self.0,
                known: true,
            }
        }
    }

    fn chain(pem: &str) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(pem.as_bytes())
            .map(Result::unwrap)
            .collect()
    }

    #[test]
    fn no_flipped_bit_anywhere_in_a_chain_is_accepted() {
        let site: Name = "plant".parse().unwrap();
        let root = SiteAuthority::create(&site, NOW).unwrap();
        let through = root.device_authority(NOW).unwrap();
        let issued = flawed::device(&through, &"pump-7".parse().unwrap(), NOW).unwrap();
        let root = chain(root.certificate_pem()).remove(0);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let judge = Judge::new(&root, Some(&site), &[Role::Device], Arc::new(At(NOW)), &provider).unwrap();
        let good = chain(&issued.chain);
        judge.judge(Side::Client, &good[0], &good[1..]).unwrap();
        for which in 0..good.len() {
            for byte in 0..good[which].len() {
                let mut flawed = good[which].to_vec();
                flawed[byte] ^= 1 << (byte % 8);
                let mut bad = good.clone();
                bad[which] = CertificateDer::from(flawed);
                let verdict = judge.judge(Side::Client, &bad[0], &bad[1..]);
                assert!(
                    verdict.is_err(),
                    "bit {} of byte {byte} of certificate {which}",
                    byte % 8
                );
            }
        }
    }
}
