//! The devices: who is on the list, what each one reports, what each one should run.

mod table;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use protocol::control::DeviceProgress;
use protocol::device::{Activity, ComponentState, DeviceOutcome, Hello, Order, Refresh};
use protocol::{Name, Outcome, UpdateId};
use release::Component;
use tokio::sync::mpsc;
use tuf::{Digest, UnixTime};

use crate::catalog::{Catalog, Offer, Stopped};
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
    /// Boot ids of the machine that said hello, newest last.
    boots: VecDeque<String>,
    progress: Option<DeviceProgress>,
    /// The table's revision when its row last changed.
    changed: u64,
}

/// All devices on the list, in memory; the database has what must survive.
#[derive(Debug, Default)]
pub(crate) struct Fleet {
    devices: Mutex<HashMap<Name, Device>>,
    rollbacks: Mutex<HashMap<UpdateId, Vec<Name>>>,
    stopped: Mutex<Stopped>,
    numbers: AtomicU64,
    /// Rises with each change of a row; written under the lock of `devices`.
    revision: AtomicU64,
    /// See [`protocol::control::DevicePage::generation`].
    generation: AtomicU64,
}

/// Why a device gets no event stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoStream {
    /// It is not on the list.
    Unknown,
    /// It has its share of them: a further one displaces nobody, and half-open ones end by themselves.
    TooMany,
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

    fn stops(&self) -> MutexGuard<'_, Stopped> {
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a device on the list, or replaces what is known of its enrolment. What another machine told under the
    /// name is forgotten.
    pub(crate) fn put(&self, name: Name, enrolment: Enrolment) {
        let mut devices = self.devices();
        let device = devices.entry(name).or_default();
        if device.enrolment.at != enrolment.at {
            *device = Device::default();
        }
        device.enrolment = enrolment;
        device.touch(&self.revision);
    }

    /// A device has enrolled: what was told under its name before is another life's. False if it is not on the list.
    pub(crate) fn joined(&self, name: &Name, enrolment: Enrolment) -> bool {
        let mut devices = self.devices();
        let Some(device) = devices.get_mut(name) else {
            return false;
        };
        *device = Device {
            enrolment,
            ..Device::default()
        };
        device.touch(&self.revision);
        true
    }

    /// A device has a new certificate for the key it enrolled with. False if it is not on the list with this key.
    pub(crate) fn renewed(&self, name: &Name, key: &Digest, until: UnixTime) -> bool {
        let mut devices = self.devices();
        let Some(device) = devices
            .get_mut(name)
            .filter(|device| device.enrolment.key == Some(*key))
        else {
            return false;
        };
        device.enrolment.certificate_until = Some(until);
        device.touch(&self.revision);
        true
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
            device.touch(&self.revision);
        }
    }

    pub(crate) fn remove(&self, name: &Name) {
        let mut devices = self.devices();
        devices.remove(name);
        // Whoever has the table starts anew: there is no row that could say that it is gone.
        self.generation.fetch_add(1, Ordering::AcqRel);
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
            if device.seen == Some(now) && device.address == Some(address) {
                return;
            }
            device.seen = Some(now);
            device.address = Some(address);
            device.touch(&self.revision);
        }
    }

    /// Takes a hello. True if two machines speak under this name: a boot id comes back after another one.
    ///
    /// No honest device looks like that, however often it connects anew, from wherever: a machine that reboots never
    /// speaks under an old boot id again. (A hello that was delayed may carry an older report counter: contradictory
    /// reports are told by their digests.)
    pub(crate) fn hello(&self, name: &Name, hello: Hello) -> bool {
        let mut devices = self.devices();
        let Some(device) = devices.get_mut(name) else {
            return false;
        };
        let known = device.boots.contains(&hello.boot_id);
        let same = device.boots.back() == Some(&hello.boot_id);
        if !same {
            if device.boots.len() >= limits::BOOTS_PER_DEVICE {
                device.boots.pop_front();
            }
            device.boots.push_back(hello.boot_id.clone());
            device.progress = None;
        }
        device.hello = Some(hello);
        device.touch(&self.revision);
        known && !same
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
        device.touch(&self.revision);
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
        device.progress.take_if(|progress| progress.update == last.update);
    }

    /// A place for one more download of this device; none if it has its share. Given back when dropped.
    pub(crate) fn download(&self, name: &Name) -> Option<Download> {
        let count = self.devices().get(name)?.downloads.clone();
        let place = Download(count);
        (place.0.fetch_add(1, Ordering::AcqRel) < limits::DOWNLOADS_PER_DEVICE).then_some(place)
    }

    /// Opens an event stream; the number closes it again.
    pub(crate) fn open_stream(&self, name: &Name) -> Result<(u64, mpsc::Receiver<Push>), NoStream> {
        let mut devices = self.devices();
        let device = devices.get_mut(name).ok_or(NoStream::Unknown)?;
        if device.streams.len() >= limits::STREAMS_PER_DEVICE {
            return Err(NoStream::TooMany);
        }
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = mpsc::channel(limits::STREAM_BACKLOG);
        device.streams.push((number, sender));
        device.touch(&self.revision);
        Ok((number, receiver))
    }

    pub(crate) fn close_stream(&self, name: &Name, number: u64) {
        if let Some(device) = self.devices().get_mut(name) {
            device.streams.retain(|(other, _)| *other != number);
            device.touch(&self.revision);
        }
    }

    /// Sends something to one device, if it is connected.
    pub(crate) fn push(&self, name: &Name, push: &Push) {
        if let Some(device) = self.devices().get_mut(name) {
            device.push(push, &self.revision);
        }
    }

    /// Tells every connected device that there is newer metadata.
    pub(crate) fn refresh_all(&self, refresh: Refresh) {
        for device in self.devices().values_mut() {
            device.push(&Push::Refresh(refresh), &self.revision);
        }
    }

    /// Compares desired and reported for one device: the orders it should get now. `again`: also those that
    /// were sent a moment ago, because the device has connected anew.
    pub(crate) fn orders(&self, name: &Name, catalog: &Catalog, again: bool) -> Vec<(Order, Offer)> {
        let stopped = self.all_stopped();
        let mut devices = self.devices();
        let Some(device) = devices.get_mut(name) else {
            return Vec::new();
        };
        device.wanted(catalog, &stopped, again)
    }

    /// Orders for every device with an open stream, sent.
    pub(crate) fn order_all(&self, catalog: &Catalog) -> Vec<Ordered> {
        let stopped = self.all_stopped();
        let mut ordered = Vec::new();
        for (name, device) in self.devices().iter_mut() {
            if device.streams.is_empty() {
                continue;
            }
            for (order, offer) in device.wanted(catalog, &stopped, false) {
                device.push(&Push::Order(Box::new(order)), &self.revision);
                ordered.push(Ordered {
                    device: name.clone(),
                    offer,
                });
            }
        }
        ordered
    }

    /// A device rolled an update back.
    pub(crate) fn rolled_back(&self, update: UpdateId, name: &Name) {
        let mut rollbacks = self.rollbacks();
        let names = rollbacks.entry(update).or_default();
        if !names.contains(name) {
            names.push(name.clone());
        }
    }

    /// The reason if an update is to be stopped now: max(2, 5 %) of its devices rolled it back (DESIGN section 6). Its
    /// devices are those that it fits.
    pub(crate) fn to_be_stopped(&self, update: UpdateId, catalog: &Catalog) -> Option<String> {
        let backs = self.rollback_count(&update);
        if backs < tolerated(0) || self.stopped(&update).is_some() {
            return None;
        }
        let offers: Vec<&Offer> = catalog.all().filter(|offer| offer.update == update).collect();
        let meant = |device: &&Device| {
            let hello = device.hello.as_ref();
            hello.is_some_and(|hello| offers.iter().any(|offer| fits(offer, hello)))
        };
        let devices = self.devices().values().filter(meant).count();
        (backs >= tolerated(devices)).then(|| format!("{backs} of {devices} devices rolled it back"))
    }

    /// What a device that rolled an update back told last, if one is known.
    pub(crate) fn told_of(&self, update: &UpdateId) -> Option<DeviceOutcome> {
        let devices = self.devices();
        let mut last = devices.values().filter_map(|device| device.last.as_ref());
        last.find(|last| last.update == *update && last.outcome == Outcome::RolledBack)
            .cloned()
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

    pub(crate) fn all_stopped(&self) -> Stopped {
        self.stops().clone()
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
    fn push(&mut self, push: &Push, revision: &AtomicU64) {
        let before = self.streams.len();
        self.streams
            .retain(|(_, stream)| stream.try_send(push.clone()).is_ok());
        if self.streams.len() < before {
            self.touch(revision);
        }
    }

    fn wanted(&mut self, catalog: &Catalog, stopped: &Stopped, again: bool) -> Vec<(Order, Offer)> {
        let Some(hello) = &self.hello else {
            return Vec::new();
        };
        if hello.trouble.is_some() {
            return Vec::new();
        }
        let mut wanted = Vec::new();
        for component in catalog.newest.keys() {
            let state = (hello.components.iter()).find(|state| state.component == *component);
            let Some(offer) = choice(catalog, stopped, component, hello, state) else {
                continue;
            };
            if !offer.mirrored || !desires(state, offer) || !due(&mut self.sent, offer.update, again) {
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

/// Roll backs at which a release is stopped, of so many devices.
fn tolerated(devices: usize) -> usize {
    devices.div_ceil(20).max(2)
}

fn fits(offer: &Offer, hello: &Hello) -> bool {
    let release = &offer.release;
    let agent = release.requires.agent.as_ref().is_none_or(|wanted| {
        // A version that cannot be read is the device's to judge.
        let agent = hello.agent.parse::<release::Version>();
        agent.map_or(true, |agent| wanted.matches(agent.semver()))
    });
    agent
        && release.arch.is_none_or(|arch| arch == hello.arch)
        && (release.hardware.is_empty() || release.hardware.iter().any(|id| hello.hardware.contains(id)))
}

/// The release of a component that is for this device: the newest one that fits it. Where that one is stopped, a device
/// that runs nothing of the component gets the newest that is not; whoever runs something keeps it.
fn choice<'a>(
    catalog: &'a Catalog,
    stopped: &'a Stopped,
    component: &Component,
    hello: &Hello,
    state: Option<&ComponentState>,
) -> Option<&'a Offer> {
    let newest = catalog.newest.get(component)?;
    let first = newest.iter().find(|offer| fits(offer, hello))?;
    if !stopped.contains_key(&first.update) {
        return Some(first);
    }
    if state.is_some_and(|state| state.version.is_some()) {
        return None;
    }
    let others = newest.iter().filter(|offer| !stopped.contains_key(&offer.update));
    others
        .chain(catalog.fallbacks_of(component, stopped))
        .filter(|offer| fits(offer, hello))
        .max_by(|a, b| a.release.version.cmp(&b.release.version))
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

#[cfg(test)]
mod tests {
    use protocol::UpdateId;
    use release::{Arch, Form, How, Manifest, Run};

    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn hello(boot: &str, counter: u64) -> Hello {
        Hello {
            agent: "0.1.0".into(),
            arch: Arch::X86_64,
            hardware: vec!["board-1".into()],
            boot_id: boot.into(),
            report_counter: counter,
            time_known: true,
            trouble: None,
            components: Vec::new(),
        }
    }

    fn fleet(names: &[&str]) -> Fleet {
        let fleet = Fleet::default();
        for text in names {
            fleet.put(name(text), Enrolment::default());
            fleet.hello(&name(text), hello(text, 0));
        }
        fleet
    }

    fn offer(version: &str, change: impl FnOnce(&mut release::Release)) -> Offer {
        let run = Run::plain(How::Exec, "run".parse().unwrap());
        let manifest = Manifest::new("app".parse().unwrap(), version.parse().unwrap(), run);
        let update = UpdateId::from_random([7; 16]);
        let mut release = manifest.release(
            update.to_string(),
            1,
            Form::Package,
            "app.tar".into(),
            UnixTime(0),
        );
        change(&mut release);
        Offer {
            update,
            target: release.target_path().unwrap(),
            digest: Digest::of(version.as_bytes()),
            length: 1,
            release,
            mirrored: true,
        }
    }

    #[test]
    fn a_boot_id_that_comes_back_is_a_second_machine_and_nothing_else_is() {
        let fleet = fleet(&["pump"]);
        let pump = name("pump");
        // Ten thousand honest reconnects, reboots among them, counters late or early.
        for round in 0..10_000_u64 {
            let boot = format!("boot-{}", round / 100);
            assert!(!fleet.hello(&pump, hello(&boot, round % 7)), "round {round}");
        }
        assert!(!fleet.hello(&pump, hello("copy", 0)));
        assert!(fleet.hello(&pump, hello("boot-99", 0)));
        assert!(fleet.hello(&pump, hello("copy", 0)));
    }

    #[test]
    fn a_machine_that_enrols_anew_is_not_taken_for_a_copy() {
        let fleet = fleet(&["pump"]);
        let pump = name("pump");
        fleet.hello(&pump, hello("other", 9));
        let enrolment = Enrolment {
            at: Some(UnixTime(5)),
            ..Enrolment::default()
        };
        fleet.put(pump.clone(), enrolment);
        assert!(!fleet.hello(&pump, hello("pump", 0)));
    }

    #[test]
    fn a_further_stream_displaces_nobody() {
        let fleet = fleet(&["pump"]);
        let pump = name("pump");
        let mut open: Vec<_> = (0..limits::STREAMS_PER_DEVICE)
            .map(|_| fleet.open_stream(&pump).unwrap())
            .collect();
        assert_eq!(fleet.open_stream(&pump).unwrap_err(), NoStream::TooMany);
        fleet.refresh_all(Refresh { timestamp: 1 });
        assert!(open.iter_mut().all(|(_, stream)| stream.try_recv().is_ok()));
        fleet.close_stream(&pump, open[3].0);
        assert!(fleet.open_stream(&pump).is_ok());
        assert_eq!(fleet.open_stream(&name("x")).unwrap_err(), NoStream::Unknown);
    }

    #[test]
    fn two_or_five_percent_of_its_devices_stop_a_release() {
        for (devices, limit) in [(1, 2), (3, 2), (40, 2), (41, 3), (100, 5), (10_000, 500)] {
            assert_eq!(tolerated(devices), limit, "{devices}");
        }
        let fleet = fleet(&["a", "b", "c"]);
        let offer = offer("1.0.0", |_| {});
        let catalog = Catalog::of([offer.clone()].into_iter());
        let back = |device: &str| {
            fleet.rolled_back(offer.update, &name(device));
            fleet.to_be_stopped(offer.update, &catalog)
        };
        assert_eq!(back("a"), None);
        assert_eq!(back("a"), None);
        assert_eq!(back("b").unwrap(), "2 of 3 devices rolled it back");
        fleet.stop(offer.update, "enough".into());
        assert_eq!(back("c"), None, "it is stopped already");
    }

    #[test]
    fn while_the_newest_is_stopped_a_device_that_runs_nothing_gets_the_one_before() {
        let version = |number: u8, change: fn(&mut release::Release)| Offer {
            update: UpdateId::from_random([number; 16]),
            ..offer(&format!("{number}.0.0"), change)
        };
        let plain = |number| version(number, |_| {});
        let other = version(4, |release| release.hardware = vec!["board-2".into()]);
        let catalog = Catalog::of([plain(1), plain(3), other.clone(), plain(2)].into_iter());
        let app: Component = "app".parse().unwrap();
        let running = |number: u8| ComponentState {
            component: app.clone(),
            version: Some(format!("{number}.0.0").parse().unwrap()),
            digest: None,
            previous: None,
            activity: Activity::Running,
            uptime_seconds: 0,
            bad: Vec::new(),
            held: false,
        };
        let empty = ComponentState {
            version: None,
            activity: Activity::Empty,
            bad: vec![plain(3).digest],
            ..running(3)
        };
        let mut stopped = Stopped::new();
        let chosen = |stopped: &Stopped, state: Option<&ComponentState>| {
            let chosen = choice(&catalog, stopped, &app, &hello("b", 0), state);
            chosen.map(|offer| offer.release.version.to_string())
        };
        let three = Some("3.0.0".to_owned());
        assert_eq!(chosen(&stopped, None), three);
        assert_eq!(chosen(&stopped, Some(&running(2))), three);
        assert_eq!(
            catalog.sought(&stopped).count(),
            2,
            "each newest one, nothing else"
        );
        stopped.insert(plain(3).update, "it bites".into());
        for nothing in [None, Some(&empty)] {
            assert_eq!(chosen(&stopped, nothing), Some("2.0.0".to_owned()));
        }
        for number in [1, 2, 3] {
            assert_eq!(
                chosen(&stopped, Some(&running(number))),
                None,
                "who runs {number} keeps it"
            );
        }
        let sought: Vec<&Offer> = catalog.sought(&stopped).collect();
        assert_eq!(sought, [&other, &plain(3), &plain(2)]);
        stopped.insert(plain(2).update, "that too".into());
        assert_eq!(chosen(&stopped, None), Some("1.0.0".to_owned()));
        stopped.insert(plain(1).update, "all of them".into());
        assert_eq!(chosen(&stopped, None), None);
    }

    #[test]
    fn a_release_goes_to_the_devices_it_is_for() {
        let fits_here = |change: fn(&mut release::Release)| fits(&offer("1.0.0", change), &hello("b", 0));
        assert!(fits_here(|_| {}));
        assert!(fits_here(|release| release.arch = Some(Arch::X86_64)));
        assert!(!fits_here(|release| release.arch = Some(Arch::Aarch64)));
        assert!(fits_here(|release| release.hardware = vec!["board-1".into()]));
        assert!(!fits_here(|release| release.hardware = vec!["board-2".into()]));
        assert!(fits_here(|release| release.requires.agent = ">=0.1".parse().ok()));
        assert!(!fits_here(|release| release.requires.agent = ">=2".parse().ok()));
    }
}
