//! The devices: who is on the list, what each one reports, what each one should run.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use protocol::control::DeviceRow;
use protocol::device::{Activity, ComponentState, DeviceOutcome, Hello, Order, Refresh};
use protocol::{Name, Outcome, UpdateId};
use tokio::sync::mpsc;
use tuf::{Digest, UnixTime};

use crate::catalog::{Catalog, Offer};
use crate::limits;

/// What goes down an event stream.
#[derive(Debug, Clone)]
pub(crate) enum Push {
    Order(Box<Order>),
    Refresh(Refresh),
}

/// What is kept of a device's enrolment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Enrolment {
    /// Keyed hash of its token.
    pub(crate) token: Vec<u8>,
    /// Fingerprint of its key.
    pub(crate) key: Option<Digest>,
    pub(crate) certificate_until: Option<UnixTime>,
    pub(crate) at: Option<UnixTime>,
}

/// When an order was sent, and how often it did not work out.
#[derive(Debug)]
struct Sent {
    update: UpdateId,
    at: Instant,
    wait: Duration,
}

#[derive(Debug, Default)]
struct Device {
    enrolment: Enrolment,
    hello: Option<Hello>,
    last: Option<DeviceOutcome>,
    seen: Option<UnixTime>,
    address: Option<SocketAddr>,
    streams: Vec<(u64, mpsc::Sender<Push>)>,
    sent: VecDeque<Sent>,
    downloads: Arc<AtomicUsize>,
    /// Boot ids of connections that said hello, newest last.
    boots: VecDeque<(String, Instant)>,
}

/// All devices on the list, in memory; the database has what must survive.
#[derive(Debug, Default)]
pub(crate) struct Fleet {
    devices: Mutex<HashMap<Name, Device>>,
    rollbacks: Mutex<HashMap<UpdateId, Vec<Name>>>,
    stopped: Mutex<BTreeMap<UpdateId, String>>,
    numbers: AtomicU64,
}

/// An order that was sent, for the record.
#[derive(Debug)]
pub(crate) struct Ordered {
    pub(crate) device: Name,
    pub(crate) offer: Offer,
}

/// A download that is under way.
#[derive(Debug)]
pub(crate) struct Download(Arc<AtomicUsize>);

impl Drop for Download {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Fleet {
    fn devices(&self) -> MutexGuard<'_, HashMap<Name, Device>> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rollbacks(&self) -> MutexGuard<'_, HashMap<UpdateId, Vec<Name>>> {
        self.rollbacks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stops(&self) -> MutexGuard<'_, BTreeMap<UpdateId, String>> {
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a device on the list, or replaces what is known of its enrolment.
    pub(crate) fn put(&self, name: Name, enrolment: Enrolment) {
        self.devices().entry(name).or_default().enrolment = enrolment;
    }

    /// A device has enrolled: what was told under its name before is another life's.
    pub(crate) fn joined(&self, name: Name, enrolment: Enrolment) {
        let fresh = Device {
            enrolment,
            ..Device::default()
        };
        self.devices().insert(name, fresh);
    }

    /// What a device told before the gateway was started again.
    pub(crate) fn remember(
        &self,
        name: &Name,
        hello: Option<Hello>,
        last: Option<DeviceOutcome>,
        seen: UnixTime,
    ) {
        if let Some(device) = self.devices().get_mut(name) {
            device.hello = hello;
            device.last = last;
            device.seen = Some(seen);
        }
    }

    pub(crate) fn remove(&self, name: &Name) {
        self.devices().remove(name);
    }

    pub(crate) fn contains(&self, name: &Name) -> bool {
        self.devices().contains_key(name)
    }

    pub(crate) fn count(&self) -> usize {
        self.devices().len()
    }

    /// The enrolment of a device that is on the list.
    pub(crate) fn enrolment(&self, name: &Name) -> Option<Enrolment> {
        self.devices().get(name).map(|device| device.enrolment.clone())
    }

    /// A device spoke.
    pub(crate) fn seen(&self, name: &Name, address: SocketAddr, now: UnixTime) {
        if let Some(device) = self.devices().get_mut(name) {
            device.seen = Some(now);
            device.address = Some(address);
        }
    }

    /// Takes a hello. True if two machines seem to speak under this name: another boot id was heard a moment
    /// ago, more than once in turns.
    pub(crate) fn hello(&self, name: &Name, hello: Hello) -> bool {
        let mut devices = self.devices();
        let Some(device) = devices.get_mut(name) else {
            return false;
        };
        let now = Instant::now();
        if device.boots.back().is_none_or(|(boot, _)| *boot != hello.boot_id) {
            device.boots.push_back((hello.boot_id.clone(), now));
            if device.boots.len() > limits::BOOTS_PER_DEVICE {
                device.boots.pop_front();
            }
        }
        // A machine that reboots never speaks under an old boot id again; two machines take turns.
        let turns = device
            .boots
            .iter()
            .filter(|(boot, _)| *boot == hello.boot_id)
            .count();
        let counter_fell = device
            .hello
            .as_ref()
            .is_some_and(|old| old.report_counter > hello.report_counter);
        device.hello = Some(hello);
        turns > 1 || counter_fell
    }

    /// A report says how an update ended and what runs now.
    pub(crate) fn reported(
        &self,
        name: &Name,
        counter: u64,
        components: &[ComponentState],
        last: Option<&DeviceOutcome>,
    ) {
        let mut devices = self.devices();
        let Some(device) = devices.get_mut(name) else {
            return;
        };
        if let Some(hello) = &mut device.hello {
            hello.report_counter = hello.report_counter.max(counter);
            if !components.is_empty() {
                hello.components = components.to_vec();
            }
        }
        let Some(last) = last else { return };
        if matches!(last.outcome, Outcome::Refused | Outcome::Failed)
            && let Some(sent) = device.sent.iter_mut().find(|sent| sent.update == last.update)
        {
            sent.at = Instant::now();
            sent.wait = (sent.wait * 2).clamp(limits::ORDER_RETRY, limits::ORDER_RETRY_MAX);
        }
        device.last = Some(last.clone());
    }

    /// A place for one more download of this device; none if it has its share. Given back when dropped.
    pub(crate) fn download(&self, name: &Name) -> Option<Download> {
        let count = self.devices().get(name)?.downloads.clone();
        let place = Download(count);
        (place.0.fetch_add(1, Ordering::AcqRel) < limits::DOWNLOADS_PER_DEVICE).then_some(place)
    }

    /// Opens an event stream; the number closes it again. The oldest goes if there are too many.
    pub(crate) fn open_stream(&self, name: &Name) -> Option<(u64, mpsc::Receiver<Push>)> {
        let mut devices = self.devices();
        let device = devices.get_mut(name)?;
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = mpsc::channel(limits::STREAM_BACKLOG);
        if device.streams.len() >= limits::STREAMS_PER_DEVICE {
            device.streams.remove(0);
        }
        device.streams.push((number, sender));
        Some((number, receiver))
    }

    pub(crate) fn close_stream(&self, name: &Name, number: u64) {
        if let Some(device) = self.devices().get_mut(name) {
            device.streams.retain(|(other, _)| *other != number);
        }
    }

    /// Sends something to one device, if it is connected.
    pub(crate) fn push(&self, name: &Name, push: &Push) {
        if let Some(device) = self.devices().get_mut(name) {
            device.push(push);
        }
    }

    /// Tells every connected device that there is newer metadata.
    pub(crate) fn refresh_all(&self, refresh: Refresh) {
        for device in self.devices().values_mut() {
            device.push(&Push::Refresh(refresh));
        }
    }

    /// Compares desired and reported for one device: the orders it should get now. `again`: also those that
    /// were sent a moment ago, because the device has connected anew.
    pub(crate) fn orders(&self, name: &Name, catalog: &Catalog, again: bool) -> Vec<(Order, Offer)> {
        let stopped = self.stops().clone();
        let mut devices = self.devices();
        let Some(device) = devices.get_mut(name) else {
            return Vec::new();
        };
        device.wanted(catalog, &stopped, again)
    }

    /// Orders for every device with an open stream, sent.
    pub(crate) fn order_all(&self, catalog: &Catalog) -> Vec<Ordered> {
        let stopped = self.stops().clone();
        let mut ordered = Vec::new();
        for (name, device) in self.devices().iter_mut() {
            if device.streams.is_empty() {
                continue;
            }
            for (order, offer) in device.wanted(catalog, &stopped, false) {
                device.push(&Push::Order(Box::new(order)));
                ordered.push(Ordered {
                    device: name.clone(),
                    offer,
                });
            }
        }
        ordered
    }

    /// A device rolled an update back. Gives the reason if the update is to be stopped now: max(2, 5 %) of the
    /// devices rolled it back (DESIGN section 6).
    pub(crate) fn rolled_back(&self, update: UpdateId, name: &Name) -> Option<String> {
        let devices = self.count();
        let mut rollbacks = self.rollbacks();
        let names = rollbacks.entry(update).or_default();
        if !names.contains(name) {
            names.push(name.clone());
        }
        let limit = devices.div_ceil(20).max(2);
        if names.len() < limit || self.stops().contains_key(&update) {
            return None;
        }
        Some(format!("{} of {devices} devices rolled it back", names.len()))
    }

    pub(crate) fn rollback_count(&self, update: &UpdateId) -> usize {
        self.rollbacks().get(update).map_or(0, Vec::len)
    }

    pub(crate) fn stop(&self, update: UpdateId, reason: String) {
        self.stops().insert(update, reason);
    }

    /// Offers an update again; whoever rolled it back is forgotten.
    pub(crate) fn resume(&self, update: &UpdateId) -> bool {
        self.rollbacks().remove(update);
        self.stops().remove(update).is_some()
    }

    pub(crate) fn stopped(&self, update: &UpdateId) -> Option<String> {
        self.stops().get(update).cloned()
    }

    pub(crate) fn connected(&self) -> usize {
        self.devices()
            .values()
            .filter(|device| !device.streams.is_empty())
            .count()
    }

    /// Devices that run this digest.
    pub(crate) fn running(&self, digest: &Digest) -> usize {
        let runs = |device: &&Device| {
            device
                .hello
                .iter()
                .flat_map(|hello| &hello.components)
                .any(|c| c.digest == Some(*digest))
        };
        self.devices().values().filter(runs).count()
    }

    /// The table, by name.
    pub(crate) fn rows(&self) -> Vec<DeviceRow> {
        let mut rows: Vec<DeviceRow> = self
            .devices()
            .iter()
            .map(|(name, device)| DeviceRow {
                name: name.clone(),
                enrolled: device.enrolment.at.is_some(),
                connected: !device.streams.is_empty(),
                address: device.address.map(|address| address.to_string()),
                last_seen: device.seen,
                certificate_until: device.enrolment.certificate_until,
                components: device
                    .hello
                    .as_ref()
                    .map(|hello| hello.components.clone())
                    .unwrap_or_default(),
                last: device.last.clone(),
                trouble: device.hello.as_ref().and_then(|hello| hello.trouble.clone()),
            })
            .collect();
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        rows
    }

    /// What to write down of a device.
    pub(crate) fn twin(
        &self,
        name: &Name,
    ) -> Option<(Option<Hello>, Option<DeviceOutcome>, Option<UnixTime>)> {
        let devices = self.devices();
        let device = devices.get(name)?;
        Some((device.hello.clone(), device.last.clone(), device.seen))
    }
}

impl Device {
    /// A stream that does not take what is sent is closed; its device connects anew and is brought up to date.
    fn push(&mut self, push: &Push) {
        self.streams
            .retain(|(_, stream)| stream.try_send(push.clone()).is_ok());
    }

    fn wanted(
        &mut self,
        catalog: &Catalog,
        stopped: &BTreeMap<UpdateId, String>,
        again: bool,
    ) -> Vec<(Order, Offer)> {
        let Some(hello) = &self.hello else {
            return Vec::new();
        };
        if hello.trouble.is_some() {
            return Vec::new();
        }
        let mut wanted = Vec::new();
        for offers in catalog.newest.values() {
            let Some(offer) = offers.iter().find(|offer| fits(offer, hello)) else {
                continue;
            };
            if !offer.mirrored || stopped.contains_key(&offer.update) {
                continue;
            }
            let state = hello
                .components
                .iter()
                .find(|state| state.component == offer.release.component);
            if !desires(state, offer) || !due(&mut self.sent, offer.update, again) {
                continue;
            }
            let order = Order {
                update: offer.update,
                component: offer.release.component.clone(),
                expects: state.and_then(|state| state.version.clone()),
                version: offer.release.version.clone(),
                target: offer.target.clone(),
            };
            wanted.push((order, offer.clone()));
        }
        wanted
    }
}

fn fits(offer: &Offer, hello: &Hello) -> bool {
    let release = &offer.release;
    release.arch.is_none_or(|arch| arch == hello.arch)
        && (release.hardware.is_empty() || release.hardware.iter().any(|id| hello.hardware.contains(id)))
}

/// Whether a device in this state should be told of this release.
fn desires(state: Option<&ComponentState>, offer: &Offer) -> bool {
    let Some(state) = state else { return true };
    let idle = matches!(
        state.activity,
        Activity::Empty | Activity::Running | Activity::Failing
    );
    let newer = state
        .version
        .as_ref()
        .is_none_or(|version| *version < offer.release.version);
    idle && newer && !state.held && !state.bad.contains(&offer.digest)
}

/// Whether an order may be sent now, and notes that it is.
fn due(sent: &mut VecDeque<Sent>, update: UpdateId, again: bool) -> bool {
    let now = Instant::now();
    if let Some(known) = sent.iter_mut().find(|known| known.update == update) {
        let refused = known.wait > limits::ORDER_RETRY / 2;
        if (again && !refused) || now.duration_since(known.at) >= known.wait.max(limits::ORDER_RETRY) {
            known.at = now;
            return true;
        }
        return false;
    }
    if sent.len() >= limits::RETRIES_PER_DEVICE {
        sent.pop_front();
    }
    // Half the first wait: told apart from one that a refusal has lengthened.
    sent.push_back(Sent {
        update,
        at: now,
        wait: limits::ORDER_RETRY / 2,
    });
    true
}

/// The first part of a device's outcome as a report tells it.
pub(crate) fn outcome_of(report: &protocol::Report) -> Option<DeviceOutcome> {
    let (update, outcome) = (report.update?, report.outcome?);
    let event = report.events.iter().rev().find(|event| event.update == update)?;
    Some(DeviceOutcome {
        update,
        component: event.component.clone(),
        version: event.version.clone(),
        outcome,
        reason: report.reason.clone(),
    })
}
