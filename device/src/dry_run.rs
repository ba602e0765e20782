//! What would become of a release here: the planner's answer, the predicted pause, and what it would wait for now. Nothing
//! is fetched, written or started.

use std::path::Path;
use std::sync::Arc;

use durable::RecordLog;
use protocol::control::DevicePlan;
use protocol::device::{Order, Problem};
use release::plan::{Facts, Rest, Unit, plan};
use release::{Category, Component, Nature, Release, Tainted, Version};
use serde::Deserialize;
use tuf::Digest;

use crate::conditions::{Asked, Verdict as Moment, judge};
use crate::data::Data;
use crate::hub::Hub;
use crate::limits::{MEASURED_LINES, MEASURED_PAUSES};
use crate::machine::Slot;
use crate::machine_info::{available_bytes, free_bytes, machine};
use crate::order::Verdict;
use crate::prepare::weigh;
use crate::records;
use crate::stage;
use crate::trust::{Found, chain};
use crate::unit::{data_disk, moment, taint};

/// Plans the newest release of a component that the verified metadata have, or a given version of it.
///
/// # Errors
/// There is none; the trusted state cannot be used.
pub async fn dry_run(
    hub: &Arc<Hub>,
    component: &Component,
    version: Option<&Version>,
) -> Result<DevicePlan, Problem> {
    let problem = |code: &str, message: String| Problem {
        code: code.to_owned(),
        message,
    };
    let known = hub.trust.newest(component, version).await;
    let known = known.map_err(|fault| problem("trouble", chain(&fault)))?;
    let Some((target, found)) = known else {
        let what = version.map_or_else(
            || component.to_string(),
            |version| format!("{component} {version}"),
        );
        let message = format!(
            "the metadata that this device has verified know no release {what}: see `device status` for how old they are"
        );
        return Err(problem("no-such-release", message));
    };
    let slot = hub.generation.slot(component);
    let update = found.release.update_id.parse();
    let update = update.map_err(|_| problem("trouble", "its update id is malformed".to_owned()))?;
    let order = Order {
        update,
        component: component.clone(),
        expects: slot.current.as_ref().map(|now| now.version.clone()),
        version: found.release.version.clone(),
        target,
    };
    let refused = match weigh(hub, &order, &slot).await.0 {
        Verdict::Ready(_) => None,
        Verdict::AlreadyDone => Some("it runs here already".to_owned()),
        Verdict::Refused(reason) | Verdict::Failed(reason) => Some(reason),
    };
    let facts = facts(hub, &slot, &found.release, found.length, refused).await;
    Ok(DevicePlan {
        component: component.clone(),
        version: found.release.version.clone(),
        running: slot.current.as_ref().map(|now| now.version.clone()),
        plan: plan(found.release.nature.as_ref(), &facts),
        policy: found.release.policy.to_string(),
        waits: waits(hub, &slot, &found, &facts).await,
        facts,
    })
}

/// What is known here for the planner.
pub(crate) async fn facts(
    hub: &Arc<Hub>,
    slot: &Slot,
    release: &Release,
    length: u64,
    refused: Option<String>,
) -> Facts {
    let running = slot.current.as_ref().map(|now| Unit {
        component: release.component.clone(),
        cooperates: Rest::of(&now.kind),
    });
    // Asked for: that its author would have it installed nevertheless is said in the policy.
    let (tainted, recovery) = taint(hub, &release.component, slot, true, Tainted::Ask).await;
    let looking = {
        let (release, digest) = (release.clone(), slot.current.as_ref().map(|now| now.digest));
        hub.long_work(move |hub| (state_bytes(hub, &release), must_stop(hub, &release, digest)))
    };
    // Cut off, the agent ends.
    let (state_bytes, must_stop) = looking.await.unwrap_or_default();
    let (live_ms, restart_ms) = measured(&hub.layout.records(), &release.component);
    let limits = release.run.as_ref().map(|run| run.limits);
    Facts {
        running: running.into_iter().collect(),
        takes_over: Rest::of(&release.kind).is_some(),
        machine: Some(machine(&hub.settings.hardware)),
        lacks: refused,
        tainted,
        recovery,
        must_stop,
        state_bytes,
        room_bytes: available_bytes(),
        needs_bytes: limits.and_then(|limits| limits.memory_bytes).unwrap_or(length),
        spare_bytes: Some(free_bytes(&data_disk(hub))),
        live_ms,
        restart_ms,
    }
}

/// Why the running version has to be stopped for this release; none: it need not.
fn must_stop(hub: &Hub, release: &Release, running: Option<Digest>) -> Option<String> {
    let running = stage::load(&hub.world.files, &hub.layout, &running?)
        .ok()?
        .release;
    if release.state.is_some() {
        return Some("its data on disk are saved while neither version runs".to_owned());
    }
    let live = |release: &Release| release.live.clone().unwrap_or_default();
    let given = live(&running);
    if Rest::of(&running.kind).is_some() && given.way(&live(release)).is_none() {
        let (version, schema) = (&release.version, given.schema);
        return Some(format!("{version} does not take over a state of schema {schema}"));
    }
    None
}

/// Bytes of data on disk that change their form; 0 where none do, or where they cannot be looked at.
fn state_bytes(hub: &Hub, release: &Release) -> u64 {
    let on_disk = |nature: &Nature| nature.category == Category::Disk;
    if release.state.is_none() && !release.nature.as_ref().is_some_and(on_disk) {
        return 0;
    }
    let folder = release.state.as_ref().and_then(|state| state.folder.as_ref());
    let data = Data::new(&hub.world.files, &hub.layout, &release.component, folder);
    data.measure().map_or(0, |measured| measured.bytes)
}

/// What the release would wait for at this moment, if it were here.
async fn waits(hub: &Arc<Hub>, slot: &Slot, found: &Found, facts: &Facts) -> Vec<String> {
    let component = &found.release.component;
    let attempt = slot.attempt.as_ref();
    let attempt = attempt.filter(|attempt| attempt.to.digest == found.digest);
    let site = hub.settings.install.of(component);
    let asked = Asked {
        component,
        policy: &found.release.policy,
        released: found.release.released,
        site: &site,
    };
    let mut moment = moment(hub, component, slot, attempt).await;
    moment.fetched = true;
    moment.tainted.clone_from(&facts.tainted);
    moment.recovery = facts.recovery;
    match judge(&asked, &moment) {
        Moment::Go => Vec::new(),
        Moment::Wait(unmet) | Moment::Ask(unmet) => {
            unmet.into_iter().map(|condition| condition.what).collect()
        }
        Moment::GiveUp(reason) => vec![reason],
    }
}

/// Of the install record what tells how long switching took.
#[derive(Debug, Deserialize)]
struct Took {
    component: Component,
    outcome: String,
    /// None: nothing ran before that could pause.
    from: Option<Version>,
    #[serde(default)]
    restart_ms: Option<u64>,
    #[serde(default)]
    live_ms: Option<u64>,
}

/// The pauses of the newest live updates and restarts of a component that were committed.
fn measured(records: &Path, component: &Component) -> (Vec<u64>, Vec<u64>) {
    // What cannot be read was not measured.
    let lines: Vec<Took> = RecordLog::read_in(records, records::NAME, MEASURED_LINES).unwrap_or_default();
    let of_it =
        |line: &&Took| line.component == *component && line.outcome == "committed" && line.from.is_some();
    let newest = |of: fn(&Took) -> Option<u64>| {
        let all = lines.iter().rev().filter(of_it).filter_map(of);
        all.take(MEASURED_PAUSES).collect()
    };
    (newest(|took| took.live_ms), newest(|took| took.restart_ms))
}

/// The words of a plan's subject: a component, or a version of it as `COMPONENT@VERSION`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The component.
    pub component: Component,
    /// The version; none: the newest.
    pub version: Option<Version>,
}

impl std::str::FromStr for Subject {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (component, version) = match text.split_once('@') {
            Some((component, version)) => (component, Some(version)),
            None => (text, None),
        };
        let version = version.map(str::parse).transpose();
        Ok(Self {
            component: component.parse().map_err(|error| format!("{error}"))?,
            version: version.map_err(|error: release::VersionError| error.to_string())?,
        })
    }
}
