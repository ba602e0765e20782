//! A release that waits: for its conditions, for a person, through restarts; and what ends it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use control::Client;
use device::agent::Agent;
use device::conditions::Power;
use device::once::{Bounds, Result as Applied, apply};
use device::sensors::Sensors;
use device::settings::{InstallOne, Mode};
use device::world::World;
use protocol::control::DeviceRequest;
use protocol::device::{Activity, Waiting};
use protocol::{Outcome, Step};
use release::{Otherwise, Policy, Release, Tainted, Urgency, Withdrawn};
use tuf::{Digest, UnixTime};

use crate::repository::{good, now, script};
use crate::site::{Site, component, wait_for};

/// A machine as a test wants it: seconds of the local day, load, power.
#[derive(Debug)]
struct Figures(Mutex<(i64, u32, Power)>);

impl Figures {
    /// At noon, with nothing to do, on mains.
    fn calm() -> Arc<Self> {
        Arc::new(Self(Mutex::new((12 * 3600, 1, Power::Mains))))
    }

    fn set(&self, change: impl FnOnce(&mut (i64, u32, Power))) {
        change(&mut self.0.lock().unwrap());
    }
}

impl Sensors for Figures {
    fn offset_seconds(&self, at: UnixTime) -> i32 {
        let local = self.0.lock().unwrap().0;
        (local - at.0.rem_euclid(86_400)) as i32
    }

    fn load_percent(&self) -> Option<u32> {
        Some(self.0.lock().unwrap().1)
    }

    fn power(&self) -> Power {
        self.0.lock().unwrap().2
    }
}

fn world(figures: &Arc<Figures>) -> World {
    World {
        sensors: Arc::clone(figures) as Arc<dyn Sensors>,
        ..World::system()
    }
}

/// Version 1.0.0 runs on a machine with these figures.
async fn first_on(site: &Site, figures: &Arc<Figures>) -> Agent {
    let (agent, _) = site.with_first_version().await;
    agent.cut_off().await;
    site.agent_in(world(figures)).await
}

fn second(policy: Policy) -> Release {
    Release {
        policy,
        ..script("1.1.0", 2)
    }
}

fn door() -> Policy {
    Policy {
        interlock: Some("door".into()),
        ..Policy::default()
    }
}

fn interlock(site: &Site, name: &str) -> PathBuf {
    let path = site.layout().interlocks().join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "the night shift\n").unwrap();
    path
}

fn shown(agent: &Agent) -> Option<Waiting> {
    agent.hub.components().remove(0).waiting
}

/// What waits, once it waits for exactly this.
async fn waits_for(agent: &Agent, keys: &[&str]) -> Waiting {
    wait_for(&format!("a wait for {keys:?}"), || {
        let waiting = shown(agent)?;
        let unmet: Vec<&str> = waiting.unmet.iter().map(|unmet| unmet.key.as_str()).collect();
        (unmet == keys).then_some(waiting)
    })
    .await
}

async fn activate(site: &Site, overriding: bool) -> anyhow::Result<()> {
    let mut client = Client::connect(&site.layout().control(), "the agent").await?;
    let request = DeviceRequest::Activate {
        component: component(),
        overriding,
    };
    Ok(client.call::<()>(&request).await?)
}

#[tokio::test]
async fn a_release_waits_for_all_its_conditions_while_the_old_version_is_looked_after() {
    let site = Site::new().await;
    let figures = Figures::calm();
    let agent = first_on(&site, &figures).await;
    figures.set(|figures| figures.1 = 90);
    let door_file = interlock(&site, "door");
    let second = second(Policy {
        load_below_percent: Some(50),
        windows: vec!["02:00-03:00".parse().unwrap()],
        ..door()
    });
    site.publish(&second, &good("1.1.0"), Some("1.0.0"));
    let waiting = waits_for(&agent, &["window", "load", "interlock door"]).await;
    assert_eq!(waiting.unmet[2].holder, "the night shift");
    assert!(waiting.fetched && !waiting.asks && waiting.until.is_none());
    assert_eq!(
        waiting.unmet[0].what,
        "it is installed 02:00-03:00 only, here it is fri 12:00".replace("fri", &day())
    );
    // The manager learns of it.
    wait_for("the hello", || {
        let hellos = site.manager.hellos.lock().unwrap();
        hellos.last()?.components[0].waiting.clone()
    })
    .await;
    // The old version is started again when it ends.
    let starts = || site.data("starts").matches("1.0.0").count();
    let before = starts();
    site.end_programs();
    wait_for("another start", || (starts() > before).then_some(())).await;
    wait_for("the old version to be shown as running", || {
        let state = agent.hub.components().remove(0);
        (state.activity == Activity::Running && state.waiting.is_some()).then_some(())
    })
    .await;
    figures.set(|figures| (figures.0, figures.1) = (2 * 3600 + 60, 10));
    agent.hub.look_again();
    waits_for(&agent, &["interlock door"]).await;
    assert!(
        site.manager
            .reports
            .lock()
            .unwrap()
            .iter()
            .all(|report| report.update != second.update_id.parse().ok())
    );
    // Nobody rings here: the folder is watched.
    std::fs::remove_file(door_file).unwrap();
    let report = site.ends_with(&second, Outcome::Committed).await;
    assert_eq!(report.reason, None);
    let told: Vec<&str> = report
        .events
        .iter()
        .filter(|event| event.step == Step::Waiting)
        .map(|event| event.reason.as_deref().unwrap())
        .collect();
    assert!(
        told[0].contains("the load must be below 50 %, it is 90 %; interlock door is set"),
        "{told:?}"
    );
    assert_eq!(site.data("running"), "1.1.0");
    assert_eq!(shown(&agent), None);
    agent.stop().await;
}

fn day() -> String {
    let figures = Figures::calm();
    let local = now().0 + i64::from(figures.offset_seconds(now()));
    ["mon", "tue", "wed", "thu", "fri", "sat", "sun"][usize::try_from((local / 86_400 + 3) % 7).unwrap()]
        .to_owned()
}

#[tokio::test]
async fn a_killed_agent_goes_on_waiting_where_it_was() {
    let site = Site::new().await;
    let figures = Figures::calm();
    let mut agent = first_on(&site, &figures).await;
    let door_file = interlock(&site, "door");
    let second = second(door());
    site.publish(&second, &good("1.1.0"), Some("1.0.0"));
    let waiting = waits_for(&agent, &["interlock door"]).await;
    let sent = *site.manager.bytes_sent.lock().unwrap();
    for _ in 0..5 {
        agent.cut_off().await;
        agent = site.agent_in(world(&figures)).await;
        let again = waits_for(&agent, &["interlock door"]).await;
        assert_eq!(
            (again.since, again.unmet[0].since),
            (waiting.since, waiting.unmet[0].since)
        );
        assert!(again.waited_seconds >= waiting.waited_seconds);
        assert_eq!(site.running().len(), 1);
    }
    // A power cut too.
    agent.cut_off().await;
    site.end_programs();
    std::fs::remove_file(door_file).unwrap();
    let agent = site.agent_in(world(&figures)).await;
    let report = site.ends_with(&second, Outcome::Committed).await;
    assert!(report.events.iter().any(|event| event.step == Step::Waiting));
    assert_eq!(
        *site.manager.bytes_sent.lock().unwrap(),
        sent,
        "it was here already"
    );
    agent.stop().await;
}

#[tokio::test]
async fn a_newer_order_takes_the_place_of_what_waits() {
    let site = Site::new().await;
    let agent = first_on(&site, &Figures::calm()).await;
    interlock(&site, "door");
    let second = second(door());
    site.publish(&second, &good("1.1.0"), Some("1.0.0"));
    waits_for(&agent, &["interlock door"]).await;
    // What cannot be followed takes the place of nothing.
    let mut foreign = script("1.2.0", 3);
    foreign.hardware = vec!["valve-3".into()];
    site.publish(&foreign, &good("1.2.0"), Some("1.0.0"));
    site.ends_with(&foreign, Outcome::Refused).await;
    assert_eq!(shown(&agent).unwrap().version, second.version);
    let third = script("1.3.0", 4);
    site.publish(&third, &good("1.3.0"), Some("1.0.0"));
    let report = site.ends_with(&second, Outcome::Failed).await;
    assert_eq!(report.reason.as_deref(), Some("superseded by the order of 1.3.0"));
    site.ends_with(&third, Outcome::Committed).await;
    let slot = agent.hub.generation.slot(&component());
    assert!(slot.bad.is_empty());
    wait_for("its files to go", || {
        let gone = !site.layout().release(&Digest::of(&good("1.1.0"))).exists();
        gone.then_some(())
    })
    .await;
    agent.stop().await;
}

#[tokio::test]
async fn what_is_withdrawn_while_it_waits_is_dropped_at_once() {
    let site = Site::new().await;
    let agent = first_on(&site, &Figures::calm()).await;
    interlock(&site, "door");
    let mut second = second(door());
    site.publish(&second, &good("1.1.0"), Some("1.0.0"));
    waits_for(&agent, &["interlock door"]).await;
    second.withdrawn = Some(Withdrawn {
        at: now(),
        reason: "burns the boiler".into(),
    });
    let timestamp = {
        let mut repository = site.manager.repository.lock().unwrap();
        repository.publish(&second, &good("1.1.0"));
        repository.version()
    };
    let refresh = ("refresh".to_owned(), format!("{{\"timestamp\":{timestamp}}}"));
    site.manager.events.send(refresh).unwrap();
    let report = site.ends_with(&second, Outcome::Failed).await;
    assert!(report.reason.unwrap().contains("burns the boiler"));
    assert!(!site.layout().release(&Digest::of(&good("1.1.0"))).exists());
    assert_eq!((shown(&agent), site.data("running").as_str()), (None, "1.0.0"));
    agent.stop().await;
}

#[tokio::test]
async fn a_person_says_now_and_what_is_overridden_is_recorded_and_reported() {
    let site = Site::new().await;
    let agent = first_on(&site, &Figures::calm()).await;
    let nothing = activate(&site, false).await.unwrap_err().to_string();
    assert!(
        nothing.contains("no release of thermostat waits here"),
        "{nothing}"
    );
    interlock(&site, "door");
    let second = second(Policy {
        urgency: Urgency::ByHand,
        ..door()
    });
    site.publish(&second, &good("1.1.0"), Some("1.0.0"));
    assert!(waits_for(&agent, &["person", "interlock door"]).await.asks);
    let refused = activate(&site, false).await.unwrap_err().to_string();
    assert!(
        refused.contains("1.1.0 is not installed now: interlock door is set; `--override`"),
        "{refused}"
    );
    assert_eq!(site.data("running"), "1.0.0");
    activate(&site, true).await.unwrap();
    let report = site.ends_with(&second, Outcome::Committed).await;
    let note = "conditions overridden by hand: interlock door is set";
    assert_eq!(report.reason.as_deref(), Some(note));
    let entry = agent.hub.log.last(1).unwrap().remove(0);
    assert_eq!(
        (entry.outcome.as_str(), entry.reason.as_deref()),
        ("committed", Some(note))
    );
    agent.stop().await;
}

#[tokio::test]
async fn a_word_is_enough_where_only_a_person_is_waited_for() {
    let site = Site::new().await;
    let agent = first_on(&site, &Figures::calm()).await;
    let second = second(Policy {
        urgency: Urgency::ByHand,
        ..Policy::default()
    });
    site.publish(&second, &good("1.1.0"), Some("1.0.0"));
    waits_for(&agent, &["person"]).await;
    activate(&site, false).await.unwrap();
    let report = site.ends_with(&second, Outcome::Committed).await;
    assert_eq!(report.reason, None, "nothing was overridden");
    agent.stop().await;
}

#[tokio::test]
async fn a_site_that_wants_to_be_asked_first_fetches_nothing_before() {
    let site = Site::new().await;
    let figures = Figures::calm();
    let agent = first_on(&site, &figures).await;
    agent.cut_off().await;
    site.settings(|settings| {
        let one = InstallOne {
            mode: Some(Mode::Notify),
            windows: Some(vec!["02:00-03:00".parse().unwrap()]),
            ..InstallOne::default()
        };
        settings.install.components = BTreeMap::from([(component(), one)]);
    });
    let agent = site.agent_in(world(&figures)).await;
    let sent = *site.manager.bytes_sent.lock().unwrap();
    let second = script("1.1.0", 2);
    site.publish(&second, &good("1.1.0"), Some("1.0.0"));
    let waiting = waits_for(&agent, &["person"]).await;
    assert!(!waiting.fetched && waiting.asks);
    agent.cut_off().await;
    let agent = site.agent_in(world(&figures)).await;
    assert_eq!(waits_for(&agent, &["person"]).await.since, waiting.since);
    assert_eq!(*site.manager.bytes_sent.lock().unwrap(), sent);
    activate(&site, false).await.unwrap();
    let here = waits_for(&agent, &["site-window"]).await;
    assert!(here.fetched && *site.manager.bytes_sent.lock().unwrap() > sent);
    assert!(here.until.is_some());
    figures.set(|figures| figures.0 = 2 * 3600);
    agent.hub.look_again();
    site.ends_with(&second, Outcome::Committed).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_site_that_only_downloads_by_itself_activates_on_a_word() {
    let site = Site::new().await;
    let figures = Figures::calm();
    let agent = first_on(&site, &figures).await;
    agent.cut_off().await;
    site.settings(|settings| settings.install.mode = Some(Mode::Download));
    let agent = site.agent_in(world(&figures)).await;
    let second = script("1.1.0", 2);
    site.publish(&second, &good("1.1.0"), Some("1.0.0"));
    assert!(waits_for(&agent, &["person"]).await.fetched);
    assert!(site.layout().release(&Digest::of(&good("1.1.0"))).is_dir());
    activate(&site, false).await.unwrap();
    site.ends_with(&second, Outcome::Committed).await;
    agent.stop().await;
}

#[tokio::test]
async fn an_end_of_waiting_gives_a_release_up_and_it_is_not_tried_again() {
    let site = Site::new().await;
    let agent = first_on(&site, &Figures::calm()).await;
    interlock(&site, "door");
    let second = second(Policy {
        wait_hours: Some(72),
        otherwise: Otherwise::Refuse,
        ..door()
    });
    site.publish(&second, &good("1.1.0"), Some("1.0.0"));
    waits_for(&agent, &["interlock door"]).await;
    // What is verified now was signed three days later.
    let later = now().plus_seconds(72 * 3600 + 60);
    agent.hub.world.clock.set_floor(Some(later));
    agent.hub.look_again();
    let report = site.ends_with(&second, Outcome::Refused).await;
    assert!(
        report
            .reason
            .unwrap()
            .contains("after 72 h of waiting: interlock door is set")
    );
    wait_for("rest", || (shown(&agent).is_none()).then_some(())).await;
    assert!(
        agent
            .hub
            .generation
            .slot(&component())
            .bad_reason(&Digest::of(&good("1.1.0")))
            .is_some()
    );
    assert_eq!(site.data("running"), "1.0.0");
    agent.stop().await;
}

/// Changes a file of the release that runs, as a person with an editor does.
fn edit(site: &Site, agent: &Agent) {
    let digest = agent.hub.components()[0].digest.unwrap();
    let file = site.layout().release(&digest).join("payload/thermostat.sh");
    let mut text = std::fs::read(&file).unwrap();
    text.extend(b"# mended by hand\n");
    std::fs::write(&file, text).unwrap();
}

/// R-003-24: there would be no way back to what was changed.
#[tokio::test]
async fn a_device_where_somebody_changed_what_runs_asks_a_person() {
    let site = Site::new().await;
    let agent = first_on(&site, &Figures::calm()).await;
    edit(&site, &agent);
    let second = script("1.1.0", 2);
    site.publish(&second, &good("1.1.0"), Some("1.0.0"));
    let waiting = waits_for(&agent, &["person"]).await;
    let what = &waiting.unmet[0].what;
    assert!(
        what.contains("payload/thermostat.sh of the installed release was changed on this disk")
            && what.contains("no way back"),
        "{what}"
    );
    assert_eq!(waiting.unmet[0].holder, "this device");
    assert_eq!(site.data("running"), "1.0.0");
    activate(&site, false).await.unwrap();
    site.ends_with(&second, Outcome::Committed).await;
    agent.stop().await;
}

#[tokio::test]
async fn an_author_may_want_a_tainted_device_mended_at_once() {
    let site = Site::new().await;
    let agent = first_on(&site, &Figures::calm()).await;
    edit(&site, &agent);
    let second = second(Policy {
        tainted: Tainted::Install,
        ..Policy::default()
    });
    site.publish(&second, &good("1.1.0"), Some("1.0.0"));
    site.ends_with(&second, Outcome::Committed).await;
    agent.stop().await;
}

/// A program that does not stay up has nothing to lose, unless its author wants a person to look first.
#[tokio::test]
async fn what_does_not_run_is_mended_by_an_update_or_looked_at_first() {
    let site = Site::new().await;
    let agent = first_on(&site, &Figures::calm()).await;
    edit(&site, &agent);
    site.end_programs();
    wait_for("the refusal to start it", || {
        (agent.hub.components()[0].activity == Activity::Failing).then_some(())
    })
    .await;
    let careful = second(Policy {
        tainted: Tainted::Ask,
        ..Policy::default()
    });
    site.publish(&careful, &good("1.1.0"), Some("1.0.0"));
    let waiting = waits_for(&agent, &["person"]).await;
    assert!(
        waiting.unmet[0].what.contains("thermostat 1.0.0 does not run"),
        "{waiting}"
    );
    let third = script("1.2.0", 3);
    site.publish(&third, &good("1.2.0"), Some("1.0.0"));
    site.ends_with(&third, Outcome::Committed).await;
    assert_eq!(site.data("running"), "1.2.0");
    agent.stop().await;
}

/// The four policies of the paper (R-003-20, 21, 24): a delay of N days ends when so many days have verifiably passed, a
/// high load ends when it is low.
#[tokio::test]
async fn a_delay_of_days_and_a_high_load_end_by_themselves() {
    let site = Site::new().await;
    let figures = Figures::calm();
    let agent = first_on(&site, &figures).await;
    figures.set(|figures| figures.1 = 95);
    let second = second(Policy {
        urgency: Urgency::Soak,
        soak_days: Some(10),
        load_below_percent: Some(30),
        ..Policy::default()
    });
    site.publish(&second, &good("1.1.0"), Some("1.0.0"));
    let waiting = waits_for(&agent, &["soak", "load"]).await;
    assert!(waiting.unmet[0].until.is_some() && waiting.unmet[1].until.is_none());
    // A clock that somebody sets ahead ends nothing; what is verified now was signed ten days later.
    let later = now().plus_seconds(10 * 86_400 + 60);
    agent.hub.world.clock.set_floor(Some(later));
    agent.hub.look_again();
    waits_for(&agent, &["load"]).await;
    assert_eq!(site.data("running"), "1.0.0");
    figures.set(|figures| figures.1 = 5);
    agent.hub.look_again();
    site.ends_with(&second, Outcome::Committed).await;
    agent.stop().await;
}

/// Rolled back elsewhere, the gateway stops it: what only waits for its window is not activated either.
#[tokio::test]
async fn what_the_gateway_stops_meanwhile_is_not_activated() {
    let site = Site::new().await;
    let agent = first_on(&site, &Figures::calm()).await;
    let door_file = interlock(&site, "door");
    let second = second(door());
    let order = site.publish(&second, &good("1.1.0"), Some("1.0.0"));
    waits_for(&agent, &["interlock door"]).await;
    let why = "2 devices rolled it back".to_owned();
    *site.manager.held_back.lock().unwrap() = BTreeMap::from([(order.update, why)]);
    agent.hub.hello_due.notify_one();
    waits_for(&agent, &["interlock door", "gateway"]).await;
    std::fs::remove_file(door_file).unwrap();
    waits_for(&agent, &["gateway"]).await;
    assert_eq!(site.data("running"), "1.0.0");
    site.manager.held_back.lock().unwrap().clear();
    agent.hub.hello_due.notify_one();
    site.ends_with(&second, Outcome::Committed).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_roll_back_by_hand_ends_what_waits() {
    let site = Site::new().await;
    let agent = first_on(&site, &Figures::calm()).await;
    let second = script("1.1.0", 2);
    site.publish(&second, &good("1.1.0"), Some("1.0.0"));
    site.ends_with(&second, Outcome::Committed).await;
    interlock(&site, "door");
    let third = Release {
        policy: door(),
        ..script("1.2.0", 3)
    };
    site.publish(&third, &good("1.2.0"), Some("1.1.0"));
    waits_for(&agent, &["interlock door"]).await;
    let mut client = Client::connect(&site.layout().control(), "the agent")
        .await
        .unwrap();
    let back = DeviceRequest::Rollback {
        component: component(),
    };
    client.call::<()>(&back).await.unwrap();
    let report = site.ends_with(&third, Outcome::Failed).await;
    assert_eq!(
        report.reason.as_deref(),
        Some("superseded by a roll back by hand")
    );
    wait_for("the first version", || {
        (site.data("running") == "1.0.0").then_some(())
    })
    .await;
    assert!(agent.hub.components()[0].held);
    agent.stop().await;
}

#[tokio::test]
async fn one_bounded_run_leaves_what_waits_to_the_next() {
    let site = Site::new().await;
    let figures = Figures::calm();
    first_on(&site, &figures).await.cut_off().await;
    let door_file = interlock(&site, "door");
    let second = second(door());
    site.publish(&second, &good("1.1.0"), Some("1.0.0"));
    for _ in 0..2 {
        let agent = site.agent_in(world(&figures)).await;
        let applied = apply(&agent.hub, Bounds::default()).await;
        agent.cut_off().await;
        assert_eq!(
            (applied.result, applied.result.exit_code()),
            (Applied::Waiting, 9)
        );
        assert!(
            applied.waiting[0].contains("interlock door is set"),
            "{:?}",
            applied.waiting
        );
        assert_eq!(site.running().len(), 1);
    }
    std::fs::remove_file(door_file).unwrap();
    let agent = site.agent_in(world(&figures)).await;
    assert_eq!(
        apply(&agent.hub, Bounds::default()).await.result,
        Applied::Committed
    );
    agent.stop().await;
}
