//! Figures for Prometheus, on a loopback address.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tuf::UnixTime;

use crate::gateway::Gateway;
use crate::ports::{self, Port};

/// Serves `/metrics` until `shutdown`.
pub(crate) async fn serve(gateway: Arc<Gateway>, listener: TcpListener, shutdown: CancellationToken) {
    let served = axum::serve(listener, routes(gateway)).with_graceful_shutdown(shutdown.cancelled_owned());
    if let Err(error) = served.await {
        tracing::warn!(target: "drover", %error, "metrics are not served any more");
    }
}

/// The routes of the port for figures.
pub(crate) fn routes(gateway: Arc<Gateway>) -> Router {
    Router::new()
        .route(
            "/metrics",
            get(|State(gateway): State<Arc<Gateway>>| async move { text(&gateway) }),
        )
        .layer(from_fn_with_state(Port::Metrics, ports::listed))
        .with_state(gateway)
}

fn text(gateway: &Gateway) -> String {
    let catalog = gateway.catalog();
    let counts = gateway.connections.counts();
    let stopped = catalog
        .offers()
        .filter(|offer| gateway.fleet.stopped(&offer.update).is_some());
    let running = gateway.downloader.is_running();
    let certificate = *gateway
        .certificate_until
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let seconds = |until: UnixTime| u64::try_from(until.0).unwrap_or(0);
    let gauges = [
        (
            "drover_manager_devices",
            "Devices on the list.",
            gateway.fleet.count() as u64,
        ),
        (
            "drover_manager_devices_connected",
            "Devices with an open event stream.",
            gateway.fleet.connected() as u64,
        ),
        (
            "drover_manager_connections",
            "Connections on the device port.",
            counts.live as u64,
        ),
        (
            "drover_manager_releases",
            "Newest releases that the metadata lists.",
            catalog.offers().count() as u64,
        ),
        (
            "drover_manager_releases_mirrored",
            "Of these, in the mirror and verified.",
            catalog.offers().filter(|offer| offer.mirrored).count() as u64,
        ),
        (
            "drover_manager_releases_stopped",
            "Of these, not offered any more.",
            stopped.count() as u64,
        ),
        (
            "drover_manager_alarms",
            "Things that a person should look at.",
            gateway.journal.alarms().len() as u64,
        ),
        (
            "drover_manager_downloader_running",
            "1 while the downloader's timer runs.",
            u64::from(running),
        ),
        (
            "drover_manager_metadata_version",
            "Version of the timestamp role.",
            gateway.metadata().timestamp,
        ),
        (
            "drover_manager_certificate_expires_seconds",
            "When the gateway's own certificate ends, in seconds since 1970; 0 where that is not known.",
            certificate.map_or(0, seconds),
        ),
    ];
    let counters = [
        (
            "drover_manager_sent_bytes_total",
            "Bytes of releases sent to devices.",
            gateway.sent_bytes.load(Ordering::Relaxed),
        ),
        (
            "drover_manager_connections_accepted_total",
            "Connections let in.",
            counts.accepted,
        ),
        (
            "drover_manager_connections_refused_total",
            "Connections turned away.",
            counts.refused,
        ),
    ];
    let mut text = String::new();
    for (kind, rows) in [("gauge", &gauges[..]), ("counter", &counters[..])] {
        for (name, help, value) in rows {
            // Writing to a string does not fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
        }
    }
    text
}
