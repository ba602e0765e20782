//! A new site: the author's, the repository's and the gateway's folders, with every key and certificate that
//! belongs in them. All of it or nothing: it is made beside the place where it goes and moved there last.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use certs::{Host, Issued, SiteAuthority};
use protocol::{Name, Role};
use tuf::{Digest, Ed25519Signer, Signer as _, UnixTime};

use crate::config::{Config, Folder};
use crate::keyring::write_public;
use crate::limits::{ROOT_SECONDS, TARGETS_SECONDS};
use crate::passphrase::{Passphrase, PassphraseError};
use crate::place::Place;
use crate::roles;
use crate::signing::{AuthorKey, KeyError, KeyType, plain_pem, seal};

/// Ports when nothing else is said.
pub const REPOSITORY_PORT: u16 = 7100;
/// The gateway's port for devices.
pub const DEVICES_PORT: u16 = 7101;
/// Its port for joining.
pub const ENROLL_PORT: u16 = 7102;
/// Its port for metrics, on loopback.
pub const METRICS_PORT: u16 = 7103;

/// What the new site is to be.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The folder to make.
    pub dir: PathBuf,
    /// The site's name.
    pub site: Name,
    /// The author's name.
    pub author: Name,
    /// The repository's name.
    pub repository: Name,
    /// The gateway's name.
    pub manager: Name,
    /// Where the author and the gateway reach the repository.
    pub repository_host: Host,
    /// On which port.
    pub repository_port: u16,
    /// Where the repository listens; chosen from its address if not given.
    pub repository_listen: Option<SocketAddr>,
    /// Where devices reach the gateway.
    pub manager_host: Host,
    /// Where the gateway listens for devices; its own default if not given.
    pub manager_listen: Option<SocketAddr>,
    /// Where the gateway lets devices join; its own default if not given.
    pub enroll_listen: Option<SocketAddr>,
    /// Kind of the key that signs releases.
    pub targets_key: KeyType,
    /// Kind of the root key.
    pub root_key: KeyType,
}

impl Plan {
    /// A site on this machine alone, to be changed as needed.
    ///
    /// # Errors
    /// None but those of the fixed names, which are valid.
    pub fn local(dir: &Path, site: Name) -> Result<Self, protocol::NameError> {
        let here = Host::Address(IpAddr::V4(Ipv4Addr::LOCALHOST));
        Ok(Self {
            dir: dir.to_owned(),
            site,
            author: "author".parse()?,
            repository: "repository".parse()?,
            manager: "gateway".parse()?,
            repository_host: here.clone(),
            repository_port: REPOSITORY_PORT,
            repository_listen: None,
            manager_host: here,
            manager_listen: None,
            enroll_listen: None,
            targets_key: KeyType::Rsa,
            root_key: KeyType::Ed25519,
        })
    }

    fn repository_url(&self) -> String {
        format!(
            "https://{}:{}",
            authority(&self.repository_host),
            self.repository_port
        )
    }

    fn repository_listen(&self) -> SocketAddr {
        let all = || SocketAddr::from((Ipv4Addr::UNSPECIFIED, self.repository_port));
        let local =
            loopback(&self.repository_host).map(|address| SocketAddr::from((address, self.repository_port)));
        self.repository_listen
            .unwrap_or_else(|| local.unwrap_or_else(all))
    }
}

/// The address of a host that only this machine can reach: such a site listens nowhere else.
fn loopback(host: &Host) -> Option<IpAddr> {
    match host {
        Host::Address(address) => Some(*address).filter(IpAddr::is_loopback),
        Host::Name(name) => (name == "localhost").then_some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
    }
}

/// The host as it stands in a URL.
fn authority(host: &Host) -> String {
    match host {
        Host::Address(IpAddr::V6(address)) => format!("[{address}]"),
        Host::Address(IpAddr::V4(address)) => address.to_string(),
        Host::Name(name) => name.clone(),
    }
}

/// The same without brackets, as a setting.
fn host_text(host: &Host) -> String {
    match host {
        Host::Address(address) => address.to_string(),
        Host::Name(name) => name.clone(),
    }
}

/// What was made.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Made {
    /// The site's folder.
    pub dir: PathBuf,
    /// SHA-256 of `root.json`: devices compare it when they take the root.
    pub root_fingerprint: Digest,
    /// SHA-256 of the site's authority certificate: joining codes carry it.
    pub ca_fingerprint: Digest,
    /// When the root has to be renewed.
    pub root_expires: UnixTime,
}

/// Why there is no new site.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// Something is there.
    #[error("{} is there already and not empty: choose another folder, nothing was changed", .0.display())]
    Exists(PathBuf),
    /// `/`, or something without a name.
    #[error("{} cannot be a site's folder: give a path with a name", .0.display())]
    NoName(PathBuf),
    /// The passphrase is too weak.
    #[error("this passphrase cannot protect the keys")]
    Passphrase(#[from] PassphraseError),
    /// A key cannot be made.
    #[error("cannot make the author's keys: nothing was changed")]
    Key(#[from] KeyError),
    /// A certificate cannot be made.
    #[error("cannot make the site's certificates: nothing was changed")]
    Certificate(#[from] certs::Error),
    /// The metadata cannot be made.
    #[error("cannot make the first metadata: nothing was changed")]
    Roles(#[from] roles::RolesError),
    /// Setting up the trust in the own repository failed.
    #[error("cannot set up the author's trust: nothing was changed")]
    Trust(#[from] durable::TrustError),
    /// A settings file cannot be written as TOML.
    #[error("cannot write the settings: nothing was changed")]
    Toml(#[from] toml::ser::Error),
    /// The disk refused.
    #[error("cannot write the site: nothing was changed")]
    Disk(#[from] durable::Error),
}

/// Makes the site.
///
/// # Errors
/// [`InitError`]; the place is then as it was.
pub fn init(plan: &Plan, passphrase: &Passphrase, now: UnixTime) -> Result<Made, InitError> {
    passphrase.check_new()?;
    let place = Place::find(&plan.dir)?;
    let made = build(plan, place.unfinished(), passphrase, now).and_then(|made| {
        place.finish()?;
        Ok(made)
    });
    if made.is_err() {
        place.give_up();
    }
    made
}

/// What all three folders are made from.
struct Material<'a> {
    plan: &'a Plan,
    now: UnixTime,
    ca: SiteAuthority,
    root: Vec<u8>,
    targets: Vec<u8>,
}

fn build(plan: &Plan, at: &Path, passphrase: &Passphrase, now: UnixTime) -> Result<Made, InitError> {
    let ca = SiteAuthority::create(&plan.site, now)?;
    let (root_key, root_pkcs8) = AuthorKey::generate(plan.root_key)?;
    let (targets_key, targets_pkcs8) = AuthorKey::generate(plan.targets_key)?;
    let (online, online_pkcs8) = Ed25519Signer::generate().map_err(KeyError::from)?;
    let expires = now.plus_seconds(ROOT_SECONDS);
    let root = roles::first_root(
        &root_key,
        &targets_key.public_key(),
        &online.public_key(),
        (&plan.author, &plan.repository),
        expires,
    )?;
    let targets = roles::first_targets(&targets_key, now.plus_seconds(TARGETS_SECONDS))?;
    let material = Material {
        plan,
        now,
        ca,
        root,
        targets,
    };

    let author = Folder::new(&at.join("author"));
    material.author(&author)?;
    secret(&author.ca_key(), &seal(&material.ca.key_der(), passphrase)?)?;
    for (path, pkcs8, key) in [
        (author.root_key(), &root_pkcs8, &root_key),
        (author.targets_key(), &targets_pkcs8, &targets_key),
    ] {
        secret(&path, &seal(pkcs8, passphrase)?)?;
        write_public(&path.with_extension("pub"), &key.public_key())?;
    }
    let repository = at.join("repository");
    material.repository(&repository)?;
    secret(&repository.join("online-key.pem"), &plain_pem(&online_pkcs8)?)?;
    material.manager(&at.join("manager"))?;

    Ok(Made {
        dir: plan.dir.clone(),
        root_fingerprint: Digest::of(&material.root),
        ca_fingerprint: material.ca.fingerprint()?,
        root_expires: expires,
    })
}

impl Material<'_> {
    fn author(&self, folder: &Folder) -> Result<(), InitError> {
        for dir in [&folder.dir, &folder.roots(), &folder.records(), &folder.drafts()] {
            durable::create_dir(dir, 0o700)?;
        }
        self.certificate(&folder.dir, Role::Author, &self.plan.author, &[])?;
        public(&folder.root_version(1), &self.root)?;
        public(&folder.targets(), &self.targets)?;
        durable::TrustStore::create(folder.trust(), &self.root, None)?;
        let config = Config {
            site: self.plan.site.clone(),
            name: self.plan.author.clone(),
            repository: self.plan.repository_url(),
            team: None,
        };
        Ok(public(&folder.config(), toml::to_string(&config)?)?)
    }

    fn repository(&self, dir: &Path) -> Result<(), InitError> {
        durable::create_dir(dir, 0o700)?;
        let hosts = [self.plan.repository_host.clone()];
        self.certificate(dir, Role::Repository, &self.plan.repository, &hosts)?;
        public(&dir.join("targets.json"), &self.targets)?;
        Ok(public(&dir.join("repo.toml"), repository_settings(self.plan))?)
    }

    fn manager(&self, dir: &Path) -> Result<(), InitError> {
        durable::create_dir(dir, 0o700)?;
        let hosts = [self.plan.manager_host.clone()];
        self.certificate(dir, Role::Manager, &self.plan.manager, &hosts)?;
        let devices = self.ca.device_authority(self.now)?;
        secret(&dir.join("device-ca-key.pem"), &devices.key_pem())?;
        public(&dir.join("device-ca.pem"), devices.certificate_pem())?;
        Ok(public(&dir.join("manager.toml"), manager_settings(self.plan))?)
    }

    /// Who it is, and the two anchors that everybody has: who talks, and what may run.
    fn certificate(&self, dir: &Path, role: Role, name: &Name, hosts: &[Host]) -> Result<(), InitError> {
        let issued = self.ca.issue(role, name, hosts, certs::life::LEAF, self.now)?;
        leaf(dir, &issued)?;
        public(&dir.join("ca.pem"), self.ca.certificate_pem())?;
        Ok(public(&dir.join("root.json"), &self.root)?)
    }
}

fn leaf(dir: &Path, issued: &Issued) -> Result<(), durable::Error> {
    certs::files::write_issued(&dir.join("tls.pem"), &dir.join("tls-key.pem"), issued)
}

fn secret(path: &Path, pem: &str) -> Result<(), durable::Error> {
    durable::replace(path, pem.as_bytes(), 0o600)
}

fn public(path: &Path, bytes: impl AsRef<[u8]>) -> Result<(), durable::Error> {
    durable::replace(path, bytes.as_ref(), 0o644)
}

fn repository_settings(plan: &Plan) -> String {
    let Plan { site, repository, .. } = plan;
    let listen = plan.repository_listen();
    format!(
        "# The repository of site {site}.\nsite = \"{site}\"\nname = \"{repository}\"\nlisten = \"{listen}\"\n"
    )
}

fn manager_settings(plan: &Plan) -> String {
    use std::fmt::Write as _;
    let Plan { site, manager, .. } = plan;
    let (url, host) = (plan.repository_url(), host_text(&plan.manager_host));
    let mut text = format!(
        "# The gateway of site {site}.\nsite = \"{site}\"\nname = \"{manager}\"\nrepositories = [\"{url}\"]\n\
         # What devices dial.\nhost = \"{host}\"\n"
    );
    let local = loopback(&plan.manager_host);
    let at =
        |given: Option<SocketAddr>, port| given.or(local.map(|address| SocketAddr::from((address, port))));
    for (setting, listen) in [
        ("listen_devices", at(plan.manager_listen, DEVICES_PORT)),
        ("listen_enroll", at(plan.enroll_listen, ENROLL_PORT)),
        ("metrics", at(None, METRICS_PORT)),
    ] {
        if let Some(listen) = listen {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{setting} = \"{listen}\"");
        }
    }
    text
}
