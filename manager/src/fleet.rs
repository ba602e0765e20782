//! The devices: who is on the list, what each one reports, what each one should run.

pub(crate) mod doubts;
#[cfg(test)]
pub(crate) mod fixture;
mod orders;
mod rollbacks;
mod streams;
mod table;

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use protocol::control::{DeviceProgress, Quarantine};
use protocol::device::{ComponentState, DeviceOutcome, Hello};
use protocol::{Name, Outcome, UpdateId};
use release::{Component, Version};
use tuf::{Digest, UnixTime};

use crate::catalog::Stopped;
use crate::limits;
use doubts::{Challenge, Doubt};
use orders::Sent;

use streams::Stream;
pub(crate) use streams::{Download, NoStream, Push};
pub(crate) use table::NoWaiting;

/// What is kept of a device's enrolment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Enrolment {
    /// Keyed hash of its token.
    pub(crate) token: Vec<u8>,
    /// Fingerprint of its key.
    pub(crate) key: Option<Digest>,
    pub(crate) certificate_until: Option<UnixTime>,
    pub(crate) at: Option<UnixTime>,
    /// It is cut off by the operator's choice.
    pub(crate) quarantine: Option<Quarantine>,
}

#[derive(Debug, Default)]
struct Device {
    enrolment: Enrolment,
    hello: Option<Hello>,
    last: Option<DeviceOutcome>,
    seen: Option<UnixTime>,
    address: Option<SocketAddr>,
    streams: Vec<Stream>,
    sent: VecDeque<Sent>,
    downloads: Arc<AtomicUsize>,
    /// Boot ids of the machine that said hello, and when each was first heard; newest last.
    boots: VecDeque<(String, UnixTime)>,
    challenge: Option<Challenge>,
    /// It was let in again, and has not said hello since.
    readmitted: bool,
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

/// What devices have on their disks, as far as it is known.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) digests: HashSet<Digest>,
    pub(crate) releases: HashSet<(Component, Version)>,
}

impl Fleet {
    fn devices(&self) -> MutexGuard<'_, HashMap<Name, Device>> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Puts a device in quarantine, or lets it in again. False if it is not on the list.
    pub(crate) fn quarantine(&self, name: &Name, quarantine: Option<Quarantine>) -> bool {
        let mut devices = self.devices();
        let Some(device) = devices.get_mut(name) else {
            return false;
        };
        // Let in again, it is a question anew: whoever speaks first may have been followed by another one before.
        device.readmitted = quarantine.is_none();
        device.enrolment.quarantine = quarantine;
        device.challenge = None;
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
            device.boots = hello.iter().map(|hello| (hello.boot_id.clone(), seen)).collect();
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

    /// Takes a hello, and tells where no honest device would say it: see [`Doubt`].
    ///
    /// The counter is compared between two starts of the machine only: within one, a hello that was delayed may carry
    /// an older one. A report is on the device's disk before it is counted.
    pub(crate) fn hello(&self, name: &Name, hello: Hello, now: UnixTime) -> Option<Doubt> {
        let mut devices = self.devices();
        let device = devices.get_mut(name)?;
        let made = device.hello.as_ref().map_or(0, |before| before.report_counter);
        let fell = Doubt::CounterFell {
            from: made,
            to: hello.report_counter,
        };
        let fell = (hello.report_counter < made).then_some(fell);
        let known = device.boots.iter().any(|(boot, _)| *boot == hello.boot_id);
        let same = device
            .boots
            .back()
            .is_some_and(|(boot, _)| *boot == hello.boot_id);
        let readmitted = std::mem::take(&mut device.readmitted);
        let mut crowded = None;
        if !same {
            if device.boots.len() >= limits::BOOTS_PER_DEVICE {
                // Whoever speaks under so many of them would have the right machine's forgotten.
                let recent = |at: UnixTime| (0..limits::BOOTS_SECONDS).contains(&now.seconds_since(at));
                let first = device.boots.pop_front();
                crowded = first.filter(|(_, at)| recent(*at)).map(|_| Doubt::ManyStarts);
            }
            device.boots.push_back((hello.boot_id.clone(), now));
            device.progress = None;
            // Not while two are known to be there: nobody cuts another off by saying hello.
            if !device.challenge.as_ref().is_some_and(|open| open.is_open(now)) {
                device.end_streams_before(&hello.boot_id);
            }
        }
        // What was counted once stays so: a late hello must not hide that the next one is too low.
        let report_counter = hello.report_counter.max(made);
        device.hello = Some(Hello {
            report_counter,
            ..hello
        });
        device.touch(&self.revision);
        match (known, same) {
            (_, true) => None,
            (true, false) if readmitted => None,
            (true, false) => Some(Doubt::BootReturned),
            (false, false) => fell.or(crowded),
        }
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
            && let Some(sent) = device.sent.iter_mut().find(|sent| sent.is_of(&last.update))
        {
            sent.put_off();
        }
        device.last = Some(last.clone());
        device.progress.take_if(|progress| progress.update == last.update);
    }

    /// What devices run, and what they would go back to. A device can name 64 components and no more.
    pub(crate) fn held(&self) -> Held {
        let mut held = Held::default();
        for device in self.devices().values() {
            for state in device.hello.iter().flat_map(|hello| &hello.components) {
                held.digests.extend(state.digest);
                let versions = state.version.iter().chain(&state.previous);
                held.releases
                    .extend(versions.map(|version| (state.component.clone(), version.clone())));
            }
        }
        held
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
    use super::fixture::{fleet, hello};
    use super::*;
    use crate::fixture::name;

    const NOW: UnixTime = UnixTime(9_000);

    #[test]
    fn a_boot_id_that_comes_back_is_a_second_machine_and_nothing_else_is() {
        let fleet = fleet(&["pump"]);
        let pump = name("pump");
        // Ten thousand honest reconnects, reboots among them, counters late within a boot.
        for round in 0..10_000_u64 {
            let (boot, made) = (round / 100, 7 * (round / 100) + round % 7);
            // A machine that does not stay up and starts anew every quarter of a minute.
            let now = NOW.plus_seconds(15 * i64::try_from(boot).unwrap());
            let told = fleet.hello(&pump, hello(&format!("boot-{boot}"), made), now);
            assert_eq!(told, None, "round {round}");
        }
        assert_eq!(fleet.hello(&pump, hello("copy", 700), NOW), None);
        let back = fleet.hello(&pump, hello("boot-99", 700), NOW);
        assert_eq!(back, Some(Doubt::BootReturned));
        assert_eq!(
            fleet.hello(&pump, hello("copy", 700), NOW),
            Some(Doubt::BootReturned)
        );
    }

    #[test]
    fn a_copy_that_speaks_under_many_boot_ids_hides_nothing_by_it() {
        // As many as are remembered, so that the right machine's is forgotten; and a few less.
        for many in [limits::BOOTS_PER_DEVICE, limits::BOOTS_PER_DEVICE - 1] {
            let fleet = fleet(&["pump"]);
            let pump = name("pump");
            fleet.hello(&pump, hello("right", 7), NOW);
            let copy = |number| fleet.hello(&pump, hello(&format!("copy-{number}"), 7), NOW);
            let told: Vec<Doubt> = (0..many).filter_map(copy).collect();
            let back = fleet.hello(&pump, hello("right", 7), NOW);
            assert!(!told.is_empty() || back.is_some(), "{many} starts");
        }
    }

    #[test]
    fn a_machine_that_is_let_in_again_is_doubted_for_nothing_that_was_before() {
        let fleet = fleet(&["pump"]);
        let pump = name("pump");
        let say = |boot| fleet.hello(&pump, hello(boot, 7), NOW);
        assert_eq!((say("right"), say("copy")), (None, None));
        let since = Quarantine {
            since: NOW,
            reason: String::new(),
        };
        assert!(fleet.quarantine(&pump, Some(since)) && fleet.quarantine(&pump, None));
        assert_eq!(say("right"), None);
        // A copy that is there still is noticed as before.
        assert_eq!(say("copy"), Some(Doubt::BootReturned));
        // Also one that speaks first, and under a new one.
        assert!(fleet.quarantine(&pump, None));
        assert_eq!(
            (say("another copy"), say("right")),
            (None, Some(Doubt::BootReturned))
        );
    }

    #[test]
    fn a_machine_that_starts_anew_with_fewer_reports_is_a_copy() {
        let fleet = fleet(&["pump"]);
        let pump = name("pump");
        assert_eq!(fleet.hello(&pump, hello("one", 7), NOW), None);
        assert_eq!(fleet.hello(&pump, hello("one", 6), NOW), None, "it was only late");
        // What its reports say counts as much as its hello.
        fleet.reported(&pump, 9, &[], None);
        assert_eq!(fleet.hello(&pump, hello("two", 9), NOW), None);
        let fell = Doubt::CounterFell { from: 9, to: 8 };
        assert_eq!(fleet.hello(&pump, hello("three", 8), NOW), Some(fell));
    }

    #[test]
    fn a_machine_that_enrols_anew_is_not_taken_for_a_copy() {
        let fleet = fleet(&["pump"]);
        let pump = name("pump");
        fleet.hello(&pump, hello("other", 9), NOW);
        let enrolment = Enrolment {
            at: Some(UnixTime(5)),
            ..Enrolment::default()
        };
        fleet.put(pump.clone(), enrolment);
        assert_eq!(fleet.hello(&pump, hello("pump", 0), NOW), None);
    }
}
