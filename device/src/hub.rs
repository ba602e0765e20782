//! What all parts of a running agent share.

use std::collections::BTreeMap;
use std::sync::Arc;

use durable::Store;
use mtls::Clock;
use protocol::control::{About, BadRelease, ComponentDetail, DeviceStatus, InstallEntry};
use protocol::device::{Activity, ComponentState, Hello, Order, Waiting};
use protocol::limits::MAX_COMPONENTS;
use protocol::{Event, Identity, Outcome, Report, Step, UpdateId, messages};
use release::{Component, Release, Version};
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::{JoinError, JoinSet, spawn_blocking};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tuf::{Digest, UnixTime};

use crate::bus::{Bus, Teller, shorten};
use crate::generation::GenerationStore;
use crate::launcher::slots::SlotRecord;
use crate::layout::Layout;
use crate::limits::{MAX_TOLD_CONDITIONS, MAX_WAITING_COMMANDS};
use crate::machine::{HandedOver, Slot};
use crate::machine_info;
use crate::manager::Manager;
use crate::records::InstallLog;
use crate::reports::{Outbox, ReportFault};
use crate::settings::Settings;
use crate::sync::Shared;
use crate::trust::Trust;
use crate::unit::{Command, Unit};
use crate::world::{CutOff, World};

/// What all parts of a running agent share.
#[derive(Debug)]
pub struct Hub {
    /// Where things lie.
    pub layout: Layout,
    /// device.toml.
    pub settings: Settings,
    /// Clock, randomness, disk.
    pub world: World,
    /// Who this device is.
    pub me: Identity,
    /// What runs and where its life stands.
    pub generation: GenerationStore,
    /// What is believed.
    pub trust: Trust,
    /// The manager.
    pub manager: Manager,
    /// Downloaded files.
    pub store: Store,
    /// Steps as they happen.
    pub bus: Arc<Bus>,
    /// Signed reports.
    pub outbox: Outbox,
    /// The install record.
    pub log: InstallLog,
    /// Rung when a hello is due before its time.
    pub hello_due: Notify,
    /// Counts reasons for what waits to be looked at again: an interlock, newer metadata, an answer of the manager.
    pub wake: watch::Sender<u64>,
    /// What waits here and is held back by the manager, and why, as it said last.
    pub(crate) held_back: Shared<BTreeMap<UpdateId, String>>,
    /// How often the manager was asked and has answered.
    pub(crate) hellos: Shared<Hellos>,
    /// Rung once, when the control socket is open or cannot be opened for now.
    pub listening: Notify,
    /// How the connection is.
    pub link: Shared<Link>,
    /// Cancelled when the agent shall end.
    pub shutdown: CancellationToken,
    /// Which agent is started, for the launcher.
    pub slots: SlotRecord,
    /// Cancelled when the agent shall end for another one; the programs run on.
    pub leave: CancellationToken,
    /// Whether this agent has yet to prove itself: it begins nothing new before.
    pub on_trial: Shared<bool>,
    /// Everything that runs in the background.
    pub tasks: Shared<JoinSet<()>>,
    /// Where a test's cut ended a unit.
    pub cut: watch::Sender<Option<CutOff>>,
    /// Where the certificate ends.
    pub certificate_until: Shared<Option<UnixTime>>,
    /// Whether the manager has refused the certificate because it has run out, whatever this machine's clock says.
    pub(crate) expired: Shared<bool>,
    /// Rung when [`Self::expired`] is set.
    pub(crate) renewal_due: Notify,
    /// Rung when there is a new certificate.
    pub(crate) renewed: Notify,
    /// Whether a refresh of the metadata is under way.
    pub refreshing: Shared<bool>,
    /// Room for disk work that may take long.
    pub(crate) long: Arc<Semaphore>,
    pub(crate) board: Shared<BTreeMap<Component, Shown>>,
    pub(crate) abouts: Shared<BTreeMap<Component, Abouts>>,
    pub(crate) units: Shared<BTreeMap<Component, mpsc::Sender<Command>>>,
    /// The last refusal per component, so that an order that comes again is not reported again.
    pub(crate) refused: Shared<BTreeMap<Component, (UpdateId, String)>>,
    /// What was wrong with the agent's own records when it started.
    pub(crate) trouble: Option<String>,
}

/// How the connection to the manager is.
#[derive(Debug, Clone, Default)]
pub struct Link {
    /// Whether the event stream is open.
    pub connected: bool,
    /// Whether the manager answered the last time it was asked.
    pub up: bool,
    /// What is wrong, if anything.
    pub problem: String,
}

/// Hellos, counted from 1; 0: none yet.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Hellos {
    /// The newest that was said.
    pub(crate) asked: u64,
    /// The newest that was answered, its orders handed to their components.
    pub(crate) answered: u64,
}

/// What is shown of a component.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    state: ComponentState,
    since: Option<Instant>,
    bad: Vec<BadRelease>,
}

/// What authors say of the releases of a component.
#[derive(Debug, Clone, Default)]
pub(crate) struct Abouts {
    running: Option<About>,
    coming: Option<About>,
}

/// What a line of the install record is about.
#[derive(Debug, Clone)]
pub struct Tried {
    /// The component.
    pub component: Component,
    /// The version that was to run.
    pub version: Version,
    /// The version that ran before.
    pub from: Option<Version>,
    /// The target's digest, where it is known.
    pub digest: Digest,
    /// It took over from a program that ran; none: it did not.
    pub handed_over: Option<HandedOver>,
}

/// What ended without an attempt: an order that was not followed.
#[derive(Debug)]
pub struct Unfollowed<'a> {
    /// The order.
    pub order: &'a Order,
    /// Its target's digest, where it is known.
    pub digest: Digest,
    /// How it ended.
    pub outcome: Outcome,
    /// Why.
    pub reason: Option<String>,
}

impl Hub {
    /// Shows what a component is and does.
    pub fn show(
        &self,
        component: &Component,
        slot: &Slot,
        activity: Activity,
        since: Option<Instant>,
        waiting: Option<Waiting>,
    ) {
        let state = ComponentState {
            component: component.clone(),
            version: slot.current.as_ref().map(|now| now.version.clone()),
            digest: slot.current.as_ref().map(|now| now.digest),
            previous: slot.way_back().map(|previous| previous.version.clone()),
            activity,
            uptime_seconds: 0,
            bad: slot.bad.iter().map(|bad| bad.digest).collect(),
            held: slot.held,
            waiting,
        };
        let bad = slot.bad.iter().map(|bad| BadRelease {
            version: bad.version.clone(),
            digest: bad.digest,
            reason: bad.reason.clone(),
        });
        let bad = bad.collect();
        self.board
            .with(|board| board.insert(component.clone(), Shown { state, since, bad }));
    }

    /// There may be a reason for what waits to go on.
    pub fn look_again(&self) {
        self.wake.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Shows what its author says of the release that runs.
    pub fn show_running(&self, component: &Component, release: &Release) {
        self.abouts
            .with(|abouts| abouts.entry(component.clone()).or_default().running = Some(release.into()));
    }

    /// Shows what its author says of the release that is on the way.
    pub fn show_coming(&self, component: &Component, release: &Release) {
        self.abouts
            .with(|abouts| abouts.entry(component.clone()).or_default().coming = Some(release.into()));
    }

    /// Shows another activity of a component.
    pub fn show_activity(&self, component: &Component, activity: Activity) {
        self.board.with(|board| {
            if let Some(shown) = board.get_mut(component) {
                shown.state.activity = activity;
            }
        });
    }

    /// What every component is and does now.
    #[must_use]
    pub fn components(&self) -> Vec<ComponentState> {
        let uptime = |shown: &Shown| shown.since.map_or(0, |since| since.elapsed().as_secs());
        self.board.with(|board| {
            let states = board.values().map(|shown| ComponentState {
                uptime_seconds: uptime(shown),
                ..shown.state.clone()
            });
            states.collect()
        })
    }

    /// The same, as others are told: of very many conditions the first for each component, so that a hello stays small.
    fn told_components(&self) -> Vec<ComponentState> {
        let mut states = self.components();
        let unmet = states.iter().filter_map(|state| state.waiting.as_ref());
        if unmet.map(|waiting| waiting.unmet.len()).sum::<usize>() > MAX_TOLD_CONDITIONS {
            let waiting = states.iter_mut().filter_map(|state| state.waiting.as_mut());
            waiting.for_each(|waiting| waiting.unmet.truncate(1));
        }
        states
    }

    /// The same, with what is said of each and what is on the way.
    #[must_use]
    fn details(&self) -> Vec<ComponentDetail> {
        let shown = self.board.get();
        let details = shown.into_iter().map(|(component, shown)| {
            let abouts = self
                .abouts
                .with(|abouts| abouts.get(&component).cloned().unwrap_or_default());
            let newest = self.bus.newest(&component);
            let runs = |about: &About| shown.state.version.as_ref() == Some(&about.version);
            ComponentDetail {
                running: abouts.running.filter(runs),
                coming: abouts.coming,
                last: newest.last,
                moved: newest.moved,
                bad: shown.bad,
                component,
            }
        });
        details.collect()
    }

    /// What is wrong with the device itself, if anything.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        match (self.trust.trouble(), &self.trouble) {
            (Some(trust), Some(own)) => Some(format!("{trust}; {own}")),
            (trust, own) => trust.or_else(|| own.clone()),
        }
    }

    /// The hello of this moment.
    #[must_use]
    pub fn hello(&self) -> Hello {
        Hello {
            agent: machine_info::agent_version().to_string(),
            arch: machine_info::arch(),
            hardware: self.settings.hardware.clone(),
            boot_id: mtls::stamp().boot_id,
            report_counter: self.outbox.counter(),
            time_known: self.world.clock.now().known,
            trouble: self.trouble(),
            components: self.told_components(),
        }
    }

    /// The device at a glance.
    #[must_use]
    pub fn status(&self) -> DeviceStatus {
        let link = self.link.get();
        DeviceStatus {
            site: self.me.site.clone(),
            name: self.me.name.clone(),
            program: machine_info::agent_version().to_string(),
            manager: self.settings.manager.clone(),
            connected: link.connected,
            connection: link.problem,
            time_known: self.world.clock.now().known,
            stale_since: self.trust.stale_since(),
            trouble: self.trouble(),
            certificate_until: self.certificate_until.get(),
            components: self.components(),
            details: self.details(),
            recorded: self.log.added(),
        }
    }

    /// Disk work that may take long, beside the agent's thread; a few at a time, so that what is short finds a thread.
    ///
    /// # Errors
    /// The agent ends.
    pub async fn long_work<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        // The semaphore is never closed.
        let permit = Arc::clone(&self.long).acquire_owned().await.ok();
        let hub = Arc::clone(self);
        let working = spawn_blocking(move || {
            // Also of a caller that has gone away.
            let _permit = permit;
            work(&hub)
        });
        working.await
    }

    /// The mailbox of a component; a new component gets one if this device may run it.
    #[must_use]
    pub fn unit(self: &Arc<Self>, component: &Component, create: bool) -> Option<mpsc::Sender<Command>> {
        self.units.with(|units| {
            if let Some(mailbox) = units.get(component) {
                return Some(mailbox.clone());
            }
            if !create || units.len() >= MAX_COMPONENTS || self.shutdown.is_cancelled() {
                return None;
            }
            let (mailbox, commands) = mpsc::channel(MAX_WAITING_COMMANDS);
            let unit = Unit::new(Arc::clone(self), component.clone(), mailbox.clone(), commands);
            let hub = Arc::clone(self);
            self.tasks.with(|tasks| {
                tasks.spawn(async move {
                    if let Err(cut) = unit.run().await {
                        hub.cut.send_replace(Some(cut));
                    }
                })
            });
            units.insert(component.clone(), mailbox.clone());
            Some(mailbox)
        })
    }

    /// Takes an order from the manager.
    pub async fn take_order(self: &Arc<Self>, order: Order) {
        // It comes again with the hello that follows the trial's end.
        if self.on_trial.get() {
            return;
        }
        if !self.settings.allows(&order.component) {
            let reason = format!(
                "this device does not run {}: see `components` in device.toml",
                order.component
            );
            self.not_followed(&order, Outcome::Refused, reason).await;
            return;
        }
        match self.unit(&order.component, true) {
            // A full mailbox loses the order; it comes again with the next hello.
            Some(mailbox) => drop(mailbox.try_send(Command::Order(Box::new(order)))),
            None => {
                let reason = format!("this device runs {MAX_COMPONENTS} components already");
                self.not_followed(&order, Outcome::Refused, reason).await;
            }
        }
    }

    /// Tells, records and reports that an order was not followed; once, however often it comes.
    pub async fn not_followed(self: &Arc<Self>, order: &Order, outcome: Outcome, reason: String) {
        let digest = Digest::from_bytes([0; 32]);
        self.end_order(&Unfollowed {
            order,
            digest,
            outcome,
            reason: Some(reason),
        })
        .await;
    }

    /// Tells, records and reports the end of an order that changed nothing.
    pub async fn end_order(self: &Arc<Self>, end: &Unfollowed<'_>) {
        let order = end.order;
        let note = (order.update, end.reason.clone().unwrap_or_default());
        let again = self.refused.with(|refused| {
            refused
                .insert(order.component.clone(), note.clone())
                .is_some_and(|before| before == note)
        });
        if again {
            return;
        }
        let teller = Teller::new(
            Arc::clone(&self.bus),
            order.update,
            order.component.clone(),
            order.version.clone(),
            Vec::new(),
        );
        let step = match end.outcome {
            Outcome::Committed => Step::Committed,
            Outcome::Refused => Step::Refused,
            Outcome::Failed | Outcome::RolledBack => Step::Failed,
        };
        match &end.reason {
            Some(reason) => {
                let what = format!("{} {}", order.component, order.version);
                self.bus.warn(&messages::INSTALL_FAILED, what, reason);
                teller.tell_why(step, reason);
            }
            None => teller.tell(step),
        }
        let line = (end.outcome != Outcome::Committed).then(|| Tried {
            component: order.component.clone(),
            version: order.version.clone(),
            from: self
                .generation
                .slot(&order.component)
                .current
                .map(|now| now.version),
            digest: end.digest,
            handed_over: None,
        });
        let how = (order.update, end.outcome, end.reason.clone());
        if let Err(error) = self.write_down(line, how, &teller).await {
            tracing::warn!(target: "drover", error = %crate::trust::chain(&error), "a report cannot be kept");
        }
    }

    /// Adds a line to the install record, which a full disk loses, and puts a signed report into the queue; beside
    /// the agent's thread.
    ///
    /// # Errors
    /// The report cannot be kept.
    pub async fn write_down(
        self: &Arc<Self>,
        line: Option<Tried>,
        how: (UpdateId, Outcome, Option<String>),
        teller: &Teller,
    ) -> Result<u64, ReportFault> {
        let events = teller.told();
        let (update, outcome, reason) = how;
        let handed_over = line.as_ref().and_then(|tried| tried.handed_over);
        let entry = line.map(|tried| self.entry(tried, outcome, reason.clone(), &events));
        let report = Report {
            actor: self.me.clone(),
            counter: 0,
            nonce: self.world.random.nonce(),
            at: mtls::stamp(),
            update: Some(update),
            outcome: Some(outcome),
            reason: reason.as_deref().map(shorten),
            events: events.clone(),
            components: self.told_components(),
        };
        let hub = Arc::clone(self);
        let written = spawn_blocking(move || {
            if let Some(entry) = entry
                && let Err(error) = hub.log.add(&entry, update.to_string(), &events, handed_over)
            {
                tracing::warn!(target: "drover", error = %crate::trust::chain(&error), "the install record cannot be written");
            }
            hub.outbox.add(report)
        });
        written.await.map_err(ReportFault::CutOff)?
    }

    fn entry(
        &self,
        tried: Tried,
        outcome: Outcome,
        reason: Option<String>,
        events: &[Event],
    ) -> InstallEntry {
        let milliseconds = match (events.first(), events.last()) {
            (Some(first), Some(last)) => u64::try_from(last.at.since_ns(&first.at) / 1_000_000).unwrap_or(0),
            _ => 0,
        };
        InstallEntry {
            at: self.world.clock.now().now,
            component: tried.component,
            version: tried.version,
            from: tried.from,
            digest: tried.digest,
            milliseconds,
            outcome: outcome.to_string(),
            reason,
        }
    }
}
