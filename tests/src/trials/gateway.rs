//! The gateway, with a stolen repository in front of it.

use control::Client;
use protocol::control::{CheckResult, ManagerRequest, ManagerStatus};

use super::files::{RUNS, Series, TAMPERINGS, input, own, packed};
use super::metadata::{ATTACKS, Maker, digest};
use super::{Plan, Row, Verdict};
use crate::draws::Draws;
use crate::forge::{Set, target_path};
use crate::packages::app;
use crate::{Follow, Rogue, Site, SiteOptions};

/// Who is tried here.
const AT: &str = "gateway";

struct Session {
    site: Site,
    rogue: Rogue,
    client: Client,
    series: Series,
    bytes: Vec<u8>,
}

impl Session {
    async fn start() -> Self {
        let work = tempfile::tempdir().expect("a folder");
        let mut site = Site::running(SiteOptions {
            poll_seconds: 3600,
            events: false,
            ..SiteOptions::default()
        })
        .await;
        let mut follow: Follow = site.follow();
        let published = site.release(&app(work.path(), RUNS)).await;
        let _ = site.manager(["check-now"], "").await.ok();
        follow
            .step(|event| event.step == protocol::Step::MirrorVerified && event.update == published.update)
            .await;
        let series = Series::of(&site);
        site.stop_repository().await;
        let rogue = Rogue::repository(&site).await;
        let socket = site.path("manager/control/socket");
        let client = Client::connect(&socket, "manager")
            .await
            .expect("the manager runs");
        Self {
            site,
            rogue,
            client,
            series,
            bytes: packed("2.0.0").await,
        }
    }

    /// Puts metadata on the shelf and has the gateway look.
    async fn check(&mut self, set: &Set) -> Verdict {
        self.rogue.remove("/metadata/2.root.json");
        self.rogue.metadata(set);
        let found: CheckResult = self
            .client
            .call(&ManagerRequest::CheckNow)
            .await
            .expect("an answer");
        if found.failed {
            Verdict::Refused(found.message)
        } else if found.changed {
            Verdict::Accepted
        } else {
            Verdict::Refused(format!("nothing new: {}", found.message))
        }
    }

    /// Version and presence of what the gateway would offer.
    async fn offers(&mut self) -> Vec<(String, bool)> {
        let status: ManagerStatus = self
            .client
            .call(&ManagerRequest::Status)
            .await
            .expect("an answer");
        let row = |row: &protocol::control::ReleaseRow| (row.version.to_string(), row.mirrored);
        status.releases.iter().map(row).collect()
    }
}

pub(super) async fn run(plan: Plan, take: &mut impl FnMut(Row)) {
    let mut session = Session::start().await;
    let mut draws = Draws(plan.seed);
    let before = session.offers().await;
    let bytes = session.bytes.clone();
    let next = session.series.next(&bytes, |_| {});
    for attack in ATTACKS {
        let mut row = Row::wrong(attack.id, attack.what, AT, attack.attacker, attack.wanted);
        for number in 0..plan.trials {
            let maker = Maker {
                forge: &session.series.forge,
                next: &next,
            };
            let set = attack.set(&maker, &mut draws, number);
            let verdict = session.check(&set).await;
            row.note(digest(&set), verdict);
            session.series.forge.version += 1;
        }
        assert_eq!(session.offers().await, before, "{}: another offer", attack.what);
        session.rogue.forget();
        take(row);
    }
    files(plan, &mut session, &mut draws, take).await;
    session.site.stop_manager().await;
}

async fn files(plan: Plan, session: &mut Session, draws: &mut Draws, take: &mut impl FnMut(Row)) {
    let bytes = session.bytes.clone();
    for tampering in TAMPERINGS {
        let mut row = Row::wrong(tampering.id, tampering.what, AT, "server", tampering.wanted);
        for number in 0..plan.trials {
            let own = own(&bytes, number);
            let listed = session.series.next(&own, |_| {});
            let served = tampering.of(&own, draws);
            let set = session.series.set(&listed);
            let path = format!("/{}", target_path(&listed.name, &listed.digest));
            let digest = input(&set, &served, None);
            session.rogue.put_bytes(&path, served);
            let verdict = session.check(&set).await;
            session.rogue.remove(&path);
            let here = session
                .offers()
                .await
                .iter()
                .any(|(version, mirrored)| *mirrored && *version == listed.release.version.to_string());
            row.note(digest, if here { Verdict::Accepted } else { verdict });
        }
        session.rogue.forget();
        take(row);
    }
    let mut row = Row::right("6.4", "uncorrupted files", AT);
    for number in 0..plan.trials {
        let own = own(&bytes, number);
        let listed = session.series.next(&own, |_| {});
        let set = session.series.set(&listed);
        let path = format!("/{}", target_path(&listed.name, &listed.digest));
        let digest = input(&set, &own, None);
        session.rogue.put_bytes(&path, own);
        let verdict = session.check(&set).await;
        session.rogue.remove(&path);
        let version = listed.release.version.to_string();
        let here = session.offers().await.contains(&(version, true));
        row.note(
            digest,
            match verdict {
                Verdict::Accepted if !here => Verdict::Refused("it is not in the mirror".into()),
                verdict => verdict,
            },
        );
    }
    session.rogue.forget();
    take(row);
}
