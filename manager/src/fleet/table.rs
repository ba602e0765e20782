//! The device table as windows and command lines see it, whole or by what has changed.

use std::sync::atomic::{AtomicU64, Ordering};

use protocol::control::{DevicePage, DeviceProgress, DeviceRow, WaitingRow};
use protocol::device::Waiting;
use protocol::{Event, Name, Step};
use release::Component;

use super::{Device, Fleet};
use crate::limits;

/// Why a device cannot be told that a release that waits is to be installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoWaiting {
    /// It is not on the list.
    Unknown,
    /// Nothing waits there.
    Nothing,
    /// It holds no event stream open.
    Away,
}

impl Fleet {
    /// An empty one; `start` tells this service's table from that of the one before it.
    pub(crate) fn new(start: u64) -> Self {
        Self {
            // Never 0, which means that the caller has none; far from its end.
            generation: AtomicU64::new((start >> 16) + 1),
            ..Self::default()
        }
    }

    /// The table, by name.
    pub(crate) fn rows(&self) -> Vec<DeviceRow> {
        let mut rows: Vec<DeviceRow> = self
            .devices()
            .iter()
            .map(|(name, device)| device.row(name))
            .collect();
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        rows
    }

    /// The rows that have changed since `revision`, oldest change first, as many as fit one page.
    pub(crate) fn since(&self, generation: u64, revision: u64) -> DevicePage {
        let devices = self.devices();
        let now = self.generation.load(Ordering::Acquire);
        let known = if generation == now { revision } else { 0 };
        let mut page = DevicePage {
            generation: now,
            revision: self.revision.load(Ordering::Acquire),
            rows: Vec::new(),
            more: false,
        };
        if known >= page.revision {
            return page;
        }
        let mut changed: Vec<(&Name, &Device)> = devices
            .iter()
            .filter(|(_, device)| device.changed > known)
            .collect();
        changed.sort_unstable_by_key(|(_, device)| device.changed);
        let mut bytes = 0;
        for (name, device) in changed {
            let row = device.row(name);
            bytes += serde_json::to_vec(&row).map_or(0, |text| text.len());
            if bytes > limits::PAGE_BYTES
                && let Some(last) = page.rows.last()
                && let Some(last) = devices.get(&last.name)
            {
                page.revision = last.changed;
                page.more = true;
                break;
            }
            page.rows.push(row);
        }
        page
    }

    /// What waits on devices, the first `most` by component and device, and how many there are.
    pub(crate) fn waiting(&self, most: usize) -> (Vec<WaitingRow>, usize) {
        let devices = self.devices();
        let mut rows: Vec<(&Component, &Name, &Waiting)> = devices
            .iter()
            .flat_map(|(name, device)| device.hello.iter().map(move |hello| (name, hello)))
            .flat_map(|(name, hello)| hello.components.iter().map(move |state| (name, state)))
            .filter_map(|(name, state)| Some((&state.component, name, state.waiting.as_ref()?)))
            .collect();
        rows.sort_unstable_by_key(|(component, name, _)| (*component, *name));
        let all = rows.len();
        let shown = rows
            .into_iter()
            .take(most)
            .map(|(component, device, waiting)| WaitingRow {
                device: device.clone(),
                component: component.clone(),
                waiting: waiting.clone(),
            });
        (shown.collect(), all)
    }

    /// What waits of a component on a device that is connected.
    pub(crate) fn waiting_on(&self, name: &Name, component: &Component) -> Result<Waiting, NoWaiting> {
        let devices = self.devices();
        let device = devices.get(name).ok_or(NoWaiting::Unknown)?;
        let mut states = device.hello.iter().flat_map(|hello| &hello.components);
        let state = states.find(|state| state.component == *component);
        let waiting = state.and_then(|state| state.waiting.clone());
        let waiting = waiting.ok_or(NoWaiting::Nothing)?;
        if device.streams.is_empty() {
            return Err(NoWaiting::Away);
        }
        Ok(waiting)
    }

    /// Takes a step towards or of a device. What comes late does not turn the clock back; a new order begins anew.
    pub(crate) fn progress(&self, name: &Name, event: &Event) {
        let mut devices = self.devices();
        let Some(device) = devices.get_mut(name) else {
            return;
        };
        let anew = matches!(event.step, Step::Offered | Step::Ordered | Step::DownloadStarted);
        let late = device
            .progress
            .as_ref()
            .is_some_and(|known| known.update == event.update && known.step > event.step);
        if late && !anew {
            return;
        }
        let next = event.step.outcome().is_none().then(|| DeviceProgress {
            update: event.update,
            component: event.component.clone(),
            version: event.version.clone(),
            step: event.step,
            bytes: event.bytes,
            total: event.total,
        });
        if device.progress != next {
            device.progress = next;
            device.touch(&self.revision);
        }
    }
}

impl Device {
    /// Its row has changed.
    pub(super) fn touch(&mut self, revision: &AtomicU64) {
        self.changed = revision.fetch_add(1, Ordering::AcqRel) + 1;
    }

    fn row(&self, name: &Name) -> DeviceRow {
        DeviceRow {
            name: name.clone(),
            enrolled: self.enrolment.at.is_some(),
            connected: !self.streams.is_empty(),
            address: self.address.map(|address| address.to_string()),
            last_seen: self.seen,
            certificate_until: self.enrolment.certificate_until,
            components: self
                .hello
                .as_ref()
                .map(|hello| hello.components.clone())
                .unwrap_or_default(),
            last: self.last.clone(),
            trouble: self.hello.as_ref().and_then(|hello| hello.trouble.clone()),
            progress: self.progress.clone(),
            quarantine: self.enrolment.quarantine.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use protocol::{Identity, Role, Stamp};

    use super::*;
    use crate::fleet::Enrolment;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    /// A caller that keeps the table by pages.
    #[derive(Default)]
    struct Caller {
        generation: u64,
        revision: u64,
        rows: BTreeMap<Name, DeviceRow>,
        pages: usize,
    }

    impl Caller {
        fn read(&mut self, fleet: &Fleet) -> usize {
            let mut taken = 0;
            loop {
                let page = fleet.since(self.generation, self.revision);
                if page.generation != self.generation {
                    self.rows.clear();
                }
                (self.generation, self.revision) = (page.generation, page.revision);
                taken += page.rows.len();
                self.rows
                    .extend(page.rows.into_iter().map(|row| (row.name.clone(), row)));
                self.pages += 1;
                if !page.more {
                    return taken;
                }
            }
        }
    }

    fn step(step: Step) -> Event {
        Event {
            update: "00000000000000000000000000000001".parse().unwrap(),
            actor: Identity {
                site: name("plant"),
                role: Role::Device,
                name: name("pump-0"),
            },
            step,
            component: "Demo".parse().unwrap(),
            version: "1.0".parse().unwrap(),
            device: None,
            at: Stamp {
                boot_id: "b".into(),
                ..mtls::stamp()
            },
            bytes: None,
            total: None,
            reason: None,
        }
    }

    #[test]
    fn a_caller_that_follows_changes_has_the_whole_table() {
        let fleet = Fleet::new(u64::MAX);
        for number in 0..10_000 {
            fleet.put(name(&format!("pump-{number}")), Enrolment::default());
        }
        let mut caller = Caller::default();
        assert_eq!(caller.read(&fleet), 10_000);
        assert!(caller.pages > 1, "ten thousand rows do not fit one answer");
        assert_eq!(caller.read(&fleet), 0, "nothing has changed");
        fleet.open_stream(&name("pump-7"), None).unwrap();
        assert_eq!(caller.read(&fleet), 1);
        assert!(caller.rows[&name("pump-7")].connected);
        fleet.remove(&name("pump-7"));
        caller.read(&fleet);
        assert_eq!(caller.rows.into_values().collect::<Vec<_>>(), fleet.rows());
    }

    /// As its device told it last: shown by component, counted beyond what is shown, and told to go only while connected.
    #[test]
    fn what_waits_on_devices_is_shown_and_counted() {
        let fleet = Fleet::new(0);
        let waiting = Waiting {
            update: "00000000000000000000000000000001".parse().unwrap(),
            version: "2.0.0".parse().unwrap(),
            since: tuf::UnixTime(0),
            waited_seconds: 7,
            fetched: true,
            asks: false,
            gateway_overrides: false,
            unmet: Vec::new(),
            until: None,
            hours: None,
            then: None,
        };
        let app: Component = "app".parse().unwrap();
        for number in 0..3 {
            let pump = name(&format!("pump-{number}"));
            fleet.put(pump.clone(), Enrolment::default());
            let mut hello = crate::fleet::fixture::hello("b", 0);
            hello.components = vec![protocol::device::ComponentState {
                component: app.clone(),
                version: None,
                digest: None,
                previous: None,
                activity: protocol::device::Activity::Empty,
                uptime_seconds: 0,
                bad: Vec::new(),
                held: false,
                waiting: (number > 0).then(|| waiting.clone()),
            }];
            fleet.hello(&pump, hello, tuf::UnixTime(0));
        }
        let (rows, all) = fleet.waiting(1);
        assert_eq!((rows.len(), all, rows[0].device.as_str()), (1, 2, "pump-1"));
        let (pump, idle) = (name("pump-1"), name("pump-0"));
        assert_eq!(fleet.waiting_on(&pump, &app), Err(NoWaiting::Away));
        assert_eq!(fleet.waiting_on(&idle, &app), Err(NoWaiting::Nothing));
        assert_eq!(fleet.waiting_on(&name("x"), &app), Err(NoWaiting::Unknown));
        let _stream = fleet.open_stream(&pump, None).unwrap();
        assert_eq!(fleet.waiting_on(&pump, &app), Ok(waiting));
    }

    #[test]
    fn a_step_that_comes_late_does_not_turn_progress_back() {
        let fleet = Fleet::new(0);
        let pump = name("pump-0");
        fleet.put(pump.clone(), Enrolment::default());
        let shown = || fleet.rows()[0].progress.as_ref().map(|progress| progress.step);
        for (told, seen) in [
            (Step::Offered, Some(Step::Offered)),
            (Step::Verified, Some(Step::Verified)),
            (Step::Sent, Some(Step::Verified)),
            (Step::Ordered, Some(Step::Ordered)),
            (Step::Staged, Some(Step::Staged)),
            (Step::Committed, None),
        ] {
            fleet.progress(&pump, &step(told));
            assert_eq!(shown(), seen, "after {told}");
        }
    }
}
