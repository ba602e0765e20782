//! What all parts of the gateway share.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use certs::DeviceAuthority;
use durable::{RecordLog, Store, TrustStore};
use mtls::serve::Connections;
use mtls::{Clock as _, Credentials, FlooredClock, SiteCa};
use protocol::{Event, Identity, Name, Step};
use tokio::sync::{Semaphore, watch};
use tuf::UnixTime;

use crate::catalog::{Catalog, Offer};
use crate::config::{Addresses, Config, Paths};
use crate::database::Database;
use crate::downloader::Downloader;
use crate::fleet::Fleet;
use crate::journal::Journal;
use crate::outbox::Outbox;
use crate::secrets::{Passwords, Pepper};

/// The metadata that devices are served: one coherent set.
#[derive(Debug, Default, Clone)]
pub(crate) struct Metadata {
    /// By file name in the repository.
    pub(crate) files: BTreeMap<String, Bytes>,
    /// Version of the timestamp role; 0 while empty.
    pub(crate) timestamp: u64,
    /// What `files` is put together of, the newest first.
    pub(crate) generations: VecDeque<BTreeMap<String, Bytes>>,
}

/// The gateway.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) config: Config,
    pub(crate) paths: Paths,
    pub(crate) identity: Identity,
    pub(crate) site_ca: SiteCa,
    pub(crate) credentials: Credentials,
    pub(crate) authority: DeviceAuthority,
    pub(crate) clock: Arc<FlooredClock>,
    pub(crate) database: Database,
    pub(crate) pepper: Pepper,
    pub(crate) passwords: Passwords,
    pub(crate) journal: Journal,
    pub(crate) fleet: Fleet,
    pub(crate) mirror: Store,
    pub(crate) trust: TrustStore,
    pub(crate) downloads: RecordLog,
    pub(crate) downloader: Downloader,
    pub(crate) outbox: Outbox,
    pub(crate) connections: Connections,
    pub(crate) sending: Arc<Semaphore>,
    pub(crate) sent_bytes: AtomicU64,
    pub(crate) metadata: RwLock<Arc<Metadata>>,
    pub(crate) catalog: watch::Sender<Arc<Catalog>>,
    pub(crate) addresses: Mutex<Option<Addresses>>,
    /// Since when the metadata has been stale, as of the last check.
    pub(crate) stale_since: Mutex<Option<UnixTime>>,
}

impl Gateway {
    pub(crate) fn now(&self) -> UnixTime {
        self.clock.now().now
    }

    pub(crate) fn metadata(&self) -> Arc<Metadata> {
        self.metadata
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        self.catalog.borrow().clone()
    }

    /// Tells a step of this gateway to whoever watches, and keeps it for its report.
    pub(crate) fn step(&self, step: Step, offer: &Offer, device: Option<&Name>, bytes: Option<u64>) {
        let event = Event {
            update: offer.update,
            actor: self.identity.clone(),
            step,
            component: offer.release.component.clone(),
            version: offer.release.version.clone(),
            device: device.cloned(),
            at: mtls::stamp(),
            bytes,
            total: Some(offer.length),
            reason: None,
        };
        self.outbox.own_step(event.clone());
        self.journal.step(event);
    }
}
