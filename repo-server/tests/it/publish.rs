//! From upload to visible, and every reason why not.

use std::collections::BTreeMap;
use std::process::Command;

use protocol::author::Receipt;
use protocol::device::Problem;
use protocol::{Role, Step};
use repo_server::check::as_client;
use reqwest::StatusCode;
use tuf::editor::RootEditor;
use tuf::schema::Hashes;
use tuf::{Digest, Ed25519Signer, PublicKey, Signer, TrustedState};

use crate::site::{DAY, NOW, Running, Sample, Site, role_file, sample, version_of};

/// Fetches everything that a client needs and runs a client over it.
async fn client_view(running: &Running<'_>) -> TrustedState {
    let root = running.site.author.lock().unwrap().root.clone();
    let state = TrustedState::init(&root, None, &tuf::Limits::default()).unwrap();
    let [_, _, snapshot, targets] = running.server.repository().visible().versions;
    let mut files = BTreeMap::new();
    for name in [
        "timestamp.json".to_owned(),
        format!("{snapshot}.snapshot.json"),
        format!("{targets}.targets.json"),
    ] {
        let (status, text) = running.text(&format!("/metadata/{name}")).await;
        assert_eq!(status, StatusCode::OK, "{name}");
        files.insert(name, text.into_bytes());
    }
    as_client(
        &state,
        &files,
        running.server.repository().now(),
        &tuf::Limits::default(),
    )
    .unwrap()
    .0
}

#[tokio::test]
async fn a_published_release_is_visible_to_a_client_and_not_before() {
    let site = Site::new();
    let running = site.start().await;
    let one = sample("1.0.0", 1);
    assert_eq!(
        running.text("/metadata/timestamp.json").await.0,
        StatusCode::NOT_FOUND
    );
    assert_eq!(running.text("/metadata/1.root.json").await.0, StatusCode::OK);

    let state = running.upload(&one.bytes).await;
    assert!(state.complete && state.received == one.bytes.len() as u64);
    assert_eq!(
        running.text(&one.served_path()).await.0,
        StatusCode::NOT_FOUND,
        "not listed yet"
    );

    let targets = site.next_targets(|editor| editor.add_target(&one.name(), &one.target()));
    let receipt = running.publish(targets.clone()).await;
    assert_eq!(
        (receipt.targets, receipt.targets_digest),
        (1, Digest::of(&targets))
    );
    assert_eq!(receipt.events.len(), 1);
    assert_eq!(receipt.events[0].step, Step::Accepted);
    assert_eq!(receipt.events[0].component, one.release.component);

    let client = client_view(&running).await;
    assert_eq!(client.target(&one.name()).unwrap().sha256(), Some(one.digest()));
    assert_eq!(client.timestamp().unwrap().signed_at, Some(NOW));
    assert_eq!(client.timestamp().unwrap().expires, NOW.plus_seconds(14 * DAY));
    assert_eq!(client.timestamp().unwrap().version, u64::try_from(NOW.0).unwrap());
    let (status, text) = running.text(&one.served_path()).await;
    assert_eq!((status, text.into_bytes()), (StatusCode::OK, one.bytes.clone()));

    let two = sample("1.1.0", 2);
    let receipt = running.release(&two).await;
    assert_eq!(receipt.targets, 2);
    assert_eq!(
        receipt.timestamp,
        u64::try_from(NOW.0).unwrap() + 1,
        "versions rise within one second"
    );
    assert!(client_view(&running).await.target(&two.name()).is_some());
}

#[tokio::test]
async fn a_publish_whose_answer_was_lost_is_repeated_with_the_same_receipt() {
    let site = Site::new();
    let running = site.start().await;
    let one = sample("1.0.0", 1);
    let first = running.release(&one).await;
    let targets = site.current_targets().unwrap();
    let again = running
        .post(Some(Role::Author), "/api/v1/publish", &running.request(&targets))
        .await;
    assert_eq!(again.json::<Receipt>().await.unwrap(), first);
}

#[tokio::test]
async fn of_two_authors_that_saw_the_same_version_the_second_is_told_to_look_again() {
    let site = Site::new();
    let running = site.start().await;
    running.release(&sample("1.0.0", 1)).await;
    let before = site.current_targets();
    running.release(&sample("1.1.0", 2)).await;
    let late = sample("1.2.0", 3);
    running.upload(&late.bytes).await;
    let author = site.author.lock().unwrap().targets_key.public_key();
    assert_eq!(author, site.author.lock().unwrap().targets_key.public_key());
    let targets = {
        let author = site.author.lock().unwrap();
        site.next_targets_by(&author.targets_key, before.as_deref(), |editor| {
            editor.add_target(&late.name(), &late.target())
        })
    };
    let (status, problem) = running.refused(&targets).await;
    assert_eq!(
        (status, problem.code.as_str()),
        (StatusCode::CONFLICT, "conflict"),
        "{}",
        problem.message
    );
    assert!(
        problem.message.contains("version 2") && problem.message.contains("not 1"),
        "{}",
        problem.message
    );
}

/// A change of one sample against a repository that has 1.0.0 (counter 1), and the code of its refusal.
async fn refusal_of(
    running: &Running<'_>,
    change: impl FnOnce(&mut Sample, &mut tuf::TargetFile),
) -> Problem {
    let mut two = sample("1.1.0", 2);
    let mut target = two.target();
    change(&mut two, &mut target);
    running.upload(&two.bytes).await;
    let targets = running
        .site
        .next_targets(|editor| editor.add_target(&two.name(), &target));
    let before = running.server.repository().visible().versions;
    let (status, problem) = running.refused(&targets).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{}", problem.message);
    assert_eq!(
        running.server.repository().visible().versions,
        before,
        "nothing has changed"
    );
    problem
}

#[tokio::test]
async fn what_breaks_a_rule_of_releases_is_refused_by_that_rule() {
    let site = Site::new();
    let running = site.start().await;
    running.release(&sample("1.0.0", 1)).await;
    let elsewhere = Digest::of(b"never uploaded");

    let missing = refusal_of(&running, |_, target| target.hashes = Hashes::sha256(elsewhere)).await;
    assert_eq!(missing.code, "missing-target");
    assert!(
        missing.message.contains(&elsewhere.to_string()),
        "{}",
        missing.message
    );

    let length = refusal_of(&running, |_, target| target.length += 1).await;
    assert_eq!(length.code, "wrong-length");

    let sha512 = refusal_of(&running, |two, target| {
        target.hashes = Hashes::sha256(two.digest()).with_sha512(&[0; 64]);
    })
    .await;
    assert_eq!(sha512.code, "wrong-digest");

    let no_custom = refusal_of(&running, |_, target| target.custom = None).await;
    assert_eq!(no_custom.code, "bad-release");

    let older = refusal_of(&running, |two, target| {
        *two = sample("0.9.0", 2);
        *target = two.target();
    })
    .await;
    assert_eq!(older.code, "not-newer");
    assert!(
        older.message.contains("0.9.0") && older.message.contains("1.0.0"),
        "both named: {}",
        older.message
    );

    let counter = refusal_of(&running, |two, target| {
        two.release.counter = 1;
        *target = two.target();
    })
    .await;
    assert_eq!(counter.code, "counter");

    let name = refusal_of(&running, |two, target| {
        two.release.version = "1.2.0".parse().unwrap();
        *target = two.target();
        two.release.version = "1.1.0".parse().unwrap();
    })
    .await;
    assert_eq!(name.code, "bad-release");
    assert!(name.message.contains("its name does not say"), "{}", name.message);

    let changed = refusal_of(&running, |two, target| {
        *two = sample("1.0.0", 1);
        two.bytes.push(b'\n');
        *target = two.target();
    })
    .await;
    assert_eq!(changed.code, "changed");
}

#[tokio::test]
async fn what_the_author_did_not_sign_is_refused_like_a_client_does() {
    let site = Site::new();
    let running = site.start().await;
    let one = sample("1.0.0", 1);
    running.upload(&one.bytes).await;
    let add = |editor: tuf::editor::TargetsEditor| editor.add_target(&one.name(), &one.target());

    let (foreign, _) = Ed25519Signer::generate().unwrap();
    for (what, key) in [("foreign", &foreign), ("online", &site.online_key)] {
        let targets = site.next_targets_by(key, None, add);
        let (status, problem) = running.refused(&targets).await;
        assert_eq!(
            (status, problem.code.as_str()),
            (StatusCode::UNPROCESSABLE_ENTITY, "verification"),
            "{what}"
        );
        assert!(
            problem.message.contains("arbitrary software"),
            "{what}: {}",
            problem.message
        );
        assert!(
            problem.message.contains("0 valid signatures"),
            "{what}: {}",
            problem.message
        );
    }
    let signed: serde_json::Value = serde_json::from_slice(&site.next_targets(add)).unwrap();
    let unsigned = serde_json::json!({ "signed": signed["signed"], "signatures": [] });
    let (_, problem) = running.refused(&serde_json::to_vec(&unsigned).unwrap()).await;
    assert!(
        problem.message.contains("0 valid signatures"),
        "{}",
        problem.message
    );

    let mut tampered = signed.clone();
    tampered["signed"]["targets"][one.name()]["length"] = 1.into();
    let (_, problem) = running.refused(&serde_json::to_vec(&tampered).unwrap()).await;
    assert!(
        problem.message.contains("0 valid signatures"),
        "{}",
        problem.message
    );

    assert_eq!(
        running.text("/metadata/timestamp.json").await.0,
        StatusCode::NOT_FOUND,
        "nothing is visible"
    );
    running.publish(site.next_targets(add)).await;
}

#[tokio::test]
async fn expired_targets_and_wrong_names_are_refused() {
    let site = Site::new();
    let running = site.start().await;
    let expired = site.next_targets(|editor| editor.expires(NOW));
    let (_, problem) = running.refused(&expired).await;
    assert!(
        problem.message.contains("freeze") && problem.message.contains("expired"),
        "{}",
        problem.message
    );

    let skipped = site.next_targets(|editor| editor.version(3));
    let mut request = running.request(&skipped);
    request.expects = 0;
    let response = running
        .post(Some(Role::Author), "/api/v1/publish", &request)
        .await;
    let (_, problem) = crate::site::problem(response).await;
    assert_eq!(problem.code, "not-next");

    let lying = site.next_targets(|editor| editor.version(2));
    let mut request = running.request(&lying);
    request.expects = 0;
    request.targets[0].name = "1.targets.json".into();
    let (_, problem) = crate::site::problem(
        running
            .post(Some(Role::Author), "/api/v1/publish", &request)
            .await,
    )
    .await;
    assert_eq!(problem.code, "not-next", "{}", problem.message);

    for (name, code) in [
        ("1.team.json", "verification"),
        ("1.snapshot.json", "malformed"),
        ("../x", "malformed"),
    ] {
        let mut request = running.request(&site.next_targets(|editor| editor));
        request.targets[0].name = name.into();
        let (_, problem) = crate::site::problem(
            running
                .post(Some(Role::Author), "/api/v1/publish", &request)
                .await,
        )
        .await;
        assert_eq!(problem.code, code, "{name}");
    }
}

#[tokio::test]
async fn a_withdrawn_release_stays_listed_and_an_older_one_may_follow_it() {
    let site = Site::new();
    let running = site.start().await;
    running.release(&sample("1.0.0", 1)).await;
    let bad = sample("2.0.0", 2);
    running.release(&bad).await;
    let withdrawn = bad.clone().withdrawn();
    let receipt = running
        .publish(site.next_targets(|editor| editor.add_target(&withdrawn.name(), &withdrawn.target())))
        .await;
    assert_eq!(receipt.events[0].step, Step::Withdrawn);
    running.release(&sample("1.1.0", 3)).await;
    // It cannot be un-withdrawn.
    let targets = site.next_targets(|editor| editor.add_target(&bad.name(), &bad.target()));
    assert_eq!(running.refused(&targets).await.1.code, "changed");
}

#[tokio::test]
async fn a_file_for_another_processor_may_join_its_version() {
    let site = Site::new();
    let running = site.start().await;
    let mut first = sample("1.0.0", 1);
    first.release.arch = Some(release::Arch::X86_64);
    running.release(&first).await;
    let mut second = sample("1.0.0", 1);
    second.release.arch = Some(release::Arch::Aarch64);
    second.release.file_name = "Demo_1.0.0-arm.sh".into();
    second.bytes.push(b'#');
    running.release(&second).await;
}

#[tokio::test]
async fn a_root_that_names_another_online_key_is_refused_until_that_key_is_here() {
    let site = Site::new();
    let running = site.start().await;
    running.release(&sample("1.0.0", 1)).await;
    let (new_online, pkcs8) = Ed25519Signer::generate().unwrap();
    let root = {
        let author = site.author.lock().unwrap();
        RootEditor::from_existing(&author.root)
            .unwrap()
            .set_keys(&tuf::Role::Snapshot, vec![new_online.public_key()], 1)
            .set_keys(&tuf::Role::Timestamp, vec![new_online.public_key()], 1)
            .build()
            .unwrap()
            .sign(&author.root_key)
            .unwrap()
            .bytes()
    };
    let mut request = running.request(&site.next_targets(|editor| editor));
    request.expects = 1;
    request.targets.clear();
    request.roots = vec![role_file("2.root.json", &root)];
    let (_, problem) = crate::site::problem(
        running
            .post(Some(Role::Author), "/api/v1/publish", &request)
            .await,
    )
    .await;
    assert_eq!(problem.code, "online-key");
    let old_timestamp = running.server.repository().visible().versions[1];
    running.server.stop().await;

    site.write_folder(&site.repository(), &pkcs8);
    let running = site.start().await;
    let response = running
        .post(Some(Role::Author), "/api/v1/publish", &request)
        .await;
    assert_eq!(
        response.status(),
        StatusCode::OK,
        "{}",
        response.text().await.unwrap()
    );
    let visible = running.server.repository().visible();
    assert_eq!(visible.versions[0], 2);
    assert!(visible.versions[1] > old_timestamp);
    assert_eq!(running.text("/metadata/2.root.json").await.1.into_bytes(), root);
    assert_eq!(
        version_of(running.text("/metadata/1.targets.json").await.1.as_bytes()),
        1
    );
    // A client that knows only the first root follows.
    let first_root = site.author.lock().unwrap().root.clone();
    let state = TrustedState::init(&first_root, None, &tuf::Limits::default()).unwrap();
    let mut files = BTreeMap::from([("2.root.json".to_owned(), root)]);
    for (name, file) in &visible.metadata {
        files.insert(name.clone(), file.bytes.to_vec());
    }
    let (client, _) = as_client(&state, &files, NOW, &tuf::Limits::default()).unwrap();
    assert_eq!(client.root().version, 2);
}

/// A root of the author's with other online keys, signed by the root key.
fn root_with_online(site: &Site, version: u64, snapshot: &PublicKey, timestamp: &PublicKey) -> Vec<u8> {
    let author = site.author.lock().unwrap();
    RootEditor::from_existing(&author.root)
        .unwrap()
        .version(version)
        .set_keys(&tuf::Role::Snapshot, vec![snapshot.clone()], 1)
        .set_keys(&tuf::Role::Timestamp, vec![timestamp.clone()], 1)
        .build()
        .unwrap()
        .sign(&author.root_key)
        .unwrap()
        .bytes()
}

/// `repo-server new-key`: the key's public half, as the author gets it.
fn new_online_key(site: &Site, name: &str) -> PublicKey {
    let made = Command::new(env!("CARGO_BIN_EXE_repo-server"))
        .args(["new-key", name, "--dir"])
        .arg(site.repository())
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let new = site.repository().join(format!("{name}.pub"));
    PublicKey::from_object(serde_json::from_slice(&std::fs::read(new).unwrap()).unwrap()).unwrap()
}

#[tokio::test]
async fn a_running_repository_signs_with_the_keys_that_the_newest_root_names_and_drops_the_old() {
    let site = Site::new();
    let running = site.start().await;
    running.release(&sample("1.0.0", 1)).await;
    let (snapshot, timestamp) = (
        new_online_key(&site, "snapshot-2"),
        new_online_key(&site, "timestamp-2"),
    );
    let old = site.repository().join("online-key.pem");
    assert!(old.exists());
    let mut request = running.request(&site.next_targets(|editor| editor));
    request.expects = 1;
    request.targets.clear();
    let root = root_with_online(&site, 2, &snapshot, &timestamp);
    request.roots = vec![role_file("2.root.json", &root)];
    let send = async |request: &protocol::author::Publish| {
        running.post(Some(Role::Author), "/api/v1/publish", request).await
    };
    let response = send(&request).await;
    assert_eq!(
        response.status(),
        StatusCode::OK,
        "{}",
        response.text().await.unwrap()
    );
    assert!(!old.exists(), "a replaced key stays where a thief finds it");

    // Each role by its own key.
    let visible = running.server.repository().visible();
    for (file, key) in [("snapshot.json", &snapshot), ("timestamp.json", &timestamp)] {
        let (name, bytes) = visible
            .metadata
            .iter()
            .find(|(name, _)| name.ends_with(file))
            .unwrap();
        let text = String::from_utf8(bytes.bytes.to_vec()).unwrap();
        let other = if *key == snapshot { &timestamp } else { &snapshot };
        assert!(text.contains(&key.id().to_string()), "{name}");
        assert!(!text.contains(&other.id().to_string()), "{name}");
    }
    // Of two roots with one number, the second is told that it came late.
    let late = root_with_online(&site, 2, &timestamp, &timestamp);
    request.roots = vec![role_file("2.root.json", &late)];
    let (status, problem) = crate::site::problem(send(&request).await).await;
    assert_eq!(
        (status, problem.code.as_str()),
        (StatusCode::CONFLICT, "conflict")
    );
    running.server.stop().await;

    // It starts again with what is left.
    let running = site.start().await;
    assert!(running.server.repository().trouble().is_none());
    running.server.stop().await;
}

#[tokio::test]
async fn accepted_refused_and_withdrawn_publishes_are_on_record() {
    let site = Site::new();
    let running = site.start().await;
    let one = sample("1.0.0", 1);
    running.release(&one).await;
    running
        .refused(&site.next_targets(|editor| editor.version(9)))
        .await;
    let withdrawn = one.clone().withdrawn();
    running
        .publish(site.next_targets(|editor| editor.add_target(&withdrawn.name(), &withdrawn.target())))
        .await;
    running.server.stop().await;
    let records = site.repository().join("state/records");
    let lines: Vec<serde_json::Value> = durable::RecordLog::read_in(&records, "publish", 10).unwrap();
    let outcomes: Vec<_> = lines
        .iter()
        .map(|line| line["outcome"].as_str().unwrap())
        .collect();
    assert_eq!(outcomes, ["accepted", "refused", "withdrawn"]);
    assert_eq!(lines[0]["target"], one.name());
    assert_eq!(lines[0]["author"], "drover://plant/author/one");
    assert!(
        lines[1]["reason"].as_str().unwrap().contains("version"),
        "{}",
        lines[1]
    );
}
