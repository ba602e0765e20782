//! Steps as they happen: to whoever watches here, and to the manager.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use protocol::control::{DeviceEvent, Level, LoggedMessage};
use protocol::messages::Message;
use protocol::{Event, Identity, Step};
use release::{Component, Version};
use tokio::sync::{broadcast, mpsc};
use tuf::UnixTime;

use crate::limits::{KEPT_EVENTS, MAX_ATTEMPT_EVENTS, MAX_WAITING_PROGRESS, WATCH_LAG};
use crate::records;
use crate::sync::Shared;

/// Where steps and messages are told.
#[derive(Debug)]
pub struct Bus {
    me: Identity,
    kept: Shared<Kept>,
    watchers: broadcast::Sender<DeviceEvent>,
    progress: mpsc::Sender<Event>,
}

/// What is known to who comes later.
#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<DeviceEvent>,
    newest: BTreeMap<Component, Newest>,
}

/// The newest of one component.
#[derive(Debug, Clone, Default)]
pub struct Newest {
    /// Its newest step.
    pub last: Option<Event>,
    /// The newest that moved bytes.
    pub moved: Option<Event>,
}

impl Bus {
    /// A bus for the steps of `me`; the receiver gets what is to be told to the manager.
    #[must_use]
    pub fn new(me: Identity) -> (Arc<Self>, mpsc::Receiver<Event>) {
        let (progress, waiting) = mpsc::channel(MAX_WAITING_PROGRESS);
        let (watchers, _) = broadcast::channel(WATCH_LAG);
        (
            Arc::new(Self {
                me,
                kept: Shared::default(),
                watchers,
                progress,
            }),
            waiting,
        )
    }

    /// Tells a step. What nobody can take at once is dropped: the report has it too.
    pub fn tell(&self, event: &Event) {
        self.keep(DeviceEvent::Step(event.clone()));
        self.progress.try_send(event.clone()).ok();
    }

    /// Tells a person one of the document's messages, in the log and in the window.
    pub fn say(&self, message: &Message, fact: impl std::fmt::Display) {
        records::say(message, &fact);
        self.keep_message(message, Level::Info, message.with(fact));
    }

    /// [`Self::say`] for what went wrong, and why.
    pub fn warn(&self, message: &Message, fact: impl std::fmt::Display, reason: &str) {
        records::warn(message, &fact, reason);
        let text = format!("{} ({})", message.with(fact), shorten(reason));
        self.keep_message(message, Level::Warning, text);
    }

    fn keep_message(&self, message: &Message, level: Level, text: String) {
        let seconds = mtls::stamp().wall_ns / 1_000_000_000;
        self.keep(DeviceEvent::Message(LoggedMessage {
            at: UnixTime(i64::try_from(seconds).unwrap_or(i64::MAX)),
            level,
            id: message.id.to_owned(),
            text,
        }));
    }

    /// Under one lock with [`Self::watch`], so that nobody sees a line twice or misses one.
    fn keep(&self, line: DeviceEvent) {
        self.kept.with(|kept| {
            if let DeviceEvent::Step(event) = &line {
                let newest = kept.newest.entry(event.component.clone()).or_default();
                if event.total.is_some() {
                    newest.moved = Some(event.clone());
                }
                newest.last = Some(event.clone());
            }
            // Of a download's progress only the newest is worth its room.
            if kept.lines.back().is_some_and(|last| replaces(&line, last)) {
                kept.lines.pop_back();
            }
            if kept.lines.len() >= KEPT_EVENTS {
                kept.lines.pop_front();
            }
            kept.lines.push_back(line.clone());
            self.watchers.send(line).ok();
        });
    }

    /// The newest lines, oldest first, and those to come.
    #[must_use]
    pub fn watch(&self) -> (Vec<DeviceEvent>, broadcast::Receiver<DeviceEvent>) {
        self.kept
            .with(|kept| (kept.lines.iter().cloned().collect(), self.watchers.subscribe()))
    }

    /// The newest steps of a component.
    #[must_use]
    pub fn newest(&self, component: &Component) -> Newest {
        self.kept
            .with(|kept| kept.newest.get(component).cloned().unwrap_or_default())
    }

    /// Who tells them.
    #[must_use]
    pub fn me(&self) -> &Identity {
        &self.me
    }
}

fn replaces(line: &DeviceEvent, last: &DeviceEvent) -> bool {
    let (DeviceEvent::Step(line), DeviceEvent::Step(last)) = (line, last) else {
        return false;
    };
    line.step == Step::Downloading && last.step == Step::Downloading && line.update == last.update
}

/// Tells the steps of one attempt and collects them for its report.
#[derive(Debug)]
pub struct Teller {
    bus: Arc<Bus>,
    update: protocol::UpdateId,
    component: Component,
    version: Version,
    told: Shared<Vec<Event>>,
}

impl Teller {
    /// For an attempt at `version`; `told`: what was told before a restart.
    #[must_use]
    pub fn new(
        bus: Arc<Bus>,
        update: protocol::UpdateId,
        component: Component,
        version: Version,
        told: Vec<Event>,
    ) -> Self {
        Self {
            bus,
            update,
            component,
            version,
            told: Shared::new(told),
        }
    }

    /// Tells a step.
    pub fn tell(&self, step: Step) {
        self.tell_all(step, None, None, None);
    }

    /// Tells a step with its reason.
    pub fn tell_why(&self, step: Step, reason: &str) {
        self.tell_all(step, None, None, Some(reason));
    }

    /// Tells a step that moved `bytes` of `total`.
    pub fn tell_bytes(&self, step: Step, bytes: u64, total: u64) {
        self.tell_all(step, Some(bytes), Some(total), None);
    }

    fn tell_all(&self, step: Step, bytes: Option<u64>, total: Option<u64>, reason: Option<&str>) {
        let event = Event {
            update: self.update,
            actor: self.bus.me.clone(),
            step,
            component: self.component.clone(),
            version: self.version.clone(),
            device: None,
            at: mtls::stamp(),
            bytes,
            total,
            reason: reason.map(shorten),
        };
        self.bus.tell(&event);
        // Progress is thinned out of the report: start and end say it all.
        if step != Step::Downloading {
            self.told.with(|told| {
                if told.len() < MAX_ATTEMPT_EVENTS || step.outcome().is_some() {
                    told.push(event);
                }
            });
        }
    }

    /// The steps told so far.
    #[must_use]
    pub fn told(&self) -> Vec<Event> {
        self.told.get()
    }
}

/// A reason as long as reasons may be.
#[must_use]
pub fn shorten(reason: &str) -> String {
    reason.chars().take(protocol::limits::MAX_REASON).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(step: Step, bytes: u64) -> Event {
        Event {
            update: "00000000000000000000000000000001".parse().unwrap(),
            actor: "drover://plant/device/pump-7".parse().unwrap(),
            step,
            component: "thermostat".parse().unwrap(),
            version: "1.0.0".parse().unwrap(),
            device: None,
            at: mtls::stamp(),
            bytes: Some(bytes),
            total: Some(100),
            reason: None,
        }
    }

    #[test]
    fn a_long_download_pushes_nothing_else_out_and_its_newest_figure_is_known() {
        let (bus, _progress) = Bus::new("drover://plant/device/pump-7".parse().unwrap());
        bus.say(&protocol::messages::CONNECTED, "");
        for bytes in 0..2 * KEPT_EVENTS as u64 {
            bus.tell(&step(Step::Downloading, bytes));
        }
        bus.warn(&protocol::messages::CONNECT_FAILED, "", "no route");
        let (lines, _) = bus.watch();
        let DeviceEvent::Message(first) = &lines[0] else {
            panic!("{lines:?}")
        };
        assert_eq!(first.text, "Connect server successful");
        let DeviceEvent::Message(last) = &lines[2] else {
            panic!("{lines:?}")
        };
        assert_eq!(last.text, "Connect server fail! (no route)");
        assert_eq!((lines.len(), last.level), (3, Level::Warning));
        let newest = bus.newest(&"thermostat".parse().unwrap());
        assert_eq!(newest.moved.unwrap().bytes, Some(2 * KEPT_EVENTS as u64 - 1));
    }

    #[test]
    fn lines_are_bounded() {
        let (bus, _progress) = Bus::new("drover://plant/device/pump-7".parse().unwrap());
        for bytes in 0..2 * KEPT_EVENTS as u64 {
            bus.tell(&step(Step::DownloadStarted, bytes));
        }
        assert_eq!(bus.watch().0.len(), KEPT_EVENTS);
    }
}
