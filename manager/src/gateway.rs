//! What all parts of the gateway share.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use durable::{RecordLog, Store, TrustStore};
use mtls::serve::{Connections, Peer};
use mtls::{Clock as _, FlooredClock};
use protocol::control::{ListChange, ListEntry};
use protocol::limits::MAX_REASON;
use protocol::{Event, Identity, Name, Step};
use tokio::sync::{Semaphore, watch};
use tuf::UnixTime;

use crate::catalog::{Catalog, Offer};
use crate::config::{Addresses, Config, Paths};
use crate::database::Database;
use crate::downloader::Downloader;
use crate::fleet::Fleet;
use crate::journal::Journal;
use crate::limits;
use crate::outbox::Outbox;
use crate::own::Own;
use crate::pulse::Pulse;
use crate::quotas::Quotas;
use crate::secrets::{Passwords, Pepper};
use crate::sends::Sends;

/// The metadata that devices are served: one coherent set.
#[derive(Debug, Default, Clone)]
pub(crate) struct Metadata {
    /// By file name in the repository.
    pub(crate) files: BTreeMap<String, Bytes>,
    /// Version of the timestamp role; 0 while empty.
    pub(crate) timestamp: u64,
    /// The versioned files of the newest sets, newest first.
    generations: VecDeque<BTreeMap<String, Bytes>>,
}

impl Metadata {
    /// The next set. Files of the generations before stay for devices in the middle of a refresh; versions in the
    /// names tell them apart.
    pub(crate) fn after(old: &Self, files: BTreeMap<String, Bytes>, timestamp: u64) -> Self {
        let mut generations = old.generations.clone();
        let versioned = |(name, bytes): (&String, &Bytes)| {
            (name != "timestamp.json").then(|| (name.clone(), bytes.clone()))
        };
        generations.push_front(files.iter().filter_map(versioned).collect());
        generations.truncate(limits::KEPT_GENERATIONS);
        let mut all = files;
        for (name, bytes) in generations.iter().skip(1).flatten() {
            all.entry(name.clone()).or_insert_with(|| bytes.clone());
        }
        Self {
            files: all,
            timestamp,
            generations,
        }
    }
}

/// The gateway.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) config: Config,
    pub(crate) paths: Paths,
    pub(crate) identity: Identity,
    pub(crate) own: RwLock<Arc<Own>>,
    pub(crate) clock: Arc<FlooredClock>,
    pub(crate) database: Database,
    pub(crate) pepper: Pepper,
    pub(crate) passwords: Passwords,
    pub(crate) journal: Journal,
    pub(crate) fleet: Fleet,
    pub(crate) mirror: Store,
    pub(crate) trust: TrustStore,
    pub(crate) downloads: RecordLog,
    /// The record of the device list.
    pub(crate) list: RecordLog,
    pub(crate) downloader: Downloader,
    pub(crate) outbox: Outbox,
    pub(crate) connections: Connections,
    pub(crate) sending: Arc<Semaphore>,
    /// What each device may tell.
    pub(crate) quotas: Quotas,
    /// The files that are being sent.
    pub(crate) sends: Sends,
    pub(crate) sent_bytes: AtomicU64,
    /// What was sent in each of the last seconds.
    pub(crate) pulse: Pulse,
    pub(crate) metadata: RwLock<Arc<Metadata>>,
    pub(crate) catalog: watch::Sender<Arc<Catalog>>,
    pub(crate) addresses: Mutex<Option<Addresses>>,
    /// Since when the metadata has been stale, as of the last check.
    pub(crate) stale_since: Mutex<Option<UnixTime>>,
    /// When this gateway's certificate ends, as of the last look.
    pub(crate) certificate_until: Mutex<Option<UnixTime>>,
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
        self.tell(step, offer, device, bytes, None);
    }

    /// Tells that this gateway could not get a release, and why.
    pub(crate) fn failed(&self, offer: &Offer, reason: &str) {
        let reason = reason.chars().take(MAX_REASON).collect();
        self.tell(Step::Failed, offer, None, None, Some(reason));
    }

    /// Its certificates and keys, as they are now.
    pub(crate) fn own(&self) -> Arc<Own> {
        self.own.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_own(&self, own: Arc<Own>) {
        *self.own.write().unwrap_or_else(PoisonError::into_inner) = own;
    }

    /// Closes a device's connections of which `wanted` is true; gives how many there were. Nothing is resumed, so that
    /// whoever comes back has shown the key anew.
    pub(crate) fn cut(&self, device: &Name, wanted: impl Fn(&Peer) -> bool) -> usize {
        self.connections.close_where(|peer| {
            let own = |identity: &Identity| identity.name == *device;
            peer.identity.as_ref().is_some_and(own) && wanted(peer)
        })
    }

    /// Writes down what happened to a device on the list.
    pub(crate) fn note_list(&self, device: &Name, change: ListChange, how: &str) {
        let entry = ListEntry {
            at: self.now(),
            device: device.clone(),
            change,
            how: how.to_owned(),
        };
        let text = format!("Device: {device}; {change} {how}; Time: {}", entry.at);
        if let Err(error) = self.list.append(&entry, &text) {
            tracing::warn!(%error, "the record of the device list could not be written");
        }
    }

    fn tell(
        &self,
        step: Step,
        offer: &Offer,
        device: Option<&Name>,
        bytes: Option<u64>,
        reason: Option<String>,
    ) {
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
            reason,
        };
        self.outbox.own_step(event.clone());
        if let Some(device) = device {
            self.fleet.progress(device, &event);
        }
        self.journal.step(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_in_the_middle_of_a_refresh_still_finds_its_files() {
        let mut served = Metadata::default();
        for version in 1..=20_u64 {
            let names = ["timestamp.json".to_owned(), format!("{version}.snapshot.json")];
            let files = names.map(|name| (name, Bytes::from(version.to_string())));
            served = Metadata::after(&served, files.into(), version);
        }
        assert_eq!(served.timestamp, 20);
        assert_eq!(served.files["timestamp.json"], "20");
        for version in 17..=20 {
            assert_eq!(
                served.files[&format!("{version}.snapshot.json")],
                version.to_string()
            );
        }
        assert_eq!(served.files.len(), 1 + limits::KEPT_GENERATIONS);
    }
}
