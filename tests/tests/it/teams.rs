//! Teams: a key of their own for their own components, and nothing else, whoever helps the thief of it.

use std::path::PathBuf;

use e2e::forge::{DAY, Set, now, update_id};
use e2e::packages::{ALIVE, app, script};
use e2e::process::{bin, run};
use e2e::rogue::Rogue;
use e2e::site::PASSPHRASE;
use e2e::{Agent, Forge, Output, Site, SiteOptions, eventually};
use protocol::Outcome;
use protocol::control::CheckResult;
use protocol::device::Order;
use release::Release;
use tempfile::TempDir;
use tuf::editor::{SnapshotEditor, TargetsEditor, TimestampEditor};
use tuf::schema::{Hashes, TargetFile};
use tuf::{Digest, Ed25519Signer, Role, Signer};

/// The team's passphrase; the author's desk never sees it.
const TEAMS: &str = "the heating team's own words";

struct Scene {
    site: Site,
    agent: Agent,
    work: TempDir,
}

impl Scene {
    /// A site where the team `heating` publishes `heater`; `app` is the author's. Both run on a device.
    async fn new() -> Self {
        let site = Site::running(SiteOptions::default()).await;
        let agent = site.device("north").await;
        let scene = Self {
            site,
            agent,
            work: tempfile::tempdir().unwrap(),
        };
        let folder = scene.desk().display().to_string();
        let new = ["team", "new", "heating", "--dir", &folder, "--passphrase-stdin"];
        let _ = run(&bin("admin-gui"), new, &format!("{TEAMS}\n"), &[]).await.ok();
        let author = scene.site.path("author").display().to_string();
        let add = [
            "team",
            "add",
            &folder,
            "--component",
            "heater",
            "--dir",
            &author,
            "--passphrase-stdin",
        ];
        let _ = run(&bin("admin-gui"), add, &format!("{PASSPHRASE}\n"), &[])
            .await
            .ok();
        scene
    }

    fn desk(&self) -> PathBuf {
        self.site.path("heating")
    }

    fn heater(&self, version: &str) -> PathBuf {
        script(self.work.path(), "heater", version, "exec sleep 100000", ALIVE)
    }

    /// `admin-gui publish` at the team's desk.
    async fn publish(&self, path: &std::path::Path) -> Output {
        let (path, dir) = (path.display().to_string(), self.desk().display().to_string());
        let words = [
            "publish",
            &path,
            "--yes",
            "--json",
            "--dir",
            &dir,
            "--passphrase-stdin",
        ];
        run(&bin("admin-gui"), words, &format!("{TEAMS}\n"), &[]).await
    }

    async fn runs(&self, component: &str, version: &str) {
        let wanted = format!("{version} running");
        eventually(
            component,
            || self.agent.shows(component),
            |shown| *shown == wanted,
        )
        .await;
    }
}

/// What a thief of the team's key, of the online key and of the machines on the way can show.
struct Thief {
    forge: Forge,
    team_key: Ed25519Signer,
    list: Vec<u8>,
    model: Release,
}

impl Thief {
    fn of(scene: &Scene) -> Self {
        let pem = std::fs::read_to_string(scene.desk().join("team-key.pem")).unwrap();
        let team_key = Ed25519Signer::from_pkcs8(&certs::decrypt_key(&pem, TEAMS).unwrap()).unwrap();
        // The newest list, as the team's own desk has verified it.
        let state = durable::TrustStore::open(scene.desk().join("trust"))
            .unwrap()
            .load()
            .unwrap();
        let raw = state.raw(&Role::Delegated("heating".into())).unwrap().to_vec();
        let (_, target) = state
            .all_targets()
            .find(|(name, _)| name.starts_with("heater/"))
            .unwrap();
        Self {
            forge: Forge::of(&scene.site),
            team_key,
            list: raw,
            model: Release::from_custom(target.custom.as_ref().unwrap()).unwrap(),
        }
    }

    /// A release that is rightly described, and its order.
    fn release(
        &self,
        component: &str,
        version: &str,
        bytes: &[u8],
        number: u8,
        runs: Option<&str>,
    ) -> (String, TargetFile, Order) {
        let mut release = self.model.clone();
        release.component = component.parse().unwrap();
        release.version = version.parse().unwrap();
        release.counter += 10;
        release.update_id = update_id(number);
        release.file_name = format!("{component}_{version}.tar");
        let target = TargetFile {
            length: bytes.len() as u64,
            hashes: Hashes::sha256(Digest::of(bytes)),
            custom: Some(release.to_custom().unwrap()),
        };
        let name = release.target_path().unwrap().to_string();
        let order = Order {
            update: release.update_id.parse().unwrap(),
            component: release.component.clone(),
            expects: runs.map(|version| version.parse().unwrap()),
            version: release.version.clone(),
            target: name.parse().unwrap(),
        };
        (name, target, order)
    }

    /// The team's list with these targets more, signed by `key`, in a set that is right in all else.
    fn set(&self, targets: &[(String, TargetFile)], key: &dyn Signer, round: u64) -> Set {
        let editor = targets.iter().fold(
            TargetsEditor::from_existing(&self.list).unwrap(),
            |editor, (name, target)| editor.add_target(name, target),
        );
        let version = tuf::unverified_version(&self.list).unwrap() + round;
        let list = editor
            .version(version)
            .build()
            .unwrap()
            .sign(key)
            .unwrap()
            .bytes();
        let top = tuf::unverified_version(&self.forge.targets).unwrap();
        let (number, expires) = (self.forge.version + round, now().plus_seconds(14 * DAY));
        let snapshot = SnapshotEditor::new(number, expires)
            .role(&Role::Targets, top, &self.forge.targets)
            .role(&Role::Delegated("heating".into()), version, &list)
            .build()
            .unwrap()
            .sign(&self.forge.online_key)
            .unwrap()
            .bytes();
        let timestamp = TimestampEditor::new(number, expires, number, &snapshot)
            .signed_at(now())
            .build()
            .unwrap()
            .sign(&self.forge.online_key)
            .unwrap()
            .bytes();
        Set::from([
            (format!("{top}.targets.json"), self.forge.targets.clone()),
            (format!("{version}.heating.json"), list),
            (format!("{number}.snapshot.json"), snapshot),
            ("timestamp.json".to_owned(), timestamp),
        ])
    }
}

async fn packed(scene: &Scene, folder: PathBuf, name: &str) -> Vec<u8> {
    let tar = scene.work.path().join(name);
    let pack = [
        "pack",
        &folder.display().to_string(),
        "--out",
        &tar.display().to_string(),
    ];
    let _ = run(&bin("admin-gui"), pack, "", &[]).await.ok();
    std::fs::read(tar).unwrap()
}

#[tokio::test]
async fn a_team_publishes_its_component_and_its_desk_refuses_all_others() {
    let scene = Scene::new().await;
    let _ = scene.publish(&scene.heater("1.0.0")).await.ok();
    scene.runs("heater", "1.0.0").await;
    // The author's own work goes on beside it.
    let _ = scene.site.release(&app(scene.work.path(), "1.0.0")).await;
    scene.runs("app", "1.0.0").await;
    let theirs = scene.publish(&app(scene.work.path(), "2.0.0")).await;
    assert!(
        theirs
            .refused()
            .contains("the team heating publishes heater, not app"),
        "{}",
        theirs.stderr
    );
    // What the author publishes for the team's component counts, and the team goes on from there.
    let _ = scene.site.release(&scene.heater("1.1.0")).await;
    scene.runs("heater", "1.1.0").await;
    let _ = scene.publish(&scene.heater("1.2.0")).await.ok();
    scene.runs("heater", "1.2.0").await;
    let dir = scene.desk().display().to_string();
    let withdraw = [
        "withdraw",
        "heater",
        "1.1.0",
        "--reason",
        "not ours",
        "--dir",
        &dir,
        "--passphrase-stdin",
    ];
    let not_ours = run(&bin("admin-gui"), withdraw, &format!("{TEAMS}\n"), &[]).await;
    assert!(
        not_ours.refused().contains("not on this desk's own list"),
        "{}",
        not_ours.stderr
    );
    let renew = ["renew", "--dir", &dir, "--passphrase-stdin"];
    let _ = run(&bin("admin-gui"), renew, &format!("{TEAMS}\n"), &[])
        .await
        .ok();
    let list = ["team", "list", "--dir", &dir, "--json"];
    let rows: serde_json::Value = run(&bin("admin-gui"), list, "", &[]).await.ok().json();
    assert_eq!(
        (&rows[0]["components"][0], &rows[0]["version"]),
        (&"heater".into(), &4.into())
    );

    // The author takes it away: nothing of it is offered any more, what runs goes on.
    let author = scene.site.path("author").display().to_string();
    let remove = [
        "team",
        "remove",
        "heating",
        "--dir",
        &author,
        "--passphrase-stdin",
    ];
    let _ = run(&bin("admin-gui"), remove, &format!("{PASSPHRASE}\n"), &[])
        .await
        .ok();
    let gone = scene.publish(&scene.heater("1.3.0")).await;
    assert!(gone.refused().contains("heating"), "{}", gone.stderr);
    let _ = scene.site.manager(["check-now"], "").await.ok();
    let offered = scene.site.manager_status().await.releases;
    let heater = offered
        .iter()
        .find(|release| release.component.as_str() == "heater");
    assert_eq!(heater.unwrap().version.to_string(), "1.1.0", "{offered:?}");
    scene.runs("heater", "1.2.0").await;
}

#[tokio::test]
async fn the_gateway_takes_from_a_stolen_team_key_the_teams_component_alone() {
    let mut scene = Scene::new().await;
    let _ = scene.site.release(&app(scene.work.path(), "1.0.0")).await;
    let _ = scene.publish(&scene.heater("1.0.0")).await.ok();
    scene.runs("app", "1.0.0").await;
    scene.runs("heater", "1.0.0").await;
    let thief = Thief::of(&scene);
    let (own, theirs) = (
        packed(&scene, scene.heater("2.0.0"), "heater.tar").await,
        packed(&scene, app(scene.work.path(), "9.9.9"), "app.tar").await,
    );
    let heater = thief.release("heater", "2.0.0", &own, 1, Some("1.0.0"));
    let app = thief.release("app", "9.9.9", &theirs, 2, Some("1.0.0"));
    scene.site.stop_repository().await;
    let rogue = Rogue::repository(&scene.site).await;
    for ((name, target, _), bytes) in [(&heater, &own), (&app, &theirs)] {
        let digest = target.sha256().unwrap();
        rogue.put_bytes(
            &format!("/{}", e2e::forge::target_path(name, &digest)),
            bytes.clone(),
        );
    }
    let stranger = e2e::forge::strangers_key();
    let targets = [
        (heater.0.clone(), heater.1.clone()),
        (app.0.clone(), app.1.clone()),
    ];

    // By a stranger's key: the whole list is left out, with a word about it, and nothing else suffers.
    rogue.metadata(&thief.set(&targets, &stranger, 1));
    let found: CheckResult = scene.site.manager(["check-now", "--json"], "").await.ok().json();
    let status = scene.site.manager_status().await;
    let reason = "heating.json has 0 valid signatures";
    assert!(
        status.alarms.iter().any(|alarm| alarm.contains(reason)),
        "{} {:?}",
        found.message,
        status.alarms
    );
    assert_eq!(rogue.count("/targets/"), 0);

    // By the team's own key: its component is taken, the author's is not even fetched.
    rogue.metadata(&thief.set(&targets, &thief.team_key, 2));
    let _ = scene.site.manager(["check-now"], "").await.ok();
    scene.runs("heater", "2.0.0").await;
    let status = scene.site.manager_status().await;
    assert!(status.alarms.is_empty(), "{:?}", status.alarms);
    let offered = |component: &str| {
        let found = status
            .releases
            .iter()
            .find(|release| release.component.as_str() == component);
        found.unwrap().version.to_string()
    };
    assert_eq!(
        (offered("heater").as_str(), offered("app").as_str()),
        ("2.0.0", "1.0.0")
    );
    assert_eq!(rogue.count("/targets/app/9.9.9/"), 0, "a byte of it was fetched");
    assert_eq!(scene.agent.shows("app").await, "1.0.0 running");
}

#[tokio::test]
async fn the_device_takes_from_a_stolen_team_key_the_teams_component_alone() {
    let mut scene = Scene::new().await;
    let _ = scene.site.release(&app(scene.work.path(), "1.0.0")).await;
    let _ = scene.publish(&scene.heater("1.0.0")).await.ok();
    scene.runs("app", "1.0.0").await;
    scene.runs("heater", "1.0.0").await;
    let thief = Thief::of(&scene);
    let (own, theirs) = (
        packed(&scene, scene.heater("2.0.0"), "heater.tar").await,
        packed(&scene, app(scene.work.path(), "9.9.9"), "app.tar").await,
    );
    let heater = thief.release("heater", "2.0.0", &own, 1, Some("1.0.0"));
    let app = thief.release("app", "9.9.9", &theirs, 2, Some("1.0.0"));
    let again = thief.release("heater", "2.0.0", &own, 3, Some("1.0.0"));
    scene.site.stop_manager().await;
    let rogue = Rogue::manager(&scene.site).await;
    for (target, bytes) in [(&heater.1, &own), (&app.1, &theirs)] {
        rogue.put_bytes(
            &format!("/v1/targets/{}", target.sha256().unwrap()),
            bytes.clone(),
        );
    }
    let stranger = e2e::forge::strangers_key();
    let targets = [(again.0.clone(), again.1.clone()), (app.0.clone(), app.1.clone())];
    for (what, order, key, round, reason) in [
        (
            "a list by a stranger's key",
            &heater.2,
            &stranger,
            1,
            "heating.json has 0 valid signatures",
        ),
        (
            "another component by the team's key",
            &app.2,
            &thief.team_key,
            2,
            "app/9.9.9/app_9.9.9.tar is not in the verified metadata",
        ),
    ] {
        rogue.metadata(&thief.set(&targets, key, round));
        rogue.order(order);
        let report = rogue
            .wait_report(what, |report| {
                report.update == Some(order.update) && report.outcome.is_some()
            })
            .await;
        let said = report.reason.unwrap_or_default();
        assert_eq!(report.outcome, Some(Outcome::Refused), "{what}: {said}");
        assert!(said.contains(reason), "{what}: {said}");
        assert_eq!(rogue.count("/v1/targets/"), 0, "{what}: a byte of it was fetched");
    }
    // The very same list: the team's own component is taken from it.
    rogue.order(&again.2);
    let outcome = scene.agent.watch().outcome("north", again.2.update).await;
    assert_eq!(outcome.0, Outcome::Committed, "{outcome:?}");
    scene.runs("heater", "2.0.0").await;
    assert_eq!(scene.agent.shows("app").await, "1.0.0 running");
}
