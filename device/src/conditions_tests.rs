//! The verdict against one that is worked out another way, and the words that go with it.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// A Monday, midnight UTC: 1 January 2024.
const MONDAY: i64 = 1_704_067_200;

fn component() -> Component {
    "thermostat".parse().unwrap()
}

/// All is well: nothing holds anything back.
fn calm() -> Facts {
    Facts {
        time: Believed {
            now: UnixTime(MONDAY),
            known: true,
        },
        floor: Some(UnixTime(MONDAY - 3600)),
        offset_seconds: 0,
        load_percent: Some(3),
        power: Power::Mains,
        place: Some("depot".into()),
        interlocks: Some(BTreeMap::new()),
        installed: true,
        busy: false,
        fetched: true,
        waited_seconds: 0,
        asks: false,
        told: false,
        tainted: Vec::new(),
        recovery: true,
        held_back: None,
    }
}

fn verdict(policy: &Policy, site: &Site, facts: &Facts) -> Verdict {
    let component = component();
    let asked = Asked {
        component: &component,
        policy,
        released: UnixTime(MONDAY - 86_400),
        site,
    };
    judge(&asked, facts)
}

fn keys(verdict: &Verdict) -> BTreeSet<&str> {
    match verdict {
        Verdict::Go => BTreeSet::new(),
        Verdict::Wait(unmet) | Verdict::Ask(unmet) => unmet.iter().map(|unmet| unmet.key.as_str()).collect(),
        Verdict::GiveUp(reason) => panic!("{reason}"),
    }
}

fn windows(text: &[&str]) -> Vec<Window> {
    text.iter().map(|window| window.parse().unwrap()).collect()
}

/// Everything asked for, nothing met: each condition is named, with who holds it.
#[test]
fn all_conditions_that_are_not_met_are_named_at_once() {
    let policy = Policy {
        urgency: Urgency::Soak,
        soak_days: Some(10),
        windows: windows(&["22:00-04:00"]),
        load_below_percent: Some(20),
        power_above_percent: Some(60),
        place: Some("depot".into()),
        interlock: Some("door".into()),
        tainted: Tainted::Recoverable,
        wait_hours: Some(500),
        otherwise: Otherwise::Ask,
    };
    let site = Site {
        mode: Mode::Download,
        windows: windows(&["sat,sun 00:00-24:00"]),
        interlocks: vec!["door".into(), "shift".into()],
    };
    let held = |holder: &str| Interlock {
        holder: holder.into(),
        since: Some(UnixTime(MONDAY - 60)),
    };
    let facts = Facts {
        time: Believed {
            now: UnixTime(MONDAY + 12 * 3600),
            known: true,
        },
        offset_seconds: 3600,
        load_percent: Some(82),
        power: Power::Battery(60),
        place: None,
        interlocks: Some(BTreeMap::from([
            ("door".to_owned(), held("user 7")),
            ("shift".to_owned(), held("night shift")),
        ])),
        ..calm()
    };
    let Verdict::Wait(unmet) = verdict(&policy, &site, &facts) else {
        panic!()
    };
    let said: Vec<String> = unmet
        .iter()
        .map(|c| format!("{} | {} | {}", c.key, c.holder, c.what))
        .collect();
    assert_eq!(
        said,
        [
            "soak | its author | it is installed 10 days after its release: 9 d 1 h to go",
            "window | its author | it is installed 22:00-04:00 only, here it is mon 13:00",
            "load | its author | the load must be below 20 %, it is 82 %",
            "power | its author | the battery must hold more than 60 %, it holds 60 %",
            "place | its author | the device must be in depot, it is nowhere: device.toml names no `place`",
            "interlock door | user 7 | interlock door is set",
            "person | this site | a person must say so (`device activate thermostat`): it is not activated before, by \
             `mode` in device.toml",
            "site-window | this site | it is installed sat,sun 00:00-24:00 only, here it is mon 13:00",
            "interlock shift | night shift | interlock shift is set",
        ]
    );
    let until: Vec<Option<i64>> = unmet
        .iter()
        .map(|c| c.until.map(|until| until.0 - facts.time.now.0))
        .collect();
    // 22:00 is nine hours ahead; Saturday begins in four days and eleven hours.
    let hours = |hours: i64| Some(hours * 3600);
    let other = [None; 5];
    assert_eq!(until[..2], [hours(9 * 24 + 1), hours(9)]);
    assert_eq!(until[2..7], other);
    assert_eq!(until[7..], [hours(4 * 24 + 11), None]);
    assert_eq!(unmet[5].since, Some(UnixTime(MONDAY - 60)));
}

/// Every word on tainted devices, with and without a way back, with and without a person's word.
#[test]
fn a_tainted_device_is_not_updated_without_a_way_back_or_a_persons_word() {
    for (tainted, recovery, told, waits) in [
        (Tainted::Recoverable, true, false, false),
        (Tainted::Recoverable, false, false, true),
        (Tainted::Recoverable, false, true, false),
        (Tainted::Ask, true, false, true),
        (Tainted::Ask, false, false, true),
        (Tainted::Ask, true, true, false),
        (Tainted::Install, false, false, false),
    ] {
        let policy = Policy {
            tainted,
            ..Policy::default()
        };
        let facts = Facts {
            tainted: vec!["payload/x was changed".into()],
            recovery,
            told,
            ..calm()
        };
        let verdict = verdict(&policy, &Site::default(), &facts);
        let asks = keys(&verdict).contains(Unmet::PERSON);
        assert_eq!(asks, waits, "{tainted:?} {recovery} {told}: {verdict:?}");
        if let Verdict::Wait(unmet) = &verdict {
            assert!(unmet[0].what.contains("payload/x was changed"), "{unmet:?}");
            assert_eq!(unmet[0].holder, "this device");
        }
        let clean = Facts {
            tainted: Vec::new(),
            ..facts
        };
        let clean = self::verdict(&policy, &Site::default(), &clean);
        assert_eq!(clean, Verdict::Go, "{tainted:?}");
    }
}

/// What was stopped elsewhere is neither fetched nor activated, whoever's time is over.
#[test]
fn what_the_gateway_holds_back_waits() {
    let policy = Policy {
        wait_hours: Some(1),
        otherwise: Otherwise::Install,
        ..Policy::default()
    };
    for fetched in [true, false] {
        let facts = Facts {
            held_back: Some("2 devices rolled it back".into()),
            waited_seconds: 3600,
            fetched,
            told: true,
            ..calm()
        };
        let verdict = verdict(&policy, &Site::default(), &facts);
        assert_eq!(keys(&verdict), BTreeSet::from(["gateway"]));
    }
}

#[test]
fn what_cannot_be_known_is_not_met() {
    let policy = Policy {
        windows: windows(&["00:00-24:00"]),
        load_below_percent: Some(100),
        power_above_percent: Some(1),
        interlock: Some("door".into()),
        ..Policy::default()
    };
    assert_eq!(verdict(&policy, &Site::default(), &calm()), Verdict::Go);
    let facts = Facts {
        time: Believed {
            known: false,
            ..calm().time
        },
        load_percent: None,
        power: Power::Unknown,
        interlocks: None,
        ..calm()
    };
    let verdict = verdict(&policy, &Site::default(), &facts);
    let unknown = ["window", "load", "power", "interlock door"];
    assert_eq!(keys(&verdict), BTreeSet::from(unknown));
}

#[test]
fn a_program_is_idle_when_neither_it_nor_the_machine_is_busy() {
    let policy = Policy {
        urgency: Urgency::Idle,
        ..Policy::default()
    };
    let judged = |change: fn(&mut Facts)| {
        let mut facts = calm();
        change(&mut facts);
        verdict(&policy, &Site::default(), &facts)
    };
    assert_eq!(judged(|_| {}), Verdict::Go);
    assert_eq!(keys(&judged(|facts| facts.busy = true)), BTreeSet::from(["busy"]));
    let loaded = judged(|facts| facts.load_percent = Some(IDLE_LOAD_PERCENT));
    assert_eq!(keys(&loaded), BTreeSet::from(["idle"]));
    let first = judged(|facts| {
        facts.installed = false;
        facts.busy = true;
    });
    assert_eq!(first, Verdict::Go, "what is not there has nothing to do");
}

#[test]
fn an_end_of_waiting_is_as_its_author_says_and_never_lifts_what_the_site_asks() {
    let policy = |otherwise| Policy {
        interlock: Some("door".into()),
        wait_hours: Some(72),
        otherwise,
        ..Policy::default()
    };
    let set = Interlock {
        holder: "user 7".into(),
        since: None,
    };
    let facts = |hours: u64| Facts {
        interlocks: Some(BTreeMap::from([("door".to_owned(), set.clone())])),
        waited_seconds: hours * 3600,
        ..calm()
    };
    let free = Site::default();
    for otherwise in [Otherwise::Ask, Otherwise::Install, Otherwise::Refuse] {
        assert_eq!(
            keys(&verdict(&policy(otherwise), &free, &facts(71))),
            BTreeSet::from(["interlock door"])
        );
    }
    assert_eq!(
        verdict(&policy(Otherwise::Install), &free, &facts(72)),
        Verdict::Go
    );
    let Verdict::GiveUp(reason) = verdict(&policy(Otherwise::Refuse), &free, &facts(72)) else {
        panic!()
    };
    assert_eq!(
        reason,
        "given up as its author wants after 72 h of waiting: interlock door is set"
    );
    let ask = verdict(&policy(Otherwise::Ask), &free, &facts(72));
    assert!(matches!(ask, Verdict::Ask(_)));
    assert_eq!(keys(&ask), BTreeSet::from(["interlock door", "person"]));
    // Once a person was to be asked, the door alone does not do it any more, and the person alone does not either.
    let asks = Facts { asks: true, ..calm() };
    assert_eq!(
        keys(&verdict(&policy(Otherwise::Ask), &free, &asks)),
        BTreeSet::from(["person"])
    );
    let told = Facts {
        told: true,
        ..facts(72)
    };
    assert_eq!(
        keys(&verdict(&policy(Otherwise::Ask), &free, &told)),
        BTreeSet::from(["interlock door"])
    );
    let night = Site {
        windows: windows(&["22:00-04:00"]),
        ..Site::default()
    };
    let noon = Facts {
        time: Believed {
            now: UnixTime(MONDAY + 12 * 3600),
            known: true,
        },
        ..facts(72)
    };
    assert_eq!(
        keys(&verdict(&policy(Otherwise::Install), &night, &noon)),
        BTreeSet::from(["site-window"])
    );
    // What was met all the time is neither asked for nor given up.
    let calm = Facts {
        waited_seconds: 72 * 3600,
        ..calm()
    };
    for otherwise in [Otherwise::Ask, Otherwise::Refuse] {
        assert_eq!(verdict(&policy(otherwise), &free, &calm), Verdict::Go);
    }
}

#[test]
fn before_it_is_fetched_only_a_person_is_waited_for() {
    let site = Site {
        mode: Mode::Notify,
        windows: windows(&["22:00-04:00"]),
        ..Site::default()
    };
    let policy = Policy {
        load_below_percent: Some(1),
        ..Policy::default()
    };
    let unfetched = Facts {
        fetched: false,
        ..calm()
    };
    assert_eq!(
        keys(&verdict(&policy, &site, &unfetched)),
        BTreeSet::from(["person"])
    );
    let told = Facts {
        told: true,
        ..unfetched
    };
    assert_eq!(verdict(&policy, &site, &told), Verdict::Go);
    let here = Facts {
        fetched: true,
        offset_seconds: 12 * 3600,
        ..told
    };
    assert_eq!(
        keys(&verdict(&policy, &site, &here)),
        BTreeSet::from(["load", "site-window"])
    );
}

/// One window as days and minutes, its text, and every minute of the week in which it is open, counted by walking.
#[derive(Debug, Clone)]
struct Walked {
    text: String,
    open: BTreeSet<i64>,
}

fn walked() -> impl Strategy<Value = Walked> {
    (
        prop::collection::btree_set(0..7_usize, 1..=7),
        0..1440_i64,
        1..1440_i64,
    )
        .prop_map(|(days, from, long)| {
            let names: Vec<&str> = days.iter().map(|day| DAYS[*day]).collect();
            let to = (from + long) % 1440;
            let text = format!(
                "{} {:02}:{:02}-{:02}:{:02}",
                names.join(","),
                from / 60,
                from % 60,
                to / 60,
                to % 60
            );
            let begins = days.iter().map(|day| i64::try_from(*day).unwrap() * 1440 + from);
            let open = begins
                .flat_map(|begin| (begin..begin + long).map(|minute| minute % 10_080))
                .collect();
            Walked { text, open }
        })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Windows of author and site, a soak, an interlock, a word: against minutes that were walked and days that were
    /// counted.
    #[test]
    fn the_verdict_is_that_of_another_reckoning(
        of_author in prop::collection::vec(walked(), 0..3),
        of_site in prop::collection::vec(walked(), 0..3),
        at in 0..60 * 10_080_i64,
        offset in -14 * 3600..14 * 3600_i32,
        soak in prop::option::of(1..30_u32),
        waited in 0..40 * 86_400_u64,
        proved in -5 * 86_400..40 * 86_400_i64,
        is_set: bool,
    ) {
        let now = MONDAY + at;
        let policy = Policy {
            urgency: if soak.is_some() { Urgency::Soak } else { Urgency::Immediate },
            soak_days: soak,
            windows: of_author.iter().map(|window| window.text.parse().unwrap()).collect(),
            interlock: Some("door".into()),
            ..Policy::default()
        };
        let site = Site {
            windows: of_site.iter().map(|window| window.text.parse().unwrap()).collect(),
            ..Site::default()
        };
        let mut set = BTreeMap::from([("other".to_owned(), Interlock { holder: "x".into(), since: None })]);
        if is_set {
            set.insert("door".to_owned(), set["other"].clone());
        }
        let facts = Facts {
            time: Believed { now: UnixTime(now), known: true },
            floor: Some(UnixTime(MONDAY - 86_400 + proved)),
            offset_seconds: offset,
            interlocks: Some(set),
            waited_seconds: waited,
            ..calm()
        };
        let minute = (now + i64::from(offset) - MONDAY).rem_euclid(604_800) / 60;
        let shut = |windows: &[Walked], minute: i64| {
            !windows.is_empty() && windows.iter().all(|window| !window.open.contains(&(minute % 10_080)))
        };
        let mut expected = BTreeSet::new();
        if shut(&of_author, minute) { expected.insert("window"); }
        if shut(&of_site, minute) { expected.insert("site-window"); }
        if is_set { expected.insert("interlock door"); }
        let needed = i64::from(soak.unwrap_or(0)) * 86_400;
        if proved.max(i64::try_from(waited).unwrap()) < needed { expected.insert("soak"); }
        let verdict = verdict(&policy, &site, &facts);
        prop_assert_eq!(keys(&verdict), expected);
        // A window that is shut says when it opens: no walked minute before that is open.
        let Verdict::Wait(unmet) = &verdict else { return Ok(()) };
        for (key, windows) in [("window", &of_author), ("site-window", &of_site)] {
            let Some(condition) = unmet.iter().find(|condition| condition.key == key) else { continue };
            let until = condition.until.unwrap().0 + i64::from(offset) - MONDAY;
            prop_assert_eq!(until % 60, 0);
            let opens = (minute..).find(|minute| !shut(windows, *minute)).unwrap();
            prop_assert_eq!(until.rem_euclid(604_800) / 60, opens % 10_080);
        }
    }
}
