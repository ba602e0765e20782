//! Two people for each release, as `docs/keys.md` says: with two the fleet updates, with one key alone nothing moves.

use e2e::forge::Shape;
use e2e::packages::{app, copy_tree};
use e2e::process::{bin, run};
use e2e::site::PASSPHRASE;
use e2e::{Forge, eventually};

use crate::keys_page::{Block, Scene, lose, release, with_old_keys};

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
