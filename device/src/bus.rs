//! Steps as they happen: to whoever watches here, and to the manager.

use std::collections::VecDeque;
use std::sync::Arc;

use protocol::{Event, Identity, Step};
use release::{Component, Version};
use tokio::sync::{broadcast, mpsc};

use crate::limits::{KEPT_EVENTS, MAX_ATTEMPT_EVENTS, MAX_WAITING_PROGRESS, WATCH_LAG};
use crate::sync::Shared;

/// Where steps are told.
#[derive(Debug)]
pub struct Bus {
    me: Identity,
    kept: Shared<VecDeque<Event>>,
    watchers: broadcast::Sender<Event>,
    progress: mpsc::Sender<Event>,
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
        self.kept.with(|kept| {
            if kept.len() >= KEPT_EVENTS {
                kept.pop_front();
            }
            kept.push_back(event.clone());
        });
        self.watchers.send(event.clone()).ok();
        self.progress.try_send(event.clone()).ok();
    }

    /// The newest steps, oldest first, and those to come.
    #[must_use]
    pub fn watch(&self) -> (Vec<Event>, broadcast::Receiver<Event>) {
        let coming = self.watchers.subscribe();
        (self.kept.with(|kept| kept.iter().cloned().collect()), coming)
    }

    /// Who tells them.
    #[must_use]
    pub fn me(&self) -> &Identity {
        &self.me
    }
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
