//! An order as a compare-and-swap: ready, already done, or refused with a reason. Pure.

use std::collections::BTreeMap;

use protocol::Stamp;
use protocol::device::Order;
use release::{Component, Form, Machine, Release, State, Version, VersionReq};

use crate::limits::DISK_RESERVE;
use crate::machine::{Answers, Attempt, Cause, DataChange, Installed, Slot};
use crate::trust::Found;

/// What the order is judged by, beside the metadata.
#[derive(Debug, Clone)]
pub struct Facts {
    /// What this device is and has.
    pub machine: Machine,
    /// Free bytes where releases lie.
    pub free_bytes: u64,
    /// Bytes of this target that are here already.
    pub arrived_bytes: u64,
    /// Counter below which nothing of this component is installed.
    pub floor: u64,
    /// What else is installed.
    pub neighbours: Neighbours,
    /// The schema of the data that the running version keeps; none: nothing runs.
    pub schema: Option<u32>,
    /// What saving its data takes, or why they cannot be saved.
    pub data: Result<DataRoom, String>,
    /// Where the data of the running version lie and in which form.
    pub state: Option<State>,
    /// Why the update module that is to install it cannot be used; none: it can, or none is needed.
    pub module: Option<String>,
    /// Why this agent cannot give its place to another one; none: it can, or the release is no agent.
    pub agent_stays: Option<String>,
    /// Now.
    pub now: Stamp,
}

/// Room on the disk that saving data takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DataRoom {
    /// Bytes.
    pub needed: u64,
    /// Bytes free where data lie, if that is not where releases lie.
    pub apart: Option<u64>,
}

/// The other components of this device.
pub type Neighbours = BTreeMap<Component, Vec<Neighbour>>;

/// A release of another component that runs, or is about to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// Its version.
    pub version: Version,
    /// What it requires of others; empty if its record cannot be read.
    pub requires: BTreeMap<Component, VersionReq>,
}

/// The answer to an order.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// It can be followed.
    Ready(Box<Plan>),
    /// It has been followed before.
    AlreadyDone,
    /// It is not followed, and why.
    Refused(String),
    /// It could not be judged, and why; it may be another time.
    Failed(String),
}

/// What following an order takes.
#[derive(Debug, Clone)]
pub struct Plan {
    /// For the state machine.
    pub attempt: Attempt,
    /// The target's length in bytes.
    pub length: u64,
    /// What it is.
    pub release: Release,
}

/// Judges what needs no metadata: before anything is fetched.
#[must_use]
pub fn first_look(order: &Order, slot: &Slot) -> Option<String> {
    let target = &order.target;
    if *target.component() != order.component || *target.version() != order.version {
        return Some(format!(
            "the order for {} {} names the target {target}",
            order.component, order.version
        ));
    }
    if slot.held {
        let current = slot
            .current
            .as_ref()
            .map_or_else(|| "nothing".to_owned(), |now| now.version.to_string());
        return Some(format!(
            "rolled back by hand: held at {current} until it is released"
        ));
    }
    if slot
        .current
        .as_ref()
        .is_some_and(|now| now.version == order.version)
    {
        return None;
    }
    let current = slot.current.as_ref().map(|now| &now.version);
    (current != order.expects.as_ref()).then(|| {
        let name = |version: Option<&Version>| version.map_or_else(|| "nothing".into(), Version::to_string);
        format!(
            "the order expects {} to run, but {} runs",
            name(order.expects.as_ref()),
            name(current)
        )
    })
}

/// Judges the order by what the device's own verified metadata say of its target.
#[must_use]
pub fn consider(order: &Order, slot: &Slot, found: &Found, facts: &Facts) -> Verdict {
    if let Some(reason) = first_look(order, slot) {
        return Verdict::Refused(reason);
    }
    let release = &found.release;
    if release.component != order.component || release.version != order.version {
        return Verdict::Refused(format!(
            "the order is for {} {}, but its target is {} {}",
            order.component, order.version, release.component, release.version
        ));
    }
    if let Some(now) = slot.current.as_ref().filter(|now| now.version == order.version) {
        if now.digest != found.digest {
            return Verdict::Refused(format!("another file runs already as version {}", now.version));
        }
        return foreign_id(order, release).map_or(Verdict::AlreadyDone, Verdict::Refused);
    }
    match objection(slot, found, facts).or_else(|| foreign_id(order, release)) {
        Some(reason) => Verdict::Refused(reason),
        None => plan(order, slot, found, facts),
    }
}

/// What follows is reported under the order's update id: only the author chooses it.
fn foreign_id(order: &Order, release: &Release) -> Option<String> {
    (release.update_id != order.update.to_string()).then(|| {
        format!(
            "the order has the update id {}, but its author signed {}",
            order.update, release.update_id
        )
    })
}

fn plan(order: &Order, slot: &Slot, found: &Found, facts: &Facts) -> Verdict {
    let Ok(update) = found.release.update_id.parse() else {
        return Verdict::Refused("its update id is malformed".into());
    };
    let to = Installed {
        digest: found.digest,
        version: found.release.version.clone(),
        counter: found.release.counter,
        update,
        target: order.target.clone(),
        kind: found.release.kind.clone(),
    };
    Verdict::Ready(Box::new(Plan {
        attempt: Attempt {
            update: order.update,
            cause: Cause::Order,
            to,
            from: slot.current.clone(),
            restarts: 0,
            began: facts.now.clone(),
            events: Vec::new(),
            answers: Answers::default(),
            wait: None,
            word: None,
            data: data_change(&found.release, facts.state.as_ref(), facts.schema),
            note: None,
            handed_over: None,
            excuse: None,
        },
        length: found.length,
        release: found.release.clone(),
    }))
}

/// The first thing that speaks against installing this release here.
fn objection(slot: &Slot, found: &Found, facts: &Facts) -> Option<String> {
    let release = &found.release;
    if let Some(withdrawn) = &release.withdrawn {
        return Some(format!("withdrawn by its author: {}", withdrawn.reason));
    }
    if let Some(reason) = slot.bad_reason(&found.digest) {
        return Some(format!("it failed here before and is not tried again: {reason}"));
    }
    if release.counter < facts.floor {
        return Some(format!(
            "its release counter {} is below {}, which has been committed here",
            release.counter, facts.floor
        ));
    }
    let installs_otherwise = |now: &&Installed| !release.kind.replaces(&now.kind);
    if let Some(now) = slot.current.as_ref().filter(installs_otherwise) {
        return Some(format!(
            "{} {} here is of kind {}, this release is of kind {}",
            release.component, now.version, now.kind, release.kind
        ));
    }
    if let Some(reason) = facts.agent_stays.as_ref().or(facts.module.as_ref()) {
        return Some(reason.clone());
    }
    let machine = &facts.machine;
    if let Some(reason) = machine.lacks(release.arch, &release.hardware, &release.requires) {
        return Some(reason);
    }
    if let Some(reason) = misfit(release, &facts.neighbours).or_else(|| strange_data(release, facts.schema)) {
        return Some(reason);
    }
    let data = match &facts.data {
        Ok(data) => *data,
        Err(reason) => return Some(format!("its data cannot be saved: {reason}")),
    };
    if let Some(free) = data.apart.filter(|free| data.needed > *free) {
        let needed = data.needed;
        return Some(format!(
            "the disk of its data has {free} bytes free, {needed} are needed to save them"
        ));
    }
    let room = room_needed(found, facts, data);
    (room > facts.free_bytes)
        .then(|| format!("the disk has {} bytes free, {room} are needed", facts.free_bytes))
}

/// Why a release does not go together with the other components, whichever of their versions comes to run.
#[must_use]
pub fn misfit(release: &Release, neighbours: &Neighbours) -> Option<String> {
    for (name, wanted) in &release.requires.components {
        let here = neighbours.get(name).map(Vec::as_slice).unwrap_or_default();
        if here.is_empty() {
            return Some(format!(
                "it requires {name} {wanted}, which is not installed here"
            ));
        }
        if let Some(other) = here.iter().find(|other| !wanted.matches(other.version.semver())) {
            return Some(format!("it requires {name} {wanted}, here is {}", other.version));
        }
    }
    for (name, here) in neighbours {
        for other in here {
            let wanted = other.requires.get(&release.component);
            if let Some(wanted) = wanted.filter(|wanted| !wanted.matches(release.version.semver())) {
                let version = &other.version;
                return Some(format!(
                    "{name} {version}, which is here, requires {} {wanted}",
                    release.component
                ));
            }
        }
    }
    None
}

/// Why the data here, of this schema, do not suit a release. A release without a schema has schema 0.
#[must_use]
pub fn strange_data(release: &Release, here: Option<u32>) -> Option<String> {
    let here = here?;
    let state = release.state.clone().unwrap_or_default();
    let readable = state.readable();
    (!state.reads(here)).then(|| format!("the data here have schema {here}, it takes over {readable}"))
}

/// What becomes of the data when a release takes over: with a `[state]` they are saved; `now`: how the running version
/// keeps them, `here`: their schema, none where nothing runs.
#[must_use]
pub fn data_change(release: &Release, now: Option<&State>, here: Option<u32>) -> Option<DataChange> {
    let state = release.state.as_ref()?;
    // A part is enough only where both mean the same one.
    let folder = state
        .folder
        .clone()
        .filter(|folder| now.is_some_and(|now| now.folder.as_ref() == Some(folder)));
    Some(DataChange {
        folder,
        from: here?,
        to: state.to,
    })
}

/// Bytes that installing takes: a package lies there twice until it is unpacked, a single file once.
fn room_needed(found: &Found, facts: &Facts, data: DataRoom) -> u64 {
    let unpacked = match found.release.form {
        Form::Package => found.length,
        Form::Single => 0,
    };
    let missing = found.length.saturating_sub(facts.arrived_bytes);
    // A module gets files of its own.
    let given = found.release.kind.module().map_or(0, |_| found.length);
    let saved = if data.apart.is_some() { 0 } else { data.needed };
    let needed = missing
        .saturating_add(unpacked)
        .saturating_add(saved)
        .saturating_add(given)
        .saturating_add(DISK_RESERVE);
    needed.max(found.release.requires.disk_bytes.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use release::{Component, Form, How, Manifest, Run};
    use tuf::UnixTime;

    fn name(text: &str) -> Component {
        text.parse().unwrap()
    }

    fn release(component: &str, version: u64, requires: &[(&str, &str)]) -> Release {
        let run = Run::plain(How::Exec, "x".parse().unwrap());
        let mut manifest = Manifest::new(name(component), Version::new(version, 0, 0), run);
        manifest.requires.components = needs(requires);
        manifest.release("0".repeat(32), 1, Form::Single, "x".into(), UnixTime(0))
    }

    fn needs(requires: &[(&str, &str)]) -> BTreeMap<Component, VersionReq> {
        let needs = requires.iter();
        needs
            .map(|(other, range)| (name(other), range.parse().unwrap()))
            .collect()
    }

    fn here(version: u64, requires: &[(&str, &str)]) -> Neighbour {
        Neighbour {
            version: Version::new(version, 0, 0),
            requires: needs(requires),
        }
    }

    #[test]
    fn what_does_not_go_together_is_named() {
        let broker = |versions: Vec<Neighbour>| Neighbours::from([(name("broker"), versions)]);
        for (release, neighbours, right) in [
            (release("app", 1, &[]), broker(vec![here(1, &[])]), None),
            (
                release("app", 1, &[("broker", ">=2")]),
                broker(vec![here(2, &[])]),
                None,
            ),
            (
                release("app", 1, &[("broker", ">=2")]),
                Neighbours::new(),
                Some("it requires broker >=2, which is not installed here"),
            ),
            (
                release("app", 1, &[("broker", ">=2")]),
                broker(Vec::new()),
                Some("it requires broker >=2, which is not installed here"),
            ),
            (
                release("app", 1, &[("broker", ">=2")]),
                broker(vec![here(1, &[])]),
                Some("it requires broker >=2, here is 1.0.0"),
            ),
            (
                // While broker is on its way from 1 to 2, either may come to run.
                release("app", 1, &[("broker", ">=2")]),
                broker(vec![here(1, &[]), here(2, &[])]),
                Some("it requires broker >=2, here is 1.0.0"),
            ),
            (
                release("app", 3, &[]),
                broker(vec![here(1, &[("app", "<3")])]),
                Some("broker 1.0.0, which is here, requires app <3"),
            ),
            (
                release("app", 3, &[]),
                broker(vec![here(1, &[]), here(2, &[("app", "<3")])]),
                Some("broker 2.0.0, which is here, requires app <3"),
            ),
        ] {
            assert_eq!(misfit(&release, &neighbours).as_deref(), right);
        }
    }

    /// Every pair of two components' versions and ranges, against numbers compared by hand.
    #[test]
    fn a_release_fits_exactly_where_the_numbers_say_so() {
        for code in 0..4u64.pow(5) {
            let digit = |place: u32| code / 4u64.pow(place) % 4;
            let (app, old, new) = (digit(0), digit(1), digit(2));
            let (lowest, highest) = (digit(3), digit(4));
            let release = release("app", app, &[("broker", &format!(">={lowest}"))]);
            let limit = format!("<={highest}");
            let broker = vec![here(old, &[]), here(new, &[("app", &limit)])];
            let fits = old >= lowest && new >= lowest && app <= highest;
            let found = misfit(&release, &Neighbours::from([(name("broker"), broker)]));
            assert_eq!(found.is_none(), fits, "{code}: {found:?}");
        }
    }
}
