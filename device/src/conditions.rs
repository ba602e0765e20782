//! Whether a release that is here may be activated now: its author's signed policy and this site's settings, held against
//! facts. Pure: the stricter of the two counts, and every condition that is not met is named.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use protocol::device::Unmet;
use release::{Component, Otherwise, Policy, Tainted, Urgency, Window};
use tuf::UnixTime;
use tuf::clock::Believed;

use crate::limits::IDLE_LOAD_PERCENT;
use crate::settings::{Mode, Site};

const DAY: u64 = 86_400;
const HOUR: u64 = 3600;
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// What is asked of the moment of activation, and by whom.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// What the release is of.
    pub component: &'a Component,
    /// Its author's signed word.
    pub policy: &'a Policy,
    /// When its author released it, by the author's clock.
    pub released: UnixTime,
    /// This device's own settings.
    pub site: &'a Site,
}

/// What is known of the device at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The time, and whether it is known.
    pub time: Believed,
    /// Nothing verified lies after this; none: nothing is verified.
    pub floor: Option<UnixTime>,
    /// Seconds that local time is ahead of UTC.
    pub offset_seconds: i32,
    /// How busy the processors are, of all that they can do; none: it cannot be read.
    pub load_percent: Option<u32>,
    /// What feeds the device.
    pub power: Power,
    /// Where the device says that it is.
    pub place: Option<String>,
    /// The interlocks that are set; none: they cannot be read.
    pub interlocks: Option<BTreeMap<String, Interlock>>,
    /// Whether a version of the component is installed.
    pub installed: bool,
    /// Whether its program says that it is busy.
    pub busy: bool,
    /// Whether the release is on this disk already.
    pub fetched: bool,
    /// Seconds that it has waited for certain.
    pub waited_seconds: u64,
    /// It waits for a person since its author's time was over.
    pub asks: bool,
    /// Whether a person said that it is to be installed.
    pub told: bool,
    /// What is not as it was installed, or does not run; empty: nothing is known to be wrong, or nobody looked.
    pub tainted: Vec<String>,
    /// Whether there is a way back to what runs, or nothing to lose.
    pub recovery: bool,
    /// Why the gateway holds it back, if it does, such as after roll backs on other devices.
    pub held_back: Option<String>,
}

/// What feeds a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// No battery.
    Mains,
    /// The emptiest battery holds so many percent.
    Battery(u8),
    /// There is a battery that does not say what it holds.
    Unknown,
}

/// An interlock that is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interlock {
    /// Who set it, in the words of its file or by the file's owner.
    pub holder: String,
    /// When, by the file's time.
    pub since: Option<UnixTime>,
}

/// A condition that is not met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Which; the same at the next look.
    pub key: String,
    /// What is asked and what is, in words.
    pub what: String,
    /// Who holds the release back by it.
    pub holder: String,
    /// Since when, where that is known otherwise than by looking.
    pub since: Option<UnixTime>,
    /// When it will be met by itself, where that can be said.
    pub until: Option<UnixTime>,
}

/// What is to become of a release that is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It may be activated.
    Go,
    /// Not yet.
    Wait(Vec<Condition>),
    /// Its author's time is over, and a person is to decide.
    Ask(Vec<Condition>),
    /// Its author's time is over, and its author then wants it no more.
    GiveUp(String),
}

/// Judges the moment. Before the release is fetched only people and the author's time count: the rest is about activation.
#[must_use]
pub fn judge(asked: &Asked<'_>, facts: &Facts) -> Verdict {
    let policy = asked.policy;
    let mut unmet = if facts.fetched {
        of_author(asked, facts)
    } else {
        Vec::new()
    };
    let of_site = of_site(asked, facts);
    let is_over = |hours: &u32| facts.waited_seconds >= u64::from(*hours) * HOUR;
    let over = policy.wait_hours.filter(is_over);
    let mut asks = facts.asks;
    match (over, policy.otherwise) {
        (Some(hours), Otherwise::Refuse) if !unmet.is_empty() || !facts.fetched => {
            unmet.extend(of_site);
            return Verdict::GiveUp(format!(
                "given up as its author wants after {hours} h of waiting: {}",
                in_words(&unmet)
            ));
        }
        // By its author's own word; what the site asks stays.
        (Some(_), Otherwise::Install) => unmet.clear(),
        (Some(_), Otherwise::Ask) => asks |= !unmet.is_empty(),
        _ => {}
    }
    asks &= !facts.told;
    if asks {
        let hours = policy.wait_hours.unwrap_or_default();
        let why = format!("its author's {hours} h of waiting are over");
        person(&mut unmet, asked, "its author", &why);
    }
    for condition in of_site {
        if condition.key != Unmet::PERSON || unmet.iter().all(|other| other.key != Unmet::PERSON) {
            unmet.push(condition);
        }
    }
    match (unmet.is_empty(), asks) {
        (true, _) => Verdict::Go,
        (false, true) => Verdict::Ask(unmet),
        (false, false) => Verdict::Wait(unmet),
    }
}

/// Conditions in one line.
#[must_use]
pub fn in_words(unmet: &[Condition]) -> String {
    let words: Vec<&str> = unmet.iter().map(|condition| condition.what.as_str()).collect();
    words.join("; ")
}

fn of_author(asked: &Asked<'_>, facts: &Facts) -> Vec<Condition> {
    let (policy, author) = (asked.policy, "its author");
    let mut unmet = Vec::new();
    match policy.urgency {
        Urgency::Immediate | Urgency::Window => {}
        Urgency::Idle => idle(&mut unmet, asked, facts),
        Urgency::Soak => soak(&mut unmet, asked, facts),
        Urgency::ByHand if facts.told => {}
        Urgency::ByHand => person(&mut unmet, asked, author, "it is installed by hand only"),
    }
    if let Some(condition) = window("window", author, &policy.windows, facts) {
        unmet.push(condition);
    }
    if let Some(limit) = policy.load_below_percent {
        load(&mut unmet, "load", u32::from(limit), facts);
    }
    if let Some(limit) = policy.power_above_percent {
        power(&mut unmet, limit, facts);
    }
    if let Some(place) = policy
        .place
        .as_ref()
        .filter(|place| facts.place.as_ref() != Some(place))
    {
        let here = match &facts.place {
            Some(here) => format!("in {here}, says `place` in device.toml"),
            None => "nowhere: device.toml names no `place`".to_owned(),
        };
        let what = format!("the device must be in {place}, it is {here}");
        unmet.push(plain("place", author, what));
    }
    if let Some(name) = &policy.interlock {
        interlock(&mut unmet, name, author, facts);
    }
    tainted(&mut unmet, asked, facts);
    unmet
}

fn of_site(asked: &Asked<'_>, facts: &Facts) -> Vec<Condition> {
    let site = "this site";
    let mut unmet = Vec::new();
    match asked.site.mode {
        Mode::Download | Mode::Notify if facts.told => {}
        Mode::Automatic => {}
        Mode::Notify => person(
            &mut unmet,
            asked,
            site,
            "nothing is fetched before, by `mode` in device.toml",
        ),
        Mode::Download => person(
            &mut unmet,
            asked,
            site,
            "it is not activated before, by `mode` in device.toml",
        ),
    }
    // Whoever operates the gateway may delay, as ever.
    if let Some(reason) = &facts.held_back {
        let what = format!("the gateway must not hold it back, and does: {reason}");
        unmet.push(plain("gateway", "the gateway", what));
    }
    if !facts.fetched {
        return unmet;
    }
    if let Some(condition) = window("site-window", site, &asked.site.windows, facts) {
        unmet.push(condition);
    }
    for name in &asked.site.interlocks {
        // Named by both, it is one condition.
        if asked.policy.interlock.as_ref() != Some(name) {
            interlock(&mut unmet, name, site, facts);
        }
    }
    unmet
}

fn plain(key: &str, holder: &str, what: String) -> Condition {
    Condition {
        key: key.to_owned(),
        what,
        holder: holder.to_owned(),
        since: None,
        until: None,
    }
}

fn person(unmet: &mut Vec<Condition>, asked: &Asked<'_>, holder: &str, why: &str) {
    if unmet.iter().any(|condition| condition.key == Unmet::PERSON) {
        return;
    }
    let what = format!(
        "a person must say so (`device activate {}`): {why}",
        asked.component
    );
    unmet.push(plain(Unmet::PERSON, holder, what));
}

/// A tainted device is not updated unless there is a way back (R-003-24).
fn tainted(unmet: &mut Vec<Condition>, asked: &Asked<'_>, facts: &Facts) {
    let may = match asked.policy.tainted {
        Tainted::Install => true,
        Tainted::Recoverable => facts.recovery,
        Tainted::Ask => false,
    };
    if may || facts.told || facts.tainted.is_empty() {
        return;
    }
    let no_way = if facts.recovery {
        ""
    } else {
        ", and there is no way back"
    };
    let why = format!("the device is tainted ({}){no_way}", facts.tainted.join("; "));
    person(unmet, asked, "this device", &why);
}

/// Nothing to do: the program does not say that it is busy, and the machine is not either.
fn idle(unmet: &mut Vec<Condition>, asked: &Asked<'_>, facts: &Facts) {
    if !facts.installed {
        return;
    }
    if facts.busy {
        let what = "the program says that it is busy, by the file `busy` in its data".to_owned();
        unmet.push(plain("busy", asked.component.as_str(), what));
    }
    load(unmet, "idle", IDLE_LOAD_PERCENT, facts);
}

fn load(unmet: &mut Vec<Condition>, key: &str, limit: u32, facts: &Facts) {
    let is = match facts.load_percent {
        Some(load) if load < limit => return,
        Some(load) => format!("it is {load} %"),
        None => "it cannot be read".to_owned(),
    };
    unmet.push(plain(
        key,
        "its author",
        format!("the load must be below {limit} %, {is}"),
    ));
}

fn power(unmet: &mut Vec<Condition>, limit: u8, facts: &Facts) {
    let is = match facts.power {
        Power::Mains => return,
        Power::Battery(percent) if percent > limit => return,
        Power::Battery(percent) => format!("it holds {percent} %"),
        Power::Unknown => "what it holds cannot be read".to_owned(),
    };
    let what = format!("the battery must hold more than {limit} %, {is}");
    unmet.push(plain("power", "its author", what));
}

fn interlock(unmet: &mut Vec<Condition>, name: &str, holder: &str, facts: &Facts) {
    let key = format!("interlock {name}");
    let Some(set) = &facts.interlocks else {
        let what = format!("interlock {name} must not be set, and the folder `interlocks` cannot be read");
        unmet.push(plain(&key, holder, what));
        return;
    };
    if let Some(set) = set.get(name) {
        unmet.push(Condition {
            since: set.since,
            ..plain(&key, &set.holder, format!("interlock {name} is set"))
        });
    }
}

/// Days after the release: what this device has seen pass, or what verified times prove.
fn soak(unmet: &mut Vec<Condition>, asked: &Asked<'_>, facts: &Facts) {
    let days = u64::from(asked.policy.soak_days.unwrap_or_default());
    let proved = facts.floor.map_or(0, |floor| floor.seconds_since(asked.released));
    let age = facts.waited_seconds.max(u64::try_from(proved).unwrap_or(0));
    let left = (days * DAY).saturating_sub(age);
    if left == 0 {
        return;
    }
    let what = format!(
        "it is installed {days} days after its release: {} to go",
        span(left)
    );
    unmet.push(Condition {
        until: after(facts, left),
        ..plain("soak", "its author", what)
    });
}

fn window(key: &str, holder: &str, windows: &[Window], facts: &Facts) -> Option<Condition> {
    if windows.is_empty() {
        return None;
    }
    let names: Vec<String> = windows.iter().map(Window::to_string).collect();
    let names = names.join(", ");
    if !facts.time.known {
        let what = format!("it is installed {names} only, and the clock of this device is not set");
        return Some(plain(key, holder, what));
    }
    let local = facts.time.now.0.saturating_add(i64::from(facts.offset_seconds));
    if is_open(windows, local) {
        return None;
    }
    let (day, minute) = of_week(local);
    let mut what = format!("it is installed {names} only, here it is ");
    let name = DAYS.get(usize::from(day)).copied().unwrap_or_default();
    // Writing into a text does not fail.
    write!(what, "{name} {:02}:{:02}", minute / 60, minute % 60).ok();
    Some(Condition {
        until: opening(windows, local).and_then(|seconds| after(facts, seconds)),
        ..plain(key, holder, what)
    })
}

fn is_open(windows: &[Window], local: i64) -> bool {
    let (day, minute) = of_week(local);
    windows.iter().any(|window| window.is_open(day, minute))
}

/// Seconds until one of the windows opens.
fn opening(windows: &[Window], local: i64) -> Option<u64> {
    let into_minute = local.rem_euclid(60);
    let minutes = 1..=7 * 24 * 60_i64;
    let mut ahead = minutes.map(|minute| minute * 60 - into_minute);
    let found = ahead.find(|seconds| is_open(windows, local.saturating_add(*seconds)))?;
    u64::try_from(found).ok()
}

/// Day of the week, 0 is Monday, and minute of the day. 1 January 1970 was a Thursday.
fn of_week(local: i64) -> (u8, u16) {
    let day = (local.div_euclid(86_400) + 3).rem_euclid(7);
    let minute = local.rem_euclid(86_400) / 60;
    (u8::try_from(day).unwrap_or(0), u16::try_from(minute).unwrap_or(0))
}

/// So many seconds from now, if it is known what time that is.
fn after(facts: &Facts, seconds: u64) -> Option<UnixTime> {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    facts.time.known.then(|| facts.time.now.plus_seconds(seconds))
}

/// A time span for people, in its two largest units.
fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / DAY, seconds % DAY / HOUR, seconds % HOUR / 60);
    match (days, hours) {
        (0, 0) => format!("{minutes} min"),
        (0, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
#[path = "conditions_tests.rs"]
mod tests;
