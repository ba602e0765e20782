//! Two people for each release, as `docs/keys.md` says: with two the fleet updates, with one key alone nothing moves.

use std::path::Path;

use e2e::forge::Shape;
use e2e::packages::{app, copy_tree, large_app, put};
use e2e::process::{bin, run};
use e2e::site::PASSPHRASE;
use e2e::{Forge, Program, eventually};

use crate::keys_page::{Block, Scene, lose, release, with_old_keys};

/// Bytes beside the program, so that an upload takes a moment.
const BALLAST: usize = 30_000_000;

#[tokio::test]
async fn releases_need_two_people_as_the_page_says() {
    let mut scene = Scene::new().await;
    let old = Forge::of(&scene.site);
    copy_tree(&app(scene.work.path(), "2.0.0"), &scene.site.path("app-2.0.0"));
    scene.walk("Several keys for releases").await;
    runs(&scene, "2.0.0").await;
    let status = scene.site.author(["status"]).await.ok();
    assert!(!status.stdout.contains("app 1.0.0"), "{}", status.stdout);

    one_alone_publishes_nothing(&scene).await;

    // Whoever has the author's keys and the repository's, and shows the list to the gateway by themselves.
    let bytes = scene.packed().await;
    let stolen = with_old_keys(old, &scene.site);
    let forgery = release(&stolen, ("2.0.0", &bytes), &stolen.targets_key, Shape::default());
    scene
        .is_refused(
            forgery,
            ".targets.json has 1 valid signatures of the 2 that root version 3 requires",
        )
        .await;
}

/// Bob's key is lost, then the author's own.
#[tokio::test]
async fn one_of_several_keys_for_releases_is_replaced_as_the_page_says() {
    let scene = Scene::new().await;
    let site = &scene.site;
    copy_tree(&app(scene.work.path(), "2.0.0"), &site.path("app-2.0.0"));
    scene.walk("Several keys for releases").await;
    lose(site, &["bob/bob-releases.pem", "bob/bob-releases.pub"]);
    scene.walk("One of several targets keys is lost or stolen").await;

    lose(site, &["author/targets-key.pem", "author/targets-key.pub"]);
    let title = "the author's own key is lost";
    let typed = async |who: &str, commands: &str| {
        let (who, commands) = (who.to_owned(), commands.to_owned());
        scene.type_in(title, vec![Block { who, commands }]).await;
    };
    typed(
        "author",
        "cp ada/ada-releases.pem ada/ada-releases.pub author/
         admin-gui renew --draft own.json --dir author
         rm author/ada-releases.pem author/ada-releases.pub
         scp own.json author/targets.json bob:",
    )
    .await;
    typed("bob", "admin-gui sign own.json && scp own.json author:").await;
    typed(
        "author",
        "admin-gui publish --from own.json --dir author
         admin-gui new-key targets-2 --type rsa --dir author
         admin-gui root replace targets author/targets-2.pub --old author --dir author
         admin-gui root sign --dir author
         admin-gui root publish --dir author
         scp author/root.json bob:",
    )
    .await;

    // The new keys release together.
    let folder = app(scene.work.path(), "3.0.0").display().to_string();
    typed(
        "author",
        &format!(
            "admin-gui publish {folder} --draft new.json --dir author && scp new.json author/targets.json bob:"
        ),
    )
    .await;
    typed("bob", "admin-gui sign new.json && scp new.json author:").await;
    typed(
        "author",
        &format!("admin-gui publish {folder} --from new.json --dir author"),
    )
    .await;
    runs(&scene, "3.0.0").await;
}

/// Killed while it uploads, `publish --from` is typed again; of two drafts the second is begun again.
#[tokio::test]
async fn a_signed_release_survives_a_kill_and_a_faster_one() {
    let scene = Scene::new().await;
    let site = &scene.site;
    copy_tree(&app(scene.work.path(), "2.0.0"), &site.path("app-2.0.0"));
    scene.walk("Several keys for releases").await;
    let begun = async |version: &str| {
        let package = large_app(scene.work.path(), version, BALLAST);
        let draft = site.path(&format!("bob/{version}.json"));
        let out = draft.display().to_string();
        let _ = site.publish(&package, &["--draft", &out]).await.ok();
        (package, draft)
    };
    let (bob, newest) = (site.path("bob"), site.path("author/targets.json"));
    put(&bob.join("targets.json"), &std::fs::read(newest).unwrap(), 0o644);
    let sign = async |draft: &Path, passphrase: &str| {
        let (draft, dir) = (draft.display().to_string(), bob.display().to_string());
        let said = ["sign", &draft, "--dir", &dir, "--passphrase-stdin"];
        run(&bin("admin-gui"), said, passphrase, &[]).await
    };
    let (package, draft) = begun("3.0.0").await;
    let (_, slower) = begun("3.1.0").await;

    // A wrong passphrase leaves the draft as it was.
    let before = std::fs::read(&draft).unwrap();
    let wrong = sign(&draft, "not the passphrase").await;
    assert!(wrong.refused().contains("does not open"), "{}", wrong.stderr);
    assert_eq!(std::fs::read(&draft).unwrap(), before);
    let _ = sign(&draft, PASSPHRASE).await.ok();

    let stored = uploaded(&scene);
    let (file, from, author) = (
        package.display().to_string(),
        draft.display().to_string(),
        site.path("author").display().to_string(),
    );
    let said = ["publish", &file, "--from", &from, "--dir", &author];
    let publish = Program::start("admin-gui", &bin("admin-gui"), said, &[]);
    eventually(
        "the upload has begun",
        || async { uploaded(&scene) },
        |now| *now != stored,
    )
    .await;
    publish.kill().await;
    let again = site.publish(&package, &["--from", &from]).await;
    // The kill may have come a moment late.
    assert!(
        again.code == 0 || again.stderr.contains("is published already"),
        "{}",
        again.stderr
    );
    runs(&scene, "3.0.0").await;

    let stale = sign(&slower, PASSPHRASE).await;
    assert_eq!(stale.code, 0, "bob cannot know yet: {}", stale.stderr);
    let slower = slower.display().to_string();
    let late = site.publish(&package, &["--from", &slower]).await;
    assert!(late.refused().contains("begin it again"), "{}", late.stderr);
}

/// The release that two have signed is on the device.
async fn runs(scene: &Scene, version: &str) {
    let wanted = format!("{version} running");
    eventually(
        "the release that two have signed runs",
        || scene.agent.shows("app"),
        |shown| *shown == wanted,
    )
    .await;
}

/// The author without the others: refused by the desk, with a draft or without, before the repository has a byte.
async fn one_alone_publishes_nothing(scene: &Scene) {
    let site = &scene.site;
    let before = uploaded(scene);
    assert!(!before.is_empty(), "the store is elsewhere");
    let package = app(scene.work.path(), "3.0.0");
    let alone = site.publish(&package, &[]).await;
    assert!(alone.refused().contains("2 keys must sign"), "{}", alone.stderr);
    let draft = scene.work.path().join("alone.json").display().to_string();
    let _ = site.publish(&package, &["--draft", &draft]).await.ok();
    let early = site.publish(&package, &["--from", &draft]).await;
    let said = early.refused();
    assert!(
        said.contains("has 1 of 2 signatures") && said.contains("ada") && said.contains("bob"),
        "{said}"
    );
    // The same key twice is one person.
    let author = site.path("author").display().to_string();
    let again = ["sign", &draft, "--dir", &author, "--passphrase-stdin"];
    let again = run(&bin("admin-gui"), again, PASSPHRASE, &[]).await;
    assert!(again.refused().contains("waits for no key"), "{}", again.stderr);
    assert_eq!(uploaded(scene), before, "something was uploaded");
    assert_eq!(scene.agent.shows("app").await, "2.0.0 running");
}

/// The names of all that was uploaded to the repository.
fn uploaded(scene: &Scene) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![scene.site.path("repository/state/store")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                found.push(entry.path().display().to_string());
            }
        }
    }
    found.sort();
    found
}
