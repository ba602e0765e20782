//! Changing who may sign: drafts, signatures in turns, thresholds, and what is refused by name.

use std::path::{Path, PathBuf};

use admin_gui::ceremony::{Change, Known, RoleWord, RootDraft, next_root};
use admin_gui::keyring::{KeyFile, make, read_public};
use admin_gui::progress;
use admin_gui::signing::{AuthorKey, KeyType};
use admin_gui::{Passphrase, Senses};
use tuf::{Limits, Next, Signer as _, TrustedState, Update};

use crate::command::{json, run, run_beside, words};
use crate::fake::Fake;
use crate::site::{PASSPHRASE, Site, draft, passphrase};

pub const OTHER: &str = "another long passphrase";

pub fn key(dir: &Path, name: &str) -> KeyFile {
    std::fs::create_dir_all(dir).unwrap();
    let passphrase = Passphrase::new(OTHER).unwrap();
    make(dir, &name.parse().unwrap(), KeyType::Ed25519, &passphrase).unwrap()
}

pub fn public(key: &KeyFile) -> PathBuf {
    key.path.with_extension("pub")
}

/// `admin-gui root WORDS… --dir AUTHOR --repository URL --json`, which must succeed.
pub async fn root(site: &Site, fake: &Fake, said: &[&str], input: &'static str) -> serde_json::Value {
    let mut all = vec!["root"];
    all.extend(said);
    let done = run_beside(words(&all, &site.author(), &fake.url), input).await;
    let told = json(&done);
    assert!(done.status.success(), "{said:?}: {told}");
    told
}

fn sign(draft: &Path, dir: &Path, root: &Path, key: &Path, passphrase: &str) -> std::process::Output {
    let words = [
        "root",
        "sign",
        draft.to_str().unwrap(),
        "--dir",
        dir.to_str().unwrap(),
        "--root",
        root.to_str().unwrap(),
        "--key",
        key.to_str().unwrap(),
        "--passphrase-stdin",
        "--yes",
    ];
    run(&words, &format!("{passphrase}\n"))
}

pub fn text(output: &std::process::Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// A client that knows only the first root, over everything that the repository shows.
pub fn follow(fake: &Fake) -> TrustedState {
    let files = fake.visible();
    let state = TrustedState::init(&files["1.root.json"], None, &Limits::default()).unwrap();
    let mut update = Update::start(state, Senses::system().now(), Limits::default());
    while let Next::Fetch(request) = update.next() {
        match files.get(&request.path) {
            Some(bytes) => drop(update.supply(bytes).unwrap()),
            None => update.missing().unwrap(),
        }
    }
    update.into_state()
}

#[tokio::test]
async fn three_people_take_over_the_root_in_turns_and_two_of_them_change_it_again() {
    let site = Site::new();
    let fake = Fake::start(&site.repository()).await;
    let unlocked = site.unlocked(&fake.url);
    let first = draft(&unlocked.desk, &site.script("heater_1.0", 100));
    unlocked.publish(&first, &progress::nobody()).await.unwrap();

    // Each at a machine of their own: a folder, and the root that they were given.
    let people: Vec<KeyFile> = ["ada", "bob", "eva"]
        .iter()
        .map(|name| key(&site.temp.path().join(name), name))
        .collect();
    let trusted = site.temp.path().join("trusted-root.json");
    std::fs::copy(site.author().join("root.json"), &trusted).unwrap();
    for person in &people {
        root(
            &site,
            &fake,
            &["add", "root", public(person).to_str().unwrap()],
            "",
        )
        .await;
    }
    root(
        &site,
        &fake,
        &["remove", "root", &short_of(&site, "root-key")],
        "",
    )
    .await;
    let told = root(&site, &fake, &["threshold", "root", "2"], "").await;
    let changes = told["changes"].to_string();
    for words in [
        "root: ada (",
        "may sign, ed25519",
        "may not sign any more",
        "root: 2 of 3 must sign, until now 1 of 1",
    ] {
        assert!(changes.contains(words), "{words}: {changes}");
    }
    let file = site.author().join("root-2.json");

    // The old root has one key, the new one two of three: nothing less is published.
    let publish = || {
        words(
            &["root", "publish", "--passphrase-stdin"],
            &site.author(),
            &fake.url,
        )
    };
    for (signer, passphrase) in [
        (site.author().join("root-key.pem"), PASSPHRASE),
        (people[0].path.clone(), OTHER),
    ] {
        let early = run_beside(publish(), PASSPHRASE).await;
        assert_eq!(early.status.code(), Some(3), "{}", text(&early));
        assert!(text(&early).contains("lacks signatures"), "{}", text(&early));
        let signed = sign(&file, signer.parent().unwrap(), &trusted, &signer, passphrase);
        assert!(signed.status.success(), "{}", text(&signed));
        assert!(
            text(&signed).contains("2 of 3 must sign"),
            "what changes is not shown: {}",
            text(&signed)
        );
    }
    let early = run_beside(publish(), PASSPHRASE).await;
    assert!(
        text(&early).contains("root 2, the new one needs 1 more, of bob ("),
        "{}",
        text(&early)
    );
    assert!(!fake.visible().contains_key("2.root.json"));
    let signed = sign(
        &file,
        people[1].path.parent().unwrap(),
        &trusted,
        &people[1].path,
        OTHER,
    );
    assert!(signed.status.success(), "{}", text(&signed));
    let done = run_beside(publish(), "").await;
    assert!(done.status.success(), "{}", text(&done));
    assert!(!file.exists(), "a draft that is in force is no draft");
    assert_eq!(follow(&fake).root().version, 2);

    // From now on: neither the old key nor one person alone. Publishing releases goes on as before.
    let second = draft(&unlocked.desk, &site.script("heater_1.1", 100));
    unlocked.publish(&second, &progress::nobody()).await.unwrap();
    root(&site, &fake, &["renew"], "").await;
    let file = site.author().join("root-3.json");
    let now = site.author().join("root.json");
    let old_key = site.author().join("root-key.pem");
    let foreign = sign(&file, &site.author(), &now, &old_key, PASSPHRASE);
    assert_eq!(foreign.status.code(), Some(4), "{}", text(&foreign));
    for words in ["has no say here", "root 2 wants ada (", "root-key.pem"] {
        assert!(text(&foreign).contains(words), "{words}: {}", text(&foreign));
    }
    for person in [&people[2], &people[0]] {
        let signed = sign(&file, person.path.parent().unwrap(), &now, &person.path, OTHER);
        assert!(signed.status.success(), "{}", text(&signed));
    }
    let done = run_beside(publish(), "").await;
    assert!(done.status.success(), "{}", text(&done));
    assert_eq!(follow(&fake).root().version, 3);
    for version in 1..=3 {
        assert!(site.author().join(format!("roots/{version}.root.json")).exists());
    }
}

/// The id by which `keys` shows a key of the author's folder.
fn short_of(site: &Site, name: &str) -> String {
    let (_, key) = read_public(&site.author().join(format!("{name}.pub"))).unwrap();
    key.id().to_string()[..8].to_owned()
}

#[tokio::test]
async fn a_replaced_targets_key_signs_what_is_there_again_and_the_old_one_signs_nothing() {
    let site = Site::new();
    let fake = Fake::start(&site.repository()).await;
    let unlocked = site.unlocked(&fake.url);
    for version in ["1.0", "6.6"] {
        let release = draft(&unlocked.desk, &site.script(&format!("heater_{version}"), 100));
        unlocked.publish(&release, &progress::nobody()).await.unwrap();
    }
    let new = key(&site.author(), "targets-2");
    root(
        &site,
        &fake,
        &["replace", "targets", public(&new).to_str().unwrap()],
        "",
    )
    .await;
    let done = run_beside(
        {
            let author = site.author().display().to_string();
            ["root", "sign", "--passphrase-stdin", "--yes", "--dir", &author]
                .map(str::to_owned)
                .to_vec()
        },
        PASSPHRASE,
    )
    .await;
    assert!(done.status.success(), "{}", text(&done));
    let wrong = words(
        &["root", "publish", "--passphrase-stdin"],
        &site.author(),
        &fake.url,
    );
    let wrong = run_beside(wrong, PASSPHRASE).await;
    assert_eq!(
        wrong.status.code(),
        Some(4),
        "the old key's passphrase: {}",
        text(&wrong)
    );
    root(
        &site,
        &fake,
        &["publish", "--withdraw", "heater@6.6", "--passphrase-stdin"],
        OTHER,
    )
    .await;

    let state = follow(&fake);
    assert_eq!(state.root().version, 2);
    let view = unlocked.desk.look().await.unwrap();
    let heater = "heater".parse().unwrap();
    assert_eq!(
        view.catalogue
            .current(&heater)
            .unwrap()
            .release
            .version
            .to_string(),
        "1.0.0"
    );
    // The desk finds its new key by itself; the old one is refused before anything is sent.
    let again = unlocked.desk.unlock(&passphrase()).unwrap_err();
    assert!(again.to_string().contains("targets-2.pem"), "{again}");
    let new_desk = unlocked.desk.unlock(&Passphrase::new(OTHER).unwrap()).unwrap();
    let next = draft(&unlocked.desk, &site.script("heater_6.7", 100));
    assert!(unlocked.publish(&next, &progress::nobody()).await.is_err());
    new_desk.publish(&next, &progress::nobody()).await.unwrap();
    assert_eq!(follow(&fake).targets().unwrap().targets.len(), 3);
}

#[tokio::test]
async fn a_root_that_somebody_else_published_meanwhile_is_not_taken_for_ours() {
    let site = Site::new();
    let fake = Fake::start(&site.repository()).await;
    let unlocked = site.unlocked(&fake.url);
    let first = draft(&unlocked.desk, &site.script("heater_1.0", 100));
    unlocked.publish(&first, &progress::nobody()).await.unwrap();
    let view = unlocked.desk.look().await.unwrap();
    let before = admin_gui::Desk::root_in_force(&view).unwrap();
    let now = Senses::system().now();
    let root_key = AuthorKey::open(&site.author().join("root-key.pem"), &passphrase()).unwrap();
    let finished = |change: &Change| {
        let bytes = next_root(&before, &before.bytes, change, now).unwrap();
        let path = site.author().join("root-2.json");
        let draft = RootDraft::of(&path, &bytes, before.clone()).unwrap();
        draft.sign(Path::new("root-key.pem"), &root_key).unwrap()
    };
    let (holder, ada) = {
        let made = key(&site.temp.path().join("ada"), "ada");
        read_public(&public(&made)).unwrap()
    };
    let role = RoleWord::Root;
    let ours = finished(&Change::Add {
        role,
        holder,
        key: ada,
    });
    let theirs = finished(&Change::Renew);
    unlocked
        .desk
        .publish_root(&view, &theirs, &[], &[])
        .await
        .unwrap();
    let desk = site.desk(&fake.url);
    // The repository of this test takes any file of that name; what it then shows is ours, unless it is refused.
    fake.set(|faults| faults.conflicts = 1);
    let late = desk.publish_root(&view, &ours, &[], &[]).await;
    assert!(
        late.is_err(),
        "a root of somebody else's was taken for ours: {late:?}"
    );
    assert_eq!(follow(&fake).root().root.keyids.len(), 1);
}

#[test]
fn drafts_tell_what_they_change_and_refuse_what_makes_no_root() {
    let site = Site::new();
    let now = Senses::system().now();
    let before = Known::read(&site.author().join("root.json")).unwrap();
    let new = key(&site.temp.path().join("ada"), "ada");
    let (holder, ada) = read_public(&public(&new)).unwrap();
    let make = |base: &[u8], change: &Change| next_root(&before, base, change, now);
    let add = Change::Add {
        role: RoleWord::Root,
        holder: holder.clone(),
        key: ada.clone(),
    };
    let draft = make(&before.bytes, &add).unwrap();
    let twice = make(&draft, &add).unwrap_err();
    assert!(twice.to_string().contains("already"), "{twice}");
    for (what, change, words) in [
        (
            "a threshold that cannot be met",
            Change::Threshold {
                role: RoleWord::Root,
                needed: 2,
            },
            "this makes no root",
        ),
        (
            "no signature at all",
            Change::Threshold {
                role: RoleWord::Targets,
                needed: 0,
            },
            "this makes no root",
        ),
        (
            "two online keys",
            Change::Threshold {
                role: RoleWord::Online,
                needed: 2,
            },
            "by itself",
        ),
        (
            "a key that is not there",
            Change::Remove {
                role: RoleWord::Root,
                key: "ada".into(),
            },
            "has no key",
        ),
        (
            "the last key",
            Change::Remove {
                role: RoleWord::Targets,
                key: before.root.targets.keyids[0].to_string(),
            },
            "this makes no root",
        ),
    ] {
        let error = make(&before.bytes, &change).unwrap_err();
        assert!(error.to_string().contains(words), "{what}: {error}");
    }
    let which = make(
        &draft,
        &Change::Replace {
            role: RoleWord::Root,
            old: None,
            holder: holder.clone(),
            key: AuthorKey::generate(KeyType::Ed25519).unwrap().0.public_key(),
        },
    )
    .unwrap_err();
    assert!(which.to_string().contains("ada ("), "{which}");

    // What this program does not understand is told, not passed over.
    let mut strange: serde_json::Value = serde_json::from_slice(&draft).unwrap();
    strange["signed"]["backdoor"] = true.into();
    strange["signed"]["consistent_snapshot"] = false.into();
    let strange = serde_json::to_vec(&strange).unwrap();
    let told = RootDraft::of(Path::new("x"), &strange, before.clone())
        .unwrap()
        .changes();
    for field in ["\"backdoor\"", "\"consistent_snapshot\""] {
        assert!(told.iter().any(|line| line.contains(field)), "{field}: {told:?}");
    }

    // A draft for another root than the one at hand.
    let mut later: serde_json::Value = serde_json::from_slice(&draft).unwrap();
    later["signed"]["version"] = 5.into();
    let order = RootDraft::of(Path::new("x"), &serde_json::to_vec(&later).unwrap(), before).unwrap_err();
    assert!(order.to_string().contains("newest root.json"), "{order}");
}
