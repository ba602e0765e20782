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
struct Scene {
    site: Site,
    fake: Fake,
    ada: KeyFile,
    bob: KeyFile,
}

impl Scene {
    async fn new() -> Self {
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

    fn unlocked(&self) -> Unlocked {
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
    async fn begin(&self, said: &[&str], name: &str) -> PathBuf {
        let path = self.site.temp.path().join(name);
        let file = path.display().to_string();
        let mut all = said.to_vec();
        all.extend(["--draft", &file]);
        let begun = self.author(&all).await;
        assert!(begun.status.success(), "{}", text(&begun));
        path
    }

    async fn release(&self, version: &str) -> (PathBuf, PathBuf) {
        let file = self.site.script(&format!("heater_{version}"), 4000);
        let path = file.display().to_string();
        let begun = self.begin(&["publish", &path], &format!("{version}.json")).await;
        (file, begun)
    }

    /// `admin-gui sign` on a machine that has a key, and the root and the list that were brought there.
    async fn sign(&self, draft: &Path, person: &KeyFile) -> Output {
        let dir = person.path.parent().unwrap();
        for file in ["root.json", "targets.json"] {
            std::fs::copy(self.site.author().join(file), dir.join(file)).unwrap();
        }
        let (draft, dir) = (draft.display().to_string(), dir.display().to_string());
        let said = ["sign", &draft, "--dir", &dir, "--passphrase-stdin"];
        run_beside(said.map(str::to_owned).to_vec(), OTHER).await
    }

    async fn signed_by(&self, draft: &Path, person: &KeyFile) -> String {
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

    fn refused(&self, output: &Output, code: i32, said: &[&str]) {
        assert_eq!(output.status.code(), Some(code), "{}", text(output));
        for words in said {
            assert!(text(output).contains(words), "{words}: {}", text(output));
        }
    }

    /// What the author's desk has verified.
    async fn basis(&self) -> Basis {
        let desk = self.unlocked().desk;
        let view = desk.look().await.unwrap();
        Basis::of(&desk, &view).unwrap()
    }

    fn author_key(&self) -> AuthorKey {
        AuthorKey::open(&self.site.author().join("targets-key.pem"), &passphrase()).unwrap()
    }
}

fn read(bytes: &[u8], basis: &Basis) -> Result<ListDraft, CosignError> {
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
        "2 of 2 signatures",
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

/// Every place of a JSON value that is no object and no array.
fn leaves(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let name = name.replace('~', "~0").replace('/', "~1");
                leaves(value, &format!("{at}/{name}"), found);
            }
        }
        Value::Array(items) => {
            for (place, value) in items.iter().enumerate() {
                leaves(value, &format!("{at}/{place}"), found);
            }
        }
        _ => found.push(at.to_owned()),
    }
}

fn altered(value: &Value) -> Value {
    match value {
        Value::String(text) if text.len() == 64 || text.len() == 32 => {
            let turned = if text.starts_with('0') { "1" } else { "0" };
            json!(format!("{turned}{}", &text[1..]))
        }
        Value::String(text) if text.ends_with('Z') => {
            // Another second.
            let (head, last) = text.split_at(text.len() - 2);
            json!(format!("{head}{}Z", if last == "0Z" { 1 } else { 0 }))
        }
        Value::String(text) => json!(format!("{text}1")),
        Value::Number(number) => json!(number.as_u64().unwrap() + 1),
        Value::Bool(bool) => json!(!bool),
        _ => json!("something"),
    }
}

#[tokio::test]
async fn a_draft_that_is_altered_is_refused_or_told_of() {
    let scene = Scene::new().await;
    let (_, begun) = scene.release("1.0").await;
    let (basis, key) = (scene.basis().await, scene.author_key());
    let bytes = std::fs::read(&begun).unwrap();
    let told = read(&bytes, &basis).unwrap().changes();
    let whole: Value = serde_json::from_slice(&bytes).unwrap();
    let mut places = Vec::new();
    leaves(&whole["signed"], "/signed", &mut places);
    assert!(places.len() > 30, "{places:?}");
    let (mut refused, mut shown) = (0, 0);
    for place in places {
        let mut other = whole.clone();
        let value = other.pointer_mut(&place).unwrap();
        *value = altered(value);
        // By a stranger: the signature that is on it does not fit.
        let changed = serde_json::to_vec(&other).unwrap();
        assert_ne!(other, whole, "{place}");
        assert!(read(&changed, &basis).is_err(), "{place} was altered and taken");
        // By who holds one of the keys: what the others are asked to sign is what they read.
        other["signatures"] = json!([]);
        let bare = serde_json::to_vec(&other).unwrap();
        let Ok(bare) = Signed::<Targets>::from_bytes(&bare) else {
            refused += 1;
            continue;
        };
        match read(&bare.sign(&key).unwrap().bytes(), &basis) {
            Err(_) => refused += 1,
            Ok(draft) => {
                shown += 1;
                assert_ne!(draft.changes(), told, "{place} was altered and is not told");
            }
        }
    }
    assert!(refused > 10 && shown > 5, "{refused} refused, {shown} told");
}

/// What is wrong, how it comes to be, and the words of the refusal.
type Case<'a> = (&'a str, &'a dyn Fn(&mut Value), &'a str);

#[tokio::test]
async fn only_one_plain_change_of_the_list_is_signed() {
    let scene = Scene::new().await;
    let (_, begun) = scene.release("1.0").await;
    let (basis, key) = (scene.basis().await, scene.author_key());
    let bytes = std::fs::read(&begun).unwrap();
    let whole: Value = serde_json::from_slice(&bytes).unwrap();
    let (new, old) = ("heater/1.0.0/heater_1.0", "heater/0.9.0/heater_0.9");
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut other = whole.clone();
        change(&mut other["signed"]);
        other["signatures"] = json!([]);
        let bare = Signed::<Targets>::from_bytes(&serde_json::to_vec(&other).unwrap()).unwrap();
        let read = read(&bare.sign(&key).unwrap().bytes(), &basis);
        read.map(|draft| draft.changes()).unwrap_err().to_string()
    };
    let description = |signed: &mut Value, path: &str, field: &str, value: Value| {
        let releases = signed["targets"][path]["custom"].as_object_mut().unwrap();
        let (_, release) = releases.iter_mut().next().unwrap();
        release[field] = value;
    };
    let cases: [Case<'_>; 10] = [
        (
            "a field",
            &|signed| signed["backdoor"] = json!(true),
            "the field \"backdoor\" is different",
        ),
        (
            "a delegation",
            &|signed| signed["delegations"] = json!({"keys": {}, "roles": []}),
            "the field \"delegations\" is different",
        ),
        (
            "a release less",
            &|signed| drop(signed["targets"].as_object_mut().unwrap().remove(old)),
            "takes \"heater/0.9.0/heater_0.9\" away",
        ),
        (
            "two at once",
            &|signed| description(signed, old, "counter", json!(7)),
            "more than one release",
        ),
        (
            "an old release changed",
            &|signed| {
                signed["targets"].as_object_mut().unwrap().remove(new);
                description(signed, old, "counter", json!(7));
            },
            "which is there already",
        ),
        (
            "an old release changed while it is withdrawn",
            &|signed| {
                signed["targets"].as_object_mut().unwrap().remove(new);
                description(signed, old, "counter", json!(7));
                description(
                    signed,
                    old,
                    "withdrawn",
                    json!({"at": signed["expires"], "reason": "x"}),
                );
            },
            "changes more of the release",
        ),
        (
            "something unknown about the release",
            &|signed| description(signed, new, "sandbox", json!("off")),
            "more than this program understands",
        ),
        (
            "something unknown beside the release",
            &|signed| signed["targets"][new]["custom"]["other"] = json!(1),
            "more than this program understands",
        ),
        (
            "a version below",
            &|signed| {
                let mut target = signed["targets"].as_object_mut().unwrap().remove(new).unwrap();
                let (_, release) = target["custom"]
                    .as_object_mut()
                    .unwrap()
                    .iter_mut()
                    .next()
                    .unwrap();
                release["version"] = json!("0.8.0");
                signed["targets"]["heater/0.8.0/heater_1.0"] = target;
            },
            "is not newer than 0.9.0",
        ),
        (
            "a life without end",
            &|signed| signed["expires"] = json!("2200-01-01T00:00:00Z"),
            "is a clock wrong?",
        ),
    ];
    for (what, change, words) in cases {
        let said = changed(change);
        assert!(said.contains(words), "{what}: {said}");
    }
    let ahead = changed(&|signed| signed["version"] = json!(99));
    assert!(ahead.contains("get the newest targets.json first"), "{ahead}");
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
