//! What the gateway shows, signs with and vouches by: replaced in its folder, it is used without a restart.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use certs::DeviceAuthority;
use mtls::{ClientAuth, Credentials, HTTP_1_1, SiteCa};
use protocol::control::Level;
use protocol::{Identity, Role};
use tokio::sync::watch;

use crate::config::Paths;
use crate::gateway::Gateway;
use crate::repository::Repository;
use crate::{certificate, limits};

/// The gateway's certificates and their keys, as they lie in its folder together.
#[derive(Debug)]
pub(crate) struct Own {
    /// For connections, and for its own reports.
    pub(crate) credentials: Credentials,
    /// For its devices' certificates.
    pub(crate) authority: DeviceAuthority,
    /// The site's root, and the same in PEM.
    pub(crate) site_ca: (SiteCa, String),
}

impl Own {
    /// Reads them; they must be of the gateway of this name.
    ///
    /// # Errors
    /// A file is missing, unreadable, damaged, or of another.
    pub(crate) fn load(paths: &Paths, wanted: &Identity) -> Result<Self> {
        let credentials = Credentials::load(&paths.tls(), &paths.tls_key())?;
        let identity = credentials.identity()?;
        if identity != *wanted {
            bail!(
                "tls.pem is of {identity}, manager.toml says {wanted}: one of them belongs to another folder"
            );
        }
        let authority = device_authority(paths)?;
        if *authority.site() != wanted.site {
            bail!(
                "device-ca.pem is of site {}, manager.toml of {}",
                authority.site(),
                wanted.site
            );
        }
        let root = durable::read_limited(paths.site_ca(), limits::SITE_FILE_BYTES)?;
        let root = String::from_utf8(root).context("ca.pem is not text")?;
        Ok(Self {
            credentials,
            authority,
            site_ca: (SiteCa::from_pem(&root)?, root),
        })
    }
}

fn device_authority(paths: &Paths) -> Result<DeviceAuthority> {
    let certificate = durable::read_limited(paths.device_ca(), limits::SITE_FILE_BYTES)?;
    let key = durable::read_private(paths.device_ca_key())?;
    let (certificate, key) = (
        String::from_utf8(certificate)?,
        zeroize::Zeroizing::new(String::from_utf8(key)?),
    );
    DeviceAuthority::load(&certificate, &key).context("device-ca.pem and device-ca-key.pem cannot be used")
}

/// How the gateway dials a repository.
pub(crate) fn dialling(gateway: &Gateway, own: &Own) -> Result<mtls::ClientConfig> {
    Ok(mtls::client_config(
        Some(&own.credentials),
        &own.site_ca.0,
        &gateway.config.site,
        Role::Repository,
        &[HTTP_1_1],
        gateway.clock.clone(),
    )?)
}

/// How the gateway lets in whoever dials one of its ports.
fn answering(gateway: &Gateway, own: &Own, auth: ClientAuth) -> Result<mtls::ServerConfig> {
    Ok(mtls::server_config(
        &own.credentials,
        &own.site_ca.0,
        &gateway.config.site,
        auth,
        &[Role::Device],
        &[HTTP_1_1],
        gateway.clock.clone(),
    )?)
}

/// What the listeners of the two ports show; new connections take what is there.
#[derive(Debug)]
pub(crate) struct Doors {
    devices: watch::Sender<Arc<mtls::ServerConfig>>,
    joining: watch::Sender<Arc<mtls::ServerConfig>>,
}

impl Doors {
    /// With the certificates that are in use now.
    pub(crate) fn new(gateway: &Gateway) -> Result<Self> {
        let own = gateway.own();
        let door = |auth| answering(gateway, &own, auth).map(|config| watch::Sender::new(Arc::new(config)));
        Ok(Self {
            devices: door(ClientAuth::Required)?,
            joining: door(ClientAuth::None)?,
        })
    }

    /// For the listener of the device port.
    pub(crate) fn devices(&self) -> watch::Receiver<Arc<mtls::ServerConfig>> {
        self.devices.subscribe()
    }

    /// For the listener of the joining port.
    pub(crate) fn joining(&self) -> watch::Receiver<Arc<mtls::ServerConfig>> {
        self.joining.subscribe()
    }
}

/// What the files hold, or why they cannot be used.
pub(crate) type Found = std::result::Result<Arc<Own>, String>;

/// Watches the files. Needs a tokio runtime.
pub(crate) fn watch(gateway: &Gateway) -> Result<watch::Receiver<Arc<Found>>> {
    let paths = gateway.paths.clone();
    let files = vec![
        paths.tls(),
        paths.tls_key(),
        paths.site_ca(),
        paths.device_ca(),
        paths.device_ca_key(),
    ];
    let wanted = gateway.identity.clone();
    let load = move || {
        let own = Own::load(&paths, &wanted);
        Ok(own.map(Arc::new).map_err(|error| format!("{error:#}")))
    };
    Ok(mtls::reload::watch(files, load)?)
}

/// Takes what is new for as long as the gateway runs; what cannot be used is told, and the old goes on.
pub(crate) async fn follow(
    gateway: Arc<Gateway>,
    repositories: Arc<Vec<Repository>>,
    doors: Doors,
    mut found: watch::Receiver<Arc<Found>>,
) {
    while found.changed().await.is_ok() {
        let now = Arc::clone(&found.borrow_and_update());
        let taken = match &*now {
            Ok(own) => take(&gateway, &repositories, &doors, own).map_err(|error| format!("{error:#}")),
            Err(why) => Err(why.clone()),
        };
        let (level, text) = match taken {
            Ok(()) => (
                Level::Info,
                "the gateway's new certificates are in use, for connections and reports".to_owned(),
            ),
            Err(why) => (
                Level::Warning,
                format!("the gateway's new certificates cannot be used, it goes on with the old ones: {why}"),
            ),
        };
        gateway
            .journal
            .message(gateway.now(), level, "manager.certificates.replaced", text);
        let own = gateway.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || certificate::look(&own)).await {
            tracing::warn!(%error, "the gateway's certificate could not be looked at");
        }
    }
}

/// All of it or nothing: what cannot be used in one place is used in none.
fn take(gateway: &Gateway, repositories: &[Repository], doors: &Doors, own: &Arc<Own>) -> Result<()> {
    let until = own.credentials.validity()?.not_after;
    if until <= gateway.now() {
        bail!("tls.pem has run out at {until}");
    }
    let devices = answering(gateway, own, ClientAuth::Required)?;
    let joining = answering(gateway, own, ClientAuth::None)?;
    for repository in repositories {
        repository.dial_with(dialling(gateway, own)?)?;
    }
    doors.devices.send_replace(Arc::new(devices));
    doors.joining.send_replace(Arc::new(joining));
    gateway.set_own(own.clone());
    Ok(())
}
