//! A new certificate for the same key, at two thirds of the old one's life; and for a device that was off while it ran
//! out, up to a year later, at the joining port.

use std::sync::Arc;

use anyhow::Context as _;
use mtls::{Clock, Credentials, HTTP_1_1, SiteCa, client_config};
use protocol::Role;
use protocol::enroll::{Enrolled, Renew};
use rcgen::{CertificateParams, KeyPair};
use rustls::ClientConfig;
use tokio::time::{sleep, timeout};

use crate::backoff::{BackOff, about};
use crate::http::Pool;
use crate::hub::Hub;
use crate::layout::Layout;
use crate::limits::{BACK_OFF_BASE, RENEW_CHECK};
use crate::reports::ReportKey;
use crate::trust::chain;
use crate::world::World;

/// Keeps the certificate fresh until the agent ends.
pub async fn keep(hub: Arc<Hub>) {
    let mut wait = BackOff::new(BACK_OFF_BASE, RENEW_CHECK);
    loop {
        match renew_if_due(&hub).await {
            Ok(()) => {
                wait.reset();
                let pause = about(RENEW_CHECK, &*hub.world.random);
                timeout(pause, hub.renewal_due.notified()).await.ok();
            }
            Err(error) => {
                tracing::warn!(target: "drover", error = %format!("{error:#}"), "the certificate could not be renewed");
                sleep(wait.next(&*hub.world.random)).await;
            }
        }
    }
}

/// Renews the certificate if it is older than two thirds of its life, or if the manager says that it has run out.
///
/// # Errors
/// The manager, the key or the disk; the old certificate stays in use.
pub async fn renew_if_due(hub: &Hub) -> anyhow::Result<()> {
    let credentials = Credentials::load(&hub.layout.chain(), &hub.layout.key())?;
    let validity = credentials.validity()?;
    hub.certificate_until.set(Some(validity.not_after));
    let now = hub.world.clock.now().now;
    let expired = now >= validity.not_after || hub.expired.get();
    if !expired && now < validity.renew_at() {
        return Ok(());
    }
    let csr = request(&hub.layout, &hub.world)?;
    let enrolled = if expired {
        at_joining_port(hub, &credentials, csr).await?
    } else {
        hub.manager.renew(&Renew { csr }).await?
    };
    let key = String::from_utf8(durable::read_private(hub.layout.key())?)?;
    let fresh = Credentials::from_pem(&enrolled.chain, &key)?;
    anyhow::ensure!(
        fresh.identity()? == hub.me && fresh.key_fingerprint()? == credentials.key_fingerprint()?,
        "the new certificate is not for this device and its key"
    );
    let tls = tls(&hub.layout, &hub.world, &fresh, &hub.me.site)?;
    hub.world
        .files
        .replace(&hub.layout.chain(), enrolled.chain.as_bytes(), 0o644)?;
    hub.manager.pool().set_tls(tls);
    hub.expired.set(false);
    hub.renewed.notify_one();
    let until = fresh.validity()?.not_after;
    hub.certificate_until.set(Some(until));
    tracing::info!(target: "drover", %until, "certificate renewed");
    Ok(())
}

/// The handshake of the device port wants a certificate that is valid; this one takes the token and the key itself.
async fn at_joining_port(hub: &Hub, credentials: &Credentials, csr: String) -> anyhow::Result<Enrolled> {
    let joining = hub.settings.joining.as_deref().context(
        "it has run out, and `joining` in device.toml does not name the manager's joining port: name it, or enrol again \
         with a new code",
    )?;
    let tls = config(&hub.layout, &hub.world, None, &hub.me.site)?;
    let key = ReportKey::new(credentials)?;
    let (pool, name) = (Pool::new(joining, tls)?, hub.me.name.clone());
    let sign = move |message: &[u8]| key.signature(message).ok();
    let renewed = hub.manager.renew_expired(&pool, name, csr, sign).await;
    renewed.context("the manager does not renew a certificate that has run out")
}

/// The request for the enrolled key, PEM.
fn request(layout: &Layout, world: &World) -> anyhow::Result<String> {
    let pem = zeroize::Zeroizing::new(String::from_utf8(world.files.read_private(&layout.key())?)?);
    let key = KeyPair::from_pem(&pem)?;
    Ok(CertificateParams::default().serialize_request(&key)?.pem()?)
}

/// How this device dials its manager.
///
/// # Errors
/// The certificate, key or site CA cannot be used.
pub fn tls(
    layout: &Layout,
    world: &World,
    credentials: &Credentials,
    site: &protocol::Name,
) -> Result<Arc<ClientConfig>, mtls::Error> {
    config(layout, world, Some(credentials), site)
}

fn config(
    layout: &Layout,
    world: &World,
    credentials: Option<&Credentials>,
    site: &protocol::Name,
) -> Result<Arc<ClientConfig>, mtls::Error> {
    let ca = SiteCa::load(&layout.ca())?;
    let clock: Arc<dyn Clock> = Arc::clone(&world.clock) as Arc<dyn Clock>;
    client_config(credentials, &ca, site, Role::Manager, &[HTTP_1_1], clock)
        .map(Arc::new)
        .inspect_err(|error| tracing::debug!(target: "drover", error = %chain(error), "no TLS configuration"))
}
