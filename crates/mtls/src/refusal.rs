//! Why a connection was refused, in words an administrator can act on.

use std::error::Error as StdError;
use std::io;

use protocol::{Identity, Name, Role};
use rustls::{AlertDescription, CertificateError, OtherError};
use thiserror::Error;

use crate::identity::IdentityError;

/// Why a peer was refused, or why the peer refused us.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    /// The peer showed no certificate.
    #[error("it showed no certificate")]
    NoCertificate,
    /// The certificate's identity cannot be read.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Not signed by this site's certificate authority.
    #[error("its certificate does not come from this site's certificate authority")]
    Stranger,
    /// What should be certificates is none, or too much.
    #[error("its certificates cannot be read")]
    Unreadable,
    /// A certificate of somebody else than the one in whose name something is.
    #[error("the certificate is that of {identity}")]
    Another {
        /// Whose it is.
        identity: Box<Identity>,
    },
    /// Past its notAfter.
    #[error("its certificate has expired")]
    Expired,
    /// Before its notBefore, while the time is known.
    #[error("its certificate is not valid yet: is this machine's clock right?")]
    NotYetValid,
    /// The certificate is for the other side of a connection (extended key usage).
    #[error("its certificate is not meant for this side of a connection")]
    WrongUsage,
    /// From our authority, for another site.
    #[error("its certificate is for site {found}, not {expected} ({identity})")]
    WrongSite {
        /// Who it is.
        identity: Box<Identity>,
        /// The site it names.
        found: Name,
        /// Ours.
        expected: Name,
    },
    /// A role that has no business here.
    #[error("{identity} is not let in here: only {}", roles(accepted))]
    WrongRole {
        /// Who it is.
        identity: Box<Identity>,
        /// The roles that are.
        accepted: Vec<Role>,
    },
    /// A device certificate that the root signed directly.
    #[error("{identity} was signed by the site's root: devices come through the manager's authority")]
    DeviceFromRoot {
        /// Who it claims to be.
        identity: Box<Identity>,
    },
    /// A certificate of another role that the manager's authority signed.
    #[error("{identity} was signed by the device authority, which vouches for devices only")]
    ThroughDeviceAuthority {
        /// Who it claims to be.
        identity: Box<Identity>,
    },
    /// A device certificate must come with exactly one intermediate.
    #[error("{identity} came with {count} intermediate certificates, not one")]
    Intermediates {
        /// Who it claims to be.
        identity: Box<Identity>,
        /// How many there were, the root not counted.
        count: usize,
    },
    /// On the joining port: none of the certificates shown has the fingerprint in the code.
    #[error("the site's certificate authority is not the one whose fingerprint is in the joining code")]
    WrongFingerprint,
    /// A limit of the listener.
    #[error("too many connections: {0}")]
    TooMany(&'static str),
    /// The peer did not finish its handshake in time.
    #[error("the TLS handshake took too long")]
    TooSlow,
    /// The other side sent a TLS alert.
    #[error("the other side refused: {0}")]
    ByPeer(String),
    /// Anything else that TLS says.
    #[error("{0}")]
    Tls(String),
}

impl Refusal {
    /// Looks through an error and its sources (an `io::Error`, a `reqwest::Error`, …) for what TLS said.
    pub fn find(error: &(dyn StdError + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(tls) = error.downcast_ref::<rustls::Error>() {
                return Some(Self::from_tls(tls));
            }
            // An io::Error's source is its inner error's source: the inner one itself must be asked for.
            if let Some(inner) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
                next = Some(inner);
                continue;
            }
            next = error.source();
        }
        None
    }

    /// Translates rustls' own error.
    pub fn from_tls(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::NoCertificatesPresented => Self::NoCertificate,
            rustls::Error::InvalidCertificate(certificate) => Self::from_certificate(certificate),
            rustls::Error::AlertReceived(alert) => Self::ByPeer(alert_words(*alert)),
            other => Self::Tls(other.to_string()),
        }
    }

    pub(crate) fn from_certificate(error: &CertificateError) -> Self {
        use CertificateError as E;
        match error {
            E::Other(OtherError(inner)) => match inner.downcast_ref::<Self>() {
                Some(ours) => ours.clone(),
                None => Self::Tls(inner.to_string()),
            },
            E::Expired | E::ExpiredContext { .. } => Self::Expired,
            E::NotValidYet | E::NotValidYetContext { .. } => Self::NotYetValid,
            E::UnknownIssuer | E::BadSignature => Self::Stranger,
            E::InvalidPurpose | E::InvalidPurposeContext { .. } => Self::WrongUsage,
            other => Self::Tls(other.to_string()),
        }
    }

    /// The error that carries this refusal through rustls; standard reasons keep their standard alert, so
    /// that the other side can say something useful too.
    pub(crate) fn into_tls(self) -> rustls::Error {
        let certificate = match self {
            Self::Expired => CertificateError::Expired,
            Self::NotYetValid => CertificateError::NotValidYet,
            Self::Stranger => CertificateError::UnknownIssuer,
            Self::WrongUsage => CertificateError::InvalidPurpose,
            Self::NoCertificate => return rustls::Error::NoCertificatesPresented,
            ours => CertificateError::Other(OtherError(std::sync::Arc::new(ours))),
        };
        rustls::Error::InvalidCertificate(certificate)
    }
}

fn roles(accepted: &[Role]) -> String {
    accepted
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

/// Whether the peer has refused us because our certificate has run out: in TLS 1.3 (RFC 8446, section 4.4.2.4) the
/// handshake is over for us by then, and its alert ends the first answer.
#[must_use]
pub fn peer_says_expired(error: &(dyn StdError + 'static)) -> bool {
    const EXPIRED: AlertDescription = AlertDescription::CertificateExpired;
    let mut next = Some(error);
    while let Some(error) = next {
        // An `io::Error` hides what it carries from `source`.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let tls = inner
            .and_then(|inner| inner.downcast_ref())
            .or_else(|| error.downcast_ref::<rustls::Error>());
        if matches!(tls, Some(rustls::Error::AlertReceived(EXPIRED))) {
            return true;
        }
        if let Some(Refusal::ByPeer(words)) = error.downcast_ref::<Refusal>() {
            return *words == alert_words(EXPIRED);
        }
        next = error.source();
    }
    false
}

fn alert_words(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateExpired => "our certificate has expired or is not valid yet".to_owned(),
        AlertDescription::CertificateRequired => "it wants a certificate and we showed none".to_owned(),
        AlertDescription::UnknownCA => "our certificate comes from another certificate authority".to_owned(),
        AlertDescription::CertificateUnknown => {
            "our certificate is not let in there (role or site)".to_owned()
        }
        AlertDescription::UnsupportedCertificate => "our certificate is not meant for this use".to_owned(),
        AlertDescription::NoApplicationProtocol => "no common protocol (ALPN)".to_owned(),
        other => format!("TLS alert {other:?}"),
    }
}
