//! What the gateway shows, signs with and vouches by: replaced in its folder, it is used without a restart.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use certs::DeviceAuthority;
use mtls::{CertificateDer, Credentials, HTTP_1_1, SiteCa};
use protocol::control::Level;
use protocol::{Identity, Role};
use rustls_pki_types::pem::PemObject as _;
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
    /// The authority's own certificate.
    pub(crate) device_ca: CertificateDer<'static>,
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
        Ok(Self {
            device_ca: CertificateDer::from_pem_slice(authority.certificate_pem().as_bytes())?,
            credentials,
            authority,
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
    let ca = SiteCa::load(&gateway.paths.site_ca())?;
    Ok(mtls::client_config(
        Some(&own.credentials),
        &ca,
        &gateway.config.site,
        Role::Repository,
        &[HTTP_1_1],
        gateway.clock.clone(),
    )?)
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
    mut found: watch::Receiver<Arc<Found>>,
) {
    while found.changed().await.is_ok() {
        let now = Arc::clone(&found.borrow_and_update());
        let taken = match &*now {
            Ok(own) => take(&gateway, &repositories, own).map_err(|error| format!("{error:#}")),
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

fn take(gateway: &Gateway, repositories: &[Repository], own: &Arc<Own>) -> Result<()> {
    for repository in repositories {
        repository.dial_with(dialling(gateway, own)?)?;
    }
    gateway.set_own(own.clone());
    Ok(())
}
