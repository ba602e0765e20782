//! Who rolled which update back, and which updates are not offered any more.

use std::collections::HashMap;
use std::sync::{MutexGuard, PoisonError};

use protocol::device::DeviceOutcome;
use protocol::{Name, Outcome, UpdateId};

use super::orders::fits;
use super::{Device, Fleet};
use crate::catalog::{Catalog, Offer, Stopped};

impl Fleet {
    fn rollbacks(&self) -> MutexGuard<'_, HashMap<UpdateId, Vec<Name>>> {
        self.rollbacks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stops(&self) -> MutexGuard<'_, Stopped> {
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner)
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
}

/// Roll backs at which a release is stopped, of so many devices.
fn tolerated(devices: usize) -> usize {
    devices.div_ceil(20).max(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::name;
    use crate::fleet::fixture::{fleet, offer};

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
}
