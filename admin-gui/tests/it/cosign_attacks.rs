//! Drafts that somebody with one of the keys made to deceive the others: refused, or told in full and plainly.

use admin_gui::catalogue::Catalogue;
use admin_gui::cosign::{Basis, CosignError};
use admin_gui::desk::View;
use serde_json::{Value, json};
use tuf::editor::{Signed, TargetsEditor};
use tuf::{Limits, Targets, TrustedState};

use crate::ceremony::{public, text};
use crate::command::{run_beside, words};
use crate::cosign::{Scene, read};

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

/// A draft of a release, changed by the author and signed with the author's key.
async fn forged(scene: &Scene, change: &dyn Fn(&mut Value)) -> Vec<u8> {
    let (_, begun) = scene.release("1.0").await;
    let mut whole: Value = serde_json::from_slice(&std::fs::read(&begun).unwrap()).unwrap();
    std::fs::remove_file(&begun).unwrap();
    change(&mut whole["signed"]);
    whole["signatures"] = json!([]);
    let bare = Signed::<Targets>::from_bytes(&serde_json::to_vec(&whole).unwrap()).unwrap();
    bare.sign(&scene.author_key()).unwrap().bytes()
}

/// What a terminal would act upon, or show as something else: all but printable characters and line feeds.
fn deceiving(text: &str) -> Vec<char> {
    let deceives = |c: &char| {
        c.is_control() && *c != '\n'
            || ('\u{200b}'..='\u{200f}').contains(c)
            || ('\u{202a}'..='\u{202e}').contains(c)
            || ('\u{2066}'..='\u{2069}').contains(c)
            || *c == '\u{feff}'
    };
    text.chars().filter(deceives).collect()
}

#[tokio::test]
async fn nothing_in_a_draft_speaks_to_the_terminal() {
    let scene = Scene::new().await;
    let new = "heater/1.0.0/heater_1.0";
    // The arguments may be anything but NUL; the description has no control characters.
    let bytes = forged(&scene, &|signed| {
        let release = &mut signed["targets"][new]["custom"]["drover"];
        release["run"]["args"] = json!(["a\u{1b}[2J\u{9b}2Jb\u{7f}\rc", "gr\u{fc}n"]);
        release["description"] = json!("harmless \u{202e}lufmrah\u{2066}\u{200b}\u{feff}");
    })
    .await;
    let path = scene.site.temp.path().join("draft.json");
    std::fs::write(&path, &bytes).unwrap();
    let told = scene.signed_by(&path, &scene.ada).await;
    assert!(deceiving(&told).is_empty(), "{told:?}");
    assert!(
        told.contains(r"\u009b2Jb\u007f") && told.contains(r"\u202elufmrah"),
        "{told}"
    );
    assert!(told.contains("gr\u{fc}n"), "{told}");

    // What cannot even be read is refused in words that cannot either.
    let mut whole: Value = serde_json::from_slice(&bytes).unwrap();
    let signature = json!({"keyid": "\u{1b}]0;\u{9b}2J\u{202e}", "sig": "00"});
    whole["signatures"] = json!([signature, signature]);
    std::fs::write(&path, serde_json::to_vec(&whole).unwrap()).unwrap();
    let refused = scene.sign(&path, &scene.ada).await;
    scene.refused(&refused, 8, &["two signatures of key"]);
    assert!(deceiving(&text(&refused)).is_empty(), "{:?}", text(&refused));
}

#[tokio::test]
async fn a_draft_that_shortens_the_lists_life_is_refused() {
    let scene = Scene::new().await;
    let basis = scene.basis().await;
    let soon = tuf::UnixTime(admin_gui::Senses::system().now().0 + 3600);
    let bytes = forged(&scene, &|signed| signed["expires"] = json!(soon)).await;
    let refused = read(&bytes, &basis).unwrap_err().to_string();
    assert!(
        refused.contains("is neither signed nor published") && refused.contains("shorter"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_signer_is_told_what_a_draft_is_held_against() {
    let scene = Scene::new().await;
    let (_, begun) = scene.release("1.0").await;
    let told = scene.signed_by(&begun, &scene.ada).await;
    let root = std::fs::read(scene.site.author().join("root.json")).unwrap();
    let digest = tuf::Digest::of(&root).to_string();
    for words in ["against list 3 and root 3", &digest, "2 of 3 keys must sign"] {
        assert!(told.contains(words), "{words}: {told}");
    }
}

#[tokio::test]
async fn a_desk_that_has_verified_no_list_takes_none_from_its_folder_unverified() {
    let scene = Scene::new().await;
    let desk = scene.unlocked().desk;
    let author = scene.site.author();
    let list = std::fs::read(author.join("targets.json")).unwrap();
    let view = |root: &[u8]| View {
        state: TrustedState::init(root, None, &Limits::default()).unwrap(),
        catalogue: Catalogue::default(),
        is_empty: false,
        lapses: Vec::new(),
    };
    let view = view(&std::fs::read(author.join("root.json")).unwrap());
    Basis::of(&desk, &view).unwrap();
    let forged = TargetsEditor::from_existing(&list).unwrap().build().unwrap();
    let forged = forged.sign(&scene.author_key()).unwrap().bytes();
    std::fs::write(author.join("targets.json"), forged).unwrap();
    let refused = Basis::of(&desk, &view);
    assert!(
        matches!(refused, Err(CosignError::NotVerified(_))),
        "one key made a base"
    );
}

#[tokio::test]
async fn a_draft_file_that_is_no_draft_is_refused_at_once() {
    let scene = Scene::new().await;
    let path = scene.site.temp.path().join("draft.json");
    let max = usize::try_from(Limits::default().targets_length).unwrap();
    let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
    let twice = br#"{"signed": {"_type": "targets", "_type": "targets"}, "signatures": []}"#.to_vec();
    for (what, bytes, code, words) in [
        ("empty", Vec::new(), 8, "is not a list of releases"),
        ("text", b"hello".to_vec(), 8, "is not a list of releases"),
        ("a field twice", twice, 8, "is not a list of releases"),
        ("deep", deep, 8, "is not a list of releases"),
        ("too large", vec![b' '; max + 1], 7, "cannot use"),
        (
            "another role",
            std::fs::read(scene.site.author().join("root.json")).unwrap(),
            8,
            "instead of",
        ),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let refused = scene.sign(&path, &scene.ada).await;
        assert_eq!(refused.status.code(), Some(code), "{what}: {}", text(&refused));
        assert!(text(&refused).contains(words), "{what}: {}", text(&refused));
    }
    // Neither waits for somebody to write into it.
    for make in ["mkdir", "mkfifo"] {
        let _ = std::fs::remove_file(&path);
        let made = std::process::Command::new(make).arg(&path).status().unwrap();
        assert!(made.success(), "{make}");
        let refused = scene.sign(&path, &scene.ada).await;
        scene.refused(&refused, 7, &["cannot use"]);
        let _ = std::fs::remove_dir(&path);
    }
}

#[tokio::test]
async fn one_key_written_in_two_ways_is_no_second_key() {
    let scene = Scene::new().await;
    let mut object: Value = serde_json::from_slice(&std::fs::read(public(&scene.ada)).unwrap()).unwrap();
    object["comment"] = json!("eva's");
    let file = scene.site.temp.path().join("eva.pub");
    std::fs::write(&file, object.to_string()).unwrap();
    let file = file.display().to_string();
    let add = ["root", "add", "targets", &file];
    let refused = run_beside(words(&add, &scene.site.author(), &scene.fake.url), "").await;
    scene.refused(&refused, 3, &["targets has the key", "already"]);
}
