//! A gateway for unit tests: its folder is written, it is opened, nothing of it runs.

use std::sync::Arc;

use certs::SiteAuthority;
use mtls::{Clock as _, SystemClock};
use protocol::{Name, Role};
use tempfile::TempDir;
use tuf::editor::RootEditor;
use tuf::{Ed25519Signer, Signer as _, UnixTime};

use crate::config::{Config, Paths};
use crate::gateway::Gateway;

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub(crate) fn now() -> UnixTime {
    SystemClock.now().now
}

/// A folder and the gateway that is open in it.
pub(crate) struct Fixture {
    pub(crate) gateway: Arc<Gateway>,
    authority: SiteAuthority,
    _dir: TempDir,
}

impl Fixture {
    /// A gateway whose own certificate lives so many seconds.
    pub(crate) fn new(seconds: i64) -> Self {
        Self::with(seconds, |_| {})
    }

    /// The same, with something that is not as usual.
    pub(crate) fn with(seconds: i64, change: impl FnOnce(&mut Gateway)) -> Self {
        let dir = TempDir::new().unwrap();
        let authority = SiteAuthority::create(&name("plant"), now()).unwrap();
        let paths = Paths::new(dir.path());
        write(&authority, &paths);
        certify(&authority, &paths, seconds);
        let config = Config::load(&paths.config()).unwrap();
        let mut gateway = crate::service::open(config, paths).unwrap();
        change(&mut gateway);
        Self {
            gateway: Arc::new(gateway),
            authority,
            _dir: dir,
        }
    }

    /// Puts another certificate into its folder, one that lives so many seconds.
    pub(crate) fn certify(&self, seconds: i64) {
        certify(&self.authority, &self.gateway.paths, seconds);
    }
}

fn put(path: std::path::PathBuf, bytes: &[u8]) {
    durable::replace(path, bytes, 0o600).unwrap();
}

fn certify(authority: &SiteAuthority, paths: &Paths, seconds: i64) {
    let issued = authority
        .issue(Role::Manager, &name("gateway"), &[], seconds, now())
        .unwrap();
    put(paths.tls(), issued.chain.as_bytes());
    put(paths.tls_key(), issued.key.as_bytes());
}

fn write(authority: &SiteAuthority, paths: &Paths) {
    let device = authority.device_authority(now()).unwrap();
    let (key, _) = Ed25519Signer::generate().unwrap();
    let root = [
        tuf::Role::Root,
        tuf::Role::Targets,
        tuf::Role::Snapshot,
        tuf::Role::Timestamp,
    ]
    .iter()
    .fold(RootEditor::new(now().plus_seconds(86_400)), |root, role| {
        root.add_key(role, key.public_key())
    });
    put(paths.root(), &root.build().unwrap().sign(&key).unwrap().bytes());
    put(paths.site_ca(), authority.certificate_pem().as_bytes());
    put(paths.device_ca(), device.certificate_pem().as_bytes());
    put(paths.device_ca_key(), device.key_pem().as_bytes());
    let config = "site = 'plant'\nname = 'gateway'\nrepositories = ['https://127.0.0.1:9']\n\
                  listen_devices = '127.0.0.1:0'\nlisten_enroll = '127.0.0.1:0'\nmetrics = '127.0.0.1:0'\n";
    put(paths.config(), config.as_bytes());
}
