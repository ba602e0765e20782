//! What stands in the certificates.

use std::net::IpAddr;
use std::str::FromStr;

use protocol::{Identity, Name, Role};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose, SanType, SerialNumber,
};
use time::OffsetDateTime;
use tuf::UnixTime;

use crate::error::Error;

/// How long certificates live, in seconds.
pub mod life {
    const DAY: i64 = 24 * 60 * 60;
    /// The root: replacing it means a visit to every device.
    pub const ROOT: i64 = 3653 * DAY;
    /// The manager's device authority.
    pub const DEVICE_AUTHORITY: i64 = 5 * 366 * DAY;
    /// Author, repository and manager.
    pub const LEAF: i64 = 365 * DAY;
    /// Devices; they renew by themselves at two thirds of it.
    pub const DEVICE: i64 = 30 * DAY;
    /// How far before the present a certificate begins, because clocks of machines that meet differ.
    pub const BACK: i64 = 60 * 60;
}

/// A host under which a server can be reached, for clients that check host names (ours need none).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A DNS name.
    Name(String),
    /// An address.
    Address(IpAddr),
}

impl FromStr for Host {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        let label = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        if text.len() <= 253 && text.split('.').all(label) {
            return Ok(Self::Name(text.to_owned()));
        }
        Err(Error::Host(text.chars().take(260).collect()))
    }
}

/// Which extended key usages a role's certificate carries: whether it serves and whether it dials.
pub(crate) fn usages(role: Role) -> Vec<ExtendedKeyUsagePurpose> {
    use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    match role {
        Role::Author | Role::Device => vec![ClientAuth],
        Role::Repository => vec![ServerAuth],
        Role::Manager => vec![ServerAuth, ClientAuth],
    }
}

/// A leaf certificate for `identity`.
pub(crate) fn leaf(
    identity: &Identity,
    hosts: &[Host],
    now: UnixTime,
    seconds: i64,
) -> Result<CertificateParams, Error> {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, identity.site.as_str());
    subject.push(DnType::OrganizationalUnitName, identity.role.to_string());
    subject.push(DnType::CommonName, identity.name.as_str());
    let mut params = common(subject, now, seconds)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = usages(identity.role);
    params
        .subject_alt_names
        .push(SanType::URI(identity.to_string().try_into()?));
    for host in hosts {
        params.subject_alt_names.push(match host {
            Host::Name(name) => SanType::DnsName(name.clone().try_into()?),
            Host::Address(address) => SanType::IpAddress(*address),
        });
    }
    Ok(params)
}

/// The site's root.
pub(crate) fn root(site: &Name, now: UnixTime) -> Result<CertificateParams, Error> {
    let mut params = common(authority(site, "drover site root"), now, life::ROOT)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = false;
    Ok(params)
}

/// The manager's intermediate: it vouches for clients, and for nothing that vouches further.
pub(crate) fn device_authority(site: &Name, now: UnixTime) -> Result<CertificateParams, Error> {
    let mut params = common(
        authority(site, "drover device authority"),
        now,
        life::DEVICE_AUTHORITY,
    )?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

fn authority(site: &Name, name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, site.as_str());
    subject.push(DnType::CommonName, name);
    subject
}

fn common(subject: DistinguishedName, now: UnixTime, seconds: i64) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject;
    params.not_before = moment(now.0.saturating_sub(life::BACK))?;
    params.not_after = moment(now.0.saturating_add(seconds))?;
    params.serial_number = Some(serial()?);
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn moment(seconds: i64) -> Result<OffsetDateTime, Error> {
    // A certificate's time ends with the year 9999; a negative one is a broken clock.
    if seconds < 0 {
        return Err(Error::Time(seconds));
    }
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| Error::Time(seconds))
}

/// 127 random bits, positive and never short (RFC 5280 section 4.1.2.2 allows 20 octets).
fn serial() -> Result<SerialNumber, Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(Error::Random)?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}
