//! A new certificate for the same key, at two thirds of the old one's life.

use std::sync::Arc;

use mtls::{Clock, Credentials, HTTP_1_1, SiteCa, client_config};
use protocol::Role;
use protocol::enroll::Renew;
use rcgen::{CertificateParams, KeyPair};
use rustls::ClientConfig;
use tokio::time::sleep;

use crate::backoff::{BackOff, about};
use crate::hub::Hub;
use crate::layout::Layout;
use crate::limits::{BACK_OFF_BASE, RENEW_CHECK};
use crate::trust::chain;
use crate::world::World;

/// Keeps the certificate fresh until the agent ends.
pub async fn keep(hub: Arc<Hub>) {
    let mut wait = BackOff::new(BACK_OFF_BASE, RENEW_CHECK);
    loop {
        let pause = match renew_if_due(&hub).await {
            Ok(()) => {
                wait.reset();
                about(RENEW_CHECK, &*hub.world.random)
            }
            Err(error) => {
                tracing::warn!(target: "drover", error = %format!("{error:#}"), "the certificate could not be renewed");
                wait.next(&*hub.world.random)
            }
        };
        sleep(pause).await;
    }
}

/// Renews the certificate if it is older than two thirds of its life.
///
/// # Errors
/// The manager, the key or the disk; the old certificate stays in use.
pub async fn renew_if_due(hub: &Hub) -> anyhow::Result<()> {
    let credentials = Credentials::load(&hub.layout.chain(), &hub.layout.key())?;
    let validity = credentials.validity()?;
    hub.certificate_until.set(Some(validity.not_after));
    if hub.world.clock.now().now < validity.renew_at() {
        return Ok(());
    }
    let csr = request(&hub.layout, &hub.world)?;
    let enrolled = hub.manager.renew(&Renew { csr }).await?;
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
    let until = fresh.validity()?.not_after;
    hub.certificate_until.set(Some(until));
    tracing::info!(target: "drover", %until, "certificate renewed");
    Ok(())
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
    let ca = SiteCa::load(&layout.ca())?;
    let clock: Arc<dyn Clock> = Arc::clone(&world.clock) as Arc<dyn Clock>;
    client_config(Some(credentials), &ca, site, Role::Manager, &[HTTP_1_1], clock)
        .map(Arc::new)
        .inspect_err(|error| tracing::debug!(target: "drover", error = %chain(error), "no TLS configuration"))
}
