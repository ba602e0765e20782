//! Desired and reported, compared: the orders that each device should get now.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use protocol::device::{Activity, ComponentState, Hello, Order};
use protocol::{Name, UpdateId};
use release::Component;

use super::{Device, Fleet, Push};
use crate::catalog::{Catalog, Offer, Stopped};
use crate::limits;

/// When an order was sent, and how often it did not work out.
#[derive(Debug)]
pub(super) struct Sent {
    update: UpdateId,
    at: Instant,
    wait: Duration,
}

impl Sent {
    pub(super) fn is_of(&self, update: &UpdateId) -> bool {
        self.update == *update
    }

    /// The device refused it, or it did not work out: it is sent again later each time.
    pub(super) fn put_off(&mut self) {
        self.at = Instant::now();
        self.wait = (self.wait * 2).clamp(limits::ORDER_RETRY, limits::ORDER_RETRY_MAX);
    }
}

/// An order that was sent, for the record.
#[derive(Debug)]
pub(crate) struct Ordered {
    pub(crate) device: Name,
    pub(crate) offer: Offer,
}

impl Fleet {
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
}

impl Device {
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

/// Whether a release is for this device.
pub(super) fn fits(offer: &Offer, hello: &Hello) -> bool {
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
    let waits = state
        .waiting
        .as_ref()
        .is_some_and(|waiting| waiting.update == offer.update);
    idle && newer && !waits && !state.held && !state.bad.contains(&offer.digest)
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

#[cfg(test)]
mod tests {
    use release::Arch;

    use super::*;
    use crate::fleet::fixture::{hello, offer};

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
            waiting: None,
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
