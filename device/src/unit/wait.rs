//! A release that waits: looking at its conditions, showing what holds it back, hearing the person who says "now".

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use protocol::Step;
use protocol::device::{Activate, Problem, Unmet, Waiting};
use release::{Component, Otherwise, Policy, Tainted};
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use mtls::Clock as _;

use super::Unit;
use super::prove::problem;
use crate::backoff::about;
use crate::conditions::{Asked, Condition, Facts, Verdict, in_words, judge};
use crate::hub::Hub;
use crate::limits::{
    MAX_CONDITION, MAX_WAIT_STEPS, WAIT_DOUBLINGS, WAIT_GAP, WAIT_LOOK, WAIT_MARK, WAIT_TELL,
};
use crate::machine::{Attempt, Happening, Life, Slot, Wait, Word};
use crate::sensors;
use crate::settings::Site;
use crate::stage;
use crate::trust::{Found, chain};
use crate::world::CutOff;

/// When this unit looks again, and what it has said of it.
#[derive(Debug, Default)]
pub(super) struct Looks {
    /// When the conditions are looked at again.
    pub(super) at: Option<Instant>,
    /// When they were looked at.
    last: Option<Instant>,
    /// Something has asked for the next look.
    woken: bool,
    /// How many looks in a row were asked for: an interlock that flutters is not written down each time.
    in_a_row: u32,
    /// When the manager was told last.
    told: Option<Instant>,
    /// There is something that it was not told yet.
    untold: bool,
    /// What is shown.
    pub(super) shown: Option<Waiting>,
}

impl Looks {
    /// They were looked at, and are again after a pause.
    fn looked(&mut self, pause: Duration) {
        let now = Instant::now();
        self.in_a_row = if self.woken { self.in_a_row + 1 } else { 0 }.min(WAIT_DOUBLINGS);
        self.woken = false;
        self.last = Some(now);
        self.at = Some(now + pause);
    }

    /// There may be a reason to look before that.
    fn wake(&mut self) {
        let now = Instant::now();
        let gap = WAIT_GAP * 2_u32.pow(self.in_a_row);
        let soon = self.last.map_or(now, |last| now.max(last + gap));
        self.woken = true;
        self.at = Some(self.at.map_or(soon, |at| at.min(soon)));
    }
}

impl Unit {
    /// What holds a release back that may be activated otherwise; none: nothing.
    pub(super) async fn hold_back(&mut self, attempt: &Attempt, found: &Found) -> Option<Happening> {
        let site = self.hub.settings.install.of(&self.component);
        let mut facts = self.facts(attempt).await;
        let mut verdict = judge(&self.asked(found, &site), &facts);
        // Looking at every file of what runs takes a while: only where nothing else is waited for.
        if verdict == Verdict::Go && facts.fetched && !facts.told {
            (facts.tainted, facts.recovery) = self.taint(found.release.policy.tainted).await;
            verdict = judge(&self.asked(found, &site), &facts);
        }
        if let Some(Word::Override(conditions)) = &attempt.word {
            // Given before it was fetched: only now it is known what is overridden.
            let unmet = unmet_of(&verdict).filter(|_| conditions.is_empty());
            return unmet.map(|unmet| Happening::Said(Word::Override(in_words(unmet))));
        }
        match verdict {
            Verdict::Go => None,
            Verdict::GiveUp(reason) => Some(Happening::GivenUp { reason }),
            Verdict::Wait(unmet) => Some(self.wait_for(attempt, &found.release.policy, &facts, unmet, false)),
            Verdict::Ask(unmet) => Some(self.wait_for(attempt, &found.release.policy, &facts, unmet, true)),
        }
    }

    fn asked<'a>(&'a self, found: &'a Found, site: &'a Site) -> Asked<'a> {
        Asked {
            component: &self.component,
            policy: &found.release.policy,
            released: found.release.released,
            site,
        }
    }

    async fn taint(&self, asked: Tainted) -> (Vec<String>, bool) {
        let runs = self.program.is_some();
        taint(&self.hub, &self.component, &self.slot, runs, asked).await
    }

    async fn facts(&self, attempt: &Attempt) -> Facts {
        moment(&self.hub, &self.component, &self.slot, Some(attempt)).await
    }

    /// Shows what is waited for, and says so where it is something else than before.
    fn wait_for(
        &mut self,
        attempt: &Attempt,
        policy: &Policy,
        facts: &Facts,
        unmet: Vec<Condition>,
        asks: bool,
    ) -> Happening {
        let (stamp, now) = (mtls::stamp(), facts.time.now);
        let before = attempt.wait.clone();
        let mut wait = before.clone().unwrap_or_else(|| Wait::begin(now, &stamp));
        let since = |key: &String| wait.unmet.get(key).copied();
        let unmet: Vec<Unmet> = unmet
            .into_iter()
            .map(|condition| Unmet {
                since: condition.since.or_else(|| since(&condition.key)).unwrap_or(now),
                key: condition.key,
                what: brief(&condition.what),
                holder: brief(&condition.holder),
                until: condition.until,
            })
            .collect();
        let keys: BTreeMap<_, _> = unmet
            .iter()
            .map(|unmet| (unmet.key.clone(), unmet.since))
            .collect();
        let news = before.is_none() || asks != wait.asks || keys.keys().ne(wait.unmet.keys());
        if news || wait.since_mark(&stamp) >= WAIT_MARK.as_secs() {
            wait = wait.mark(&stamp);
        }
        if news {
            wait.unmet = keys;
            wait.asks = asks;
        }
        let waiting = Waiting {
            update: attempt.update,
            version: attempt.to.version.clone(),
            since: wait.since,
            waited_seconds: wait.seconds(&stamp, facts.floor),
            fetched: facts.fetched,
            gateway_overrides: self.hub.settings.install.gateway_overrides,
            asks: unmet.iter().any(|unmet| unmet.key == Unmet::PERSON),
            // Where one has no end that is known, there is none for all.
            until: unmet
                .iter()
                .map(|unmet| unmet.until)
                .collect::<Option<Vec<_>>>()
                .and_then(|all| all.into_iter().max()),
            unmet,
            hours: policy.wait_hours,
            then: policy.wait_hours.map(|_| what_then(policy.otherwise)),
        };
        self.look_later(&waiting, facts);
        // After a restart of the agent nothing is shown yet, and nothing is new.
        let shown = self.looks.shown.replace(waiting);
        self.tell_waiting(news, shown.is_none());
        Happening::Waits(wait)
    }

    /// At the end of a condition where that is known, but not later than usual.
    fn look_later(&mut self, waiting: &Waiting, facts: &Facts) {
        let ends = waiting.unmet.iter().filter_map(|unmet| unmet.until);
        let seconds = ends.map(|end| end.seconds_since(facts.time.now)).min();
        let first = seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let pause = about(WAIT_LOOK, &*self.hub.world.random);
        let pause = first.map_or(pause, |seconds| pause.min(Duration::from_secs(seconds.max(1))));
        self.looks.looked(pause);
    }

    fn tell_waiting(&mut self, news: bool, first: bool) {
        // The manager shows it too, and is not told of what changes all the time.
        self.looks.untold |= news || first;
        if self.looks.untold && self.looks.told.is_none_or(|told| told.elapsed() >= WAIT_TELL) {
            self.looks.told = Some(Instant::now());
            self.looks.untold = false;
            self.hello_when_shown = true;
        }
        let Some(waiting) = self.looks.shown.as_ref().filter(|_| news || first) else {
            return;
        };
        let what: Vec<&str> = waiting.unmet.iter().map(|unmet| unmet.what.as_str()).collect();
        let what = what.join("; ");
        tracing::info!(target: "drover", component = %self.component, version = %waiting.version, "waits: {what}");
        if let Some(teller) = self.teller.as_ref().filter(|_| news) {
            let told = teller.told();
            if told.iter().filter(|event| event.step == Step::Waiting).count() < MAX_WAIT_STEPS {
                teller.tell_why(Step::Waiting, &what);
            }
        }
    }

    /// Something says that there may be a reason to go on.
    pub(super) fn look_soon(&mut self) {
        self.looks.wake();
    }

    /// Nothing waits any more.
    pub(super) fn waits_no_more(&mut self) {
        self.looks = Looks::default();
    }

    /// A person says that what waits is to be installed: whether it is, and with which word.
    pub(super) async fn word_of(&self, overriding: bool) -> Result<Word, Problem> {
        let Some(attempt) = self.slot.attempt.clone().filter(|_| self.slot.is_waiting()) else {
            let message = format!("no release of {} waits here", self.component);
            return Err(problem("nothing-waits", message));
        };
        let what = format!("{} {}", self.component, attempt.to.version);
        let found = self.hub.trust.look_up(&attempt.to.target).await;
        let found = found.map_err(|fault| problem("not-wanted", chain(&fault)))?;
        let site = self.hub.settings.install.of(&self.component);
        let facts = Facts {
            told: true,
            ..self.facts(&attempt).await
        };
        match judge(&self.asked(&found, &site), &facts) {
            Verdict::Go if overriding && !facts.fetched => Ok(Word::Override(String::new())),
            Verdict::Go => Ok(Word::Go),
            Verdict::GiveUp(reason) => Err(problem("given-up", format!("{what} is not installed: {reason}"))),
            Verdict::Wait(unmet) | Verdict::Ask(unmet) if overriding => Ok(Word::Override(in_words(&unmet))),
            Verdict::Wait(unmet) | Verdict::Ask(unmet) => {
                let message = format!(
                    "{what} is not installed now: {}; `--override` installs it all the same, and is recorded",
                    in_words(&unmet)
                );
                Err(problem("conditions-not-met", message))
            }
        }
    }

    /// A person says "now".
    pub(super) async fn activate(&mut self, overriding: bool, reply: super::Reply) -> Result<(), CutOff> {
        match self.word_of(overriding).await {
            Ok(word) => {
                // Its end may be a day away; how it goes is shown.
                reply.send(Ok(())).ok();
                self.happen(Happening::Said(word)).await
            }
            Err(problem) => {
                reply.send(Err(problem)).ok();
                Ok(())
            }
        }
    }
}

impl Unit {
    /// A person says "now" at the gateway.
    pub(super) async fn activate_for_gateway(&mut self, told: &Activate) -> Result<(), CutOff> {
        let waiting = self.slot.attempt.as_ref().map(|attempt| attempt.update);
        if !self.slot.is_waiting() || waiting != Some(told.update) {
            return Ok(());
        }
        let may = self.hub.settings.install.gateway_overrides;
        let word = if told.overriding && !may {
            let message = "its gateway may not override here: see `gateway_overrides` in device.toml";
            Err(problem("not-overridden", message.into()))
        } else {
            self.word_of(told.overriding).await
        };
        match word {
            Ok(Word::Override(unmet)) if !unmet.is_empty() => {
                let word = Word::Override(format!("{unmet} (at the gateway)"));
                self.happen(Happening::Said(word)).await
            }
            Ok(word) => self.happen(Happening::Said(word)).await,
            Err(problem) => {
                tracing::warn!(target: "drover", component = %self.component, "the gateway said \"now\": {}", problem.message);
                Ok(())
            }
        }
    }
}

/// What is tainted here, and whether there is a way back nevertheless; `runs`: whether the program does. Every file of what
/// is installed is read.
pub(crate) async fn taint(
    hub: &Arc<Hub>,
    component: &Component,
    slot: &Slot,
    runs: bool,
    asked: Tainted,
) -> (Vec<String>, bool) {
    let current = slot.current.as_ref();
    let Some(current) = current.filter(|now| asked != Tainted::Install && now.kind.is_supervised()) else {
        return (Vec::new(), true);
    };
    if !runs {
        return (
            vec![format!("{component} {} does not run", current.version)],
            true,
        );
    }
    let digest = current.digest;
    let verify = move |hub: &Hub| stage::verify(&hub.world.files, &hub.layout, &digest).err();
    // Cut off, the agent ends.
    let fault = hub.long_work(verify).await.ok().flatten();
    let recovery = fault.is_none();
    let tainted = fault.map(|fault| chain(&fault));
    (tainted.into_iter().collect(), recovery)
}

/// What conditions are held against now. Whether the device is tainted is looked at apart: that takes a while.
pub(crate) async fn moment(
    hub: &Arc<Hub>,
    component: &Component,
    slot: &Slot,
    attempt: Option<&Attempt>,
) -> Facts {
    let reading = Arc::clone(hub);
    let data = hub.layout.data(component);
    let read = spawn_blocking(move || {
        let time = reading.world.clock.now();
        let sensors = &reading.world.sensors;
        let figures = (
            sensors.offset_seconds(time.now),
            sensors.load_percent(),
            sensors.power(),
        );
        let set = sensors::interlocks(&reading.layout.interlocks());
        (time, figures, set, sensors::is_busy(&data))
    });
    let time = hub.world.clock.now();
    // Cut off, the agent ends.
    let unread = (time, (0, None, crate::conditions::Power::Unknown), None, true);
    let (time, figures, interlocks, busy) = read.await.unwrap_or(unread);
    let floor = hub.world.clock.floor();
    let wait = attempt.and_then(|attempt| attempt.wait.as_ref());
    let update = attempt.map(|attempt| attempt.update);
    Facts {
        time,
        floor,
        offset_seconds: figures.0,
        load_percent: figures.1,
        power: figures.2,
        place: hub.settings.place.clone(),
        interlocks,
        installed: slot.current.is_some(),
        busy,
        fetched: slot.life != Life::Notified,
        waited_seconds: wait.map_or(0, |wait| wait.seconds(&mtls::stamp(), floor)),
        asks: wait.is_some_and(|wait| wait.asks),
        told: attempt.is_some_and(|attempt| attempt.word.is_some()),
        tainted: Vec::new(),
        recovery: true,
        held_back: update.and_then(|update| hub.held_back.with(|held| held.get(&update).cloned())),
    }
}

fn unmet_of(verdict: &Verdict) -> Option<&[Condition]> {
    match verdict {
        Verdict::Wait(unmet) | Verdict::Ask(unmet) => Some(unmet),
        Verdict::Go | Verdict::GiveUp(_) => None,
    }
}

/// Of these the hello of a device with many components has several.
fn brief(words: &str) -> String {
    words.chars().take(MAX_CONDITION).collect()
}

fn what_then(otherwise: Otherwise) -> String {
    let then = match otherwise {
        Otherwise::Ask => "a person is asked",
        Otherwise::Install => "it is installed all the same",
        Otherwise::Refuse => "it is given up",
    };
    then.to_owned()
}

/// Wakes what waits whenever an interlock is set or taken away. Where the system watches no more folders, it is looked at
/// now and then anyway.
///
/// # Errors
/// The folder cannot be watched.
pub(crate) fn watch_interlocks(hub: &Hub) -> Result<notify::RecommendedWatcher, notify::Error> {
    use notify::Watcher as _;
    let wake = hub.wake.clone();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if !event.is_ok_and(|event| event.kind.is_access()) {
            wake.send_modify(|count| *count = count.wrapping_add(1));
        }
    })?;
    watcher.watch(&hub.layout.interlocks(), notify::RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_flutters_is_looked_at_less_and_less_and_who_is_still_at_once_again() {
        let mut looks = Looks::default();
        let mut gaps = Vec::new();
        for _ in 0..9 {
            looks.wake();
            let now = Instant::now();
            gaps.push(
                looks
                    .at
                    .map_or(Duration::ZERO, |at| at.saturating_duration_since(now)),
            );
            looks.looked(WAIT_LOOK);
        }
        assert_eq!(gaps[0], Duration::ZERO, "the first is looked at now");
        assert!(gaps[..7].is_sorted(), "{gaps:?}");
        assert!(gaps[8] > WAIT_GAP * 60 && gaps[8] <= WAIT_GAP * 64, "{gaps:?}");
        looks.looked(WAIT_LOOK);
        looks.wake();
        let soon = looks.at.map(|at| at.saturating_duration_since(Instant::now()));
        assert!(soon.is_some_and(|soon| soon <= WAIT_GAP), "{soon:?}");
    }
}
