//! `device apply --once`: one bounded run of the agent, for a timer or a script in the place of a service.
//!
//! Finishes or undoes what a crash left, takes the orders that the manager has, sees each of them through to its end
//! and stops looking after the device. Its programs run on: the next run, or `device run`, takes them over.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use protocol::control::DeviceEvent;
use protocol::device::Activity;
use protocol::{Outcome, UpdateId};
use release::{Component, Version};
use serde::Serialize;
use tokio::sync::broadcast::Receiver;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use crate::hub::Hub;
use crate::limits::{ONCE_ANSWER, ONCE_LIMIT, ONCE_LOOK, ONCE_REPORTS};
use crate::machine::Slot;
use crate::unit::Command;

/// How long such a run waits, and for what.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// For an answer of the manager, while there is nothing else to do.
    pub answer: Duration,
    /// For everything.
    pub whole: Duration,
    /// For the manager to take the last reports.
    pub reports: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            answer: ONCE_ANSWER,
            whole: ONCE_LIMIT,
            reports: ONCE_REPORTS,
        }
    }
}

/// How a run ended; of several orders the one that ended worst. The order of the variants is that of their weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Result {
    /// Nothing was ordered, nothing was left half done.
    NothingToDo,
    /// A release waits for its conditions, or for a person; the next run looks again.
    Waiting,
    /// What was ordered runs.
    Committed,
    /// An order was refused, and nothing was touched.
    Refused,
    /// A new version failed; the one before runs again.
    RolledBack,
    /// An order could not be followed, or what is installed does not run.
    Failed,
    /// The time was over before the end; the next run goes on.
    Unfinished,
    /// The manager did not answer in time.
    NoAnswer,
}

impl Result {
    /// The exit code: 0 where nothing changed, 9 where a release waits, 10 where all is well after a change, more where something is not.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::NothingToDo => 0,
            Self::Waiting => 9,
            Self::Committed => 10,
            Self::Refused => 11,
            Self::RolledBack => 12,
            Self::Failed => 13,
            Self::Unfinished => 14,
            Self::NoAnswer => 15,
        }
    }
}

impl From<Outcome> for Result {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Committed => Self::Committed,
            Outcome::Refused => Self::Refused,
            Outcome::RolledBack => Self::RolledBack,
            Outcome::Failed => Self::Failed,
        }
    }
}

/// One order's end, or one change's that an earlier agent began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct End {
    /// Component.
    pub component: Component,
    /// The version that was to run.
    pub version: Version,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, where it did not end well.
    pub reason: Option<String>,
}

/// What a run did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Applied {
    /// In one word.
    pub result: Result,
    /// Everything that ended.
    pub ended: Vec<End>,
    /// What waits, for what.
    pub waiting: Vec<String>,
    /// What is installed and does not run.
    pub failing: Vec<Component>,
    /// Reports that the manager has not taken yet: the next run hands them over.
    pub waiting_reports: usize,
    /// What is wrong with the connection, if anything.
    pub connection: String,
}

/// Everything that ended since the agent's start, by component and update.
struct Ends<'a> {
    hub: &'a Hub,
    lines: Receiver<DeviceEvent>,
    known: BTreeMap<(Component, UpdateId), End>,
}

impl<'a> Ends<'a> {
    fn new(hub: &'a Hub) -> Self {
        let (kept, lines) = hub.bus.watch();
        let mut ends = Self {
            hub,
            lines,
            known: BTreeMap::new(),
        };
        kept.into_iter().for_each(|line| ends.take(line));
        ends
    }

    fn take(&mut self, line: DeviceEvent) {
        let DeviceEvent::Step(event) = line else { return };
        let Some(outcome) = event.step.outcome() else {
            return;
        };
        let end = End {
            component: event.component.clone(),
            version: event.version,
            outcome,
            reason: event.reason,
        };
        // An order that ended may come again and be refused: how it ended first is what became of it.
        self.known.entry((event.component, event.update)).or_insert(end);
    }

    /// How many there are by now.
    fn count(&mut self) -> usize {
        use tokio::sync::broadcast::error::TryRecvError;
        loop {
            match self.lines.try_recv() {
                Ok(line) => self.take(line),
                Err(TryRecvError::Lagged(_)) => {
                    // What was lost is among the newest lines, which are kept.
                    let (kept, lines) = self.hub.bus.watch();
                    self.lines = lines;
                    kept.into_iter().for_each(|line| self.take(line));
                }
                Err(TryRecvError::Empty | TryRecvError::Closed) => return self.known.len(),
            }
        }
    }
}

/// Sees everything through that is under way or ordered, within `bounds`. The agent runs on until its owner ends it.
pub async fn apply(hub: &Arc<Hub>, bounds: Bounds) -> Applied {
    let mut ends = Ends::new(hub);
    let settled = timeout(bounds.whole, settle(hub, &mut ends, bounds.answer)).await;
    let reported = async {
        while hub.outbox.waiting() > 0 {
            sleep(ONCE_LOOK).await;
        }
    };
    if matches!(settled, Ok(Ok(()))) {
        timeout(bounds.reports, reported).await.ok();
    }
    if settled.is_err() {
        timeout(bounds.reports, put_off(hub)).await.ok();
    }
    ends.count();
    let ended: Vec<End> = ends.known.into_values().collect();
    let failing: Vec<Component> = hub
        .components()
        .into_iter()
        .filter(|state| state.activity == Activity::Failing)
        .map(|state| state.component)
        .collect();
    let unsettled = match settled {
        Ok(Ok(())) => None,
        Ok(Err(NoAnswer)) => Some(Result::NoAnswer),
        Err(_) => Some(Result::Unfinished),
    };
    let worst = ended.iter().map(|end| Result::from(end.outcome)).chain(unsettled);
    // What could not be written down yet; the next run tries again.
    let open = hub.generation.get().components;
    let waits = open.values().any(Slot::is_waiting);
    let open = open.values().any(|slot| !slot.is_at_rest());
    let worst = worst.chain(open.then_some(Result::Unfinished));
    let worst = worst.chain(waits.then_some(Result::Waiting));
    let worst = worst.chain((!failing.is_empty()).then_some(Result::Failed));
    let waiting = hub.components().into_iter();
    let waiting = waiting.filter_map(|state| Some(format!("{} {}", state.component, state.waiting?)));
    Applied {
        waiting: waiting.collect(),
        result: worst.max().unwrap_or(Result::NothingToDo),
        ended,
        failing,
        waiting_reports: hub.outbox.waiting(),
        connection: hub.link.get().problem,
    }
}

struct NoAnswer;

/// Until the manager, asked while nothing was under way, had nothing new.
async fn settle(
    hub: &Arc<Hub>,
    ends: &mut Ends<'_>,
    patience: Duration,
) -> std::result::Result<(), NoAnswer> {
    loop {
        rest(hub).await;
        let before = ends.count();
        let asked = hub.hellos.with(|hellos| hellos.asked);
        hub.hello_due.notify_one();
        let answered = async {
            // Of a question that was asked when this had ended already.
            while hub.hellos.with(|hellos| hellos.answered) <= asked {
                sleep(ONCE_LOOK).await;
            }
        };
        timeout(patience, answered).await.map_err(|_| NoAnswer)?;
        rest(hub).await;
        if ends.count() == before {
            return Ok(());
        }
    }
}

/// What is being prepared waits for the next run, and is not counted as cut off.
async fn put_off(hub: &Arc<Hub>) {
    for mailbox in hub.units.get().into_values() {
        let (reply, done) = oneshot::channel();
        mailbox.send(Command::PutOff(reply)).await.ok();
        done.await.ok();
    }
}

/// Until no component has anything under way.
async fn rest(hub: &Arc<Hub>) {
    loop {
        let mut all = true;
        for mailbox in hub.units.get().into_values() {
            let (reply, answer) = oneshot::channel();
            mailbox.send(Command::AtRest(reply)).await.ok();
            all &= answer.await.unwrap_or(false);
        }
        if all {
            return;
        }
        sleep(ONCE_LOOK).await;
    }
}
