//! The running gateway: opens everything, binds the listeners, runs the tasks until it is told to end.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, RwLock};

use anyhow::{Context as _, Result};
use durable::{LogLimits, RecordLog, Store};
use mtls::FlooredClock;
use mtls::serve::{Connections, Limits, serve};
use protocol::control::{Level, Quarantine};
use protocol::device::{DeviceOutcome, Hello};
use protocol::{Identity, Role, UpdateId, messages};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tuf::{Digest, UnixTime};

use crate::catalog::Catalog;
use crate::config::{Addresses, Config, Paths};
use crate::database::Database;
use crate::downloader::{self, Downloader};
use crate::fleet::{Enrolment, Fleet};
use crate::gateway::{Gateway, Metadata};
use crate::journal::Journal;
use crate::outbox::{self, Outbox};
use crate::own::{self, Doors, Own};
use crate::pulse::{self, Pulse};
use crate::quotas::Quotas;
use crate::repository::Repository;
use crate::secrets::{Passwords, Pepper, jitter};
use crate::sends::Sends;
use crate::{certificate, enroll, limits, metrics, reports, sender, socket, trust};

/// Runs a gateway until `shutdown`.
///
/// # Errors
/// A file of its folder is missing, not private or not what it should be; an address is taken; another manager
/// runs in the folder.
pub async fn run(dir: &Path, shutdown: CancellationToken) -> Result<()> {
    let paths = Paths::new(dir);
    let config = Config::load(&paths.config())?;
    let control = control::Server::open(&paths.socket()).await?;
    let gateway = Arc::new(open(config, paths)?);
    let repositories = Arc::new(repositories(&gateway)?);
    load_fleet(&gateway)?;
    reports::stop_due(&gateway).await;
    certificate::look(&gateway);

    let devices = bind(gateway.config.listen_devices).await?;
    let joining = bind(gateway.config.listen_enroll).await?;
    // Figures are not worth a gateway that does not start: another one may have the usual port.
    let metrics = match bind(gateway.config.metrics).await {
        Ok(listener) => Some(listener),
        Err(error) => {
            tracing::warn!(target: "drover", error = format!("{error:#}"), "metrics are not served");
            None
        }
    };
    let addresses = Addresses {
        devices: devices.local_addr()?,
        enroll: joining.local_addr()?,
        metrics: metrics
            .as_ref()
            .and_then(|listener| listener.local_addr().ok())
            .unwrap_or(gateway.config.metrics),
    };
    durable::replace(
        gateway.paths.addresses(),
        serde_json::to_vec_pretty(&addresses)?,
        0o644,
    )?;
    *gateway
        .addresses
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(addresses.clone());

    let mut tasks = tokio::task::JoinSet::new();
    let (found, doors) = (own::watch(&gateway)?, Doors::new(&gateway)?);
    listen(&gateway, &mut tasks, devices, joining, &doors, &shutdown);
    tasks.spawn(own::follow(gateway.clone(), repositories.clone(), doors, found));
    if let Some(listener) = metrics {
        tasks.spawn(metrics::serve(gateway.clone(), listener, shutdown.clone()));
    }
    tasks.spawn(downloader::run(gateway.clone(), repositories.to_vec()));
    tasks.spawn(downloader::fetch(gateway.clone(), repositories.to_vec()));
    if gateway.config.events {
        tasks.spawn(downloader::listen(gateway.clone(), repositories.to_vec()));
    }
    tasks.spawn(outbox::run(gateway.clone(), repositories.to_vec()));
    tasks.spawn(outbox::own(gateway.clone()));
    tasks.spawn(reconcile(gateway.clone()));
    tasks.spawn(pulse::run(gateway.clone()));
    tasks.spawn(certificate::run(gateway.clone()));
    let (answering, known) = (gateway.clone(), repositories.clone());
    tasks.spawn(async move {
        control
            .run(move |request| socket::answer(answering.clone(), known.clone(), request))
            .await;
    });

    gateway.journal.say(
        gateway.now(),
        Level::Info,
        messages::LISTENING,
        "",
        &addresses.devices.to_string(),
    );
    tracing::info!(target: "drover", devices = %addresses.devices, enroll = %addresses.enroll, "ready");
    shutdown.cancelled().await;
    // The listeners drain by themselves; the other tasks have nothing that is not on the disk.
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    tasks.shutdown().await;
    Ok(())
}

/// Desired and reported are compared now and then, beside every event: retries come due.
async fn reconcile(gateway: Arc<Gateway>) {
    let mut tick = tokio::time::interval(limits::RECONCILE);
    loop {
        tick.tick().await;
        downloader::order(&gateway);
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}: is another program using it?"))
}

pub(crate) fn open(config: Config, paths: Paths) -> Result<Gateway> {
    durable::create_dir(paths.state(), 0o700)?;
    durable::create_dir(paths.roots(), 0o700)?;
    let identity = Identity {
        site: config.site.clone(),
        role: Role::Manager,
        name: config.name.clone(),
    };
    let own = Own::load(&paths, &identity)?;
    let (trusted, state) = trust::open(&paths)?;
    let database = Database::open(&paths.database())?;
    let devices: i64 =
        database.run_now(|db| db.query_row("SELECT COUNT(*) FROM devices", [], |row| row.get(0)))?;
    let running = database.run_now(Downloader::was_running)?;
    let pepper = Pepper::open(&paths.pepper(), devices == 0)?;
    let mirror = Store::open(paths.mirror())?;
    let catalog = Catalog::read(&state, |digest, length| mirror.has(digest) == Some(length));
    let gateway = Gateway {
        identity,
        own: RwLock::new(Arc::new(own)),
        clock: Arc::new(FlooredClock::new(state.not_before())),
        database,
        pepper,
        passwords: Passwords::new(),
        journal: Journal::new(),
        fleet: Fleet::new(jitter()),
        mirror,
        trust: trusted,
        downloads: RecordLog::open(paths.records(), "download", LogLimits::default())?,
        list: RecordLog::open(paths.records(), "devices", LogLimits::default())?,
        outbox: Outbox::default(),
        connections: Connections::new(),
        sending: Arc::new(Semaphore::new(config.downloads)),
        quotas: Quotas::new(),
        sends: Sends::default(),
        sent_bytes: 0.into(),
        pulse: Pulse::default(),
        metadata: RwLock::new(Arc::new(Metadata::default())),
        catalog: watch::channel(Arc::new(catalog)).0,
        addresses: Mutex::default(),
        stale_since: Mutex::default(),
        certificate_until: Mutex::default(),
        downloader: Downloader::new(state.clone(), running),
        config,
        paths,
    };
    downloader::serve_metadata(&gateway, &state);
    Ok(gateway)
}

pub(crate) fn repositories(gateway: &Gateway) -> Result<Vec<Repository>> {
    let urls = gateway.config.repository_urls().map_err(anyhow::Error::msg)?;
    urls.into_iter()
        .map(|url| {
            let tls = own::dialling(gateway, &gateway.own())?;
            Ok(Repository::new(url, tls)?)
        })
        .collect()
}

fn listen(
    gateway: &Arc<Gateway>,
    tasks: &mut tokio::task::JoinSet<()>,
    devices: TcpListener,
    joining: TcpListener,
    doors: &Doors,
    shutdown: &CancellationToken,
) {
    let app = sender::routes(gateway.clone());
    let connections = gateway.connections.clone();
    tasks.spawn(serve(
        devices,
        doors.devices(),
        app,
        Limits::default(),
        connections,
        shutdown.clone(),
    ));
    let few = Limits {
        connections: limits::JOINING_CONNECTIONS,
        per_address: 16,
        handshakes: 16,
        ..Limits::default()
    };
    tasks.spawn(serve(
        joining,
        doors.joining(),
        enroll::routes(gateway.clone()),
        few,
        Connections::new(),
        shutdown.clone(),
    ));
}

/// Reads list, twins, roll backs and stops from the database.
fn load_fleet(gateway: &Gateway) -> Result<()> {
    let rows: Vec<(String, Option<String>, Enrolment)> = gateway.database.run_now(|db| {
        let mut statement = db.prepare(
            "SELECT name, key, enrolled, token, certificate_until, quarantined, quarantine_reason FROM devices",
        )?;
        let rows = statement.query_map([], |row| {
            let time = |index| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(index)?.map(UnixTime));
            let (since, reason): (_, Option<String>) = (time(5)?, row.get(6)?);
            let enrolment = Enrolment {
                at: time(2)?,
                token: row.get::<_, Option<Vec<u8>>>(3)?.unwrap_or_default(),
                key: None,
                certificate_until: time(4)?,
                quarantine: since.map(|since| Quarantine {
                    since,
                    reason: reason.unwrap_or_default(),
                }),
            };
            Ok((row.get(0)?, row.get(1)?, enrolment))
        })?;
        rows.collect()
    })?;
    for (name, key, mut enrolment) in rows {
        enrolment.key = key.map(|key| key.parse::<Digest>()).transpose()?;
        gateway.fleet.put(name.parse()?, enrolment);
    }
    let twins: Vec<(String, Option<String>, Option<String>, i64)> = gateway.database.run_now(|db| {
        let mut statement = db.prepare("SELECT device, hello, outcome, seen FROM twins")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
        rows.collect()
    })?;
    for (name, hello, last, seen) in twins {
        // What an older program wrote may not be readable: the device tells it again.
        let hello: Option<Hello> = hello.and_then(|text| serde_json::from_str(&text).ok()).flatten();
        let last: Option<DeviceOutcome> = last.and_then(|text| serde_json::from_str(&text).ok()).flatten();
        gateway
            .fleet
            .remember(&name.parse()?, hello, last, UnixTime(seen));
    }
    let pairs = |table: &'static str| {
        gateway.database.run_now(move |db| {
            let mut statement = db.prepare(table)?;
            let rows =
                statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        })
    };
    for (update, reason) in pairs("SELECT update_id, reason FROM stopped")? {
        gateway.fleet.stop(update.parse::<UpdateId>()?, reason);
    }
    for (update, device) in pairs("SELECT update_id, device FROM rollbacks")? {
        gateway.fleet.rolled_back(update.parse()?, &device.parse()?);
    }
    Ok(())
}
