//! `docs/keys.md`, typed word for word: each role's key is lost, or stolen and used; it is replaced as the page says;
//! afterwards the old key's signatures are refused by gateway and device, and the fleet updates with the new one.

use std::path::{Path, PathBuf};

use e2e::forge::{Set, Shape, now, update_id};
use e2e::packages::{ALIVE, app, copy_tree, put, script};
use e2e::process::{bin, bin_dir, run};
use e2e::site::PASSPHRASE;
use e2e::{Agent, Forge, Rogue, Site, SiteOptions, eventually};
use protocol::Outcome;
use protocol::control::CheckResult;
use tempfile::TempDir;
use tuf::editor::RootEditor;
use tuf::{Ed25519Signer, Role};

/// `scp [HOST:]FILE… [HOST:]FILE`, between folders of the site: the people's own, and the site's for everybody else.
const SCP: &str = r#"#!/bin/sh
set -e
place() {
    case $1 in
        ada:*|bob:*|eva:*) echo "$SITE/${1%%:*}/${1#*:}" ;;
        *:*) echo "$SITE/${1#*:}" ;;
        *) echo "$1" ;;
    esac
}
for last; do :; done
to=$(place "$last")
while [ $# -gt 1 ]; do cp "$(place "$1")" "$to"; shift; done
"#;

/// A page's commands: who types them, and what.
pub(crate) struct Block {
    pub(crate) who: String,
    pub(crate) commands: String,
}

/// The blocks of one section.
fn section(title: &str) -> Vec<Block> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/keys.md");
    let page = std::fs::read_to_string(page).unwrap();
    let begin = format!("## {title}\n");
    let (_, after) = page
        .split_once(&begin)
        .unwrap_or_else(|| panic!("docs/keys.md has no section {title:?}"));
    let text = after.split("\n## ").next().unwrap();
    let blocks: Vec<Block> = text
        .split("```sh\n# on ")
        .skip(1)
        .map(|block| {
            let block = block.split("```").next().unwrap();
            let (who, commands) = block.split_once('\n').unwrap();
            Block {
                who: who.to_owned(),
                commands: commands.to_owned(),
            }
        })
        .collect();
    assert!(!blocks.is_empty(), "{title:?} says nothing to type");
    blocks
}

/// A running site with one device that runs version 1.0.0 of `app`.
pub(crate) struct Scene {
    pub(crate) site: Site,
    pub(crate) agent: Agent,
    pub(crate) work: TempDir,
}

impl Scene {
    pub(crate) async fn new() -> Self {
        Self::of(SiteOptions::default()).await
    }

    pub(crate) async fn of(options: SiteOptions) -> Self {
        let site = Site::running(options).await;
        put(&site.path("bin/scp"), SCP.as_bytes(), 0o755);
        put(
            &site.path("credentials/drover-passphrase"),
            PASSPHRASE.as_bytes(),
            0o600,
        );
        for person in ["ada", "bob", "eva"] {
            std::fs::create_dir_all(site.path(person)).unwrap();
        }
        let agent = site.device("north").await;
        let scene = Self {
            site,
            agent,
            work: tempfile::tempdir().unwrap(),
        };
        scene.update("1.0.0").await;
        scene
    }

    /// Types a section of the page.
    pub(crate) async fn walk(&self, title: &str) {
        self.type_in(title, section(title)).await;
    }

    pub(crate) async fn type_in(&self, title: &str, blocks: Vec<Block>) {
        for block in blocks {
            let folder = match block.who.as_str() {
                who @ ("ada" | "bob" | "eva") => self.site.path(who),
                "author" | "repository" => self.site.dir.clone(),
                who => panic!("{title:?} is typed by an unknown {who:?}"),
            };
            let script = format!("cd {} && {}", folder.display(), block.commands);
            let path = format!(
                "{}:{}:{}",
                self.site.path("bin").display(),
                bin_dir().display(),
                std::env::var("PATH").unwrap()
            );
            let (home, credentials) = (
                self.site.dir.display().to_string(),
                self.site.path("credentials").display().to_string(),
            );
            let mut env = self.site.clock_env();
            env.extend([
                ("PATH", path.as_str()),
                ("SITE", &home),
                // As under systemd: the passphrase comes without a question.
                ("CREDENTIALS_DIRECTORY", &credentials),
            ]);
            let output = run(Path::new("/bin/sh"), ["-e", "-c", &script], "", &env).await;
            assert_eq!(
                output.code, 0,
                "{title}, on {}:\n{}\n{}{}",
                block.who, block.commands, output.stdout, output.stderr
            );
        }
    }

    /// A release, on the device.
    pub(crate) async fn update(&self, version: &str) {
        let done = self.site.release(&app(self.work.path(), version)).await;
        let outcome = self.agent.watch().outcome("north", done.update).await;
        assert_eq!(outcome.0, Outcome::Committed, "{version}: {outcome:?}");
    }

    /// Version 9.9.9, packed and published by nobody.
    pub(crate) async fn packed(&self) -> Vec<u8> {
        let tar = self.work.path().join("app-9.9.9.tar");
        let folder = app(self.work.path(), "9.9.9").display().to_string();
        let pack = ["pack", &folder, "--out", &tar.display().to_string()];
        let _ = run(&bin("admin-gui"), pack, "", &[]).await.ok();
        std::fs::read(tar).unwrap()
    }

    /// Somebody with the repository's and the gateway's own certificates shows what the old key has signed: neither
    /// gateway nor device takes it, for this reason, and no byte of it is fetched.
    pub(crate) async fn is_refused(&mut self, forgery: Forgery, reason: &str) {
        let before = self.agent.processes("app");
        if self.site.repository.is_some() {
            self.site.stop_repository().await;
        }
        let rogue = Rogue::repository(&self.site).await;
        rogue.metadata(&forgery.set);
        let found: CheckResult = self.site.manager(["check-now", "--json"], "").await.ok().json();
        assert!(found.message.contains(reason), "gateway: {}", found.message);
        assert_eq!(rogue.count("/targets/"), 0, "the gateway fetched it");
        rogue.end().await;

        self.site.stop_manager().await;
        let rogue = Rogue::manager(&self.site).await;
        rogue.metadata(&forgery.set);
        rogue.order(&forgery.order);
        let report = rogue
            .wait_report("refusal", |report| {
                report.update == Some(forgery.order.update) && report.outcome.is_some()
            })
            .await;
        let said = report.reason.unwrap_or_default();
        assert_eq!(report.outcome, Some(Outcome::Refused), "device: {said}");
        assert!(said.contains(reason), "device: {said}");
        assert_eq!(rogue.count("/v1/targets/"), 0, "the device fetched it");
        assert_eq!(self.agent.processes("app"), before, "what runs was touched");
        rogue.end().await;
    }
}

/// What a thief shows, and the order that a thief's gateway would give.
pub(crate) struct Forgery {
    set: Set,
    order: protocol::device::Order,
}

/// The old keys, on the newest list of the site.
pub(crate) fn with_old_keys(old: Forge, site: &Site) -> Forge {
    let now = now();
    Forge {
        root: std::fs::read(site.path("author/root.json")).unwrap(),
        targets: std::fs::read(site.path("author/targets.json")).unwrap(),
        version: u64::try_from(now.0).unwrap() + 100_000,
        now,
        ..old
    }
}

/// Version 9.9.9, signed by the thief's targets key, everything else right.
pub(crate) fn release(
    forge: &Forge,
    (runs, bytes): (&str, &[u8]),
    targets_key: &Ed25519Signer,
    shape: Shape<'_>,
) -> Forgery {
    let listed = forge.with_release(bytes, |release| {
        release.version = "9.9.9".parse().unwrap();
        release.counter += 10;
        release.update_id = update_id(9);
    });
    let order = listed.order(Some(runs));
    let targets = forge.sign_targets(listed.editor, targets_key);
    Forgery {
        set: forge.around_with(&targets, shape),
        order,
    }
}

fn opened(path: &Path) -> Ed25519Signer {
    let pem = std::fs::read_to_string(path).unwrap();
    Ed25519Signer::from_pkcs8(&certs::decrypt_key(&pem, PASSPHRASE).unwrap()).unwrap()
}

pub(crate) fn lose(site: &Site, files: &[&str]) {
    for file in files {
        std::fs::remove_file(site.path(file)).unwrap();
    }
}

#[tokio::test]
async fn a_lost_targets_key_is_replaced_as_the_page_says() {
    let scene = Scene::new().await;
    lose(&scene.site, &["author/targets-key.pem", "author/targets-key.pub"]);
    let stuck = scene.site.publish(&app(scene.work.path(), "2.0.0"), &[]).await;
    assert!(stuck.refused().contains("there is no key at"), "{}", stuck.stderr);
    scene.walk("The targets key is lost").await;
    scene.update("2.0.0").await;
}

#[tokio::test]
async fn a_stolen_targets_key_signs_nothing_after_what_the_page_says() {
    let mut scene = Scene::new().await;
    // The thief has the whole desk, and uses it.
    let thief: PathBuf = scene.site.path("thief");
    copy_tree(&scene.site.path("author"), &thief);
    let bad = app(scene.work.path(), "6.6.6").display().to_string();
    let theft = scene.site.author_at(&thief, ["publish", &bad, "--yes"]).await;
    let _ = theft.ok();
    eventually(
        "the thief's version runs",
        || scene.agent.shows("app"),
        |shown| shown == "6.6.6 running",
    )
    .await;

    let old = Forge::of(&scene.site);
    scene.walk("The targets key is stolen").await;
    let status = scene.site.manager(["check-now"], "").await.ok();
    let offered = scene.site.manager_status().await.releases;
    assert!(
        offered
            .iter()
            .all(|release| release.version.to_string() != "6.6.6"),
        "{} {offered:?}",
        status.stdout
    );
    scene.update("6.6.7").await;

    let again = scene
        .site
        .author_at(
            &thief,
            [
                "publish",
                &app(scene.work.path(), "7.7.7").display().to_string(),
                "--yes",
            ],
        )
        .await;
    assert!(
        again.refused().contains("is not among the keys"),
        "{}",
        again.stderr
    );
    let bytes = scene.packed().await;
    let stolen = with_old_keys(old, &scene.site);
    let forgery = release(&stolen, ("6.6.7", &bytes), &stolen.targets_key, Shape::default());
    scene
        .is_refused(
            forgery,
            ".targets.json has 0 valid signatures of the 1 that root version 2 requires",
        )
        .await;
}

#[tokio::test]
async fn a_lost_online_key_is_replaced_as_the_page_says() {
    let mut scene = Scene::new().await;
    scene.site.stop_repository().await;
    lose(&scene.site, &["repository/online-key.pem"]);
    let refused = scene.site.repository(["run"]).await;
    assert!(refused.refused().contains("new-key"), "{}", refused.stderr);
    let title = "The online key is lost";
    let mut blocks = section(title);
    let rest = blocks.split_off(1);
    scene.type_in(title, blocks).await;
    scene.site.start_repository().await;
    let stuck = scene.site.publish(&app(scene.work.path(), "2.0.0"), &[]).await;
    assert!(
        stuck.refused().contains("make the root name one of its keys"),
        "{}",
        stuck.stderr
    );
    scene.type_in(title, rest).await;
    scene.update("2.0.0").await;
}

#[tokio::test]
async fn a_stolen_online_key_signs_nothing_after_what_the_page_says() {
    let mut scene = Scene::new().await;
    let old = Forge::of(&scene.site);
    // Before: the thief counts so far ahead that nobody accepts the true lists any more, device and gateway alike.
    let far = 1 << 40;
    let shape = Shape {
        version: Some(far),
        ..Shape::default()
    };
    let set = old.around_with(&old.targets, shape);
    scene.site.stop_repository().await;
    let rogue = Rogue::repository(&scene.site).await;
    rogue.metadata(&set);
    let _ = scene.site.manager(["check-now"], "").await.ok();
    eventually(
        "the device has the thief's timestamp",
        || async { trusted_timestamp(&scene.agent) },
        |version| *version == far,
    )
    .await;
    rogue.end().await;
    scene.site.start_repository().await;
    let stuck: CheckResult = scene.site.manager(["check-now", "--json"], "").await.ok().json();
    assert!(
        stuck.message.contains("version 1099511627776 has been seen"),
        "{}",
        stuck.message
    );

    scene.walk("The online key is stolen").await;
    assert!(
        !scene.site.path("repository/online-key.pem").exists(),
        "the stolen key is still in use"
    );
    scene.update("2.0.0").await;

    let bytes = scene.packed().await;
    let stolen = with_old_keys(old, &scene.site);
    let shape = Shape {
        version: Some(far + 1),
        ..Shape::default()
    };
    let forgery = release(&stolen, ("2.0.0", &bytes), &stolen.targets_key, shape);
    scene
        .is_refused(
            forgery,
            "timestamp.json has 0 valid signatures of the 1 that root version 2 requires",
        )
        .await;
}

/// The newest timestamp that a device has verified.
fn trusted_timestamp(agent: &Agent) -> u64 {
    let state = durable::TrustStore::open(agent.dir.join("trust")).and_then(|store| store.load());
    state.map_or(0, |state| state.timestamp().map_or(0, |role| role.version))
}

/// A root of the thief's, next to the one in force, that gives everything to the thief's key.
fn thiefs_root(site: &Site, thief: &Ed25519Signer) -> (u64, Vec<u8>) {
    let root = std::fs::read(site.path("author/root.json")).unwrap();
    let version = tuf::unverified_version(&root).unwrap() + 1;
    let key = tuf::Signer::public_key(thief);
    let editor = [Role::Root, Role::Targets, Role::Snapshot, Role::Timestamp]
        .iter()
        .fold(RootEditor::from_existing(&root).unwrap(), |editor, role| {
            editor.set_keys(role, vec![key.clone()], 1)
        });
    (version, editor.build().unwrap().sign(thief).unwrap().bytes())
}

/// The thief's root, and a release that the thief's key signs in every role.
async fn root_forgery(scene: &Scene, old: Forge, thief: Ed25519Signer) -> Forgery {
    let bytes = scene.packed().await;
    let (version, root) = thiefs_root(&scene.site, &thief);
    let stolen = with_old_keys(old, &scene.site);
    let shape = Shape {
        online_key: Some(&thief),
        ..Shape::default()
    };
    let mut forgery = release(&stolen, ("2.0.0", &bytes), &thief, shape);
    forgery.set.insert(format!("{version}.root.json"), root);
    forgery
}

#[tokio::test]
async fn root_keys_of_several_people_are_lost_and_stolen_as_the_page_says() {
    let mut scene = Scene::new().await;
    let old = Forge::of(&scene.site);
    scene.walk("More than one person").await;
    scene.update("1.1.0").await;
    let stolen = opened(&scene.site.path("bob/bob.pem"));
    lose(&scene.site, &["eva/eva.pem", "eva/eva.pub"]);
    scene.walk("A root key is lost").await;
    scene.walk("A root key is stolen").await;
    scene.update("2.0.0").await;
    let forgery = root_forgery(&scene, old, stolen).await;
    scene
        .is_refused(
            forgery,
            "5.root.json has 0 valid signatures of the 2 that root version 4 requires",
        )
        .await;
}

#[tokio::test]
async fn the_only_root_key_is_replaced_before_the_thief_uses_it() {
    let mut scene = Scene::new().await;
    let old = Forge::of(&scene.site);
    let stolen = opened(&scene.site.path("author/root-key.pem"));
    scene.walk("The only root key is stolen").await;
    scene.walk("Before something expires").await;
    scene.update("2.0.0").await;
    let forgery = root_forgery(&scene, old, stolen).await;
    scene
        .is_refused(
            forgery,
            "4.root.json has 0 valid signatures of the 1 that root version 3 requires",
        )
        .await;
}

#[tokio::test]
async fn a_teams_stolen_key_is_replaced_and_signs_nothing_after_what_the_page_says() {
    let scene = Scene::new().await;
    scene.walk("Teams").await;
    let heater = |version: &str| {
        let out = scene.work.path();
        script(out, "heater", version, "exec sleep 100000", ALIVE)
            .display()
            .to_string()
    };
    let desk = scene.site.path("heating");
    let publish = async |desk: &Path, version: &str| {
        let heater = heater(version);
        scene.site.author_at(desk, ["publish", &heater, "--yes"]).await
    };
    let runs = async |version: &str| {
        let wanted = format!("{version} running");
        eventually("heater", || scene.agent.shows("heater"), |shown| *shown == wanted).await;
    };
    let thief = scene.site.path("thief");
    copy_tree(&desk, &thief);
    let _ = publish(&thief, "6.6.6").await.ok();
    runs("6.6.6").await;
    scene.walk("A team's key is lost or stolen").await;
    let withdraw = ["withdraw", "heater", "6.6.6", "--reason", "a thief's"];
    let _ = scene.site.author_at(&desk, withdraw).await.ok();
    let _ = publish(&desk, "6.6.7").await.ok();
    runs("6.6.7").await;
    let again = publish(&thief, "7.7.7").await;
    assert!(
        again.refused().contains("is not among the keys"),
        "{}",
        again.stderr
    );
}

/// Every command of the page is typed by one of the tests above, or beside them.
#[test]
fn no_section_of_the_page_is_left_out() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/keys.md");
    let (page, tests) = (
        std::fs::read_to_string(page).unwrap(),
        [include_str!("keys_page.rs"), include_str!("release_keys.rs")].concat(),
    );
    for part in page.split("\n## ").skip(1) {
        let title = part.lines().next().unwrap();
        let walked = tests.contains(&format!("\"{title}\""));
        assert!(walked || !part.contains("```sh"), "{title:?} is typed by no test");
    }
}
