//! What the window knows between two frames: the snapshot, what moves, what was asked. Moved by `logic`, drawn by `ui`.

use std::collections::BTreeMap;

use gui_kit::link::{Answer, News, View};
use gui_kit::text::fill;
use gui_kit::widgets::{EventLine, EventList, Meter, Notice, Toasts, Tone};
use protocol::control::{DeviceEvent, DeviceRequest, Level};
use protocol::{Event, Stamp, Step};
use release::{Component, Version};
use tuf::UnixTime;

use super::source::{AgentService, Snapshot};
use super::texts::Words;

/// The window's pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Page {
    /// What runs.
    #[default]
    Overview,
    /// What is on the way.
    Update,
    /// What was installed.
    History,
    /// What happened.
    Events,
    /// Who this device is.
    Device,
}

/// The "restart" look: the contents are cleared for a moment and come back with the new version. It shows what has
/// happened and delays nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Restart {
    /// Which component.
    pub component: Component,
    /// The version that comes.
    pub version: Version,
    /// When it began, on the window's clock, in seconds.
    since: f64,
    /// When it was over.
    over: Option<f64>,
}

/// Seconds that the restart look lasts: long enough to be seen, …
const LOOK_AT_LEAST: f64 = 0.9;
/// … a little beyond the restart's end, …
const LOOK_AFTER: f64 = 0.3;
/// … and not longer, whatever happens.
const LOOK_AT_MOST: f64 = 5.0;
/// A step older than this is no news any more.
const FRESH_NS: i64 = 3_000_000_000;

impl Restart {
    fn until(&self) -> f64 {
        let least = self.since + LOOK_AT_LEAST;
        let most = self.since + LOOK_AT_MOST;
        self.over
            .map_or(most, |over| (over + LOOK_AFTER).max(least).min(most))
    }
}

/// A download that has ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Downloaded {
    /// The version.
    pub version: Version,
    /// Its bytes.
    pub bytes: u64,
    /// Bytes that came over the wire and the seconds they took; none where the beginning was not seen.
    pub took: Option<(u64, f64)>,
}

/// A request that is not answered yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// A roll back to a version.
    RollBack(Component, Version),
    /// That a component may be updated again.
    Release(Component),
    /// That a release that waits is installed.
    Activate(Component),
}

/// What the window knows.
#[derive(Default)]
pub struct Model {
    /// The way to the agent; none while the device has not joined a site.
    pub view: Option<View<AgentService>>,
    /// The page that is open.
    pub page: Page,
    /// What happened.
    pub lines: EventList,
    /// Downloads under way.
    pub meters: BTreeMap<Component, Meter>,
    /// Downloads that have ended.
    pub downloaded: BTreeMap<Component, Downloaded>,
    /// The restart look, where it is on.
    pub restart: Option<Restart>,
    /// The roll back that a person is asked about: which, from, to.
    pub question: Option<(Component, Version, Version)>,
    /// Requests under way, by ticket.
    pub asked: BTreeMap<u64, Asked>,
    /// Requests to be sent.
    pub queue: Vec<Asked>,
    /// Requests that were refused; they stay until a person has closed them.
    pub refusals: Vec<Notice>,
    /// Short messages.
    pub toasts: Toasts,
    /// The person wants the agent looked for now.
    pub try_now: bool,
    began: BTreeMap<Component, Event>,
    /// When the stream of events began: what is older is told again.
    joined: Option<Stamp>,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model")
            .field("page", &self.page)
            .finish_non_exhaustive()
    }
}

impl Asked {
    /// The request.
    #[must_use]
    pub fn request(&self) -> DeviceRequest {
        match self.clone() {
            Self::RollBack(component, _) => DeviceRequest::Rollback { component },
            Self::Release(component) => DeviceRequest::Release { component },
            Self::Activate(component) => DeviceRequest::Activate {
                component,
                overriding: false,
            },
        }
    }

    fn component(&self) -> &Component {
        match self {
            Self::RollBack(component, _) | Self::Release(component) | Self::Activate(component) => component,
        }
    }
}

impl Model {
    /// The newest snapshot.
    #[must_use]
    pub fn snapshot(&self) -> Option<std::sync::Arc<Snapshot>> {
        self.view.as_ref().and_then(|view| view.snapshot.clone())
    }

    /// Whether a request about this component is under way.
    #[must_use]
    pub fn is_busy(&self, component: &Component) -> bool {
        let under_way = self.asked.values().chain(&self.queue);
        under_way.into_iter().any(|asked| asked.component() == component)
    }

    /// Takes the news of a frame at `now` (seconds of the window's clock), which is `stamp` on the machine's clocks.
    pub fn take(&mut self, news: News<DeviceEvent>, now: f64, stamp: &Stamp, words: &Words) {
        if news.restarted {
            self.lines.clear();
            self.restart = None;
            self.joined = Some(stamp.clone());
        }
        for event in news.events {
            match event {
                DeviceEvent::Message(message) => {
                    self.lines.push(EventLine {
                        at: message.at,
                        level: message.level,
                        text: message.text,
                    });
                }
                DeviceEvent::Step(step) => self.take_step(&step, now, stamp, words),
            }
        }
        for answer in news.answers {
            self.take_answer(answer, words);
        }
        self.follow_downloads(now);
        if self
            .restart
            .as_ref()
            .is_some_and(|restart| restart.until() <= now)
        {
            self.restart = None;
        }
    }

    /// Seconds until the restart look ends.
    #[must_use]
    pub fn look_left(&self, now: f64) -> Option<f64> {
        self.restart.as_ref().map(|restart| restart.until() - now)
    }

    fn take_step(&mut self, event: &Event, now: f64, stamp: &Stamp, words: &Words) {
        let joined = self.joined.as_ref();
        let fresh = stamp.since_ns(&event.at) < FRESH_NS
            && joined.is_some_and(|joined| event.at.since_ns(joined) >= 0);
        match event.step {
            Step::DownloadStarted => {
                self.downloaded.remove(&event.component);
                self.began.insert(event.component.clone(), event.clone());
            }
            Step::Downloaded => self.end_download(event),
            // The first install has nothing to stop: there it begins with the switch.
            Step::Stopping | Step::Switched if fresh && self.restart.is_none() => {
                // The steps of a roll back by hand are those of the update that it undoes.
                let back = self.asked.values().find_map(|asked| match asked {
                    Asked::RollBack(component, version) if *component == event.component => Some(version),
                    _ => None,
                });
                self.restart = Some(Restart {
                    component: event.component.clone(),
                    version: back.unwrap_or(&event.version).clone(),
                    since: now,
                    over: None,
                });
            }
            _ => {}
        }
        let over = event.step == Step::Healthy || event.step.outcome().is_some();
        if let Some(restart) = &mut self.restart
            && over
            && restart.component == event.component
        {
            restart.over.get_or_insert(now);
        }
        let text = match event.step {
            Step::Ordered => &words.event_ordered,
            Step::Stopping => &words.event_stopping,
            Step::Healthy => &words.event_healthy,
            Step::Withdrawn => &words.event_withdrawn,
            Step::Waiting => &words.event_waiting,
            _ => return,
        };
        let seconds = i64::try_from(event.at.wall_ns / 1_000_000_000).unwrap_or(i64::MAX);
        let text = fill(text, &[&event.component, &event.version]);
        self.lines.push(EventLine {
            at: UnixTime(seconds),
            level: Level::Info,
            text,
        });
    }

    fn end_download(&mut self, event: &Event) {
        let bytes = event.total.unwrap_or(0);
        let began = self
            .began
            .remove(&event.component)
            .filter(|began| began.update == event.update);
        let took = began.map(|began| {
            #[allow(clippy::cast_precision_loss, reason = "seconds for people")]
            let seconds = event.at.since_ns(&began.at).max(1) as f64 / 1e9;
            (bytes.saturating_sub(began.bytes.unwrap_or(0)), seconds)
        });
        let downloaded = Downloaded {
            version: event.version.clone(),
            bytes,
            took,
        };
        self.downloaded.insert(event.component.clone(), downloaded);
    }

    fn follow_downloads(&mut self, now: f64) {
        let Some(snapshot) = self.snapshot() else { return };
        for detail in &snapshot.status.details {
            let under_way = detail.last.as_ref().is_some_and(|last| {
                matches!(
                    last.step,
                    Step::DownloadStarted | Step::Downloading | Step::Downloaded
                )
            });
            let moved = detail.moved.as_ref().filter(|_| under_way);
            match moved.and_then(|event| Some((event.bytes?, event.total?))) {
                Some((bytes, total)) => {
                    let meter = self.meters.entry(detail.component.clone()).or_default();
                    meter.set(now, bytes, total);
                }
                None => drop(self.meters.remove(&detail.component)),
            }
        }
    }

    fn take_answer(&mut self, answer: Answer, words: &Words) {
        let Some(asked) = self.asked.remove(&answer.ticket) else {
            return;
        };
        match (answer.into::<()>(), &asked) {
            (Ok(()), Asked::RollBack(component, version)) => {
                let text = fill(&words.rolled_back, &[component, version]);
                self.toasts.push(Tone::Good, text);
            }
            (Ok(()), Asked::Release(component)) => {
                let text = fill(&words.released_again, &[component]);
                self.toasts.push(Tone::Good, text);
            }
            // What follows is seen.
            (Ok(()), Asked::Activate(_)) => {}
            (Err(error), asked) => self.refuse(asked, gui_kit::link::chain(&error), words),
        }
    }

    /// Notes that a request came to nothing.
    pub fn refuse(&mut self, asked: &Asked, why: String, words: &Words) {
        let what = match asked {
            Asked::RollBack(..) => &words.failed_roll_back,
            Asked::Release(_) => &words.failed_release,
            Asked::Activate(_) => &words.failed_activate,
        };
        self.refusals.push(Notice {
            tone: Tone::Bad,
            what: fill(what, &[asked.component()]),
            why,
            remedy: String::new(),
        });
        let surplus = self.refusals.len().saturating_sub(crate::limits::WINDOW_REFUSALS);
        self.refusals.drain(..surplus);
    }
}
