//! What happens, for people who watch: a bounded ring of steps and messages, and alarms.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use protocol::control::{Level, LoggedMessage, ManagerEvent};
use protocol::messages::Message;
use protocol::{Event, Name, Role};
use tokio::sync::broadcast;
use tracing::{error, info, warn};
use tuf::{Digest, UnixTime};

use crate::limits;

/// The ring, the watchers and the alarms.
#[derive(Debug)]
pub struct Journal {
    inner: Mutex<Inner>,
    watchers: broadcast::Sender<ManagerEvent>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Oldest first.
    kept: VecDeque<Kept>,
    /// How many of them are about each device.
    shares: HashMap<Name, usize>,
    /// The keys of the devices' steps that are kept: a fleet tells many, and each is looked up.
    told: HashSet<Digest>,
    /// Key, text; newest last.
    alarms: VecDeque<(String, String)>,
    /// Addresses from where somebody tries to join without a code; newest last.
    strangers: VecDeque<String>,
    /// What is said sparsely: when it was last said, and how often it has happened since.
    sparse: HashMap<String, (UnixTime, u64)>,
}

/// A step or a message that is kept.
#[derive(Debug)]
struct Kept {
    event: ManagerEvent,
    /// The key of a device's step.
    key: Option<Digest>,
    /// The device that made it happen.
    device: Option<Name>,
}

impl Inner {
    /// Makes room for an event: of one device's many its own oldest goes, so that it hides nobody else's.
    fn make_room(&mut self, device: Option<&Name>) {
        let has = device
            .and_then(|device| self.shares.get(device))
            .copied()
            .unwrap_or(0);
        let gone = if has >= limits::KEPT_OF_ONE_DEVICE {
            let own = self.kept.iter().position(|kept| kept.device.as_ref() == device);
            own.and_then(|at| self.kept.remove(at))
        } else if self.kept.len() >= limits::KEPT_EVENTS {
            self.kept.pop_front()
        } else {
            None
        };
        let Some(gone) = gone else { return };
        if let Some(key) = gone.key {
            self.told.remove(&key);
        }
        if let Some(device) = gone.device
            && let Some(share) = self.shares.get_mut(&device)
        {
            *share -= 1;
            if *share == 0 {
                self.shares.remove(&device);
            }
        }
    }
}

impl Default for Journal {
    fn default() -> Self {
        Self::new()
    }
}

impl Journal {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        let (watchers, _) = broadcast::channel(limits::WATCH_BACKLOG);
        Self {
            inner: Mutex::default(),
            watchers,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, event: ManagerEvent, key: Option<Digest>, device: Option<Name>) {
        let mut inner = self.lock();
        inner.make_room(device.as_ref());
        if let Some(device) = &device {
            *inner.shares.entry(device.clone()).or_default() += 1;
        }
        inner.kept.push_back(Kept {
            event: event.clone(),
            key,
            device,
        });
        // Sent under the lock: a watcher that starts now gets each event once. No receiver is no error.
        let _ = self.watchers.send(event);
    }

    /// A step of an update.
    pub fn step(&self, event: Event) {
        self.tell(event, None);
    }

    fn tell(&self, event: Event, key: Option<Digest>) {
        info!(
            target: "drover",
            update = %event.update, step = %event.step, actor = %event.actor, component = %event.component,
            version = %event.version, device = event.device.as_ref().map(tracing::field::display),
            reason = event.reason.as_deref(), "step"
        );
        let own = (event.actor.role == Role::Device).then(|| event.actor.name.clone());
        let device = own.or_else(|| event.device.clone());
        self.push(ManagerEvent::Step(event), key, device);
    }

    /// A device's step: told once, whether progress or the signed report brought it first.
    pub fn device_step(&self, event: Event) {
        // A plain structure: it has a JSON form.
        let key = Digest::of(&serde_json::to_vec(&event).unwrap_or_default());
        if self.lock().told.insert(key) {
            self.tell(event, Some(key));
        }
    }

    /// One of the document's messages, with `fact` in its gap and `detail` behind it.
    pub fn say(&self, at: UnixTime, level: Level, message: Message, fact: &str, detail: &str) {
        self.message(at, level, message.id, in_words(message, fact, detail));
    }

    /// The same about what a device did, in its share of what is kept.
    pub fn say_of(&self, device: &Name, at: UnixTime, message: Message, fact: &str, detail: &str) {
        let text = in_words(message, fact, detail);
        self.log(at, Level::Info, message.id, text, Some(device.clone()));
    }

    /// The same for what a peer can make happen as often as it likes: see [`Self::message_sparsely`].
    pub fn say_sparsely(&self, at: UnixTime, level: Level, message: Message, detail: &str) {
        self.sparsely(
            at,
            level,
            message.id,
            detail,
            &format!("{} ({detail}", message.with("")),
            ")",
        );
    }

    /// Any message that a peer can make happen as often as it likes: each text once in [`limits::SAY_AGAIN`] seconds,
    /// with how often it has happened meanwhile.
    pub fn message_sparsely(&self, at: UnixTime, level: Level, id: &str, text: &str) {
        self.sparsely(at, level, id, text, text, "");
    }

    /// `start` and `end`, and between them how often `key` has happened since it was last said.
    fn sparsely(&self, at: UnixTime, level: Level, id: &str, key: &str, start: &str, end: &str) {
        match self.missed(at, key) {
            None => {}
            Some(0) => self.message(at, level, id, format!("{start}{end}")),
            Some(missed) => {
                let text = format!("{start}; {missed} times more since the last line{end}");
                self.message(at, level, id, text);
            }
        }
    }

    /// Whether something is to be said now, and how often it has happened since it was last said.
    fn missed(&self, at: UnixTime, key: &str) -> Option<u64> {
        let mut inner = self.lock();
        let sparse = &mut inner.sparse;
        let recent = |said: &UnixTime| (0..limits::SAY_AGAIN).contains(&at.seconds_since(*said));
        if let Some((said, missed)) = sparse.get_mut(key)
            && recent(said)
        {
            *missed += 1;
            return None;
        }
        if sparse.len() >= limits::SPARSE_TEXTS {
            sparse.retain(|_, (said, _)| recent(said));
        }
        if sparse.len() >= limits::SPARSE_TEXTS {
            return None;
        }
        let before = sparse.insert(key.to_owned(), (at, 0));
        Some(before.map_or(0, |(_, missed)| missed))
    }

    /// Any message, under a stable id.
    pub fn message(&self, at: UnixTime, level: Level, id: &str, text: String) {
        self.log(at, level, id, text, None);
    }

    /// The same about what a device did, in its share of what is kept.
    pub fn message_of(&self, device: &Name, at: UnixTime, level: Level, id: &str, text: String) {
        self.log(at, level, id, text, Some(device.clone()));
    }

    fn log(&self, at: UnixTime, level: Level, id: &str, text: String, device: Option<Name>) {
        match level {
            Level::Info => info!(target: "drover", id, "{text}"),
            Level::Warning => warn!(target: "drover", id, "{text}"),
            Level::Error => error!(target: "drover", id, "{text}"),
        }
        let message = LoggedMessage {
            at,
            level,
            id: id.to_owned(),
            text,
        };
        self.push(ManagerEvent::Message(message), None, device);
    }

    /// Raises an alarm; one with the same key is replaced. Says so once, and gives whether it was new.
    pub fn alarm(&self, at: UnixTime, key: &str, text: &str) -> bool {
        {
            let mut inner = self.lock();
            let known = inner
                .alarms
                .iter()
                .any(|(other, old)| other == key && old == text);
            if known {
                return false;
            }
            inner.alarms.retain(|(other, _)| other != key);
            if inner.alarms.len() >= limits::ALARMS {
                inner.alarms.pop_front();
            }
            inner.alarms.push_back((key.to_owned(), text.to_owned()));
        }
        let id = key.split(':').next().unwrap_or(key);
        self.message(at, Level::Error, &format!("manager.alarm.{id}"), text.to_owned());
        true
    }

    /// Raises the alarm about somebody who tries to join without a code, by his address: in a class of its own, that
    /// takes no other alarm's place, and with one line in a while, however many addresses he has.
    pub fn stranger(&self, at: UnixTime, address: &str) {
        {
            let mut inner = self.lock();
            inner.strangers.retain(|known| known != address);
            if inner.strangers.len() >= limits::STRANGERS {
                inner.strangers.pop_front();
            }
            inner.strangers.push_back(address.to_owned());
        }
        let key = "too many attempts to enrol";
        let start = format!("too many attempts to enrol, the last from {address}");
        self.sparsely(at, Level::Error, "manager.alarm.enroll", key, &start, "");
    }

    /// Ends the alarm about an address: a device has joined from there.
    pub fn clear_stranger(&self, address: &str) {
        self.lock().strangers.retain(|known| known != address);
    }

    /// Ends an alarm.
    pub fn clear(&self, key: &str) {
        self.lock().alarms.retain(|(other, _)| other != key);
    }

    /// Ends the alarms about one device: it is gone, or has enrolled anew.
    pub fn clear_device(&self, device: &Name) {
        for about in ["twice", "enroll", "report"] {
            self.clear(&format!("{about}:{device}"));
        }
    }

    /// The alarms, newest last; the one about strangers first.
    #[must_use]
    pub fn alarms(&self) -> Vec<String> {
        let inner = self.lock();
        let known: Vec<&str> = inner.strangers.iter().map(String::as_str).collect();
        let strangers =
            (!known.is_empty()).then(|| format!("too many attempts to enrol from {}", known.join(", ")));
        let others = inner.alarms.iter().map(|(_, text)| text.clone());
        strangers.into_iter().chain(others).collect()
    }

    /// The text of one alarm.
    #[must_use]
    pub fn alarm_of(&self, key: &str) -> Option<String> {
        let inner = self.lock();
        let found = inner.alarms.iter().find(|(other, _)| other == key);
        found.map(|(_, text)| text.clone())
    }

    /// What is kept, oldest first, and everything from now on.
    #[must_use]
    pub fn watch(&self) -> (Vec<ManagerEvent>, broadcast::Receiver<ManagerEvent>) {
        let inner = self.lock();
        let kept = inner.kept.iter().map(|kept| kept.event.clone()).collect();
        (kept, self.watchers.subscribe())
    }
}

/// A message with `fact` in its gap and `detail` behind it.
fn in_words(message: Message, fact: &str, detail: &str) -> String {
    let mut text = message.with(fact);
    if !detail.is_empty() {
        text.push_str(" (");
        text.push_str(detail);
        text.push(')');
    }
    text
}

#[cfg(test)]
mod tests {
    use protocol::messages;

    use super::*;

    #[test]
    fn the_ring_keeps_the_newest_and_a_watcher_gets_each_event_once() {
        let journal = Journal::new();
        for number in 0..limits::KEPT_EVENTS + 5 {
            journal.say(UnixTime(0), Level::Info, messages::SENT, &number.to_string(), "");
        }
        let (kept, mut later) = journal.watch();
        assert_eq!(kept.len(), limits::KEPT_EVENTS);
        let ManagerEvent::Message(first) = &kept[0] else {
            panic!("a step")
        };
        assert_eq!(first.text, "Send 5 successful!");
        assert!(later.try_recv().is_err());
        journal.say(UnixTime(0), Level::Info, messages::LISTENING, "", "");
        assert!(matches!(later.try_recv(), Ok(ManagerEvent::Message(m)) if m.id == "manager.listening"));
    }

    fn step_of(device: &str, boot: usize) -> Event {
        Event {
            update: protocol::UpdateId::from_random([7; 16]),
            actor: protocol::Identity {
                site: "plant".parse().unwrap(),
                role: Role::Device,
                name: device.parse().unwrap(),
            },
            step: protocol::Step::Staged,
            component: "app".parse().unwrap(),
            version: "1.0".parse().unwrap(),
            device: None,
            at: protocol::Stamp {
                wall_ns: 0,
                boot_ns: 0,
                boot_id: boot.to_string(),
            },
            bytes: None,
            total: None,
            reason: None,
        }
    }

    #[test]
    fn one_device_hides_nobody_elses_events() {
        let journal = Journal::new();
        let (pump, at) = ("pump".parse().unwrap(), UnixTime(0));
        journal.say(at, Level::Info, messages::LISTENING, "", "");
        for boot in 0..5 {
            journal.device_step(step_of("valve", boot));
        }
        for boot in 0..2 * limits::KEPT_EVENTS {
            journal.device_step(step_of("pump", boot));
            journal.say_of(&pump, at, messages::AUTHENTICATED, "", "pump");
            // What the gateway tells because of it, too.
            let mut offered = step_of("gateway", boot);
            offered.actor.role = Role::Manager;
            offered.device = Some(pump.clone());
            journal.step(offered);
        }
        let kept = journal.watch().0;
        assert_eq!(kept.len(), 1 + 5 + limits::KEPT_OF_ONE_DEVICE);
        assert!(matches!(&kept[0], ManagerEvent::Message(said) if said.id == messages::LISTENING.id));
        for (boot, event) in kept[1..6].iter().enumerate() {
            assert!(matches!(event, ManagerEvent::Step(step) if *step == step_of("valve", boot)));
        }
        let inner = journal.lock();
        let shares: usize = inner.shares.values().sum();
        assert_eq!((inner.shares.len(), shares), (2, kept.len() - 1));
        assert!(inner.told.len() <= kept.len());
    }

    #[test]
    fn a_devices_step_is_told_once_while_it_is_kept() {
        let journal = Journal::new();
        let step = |boot: usize| step_of("pump", boot);
        let kept = || journal.watch().0.len();
        for boot in [1, 2, 1, 2, 1] {
            journal.device_step(step(boot));
        }
        assert_eq!(kept(), 2);
        for boot in 10..10 + limits::KEPT_EVENTS {
            journal.device_step(step(boot));
        }
        assert_eq!(
            (kept(), journal.lock().told.len()),
            (limits::KEPT_OF_ONE_DEVICE, limits::KEPT_OF_ONE_DEVICE)
        );
        let told = || matches!(journal.watch().0.last(), Some(ManagerEvent::Step(last)) if *last == step(1));
        assert!(!told());
        journal.device_step(step(1));
        assert!(told(), "nobody remembers that it was told");
    }

    #[test]
    fn what_a_peer_repeats_fills_no_list() {
        let journal = Journal::new();
        for second in [0, 1, 2, 59, 60] {
            journal.say_sparsely(
                UnixTime(second),
                Level::Warning,
                messages::AUTHENTICATION_FAILED,
                "pump",
            );
        }
        let kept = journal.watch().0;
        assert_eq!(kept.len(), 2);
        assert!(matches!(&kept[1], ManagerEvent::Message(said) if said.text.contains("3 times more")));
        for name in 0..2 * limits::SPARSE_TEXTS {
            journal.say_sparsely(
                UnixTime(61),
                Level::Warning,
                messages::AUTHENTICATION_FAILED,
                &name.to_string(),
            );
        }
        assert!(journal.lock().sparse.len() <= limits::SPARSE_TEXTS);
    }

    #[test]
    fn strangers_take_no_other_alarms_place() {
        let journal = Journal::new();
        for number in 0..limits::ALARMS {
            journal.alarm(UnixTime(0), &format!("x:{number}"), "look here");
        }
        for number in 0..1_000 {
            journal.stranger(UnixTime(1), &format!("10.0.{}.{}", number / 256, number % 256));
        }
        let alarms = journal.alarms();
        assert_eq!(alarms.len(), 1 + limits::ALARMS);
        let newest: Vec<String> = (1_000 - limits::STRANGERS..1_000)
            .map(|number| format!("10.0.{}.{}", number / 256, number % 256))
            .collect();
        assert_eq!(
            alarms[0],
            format!("too many attempts to enrol from {}", newest.join(", "))
        );
        assert_eq!(
            journal.watch().0.len(),
            limits::ALARMS + 1,
            "one line for all of them"
        );
        for address in newest {
            journal.clear_stranger(&address);
        }
        assert_eq!(journal.alarms().len(), limits::ALARMS);
    }

    #[test]
    fn the_same_alarm_is_said_once() {
        let journal = Journal::new();
        journal.alarm(UnixTime(0), "x:1", "look here");
        journal.alarm(UnixTime(0), "x:1", "look here");
        assert_eq!(journal.alarms(), ["look here"]);
        assert_eq!(journal.watch().0.len(), 1);
        journal.clear("x:1");
        assert!(journal.alarms().is_empty());
    }
}
