//! Long absences (DESIGN section 4, "Lifetimes"): the days pass while the programs run. What runs goes on, nothing new
//! is taken, both sides say what is wrong and what to do, and the documented step brings the next release to a device
//! that nobody has touched.

use e2e::clock::{SiteClock, fake};
use e2e::forge::{DAY, Shape};
use e2e::{Forge, SiteOptions, eventually};
use protocol::Outcome;
use protocol::control::{DeviceStatus, ManagerStatus};
use tuf::UnixTime;

use crate::keys_page::{Block, Forgery, Scene, release};

/// A site under a clock of its own, and what must be untouched at the end.
struct Absence {
    scene: Scene,
    clock: SiteClock,
    began: UnixTime,
    agent: u32,
    app: Vec<i32>,
}

impl Absence {
    /// None where there is no such clock.
    async fn begin() -> Option<Self> {
        let Some(clock) = SiteClock::new() else {
            e2e::skip("libfaketime is not installed");
            return None;
        };
        let scene = Scene::of(SiteOptions {
            poll_seconds: 1,
            clock: Some(clock.clone()),
            ..SiteOptions::default()
        })
        .await;
        Some(Self {
            began: scene.site.now(),
            agent: scene.agent.running().pid(),
            app: scene.agent.processes("app"),
            scene,
            clock,
        })
    }

    fn day(&self, day: i64) -> UnixTime {
        self.began.plus_seconds(day * DAY)
    }

    /// What the command lines of gateway and device say once the metadata are stale: in the words that a person reads.
    async fn is_told(&self) {
        let words = ["stale since", "the repository", "`admin-gui renew`"];
        let told = |text: &String| words.iter().all(|word| text.contains(word));
        eventually(
            "the gateway says it",
            || async { self.scene.site.manager(["status"], "").await.ok().stdout },
            told,
        )
        .await;
        eventually(
            "the device says it",
            || async { self.scene.agent.command(["status"]).await.ok().stdout },
            told,
        )
        .await;
        self.goes_on().await;
    }

    async fn goes_on(&self) {
        assert_eq!(self.scene.agent.shows("app").await, "1.0.0 running");
        assert_eq!(self.scene.agent.processes("app"), self.app);
        assert_eq!(self.scene.agent.running().pid(), self.agent);
    }

    /// Version 9.9.9, signed by the author, in metadata of this shape.
    async fn newer(&self, forge: &Forge, shape: Shape<'_>) -> Forgery {
        let packed = self.scene.packed().await;
        release(forge, ("1.0.0", &packed), &forge.targets_key, shape)
    }

    /// The gateway's machine is started again: devices dial it anew, with whatever certificate they have by now.
    async fn restart_manager(&mut self) {
        self.scene.site.stop_manager().await;
        self.scene.site.start_manager().await;
        let connected = |status: &DeviceStatus| status.connected;
        eventually("the device is back", || self.scene.agent.status(), connected).await;
    }

    /// The section "Certificates end" of `docs/operations.md`.
    async fn renew_certificates(&self) {
        let address = self.scene.site.address;
        let pass = "--passphrase-fd 3 3<\"$CREDENTIALS_DIRECTORY\"/drover-passphrase";
        let mut commands = vec![format!(
            "certs issue author author --ca author --out author --replace {pass}"
        )];
        for (role, name, folder) in [
            ("repository", "repository", "repository"),
            ("manager", "gateway", "manager"),
        ] {
            commands.push(format!(
                "certs issue {role} {name} --ca author --out new-{role} --host {address} --replace {pass}"
            ));
            commands.push(format!("cp new-{role}/tls.pem new-{role}/tls-key.pem {folder}"));
        }
        let block = Block {
            who: "author".into(),
            commands: commands.join("\n"),
        };
        self.scene.type_in("Certificates end", vec![block]).await;
    }

    /// Everything is there again, but a day later: the rogue's metadata were signed in the very second.
    async fn back(&mut self, day: i64) {
        self.clock.set_days(day);
        if self.scene.site.repository.is_none() {
            self.scene.site.start_repository().await;
        }
        if self.scene.site.manager.is_none() {
            self.scene.site.start_manager().await;
        }
        self.goes_on().await;
    }

    /// Repository and gateway begin a day with a start: their timers do not see the days that a test leaves out.
    async fn servers_at(&mut self, day: i64) {
        self.scene.site.stop_manager().await;
        self.scene.site.stop_repository().await;
        self.clock.set_days(day);
        self.scene.site.start_repository().await;
        self.scene.site.start_manager().await;
    }

    /// Not even the author gets past it, and is told what to do.
    async fn publishing_is_refused(&self) {
        let package = e2e::packages::app(self.scene.work.path(), "1.5.0");
        let output = self.scene.site.publish(&package, &[]).await;
        let said = output.refused();
        assert!(
            said.contains("expired") && said.contains("`admin-gui renew`"),
            "{said}"
        );
    }

    /// The next release arrives at the agent that has run all the time.
    async fn recovers(&self) {
        self.scene.update("2.0.0").await;
        assert_eq!(self.scene.agent.shows("app").await, "2.0.0 running");
        assert_eq!(self.scene.agent.running().pid(), self.agent);
        assert_eq!(self.scene.site.manager_status().await.stale_since, None);
        assert_eq!(self.scene.agent.status().await.stale_since, None);
    }
}

#[tokio::test]
async fn a_repository_that_was_down_for_twenty_days_needs_nothing_but_to_be_back() {
    let Some(mut absence) = Absence::begin().await else {
        return;
    };
    let forge = Forge::of(&absence.scene.site);
    absence.scene.site.stop_repository().await;
    absence.clock.set_days(13);
    let away = |status: &ManagerStatus| !status.alarms.is_empty();
    let status = eventually("an alarm", || absence.scene.site.manager_status(), away).await;
    assert_eq!(status.stale_since, None);
    assert_eq!(absence.scene.agent.status().await.stale_since, None);

    absence.clock.set_days(20);
    absence.is_told().await;
    let status = absence.scene.agent.status().await;
    let since = status.stale_since.unwrap().seconds_since(absence.day(14));
    assert!(since.abs() < 600, "{since} s from the fourteenth day");

    // What the author signed before, as the repository would have shown it then.
    let shape = Shape {
        expires: Some(absence.day(14)),
        signed_at: Some(absence.began),
        ..Shape::default()
    };
    let newer = absence.newer(&forge, shape).await;
    absence.scene.is_refused(newer, "timestamp.json expired at").await;
    absence.back(21).await;
    absence.recovers().await;
}

#[tokio::test]
async fn an_author_who_was_away_past_the_expiry_of_targets_renews_them() {
    let Some(mut absence) = Absence::begin().await else {
        return;
    };
    absence.clock.set_days(185);
    // Its own certificate has run out meanwhile; that is mended by itself.
    absence.restart_manager().await;
    absence.is_told().await;

    let forge = Forge::of(&absence.scene.site);
    let shape = Shape {
        signed_at: Some(absence.day(179)),
        ..Shape::default()
    };
    let newer = absence.newer(&forge, shape).await;
    absence.scene.is_refused(newer, ".targets.json expired at").await;
    absence.back(186).await;
    let health = absence.scene.site.repository(["status"]).await.ok().stdout;
    assert!(health.contains("targets role expired on"), "{health}");
    absence.scene.walk("Before something expires").await;
    absence.recovers().await;
}

#[tokio::test]
async fn an_expired_root_stops_news_until_it_is_renewed() {
    let Some(mut absence) = Absence::begin().await else {
        return;
    };
    // The certificates of a year were renewed in time, and the list of releases was; the root was forgotten.
    absence.clock.set_days(340);
    absence.renew_certificates().await;
    let renewed = absence.scene.site.author(["renew", "--only", "targets"]).await;
    let _ = renewed.ok();
    absence.restart_manager().await;
    absence.clock.set_days(370);
    absence.restart_manager().await;
    absence.is_told().await;

    let forge = Forge::of(&absence.scene.site);
    let shape = Shape {
        signed_at: Some(absence.day(364)),
        ..Shape::default()
    };
    let newer = absence.newer(&forge, shape).await;
    absence.scene.is_refused(newer, "root.json expired at").await;
    absence.back(371).await;
    let health = absence.scene.site.repository(["status"]).await.ok().stdout;
    assert!(health.contains("root role expired on"), "{health}");
    absence.publishing_is_refused().await;
    absence.scene.walk("Before something expires").await;
    absence.recovers().await;
}

/// Off for a month, its clock gone with the battery: it takes what was released meanwhile, and nobody helps.
#[tokio::test]
async fn a_device_that_was_off_for_a_month_wakes_at_1970_and_updates_by_itself() {
    let Some(mut absence) = Absence::begin().await else {
        return;
    };
    absence.scene.agent.kill().await;
    absence.scene.agent.end_programs();
    absence.servers_at(20).await;
    let package = e2e::packages::app(absence.scene.work.path(), "2.0.0");
    let published = absence.scene.site.release(&package).await;
    absence.servers_at(35).await;
    let agent = &mut absence.scene.agent;
    agent.env = fake("@1970-01-01 00:05:00")
        .expect("as before")
        .into_iter()
        .collect();
    agent.start().await;
    let (outcome, reason) = agent.watch().outcome(&agent.name, published.update).await;
    assert_eq!(outcome, Outcome::Committed, "{reason:?}");
    assert_eq!(agent.shows("app").await, "2.0.0 running");
    let status = agent.status().await;
    assert!(!status.time_known && status.stale_since.is_none(), "{status:?}");
}
