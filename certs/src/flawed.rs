//! Certificates that must be refused, each with one flaw and otherwise right: for tests.
//!
//! Nothing here weakens the authority: whoever holds its key can sign anything anyway.

use protocol::{Identity, Name, Role};
use tuf::UnixTime;

use crate::{DeviceAuthority, Error, Issued, SiteAuthority, life, params};

const DAY: i64 = 24 * 60 * 60;

/// Expired a day before `now`.
pub fn expired(root: &SiteAuthority, role: Role, name: &Name, now: UnixTime) -> Result<Issued, Error> {
    root.issue(role, name, &[], DAY, UnixTime(now.0 - 2 * DAY))
}

/// Begins a day after `now`.
pub fn not_yet_valid(root: &SiteAuthority, role: Role, name: &Name, now: UnixTime) -> Result<Issued, Error> {
    root.issue(role, name, &[], life::LEAF, UnixTime(now.0 + DAY + life::BACK))
}

/// A device certificate that expired a day before `now`.
pub fn expired_device(through: &DeviceAuthority, name: &Name, now: UnixTime) -> Result<Issued, Error> {
    let identity = Identity {
        site: through.site().clone(),
        role: Role::Device,
        name: name.clone(),
    };
    through.sign(&params::leaf(&identity, &[], UnixTime(now.0 - 2 * DAY), DAY)?)
}

/// A device certificate that begins a day after `now`.
pub fn not_yet_valid_device(through: &DeviceAuthority, name: &Name, now: UnixTime) -> Result<Issued, Error> {
    let identity = Identity {
        site: through.site().clone(),
        role: Role::Device,
        name: name.clone(),
    };
    let begin = UnixTime(now.0 + DAY + life::BACK);
    through.sign(&params::leaf(&identity, &[], begin, life::DEVICE)?)
}

/// From the right root, but it says that it is of `site`.
pub fn wrong_site(
    root: &SiteAuthority,
    site: &Name,
    role: Role,
    name: &Name,
    now: UnixTime,
) -> Result<Issued, Error> {
    let identity = Identity {
        site: site.clone(),
        role,
        name: name.clone(),
    };
    root.sign(&params::leaf(&identity, &[], now, life::LEAF)?)
}

/// From another authority that calls itself by the same name.
pub fn stranger(site: &Name, role: Role, name: &Name, now: UnixTime) -> Result<Issued, Error> {
    SiteAuthority::create(site, now)?.issue(role, name, &[], life::LEAF, now)
}

/// A device of another authority that calls itself by the same name.
pub fn stranger_device(site: &Name, name: &Name, now: UnixTime) -> Result<Issued, Error> {
    device(
        &SiteAuthority::create(site, now)?.device_authority(now)?,
        name,
        now,
    )
}

/// A device certificate that the root signed directly.
pub fn device_from_root(root: &SiteAuthority, name: &Name, now: UnixTime) -> Result<Issued, Error> {
    let identity = Identity {
        site: root.site().clone(),
        role: Role::Device,
        name: name.clone(),
    };
    root.sign(&params::leaf(&identity, &[], now, life::DEVICE)?)
}

/// A device certificate that the root signed directly, sent with the intermediate as if it came through it.
pub fn device_from_root_with_intermediate(
    root: &SiteAuthority,
    through: &DeviceAuthority,
    name: &Name,
    now: UnixTime,
) -> Result<Issued, Error> {
    let mut issued = device_from_root(root, name, now)?;
    issued.chain.push_str(through.certificate_pem());
    Ok(issued)
}

/// A certificate of another role that the manager's device authority signed, as a stolen gateway would.
/// Its extended key usages are those of the role.
pub fn through_device_authority(
    through: &DeviceAuthority,
    role: Role,
    name: &Name,
    now: UnixTime,
) -> Result<Issued, Error> {
    let identity = Identity {
        site: through.site().clone(),
        role,
        name: name.clone(),
    };
    through.sign(&params::leaf(&identity, &[], now, life::LEAF)?)
}

/// Right in everything but the identity: none is there.
pub fn nameless(root: &SiteAuthority, role: Role, name: &Name, now: UnixTime) -> Result<Issued, Error> {
    let identity = Identity {
        site: root.site().clone(),
        role,
        name: name.clone(),
    };
    let mut leaf = params::leaf(&identity, &[], now, life::LEAF)?;
    leaf.subject_alt_names.clear();
    root.sign(&leaf)
}

/// Right in everything but the identity: there are two.
pub fn two_names(
    root: &SiteAuthority,
    role: Role,
    names: [&Name; 2],
    now: UnixTime,
) -> Result<Issued, Error> {
    let identity = |name: &Name| Identity {
        site: root.site().clone(),
        role,
        name: name.clone(),
    };
    let mut leaf = params::leaf(&identity(names[0]), &[], now, life::LEAF)?;
    leaf.subject_alt_names
        .push(rcgen::SanType::URI(identity(names[1]).to_string().try_into()?));
    root.sign(&leaf)
}

/// Right in everything but the use: a server's certificate for a role that dials.
pub fn wrong_usage(root: &SiteAuthority, role: Role, name: &Name, now: UnixTime) -> Result<Issued, Error> {
    let identity = Identity {
        site: root.site().clone(),
        role,
        name: name.clone(),
    };
    let mut leaf = params::leaf(&identity, &[], now, life::LEAF)?;
    let other = if params::usages(role).contains(&rcgen::ExtendedKeyUsagePurpose::ClientAuth) {
        rcgen::ExtendedKeyUsagePurpose::ServerAuth
    } else {
        rcgen::ExtendedKeyUsagePurpose::ClientAuth
    };
    leaf.extended_key_usages = vec![other];
    root.sign(&leaf)
}

/// A device certificate that is right, with its key made here: the short way for tests and simulated fleets.
pub fn device(through: &DeviceAuthority, name: &Name, now: UnixTime) -> Result<Issued, Error> {
    let key = crate::new_key()?;
    let request = crate::request(&key)?;
    let chain = through.issue_device(request.as_bytes(), name, life::DEVICE, now)?;
    Ok(Issued { chain, key })
}
