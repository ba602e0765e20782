//! How a release comes to run where something runs already: live, by a restart, by a person, or not at all. Pure: the
//! author's word on the nature of the change, held against facts of the running programs; every answer has its reasons.
//!
//! Rules and worked examples are those of Giuffrida and Tanenbaum, "Prepare to Die". When it happens is said elsewhere, by
//! the policy.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::kind::Kind;
use crate::limits;
use crate::machine::Machine;
use crate::name::Component;
use crate::nature::{Category, Nature, Stillness, Transfer};

/// How it comes to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// The running program hands over to the new version.
    Live,
    /// The old version ends and the new one starts, with the machine where that is what it takes.
    Restart,
    /// A person has to do something first.
    NeedsPerson,
    /// Neither way can bring what the new version needs.
    Impossible,
}

/// A program that runs and is affected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// Which.
    pub component: Component,
    /// How far it can come to rest while it lives, and hand over; none: it does not know how to.
    #[serde(default)]
    pub cooperates: Option<Rest>,
}

/// How far a program can come to rest by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rest {
    /// The greatest stillness.
    pub most: Stillness,
    /// The protocols and operations that it can wait for, by name.
    #[serde(default)]
    pub names: BTreeSet<String>,
}

impl Rest {
    /// How far a program of this kind can come to rest; none: it is stopped and started.
    #[must_use]
    pub fn of(kind: &Kind) -> Option<Self> {
        match kind {
            // It is asked for any stillness below that of a program that ends; by names it is asked for nothing.
            Kind::Live => Some(Self {
                most: Stillness::Data,
                names: BTreeSet::new(),
            }),
            Kind::App | Kind::Agent | Kind::Module(_) => None,
        }
    }
}

/// What is known of the device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Facts {
    /// The running programs that change at once, the release's own first; empty: nothing of it runs yet.
    pub running: Vec<Unit>,
    /// Whether the new version takes over from a running program.
    #[serde(default)]
    pub takes_over: bool,
    /// What the device is and has; none: not known.
    #[serde(default)]
    pub machine: Option<Machine>,
    /// Why the device does not take it, such as hardware that it requires and that is not there; in words.
    #[serde(default)]
    pub lacks: Option<String>,
    /// Why the old version has to be stopped here whatever changes, such as data on disk that are saved meanwhile; in words.
    #[serde(default)]
    pub must_stop: Option<String>,
    /// Why what runs cannot be trusted to be what was installed, in words.
    #[serde(default)]
    pub tainted: Vec<String>,
    /// Whether there is a way back if the new version fails.
    #[serde(default)]
    pub recovery: bool,
    /// Bytes of state to carry over or to convert.
    #[serde(default)]
    pub state_bytes: u64,
    /// Bytes of memory in which a second version can run beside the first; none: not known.
    #[serde(default)]
    pub room_bytes: Option<u64>,
    /// Bytes of memory that the new version needs, if its author says so.
    #[serde(default)]
    pub needs_bytes: u64,
    /// Bytes on disk in which data can be converted beside those in use; none: not known.
    #[serde(default)]
    pub spare_bytes: Option<u64>,
    /// Milliseconds that earlier live updates here paused.
    #[serde(default)]
    pub live_ms: Vec<u64>,
    /// Milliseconds that earlier restarts here paused.
    #[serde(default)]
    pub restart_ms: Vec<u64>,
}

/// A predicted pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Milliseconds in which nobody is served, as expected.
    pub expected_ms: u64,
    /// Earlier ones that it was learnt from, here; 0: it is an estimate.
    pub measured: usize,
}

/// What is going to happen, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// How.
    pub answer: Answer,
    /// What must be at rest meanwhile; none: nothing happens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stillness: Option<Stillness>,
    /// Whether state is carried over from program to program.
    #[serde(default)]
    pub carries: bool,
    /// Why, at least one.
    pub reasons: Vec<String>,
    /// How long nobody is served; none: nothing runs, or nothing happens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
}

/// Plans; `nature`: none where its author did not say.
#[must_use]
pub fn plan(nature: Option<&Nature>, facts: &Facts) -> Plan {
    if let Some(lost) = nature.and_then(|nature| nature.never_kept.as_ref()) {
        let why =
            format!("it must know {lost}, which no version has kept: no restart brings that back either");
        return nothing(Answer::Impossible, why);
    }
    if let Some(lacks) = &facts.lacks {
        return nothing(
            Answer::NeedsPerson,
            format!("{lacks}: somebody has to change that first"),
        );
    }
    if !facts.tainted.is_empty() && !facts.recovery {
        let why = format!(
            "the device is tainted and has no way back ({}): somebody has to look at it",
            facts.tainted.join("; ")
        );
        return nothing(Answer::NeedsPerson, why);
    }
    match way(nature, facts) {
        Ok(way) => live(&way, facts),
        Err((stillness, why)) => restart(stillness, why, facts),
    }
}

/// A way to update live.
struct Way {
    stillness: Stillness,
    transfer: Transfer,
    reasons: Vec<String>,
    catch_up: bool,
}

/// The best way to go live, or with which stillness it takes a restart, and why.
fn way(nature: Option<&Nature>, facts: &Facts) -> Result<Way, (Stillness, String)> {
    let stop = |why: String| Err((Stillness::System, why));
    if facts.running.is_empty() {
        return stop("nothing of it runs here yet: it is started".to_owned());
    }
    let Some(nature) = nature else {
        return stop(
            "its author does not say what changes ([nature]), and no moment is safe by itself".to_owned(),
        );
    };
    if nature.stillness >= Stillness::System {
        let why = format!(
            "its author wants the whole of it to start anew (stillness {})",
            nature.stillness
        );
        return Err((nature.stillness, why));
    }
    if !facts.tainted.is_empty() {
        let why = facts.tainted.join("; ");
        return stop(format!(
            "the device is tainted ({why}): the state of what runs is not carried over"
        ));
    }
    if let Some(why) = &facts.must_stop {
        return stop(why.clone());
    }
    if !facts.takes_over {
        return stop("the new version does not take over from a running program".to_owned());
    }
    let mut refused = Vec::new();
    for (stillness, transfer) in ways(nature) {
        match obstacle(nature, stillness, transfer, facts) {
            Some(why) => refused.push(why),
            None => {
                return Ok(Way {
                    stillness,
                    transfer,
                    reasons: reasons(nature, stillness, transfer, facts),
                    catch_up: nature.catch_up,
                });
            }
        }
    }
    stop(refused.join("; "))
}

/// The ways that its author allows, that with the least to carry over first: more stillness is paid by waiting, a state
/// that is carried over by what can go wrong with it.
fn ways(nature: &Nature) -> impl Iterator<Item = (Stillness, Transfer)> {
    let calmer = nature.free_at.map(|stillness| (stillness, Transfer::None));
    calmer.into_iter().chain([(nature.stillness, nature.transfer)])
}

/// Why a way cannot be gone here.
fn obstacle(nature: &Nature, stillness: Stillness, transfer: Transfer, facts: &Facts) -> Option<String> {
    if stillness >= Stillness::System {
        return Some(format!(
            "nothing need be carried over at stillness {stillness}, which is a restart"
        ));
    }
    if transfer == Transfer::Impossible {
        return Some(format!(
            "at stillness {stillness} the running version does not know what the new one needs"
        ));
    }
    for unit in &facts.running {
        let who = &unit.component;
        let Some(rest) = &unit.cooperates else {
            return Some(format!("{who} does not know how to hand over while it runs"));
        };
        if rest.most < stillness {
            return Some(format!(
                "{who} comes to rest up to {} only, {stillness} is needed",
                rest.most
            ));
        }
    }
    let knows = |name: &&String| {
        let mut rests = facts.running.iter().filter_map(|unit| unit.cooperates.as_ref());
        !rests.any(|rest| rest.names.contains(*name))
    };
    if let Some(unknown) = nature.idle.iter().find(knows) {
        return Some(format!("no running program can wait for {unknown} to be at rest"));
    }
    cost(nature, transfer, facts)
}

/// Why it would be possible, but is not worth it.
fn cost(nature: &Nature, transfer: Transfer, facts: &Facts) -> Option<String> {
    let beside = facts.needs_bytes.saturating_add(match transfer {
        Transfer::Needed | Transfer::Imprecise if nature.category != Category::Disk => facts.state_bytes,
        _ => 0,
    });
    if let Some(room) = facts.room_bytes.filter(|room| *room < beside) {
        return Some(format!(
            "both versions at once need {beside} bytes of memory more, there are {room}"
        ));
    }
    let spare = facts.spare_bytes.filter(|spare| *spare < facts.state_bytes);
    if let Some(spare) = spare.filter(|_| nature.catch_up) {
        return Some(format!(
            "converting {} bytes beside those in use needs as much on disk, there are {spare}",
            facts.state_bytes
        ));
    }
    let live = live_pause(transfer, nature.catch_up, facts).expected_ms;
    let stopped = restart_pause(Stillness::System, facts).expected_ms;
    // A restart converts data on disk just as long.
    let worse = live > stopped && nature.category != Category::Disk;
    worse.then(|| format!("handing over would pause it for {live} ms, a restart for {stopped} ms"))
}

fn reasons(nature: &Nature, stillness: Stillness, transfer: Transfer, facts: &Facts) -> Vec<String> {
    let mut reasons = Vec::new();
    let who: Vec<&str> = facts.running.iter().map(|unit| unit.component.as_str()).collect();
    let who = who.join(", ");
    reasons.push(match stillness {
        Stillness::None => format!(
            "a change of category {} that wants nothing at rest",
            nature.category
        ),
        _ => format!(
            "a change of category {}: {who} can come to rest at stillness {stillness}",
            nature.category
        ),
    });
    if !nature.idle.is_empty() {
        reasons.push(format!("at rest all at once: {}", nature.idle.join(", ")));
    }
    reasons.push(match transfer {
        Transfer::None => "nothing has to be carried over then".to_owned(),
        Transfer::Imprecise => "what is carried over is nearly right, as its author puts up with".to_owned(),
        Transfer::Needed | Transfer::Impossible if nature.category == Category::Disk => {
            "data on disk are converted by the package".to_owned()
        }
        Transfer::Needed | Transfer::Impossible => "state is carried over to the new version".to_owned(),
    });
    if nature.catch_up {
        reasons.push(
            "data are converted beside the running program, and what changed meanwhile once more".to_owned(),
        );
    }
    reasons
}

fn live(way: &Way, facts: &Facts) -> Plan {
    Plan {
        answer: Answer::Live,
        stillness: Some(way.stillness),
        carries: way.transfer != Transfer::None,
        reasons: way.reasons.clone(),
        pause: Some(live_pause(way.transfer, way.catch_up, facts)),
    }
}

fn restart(stillness: Stillness, why: String, facts: &Facts) -> Plan {
    Plan {
        answer: Answer::Restart,
        stillness: Some(stillness),
        carries: false,
        reasons: vec![why],
        pause: (!facts.running.is_empty()).then(|| restart_pause(stillness, facts)),
    }
}

fn nothing(answer: Answer, why: String) -> Plan {
    Plan {
        answer,
        stillness: None,
        carries: false,
        reasons: vec![why],
        pause: None,
    }
}

fn live_pause(transfer: Transfer, catch_up: bool, facts: &Facts) -> Pause {
    // The last pass of a conversion that caught up has next to nothing to do.
    let carried = match transfer {
        Transfer::Needed | Transfer::Imprecise if !catch_up => facts.state_bytes / limits::CARRIED_PER_MS,
        _ => 0,
    };
    learnt(&facts.live_ms, limits::LIVE_PAUSE_MS.saturating_add(carried))
}

fn restart_pause(stillness: Stillness, facts: &Facts) -> Pause {
    if stillness == Stillness::Reboot {
        return learnt(&[], limits::REBOOT_PAUSE_MS);
    }
    learnt(&facts.restart_ms, limits::RESTART_PAUSE_MS)
}

/// The middle of what was measured, else the estimate.
fn learnt(measured: &[u64], estimate: u64) -> Pause {
    let mut sorted = measured.to_vec();
    sorted.sort_unstable();
    Pause {
        expected_ms: sorted.get(sorted.len() / 2).copied().unwrap_or(estimate),
        measured: sorted.len(),
    }
}

impl Answer {
    /// In words.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Restart => "restart",
            Self::NeedsPerson => "needs a person",
            Self::Impossible => "impossible",
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.answer.word(), self.reasons.join("; "))?;
        match &self.pause {
            None => Ok(()),
            Some(pause) if pause.measured == 0 => {
                write!(f, "; pause about {} ms (an estimate)", pause.expected_ms)
            }
            Some(pause) => {
                let (pause, many) = (pause.expected_ms, pause.measured);
                write!(f, "; pause about {pause} ms (from {many} earlier ones here)")
            }
        }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
