//! A list of releases that two of three keys must sign: in turns, as files, and what is refused by name.

use std::path::{Path, PathBuf};
use std::process::Output;

use admin_gui::cosign::{Basis, CosignError, ListDraft};
use admin_gui::keyring::KeyFile;
use admin_gui::publish::PublishError;
use admin_gui::signing::AuthorKey;
use admin_gui::{Passphrase, Senses, Unlocked, progress, record};
use protocol::control::JobEnd;
use serde_json::{Value, json};
use tuf::editor::{Signed, TargetsEditor};
use tuf::schema::{Hashes, TargetFile};
use tuf::{Digest, Signer, Targets};

use crate::ceremony::{OTHER, follow, key, public, root, text};
use crate::command::{run_beside, words};
use crate::fake::Fake;
use crate::service::{Running, file};
use crate::site::{PASSPHRASE, Site, draft, passphrase};

/// A site whose list two of author, ada and bob must sign.
pub struct Scene {
    pub site: Site,
    pub fake: Fake,
    pub ada: KeyFile,
    pub bob: KeyFile,
}

impl Scene {
    pub async fn new() -> Self {
        let site = Site::new();
        let fake = Fake::start(&site.repository()).await;
        let [ada, bob] = ["ada", "bob"].map(|name| key(&site.temp.path().join(name), name));
        let scene = Self { site, fake, ada, bob };
        let unlocked = scene.unlocked();
        let first = draft(&unlocked.desk, &scene.site.script("heater_0.9", 100));
        unlocked.publish(&first, &progress::nobody()).await.unwrap();
        for person in [&scene.ada, &scene.bob] {
            let file = public(person).display().to_string();
            root(&scene.site, &scene.fake, &["add", "targets", &file], "").await;
        }
        scene.sign_root().await;
        // The list has two signatures before two are needed.
        let renewed = scene.begin(&["renew"], "renewed.json").await;
        scene.signed_by(&renewed, &scene.ada).await;
        scene.publish(&renewed, None).await;
        root(&scene.site, &scene.fake, &["threshold", "targets", "2"], "").await;
        scene.sign_root().await;
        scene
    }

    pub fn unlocked(&self) -> Unlocked {
        self.site.unlocked(&self.fake.url)
    }

    async fn sign_root(&self) {
        let author = self.site.author().display().to_string();
        let sign = ["root", "sign", "--passphrase-stdin", "--yes", "--dir", &author];
        let signed = run_beside(sign.map(str::to_owned).to_vec(), PASSPHRASE).await;
        assert!(signed.status.success(), "{}", text(&signed));
        root(
            &self.site,
            &self.fake,
            &["publish", "--passphrase-stdin"],
            PASSPHRASE,
        )
        .await;
    }

    /// `admin-gui WORDS…` at the author's desk.
    async fn author(&self, said: &[&str]) -> Output {
        let mut all = said.to_vec();
        all.push("--passphrase-stdin");
        run_beside(words(&all, &self.site.author(), &self.fake.url), PASSPHRASE).await
    }

    /// A draft, begun at the author's desk.
    pub async fn begin(&self, said: &[&str], name: &str) -> PathBuf {
        let path = self.site.temp.path().join(name);
        let file = path.display().to_string();
        let mut all = said.to_vec();
        all.extend(["--draft", &file]);
        let begun = self.author(&all).await;
        assert!(begun.status.success(), "{}", text(&begun));
        path
    }

    pub async fn release(&self, version: &str) -> (PathBuf, PathBuf) {
        let file = self.site.script(&format!("heater_{version}"), 4000);
        let path = file.display().to_string();
        let begun = self.begin(&["publish", &path], &format!("{version}.json")).await;
        (file, begun)
    }

    /// `admin-gui sign` on a machine that has a key, and the root and the list that were brought there.
    pub async fn sign(&self, draft: &Path, person: &KeyFile) -> Output {
        let dir = person.path.parent().unwrap();
        for file in ["root.json", "targets.json"] {
            std::fs::copy(self.site.author().join(file), dir.join(file)).unwrap();
        }
        let (draft, dir) = (draft.display().to_string(), dir.display().to_string());
        let said = ["sign", &draft, "--dir", &dir, "--passphrase-stdin"];
        run_beside(said.map(str::to_owned).to_vec(), OTHER).await
    }

    pub async fn signed_by(&self, draft: &Path, person: &KeyFile) -> String {
        let signed = self.sign(draft, person).await;
        assert!(signed.status.success(), "{}", text(&signed));
        text(&signed)
    }

    /// `admin-gui publish [FILE] --from DRAFT`.
    async fn try_publish(&self, draft: &Path, file: Option<&Path>) -> Output {
        let draft = draft.display().to_string();
        let file = file.map(|file| file.display().to_string());
        let mut said = vec!["publish", "--from", &draft];
        said.extend(file.as_deref());
        run_beside(words(&said, &self.site.author(), &self.fake.url), "").await
    }

    async fn publish(&self, draft: &Path, file: Option<&Path>) {
        let done = self.try_publish(draft, file).await;
        assert!(done.status.success(), "{}", text(&done));
    }

    pub fn refused(&self, output: &Output, code: i32, said: &[&str]) {
        assert_eq!(output.status.code(), Some(code), "{}", text(output));
        for words in said {
            assert!(text(output).contains(words), "{words}: {}", text(output));
        }
    }

    /// What the author's desk has verified.
    pub async fn basis(&self) -> Basis {
        let desk = self.unlocked().desk;
        let view = desk.look().await.unwrap();
        Basis::of(&desk, &view).unwrap()
    }

    pub fn author_key(&self) -> AuthorKey {
        AuthorKey::open(&self.site.author().join("targets-key.pem"), &passphrase()).unwrap()
    }
}

pub fn read(bytes: &[u8], basis: &Basis) -> Result<ListDraft, CosignError> {
    ListDraft::of(
        Path::new("draft.json"),
        bytes,
        basis.clone(),
        Senses::system().now(),
    )
}

#[tokio::test]
async fn two_of_three_release_withdraw_and_renew_in_turns() {
    let scene = Scene::new().await;
    let (file, begun) = scene.release("1.0").await;
    let bytes = std::fs::read(&file).unwrap();

    // One desk alone: refused with the way out, before a byte is sent.
    let path = file.display().to_string();
    let alone = scene.author(&["publish", &path]).await;
    scene.refused(
        &alone,
        3,
        &[
            "2 keys must sign",
            "this desk has 1 of them",
            "--draft",
            "ada (",
            "bob (",
        ],
    );
    let withdrawn = scene
        .author(&["withdraw", "heater", "0.9", "--reason", "old"])
        .await;
    scene.refused(&withdrawn, 3, &["2 keys must sign"]);
    scene.refused(
        &scene.author(&["renew", "--only", "targets"]).await,
        3,
        &["2 keys must sign"],
    );
    let early = scene.try_publish(&begun, Some(&file)).await;
    scene.refused(&early, 3, &["1 of 2 signatures", "ada (", "bob ("]);
    assert!(!fake_has(&scene, &bytes), "something was uploaded");
    let again = scene
        .author(&["publish", &path, "--draft", &begun.display().to_string()])
        .await;
    scene.refused(&again, 3, &["is there already"]);

    // The second signer reads what is released, all of it.
    let told = scene.signed_by(&begun, &scene.ada).await;
    for words in [
        "releases heater 1.0.0",
        "heater_1.0: 4000 bytes",
        &Digest::of(&bytes).to_string(),
        "probation_seconds: ",
        "; needed: 2",
        "It has its signatures. On a desk: admin-gui publish FILE --from",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    scene.refused(&scene.try_publish(&begun, None).await, 3, &["with its file"]);
    let other = scene.site.script("heater_other", 4000);
    let wrong = scene.try_publish(&begun, Some(&other)).await;
    scene.refused(&wrong, 3, &["is not what was signed"]);
    assert!(!fake_has(&scene, &bytes), "something was uploaded");
    scene.publish(&begun, Some(&file)).await;
    assert!(fake_has(&scene, &bytes));
    let state = follow(&scene.fake);
    let target = state.target("heater/1.0.0/heater_1.0").unwrap();
    assert_eq!(target.sha256(), Some(Digest::of(&bytes)));
    let done = scene.try_publish(&begun, Some(&file)).await;
    scene.refused(&done, 3, &["is published already"]);

    // Withdrawn by the author and bob; renewed by the author and bob at a second desk.
    let withdrawal = ["withdraw", "heater", "1.0", "--reason", "too \"hot\""];
    let withdrawal = scene.begin(&withdrawal, "withdrawal.json").await;
    let told = scene.signed_by(&withdrawal, &scene.bob).await;
    assert!(
        told.contains("withdraws heater 1.0.0") && told.contains(r#"because "too \"hot\"""#),
        "{told}"
    );
    scene.refused(
        &scene.try_publish(&withdrawal, Some(&file)).await,
        3,
        &["without a file"],
    );
    scene.publish(&withdrawal, None).await;
    let renewal = scene.begin(&["renew"], "renewal.json").await;
    let desk = scene.site.temp.path().join("bobs-desk");
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .arg(scene.site.author())
        .arg(&desk)
        .status();
    assert!(copied.unwrap().success());
    for ending in ["pem", "pub"] {
        std::fs::remove_file(desk.join(format!("targets-key.{ending}"))).unwrap();
        std::fs::copy(
            scene.bob.path.with_extension(ending),
            desk.join(format!("bob.{ending}")),
        )
        .unwrap();
    }
    let (draft, desk) = (renewal.display().to_string(), desk.display().to_string());
    let said = [
        "sign",
        &draft,
        "--dir",
        &desk,
        "--repository",
        &scene.fake.url,
        "--passphrase-stdin",
    ];
    let signed = run_beside(said.map(str::to_owned).to_vec(), OTHER).await;
    assert!(text(&signed).contains("no release changes"), "{}", text(&signed));
    scene.publish(&renewal, None).await;
    let actions: Vec<_> = record::read(&scene.site.author().join("records"))
        .unwrap()
        .into_iter()
        .filter(|entry| entry.failure.is_none())
        .map(|entry| entry.action.to_string())
        .collect();
    assert_eq!(
        actions,
        ["publish", "root", "renew", "root", "publish", "withdraw", "renew"]
    );
    let view = scene.unlocked().desk.look().await.unwrap();
    let current = view.catalogue.current(&"heater".parse().unwrap()).unwrap();
    assert_eq!(current.release.version.to_string(), "0.9.0");
}

fn fake_has(scene: &Scene, bytes: &[u8]) -> bool {
    scene.fake.kept().uploads.contains_key(&Digest::of(bytes))
}

#[tokio::test]
async fn a_key_without_a_say_is_refused_and_a_key_that_signs_twice_counts_once() {
    let scene = Scene::new().await;
    let (file, begun) = scene.release("1.0").await;
    let eva = key(&scene.site.temp.path().join("eva"), "eva");
    let none = scene.sign(&begun, &eva).await;
    scene.refused(&none, 1, &["waits for no key"]);
    let forced = {
        let (draft, dir) = (
            begun.display().to_string(),
            scene.ada.path.parent().unwrap().display().to_string(),
        );
        let key = eva.path.display().to_string();
        let said = ["sign", &draft, "--dir", &dir, "--key", &key, "--passphrase-stdin"];
        scene.sign(&begun, &eva).await;
        for file in ["root.json", "targets.json"] {
            std::fs::copy(
                scene.site.author().join(file),
                scene.ada.path.with_file_name(file),
            )
            .unwrap();
        }
        run_beside(said.map(str::to_owned).to_vec(), OTHER).await
    };
    scene.refused(&forced, 4, &["has no say here", "ada (", "bob ("]);

    // A stranger's signature that is on it already.
    let (basis, bytes) = (scene.basis().await, std::fs::read(&begun).unwrap());
    let stranger = AuthorKey::open(&eva.path, &Passphrase::new(OTHER).unwrap()).unwrap();
    let with = Signed::<Targets>::from_bytes(&bytes)
        .unwrap()
        .sign(&stranger)
        .unwrap()
        .bytes();
    assert!(matches!(read(&with, &basis), Err(CosignError::Foreign { .. })));

    // The same key again, in its place or beside it.
    let twice = read(&bytes, &basis)
        .unwrap()
        .sign(Path::new("targets-key.pem"), &scene.author_key())
        .unwrap();
    assert_eq!(twice.standing().signed.len(), 1);
    assert!(matches!(
        twice.check_finished(),
        Err(CosignError::Unfinished {
            made: 1,
            needed: 2,
            ..
        })
    ));
    let mut beside: Value = serde_json::from_slice(&bytes).unwrap();
    let signature = beside["signatures"][0].clone();
    beside["signatures"].as_array_mut().unwrap().push(signature);
    std::fs::write(&begun, serde_json::to_vec(&beside).unwrap()).unwrap();
    let doubled = scene.try_publish(&begun, Some(&file)).await;
    assert!(!doubled.status.success(), "{}", text(&doubled));

    // Nobody's.
    beside["signatures"] = json!([]);
    let nobodys = read(&serde_json::to_vec(&beside).unwrap(), &basis);
    assert!(matches!(nobodys, Err(CosignError::Unsigned(_))), "{nobodys:?}");
    assert!(!fake_has(&scene, &std::fs::read(&file).unwrap()));
}

#[tokio::test]
async fn a_draft_that_somebody_overtook_is_stale_for_everybody() {
    let scene = Scene::new().await;
    let (slow_file, slow) = scene.release("1.0").await;
    let (fast_file, fast) = scene.release("1.1").await;
    scene.signed_by(&slow, &scene.bob).await;
    scene.signed_by(&fast, &scene.ada).await;
    // Faster in the very last moment, and nothing is known of it afterwards.
    scene.fake.set(|faults| faults.conflicts = 1);
    let conflict = scene.try_publish(&fast, Some(&fast_file)).await;
    scene.refused(&conflict, 6, &["somebody else published in between"]);
    scene.publish(&fast, Some(&fast_file)).await;

    let late = scene.try_publish(&slow, Some(&slow_file)).await;
    scene.refused(
        &late,
        3,
        &["somebody published in between", "begin it again with --draft"],
    );
    assert!(!fake_has(&scene, &std::fs::read(&slow_file).unwrap()));
    let signed = scene.sign(&slow, &scene.ada).await;
    scene.refused(&signed, 3, &["begin it again with --draft"]);

    // A signer whose list is old, or not the site's at all.
    let (_, next) = scene.release("1.2").await;
    let held = |root: &Path, list: &Path| {
        let basis = Basis::held(root, list)?;
        ListDraft::read(&next, basis, Senses::system().now())
    };
    let (root, old) = (
        scene.site.author().join("root.json"),
        scene.site.temp.path().join("old.json"),
    );
    let version =
        tuf::unverified_version(&std::fs::read(scene.site.author().join("targets.json")).unwrap()).unwrap();
    std::fs::write(
        &old,
        &scene.fake.visible()[&format!("{}.targets.json", version - 1)],
    )
    .unwrap();
    assert!(matches!(held(&root, &old), Err(CosignError::Ahead { .. })));
    let forged = TargetsEditor::from_existing(&std::fs::read(&old).unwrap()).unwrap();
    let target = TargetFile {
        length: 1,
        hashes: Hashes::sha256(Digest::of(b"x")),
        custom: None,
    };
    let forged = forged
        .add_target("x", &target)
        .build()
        .unwrap()
        .sign(&scene.author_key())
        .unwrap();
    std::fs::write(&old, forged.bytes()).unwrap();
    assert!(
        matches!(held(&root, &old), Err(CosignError::NotVerified(_))),
        "one key made a base"
    );
}

#[tokio::test]
async fn several_keys_of_one_folder_under_one_passphrase_sign_together() {
    let scene = Scene::new().await;
    let unlocked = scene.unlocked();
    let first = draft(&unlocked.desk, &scene.site.script("heater_1.0", 100));
    let alone = unlocked.publish(&first, &progress::nobody()).await.unwrap_err();
    assert!(matches!(alone, PublishError::Sign(_)), "{alone}");
    // Ada's key comes to this desk, under the desk's passphrase.
    let opened = admin_gui::signing::unseal(&scene.ada.path, &Passphrase::new(OTHER).unwrap()).unwrap();
    let sealed = admin_gui::signing::seal(&opened, &passphrase()).unwrap();
    let place = scene.site.author().join("ada.pem");
    durable::replace(&place, sealed.as_bytes(), 0o600).unwrap();
    std::fs::copy(public(&scene.ada), place.with_extension("pub")).unwrap();
    // And bob's, under another: nobody needs it.
    for ending in ["pem", "pub"] {
        let from = scene.bob.path.with_extension(ending);
        std::fs::copy(from, scene.site.author().join(format!("bob.{ending}"))).unwrap();
    }
    let both = scene.unlocked();
    both.publish(&first, &progress::nobody()).await.unwrap();
    let list = follow(&scene.fake).raw(&tuf::Role::Targets).unwrap().to_vec();
    let mut signers: Vec<_> = Signed::<Targets>::from_bytes(&list)
        .unwrap()
        .signed_by()
        .collect();
    let mut wanted = vec![scene.author_key().public_key().id(), scene.ada.public.id()];
    signers.sort();
    wanted.sort();
    assert_eq!(signers, wanted);
}

#[tokio::test]
async fn the_window_is_told_the_command_to_use() {
    let scene = Scene::new().await;
    let desk = Running::start(&scene.site.author(), Some(&scene.fake.url), |_| {}).await;
    let mut window = desk.watch().await;
    let path = scene.site.script("heater_1.0", 100);
    let job = desk.publish(file(&path)).await.unwrap();
    let JobEnd::Failed { problem, .. } = window.end(job.id).await else {
        panic!("it was published")
    };
    assert_eq!(problem.code, "author.signatures");
    for words in ["--draft FILE", "ada (", "admin-gui publish --from FILE"] {
        assert!(problem.message.contains(words), "{}", problem.message);
    }
    assert!(!fake_has(&scene, &std::fs::read(&path).unwrap()));
}
